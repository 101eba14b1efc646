//! What arrives in pieces: the same must come out, however it is cut.

use core::fmt::Debug;

use core::net::SocketAddr;

use super::{Copied, bounded};
use crate::Violation;
use crate::http::body::Chunked;
use crate::http::credential::{CREDENTIAL_BYTES_MAX, Kind, Places, bearer, find};
use crate::http::{client, head as request};
use crate::proxy::{self as proxied, ProxyError};
use crate::ws::decoder::{Decoder, Event, Role, compressed_bytes_max};
use crate::ws::frame::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX};

/// A request head: every prefix either asks for more or gives what the whole gives.
pub fn head(data: &[u8]) {
    let data = bounded(data);
    // Small limits are reached, too.
    for head_bytes_max in [64, 16_384] {
        every_prefix(data, |prefix| request::parse(prefix, head_bytes_max));
        let Ok(Some((request, len))) = request::parse(data, head_bytes_max) else {
            continue;
        };
        assert!(len <= data.len() && len <= head_bytes_max);
        assert!(data[..len].ends_with(b"\r\n\r\n"));
        assert!(request.path == "*" || request.path.starts_with('/'));
        assert!(!request.path.contains(['?', '#', ' ']) && request.query.is_ascii());
        assert!(request.http10 || request.headers.host.is_some());
        assert!(!(request.http10 && request.body == request::BodyLength::Chunked));
        // Nothing borrowed can break a line when it is written again.
        let known = &request.headers;
        for value in [known.host, known.origin, known.cookie, known.last_event_id, known.corecast_event] {
            assert!(value.is_none_or(|value| !value.contains(['\r', '\n', '\0'])));
        }
        // What the handshake makes of it is its own affair, but it never panics.
        let _ = crate::ws::handshake::check(&request).map(|offer| offer.protocols().count());
    }
}

/// The credential of a request head: what is found is what is looked for, a place that nobody looks at changes nothing, and
/// a secret is text of a bounded length.
pub fn credential(data: &[u8]) {
    let Ok(Some((request, _))) = request::parse(bounded(data), 16_384) else { return };
    let mut room = [0; CREDENTIAL_BYTES_MAX];
    let nowhere = Places { tokens: false, keys: false, cookie: Some("token") };
    assert_eq!(find(&request, nowhere, &mut room), None);
    for (tokens, keys) in [(true, false), (false, true), (true, true)] {
        let places = Places { tokens, keys, cookie: None };
        let Some(found) = find(&request, places, &mut room) else { continue };
        assert!(if found.kind == Kind::Token { tokens } else { keys });
        assert!(found.secret.len() <= CREDENTIAL_BYTES_MAX);
        let (kind, mut copy) = (found.kind, Copied::of(bounded(found.secret.as_bytes())));
        // A cookie is looked at behind everything but a subprotocol.
        let mut room = [0; CREDENTIAL_BYTES_MAX];
        let again = find(&request, Places { cookie: Some("token"), ..places }, &mut room);
        let again = again.expect("one more place finds no less");
        if bearer(&request.headers).is_none() {
            assert_eq!((again.kind, bounded(again.secret.as_bytes())), (kind, &*copy.bytes()));
        }
    }
}

/// A response head, likewise.
pub fn response(data: &[u8]) {
    let data = bounded(data);
    for head_bytes_max in [64, 16_384] {
        every_prefix(data, |prefix| client::parse(prefix, head_bytes_max));
        if let Ok(Some((reply, len))) = client::parse(data, head_bytes_max) {
            assert!(len <= data.len() && (100..=999).contains(&reply.status));
        }
    }
}

/// What a proxy says of its client, likewise; and said again in the other version it reads the same.
pub fn proxy(data: &[u8]) {
    let data = bounded(data);
    every_prefix(data, proxied::parse);
    let Ok(Some((header, len))) = proxied::parse(data) else { return };
    assert!(len <= data.len() && len <= proxied::BLOCK_HEAD_BYTES + proxied::BLOCK_BYTES_MAX);
    assert_eq!(proxied::parse(&data[..len]), Ok(Some((header, len))), "nothing behind it matters");
    assert_eq!(header.source.is_some(), header.destination.is_some());
    assert!(header.authority.is_none_or(|name| name.bytes().all(|byte| byte.is_ascii_graphic())));
    let (Some(source), Some(destination)) = (header.source, header.destination) else { return };
    if source.is_ipv4() != destination.is_ipv4() {
        return; // One of them was an IPv4 address in the form of IPv6.
    }
    let again = Copied::written(|w| said_again(w, source, destination, data.starts_with(b"PROXY")));
    let read = proxied::parse(&again.bytes[..again.len]);
    let expected = proxied::Header { authority: None, ..header };
    assert_eq!(read, Ok::<_, ProxyError>(Some((expected, again.len))));
}

