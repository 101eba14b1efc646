//! The words of a selector.

use super::{Comparison, SelectorError, Slice};

/// A word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token {
    End,
    Open,
    Close,
    Comma,
    Plus,
    Minus,
    Star,
    Slash,
    Compare(Comparison),
    Text {
        at: u16,
        len: u16,
        doubled: bool,
    },
    Integer(i64),
    Decimal(f64),
    Keyword(Keyword),
    /// A path: up to where its names go.
    Path {
        to: usize,
    },
    /// One of the names that begin with `$`.
    Given {
        to: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Between,
    Escape,
    False,
    In,
    Is,
    Like,
    Not,
    Null,
    Or,
    True,
}

const KEYWORDS: [(&str, Keyword); 11] = [
    ("AND", Keyword::And),
    ("BETWEEN", Keyword::Between),
    ("ESCAPE", Keyword::Escape),
    ("FALSE", Keyword::False),
    ("IN", Keyword::In),
    ("IS", Keyword::Is),
    ("LIKE", Keyword::Like),
    ("NOT", Keyword::Not),
    ("NULL", Keyword::Null),
    ("OR", Keyword::Or),
    ("TRUE", Keyword::True),
];

/// A place in a selector, in front of a word.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

fn fail<T>(text: &'static str, offset: usize) -> Result<T, SelectorError> {
    Err(SelectorError { text, offset })
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_while(&mut self, is_part: impl Fn(char) -> bool) {
        let rest = &self.text[self.at..];
        self.at += rest.find(|character| !is_part(character)).unwrap_or(rest.len());
    }

    /// Passes the space before the next word.
    pub(super) fn space(&mut self) {
        self.skip_while(|character| matches!(character, ' ' | '\t' | '\r' | '\n' | '\u{c}'));
    }

    /// Passes a word.
    pub(super) fn token(&mut self) -> Result<Token, SelectorError> {
        let start = self.at;
        let Some(byte) = self.peek() else { return Ok(Token::End) };
        let next = self.text.as_bytes().get(start + 1).copied();
        let (token, len) = match (byte, next) {
            (b'(', _) => (Token::Open, 1),
            (b')', _) => (Token::Close, 1),
            (b',', _) => (Token::Comma, 1),
            (b'+', _) => (Token::Plus, 1),
            (b'-', _) => (Token::Minus, 1),
            (b'*', _) => (Token::Star, 1),
            (b'/', _) => (Token::Slash, 1),
            (b'=', _) => (Token::Compare(Comparison::Equal), 1),
            (b'<', Some(b'>')) => (Token::Compare(Comparison::Unequal), 2),
            (b'<', Some(b'=')) => (Token::Compare(Comparison::AtMost), 2),
            (b'<', _) => (Token::Compare(Comparison::Less), 1),
            (b'>', Some(b'=')) => (Token::Compare(Comparison::AtLeast), 2),
            (b'>', _) => (Token::Compare(Comparison::Greater), 1),
            (b'\'', _) => return self.quoted().map(|s| Token::Text { at: s.at, len: s.len, doubled: s.doubled }),
            (b'0'..=b'9', _) | (b'.', Some(b'0'..=b'9')) => return self.number(),
            (b'"', _) => return self.path(),
            _ => return self.word(),
        };
        self.at += len;
        Ok(token)
    }

    /// Passes what stands between quotes, in which the quote itself stands twice.
    fn quoted(&mut self) -> Result<Slice, SelectorError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let quote = bytes[start];
        let mut doubled = false;
        self.at += 1;
        loop {
            let Some(len) = bytes[self.at..].iter().position(|&byte| byte == quote) else {
                return fail(if quote == b'"' { "the name does not end" } else { "the string does not end" }, start);
            };
            self.at += len + 1;
            if self.peek() != Some(quote) {
                let len = self.at - start - 2;
                return Ok(Slice { at: start as u16 + 1, len: len as u16, doubled });
            }
            doubled = true;
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<Token, SelectorError> {
        let start = self.at;
        let digit = |character: char| character.is_ascii_digit();
        self.skip_while(digit);
        let mut exact = true;
        if self.peek() == Some(b'.') {
            exact = false;
            self.at += 1;
            self.skip_while(digit);
        }
        if let Some(b'e' | b'E') = self.peek() {
            exact = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            let digits = self.at;
            self.skip_while(digit);
            if self.at == digits {
                return fail("an exponent has digits", digits);
            }
        }
        if self.text[self.at..].starts_with(|next| is_name_part(next) || matches!(next, '.' | '"')) {
            return fail("a number ends with a digit or its point", self.at);
        }
        let number = &self.text[start..self.at];
        if exact && number.len() > 1 && number.starts_with('0') {
            return fail("a number does not begin with 0", start);
        }
        if let Some(integer) = super::value::integer(number.as_bytes()).filter(|_| exact) {
            return Ok(Token::Integer(integer));
        }
        match number.parse::<f64>() {
            Ok(decimal) if decimal.is_finite() => Ok(Token::Decimal(decimal)),
            _ => fail("the number is too large", start),
        }
    }

    /// Passes a keyword or a path.
    fn word(&mut self) -> Result<Token, SelectorError> {
        let start = self.at;
        if !self.text[start..].starts_with(is_name_start) {
            return fail("expected a name, a value or an operator", start);
        }
        self.skip_while(is_name_part);
        let word = &self.text[start..self.at];
        if let Some((_, keyword)) = KEYWORDS.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(word)) {
            return Ok(Token::Keyword(*keyword));
        }
        if word.starts_with('$') {
            return Ok(Token::Given { to: self.at });
        }
        self.at = start;
        self.path()
    }

    /// Passes a path.
    fn path(&mut self) -> Result<Token, SelectorError> {
        loop {
            self.name()?;
            if self.peek() != Some(b'.') {
                return Ok(Token::Path { to: self.at });
            }
            self.at += 1;
        }
    }

    /// Passes one name of a path.
    pub(super) fn name(&mut self) -> Result<Slice, SelectorError> {
        let start = self.at;
        if self.peek() == Some(b'"') {
            let slice = self.quoted()?;
            if slice.len == 0 {
                return fail("a name is not empty", start);
            }
            if self.text[self.at..].starts_with(is_name_part) {
                return fail("a name in quotes ends with its quote", self.at);
            }
            return Ok(slice);
        }
        if !self.text[start..].starts_with(is_name_start) {
            return fail("expected a name", start);
        }
        self.skip_while(is_name_part);
        if self.peek() == Some(b'"') {
            return fail("a name in quotes begins with its quote", self.at);
        }
        Ok(Slice { at: start as u16, len: (self.at - start) as u16, doubled: false })
    }
}

/// Says whether a name may begin so, as Java's do.
fn is_name_start(character: char) -> bool {
    character.is_alphabetic() || matches!(character, '_' | '$')
}

/// Says whether a name may go on so.
fn is_name_part(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '$')
}
