//! Kinds of connections: what operators call them, and where each is counted.

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
    pub(in crate::shard) fn counter(self, stats: &mut Stats) -> Option<&mut u64> {
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
