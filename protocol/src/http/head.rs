//! Request heads (RFC 9112), strict where leniency lets requests be smuggled.
//!
//! Owns the meaning of the request line and of the headers the engine reads; `httparse` finds the tokens. Touches nothing
//! but the bytes given, borrows everything from them, and keeps no state: a head that is not all there is parsed again when
//! more has come, which its limit in bytes keeps cheap. Refuses whatever two parties could read differently: both lengths,
//! duplicate lengths and hosts, bare CR or LF, folded lines, unknown transfer encodings.

use core::mem::MaybeUninit;

use super::lines::{self, Lengths, ascii, first, once};
use crate::violation::Violation;

/// The most header lines of a head. Browsers send about 20, proxies add some.
pub const HEADERS_MAX: usize = 64;

/// What a request wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// PUT.
    Put,
    /// A method the engine has no use for.
    Other,
}

/// How long the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// So many bytes; 0 if the request says `Content-Length: 0`.
    Sized(u64),
    /// As many as [`Chunked`](super::body::Chunked) finds.
    Chunked,
}

/// A request head, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'b> {
    /// The method.
    pub method: Method,
    /// The path, still percent-encoded; it starts with `/`, or is `*` for OPTIONS.
    pub path: &'b str,
    /// What stands behind the first `?`; empty if there is none.
    pub query: &'b str,
    /// Whether the peer speaks HTTP/1.0, and so no chunked bodies.
    pub http10: bool,
    /// Whether the connection outlives this exchange (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// How long the body is.
    pub body: BodyLength,
    /// Whether the peer waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The headers the engine reads.
    pub headers: Known<'b>,
}

/// The headers the engine reads; all ASCII but `cookie`. Of lists on several lines the first line is kept, unless said
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // Each is the header of that name.
pub struct Known<'b> {
    /// The host the request is for: from the target if that is absolute (RFC 9112 section 3.2.2), else from Host.
    pub host: Option<&'b str>,
    pub origin: Option<&'b str>,
    pub accept: Option<&'b str>,
    pub content_type: Option<&'b str>,
    pub authorization: Option<&'b str>,
    pub if_none_match: Option<&'b str>,
    pub last_event_id: Option<&'b str>,
    pub corecast_event: Option<&'b str>,
    pub prefer: Option<&'b str>,
    /// Cookie; none if it is not UTF-8, so that a stranger's cookie breaks nothing.
    pub cookie: Option<&'b str>,
    pub accept_encoding: Option<&'b str>,
    pub upgrade: Option<&'b str>,
    pub sec_websocket_key: Option<&'b str>,
    pub sec_websocket_version: Option<&'b str>,
    pub sec_websocket_protocol: Option<&'b str>,
    /// The first offer of permessage-deflate in Sec-WebSocket-Extensions, on any line, that can be accepted.
    pub deflate: Option<crate::ws::deflate::Agreement>,
    /// X-Forwarded-For; the last line, which the nearest proxy wrote.
    pub x_forwarded_for: Option<&'b str>,
    pub access_control_request_method: Option<&'b str>,
    pub access_control_request_headers: Option<&'b str>,
    /// Whether Connection lists `upgrade`.
    pub connection_upgrade: bool,
    /// Whether Upgrade lists `websocket`, on any line.
    pub upgrade_websocket: bool,
    /// Whether Sec-WebSocket-Protocol lists `corecast.v1`, on any line.
    pub offers_corecast_v1: bool,
}

/// Reads the request head at the start of `buf`: the request, and how many bytes its head takes. `None` asks for more bytes.
///
/// # Errors
/// The [`Violation`] that names the first rule broken. A head must end within `head_bytes_max` bytes.
pub fn parse(buf: &[u8], head_bytes_max: usize) -> Result<Option<(Request<'_>, usize)>, Violation> {
    let Some((start, end)) = lines::head_bounds(buf, head_bytes_max)? else {
        return Ok(None);
    };
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    parsed
        .parse_with_uninit_headers(&buf[start..end], &mut headers)
        .map_err(|error| lines::violation(error, &buf[start..end], Violation::BadRequestLine))?;
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Violation::BadRequestLine);
    };
    let http10 = version == 0;

    let mut read = Read::default();
    for header in parsed.headers.iter() {
        read.header(header.name, header.value)?;
    }
    let Read { mut known, lengths, expect_continue, expects_more } = read;
    lengths.check(http10)?;
    known.connection_upgrade = lengths.upgrade;

    if known.host.is_none() && !http10 {
        return Err(Violation::MissingHost);
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PUT" => Method::Put,
        // Its target is an authority, which means nothing here (RFC 9112 section 3.2.3).
        "CONNECT" => return Err(Violation::BadTarget),
        _ => Method::Other,
    };
    let (authority, path, query) = split_target(target, method)?;
    if authority.is_some() {
        known.host = authority;
    }
    // An HTTP/1.0 peer's expectation is ignored (RFC 9110 section 10.1.1).
    if expects_more && !http10 {
        return Err(Violation::UnsupportedExpectation);
    }
    let body = match lengths.content_length {
        _ if lengths.chunked => BodyLength::Chunked,
        Some(length) => BodyLength::Sized(length),
        None => BodyLength::None,
    };
    let request = Request {
        method,
        path,
        query,
        http10,
        keep_alive: lengths.persistent(http10),
        body,
        expect_continue: expect_continue && !http10,
        headers: known,
    };
    Ok(Some((request, end)))
}

