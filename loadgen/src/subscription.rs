//! A connection's interest in one topic: what it has seen of it, and where it would go on.
//!
//! Belongs to the connection's number, not to its socket: who is dropped and comes back goes on with it. There may be
//! millions of these.

use corecast_protocol::cursor::{Cursor, Since};

use crate::witness::Seen;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    pub(crate) seen: Seen,
    seq: u64,
    epoch: u32,
    known: bool,
    begun: bool,
}

impl Subscription {
    /// Makes one that is confirmed when so many messages were published.
    pub(crate) fn fresh(published: u64) -> Subscription {
        Subscription { seen: Seen::since(published), begun: true, ..Subscription::default() }
    }

    /// Says whether it was confirmed once; who comes back then goes on with it.
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// Takes note of where it would go on.
    #[inline]
    pub(crate) fn set_cursor(&mut self, Cursor { epoch, seq }: Cursor) {
        (self.epoch, self.seq, self.known) = (epoch, seq, true);
    }

    /// Returns where it would go on, once that is known.
    #[inline]
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.known.then_some(Cursor { epoch: self.epoch, seq: self.seq })
    }

    /// Returns what to ask the server for.
    pub(crate) fn since(&self) -> Since {
        self.cursor().map_or(Since::Live, Since::After)
    }
}
