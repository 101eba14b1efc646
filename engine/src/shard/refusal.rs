//! What a peer is refused, by name, and how each kind of session is told. One table; the manual is held to it.
//!
//! A refusal is ours: there is no room, or the peer may not, or not now. What breaks a rule of the wire is a
//! [`Violation`](corecast_protocol::violation::Violation), and stays out of here. Whoever refuses names the refusal, and `session/refuse`
//! tells it and counts it: no other place knows a status, a close code or a word for one.

use corecast_protocol::line::ErrCode;
use corecast_protocol::ws::close;

use super::stats::Stats;
use crate::mesh::Reason;

/// How one refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is called in counters, logs and manuals.
    pub name: &'static str,
    /// What the peer is told, in an error body, behind `ERR`, or as the reason of a close frame (at most 123 bytes).
    pub text: &'static str,
    /// When this is said.
    pub when: &'static str,
    /// What the peer can do about it.
    pub cure: &'static str,
    /// The status that answers a request (RFC 9110); none if no request can meet it.
    pub status: Option<u16>,
    /// Headers that go with the status.
    pub headers: &'static [(&'static str, &'static str)],
    /// When to come back, if that is all it takes: a number of seconds that is drawn between these, unless it is known better. It is the
    /// `Retry-After` of the status, and stands [in words](COME_BACK) behind the text elsewhere.
    pub comes_back_s: Option<(u32, u32)>,
    /// The code that closes a WebSocket (RFC 6455 section 7.4 and the IANA registry); none if it closes none.
    pub close: Option<u16>,
    /// What answers a command; without one the connection is closed.
    pub err: Option<ErrCode>,
    /// A stream that stands can meet it: an event tells name and text, and then the stream ends in order.
    pub event: bool,
}

/// What stands between the text and the number of seconds after which to come back; an `s` follows. Clients read it.
pub const COME_BACK: &str = "; try again in ";

/// Longest time after which somebody is told to come back, in seconds.
pub(super) const COME_BACK_S_MAX: u32 = 3_600;

/// What a 401 has to say (RFC 9110 section 15.5.2), to who has shown nothing (RFC 6750 section 3).
const CHALLENGE: &[(&str, &str)] = &[("WWW-Authenticate", "Bearer")];

/// The same, in the words for what is not valid, or not any more (RFC 6750 section 3.1).
const RENEW: &[(&str, &str)] = &[("WWW-Authenticate", "Bearer error=\"invalid_token\"")];

/// Makes [`Refusal`] and its table: name and counter of each, and its row.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident, $counter:ident: $row:expr;)*) => {
        /// Why a peer is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// All of them, in the order of [`Refusal::TABLE`].
            pub const ALL: &[Refusal] = &[$(Refusal::$name,)*];
            /// How each is told.
            pub const TABLE: &[Row] = &[$($row,)*];

            /// Counts it, by its name and in the sum.
            pub(in crate::shard) fn count(self, stats: &mut Stats) {
                stats.refused += 1;
                match self {
                    $(Refusal::$name => stats.$counter += 1,)*
                }
            }
        }
    };
}

