//! Entity tags and the conditions on them (RFC 9110 sections 8.8.3 and 13.1).
//!
//! Owns the grammar and the two comparisons. What the tags of a resource are, and what follows from a condition, is the engine's.

use super::field::Field;

/// Goes through the entity tags of a list: what stands between the quotes, and whether the tag is weak. A comma may stand in a tag,
/// and so may bytes beyond ASCII; what is no tag is passed over.
pub fn tags<'b>(field: Field<'b>) -> impl Iterator<Item = (&'b [u8], bool)> {
    field.values().flat_map(|value| {
        let mut rest = value;
        core::iter::from_fn(move || {
            loop {
                while let [b' ' | b'\t' | b',', after @ ..] = rest {
                    rest = after;
                }
                if rest.is_empty() {
                    return None;
                }
                let (weak, quoted) = match rest {
                    [b'W', b'/', after @ ..] => (true, after),
                    quoted => (false, quoted),
                };
                if let [b'"', inner @ ..] = quoted
                    && let Some(end) = inner.iter().position(|&byte| byte == b'"')
                {
                    let (tag, after) = (&inner[..end], &inner[end + 1..]);
                    rest = after;
                    if tag.iter().all(|&byte| is_tag_byte(byte)) && ends_here(after) {
                        return Some((tag, weak));
                    }
                }
                let end = rest.iter().position(|&byte| byte == b',').unwrap_or(rest.len());
                rest = &rest[end..];
            }
        })
    })
}

/// Says whether a condition is `*`: whatever there is.
pub fn is_any(field: Field<'_>) -> bool {
    let mut members = field.members();
    members.next() == Some(b"*") && members.next().is_none()
}

/// What a condition is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current<'b> {
    /// The entity tag, without its quotes.
    pub tag: &'b [u8],
    /// There is something that `*` stands for.
    pub exists: bool,
}

/// Says whether If-Match holds: strong tags only (RFC 9110 section 13.1.1). Without the header it does.
pub fn if_match(field: Field<'_>, current: Current<'_>) -> bool {
    !field.is_given() || current.exists && is_any(field) || tags(field).any(|(tag, weak)| !weak && tag == current.tag)
}

/// Says whether If-None-Match holds: of weak tags, too, there must be none (RFC 9110 section 13.1.2). Without the header it does.
pub fn if_none_match(field: Field<'_>, current: Current<'_>) -> bool {
    !(current.exists && is_any(field) || tags(field).any(|(tag, _)| tag == current.tag))
}

/// Says whether a tag's end is followed by that of its member.
fn ends_here(after: &[u8]) -> bool {
    let next = after.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    matches!(next, None | Some(b','))
}

/// What may stand in a tag: anything visible but the quote, and beyond ASCII anything.
const fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff)
}
