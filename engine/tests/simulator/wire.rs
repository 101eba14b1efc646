//! A client's end of one connection: bytes out in random cuts, bytes in at the client's own pace, naive decoders.
//!
//! Owns: the bytes not yet written and not yet understood. The decoders are slow and obvious on purpose: they judge
//! the production codec, so they share nothing with it.

use std::collections::VecDeque;

use crate::authority::with_token;
use crate::net::{ConnId, Found, Net};
use crate::packing::{pack_message, unpack_message};
use crate::regime::Shown;
use crate::rng::Rng;

/// How eagerly a client reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Chance in thousandths that a step reads at all.
    pub(crate) reads: u32,
    /// Most bytes a step reads.
    pub(crate) bytes_max: usize,
    /// Chance in thousandths that a step stops reading for a while.
    pub(crate) stalls: u32,
}

impl Pace {
    pub(crate) const FAST: Pace = Pace { reads: 1000, bytes_max: 1 << 20, stalls: 0 };

    pub(crate) fn draw(rng: &mut Rng) -> Pace {
        match rng.below(6) {
            0 => Pace { reads: rng.within(5..100) as u32, bytes_max: rng.skewed(2000), stalls: 0 },
            1 => Pace { reads: rng.within(100..1000) as u32, bytes_max: rng.skewed(2000), stalls: 0 },
            2 => Pace { reads: 1000, bytes_max: rng.skewed(2000), stalls: rng.within(20..200) as u32 },
            _ => Pace::FAST,
        }
    }
}

/// Longest time for which a client that stalls does not read, in microseconds: whole bursts pass it by.
pub(crate) const STALL_US_MAX: usize = 200_000;

/// What became of the connection in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// The server ended its direction, and all it sent is in `Wire::bytes`.
    Ended,
    /// The connection was torn down, and all that could be read is in `Wire::bytes`.
    Reset,
}

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) conn: ConnId,
    out: Vec<u8>,
    broken: bool,
    /// Our direction ends when all is written.
    ending: bool,
    ended: bool,
    /// A ping of ours was not answered yet.
    pub(crate) pong_due: bool,
    /// Our pings that were not answered yet, without those behind our close frame, which no answer is owed.
    pings: VecDeque<Vec<u8>>,
    said_close: bool,
    /// The server sent its close frame: nothing may come behind it.
    heard_close: bool,
    /// Why, in its words.
    pub(crate) farewell: String,
    /// What requests show, if not what all clients of the world do.
    pub(crate) shows: Option<Shown>,
    /// Compression was offered, and what was agreed on: how far back the server's messages look, in bits.
    offered: bool,
    packing: Option<u8>,
    /// What came from the server and is not understood yet.
    pub(crate) bytes: Vec<u8>,
    pub(crate) pace: Pace,
}

impl Wire {
    pub(crate) fn open(net: &mut Net, rng: &mut Rng, shard: usize, pace: Pace) -> Wire {
        // From less than a frame to more than everything.
        let sizes = [64, 200, 1_000, 5_000, 100_000];
        let conn = net.connect(shard, rng.pick(&sizes), rng.pick(&sizes));
        Wire::over(conn, pace)
    }

    /// Opens a connection with room for everything.
    pub(crate) fn open_roomy(net: &mut Net, shard: usize, pace: Pace) -> Wire {
        Wire::over(net.connect(shard, 100_000, 100_000), pace)
    }

    /// Makes the client's end of a connection.
    pub(crate) fn over(conn: ConnId, pace: Pace) -> Wire {
        Wire {
            conn,
            out: Vec::new(),
            broken: false,
            ending: false,
            ended: false,
            pong_due: false,
            pings: VecDeque::new(),
            said_close: false,
            heard_close: false,
            farewell: String::new(),
            shows: None,
            offered: false,
            packing: None,
            bytes: Vec::new(),
            pace,
        }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        assert!(!self.ending, "a client has nothing to say after its end");
        let shown = self.shows.as_ref().map_or_else(|| with_token(bytes), |shown| shown.in_request(bytes));
        self.out.extend_from_slice(shown.as_deref().unwrap_or(bytes));
    }

