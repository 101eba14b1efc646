//! Evaluating a selector: what it names is found in one walk over the record, then its terms say what is true.

use super::like::{ESCAPED_STEPS, LIKE_STEPS_MAX, like};
use super::value::{Bytes, Text, Value, calculate, compare, negative};
use super::{Comparison, Index, NAMES_MAX, Names, Selector, Slice, Term};
use crate::record::{Cursor, Name, Scanned};

/// What a message has besides its payload: `$topic`, `$key` and `$event`. What is `None` is NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given<'a> {
    /// The topic.
    pub topic: Option<&'a str>,
    /// The key.
    pub key: Option<&'a str>,
    /// The event name.
    pub event: Option<&'a str>,
}

impl Selector {
    /// Says whether a message is selected: whether the condition is true.
    #[must_use]
    pub fn matches(&self, record: &[u8], given: &Given<'_>) -> bool {
        self.evaluate(record, given) == Some(true)
    }

    /// Says what the condition is: `None` is unknown.
    ///
    /// Costs one walk over the record, up to where all names have been found, and [`LIKE_STEPS_MAX`] steps at most.
    #[must_use]
    pub fn evaluate(&self, record: &[u8], given: &Given<'_>) -> Option<bool> {
        let mut found = Found { values: [b""; NAMES_MAX], missing: self.names.ends };
        if self.reads_record() && self.find(&mut Cursor::new(record), 0, &mut found).is_err() {
            found.values = [b""; NAMES_MAX];
        }
        let mut evaluation = Evaluation { selector: self, values: &found.values, given, steps: LIKE_STEPS_MAX };
        evaluation.condition(self.terms_len - 1)
    }

    /// Finds what is named below a name (0: in the record itself) in the object at the cursor, and passes it, unless nothing is missing any more.
    fn find<'r>(&self, cursor: &mut Cursor<'r>, above: u8, found: &mut Found<'r>) -> Scanned<()> {
        cursor.open()?;
        let mut first = true;
        while let Some(name) = cursor.member(&mut first)? {
            let Some(n) = self.names.find(above, &name, &self.text) else {
                cursor.value()?;
                continue;
            };
            let here = self.names.names[n];
            let start = cursor.at;
            if here.goes_on && cursor.is_object() {
                // Passed to its end if it is missing itself, as something is then.
                self.find(cursor, n as u8 + 1, found)?;
            } else {
                cursor.value()?;
            }
            if here.is_end && found.values[n].is_empty() {
                found.values[n] = &cursor.bytes[start..cursor.at];
                found.missing -= 1;
            }
            if found.missing == 0 {
                break;
            }
        }
        Ok(())
    }

    fn text_of(&self, slice: Slice) -> Text<'_> {
        slice.of(&self.text)
    }
}

/// The bytes of the values that were found, empty where there is none.
struct Found<'r> {
    values: [&'r [u8]; NAMES_MAX],
    /// How many paths have found none yet.
    missing: u8,
}

impl Slice {
    pub(super) fn of(self, text: &[u8]) -> Text<'_> {
        let bytes = &text[usize::from(self.at)..][..usize::from(self.len)];
        if self.doubled { Text::Doubled(bytes) } else { Text::Plain(bytes) }
    }
}

impl Names {
    /// Finds a name of a record among those below another.
    #[inline]
    fn find(&self, above: u8, name: &Name<'_>, text: &[u8]) -> Option<usize> {
        if name.plain().is_some_and(|plain| self.lengths & length_bit(plain.len()) == 0) {
            return None;
        }
        let hash = name.hash();
        let hashes = &self.hashes[..usize::from(self.len)];
        hashes.iter().enumerate().find_map(|(n, &other)| {
            let here = &self.names[n];
            let same = other == hash && here.above == above && here.slice.of(text).is(Text::of(*name));
            same.then_some(n)
        })
    }
}

