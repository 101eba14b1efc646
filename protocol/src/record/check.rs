//! Whether bytes are a record: the whole grammar, and each name once.

use core::ops::Range;

use super::index;
use super::name::code_unit;
use super::scan::clean_len;
use super::{
    DEPTH_MAX, NOT_AN_OBJECT, NUMBER_BYTES_MAX, Name, RECORD_BYTES_MAX, RecordError, TOO_DEEP, TOO_MANY_MEMBERS,
};

pub(super) const TOO_LONG: &str = "the record is too long";

/// Says whether `bytes` are a record: one JSON object (RFC 8259) with space around it at most, UTF-8, at most [`DEPTH_MAX`] deep, in which no
/// object has two members of the same name, at any depth and however it is escaped, and no number more than [`NUMBER_BYTES_MAX`] bytes.
///
/// Half a surrogate pair (`\ud800` alone) is no character, and refused. Numbers may be larger than anybody can count (`1e999`).
///
/// `scratch` has room for as many names as the objects that are open at a time have members; its content does not matter.
///
/// # Errors
/// The first thing wrong, and where.
pub fn check(bytes: &[u8], scratch: &mut [u64]) -> Result<(), RecordError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(RecordError { text: TOO_LONG, offset: RECORD_BYTES_MAX });
    }
    if simdutf8::basic::from_utf8(bytes).is_err() {
        let offset = core::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), |_| 0);
        return Err(RecordError { text: "the record is not UTF-8", offset });
    }
    let mut checker = Checker { bytes, at: 0, scratch, names: 0 };
    checker.space();
    if checker.peek() != Some(b'{') {
        return checker.fail(NOT_AN_OBJECT);
    }
    checker.value()?;
    checker.space();
    match checker.peek() {
        None => Ok(()),
        Some(_) => checker.fail("something follows the object"),
    }
}

struct Checker<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The names of all objects that are open, those of the innermost last.
    scratch: &'a mut [u64],
    names: usize,
}

impl Checker<'_> {
    #[cold]
    fn fail<T>(&self, text: &'static str) -> Result<T, RecordError> {
        Err(RecordError { text, offset: self.at })
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes a value of any kind. Keeps no stack but the kinds of the open brackets, one bit each, and where the names of each object begin.
    fn value(&mut self) -> Result<(), RecordError> {
        let mut depth = 0;
        let mut objects = 0u32;
        let mut begins = [0; DEPTH_MAX];
        loop {
            // A value is expected here.
            match self.peek() {
                Some(b'"') => {
                    self.string("expected a string")?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                Some(open @ (b'{' | b'[')) => {
                    if depth == DEPTH_MAX {
                        return self.fail(TOO_DEEP);
                    }
                    self.at += 1;
                    begins[depth] = self.names;
                    depth += 1;
                    objects = objects << 1 | u32::from(open == b'{');
                    self.space();
                    let close = if open == b'{' { b'}' } else { b']' };
                    if self.peek() != Some(close) {
                        if open == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                    self.at += 1;
                    depth -= 1;
                    objects >>= 1;
                }
                _ => return self.fail("expected a value"),
            }
            // A value has ended: so may the brackets around it.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let in_object = objects & 1 == 1;
                self.space();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => self.names_are_unique(begins[depth - 1])?,
                    Some(b']') if !in_object => {}
                    _ => return self.fail("expected , or the closing bracket"),
                }
                self.at += 1;
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// Passes a member's name, the colon and the space around it, and remembers the name.
    #[inline]
    fn name(&mut self) -> Result<(), RecordError> {
        let at = self.at;
        let hash = self.string("expected a member's name")?.hash();
        let Some(room) = self.scratch.get_mut(self.names) else {
            return Err(RecordError { text: TOO_MANY_MEMBERS, offset: at });
        };
        *room = index::entry(hash, at);
        self.names += 1;
        self.space();
        if self.peek() != Some(b':') {
            return self.fail("expected :");
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Looks for a name that stands twice in the object that ends, whose names begin there, and forgets them.
    fn names_are_unique(&mut self, begin: usize) -> Result<(), RecordError> {
        let names = &mut self.scratch[begin..self.names];
        self.names = begin;
        match index::twice(self.bytes, names) {
            None => Ok(()),
            Some(offset) => Err(RecordError { text: "a member is given twice", offset }),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), RecordError> {
        if !self.bytes[self.at..].starts_with(word) {
            return self.fail("expected a value");
        }
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<(), RecordError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return self.fail("expected a digit");
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<(), RecordError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        if self.at - start > NUMBER_BYTES_MAX {
            return Err(RecordError { text: "a number is too long", offset: start });
        }
        Ok(())
    }

    /// Passes a string.
    #[inline]
    fn string(&mut self, otherwise: &'static str) -> Result<Name<'_>, RecordError> {
        if self.peek() != Some(b'"') {
            return self.fail(otherwise);
        }
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += clean_len(&self.bytes[self.at..]);
            match self.peek() {
                None => return self.fail("the string does not end"),
                Some(b'"') => {
                    let raw: Range<usize> = start..self.at;
                    self.at += 1;
                    return Ok(Name { raw: &self.bytes[raw], escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fail("a control character stands in a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), RecordError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => self.unicode(),
            _ => self.fail("the escape is not known"),
        }
    }

    /// Passes `\uXXXX`, and the second of a surrogate pair behind it.
    fn unicode(&mut self) -> Result<(), RecordError> {
        const LONE: &str = "a surrogate stands alone";
        match self.code_unit()? {
            0xd800..=0xdbff => {
                if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                    return self.fail(LONE);
                }
                match self.code_unit()? {
                    0xdc00..=0xdfff => Ok(()),
                    _ => self.fail(LONE),
                }
            }
            0xdc00..=0xdfff => self.fail(LONE),
            _ => Ok(()),
        }
    }

    /// Passes one `\uXXXX`.
    fn code_unit(&mut self) -> Result<u32, RecordError> {
        match self.bytes.get(self.at + 2..).and_then(code_unit) {
            Some(unit) => {
                self.at += 6;
                Ok(unit)
            }
            None => self.fail("\\u needs four hexadecimal digits"),
        }
    }
}