    /// Half close: ends our direction after what was put.
    pub(crate) fn end(&mut self) {
        self.ending = true;
    }

    /// Says whether so much waits to be written that a sane client says no more for now.
    pub(crate) fn is_stuffed(&self) -> bool {
        self.out.len() > 50_000
    }

    /// Says whether bytes of ours have not reached the network.
    pub(crate) fn has_unwritten(&self) -> bool {
        !self.out.is_empty() && !self.broken
    }

    pub(crate) fn has_work(&self, net: &Net) -> bool {
        (self.has_unwritten() && net.client_has_room(self.conn))
            || (self.ending && !self.ended && self.out.is_empty() && !self.broken)
            || net.client_has_news(self.conn) && !self.stalls(net)
    }

    /// Says whether it does not read for a while.
    fn stalls(&self, net: &Net) -> bool {
        self.pace.stalls > 0 && net.client_stalls(self.conn)
    }

    /// Moves bytes to the server, some of them.
    pub(crate) fn write(&mut self, net: &mut Net, rng: &mut Rng) {
        if self.has_unwritten() {
            let count = if rng.chance(400) { rng.skewed(self.out.len()) } else { self.out.len() };
            match net.client_write(self.conn, &self.out[..count]) {
                Ok(taken) => {
                    self.out.drain(..taken);
                }
                Err(()) => self.broken = true,
            }
        }
        if self.ending && self.out.is_empty() && !self.ended && !self.broken {
            self.ended = true;
            net.client_end(self.conn);
        }
    }

    /// Moves bytes both ways, some of them.
    pub(crate) fn flow(&mut self, net: &mut Net, rng: &mut Rng) -> Flow {
        self.write(net, rng);
        if rng.chance(self.pace.stalls) {
            net.client_stall(self.conn, rng.skewed(STALL_US_MAX) as u64);
        }
        if self.stalls(net) || !rng.chance(self.pace.reads) {
            return Flow::Open;
        }
        let max = if rng.chance(300) { rng.skewed(self.pace.bytes_max) } else { self.pace.bytes_max };
        match net.client_read(self.conn, max, &mut self.bytes) {
            Found::Bytes(_) | Found::Nothing => Flow::Open,
            Found::Eof => Flow::Ended,
            Found::Reset => Flow::Reset,
        }
    }

    /// Reads the status of the answer whose first line has come, and leaves it.
    pub(crate) fn status(&self) -> Option<u16> {
        let line_len = self.bytes.windows(2).position(|two| two == b"\r\n")?;
        Some(status(std::str::from_utf8(&self.bytes[..line_len]).expect("a status line is text")))
    }