/// Says which bit a name of that length has among the lengths.
pub(super) const fn length_bit(len: usize) -> u64 {
    1 << if len < 63 { len } else { 63 }
}

struct Evaluation<'e> {
    selector: &'e Selector,
    values: &'e [&'e [u8]; NAMES_MAX],
    given: &'e Given<'e>,
    /// How many bytes may still be compared for `LIKE`.
    steps: u32,
}

impl<'e> Evaluation<'e> {
    /// Evaluates a condition. As deep as there are terms.
    fn condition(&mut self, index: Index) -> Option<bool> {
        match self.selector.terms[usize::from(index)] {
            Term::Or(one, other) => match self.condition(one) {
                Some(true) => Some(true),
                Some(false) => self.condition(other),
                None => self.condition(other).filter(|&is_true| is_true),
            },
            Term::And(one, other) => match self.condition(one) {
                Some(false) => Some(false),
                Some(true) => self.condition(other),
                None => self.condition(other).filter(|&is_true| !is_true),
            },
            Term::Not(of) => self.condition(of).map(|is_true| !is_true),
            Term::Compare(how, one, other) => compare(how, self.value(one), self.value(other)),
            Term::Between { value, from, to, negated } => {
                let (value, from, to) = (self.value(value), self.value(from), self.value(to));
                if negated {
                    or(compare(Comparison::Less, value, from), compare(Comparison::Greater, value, to))
                } else {
                    and(compare(Comparison::AtLeast, value, from), compare(Comparison::AtMost, value, to))
                }
            }
            Term::In { value, first, count, negated } => {
                let value = self.value(value);
                if let Value::Null = value {
                    return None;
                }
                let found =
                    (first..first + count).any(|n| compare(Comparison::Equal, value, self.value(n)) == Some(true));
                Some(found != negated)
            }
            Term::Like { value, pattern, escape, negated } => {
                let like = match self.value(value) {
                    Value::Null => return None,
                    Value::Text(text) => self.like(text, self.selector.text_of(pattern), escape)?,
                    _ => false,
                };
                Some(like != negated)
            }
            Term::IsNull { value, negated } => Some(matches!(self.value(value), Value::Null) != negated),
            _ => match self.value(index) {
                Value::Truth(is_true) => Some(is_true),
                _ => None,
            },
        }
    }

    /// Evaluates a value; a condition is none, and is not asked for one.
    fn value(&self, index: Index) -> Value<'e> {
        let given = |text: Option<&'e str>| text.map_or(Value::Null, |text| Value::Text(Text::Plain(text.as_bytes())));
        match self.selector.terms[usize::from(index)] {
            Term::Found(n) => Value::read(self.values[usize::from(n)]),
            Term::Integer(value) => Value::Integer(value),
            Term::Decimal(value) => Value::Decimal(value),
            Term::Truth(value) => Value::Truth(value),
            Term::Text(slice) => Value::Text(self.selector.text_of(slice)),
            Term::Arithmetic(how, one, other) => calculate(how, self.value(one), self.value(other)),
            Term::Negative(of) => negative(self.value(of)),
            Term::Topic => given(self.given.topic),
            Term::Key => given(self.given.key),
            Term::Event => given(self.given.event),
            _ => Value::Null,
        }
    }

    fn like(&mut self, text: Text<'_>, pattern: Text<'_>, escape: u8) -> Option<bool> {
        match (text, pattern) {
            // Nearly always: bytes as they stand.
            (Text::Plain(text), Text::Plain(pattern)) => {
                like(text.iter().copied(), pattern.iter().copied(), escape, 1, &mut self.steps)
            }
            (text, pattern) => {
                let (text, pattern): (Bytes<'_>, Bytes<'_>) = (text.bytes(), pattern.bytes());
                like(text, pattern, escape, ESCAPED_STEPS, &mut self.steps)
            }
        }
    }
}

fn and(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    and(one.map(|is_true| !is_true), other.map(|is_true| !is_true)).map(|is_true| !is_true)
}
