//! The certificates that are shown: read again when told to, and watched for their end.
//!
//! Owns: what was loaded last, and the time of the next look. A certificate whose end is near is told of in the log, once a day, and one
//! that is over as an error; what is shown changes only when files are read again and fit together.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::edge::{Certificates, Identity, Serving};
use crate::io::check::StartError;

/// How often is looked whether a certificate ends.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);

/// So long before its end it is told, in seconds: two weeks. Those who renew by themselves do so a month before.
const NEAR_S: i64 = 14 * 24 * 3600;

/// The certificates.
#[derive(Debug)]
pub struct Tls {
    certificates: Certificates,
    serving: Serving,
    next_look: Instant,
}

impl Tls {
    /// Shows these.
    #[must_use]
    pub fn new(serving: Serving) -> Tls {
        Tls { certificates: Certificates::new(&serving), serving, next_look: Instant::now() }
    }

    /// Returns what listeners show.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Returns when the first certificate expires, in seconds since 1970.
    pub(super) fn expires_s(&self) -> i64 {
        self.serving.expires.0
    }

    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Reads the files again; returns what they hold, if that is something else.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn load(&self, identity: &Identity) -> Result<Option<Serving>, Vec<StartError>> {
        let serving = Serving::load(identity, Some(&self.serving))?;
        Ok(Some(serving).filter(|serving| !serving.is_as(&self.serving)))
    }

    /// Shows other ones from now on.
    pub(super) fn replace(&mut self, serving: Serving) {
        self.certificates.replace(&serving);
        self.serving = serving;
        self.next_look = Instant::now();
    }

    /// Looks whether one ends, if it is time to.
    pub(super) fn watch(&mut self, now: Instant, wall: SystemTime) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        let (until_s, file) = &self.serving.expires;
        let wall_s = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let left_s = until_s - wall_s.cast_signed();
        let (file, days) = (file.display(), left_s / (24 * 3600));
        if left_s < 0 {
            tracing::error!(%file, days_ago = -days, "a TLS certificate has expired: clients refuse it; renew it and reload");
        } else if left_s < NEAR_S {
            tracing::warn!(%file, days, "a TLS certificate expires soon: renew it and reload");
        } else {
            tracing::info!(%file, days, "TLS certificates are shown; the first to expire");
        }
    }
}