refusals! {
    /// There is no memory, no topic or no connection left for it.
    Full, refused_full: Row {
        name: "full",
        text: "the engine is full",
        when: "there is no memory for it, or `max-topics`, `connections`, `max-connections` or `max-subscriptions-in-all` is reached",
        cure: "come back later, with your cursor",
        status: Some(503),
        headers: &[],
        comes_back_s: Some((1, 5)),
        close: Some(close::TRY_AGAIN),
        err: Some(ErrCode::Full),
        event: true,
    };
    /// The peer asks or sends more in a time than it may.
    TooFast, refused_too_fast: Row {
        name: "too-fast",
        text: "too much in too short a time",
        when: "you send or ask for more in a time than you may",
        cure: "wait, then go on more slowly",
        status: Some(429),
        headers: &[],
        comes_back_s: Some((1, 3)),
        close: Some(close::TRY_AGAIN),
        err: Some(ErrCode::Rate),
        event: true,
    };
    /// The peer has as many of something as it may have at the same time.
    TooMany, refused_too_many: Row {
        name: "too-many",
        text: "too many subscriptions or connections",
        when: "`max-subscriptions`, `max-producers`, or what may be of your address or your subject, is reached",
        cure: "end one that you do not need, or use another connection",
        status: Some(429),
        headers: &[],
        comes_back_s: Some((5, 15)),
        close: Some(close::TRY_AGAIN),
        err: Some(ErrCode::TooMany),
        event: true,
    };
    /// What the peer sends is larger than what is taken.
    TooLarge, refused_too_large: Row {
        name: "too-large",
        text: "the payload is too large",
        when: "a payload is larger than `max-message`, in all or for its topic, or the body of a batch than 16 times that",
        cure: "send less",
        status: Some(413),
        headers: &[],
        comes_back_s: None,
        close: Some(close::TOO_BIG),
        err: Some(ErrCode::TooLarge),
        event: false,
    };
    /// The peer does not take what it asked for as fast as it comes.
    TooSlow, refused_too_slow: Row {
        name: "too-slow",
        text: "too slow",
        when: "you fell behind further than `log-bytes`, and `lag` is `close`",
        cure: "come back with your cursor; ask for `conflate` or `every`",
        status: None,
        headers: &[],
        comes_back_s: Some((1, 5)),
        close: Some(close::TRY_AGAIN),
        err: None,
        event: true,
    };
    /// Messages were lost to a subscriber that can be told in no other way.
    Lost, refused_lost: Row {
        name: "lost",
        text: "messages were lost; subscribe again",
        when: "messages are gone that a raw WebSocket had coming: it has no gaps",
        cure: "subscribe again",
        status: None,
        headers: &[],
        comes_back_s: Some((1, 5)),
        close: Some(close::TRY_AGAIN),
        err: None,
        event: false,
    };
    /// The peer may not.
    Forbidden, refused_forbidden: Row {
        name: "forbidden",
        text: "this is not allowed",
        when: "your page's origin, or you, may not do that; the text says what",
        cure: "do not ask again as you are",
        status: Some(403),
        headers: &[],
        comes_back_s: None,
        close: Some(close::POLICY),
        err: Some(ErrCode::Forbidden),
        event: true,
    };
    /// The peer may not as long as it does not say who it is.
    Unauthorized, refused_unauthorized: Row {
        name: "unauthorized",
        text: "this needs a token or a key",
        when: "you have not said who you are, and only those who do may do that",
        cure: "come back with a [token or key](#who-you-are)",
        status: Some(401),
        headers: CHALLENGE,
        comes_back_s: None,
        close: Some(close::POLICY),
        err: Some(ErrCode::Unauthorized),
        event: true,
    };
    /// What the peer shows is not believed.
    InvalidToken, refused_invalid_token: Row {
        name: "invalid-token",
        text: "the token or key is not valid",
        when: "the token or key that you show is not valid; the text says why",
        cure: "get another one; do not come back with the same",
        status: Some(401),
        headers: RENEW,
        comes_back_s: None,
        close: Some(close::POLICY),
        err: Some(ErrCode::Unauthorized),
        event: true,
    };
    /// Nobody can say now whether the peer may.
    Unavailable, refused_unavailable: Row {
        name: "unavailable",
        text: "nobody can say now whether you may",
        when: "who decides what you may does not answer in time (`verdict-timeout`)",
        cure: "come back later",
        status: Some(503),
        headers: &[],
        comes_back_s: Some((1, 5)),
        close: Some(close::TRY_AGAIN),
        err: Some(ErrCode::Unavailable),
        event: true,
    };
    /// The peer was allowed to, and its time is over.
    Expired, refused_expired: Row {
        name: "expired",
        text: "the permission has expired",
        when: "what allowed you to do that has run out, or was revoked",
        cure: "get a new permission, and come back with it and your cursor; on a line protocol connection, `AUTH` before that",
        status: Some(401),
        headers: RENEW,
        comes_back_s: None,
        close: Some(close::POLICY),
        err: Some(ErrCode::Expired),
        event: true,
    };
    /// It is somewhere else now.
    Moved, refused_moved: Row {
        name: "moved",
        text: "this is served elsewhere now",
        when: "another engine has it now; `Location` says which",
        cure: "go there, with your cursor",
        status: Some(307),
        headers: &[],
        comes_back_s: None,
        close: Some(close::SERVICE_RESTART),
        err: Some(ErrCode::Moved),
        event: true,
    };
    /// An operator ends the connection.
    Disconnected, refused_disconnected: Row {
        name: "disconnected",
        text: "an operator has ended this connection; it was no mistake of yours",
        when: "an operator ends your connection",
        cure: "come back with your cursor, unless you are told something else there",
        status: None,
        headers: &[],
        comes_back_s: None,
        close: Some(close::POLICY),
        err: None,
        event: true,
    };
    /// It depends on something that is not so.
    Changed, refused_changed: Row {
        name: "changed",
        text: "a condition does not hold: the topic is not what it was",
        when: "[a condition](#only-if-if-match-if-none-match) does not hold",
        cure: "fetch what is there now, and decide again",
        status: Some(412),
        headers: &[],
        comes_back_s: None,
        close: None,
        err: None,
        event: false,
    };
    /// The payload is no record, and its topic takes nothing else.
    BadRecord, refused_bad_record: Row {
        name: "bad-record",
        text: "this topic takes JSON objects: no member twice, no deep nesting",
        when: "a topic whose [messages are records](#records) is sent something else, or one with a member twice",
        cure: "publish a JSON object",
        status: Some(400),
        headers: &[],
        comes_back_s: None,
        close: Some(close::POLICY),
        err: Some(ErrCode::BadRecord),
        event: false,
    };
    /// The message does not say of which key it is a value.
    NoKey, refused_no_key: Row {
        name: "no-key",
        text: "a message of this topic needs a key: key=, Corecast-Message-Key, or the member that its rule names",
        when: "a topic [with keys](#records) is sent a message without one",
        cure: "say the key",
        status: Some(400),
        headers: &[],
        comes_back_s: None,
        close: Some(close::POLICY),
        err: Some(ErrCode::BadRecord),
        event: false,
    };
    /// The message says a key, or what to do with its value, and its topic has no such.
    NotKeyed, refused_not_keyed: Row {
        name: "not-keyed",
        text: "this topic has no keys, and nothing to merge or delete: no rule says record",
        when: "a message has a key, or merges or deletes, and its topic has no [rule](rules.md#records) that says `record`",
        cure: "publish without these, or to another topic",
        status: Some(400),
        headers: &[],
        comes_back_s: None,
        close: Some(close::POLICY),
        err: Some(ErrCode::BadRecord),
        event: false,
    };
    /// The topic has as many keys as it may have.
    TooManyRows, refused_too_many_rows: Row {
        name: "too-many-rows",
        text: "the topic has as many keys, or bytes of values, as it may have",
        when: "a message would be of one key more than `rows` allows, or values would have more than `rows-bytes`",
        cure: "delete what is not needed",
        status: Some(507),
        headers: &[],
        comes_back_s: None,
        close: Some(close::POLICY),
        err: Some(ErrCode::Full),
        event: false,
    };
    /// Too many different parts of a topic are wanted.
    TooManyViews, refused_too_many_views: Row {
        name: "too-many-views",
        text: "too many different views of this topic",
        when: "`max-views` different [views](#views) of the topic are read on the core of your connection already",
        cure: "ask for one that others have, or for everything",
        status: Some(429),
        headers: &[],
        comes_back_s: Some((5, 15)),
        close: Some(close::TRY_AGAIN),
        err: Some(ErrCode::TooMany),
        event: true,
    };
    /// The number of a producer's message is not the next one.
    OutOfOrder, refused_out_of_order: Row {
        name: "out-of-order",
        text: "the number is not the one that is next",
        when: "the number of a [producer](#producers-once-and-in-order)'s message is neither the next one nor one that was published; the text begins with the next one",
        cure: "send what is missing, in order; if 1 is next, you are not known any more: take another name",
        status: Some(409),
        headers: &[],
        comes_back_s: None,
        close: None,
        err: Some(ErrCode::OutOfOrder),
        event: false,
    };
    /// It comes new, while turns take too long already.
    Overloaded, refused_overloaded: Row {
        name: "overloaded",
        text: "the engine is overloaded",
        when: "you connect while most turns are longer than `overload-after`",
        cure: "come back then: the time is yours",
        status: Some(503),
        headers: &[],
        comes_back_s: Some((1, 5)),
        close: Some(close::TRY_AGAIN),
        err: None,
        event: false,
    };
    /// The engine is going to end.
    Draining, refused_draining: Row {
        name: "draining",
        text: "the engine is shutting down",
        when: "the engine is going to end, or hands its histories over to another one",
        cure: "come back then, with your cursor; with very many others, it says later. A message that is refused so was not published",
        status: Some(503),
        headers: &[],
        comes_back_s: Some((1, 10)),
        close: Some(close::GOING_AWAY),
        err: Some(ErrCode::Draining),
        event: true,
    };
}

