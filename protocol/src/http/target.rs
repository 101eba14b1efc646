//! What a request is for: the target of its first line (RFC 9112 section 3.2), and the host (RFC 3986 section 3.2.2).
//!
//! Owns the grammar of both. Never decodes: a path stays as it came.

use core::net::Ipv6Addr;

use super::head::Method;
use crate::violation::Violation;

/// Splits a target into authority (only if it is absolute), path and query.
pub(super) fn split(target: &str, method: Method) -> Result<(Option<&str>, &str, &str), Violation> {
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
        if !is_host(authority) {
            return Err(Violation::BadTarget);
        }
        (Some(authority), rest)
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok((authority, if path.is_empty() { "/" } else { path }, query))
}

/// Says whether `host` is a host, with or without a port: a name, an IPv4 address, or an IPv6 or later one in brackets. A host has
/// at least one byte, and nobody's name stands before it.
pub(super) fn is_host(host: &str) -> bool {
    let (name, port) = if let Some(literal) = host.strip_prefix('[') {
        let Some((address, port)) = literal.split_once(']') else { return false };
        if !is_address(address) {
            return false;
        }
        (None, port)
    } else {
        let end = host.find(':').unwrap_or(host.len());
        let (name, port) = host.split_at(end);
        (Some(name), port)
    };
    let sound_port = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    sound_port && name.is_none_or(is_name)
}

/// Says whether what stands between brackets is an address: IPv6, or one of the future that says its version.
fn is_address(text: &str) -> bool {
    if let Some(future) = text.strip_prefix(['v', 'V']) {
        return future.split_once('.').is_some_and(|(version, address)| {
            !version.is_empty()
                && version.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !address.is_empty()
                && address.bytes().all(|byte| is_plain(byte) || byte == b':')
        });
    }
    text.parse::<Ipv6Addr>().is_ok()
}

/// Says whether a name can be registered: `reg-name`, and not empty.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let sound = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            byte => is_plain(byte),
        };
        if !sound {
            return false;
        }
    }
    !name.is_empty()
}

/// What needs no escape in a host: `unreserved` and `sub-delims`.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}
