//! What operators call connections, and how many of each kind there are.

use crate::io::driver::Slot;
use crate::shard::Shard;
use crate::shard::dialect::Shape;
use crate::shard::session::traits::Session;
use crate::shard::slot::connection::Life;
use crate::shard::stats::Stats;

/// A kind of connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) enum Kind {
    /// None: there is no connection.
    #[default]
    Nobody,
    Http,
    LongPoll,
    Raw,
    Line,
    Echo,
    Sse,
    Ndjson,
    Multipart,
    ForeverFrame,
    Closing,
}

impl Kind {
    /// Returns its name.
    #[must_use]
    pub(in crate::shard) const fn name(self) -> &'static str {
        match self {
            Kind::Nobody => "free",
            Kind::Http => "http",
            Kind::LongPoll => "long-poll",
            Kind::Raw => "websocket",
            Kind::Line => "line",
            Kind::Echo => "echo",
            Kind::Sse => "sse",
            Kind::Ndjson => "ndjson",
            Kind::Multipart => "multipart",
            Kind::ForeverFrame => "forever-frame",
            Kind::Closing => "closing",
        }
    }

    /// Returns its counter.
    fn counter(self, stats: &mut Stats) -> Option<&mut u64> {
        Some(match self {
            Kind::Nobody => return None,
            Kind::Http => &mut stats.connections_http,
            Kind::LongPoll => &mut stats.connections_long_poll,
            Kind::Raw => &mut stats.connections_websocket,
            Kind::Line => &mut stats.connections_line,
            Kind::Echo => &mut stats.connections_echo,
            Kind::Sse => &mut stats.connections_sse,
            Kind::Ndjson => &mut stats.connections_ndjson,
            Kind::Multipart => &mut stats.connections_multipart,
            Kind::ForeverFrame => &mut stats.connections_forever_frame,
            Kind::Closing => &mut stats.connections_closing,
        })
    }
}

impl Shard {
    /// Returns what a connection is.
    #[must_use]
    pub(in crate::shard) fn kind_of(&self, slot: Slot) -> Kind {
        let connection = &self.slots.connections[slot as usize];
        match (connection.life, connection.session) {
            (Life::Free, _) => Kind::Nobody,
            (Life::Open, Session::Request) => Kind::Http,
            (Life::Open, Session::Poll) => Kind::LongPoll,
            (Life::Open, Session::Raw) => Kind::Raw,
            (Life::Open, Session::Line) => Kind::Line,
            (Life::Open, Session::Echo) => Kind::Echo,
            #[cfg(feature = "telnet")]
            (Life::Open, Session::Telnet) => Kind::Line,
            (Life::Open, Session::Stream) => match connection.dialect.shape {
                Shape::Ndjson => Kind::Ndjson,
                Shape::Multipart => Kind::Multipart,
                Shape::ForeverFrame => Kind::ForeverFrame,
                _ => Kind::Sse,
            },
            _ => Kind::Closing,
        }
    }

    /// Counts a connection as what it is, and no more as what it was counted as before.
    pub(in crate::shard) fn recount_kind(&mut self, slot: Slot) {
        let kind = self.kind_of(slot);
        let before = std::mem::replace(&mut self.slots.connections[slot as usize].kind, kind);
        if before == kind {
            return;
        }
        if let Some(counter) = before.counter(&mut self.stats) {
            *counter -= 1;
        }
        if let Some(counter) = kind.counter(&mut self.stats) {
            *counter += 1;
        }
    }
}
