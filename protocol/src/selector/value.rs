//! Values of a selector: what a literal or a member of a record says.

use core::cmp::Ordering;
use core::iter::Copied;
use core::slice::Iter;

use super::{Comparison, Operation};
use crate::record::{Cursor, Name, Unescaped};

/// A value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Null,
    Truth(bool),
    Integer(i64),
    Decimal(f64),
    Text(Text<'a>),
    /// An object or an array.
    Other,
}

/// A string as it stands somewhere.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text<'a> {
    Plain(&'a [u8]),
    /// With escapes of JSON.
    Escaped(Name<'a>),
    /// With quotes that stand twice.
    Doubled(&'a [u8]),
}

/// The bytes of a string.
#[derive(Clone, Debug)]
pub(super) enum Bytes<'a> {
    Plain(Copied<Iter<'a, u8>>),
    Escaped(Unescaped<'a>),
    Doubled(Iter<'a, u8>),
}

impl Iterator for Bytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        match self {
            Bytes::Plain(bytes) => bytes.next(),
            Bytes::Escaped(bytes) => bytes.next(),
            Bytes::Doubled(bytes) => {
                let byte = *bytes.next()?;
                // The quote itself is the only one that can stand there.
                if matches!(byte, b'\'' | b'"') && bytes.as_slice().first() == Some(&byte) {
                    bytes.next();
                }
                Some(byte)
            }
        }
    }
}

impl<'a> Text<'a> {
    pub(super) fn bytes(self) -> Bytes<'a> {
        match self {
            Text::Plain(bytes) => Bytes::Plain(bytes.iter().copied()),
            Text::Escaped(name) => Bytes::Escaped(name.bytes()),
            Text::Doubled(bytes) => Bytes::Doubled(bytes.iter()),
        }
    }

    #[inline]
    pub(super) fn of(name: Name<'a>) -> Self {
        name.plain().map_or(Text::Escaped(name), Text::Plain)
    }

    #[inline]
    pub(super) fn is(self, other: Text<'_>) -> bool {
        match (self, other) {
            (Text::Plain(one), Text::Plain(other)) => one == other,
            (one, other) => one.bytes().eq(other.bytes()),
        }
    }
}

impl<'a> Value<'a> {
    /// Reads the value that stands in a record.
    pub(super) fn read(raw: &'a [u8]) -> Self {
        match *raw {
            [b'"', ..] => Cursor::at(raw, 0).string().map_or(Value::Null, |name| Value::Text(Text::of(name))),
            [b't', ..] => Value::Truth(true),
            [b'f', ..] => Value::Truth(false),
            [b'{' | b'[', ..] => Value::Other,
            [b'-' | b'0'..=b'9', ..] => number(raw),
            _ => Value::Null,
        }
    }
}

/// Reads a number: exact if it has neither fraction nor exponent and fits.
fn number(raw: &[u8]) -> Value<'_> {
    if let Some(integer) = integer(raw) {
        return Value::Integer(integer);
    }
    let number = core::str::from_utf8(raw).ok().and_then(|text| text.parse().ok());
    number.map_or(Value::Null, Value::Decimal)
}

/// Reads digits behind a sign, if there is nothing else and it fits.
pub(super) fn integer(raw: &[u8]) -> Option<i64> {
    let (negative, digits) = match *raw {
        [b'-', ref digits @ ..] => (true, digits),
        _ => (false, raw),
    };
    if digits.is_empty() {
        return None;
    }
    // Downwards, as there is one more below zero than above.
    let value = digits.iter().try_fold(0i64, |value, &digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_sub(digit.into())
    })?;
    if negative { Some(value) } else { value.checked_neg() }
}

/// Compares two values; `None` is unknown.
pub(super) fn compare(how: Comparison, one: Value<'_>, other: Value<'_>) -> Option<bool> {
    use Comparison::{AtLeast, AtMost, Equal, Greater, Less, Unequal};
    let only_equality = |equal: bool| match how {
        Equal => equal,
        Unequal => !equal,
        Less | AtMost | Greater | AtLeast => false,
    };
    let order = match (one, other) {
        (Value::Null, _) | (_, Value::Null) => return None,
        (Value::Text(one), Value::Text(other)) => return Some(only_equality(one.is(other))),
        (Value::Truth(one), Value::Truth(other)) => return Some(only_equality(one == other)),
        (Value::Integer(one), Value::Integer(other)) => one.cmp(&other),
        (Value::Integer(one), Value::Decimal(other)) => ordered(one as f64, other)?,
        (Value::Decimal(one), Value::Integer(other)) => ordered(one, other as f64)?,
        (Value::Decimal(one), Value::Decimal(other)) => ordered(one, other)?,
        _ => return Some(false),
    };
    Some(match how {
        Equal => order.is_eq(),
        Unequal => order.is_ne(),
        Less => order.is_lt(),
        AtMost => order.is_le(),
        Greater => order.is_gt(),
        AtLeast => order.is_ge(),
    })
}

/// What is no number (`inf - inf`) is as NULL: nothing can be said of it.
fn ordered(one: f64, other: f64) -> Option<Ordering> {
    one.partial_cmp(&other)
}

/// Calculates; with what is no number it is NULL.
pub(super) fn calculate(how: Operation, one: Value<'_>, other: Value<'_>) -> Value<'static> {
    let (one, other) = match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => {
            let exact = match how {
                Operation::Plus => one.checked_add(other),
                Operation::Minus => one.checked_sub(other),
                Operation::Times => one.checked_mul(other),
                Operation::Over => one.checked_div(other),
            };
            if let Some(exact) = exact {
                return Value::Integer(exact);
            }
            (one as f64, other as f64)
        }
        (Value::Integer(one), Value::Decimal(other)) => (one as f64, other),
        (Value::Decimal(one), Value::Integer(other)) => (one, other as f64),
        (Value::Decimal(one), Value::Decimal(other)) => (one, other),
        _ => return Value::Null,
    };
    Value::Decimal(match how {
        Operation::Plus => one + other,
        Operation::Minus => one - other,
        Operation::Times => one * other,
        Operation::Over if other == 0.0 => return Value::Null,
        Operation::Over => one / other,
    })
}

/// Changes the sign; what is no number is NULL.
pub(super) fn negative(value: Value<'_>) -> Value<'static> {
    match value {
        Value::Integer(value) => value.checked_neg().map_or(Value::Decimal(-(value as f64)), Value::Integer),
        Value::Decimal(value) => Value::Decimal(-value),
        _ => Value::Null,
    }
}