/// Writes a header in the second version, or in the first.
fn said_again(w: &mut crate::Writer<'_>, source: SocketAddr, destination: SocketAddr, in_bytes: bool) {
    use core::fmt::Write as _;
    if !in_bytes {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        let _ = write!(Words(w), "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
        return;
    }
    w.put(b"\r\n\r\n\0\r\nQUIT\n\x21");
    w.put(if source.is_ipv4() { &[0x11, 0, 12] } else { &[0x21, 0, 36] });
    for ip in [source.ip(), destination.ip()] {
        match ip {
            core::net::IpAddr::V4(ip) => w.put(&ip.octets()),
            core::net::IpAddr::V6(ip) => w.put(&ip.octets()),
        }
    }
    for port in [source.port(), destination.port()] {
        w.put(&port.to_be_bytes());
    }
}

/// A writer of words, for what formats itself.
struct Words<'w, 'o>(&'w mut crate::Writer<'o>);

impl core::fmt::Write for Words<'_, '_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.text(text);
        Ok(())
    }
}

fn every_prefix<'d, T: PartialEq + Debug, E: PartialEq + Debug>(
    data: &'d [u8],
    parse: impl Fn(&'d [u8]) -> Result<Option<T>, E>,
) {
    let whole = parse(data);
    for cut in 0..data.len() {
        let found = parse(&data[..cut]);
        assert!(found == Ok(None) || found == whole, "cut at {cut}: {found:?}, not {whole:?}");
    }
}

/// What went past, in few bytes: equal digests stand for equal histories (FNV-1a).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest(u64);

