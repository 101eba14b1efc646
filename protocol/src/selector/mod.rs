//! Selectors: conditions on records, as of Jakarta Messaging 3.1 section 3.8.1 ("message selectors", conditions of SQL-92).
//!
//! Owns the language and its evaluation over a record as it stands. [`Selector::parse`] makes a small program of a text, with the text inside and
//! nothing outside of it; [`Selector::matches`] reads a record once, as far as it must to find what the program names, and decodes those values only.
//!
//! ```text
//! bid > 1.08 AND venue IN ('EBS', 'LMAX') AND NOT (note LIKE '%test%' OR spread.pips IS NULL)
//! ```
//!
//! **The language.** `OR`, `AND`, `NOT`; `=` `<>` `<` `<=` `>` `>=`; `[NOT] BETWEEN x AND y`; `[NOT] IN ('a', 'b')`; `[NOT] LIKE 'a_c%' [ESCAPE '\']`;
//! `IS [NOT] NULL`; `+` `-` `*` `/`; parentheses; strings `'it''s'`, numbers `7`, `-7.5`, `7E3`, `TRUE`, `FALSE`. Keywords have any case, and are no
//! names.
//!
//! **Names** are paths into the record: `a`, `spread.pips`. A name of other characters than letters, digits, `_` and `$`, or that is a keyword or begins
//! with `$`, stands in quotes: `"a.b"`, `spread."the pips"`, a quote in it twice. `$topic`, `$key` and `$event` are what the message has: [`Given`].
//!
//! **What is true.** There are three truth values: true, false and unknown, and a record is selected if the condition is true.
//!
//! * A missing member is NULL, as is `null`. Of a record that is no object, or that cannot be followed before all names are found, every name is NULL.
//! * With NULL, comparisons and arithmetic are unknown, as are `LIKE`, `IN` and `BETWEEN` of it; a name alone as a condition is unknown unless it is
//!   true or false.
//! * Unlike values (a string and a number) are neither equal nor unequal nor anything: each comparison of them is false. So `a NOT BETWEEN 1 AND 2`,
//!   which means `a < 1 OR a > 2`, is false of a string; `a NOT IN ('b')` and `a NOT LIKE 'b'`, which mean `NOT (...)`, are true of a number.
//! * Strings and truth values are only equal or not; `<` of them is false, and refused where it can be seen in the text. Two strings are equal if they
//!   have the same characters, however they are escaped.
//! * Objects and arrays are not NULL, and like nothing.
//!
//! **Numbers.** What is written without fraction and exponent is exact, 64 bits; other numbers, and those that do not fit, are of 64 bits floating, as is
//! every exact result that overflows. Exact and other numbers are compared as floating ones (Java's promotion). Exact numbers divide to exact ones,
//! `7 / 2 = 3`. A division by zero is NULL, as is arithmetic with what is no number, and what would be no number (`inf - inf`).
//!
//! **What differs from Jakarta Messaging.** There are more names (paths, quotes), and no headers (`JMSType`). `IN` takes numbers and truth values, too.
//! The escape character is one of ASCII, and stands before `%`, `_` or itself only. Numbers have no hexadecimal, octal or suffixed form, and an exact
//! one does not begin with 0, as it would be octal there. Overflow and division by zero are as said above, where Java wraps and throws.

mod evaluate;
mod lex;
mod like;
mod parse;
mod value;

use core::fmt;

pub use evaluate::Given;
pub use like::LIKE_STEPS_MAX;

/// The longest selector in bytes.
pub const SELECTOR_BYTES_MAX: usize = 1024;

/// The most terms of a selector: names, literals and operations.
pub const TERMS_MAX: usize = 128;

/// The most different names in the paths of a selector, where paths that begin alike count what they have in common once.
pub const NAMES_MAX: usize = 32;

/// The deepest nesting of parentheses, `NOT` and signs.
pub const DEPTH_MAX: usize = 32;

/// What is wrong with a selector, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectorError {
    /// What is wrong, in English.
    pub text: &'static str,
    /// The byte of the selector at which it was found.
    pub offset: usize,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.text, self.offset)
    }
}

impl core::error::Error for SelectorError {}

/// A condition on records: about 4 KiB, with nothing outside of it. Two are equal if their texts are.
#[derive(Clone)]
pub struct Selector {
    text: [u8; SELECTOR_BYTES_MAX],
    text_len: u16,
    /// Its terms, parts before what they are parts of; the last is the condition.
    terms: [Term; TERMS_MAX],
    terms_len: u8,
    names: Names,
}

/// Which term.
type Index = u8;

/// A term: an operation on others, or a value.
#[derive(Clone, Copy, Debug)]
enum Term {
    Or(Index, Index),
    And(Index, Index),
    Not(Index),
    Compare(Comparison, Index, Index),
    Between {
        value: Index,
        from: Index,
        to: Index,
        negated: bool,
    },
    /// Literals stand beside each other.
    In {
        value: Index,
        first: Index,
        count: u8,
        negated: bool,
    },
    /// The escape character is 0 if there is none.
    Like {
        value: Index,
        pattern: Slice,
        escape: u8,
        negated: bool,
    },
    IsNull {
        value: Index,
        negated: bool,
    },
    Arithmetic(Operation, Index, Index),
    Negative(Index),
    Integer(i64),
    Decimal(f64),
    Truth(bool),
    Text(Slice),
    /// The value found at a name of the tree.
    Found(u8),
    Topic,
    Key,
    Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Plus,
    Minus,
    Times,
    Over,
}

/// A part of the text between quotes, or a name without.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    at: u16,
    len: u16,
    /// Whether its quote stands in it, each time twice.
    doubled: bool,
}

/// The names of all paths, as a tree.
#[derive(Clone)]
struct Names {
    names: [PathName; NAMES_MAX],
    /// The hash of each: what is compared first stands together.
    hashes: [u32; NAMES_MAX],
    len: u8,
    /// How many of them end a path.
    ends: u8,
    /// Which lengths a name in a record must have to be one of them, one bit each; all that are longer share the last.
    lengths: u64,
}

/// One name of a path.
#[derive(Clone, Copy, Debug, Default)]
struct PathName {
    slice: Slice,
    /// The name before it, and one more; 0 if it is the first.
    above: u8,
    /// Whether a path ends here.
    is_end: bool,
    /// Whether a path goes on.
    goes_on: bool,
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// The first thing wrong, and where.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::parse(text)
    }

    /// Lends its text, as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        core::str::from_utf8(&self.text[..usize::from(self.text_len)]).expect("it was a text")
    }

    /// Says whether it names anything of the record, or only what the message has besides.
    #[must_use]
    pub const fn reads_record(&self) -> bool {
        self.names.len > 0
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Selector {}

impl core::hash::Hash for Selector {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Selector").field(&self.text()).finish()
    }
}
