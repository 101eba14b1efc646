//! The key of a record: the value of one of its members, as text.

use core::fmt;

use super::{Cursor, get};

/// The longest key in bytes, as of topics.
pub const KEY_BYTES_MAX: usize = crate::topic::TOPIC_BYTES_MAX;

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The record has no such member.
    Missing,
    /// The member is null.
    Null,
    /// The member is an object or an array.
    NotPlain,
    /// The member is a number with a fraction or an exponent.
    NotInteger,
    /// The text is empty.
    Empty,
    /// The text is longer than [`KEY_BYTES_MAX`].
    TooLong,
    /// The text has a control character, or is not UTF-8.
    Character,
}

impl KeyError {
    /// Returns what is wrong, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            KeyError::Missing => "the record has no key: the member is missing",
            KeyError::Null => "the record has no key: the member is null",
            KeyError::NotPlain => "a key is a string, an integer, true or false, and not an object or an array",
            KeyError::NotInteger => "a key is a string or an integer, and not a number with a fraction or an exponent",
            KeyError::Empty => "a key is not empty",
            KeyError::TooLong => "a key has at most 255 bytes",
            KeyError::Character => "a key has no control characters",
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for KeyError {}

/// Says whether a text may be a key: 1 to [`KEY_BYTES_MAX`] bytes, no control characters.
///
/// # Errors
/// Why it may not.
pub fn check_key(key: &str) -> Result<(), KeyError> {
    match key.len() {
        0 => Err(KeyError::Empty),
        len if len > KEY_BYTES_MAX => Err(KeyError::TooLong),
        _ if key.chars().any(char::is_control) => Err(KeyError::Character),
        _ => Ok(()),
    }
}

/// Reads the key of a record: what the member at `path` says. A string loses its escapes; an integer, `true` and `false` are as they stand there, so
/// the string `"1"` and the number `1` are the same key.
///
/// `out` is where it stands if it cannot be lent from the record.
///
/// # Errors
/// Why there is none.
pub fn key<'a>(bytes: &'a [u8], path: &str, out: &'a mut [u8; KEY_BYTES_MAX]) -> Result<&'a str, KeyError> {
    let value = get(bytes, path).ok_or(KeyError::Missing)?;
    let text = match *value {
        [b'"', ..] => {
            let string = Cursor::new(value).string().map_err(|_| KeyError::Missing)?;
            match string.plain() {
                Some(plain) => plain,
                None => {
                    let mut len = 0;
                    for byte in string.bytes() {
                        *out.get_mut(len).ok_or(KeyError::TooLong)? = byte;
                        len += 1;
                    }
                    &out[..len]
                }
            }
        }
        [b'{' | b'[', ..] => return Err(KeyError::NotPlain),
        [b'n', ..] => return Err(KeyError::Null),
        [b'-' | b'0'..=b'9', ..] if value.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => {
            return Err(KeyError::NotInteger);
        }
        _ => value,
    };
    if text.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong); // Before all of it is read.
    }
    let text = core::str::from_utf8(text).map_err(|_| KeyError::Character)?;
    check_key(text)?;
    Ok(text)
}
