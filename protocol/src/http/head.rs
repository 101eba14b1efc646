//! Request heads (RFC 9112), strict where leniency lets requests be smuggled.
//!
//! Owns the meaning of the request line and of the headers the engine reads; `httparse` finds the tokens. Touches nothing
//! but the bytes given, borrows everything from them, and keeps no state: a head that is not all there is parsed again when
//! more has come, which its limit in bytes keeps cheap. Refuses whatever two parties could read differently: both lengths,
//! duplicate lengths and hosts, bare CR or LF, folded lines, unknown transfer encodings. Of everything else it asks no more than
//! that it can be told from its neighbours: a value that means nothing here may hold any text.

use core::mem::MaybeUninit;

use memchr::memchr;

use super::field::{Field, is_token, is_token_byte};
use super::lines::{self, Lengths, ascii, once};
use super::target;
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
    /// PATCH.
    Patch,
    /// TRACE.
    Trace,
    /// A method that nobody here knows.
    Other,
}

impl Method {
    /// Returns its name; one that is not known here is `other`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Other => "other",
        }
    }
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

/// The headers the engine reads. What stands once and is no ASCII is left out where it means nothing, and refused where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // Each is the header of that name.
pub struct Known<'b> {
    /// The host the request is for: from the target if that is absolute (RFC 9112 section 3.2.2), else from Host.
    pub host: Option<&'b str>,
    pub origin: Option<&'b str>,
    pub accept: Field<'b>,
    pub content_type: Option<&'b str>,
    pub authorization: Option<&'b str>,
    pub corecast_key: Option<&'b str>,
    pub if_match: Field<'b>,
    pub if_none_match: Field<'b>,
    pub last_event_id: Option<&'b str>,
    pub corecast_event: Option<&'b str>,
    pub corecast_message_key: Option<&'b str>,
    pub corecast_op: Option<&'b str>,
    pub corecast_producer: Option<&'b str>,
    pub corecast_number: Option<&'b str>,
    pub prefer: Field<'b>,
    /// Cookie; none if it is not UTF-8, so that a stranger's cookie breaks nothing.
    pub cookie: Option<&'b str>,
    pub accept_encoding: Field<'b>,
    pub sec_websocket_key: Option<&'b str>,
    pub sec_websocket_version: Option<&'b str>,
    pub sec_websocket_protocol: Field<'b>,
    pub sec_websocket_extensions: Field<'b>,
    pub forwarded: Field<'b>,
    pub x_forwarded_for: Field<'b>,
    pub x_forwarded_proto: Field<'b>,
    pub access_control_request_method: Option<&'b str>,
    /// Whether Connection lists `upgrade`, on any line.
    pub connection_upgrade: bool,
    /// Whether Upgrade lists `websocket`, on any line.
    pub upgrade_websocket: bool,
}

/// Reads the request head at the start of `buf`: the request, and how many bytes its head takes. `None` asks for more bytes.
///
/// # Errors
/// The [`Violation`] that names the first rule broken. A head must end within `head_bytes_max` bytes.
pub fn parse(buf: &[u8], head_bytes_max: usize) -> Result<Option<(Request<'_>, usize)>, Violation> {
    let bounds = lines::head_bounds(buf, head_bytes_max).map_err(|violation| match violation {
        Violation::HeadTooLarge => too_large(&buf[..head_bytes_max]),
        other => other,
    })?;
    let Some((start, end)) = bounds else {
        return Ok(None);
    };
    let head = &buf[start..end];
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut headers) {
        Ok(_) => {}
        Err(httparse::Error::Version) => return later_version(head, end),
        Err(error) => return Err(lines::violation(error, head, Violation::BadRequestLine)),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Violation::BadRequestLine);
    };
    understood(head, method, target, version == 0, parsed.headers).map(|request| Some((request, end)))
}

/// Says whether what was received asks for a head only, whatever else is wrong with it: its answer has no body (RFC 9110 section
/// 9.3.2).
pub fn is_for_head(buf: &[u8]) -> bool {
    let mut rest = buf;
    while let [b'\r', b'\n', after @ ..] = rest {
        rest = after;
    }
    rest.starts_with(b"HEAD ")
}

/// Says what is too large of a head that does not end within its limit: the target, or even the method (RFC 9112 section 3), or
/// the header section.
fn too_large(window: &[u8]) -> Violation {
    let mut line = window;
    while let [b'\r', b'\n', after @ ..] = line {
        line = after;
    }
    if line.len() < 2 || memchr(b'\r', line).is_some() {
        return Violation::HeadTooLarge;
    }
    let method = memchr(b' ', line).unwrap_or(line.len());
    if !line[..method].iter().all(|&byte| is_token_byte(byte)) {
        return Violation::BadRequestLine;
    }
    match line.get(method + 1..) {
        None => Violation::MethodTooLong,
        Some(target) if memchr(b' ', target).is_none() => Violation::TargetTooLong,
        Some(_) => Violation::BadRequestLine,
    }
}

/// Reads a head of a later HTTP/1, as if it were HTTP/1.1 (RFC 9110 section 2.5); any other version is refused.
#[cold]
fn later_version(head: &[u8], end: usize) -> Result<Option<(Request<'_>, usize)>, Violation> {
    let refused = lines::violation(httparse::Error::Version, head, Violation::BadRequestLine);
    let line_end = memchr(b'\r', head).ok_or(refused)?;
    let line = core::str::from_utf8(&head[..line_end]).map_err(|_| refused)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(refused);
    };
    if !matches!(version.as_bytes(), [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9']) {
        return Err(refused);
    }
    if !is_token(method.as_bytes()) || target.is_empty() {
        return Err(Violation::BadRequestLine);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let (_, headers) = match httparse::parse_headers(&head[line_end + 2..], &mut headers) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) => return Err(Violation::BadRequestLine),
        Err(error) => return Err(lines::violation(error, head, Violation::BadRequestLine)),
    };
    understood(head, method, target, false, headers).map(|request| Some((request, end)))
}

