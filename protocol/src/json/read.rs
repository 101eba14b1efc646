//! One line of an NDJSON batch, read in place.
//!
//! Strings lose their escapes, and base64 becomes bytes, where they stand, so a line costs no memory but its own. Strict: the
//! whole grammar is checked, also of members nobody reads, and nesting is bounded.

use core::fmt;
use core::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::message::{Op, check_event, check_key};
use crate::producer::{Produced, check_producer, parse_number};
use crate::topic;
use crate::write::hex_digit;

/// The deepest nesting inside a member that is skipped.
pub const DEPTH_MAX: usize = 32;

const NOT_BASE64: &str = "\"data\" is not base64";

/// A line of a batch, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishLine<'a> {
    /// The topic, valid for publishing.
    pub topic: &'a str,
    /// The payload: the text of `data`, or the bytes that its base64 stands for; of any other value its JSON, as it stands in the line.
    pub data: &'a [u8],
    /// The event name, if there is one; valid.
    pub event: Option<&'a str>,
    /// What it is a value of, if it says so; valid.
    pub key: Option<&'a str>,
    /// What it does to that value; none if it does not say.
    pub op: Option<Op>,
    /// Whose message it is, and which one, if it is numbered; valid.
    pub produced: Option<Produced<'a>>,
}

/// What is wrong with a line, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong, in English.
    pub text: &'static str,
    /// The byte of the line at which it was found.
    pub offset: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.text, self.offset)
    }
}

impl core::error::Error for JsonError {}

/// Reads `{"topic":..,"data":..,"event":..,"key":..,"op":..,"encoding":"base64","producer":..,"n":..}` in place; all but topic and data are
/// optional, members in any order, others skipped. `data` is a string, or any other JSON, which is the payload itself; with `encoding` it is a
/// string. `n` is a number.
///
/// # Errors
/// [`JsonError`]: not JSON, a member missing, twice or of the wrong type, a bad topic, event or base64.
pub fn publish_line(line: &mut [u8]) -> Result<PublishLine<'_>, JsonError> {
    if let Err(error) = core::str::from_utf8(line) {
        return Err(JsonError { text: "the line is not UTF-8", offset: error.valid_up_to() });
    }
    let mut reader = Reader { line, at: 0 };
    let members = reader.object()?;
    let Reader { line, at } = reader;
    let missing = |text| JsonError { text, offset: at };
    let topic = members.topic.ok_or(missing("\"topic\" is missing"))?;
    // A deletion needs none.
    let mut data = match members.data {
        Some(data) => data,
        None if members.op.as_ref().is_some_and(|op| line[op.clone()] == *b"delete") => 0..0,
        None => return Err(missing("\"data\" is missing")),
    };
    if let Some(encoding) = members.encoding {
        if line[encoding.clone()] != *b"base64" {
            return Err(JsonError { text: "\"encoding\" is not \"base64\"", offset: encoding.start });
        }
        let offset = data.start;
        if members.is_value {
            return Err(JsonError { text: NOT_BASE64, offset }); // `1234` would pass for some.
        }
        let len = decode_base64(&mut line[data.clone()]).ok_or(JsonError { text: NOT_BASE64, offset })?;
        data.end = data.start + len;
    }
    let line: &[u8] = line;
    let text = |range: Range<usize>| core::str::from_utf8(&line[range]).expect("unescaping keeps UTF-8");
    let offset = topic.start;
    let topic = text(topic);
    topic::validate(topic).map_err(|error| JsonError { text: error.text(), offset })?;
    let event = match members.event {
        None => None,
        Some(range) => {
            let offset = range.start;
            let event = text(range);
            check_event(event).map_err(|violation| JsonError { text: violation.text(), offset })?;
            Some(event)
        }
    };
    let key = match members.key {
        None => None,
        Some(range) => {
            let offset = range.start;
            let key = text(range);
            check_key(key).map_err(|violation| JsonError { text: violation.text(), offset })?;
            Some(key)
        }
    };
    let op = match members.op {
        None => None,
        Some(range) => {
            let offset = range.start;
            Some(Op::parse(text(range)).map_err(|violation| JsonError { text: violation.text(), offset })?)
        }
    };
    let producer = match members.producer {
        None => None,
        Some(range) => {
            let offset = range.start;
            Some(check_producer(text(range)).map_err(|violation| JsonError { text: violation.text(), offset })?)
        }
    };
    let number = match members.number {
        None => None,
        Some(range) => {
            let offset = range.start;
            Some(parse_number(&line[range]).map_err(|violation| JsonError { text: violation.text(), offset })?)
        }
    };
    let produced = Produced::of(producer, number).map_err(|violation| missing(violation.text()))?;
    Ok(PublishLine { topic, data: &line[data], event, key, op, produced })
}

#[derive(Default)]
struct Members {
    topic: Option<Range<usize>>,
    data: Option<Range<usize>>,
    event: Option<Range<usize>>,
    encoding: Option<Range<usize>>,
    key: Option<Range<usize>>,
    op: Option<Range<usize>>,
    producer: Option<Range<usize>>,
    number: Option<Range<usize>>,
    /// `data` is no string.
    is_value: bool,
}