impl Digest {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn add(&mut self, kind: u8, bytes: &[u8]) {
        for &byte in bytes {
            for part in [kind, byte] {
                self.0 = (self.0 ^ u64::from(part)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
}

/// A chunked body: the same data and the same end, whole, in two pieces, and byte by byte.
pub fn chunked(data: &[u8]) {
    let data = bounded(data);
    let whole = read_body(&[data]);
    for cut in 0..data.len() {
        let (before, after) = data.split_at(cut);
        assert_eq!(read_body(&[before, after]), whole, "cut at {cut}");
    }
    let mut reader = Body::default();
    let bytes = data.chunks(1).try_for_each(|byte| reader.feed(byte));
    assert_eq!(bytes.map(|()| reader.found()), whole, "byte by byte");
}

struct Body {
    state: Chunked,
    digest: Digest,
    data_bytes: usize,
    consumed: usize,
    done: bool,
}

impl Default for Body {
    fn default() -> Self {
        Self { state: Chunked::default(), digest: Digest::EMPTY, data_bytes: 0, consumed: 0, done: false }
    }
}

impl Body {
    fn feed(&mut self, mut input: &[u8]) -> Result<(), Violation> {
        while !input.is_empty() && !self.done {
            let piece = self.state.next(input)?;
            assert!(piece.consumed > 0 && piece.data.end <= piece.consumed);
            self.digest.add(1, &input[piece.data.clone()]);
            self.data_bytes += piece.data.len();
            self.consumed += piece.consumed;
            self.done = piece.done;
            input = &input[piece.consumed..];
        }
        Ok(())
    }

    fn found(&self) -> (Digest, usize, usize, bool) {
        (self.digest, self.data_bytes, self.consumed, self.done)
    }
}

fn read_body(pieces: &[&[u8]]) -> Result<(Digest, usize, usize, bool), Violation> {
    let mut body = Body::default();
    for piece in pieces {
        body.feed(piece)?;
    }
    Ok(body.found())
}

/// A stream of frames: the same messages, control frames and violation, whole, in two pieces, and byte by byte. The first
/// byte of the input chooses the role, the limit, and whether messages may be compressed.
pub fn decoder(data: &[u8]) {
    let Some((&choice, frames)) = bounded(data).split_first() else {
        return;
    };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let start = if choice & 4 == 0 { Decoder::new(role) } else { Decoder::new(role).with_deflate() };
    let message_bytes_max = if choice & 2 == 0 { 65_536 } else { 100 };
    let whole = read_frames(&[frames], start, message_bytes_max);
    // Two cuts near each other catch what a single one does not: a header over three pieces.
    for cut in 0..frames.len() {
        let (before, after) = frames.split_at(cut);
        let (middle, after) = after.split_at(after.len().min(1));
        let cut_up = read_frames(&[before, middle, after], start, message_bytes_max);
        assert_eq!(cut_up, whole, "cut at {cut}");
    }
    let mut reader = Frames::new(start, message_bytes_max);
    let bytes = frames.chunks(1).try_for_each(|byte| reader.feed(byte));
    assert_eq!(bytes.map(|()| reader.found()), whole, "byte by byte");
}

struct Frames {
    decoder: Decoder,
    message_bytes_max: usize,
    carry: Copied,
    digest: Digest,
    data_bytes: usize,
    message_bytes: usize,
}

impl Frames {
    fn new(decoder: Decoder, message_bytes_max: usize) -> Self {
        Self {
            decoder,
            message_bytes_max,
            carry: Copied::of(&[]),
            digest: Digest::EMPTY,
            data_bytes: 0,
            message_bytes: 0,
        }
    }

    fn feed(&mut self, piece: &[u8]) -> Result<(), Violation> {
        let len = self.carry.len + piece.len();
        self.carry.bytes[self.carry.len..len].copy_from_slice(piece);
        self.carry.len = len;
        let mut used = 0;
        loop {
            let rest = &mut self.carry.bytes[used..len];
            let step = self.decoder.next(rest, self.message_bytes_max)?;
            assert!(step.consumed <= rest.len());
            match step.event {
                None if step.consumed == 0 => break,
                None => {}
                Some(Event::Data { text, compressed, data, first, last }) => {
                    assert!(data.end <= step.consumed && (last || !data.is_empty()));
                    assert_eq!(first, self.message_bytes == 0 || (last && data.is_empty() && first));
                    self.digest.add(b'a' + u8::from(text) + 2 * u8::from(compressed), &rest[data.clone()]);
                    self.data_bytes += data.len();
                    self.message_bytes += data.len();
                    let bytes_max =
                        if compressed { compressed_bytes_max(self.message_bytes_max) } else { self.message_bytes_max };
                    assert!(self.message_bytes <= bytes_max);
                    assert!(!compressed || self.decoder.has_deflate(), "only what was agreed on");
                    if last {
                        self.message_bytes = 0;
                        self.digest.add(b'.', b".");
                    }
                    assert_eq!(self.decoder.mid_message(), !last);
                }
                Some(Event::Ping(range)) => self.control(b'i', used, range),
                Some(Event::Pong(range)) => self.control(b'o', used, range),
                Some(Event::Close { code, reason }) => {
                    self.digest.add(b'c', &code.unwrap_or(0).to_be_bytes());
                    self.control(b'r', used, reason);
                }
            }
            used += step.consumed;
        }
        assert!(len - used < HEADER_BYTES_MAX + CONTROL_BYTES_MAX, "too much is left over");
        self.carry.bytes.copy_within(used..len, 0);
        self.carry.len = len - used;
        Ok(())
    }

    fn control(&mut self, kind: u8, used: usize, range: core::ops::Range<usize>) {
        assert!(range.len() <= CONTROL_BYTES_MAX);
        self.digest.add(kind, b"control");
        self.digest.add(kind, &self.carry.bytes[used..][range]);
    }

    fn found(&self) -> (Digest, usize, usize, bool) {
        (self.digest, self.data_bytes, self.carry.len, self.decoder.mid_message())
    }
}

fn read_frames(
    pieces: &[&[u8]],
    decoder: Decoder,
    message_bytes_max: usize,
) -> Result<(Digest, usize, usize, bool), Violation> {
    let mut frames = Frames::new(decoder, message_bytes_max);
    for piece in pieces {
        frames.feed(piece)?;
    }
    Ok(frames.found())
}
