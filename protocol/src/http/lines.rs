//! Where a head ends, and that its lines are clean.
//!
//! Owns the line discipline for requests and responses alike: every line ends in CRLF, no CR or LF anywhere else, no folded
//! header, one limit on the bytes. Runs before the head is parsed, so what is found here does not depend on how the input
//! was cut; the parser behind it only ever sees whole heads.

use memchr::{memchr, memchr2};

use super::field::{is_token, split_unquoted, trim};
use crate::violation::Violation;

/// Finds the head in `buf`: where its first line starts (empty lines before it are skipped, RFC 9112 section 2.2) and where
/// its body starts. `None` if it is not all there.
pub(crate) fn head_bounds(buf: &[u8], head_bytes_max: usize) -> Result<Option<(usize, usize)>, Violation> {
    // Nothing behind the limit is looked at: a head that needs it is too large, whatever else is wrong there.
    let window = &buf[..buf.len().min(head_bytes_max)];
    let mut start = 0;
    while window[start..].starts_with(b"\r\n") {
        start += 2;
    }
    // Something that is not HTTP at all, as TLS, is told at its first byte and not after a timeout.
    if let Some(&first) = window.get(start)
        && !(first.is_ascii_graphic() || matches!(first, b'\r' | b'\n'))
    {
        return Err(Violation::BadRequestLine);
    }
    let mut line = start;
    while let Some(found) = memchr2(b'\r', b'\n', &window[line..]) {
        let end = line + found;
        match window[end..] {
            [b'\n', ..] => return Err(Violation::BareLineFeed),
            [b'\r', b'\n', ..] => {}
            [b'\r', _, ..] => return Err(Violation::BareCarriageReturn),
            _ => break,
        }
        if end == line {
            return Ok(Some((start, end + 2)));
        }
        if line != start && matches!(window[line], b' ' | b'\t') {
            return Err(Violation::FoldedHeader);
        }
        line = end + 2;
    }
    if buf.len() >= head_bytes_max {
        return Err(Violation::HeadTooLarge);
    }
    Ok(None)
}

/// Maps what the parser found wrong in a whole head to the rule it broke.
pub(crate) fn violation(error: httparse::Error, head: &[u8], first_line: Violation) -> Violation {
    match error {
        httparse::Error::HeaderName => Violation::BadHeaderName,
        httparse::Error::HeaderValue => Violation::BadHeaderValue,
        httparse::Error::TooManyHeaders => Violation::TooManyHeaders,
        httparse::Error::Version if names_other_version(head) => Violation::UnsupportedVersion,
        _ => first_line,
    }
}

/// Says whether the first line holds another version than ours where one belongs: the last of a request's three words, or a
/// response's first. Otherwise the line is simply malformed.
fn names_other_version(head: &[u8]) -> bool {
    let line = memchr(b'\r', head).map_or(head, |end| &head[..end]);
    let is_version = |word: &[u8]| {
        matches!(word, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() && !(*major == b'1' && *minor < b'2'))
    };
    let mut words = line.split(|&byte| byte == b' ');
    let (first, third) = (words.next(), words.nth(1));
    first.is_some_and(is_version) || (third.is_some_and(is_version) && words.next().is_none())
}

/// Reads a header value that must be ASCII.
pub(crate) fn ascii(value: &[u8]) -> Result<&str, Violation> {
    if !value.is_ascii() {
        return Err(Violation::HeaderNotAscii);
    }
    core::str::from_utf8(value).map_err(|_| Violation::HeaderNotAscii)
}

/// Goes through a comma-separated list of tokens (RFC 9110 section 5.6.1); empty members are skipped.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Stores a header that may stand once.
pub(crate) fn once<'b>(slot: &mut Option<&'b str>, value: &'b [u8]) -> Result<(), Violation> {
    if slot.is_some() {
        return Err(Violation::DuplicateHeader);
    }
    *slot = Some(ascii(value)?);
    Ok(())
}

/// Stores the first line of a header that may stand on several.
pub(crate) fn first<'b>(slot: &mut Option<&'b str>, value: &'b [u8]) -> Result<(), Violation> {
    let value = ascii(value)?;
    slot.get_or_insert(value);
    Ok(())
}

/// What the headers about the connection and the body's length say: the same reading for both sides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lengths {
    pub(crate) content_length: Option<u64>,
    /// Transfer-Encoding ends with `chunked`.
    pub(crate) chunked: bool,
    /// It names another coding.
    pub(crate) other_coding: bool,
    /// It cannot be.
    pub(crate) bad_coding: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
}

impl Lengths {
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.content_length.is_some() {
            return Err(Violation::DuplicateContentLength);
        }
        let length = crate::write::parse_decimal(value).ok_or(Violation::BadContentLength)?;
        self.content_length = Some(length);
        Ok(())
    }

    /// Reads one line of Transfer-Encoding.
    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) {
        for coding in split_unquoted(value, b',').map(trim) {
            let name = coding.split(|&byte| byte == b';').next().map_or(coding, trim);
            let chunked = name.eq_ignore_ascii_case(b"chunked");
            // It has no parameters, and stands once and last (RFC 9112 sections 6.1 and 7).
            self.bad_coding |= self.chunked || !is_token(name) || chunked && name.len() != coding.len();
            self.other_coding |= !chunked;
            self.chunked |= chunked;
        }
    }

    /// Reads one line of Connection; options that nobody knows mean nothing.
    pub(crate) fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// Checks that the lengths do not contradict each other (RFC 9112 section 6.3).
    pub(crate) fn check(&self, http10: bool) -> Result<(), Violation> {
        if !(self.chunked || self.bad_coding || self.other_coding) {
            return Ok(());
        }
        if self.content_length.is_some() {
            return Err(Violation::BothLengths);
        }
        if http10 {
            return Err(Violation::TransferEncodingOnHttp10);
        }
        // Who does not end with `chunked` has not said where the body ends (RFC 9112 section 6.3). A coding before it is one that
        // we do not have (section 6.1).
        if self.bad_coding || !self.chunked {
            return Err(Violation::BadTransferEncoding);
        }
        if self.other_coding {
            return Err(Violation::UnsupportedTransferEncoding);
        }
        Ok(())
    }

    /// Says whether the connection outlives this exchange (RFC 9112 section 9.3).
    pub(crate) fn persistent(&self, http10: bool) -> bool {
        !self.close && (!http10 || self.keep_alive)
    }
}