/// Makes a request of the words that were found.
#[inline]
fn understood<'b>(
    head: &'b [u8],
    method: &str,
    target: &'b str,
    http10: bool,
    headers: &[httparse::Header<'b>],
) -> Result<Request<'b>, Violation> {
    let mut read = Read::default();
    for header in headers {
        // The name is a part of the head.
        let at = header.name.as_ptr() as usize - head.as_ptr() as usize;
        read.header(header.name, header.value, &head[at..])?;
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
        "PATCH" => Method::Patch,
        "TRACE" => Method::Trace,
        // Its target is an authority, which means nothing here (RFC 9112 section 3.2.3).
        "CONNECT" => return Err(Violation::BadTarget),
        _ => Method::Other,
    };
    let (authority, path, query) = target::split(target, method)?;
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
    Ok(Request {
        method,
        path,
        query,
        http10,
        keep_alive: lengths.persistent(http10),
        body,
        expect_continue: expect_continue && !http10,
        headers: known,
    })
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
    fn header(&mut self, name: &str, value: &'b [u8], rest: &'b [u8]) -> Result<(), Violation> {
        let known = &mut self.known;
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is("host") => {
                if known.host.is_some() {
                    return Err(Violation::DuplicateHost);
                }
                let host = ascii(value)?;
                if !target::is_host(host) {
                    return Err(Violation::BadHost);
                }
                known.host = Some(host);
                Ok(())
            }
            6 if is("accept") => {
                known.accept.add("accept", value, rest);
                Ok(())
            }
            6 if is("origin") => once(&mut known.origin, value),
            6 if is("prefer") => {
                known.prefer.add("prefer", value, rest);
                Ok(())
            }
            6 if is("cookie") => {
                if known.cookie.is_none() {
                    known.cookie = core::str::from_utf8(value).ok();
                }
                Ok(())
            }
            6 if is("expect") => {
                for expectation in lines::list(value) {
                    if expectation.eq_ignore_ascii_case(b"100-continue") {
                        self.expect_continue = true;
                    } else {
                        self.expects_more = true;
                    }
                }
                Ok(())
            }
            7 if is("upgrade") => {
                known.upgrade_websocket |= lines::list(value).any(|p| p.eq_ignore_ascii_case(b"websocket"));
                Ok(())
            }
            8 if is("if-match") => {
                known.if_match.add("if-match", value, rest);
                Ok(())
            }
            9 if is("forwarded") => {
                known.forwarded.add("forwarded", value, rest);
                Ok(())
            }
            10 if is("connection") => {
                self.lengths.connection(value);
                Ok(())
            }
            11 if is("corecast-op") => once(&mut known.corecast_op, value),
            12 if is("corecast-key") => self.once_if_text(value, |known| &mut known.corecast_key),
            12 if is("content-type") => self.once_if_text(value, |known| &mut known.content_type),
            13 if is("authorization") => self.once_if_text(value, |known| &mut known.authorization),
            13 if is("if-none-match") => {
                known.if_none_match.add("if-none-match", value, rest);
                Ok(())
            }
            13 if is("last-event-id") => once(&mut known.last_event_id, value),
            14 if is("content-length") => self.lengths.content_length(value),
            14 if is("corecast-event") => once(&mut known.corecast_event, value),
            20 if is("corecast-message-key") => once(&mut known.corecast_message_key, value),
            15 if is("corecast-number") => once(&mut known.corecast_number, value),
            15 if is("accept-encoding") => {
                known.accept_encoding.add("accept-encoding", value, rest);
                Ok(())
            }
            15 if is("x-forwarded-for") => {
                known.x_forwarded_for.add("x-forwarded-for", value, rest);
                Ok(())
            }
            17 if is("corecast-producer") => once(&mut known.corecast_producer, value),
            17 if is("transfer-encoding") => {
                self.lengths.transfer_encoding(value);
                Ok(())
            }
            17 if is("x-forwarded-proto") => {
                known.x_forwarded_proto.add("x-forwarded-proto", value, rest);
                Ok(())
            }
            17 if is("sec-websocket-key") => self.once_if_text(value, |known| &mut known.sec_websocket_key),
            21 if is("sec-websocket-version") => self.once_if_text(value, |known| &mut known.sec_websocket_version),
            22 if is("sec-websocket-protocol") => {
                known.sec_websocket_protocol.add("sec-websocket-protocol", value, rest);
                Ok(())
            }
            24 if is("sec-websocket-extensions") => {
                known.sec_websocket_extensions.add("sec-websocket-extensions", value, rest);
                Ok(())
            }
            29 if is("access-control-request-method") => {
                self.once_if_text(value, |known| &mut known.access_control_request_method)
            }
            _ => Ok(()),
        }
    }

    /// Stores a header that may stand once; what is no ASCII is as good as a value that nobody knows.
    fn once_if_text(
        &mut self,
        value: &'b [u8],
        slot: impl for<'k> FnOnce(&'k mut Known<'b>) -> &'k mut Option<&'b str>,
    ) -> Result<(), Violation> {
        let slot = slot(&mut self.known);
        if slot.is_some() {
            return Err(Violation::DuplicateHeader);
        }
        *slot = Some(ascii(value).unwrap_or(STRANGE));
        Ok(())
    }
}

/// Stands for a value that is no ASCII, and so none of those that anybody knows.
const STRANGE: &str = "?";
