//! Which sessions there are, and what the rest of the shard asks of one without knowing which it is.

use corecast_protocol::line::HEADER_BYTES_MAX;

use crate::shard::carrier::Carrier;
use crate::shard::limits::Limits;

/// What the bytes of a connection mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) enum Session {
    /// It waits for a request, or is in the middle of one.
    #[default]
    Request,
    /// A request whose answer waits for the first messages of its topics.
    Poll,
    /// An HTTP answer that goes on and on; what the peer sends is thrown away.
    Stream,
    /// A WebSocket of one topic: payloads both ways.
    Raw,
    /// A WebSocket that speaks `corecast.v1`.
    Line,
    /// A WebSocket that gets everything back.
    Echo,
    /// Lines over bare TCP.
    #[cfg(feature = "telnet")]
    Telnet,
}

/// What the rest of the shard asks of a session without knowing which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Traits {
    /// How its bytes become messages.
    pub(in crate::shard) carrier: Carrier,
    /// It is sent what is new in its subscriptions as it comes.
    pub(in crate::shard) subscribes: bool,
    /// What its peer sends is understood; otherwise it is thrown away.
    pub(in crate::shard) understands: bool,
    /// Its peer says what it wants right after the session has begun.
    pub(in crate::shard) speaks_first: bool,
    /// It can be told of messages that were passed over.
    pub(in crate::shard) is_told_gaps: bool,
    /// It can be told at any time why it ends, but for the middle of a frame.
    pub(in crate::shard) is_told_its_end: bool,
    /// Bytes that one of its messages may have besides a payload.
    pub(in crate::shard) header_bytes: usize,
    /// Orders whose outcome may be on its way at once.
    pub(in crate::shard) orders_max: u32,
}

impl Session {
    /// What the connections of a listener begin with.
    #[must_use]
    #[cfg_attr(not(feature = "telnet"), expect(unused_variables, reason = "all listeners begin with requests"))]
    pub(in crate::shard) fn first(limits: &Limits, listener: u8) -> Session {
        #[cfg(feature = "telnet")]
        if limits.telnet == Some(listener) {
            return Session::Telnet;
        }
        Session::Request
    }

    /// Returns its row of the table.
    #[must_use]
    pub(in crate::shard) const fn traits(self) -> Traits {
        use Carrier::{Plain, WebSocket};
        const ALL: u32 = u32::MAX;
        const HEAD: usize = HEADER_BYTES_MAX;
        #[rustfmt::skip]
        let (carrier, subscribes, understands, speaks_first, is_told_gaps, is_told_its_end, header_bytes, orders_max) = match self {
            //                  carrier    subscribes understands speaks first gaps  end    header orders
            Session::Request => (Plain,     false,     true,       true,       true,  false, 0,    ALL),
            Session::Poll =>    (Plain,     false,     true,       false,      true,  true,  0,    ALL),
            Session::Stream =>  (Plain,     true,      false,      false,      true,  true,  0,    ALL),
            Session::Raw =>     (WebSocket, true,      true,       false,      false, true,  0,    ALL),
            Session::Line =>    (WebSocket, true,      true,       true,       true,  true,  HEAD, 64),
            Session::Echo =>    (WebSocket, true,      true,       false,      true,  true,  0,    ALL),
            #[cfg(feature = "telnet")]
            Session::Telnet =>  (Plain,     true,      true,       true,       true,  true,  0,    16),
        };
        Traits {
            carrier,
            subscribes,
            understands,
            speaks_first,
            is_told_gaps,
            is_told_its_end,
            header_bytes,
            orders_max,
        }
    }
}