    /// Reads the head of an answer, once it is whole, and says how long it is; leaves it.
    fn head(&self) -> Option<(Answer, usize)> {
        let head_len = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.bytes[..head_len]).expect("an answer's head is text");
        let mut lines = head.split("\r\n");
        let status = status(lines.next().expect("split gives at least one"));
        let headers: Vec<(String, String)> = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a header, not {line:?}"));
                (name.to_ascii_lowercase(), value.to_string())
            })
            .collect();
        Some((Answer { status, headers, body: Vec::new() }, head_len))
    }

    /// Takes the head of an answer off `bytes`, once it is whole; its body is the caller's.
    pub(crate) fn take_head(&mut self) -> Option<Answer> {
        let (answer, head_len) = self.head()?;
        self.bytes.drain(..head_len);
        Some(answer)
    }

    /// Takes an answer to an HTTP request off `bytes`, once it is whole.
    pub(crate) fn take_answer(&mut self, head_only: bool) -> Option<Answer> {
        let (mut answer, head_len) = self.head()?;
        let mut rest = head_len;
        if head_only || [101, 204, 304].contains(&answer.status) {
            // No body, whatever the lengths say.
        } else if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().expect("Content-Length is a number");
            answer.body = self.bytes.get(rest..rest + length)?.to_vec();
            rest += length;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line_len = self.bytes[rest..].windows(2).position(|two| two == b"\r\n")?;
                let size = std::str::from_utf8(&self.bytes[rest..rest + line_len]).expect("a chunk size is text");
                let size = usize::from_str_radix(size, 16).expect("a chunk size is hexadecimal");
                rest += line_len + 2;
                answer.body.extend_from_slice(self.bytes.get(rest..rest + size)?);
                assert_eq!(self.bytes.get(rest + size..rest + size + 2)?, b"\r\n", "a chunk ends with CRLF");
                rest += size + 2;
                if size == 0 {
                    break;
                }
            }
        } else {
            panic!("an answer with no length: {answer:?}");
        }
        self.bytes.drain(..rest);
        if answer.status == 101 {
            self.packing = answer.header("sec-websocket-extensions").map(|agreed| self.agree(agreed));
        }
        Some(answer)
    }

    /// Reads what the server makes of the offer to compress.
    fn agree(&self, agreed: &str) -> u8 {
        assert!(self.offered, "nobody offered {agreed:?}");
        let start = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let rest = agreed.strip_prefix(start).unwrap_or_else(|| panic!("an agreement, not {agreed:?}"));
        match rest.strip_prefix("; server_max_window_bits=") {
            Some(bits) => bits.parse().expect("a number of bits"),
            None => 15,
        }
    }

    /// Takes a WebSocket frame of the server off `bytes`, once it is whole.
    pub(crate) fn take_frame(&mut self) -> Option<Frame> {
        let bytes = &self.bytes;
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let packed = first & 0x40 != 0;
        let may_be_packed = self.packing.is_some() && matches!(first & 0x0F, 1 | 2);
        assert_eq!(first & 0xB0, 0x80, "a whole frame without reserved bits, not {first:#x}");
        assert!(!packed || may_be_packed, "a compressed frame that was not agreed on: {first:#x}");
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (len, header_len) = match second {
            126 => {
                let len = u16::from_be_bytes(bytes.get(2..4)?.try_into().expect("two bytes"));
                assert!(len > 125, "a length in its shortest form");
                (usize::from(len), 4)
            }
            127 => {
                let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().expect("eight bytes"));
                assert!(len > 0xFFFF, "a length in its shortest form");
                (len as usize, 10)
            }
            short => (usize::from(short), 2),
        };
        assert!(len < 1 << 24, "a frame of a sane length, not {len}");
        let mut payload = bytes.get(header_len..header_len + len)?.to_vec();
        if let (true, Some(window_bits)) = (packed, self.packing) {
            payload = unpack_message(&payload, window_bits);
            assert!(payload.len() > len, "compressed only if that makes it shorter");
        }
        self.bytes.drain(..header_len + len);
        assert!(!self.heard_close, "a frame {first:#x} behind the server's close frame");
        match first & 0x0F {
            1 => {
                assert!(std::str::from_utf8(&payload).is_ok(), "a text frame is UTF-8");
                Some(Frame::Message { text: true, bytes: payload })
            }
            2 => Some(Frame::Message { text: false, bytes: payload }),
            8 => {
                let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                self.heard_close = true;
                self.farewell = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                // 1000 is only ever the answer to ours, and what came before ours is answered first.
                assert!(code != Some(1000) || self.pings.is_empty(), "no pong for {:?}", self.pings);
                Some(Frame::Close(code))
            }
            9 => Some(Frame::Ping(payload)),
            10 => {
                let ping = self.pings.pop_front().expect("a pong answers a ping");
                assert_eq!(payload, ping, "pongs come in the order of the pings, unchanged");
                self.pong_due = !self.pings.is_empty();
                Some(Frame::Pong(payload))
            }
            other => panic!("opcode {other} of a server"),
        }
    }

    /// Puts a message, now and then compressed, in fragments, with a ping between them; says whether it went as text.
    pub(crate) fn put_message(&mut self, rng: &mut Rng, payload: &[u8]) -> bool {
        let text = std::str::from_utf8(payload).is_ok() && rng.chance(800);
        let mut opcode = if text { 1 } else { 2 };
        let packed = (self.packing.is_some() && rng.chance(300)).then(|| pack_message(payload));
        if packed.is_some() {
            opcode |= 0x40;
        }
        let mut rest = packed.as_deref().unwrap_or(payload);
        while rng.chance(150) && !rest.is_empty() {
            let (now, later) = rest.split_at(rng.below(rest.len() + 1));
            self.put_frame(rng, opcode, now);
            if rng.chance(300) {
                self.put_pings(rng);
            }
            opcode = 0;
            rest = later;
        }
        self.put_frame(rng, opcode | 0x80, rest);
        text
    }

    /// Puts a ping, now and then several, each with a payload of its own.
    pub(crate) fn put_pings(&mut self, rng: &mut Rng) {
        let count = if rng.chance(200) { rng.skewed(20) } else { 1 };
        for _ in 0..count {
            let len = if rng.chance(200) { rng.below(126) } else { rng.below(9) };
            let payload: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
            self.put_frame(rng, 9, &payload);
        }
    }

    /// Puts one masked frame; control frames get their FIN bit, data frames bring it in `first`.
    pub(crate) fn put_frame(&mut self, rng: &mut Rng, first: u8, payload: &[u8]) {
        self.said_close |= first & 0x0F == 8;
        if first & 0x0F == 9 && !self.said_close {
            self.pong_due = true;
            self.pings.push_back(payload.to_vec());
        }
        let first = if first & 8 != 0 { first | 0x80 } else { first };
        self.out.push(first);
        match payload.len() {
            len @ 0..=125 => self.out.push(0x80 | len as u8),
            len @ 126..=0xFFFF => {
                self.out.push(0x80 | 126);
                self.out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                self.out.push(0x80 | 127);
                self.out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        let mask = (rng.next() as u32).to_le_bytes();
        self.out.extend_from_slice(&mask);
        self.out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    }

    /// Puts a request that asks for a WebSocket, and with `packed` offers to compress.
    pub(crate) fn put_upgrade(&mut self, rng: &mut Rng, target: &str, packed: bool) {
        let parameters = ["", "; client_max_window_bits", "; server_max_window_bits=9", "; server_max_window_bits=14"];
        let offer = match packed {
            true => format!("Sec-WebSocket-Extensions: permessage-deflate{}\r\n", rng.pick(&parameters)),
            false => String::new(),
        };
        self.offered = packed;
        self.put(
            format!(
                "GET {target} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
            )
            .as_bytes(),
        );
    }
}

/// Reads a status line.
fn status(line: &str) -> u16 {
    let status = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let status = status.unwrap_or_else(|| panic!("a status line, not {line:?}"));
    status[..3].parse().unwrap_or_else(|_| panic!("a status, not {line:?}"))
}

/// A whole answer to an HTTP request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    /// Asserts that this is RFC 6455's own example of an accepted handshake, or says that the server refused.
    pub(crate) fn accepts_websocket(&self) -> bool {
        if [408, 503].contains(&self.status) {
            return false;
        }
        assert_eq!(self.status, 101, "{self:?}");
        assert_eq!(self.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(self.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
        true
    }
}

/// A whole frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Message { text: bool, bytes: Vec<u8> },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// Asserts that a message the server made itself goes as text exactly if it is UTF-8.
pub(crate) fn check_kind(text: bool, bytes: &[u8]) {
    assert_eq!(text, std::str::from_utf8(bytes).is_ok(), "what is UTF-8 goes as text, all else as binary");
}

impl Frame {
    /// Describes the frame in a line of the trace.
    pub(crate) fn brief(&self) -> String {
        match self {
            Frame::Message { bytes, .. } => {
                let head = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
                format!("{} ({} bytes)", String::from_utf8_lossy(&head[..head.len().min(100)]), bytes.len())
            }
            other => format!("{other:?}"),
        }
    }
}