struct Reader<'a> {
    line: &'a mut [u8],
    at: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, text: &'static str) -> Result<T, JsonError> {
        Err(JsonError { text, offset: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, wanted: u8, text: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(wanted) {
            return self.fail(text);
        }
        self.at += 1;
        Ok(())
    }

    /// Reads the whole line: one object and nothing behind it.
    fn object(&mut self) -> Result<Members, JsonError> {
        let mut members = Members::default();
        self.space();
        self.expect(b'{', "the line is not an object")?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.member(&mut members)?;
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break self.at += 1,
                    _ => return self.fail("expected , or }"),
                }
                self.space();
            }
        }
        self.space();
        match self.peek() {
            None => Ok(members),
            Some(_) => self.fail("something follows the object"),
        }
    }

    fn member(&mut self, members: &mut Members) -> Result<(), JsonError> {
        let start = self.at;
        let name = self.string("expected a member's name", true)?;
        self.space();
        self.expect(b':', "expected :")?;
        self.space();
        let is_data = self.line[name.clone()] == *b"data";
        let is_number = self.line[name.clone()] == *b"n";
        let slot = match &self.line[name] {
            b"topic" => &mut members.topic,
            b"data" => &mut members.data,
            b"event" => &mut members.event,
            b"encoding" => &mut members.encoding,
            b"key" => &mut members.key,
            b"op" => &mut members.op,
            b"producer" => &mut members.producer,
            b"n" => &mut members.number,
            _ => return self.skip(),
        };
        if slot.is_some() {
            return Err(JsonError { text: "a member is given twice", offset: start });
        }
        *slot = Some(if is_data && self.peek() != Some(b'"') {
            let from = self.at;
            self.skip()?;
            members.is_value = true;
            from..self.at
        } else if is_number {
            let from = self.at;
            self.skip()?;
            from..self.at
        } else {
            self.string("the member is not a string", true)?
        });
        Ok(())
    }

    /// Skips a value of any kind, and changes nothing in it: it may be a payload. Keeps no stack but the kinds of the open brackets,
    /// one bit each.
    fn skip(&mut self) -> Result<(), JsonError> {
        let mut depth = 0;
        let mut objects = 0u32;
        loop {
            // A value is expected here.
            match self.peek() {
                Some(b'"') => {
                    self.string("expected a string", false)?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                Some(open @ (b'{' | b'[')) => {
                    if depth == DEPTH_MAX {
                        return self.fail("the nesting is too deep");
                    }
                    self.at += 1;
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
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ => return self.fail("expected , or the closing bracket"),
                }
                self.at += 1;
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// Skips a member's name, the colon and the space around it.
    fn name(&mut self) -> Result<(), JsonError> {
        self.string("expected a member's name", false)?;
        self.space();
        self.expect(b':', "expected :")?;
        self.space();
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if !self.line[self.at..].starts_with(word) {
            return self.fail("expected a value");
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            return self.fail("expected a digit");
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
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
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads a string, unescapes it where it stands if that is wanted, and says where it is.
    fn string(&mut self, otherwise: &'static str, unescapes: bool) -> Result<Range<usize>, JsonError> {
        self.expect(b'"', otherwise)?;
        let start = self.at;
        let mut to = start;
        loop {
            match self.peek() {
                None => return self.fail("the string does not end"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..to);
                }
                Some(b'\\') => {
                    let unescaped = self.escape()?;
                    let mut bytes = [0; 4];
                    let bytes = unescaped.encode_utf8(&mut bytes).as_bytes();
                    // An escape is at least as long as what it stands for.
                    if unescapes {
                        self.line[to..to + bytes.len()].copy_from_slice(bytes);
                    }
                    to += bytes.len();
                }
                Some(0..=0x1f) => return self.fail("a control character stands in a string"),
                Some(byte) => {
                    if unescapes {
                        self.line[to] = byte;
                    }
                    to += 1;
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let simple = match self.line.get(self.at + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return self.fail("the escape is not known"),
        };
        self.at += 2;
        Ok(simple)
    }

    /// Reads `\uXXXX`, and the second of a surrogate pair behind it.
    fn unicode(&mut self) -> Result<char, JsonError> {
        const LONE: &str = "a surrogate stands alone";
        let first = self.code_unit()?;
        let code = match first {
            0xd800..=0xdbff => {
                if self.line.get(self.at..self.at + 2) != Some(b"\\u") {
                    return self.fail(LONE);
                }
                let second = self.code_unit()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return self.fail(LONE);
                }
                0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        match char::from_u32(code) {
            Some(unescaped) => Ok(unescaped),
            None => self.fail(LONE),
        }
    }

    /// Reads one `\uXXXX`.
    fn code_unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.line.get(self.at + 2..self.at + 6);
        let value = digits.and_then(|digits| {
            digits.iter().try_fold(0u32, |value, &digit| Some(value << 4 | u32::from(hex_digit(digit)?)))
        });
        match value {
            Some(value) => {
                self.at += 6;
                Ok(value)
            }
            None => self.fail("\\u needs four hexadecimal digits"),
        }
    }
}

/// Decodes padded base64 where it stands, 64 characters at a time, which become 48 bytes further left; says how many bytes it
/// became, or `None` if it is not base64.
pub fn decode_base64(data: &mut [u8]) -> Option<usize> {
    let mut from = 0;
    let mut to = 0;
    while from < data.len() {
        let len = (data.len() - from).min(64);
        let mut bytes = [0; 48];
        let decoded = STANDARD.decode_slice(&data[from..from + len], &mut bytes).ok()?;
        from += len;
        // Padding may stand at the end only.
        if from < data.len() && decoded != bytes.len() {
            return None;
        }
        data[to..to + decoded].copy_from_slice(&bytes[..decoded]);
        to += decoded;
    }
    Some(to)
}
