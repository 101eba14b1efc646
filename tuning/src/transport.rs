//! How messages reach a client, as far as size and cost go; the wire itself is `docs/protocol.md`.

use serde::{Deserialize, Serialize};

/// A transport that messages go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A WebSocket per topic; every message is a payload.
    Websocket,
    /// A WebSocket with the line protocol.
    WebsocketLine,
    /// Server-Sent Events.
    Sse,
    /// NDJSON on an HTTP response without end.
    Stream,
    /// `multipart/x-mixed-replace`.
    Multipart,
    /// Scripts in a page without end.
    ForeverFrame,
    /// A request that waits for the next message.
    LongPoll,
    /// A request now and then.
    Poll,
}

/// What shows that an idle connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignOfLife {
    /// A ping that is answered, when nothing flowed for `ping-interval`.
    Ping,
    /// A few bytes each `ping-interval`, whatever flows.
    Heartbeat,
    /// An empty answer and a new request when nothing came within the wait.
    Answer,
    /// Nothing.
    None,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 8] = [
        Transport::Websocket,
        Transport::WebsocketLine,
        Transport::Sse,
        Transport::Stream,
        Transport::Multipart,
        Transport::ForeverFrame,
        Transport::LongPoll,
        Transport::Poll,
    ];

    /// Returns its name in `--transport`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Transport::Websocket => "websocket",
            Transport::WebsocketLine => "websocket-line",
            Transport::Sse => "sse",
            Transport::Stream => "stream",
            Transport::Multipart => "multipart",
            Transport::ForeverFrame => "forever-frame",
            Transport::LongPoll => "long-poll",
            Transport::Poll => "poll",
        }
    }

    /// Returns the CPU time of a delivery, in those of a WebSocket (`docs/transports.md`); where less was measured, which is
    /// noise, as much. A poll is taken for a long poll: it was not measured.
    #[must_use]
    pub fn cost(self) -> f64 {
        match self {
            Transport::Websocket => 1.0,
            Transport::WebsocketLine => 1.07,
            Transport::Sse => 1.0,
            Transport::Stream => 1.0,
            Transport::Multipart => 1.07,
            Transport::ForeverFrame => 1.13,
            Transport::LongPoll | Transport::Poll => 2.76,
        }
    }

    /// Returns the bytes that come down around a payload of so many (`docs/transports.md`, measured with 64 bytes; the
    /// length of a WebSocket frame is that of RFC 6455, section 5.2).
    #[must_use]
    pub fn bytes_down(self, payload: u64) -> u64 {
        let frame = match payload {
            0..=125 => 2,
            126..=65_535 => 4,
            _ => 10,
        };
        match self {
            Transport::Websocket => frame,
            Transport::WebsocketLine => frame + 18,
            Transport::Sse => 30,
            Transport::Stream => 53,
            Transport::Multipart => 154,
            Transport::ForeverFrame => 73,
            Transport::LongPoll | Transport::Poll => 281,
        }
    }

    /// Returns the bytes that go up for each message, without acknowledgements.
    #[must_use]
    pub fn bytes_up(self) -> u64 {
        match self {
            Transport::LongPoll | Transport::Poll => 81,
            _ => 0,
        }
    }

    /// Returns what shows that an idle connection lives.
    #[must_use]
    pub fn sign_of_life(self) -> SignOfLife {
        match self {
            Transport::Websocket | Transport::WebsocketLine => SignOfLife::Ping,
            Transport::Sse | Transport::Stream | Transport::Multipart | Transport::ForeverFrame => {
                SignOfLife::Heartbeat
            }
            Transport::LongPoll => SignOfLife::Answer,
            Transport::Poll => SignOfLife::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name on the command line is the name in a file of constants.
    #[test]
    fn one_name() {
        for transport in Transport::ALL {
            assert_eq!(serde_json::to_value(transport).unwrap(), transport.name());
        }
    }

    /// Bytes around a payload are those of the table in docs/transports.md, which was measured with 64 bytes.
    #[test]
    fn bytes_are_those_measured() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/transports.md");
        let text = std::fs::read_to_string(path).unwrap();
        for transport in Transport::ALL.into_iter().filter(|transport| *transport != Transport::Poll) {
            let name = match transport {
                Transport::Websocket => "websocket raw",
                Transport::WebsocketLine => "websocket line",
                other => other.name(),
            };
            let (down, up) = (64 + transport.bytes_down(64), transport.bytes_up());
            let row = text.lines().find_map(|line| line.strip_prefix(&format!("| {name} | {down} | {up} |")));
            let row =
                row.unwrap_or_else(|| panic!("docs/transports.md has no row `{name}` with {down} and {up} bytes"));
            let ratio = row.split('|').nth(1).and_then(|cell| cell.trim().parse::<f64>().ok());
            let ratio = ratio.unwrap_or_else(|| panic!("docs/transports.md, `{name}`: no ratio in `{row}`"));
            assert_eq!(transport.cost(), ratio.max(1.0), "`cost` and docs/transports.md, `{name}`");
        }
    }
}
