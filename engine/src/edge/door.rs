//! Doors: what stands before the connections of a listener.

use super::certificates::Certificates;

/// What stands before the connections of one listener.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// TLS, with these certificates.
    pub tls: Option<Certificates>,
    /// A proxy says first who its client is.
    pub proxy: bool,
}

impl Door {
    /// Says whether anything stands there.
    #[must_use]
    pub fn guards(&self) -> bool {
        self.tls.is_some() || self.proxy
    }
}
