//! `LIKE`: patterns in which `_` is a character and `%` any number of them.

/// How many steps may be taken for all `LIKE` of a selector on one record. A step is a byte compared, or four if one of the strings has escapes, which
/// are read again each time. Enough for any pattern on any string if each is at most 360 bytes (180 with escapes), and for strings of 100 KB where nobody
/// seeks trouble. Beyond that a `LIKE` is unknown.
pub const LIKE_STEPS_MAX: u32 = 1 << 17;

/// Steps for a byte of a string that has to be unescaped.
pub(super) const ESCAPED_STEPS: u32 = 4;

/// What a part of a pattern stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// One character.
    One,
    /// Any number of characters.
    Any,
}

/// The parts of a pattern.
#[derive(Clone, Debug)]
struct Parts<P> {
    bytes: P,
    /// 0 if there is none.
    escape: u8,
}

impl<P: Iterator<Item = u8>> Iterator for Parts<P> {
    type Item = Part;

    #[inline]
    fn next(&mut self) -> Option<Part> {
        let byte = self.bytes.next()?;
        Some(match byte {
            byte if byte == self.escape && byte != 0 => Part::Byte(self.bytes.next()?),
            b'_' => Part::One,
            b'%' => Part::Any,
            byte => Part::Byte(byte),
        })
    }
}

/// Says whether the escape character stands only before `%`, `_` and itself.
pub(super) fn is_sound(mut pattern: impl Iterator<Item = u8>, escape: u8) -> bool {
    while let Some(byte) = pattern.next() {
        if byte == escape {
            match pattern.next() {
                Some(escaped) if escaped == escape || matches!(escaped, b'%' | b'_') => {}
                _ => return false,
            }
        }
    }
    true
}

/// Says whether a text is like a pattern; `None` if `steps` were too few to say, of which each byte costs `cost`.
///
/// What stands before the last `%` that was met is settled: where the rest does not fit, only the text behind that `%` begins one character later.
pub(super) fn like<P, T>(text: T, pattern: P, escape: u8, cost: u32, steps: &mut u32) -> Option<bool>
where
    P: Iterator<Item = u8> + Clone,
    T: Iterator<Item = u8> + Clone,
{
    let mut text = text;
    let mut parts = Parts { bytes: pattern, escape };
    let mut last_any: Option<(T, Parts<P>)> = None;
    loop {
        *steps = steps.checked_sub(cost)?;
        let fits = match parts.next() {
            Some(Part::Any) => {
                // At the end of a pattern it takes all that is left.
                if parts.clone().next().is_none() {
                    return Some(true);
                }
                last_any = Some((text.clone(), parts.clone()));
                continue;
            }
            Some(Part::One) => next_character(&mut text),
            Some(Part::Byte(wanted)) => text.next() == Some(wanted),
            None if text.next().is_none() => return Some(true),
            None => false,
        };
        if fits {
            continue;
        }
        let Some((begin, behind)) = &mut last_any else { return Some(false) };
        if !next_character(begin) {
            return Some(false);
        }
        (text, parts) = (begin.clone(), behind.clone());
    }
}

/// Passes one character; false if there is none.
fn next_character(text: &mut (impl Iterator<Item = u8> + Clone)) -> bool {
    if text.next().is_none() {
        return false;
    }
    loop {
        let mut ahead = text.clone();
        if !matches!(ahead.next(), Some(0x80..=0xbf)) {
            return true;
        }
        *text = ahead;
    }
}