#[derive(Default)]
struct Read<'b> {
    known: Known<'b>,
    lengths: Lengths,
    expect_continue: bool,
    expects_more: bool,
}

impl<'b> Read<'b> {
    // The length tells nearly all names apart, so that a header nobody reads costs one comparison.
    #[inline]
    fn header(&mut self, name: &str, value: &'b [u8]) -> Result<(), Violation> {
        let known = &mut self.known;
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is("host") => {
                if known.host.is_some() {
                    return Err(Violation::DuplicateHost);
                }
                let host = ascii(value)?;
                if !valid_host(host) {
                    return Err(Violation::BadHost);
                }
                known.host = Some(host);
                Ok(())
            }
            6 if is("accept") => first(&mut known.accept, value),
            6 if is("origin") => once(&mut known.origin, value),
            6 if is("prefer") => first(&mut known.prefer, value),
            6 if is("cookie") => {
                if known.cookie.is_none() {
                    known.cookie = core::str::from_utf8(value).ok();
                }
                Ok(())
            }
            6 if is("expect") => {
                for expectation in lines::list(ascii(value)?) {
                    if expectation.eq_ignore_ascii_case("100-continue") {
                        self.expect_continue = true;
                    } else {
                        self.expects_more = true;
                    }
                }
                Ok(())
            }
            7 if is("upgrade") => {
                first(&mut known.upgrade, value)?;
                known.upgrade_websocket |= lines::list(ascii(value)?).any(|p| p.eq_ignore_ascii_case("websocket"));
                Ok(())
            }
            10 if is("connection") => self.lengths.connection(value),
            12 if is("content-type") => once(&mut known.content_type, value),
            13 if is("authorization") => once(&mut known.authorization, value),
            13 if is("if-none-match") => first(&mut known.if_none_match, value),
            13 if is("last-event-id") => once(&mut known.last_event_id, value),
            14 if is("content-length") => self.lengths.content_length(value),
            14 if is("corecast-event") => once(&mut known.corecast_event, value),
            15 if is("accept-encoding") => first(&mut known.accept_encoding, value),
            15 if is("x-forwarded-for") => {
                known.x_forwarded_for = Some(ascii(value)?);
                Ok(())
            }
            17 if is("transfer-encoding") => self.lengths.transfer_encoding(value),
            17 if is("sec-websocket-key") => once(&mut known.sec_websocket_key, value),
            21 if is("sec-websocket-version") => once(&mut known.sec_websocket_version, value),
            22 if is("sec-websocket-protocol") => {
                first(&mut known.sec_websocket_protocol, value)?;
                known.offers_corecast_v1 |= lines::list(ascii(value)?).any(|p| p == crate::ws::handshake::CORECAST_V1);
                Ok(())
            }
            24 if is("sec-websocket-extensions") => {
                let offers = ascii(value)?;
                known.deflate = known.deflate.or_else(|| crate::ws::deflate::negotiate(offers));
                Ok(())
            }
            29 if is("access-control-request-method") => once(&mut known.access_control_request_method, value),
            30 if is("access-control-request-headers") => first(&mut known.access_control_request_headers, value),
            _ => Ok(()),
        }
    }
}

/// Splits a target into authority (only if it is absolute), path and query.
fn split_target(target: &str, method: Method) -> Result<(Option<&str>, &str, &str), Violation> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Violation::BadTarget);
    }
    if target == "*" {
        return match method {
            Method::Options => Ok((None, "*", "")),
            _ => Err(Violation::BadTarget),
        };
    }
    let (authority, rest) = if target.starts_with('/') {
        (None, target)
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(Violation::BadTarget)?;
        if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(Violation::BadTarget);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if !valid_host(authority) {
            return Err(Violation::BadTarget);
        }
        (Some(authority), rest)
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok((authority, if path.is_empty() { "/" } else { path }, query))
}

/// Says whether `host` may be a host with a port: not empty, no user, nothing that ends a host.
fn valid_host(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
        })
}
