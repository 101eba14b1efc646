//! A header that is a list, on however many lines it stands (RFC 9110 sections 5.3 and 5.6.1).
//!
//! Owns the way from a head to the members of a list. Nothing is copied: the first line is known, and the others are looked for
//! only if there are any and somebody asks.

use memchr::memmem;

/// A header of a request: its lines, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Field<'b> {
    name: &'static str,
    /// The value of the first line.
    first: Option<&'b [u8]>,
    /// The head from the second line of that name on; empty if there is one line.
    more: &'b [u8],
}

impl<'b> Field<'b> {
    /// Makes a field that stands on one line.
    pub const fn line(value: &'b [u8]) -> Self {
        Self { name: "", first: Some(value), more: &[] }
    }

    /// Finds the lines of the header `name` among those of `block`, each of which ends in CRLF.
    pub fn within(name: &'static str, block: &'b [u8]) -> Self {
        let mut field = Self { name, first: None, more: block };
        if field.values().next().is_none() {
            field = Self::default();
        }
        field
    }

    /// Takes the next line of the header `name`, which `rest` of the head begins with.
    pub(crate) fn add(&mut self, name: &'static str, value: &'b [u8], rest: &'b [u8]) {
        if !self.is_given() {
            *self = Self { name, first: Some(value), more: &[] };
        } else if self.more.is_empty() {
            self.more = rest;
        }
    }

    /// Says whether the header is there, whatever its value.
    pub const fn is_given(&self) -> bool {
        self.first.is_some() || !self.more.is_empty()
    }

    /// Goes through the values, a line each, without the white space around them.
    pub fn values(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let (name, mut more) = (self.name, self.more);
        let others = core::iter::from_fn(move || {
            while !more.is_empty() {
                let end = memmem::find(more, b"\r\n").unwrap_or(more.len());
                let line = &more[..end];
                more = more.get(end + 2..).unwrap_or_default();
                if let Some((found, [b':', value @ ..])) = line.split_at_checked(name.len())
                    && found.eq_ignore_ascii_case(name.as_bytes())
                {
                    return Some(trim(value));
                }
            }
            None
        });
        self.first.into_iter().chain(others)
    }

    /// Goes through the members of the list on all lines; empty ones are skipped, and a comma inside a quoted string ends none.
    pub fn members(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        self.values().flat_map(|value| split_unquoted(value, b',')).map(trim).filter(|member| !member.is_empty())
    }
}

/// Splits at `separator` wherever it does not stand inside a quoted string (RFC 9110 section 5.6.4).
pub(crate) fn split_unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.iter().position(|&byte| {
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

/// Takes the white space off both ends (RFC 9110 section 5.6.3).
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// Says whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Says whether `text` is a token: at least one byte, and only such bytes.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}