impl Refusal {
    /// Returns how it is told.
    #[must_use]
    pub const fn row(self) -> &'static Row {
        &Self::TABLE[self as usize]
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        match reason {
            Reason::Full => Refusal::Full,
            Reason::Changed => Refusal::Changed,
            Reason::Rows => Refusal::TooManyRows,
            Reason::TooLarge => Refusal::TooLarge,
            Reason::OutOfOrder(_) => Refusal::OutOfOrder,
            Reason::TooManyProducers => Refusal::TooMany,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every refusal has a counter of its name and is in the sum; counting one counts no other.
    #[test]
    fn each_is_counted_by_its_name() {
        for refusal in Refusal::ALL {
            let mut stats = Stats::default();
            refusal.count(&mut stats);
            let counter = format!("refused_{}", refusal.row().name.replace('-', "_"));
            let counted: Vec<_> = Stats::FIELDS
                .iter()
                .zip(stats.values())
                .filter(|(_, value)| *value == 1)
                .map(|((name, _), _)| *name)
                .collect();
            assert_eq!(counted, ["refused", &counter]);
            assert_eq!(stats.values().iter().sum::<u64>(), 2);
        }
    }

    /// A refusal can be told: by an answer or by an end, in words that fit into a close frame, with what its status has to say.
    #[test]
    fn rows_keep_the_standards() {
        for row in Refusal::TABLE {
            assert!(row.status.is_some() || row.close.is_some(), "{} is told", row.name);
            assert!(row.text.is_ascii(), "{}", row.text);
            assert!(row.close.is_none_or(close::may_be_sent), "{}", row.name);
            let has = |name| row.headers.iter().any(|(header, _)| *header == name);
            assert_eq!(has("WWW-Authenticate"), row.status == Some(401), "{}", row.name);
            // Whoever is told when to come back over HTTP is told over a WebSocket, too.
            let closed = matches!(row.close, Some(close::GOING_AWAY | close::TRY_AGAIN));
            assert_eq!(row.comes_back_s.is_some(), closed, "{}", row.name);
            let busy = matches!(row.status, Some(429 | 503));
            assert!(row.comes_back_s.is_some() || !busy, "{}", row.name);
            let (least_s, most_s) = row.comes_back_s.unwrap_or((1, 1));
            assert!(0 < least_s && least_s <= most_s && most_s <= COME_BACK_S_MAX, "{}", row.name);
            let words = format!("{}{COME_BACK}{COME_BACK_S_MAX}s", row.text);
            assert!(words.len() <= 123, "{words}");
        }
    }
}
