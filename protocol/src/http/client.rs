//! The client's side of HTTP: a request written, a response head read.
//!
//! Owns what `corecast pub`, `corecast sub` and the load generator need, and no more. As strict as the server's side.

use core::mem::MaybeUninit;

use super::head::HEADERS_MAX;
use super::lines::{self, Lengths, first};
use super::response::header;
use crate::violation::Violation;
use crate::write::Writer;

/// How the end of a response's body is told (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplyBody {
    /// There is no body: 1xx, 204, 304. The answer to HEAD has none either, whatever this says.
    None,
    /// So many bytes.
    Sized(u64),
    /// As many as [`Chunked`](super::body::Chunked) finds.
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
}

/// A response head, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The header of that name, where nothing else is said.
pub struct Reply<'b> {
    /// The status, 100 to 999.
    pub status: u16,
    /// Whether the server speaks HTTP/1.0.
    pub http10: bool,
    /// Whether the connection outlives this exchange.
    pub keep_alive: bool,
    /// How the end of the body is told.
    pub body: ReplyBody,
    pub content_type: Option<&'b str>,
    pub etag: Option<&'b str>,
    pub retry_after: Option<&'b str>,
    pub corecast_cursor: Option<&'b str>,
    pub sec_websocket_accept: Option<&'b str>,
    pub sec_websocket_protocol: Option<&'b str>,
    pub sec_websocket_extensions: Option<&'b str>,
    /// Whether Upgrade lists `websocket`.
    pub upgrade_websocket: bool,
    /// Whether Connection lists `upgrade`.
    pub connection_upgrade: bool,
}

/// Writes a request's head; `body_len` becomes Content-Length.
pub fn request(
    w: &mut Writer<'_>,
    method: &str,
    target: &str,
    host: &str,
    extra: &[(&str, &str)],
    body_len: Option<usize>,
) {
    w.text(method);
    w.byte(b' ');
    w.text(target);
    w.text(" HTTP/1.1\r\n");
    header(w, "Host", host);
    for (name, value) in extra {
        header(w, name, value);
    }
    if let Some(length) = body_len {
        w.text("Content-Length: ");
        w.decimal(length as u64);
        w.text("\r\n");
    }
    w.text("\r\n");
}

/// Reads the response head at the start of `buf`: the response, and how many bytes its head takes. `None` asks for more.
///
/// # Errors
/// The [`Violation`] that names the first rule broken. A head must end within `head_bytes_max` bytes.
pub fn parse(buf: &[u8], head_bytes_max: usize) -> Result<Option<(Reply<'_>, usize)>, Violation> {
    let bounds = lines::head_bounds(buf, head_bytes_max).map_err(|violation| match violation {
        Violation::BadRequestLine => Violation::BadStatusLine,
        other => other,
    })?;
    let Some((start, end)) = bounds else {
        return Ok(None);
    };
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, &buf[start..end], &mut headers)
        .map_err(|error| lines::violation(error, &buf[start..end], Violation::BadStatusLine))?;
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err(Violation::BadStatusLine);
    };
    if status < 100 {
        return Err(Violation::BadStatusLine);
    }
    let http10 = version == 0;
    let mut lengths = Lengths::default();
    let mut reply = Reply {
        status,
        http10,
        keep_alive: false,
        body: ReplyBody::None,
        content_type: None,
        etag: None,
        retry_after: None,
        corecast_cursor: None,
        sec_websocket_accept: None,
        sec_websocket_protocol: None,
        sec_websocket_extensions: None,
        upgrade_websocket: false,
        connection_upgrade: false,
    };
    for httparse::Header { name, value } in parsed.headers.iter() {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is("etag") => first(&mut reply.etag, value)?,
            7 if is("upgrade") => {
                reply.upgrade_websocket |= lines::list(value).any(|p| p.eq_ignore_ascii_case(b"websocket"));
            }
            10 if is("connection") => lengths.connection(value),
            11 if is("retry-after") => first(&mut reply.retry_after, value)?,
            12 if is("content-type") => first(&mut reply.content_type, value)?,
            14 if is("content-length") => lengths.content_length(value)?,
            15 if is("corecast-cursor") => first(&mut reply.corecast_cursor, value)?,
            17 if is("transfer-encoding") => lengths.transfer_encoding(value),
            20 if is("sec-websocket-accept") => lines::once(&mut reply.sec_websocket_accept, value)?,
            22 if is("sec-websocket-protocol") => lines::once(&mut reply.sec_websocket_protocol, value)?,
            24 if is("sec-websocket-extensions") => first(&mut reply.sec_websocket_extensions, value)?,
            _ => {}
        }
    }
    lengths.check(http10)?;
    reply.connection_upgrade = lengths.upgrade;
    reply.body = match lengths.content_length {
        _ if status < 200 || status == 204 || status == 304 => ReplyBody::None,
        _ if lengths.chunked => ReplyBody::Chunked,
        Some(length) => ReplyBody::Sized(length),
        None => ReplyBody::UntilClose,
    };
    reply.keep_alive = lengths.persistent(http10) && reply.body != ReplyBody::UntilClose;
    Ok(Some((reply, end)))
}
