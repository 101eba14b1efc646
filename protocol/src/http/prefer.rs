//! What a client would like: the headers Accept, Accept-Encoding (RFC 9110 section 12.5) and Prefer (RFC 7240).
//!
//! Owns the questions the engine has: is it an `EventSource`, is it a browser that shows pages, does it read gzip, and how long would
//! it wait. Lenient, as all are wishes: what makes no sense is passed over and never an error.

use super::field::{Field, split_unquoted, trim};
use crate::write::parse_decimal;

/// Says how many seconds the client would wait for an answer: the `wait` of a Prefer header (RFC 7240 section 4.3). The first
/// one counts, on whatever line it stands (section 2), numbers too large are `u32::MAX`; none if there is none or it is not a number.
pub fn wait_s(prefer: Field<'_>) -> Option<u32> {
    let mut waits = prefer.members().filter_map(|preference| {
        // Parameters behind the preference mean nothing here.
        let preference = split_unquoted(preference, b';').next()?;
        let (name, value) = split_once(preference, b'=').unwrap_or((preference, b""));
        trim(name).eq_ignore_ascii_case(b"wait").then_some(value)
    });
    let value = unquote(trim(waits.next()?));
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = parse_decimal(value).and_then(|seconds| u32::try_from(seconds).ok());
    Some(seconds.unwrap_or(u32::MAX))
}

/// Says whether an Accept header names `text/event-stream`, and not with the weight 0 that refuses it (RFC 9110 section 12.4.2).
/// `text/*` and `*/*` do not name it: every browser and every curl sends those.
pub fn accepts_event_stream(accept: Field<'_>) -> bool {
    is_named(accept, b"text/event-stream") == Some(true)
}

/// Says whether an Accept header names `text/html`, likewise: then there is somebody to look at a page.
pub fn accepts_html(accept: Field<'_>) -> bool {
    is_named(accept, b"text/html") == Some(true)
}

/// Says whether an Accept-Encoding header names `gzip`, or its old name `x-gzip`, and not with the weight 0 (RFC 9110 sections
/// 8.4.1.3 and 12.5.3). `*` does not name it: who wants it says so.
pub fn accepts_gzip(accept_encoding: Field<'_>) -> bool {
    is_named(accept_encoding, b"gzip").or_else(|| is_named(accept_encoding, b"x-gzip")) == Some(true)
}

/// Says whether Content-Type is `wanted`, whatever its parameters and its case (RFC 9110 section 8.3.1).
pub fn is_type(content_type: &str, wanted: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("");
    essence.trim_matches([' ', '\t']).eq_ignore_ascii_case(wanted)
}

/// Says whether a list with weights names a thing, and if so whether any of its weights is not 0.
fn is_named(list: Field<'_>, wanted: &[u8]) -> Option<bool> {
    let weights = list.members().filter_map(|member| {
        let mut parts = split_unquoted(member, b';').map(trim);
        parts.next().filter(|name| name.eq_ignore_ascii_case(wanted))?;
        let mut weights = parts.filter_map(|part| {
            let (name, value) = split_once(part, b'=')?;
            trim(name).eq_ignore_ascii_case(b"q").then_some(trim(value))
        });
        Some(!weights.next().is_some_and(is_zero))
    });
    weights.reduce(|any, weight| any | weight)
}

/// Says whether a weight is zero: `0`, or `0.` and zeros.
fn is_zero(weight: &[u8]) -> bool {
    matches!(weight, [b'0'] | [b'0', b'.', ..]) && weight.iter().all(|byte| matches!(byte, b'0' | b'.'))
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Takes the quotes off a quoted string; a number needs no escapes, so there are none to undo.
fn unquote(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}
