//! The `corecast.v1` line protocol: commands and answers as text.
//!
//! Owns the grammar of PROTOCOL "WebSocket line protocol": what clients say ([`parse`], and [`sub`], [`unsub`],
//! [`publish_head`], [`auth`], [`ping`] to say it), what servers say as a client reads it ([`parse_server`]), and the words both share.
//! The server's own texts are in [`dialect::line`](crate::dialect::line). Parses in place: a percent-encoded topic is decoded
//! where it stands, a payload is borrowed.

mod command;
mod server;

pub use command::{
    Command, CommandError, Pace, View, auth, parse, ping, publish_head, set_bandwidth, stat, sub, unsub,
};
pub use server::{ServerLine, Stat, parse_server};

use memchr::memchr;

/// The longest header line, in bytes: the longest topic, fully encoded, with all options. What a message may have on top of
/// its payload.
pub const HEADER_BYTES_MAX: usize = 1024;

/// The longest header line of `SUB`, which may have a selector.
pub const SUB_BYTES_MAX: usize = 4096;

/// The longest header line of `AUTH`: the longest credential, with all options.
pub const AUTH_BYTES_MAX: usize = crate::http::credential::CREDENTIAL_BYTES_MAX + 128;

/// Names what is wrong with a command, as ERR says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrCode {
    /// The command makes no sense.
    BadCommand,
    /// The topic is not valid.
    BadTopic,
    /// The payload is too large.
    TooLarge,
    /// The client may not.
    Forbidden,
    /// The client has too many subscriptions.
    TooMany,
    /// The engine is full.
    Full,
    /// The client is too fast.
    Rate,
    /// The client might, and its time is over.
    Expired,
    /// It is somewhere else now.
    Moved,
    /// The client has not said who it is, or nobody believes it.
    Unauthorized,
    /// Nobody can say now whether the client may.
    Unavailable,
    /// The engine is going to end, or hands over to another one.
    Draining,
    /// The payload is no record as its topic takes it, or its key is missing or too much.
    BadRecord,
    /// The number of a producer's message is not the one that is next.
    OutOfOrder,
}

impl ErrCode {
    const ALL: [Self; 14] = [
        Self::BadCommand,
        Self::BadTopic,
        Self::TooLarge,
        Self::Forbidden,
        Self::TooMany,
        Self::Full,
        Self::Rate,
        Self::Expired,
        Self::Moved,
        Self::Unauthorized,
        Self::Unavailable,
        Self::Draining,
        Self::BadRecord,
        Self::OutOfOrder,
    ];

    /// Says the word that stands for it on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadCommand => "bad-command",
            Self::BadTopic => "bad-topic",
            Self::TooLarge => "too-large",
            Self::Forbidden => "forbidden",
            Self::TooMany => "too-many",
            Self::Full => "full",
            Self::Rate => "rate",
            Self::Expired => "expired",
            Self::Moved => "moved",
            Self::Unauthorized => "unauthorized",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
            Self::BadRecord => "bad-record",
            Self::OutOfOrder => "out-of-order",
        }
    }

    /// Reads that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }
}

/// Names why messages were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The subscriber was too slow.
    Overflow,
    /// The history no longer holds them.
    Expired,
    /// The cursor is from another life of the topic.
    Epoch,
    /// The subscriber asked for the newest only.
    Conflated,
}

impl GapReason {
    const ALL: [Self; 4] = [Self::Overflow, Self::Expired, Self::Epoch, Self::Conflated];

    /// Says the word that stands for it on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Expired => "expired",
            Self::Epoch => "epoch",
            Self::Conflated => "conflated",
        }
    }

    /// Reads that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// Splits a message at its first line feed into header line and payload.
fn split(message: &mut [u8]) -> (&mut [u8], Option<&mut [u8]>) {
    match memchr(b'\n', message) {
        Some(end) => {
            let (head, rest) = message.split_at_mut(end);
            (head, Some(&mut rest[1..]))
        }
        None => (message, None),
    }
}
