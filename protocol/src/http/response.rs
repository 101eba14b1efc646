//! Answers: the head, and the frame around a chunk.
//!
//! Owns status lines, the headers that every answer carries, and chunks (RFC 9112 section 7.1). Never decides what to answer. Header values are written with
//! control characters blanked out: whatever a value was made from, it stays one value.

use crate::write::{Overflow, Writer, hex_len};

/// How the end of an answer's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is no body and no length, as with 204 and 304.
    Empty,
    /// The body has so many bytes.
    Sized(u64),
    /// The body comes in chunks.
    Chunked,
    /// The body ends with the connection.
    Close,
}

/// What the head of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// The status, 100 to 599.
    pub status: u16,
    /// The type of the body, if there is one.
    pub content_type: Option<&'a str>,
    /// How the end of the body is told.
    pub framing: Framing,
    /// Whether the peer speaks HTTP/1.0.
    pub http10: bool,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
    /// When it is written, as [`date`](super::date::date) says; none if nobody knows.
    pub date: Option<&'a str>,
    /// The protocol that the peer has to change to: it stands in Upgrade, and Connection lists it (RFC 9110 section 7.8).
    pub upgrade: Option<&'a str>,
    /// Further headers, by name and value; a `Cache-Control` among them stands in the place of the usual one.
    pub extra: &'a [(&'a str, &'a str)],
}

/// The last chunk, and an empty trailer.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The answer to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Writes an answer's head, and says how its body must be framed: an HTTP/1.0 peer gets no chunks but the end of the
/// connection, and with [`Framing::Close`] the connection does not stay open, whatever `keep_alive` says.
pub fn head(w: &mut Writer<'_>, answer: &Head<'_>) -> Framing {
    let framing = match answer.framing {
        Framing::Chunked if answer.http10 => Framing::Close,
        framing => framing,
    };
    w.text("HTTP/1.1 ");
    w.decimal(u64::from(answer.status));
    w.byte(b' ');
    w.text(reason(answer.status));
    if let Some(date) = answer.date {
        w.text("\r\nDate: ");
        w.text(date);
    }
    if !answer.extra.iter().any(|(name, _)| *name == "Cache-Control") {
        w.text("\r\nCache-Control: no-cache, no-transform");
    }
    w.text("\r\nX-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n");
    if let Some(content_type) = answer.content_type {
        header(w, "Content-Type", content_type);
    }
    match framing {
        Framing::Sized(length) => {
            w.text("Content-Length: ");
            w.decimal(length);
            w.text("\r\n");
        }
        Framing::Chunked => w.text("Transfer-Encoding: chunked\r\n"),
        Framing::Empty | Framing::Close => {}
    }
    if let Some(protocol) = answer.upgrade {
        header(w, "Upgrade", protocol);
        w.text("Connection: upgrade\r\n");
    }
    if framing == Framing::Close || !answer.keep_alive {
        w.text("Connection: close\r\n");
    } else if answer.http10 {
        w.text("Connection: keep-alive\r\n");
    }
    for (name, value) in answer.extra {
        header(w, name, value);
    }
    w.text("\r\n");
    framing
}

/// Writes one header line; control characters in the value become spaces.
pub fn header(w: &mut Writer<'_>, name: &str, value: &str) {
    w.text(name);
    w.text(": ");
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        for byte in value.bytes() {
            w.byte(if byte.is_ascii_control() { b' ' } else { byte });
        }
    } else {
        w.text(value);
    }
    w.text("\r\n");
}

/// Writes what stands before a chunk of `len` bytes; behind the chunk comes CRLF. A chunk of 0 bytes would end the body.
pub fn chunk_start(w: &mut Writer<'_>, len: u64) {
    debug_assert!(len > 0, "an empty chunk ends the body");
    w.hex(len);
    w.text("\r\n");
}

/// Says how many bytes [`chunk`] writes for `len` bytes of data (at least 1).
#[inline]
pub const fn chunk_len(len: usize) -> usize {
    hex_len(len as u64) + 2 + len + 2
}

/// Writes one whole chunk to the start of `out`, of `len` bytes (at least 1) that `write` puts into the slice it is given; says
/// how many bytes it took: [`chunk_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
#[inline]
pub fn chunk(out: &mut [u8], len: usize, write: impl FnOnce(&mut [u8])) -> usize {
    let mut w = Writer::new(out);
    chunk_start(&mut w, len as u64);
    let start = w.len();
    write(&mut out[start..start + len]);
    out[start + len..start + len + 2].copy_from_slice(b"\r\n");
    start + len + 2
}

/// Writes what `write` writes to the start of `out`, as one chunk if `chunked` or else as it is, and says how many bytes it
/// took; for the short pieces that only one connection gets. Nothing written is no chunk: an empty one would end the body.
///
/// # Errors
/// [`Overflow`] if `out` is too short.
pub fn piece(out: &mut [u8], chunked: bool, write: impl FnOnce(&mut Writer<'_>)) -> Result<usize, Overflow> {
    // The length of the size depends on the data's: room for two digits is left, and longer data moves once.
    let guess = if chunked { 2 + 2 } else { 0 };
    let mut w = Writer::new(out.get_mut(guess..).ok_or(Overflow)?);
    write(&mut w);
    let len = w.finish()?;
    if !chunked || len == 0 {
        return Ok(len);
    }
    let out = out.get_mut(..chunk_len(len)).ok_or(Overflow)?;
    let start = hex_len(len as u64) + 2;
    if start != guess {
        out.copy_within(guess..guess + len, start);
    }
    Ok(chunk(out, len, |_| {}))
}

/// Says in English what a status means (RFC 9110 section 15, RFC 6585).
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
