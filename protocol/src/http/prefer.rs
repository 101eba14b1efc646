//! What a client would like: the headers Accept, Accept-Encoding (RFC 9110 section 12.5) and Prefer (RFC 7240).
//!
//! Owns the questions the engine has: is it an `EventSource`, does it read gzip, and how long would it wait. Lenient, as both are wishes: what
//! makes no sense is passed over and never an error.

use crate::write::parse_decimal;

/// Says how many seconds the client would wait for an answer: the `wait` of a Prefer header (RFC 7240 section 4.3). The first
/// one counts (section 2), numbers too large are `u32::MAX`; none if there is none or it is not a number.
pub fn wait_s(prefer: &str) -> Option<u32> {
    let mut waits = split_unquoted(prefer, b',').filter_map(|preference| {
        // Parameters behind the preference mean nothing here.
        let preference = split_unquoted(preference, b';').next()?;
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        trim(name).eq_ignore_ascii_case("wait").then_some(value)
    });
    let value = unquote(trim(waits.next()?));
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = parse_decimal(value.as_bytes()).and_then(|seconds| u32::try_from(seconds).ok());
    Some(seconds.unwrap_or(u32::MAX))
}

/// Says whether an Accept header names `text/event-stream`, and not with the weight 0 that refuses it (RFC 9110 section 12.4.2).
/// `text/*` and `*/*` do not name it: every browser and every curl sends those.
pub fn accepts_event_stream(accept: &str) -> bool {
    is_named(accept, "text/event-stream") == Some(true)
}

/// Says whether an Accept-Encoding header names `gzip`, or its old name `x-gzip`, and not with the weight 0 (RFC 9110 sections
/// 8.4.1.3 and 12.5.3). `*` does not name it: who wants it says so.
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    is_named(accept_encoding, "gzip").or_else(|| is_named(accept_encoding, "x-gzip")) == Some(true)
}

/// Says whether a list with weights names a thing, and if so whether any of its weights is not 0.
fn is_named(list: &str, wanted: &str) -> Option<bool> {
    let weights = split_unquoted(list, b',').filter_map(|member| {
        let mut parts = split_unquoted(member, b';').map(trim);
        parts.next().filter(|name| name.eq_ignore_ascii_case(wanted))?;
        let mut weights = parts.filter_map(|part| {
            let (name, value) = part.split_once('=')?;
            trim(name).eq_ignore_ascii_case("q").then_some(trim(value))
        });
        Some(!weights.next().is_some_and(is_zero))
    });
    weights.reduce(|any, weight| any | weight)
}

/// Says whether a weight is zero: `0`, or `0.` and zeros.
fn is_zero(weight: &str) -> bool {
    weight.strip_prefix('0').is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        && weight.bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

/// Splits at `separator` wherever it does not stand inside a quoted string (RFC 9110 section 5.6.4).
fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.bytes().position(|byte| {
            if quoted {
                let closes = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                quoted = !closes;
                return false;
            }
            quoted = byte == b'"';
            byte == separator
        });
        match end {
            Some(end) => {
                rest = Some(&text[end + 1..]);
                Some(&text[..end])
            }
            None => rest.take(),
        }
    })
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Takes the quotes off a quoted string; a number needs no escapes, so there are none to undo.
fn unquote(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
