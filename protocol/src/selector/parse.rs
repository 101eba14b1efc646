//! A selector becomes terms, level by level: what binds loosest first.

use super::evaluate::length_bit;
use super::lex::{Keyword, Lexer, Token};
use super::like::is_sound;
use super::value::Text;
use super::{
    Comparison, DEPTH_MAX, Index, NAMES_MAX, Names, Operation, PathName, SELECTOR_BYTES_MAX, Selector, SelectorError,
    Slice, TERMS_MAX, Term,
};
use crate::record::hash_bytes;

/// What a term can be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// True, false or unknown, and no value.
    Condition,
    Number,
    Text,
    Truth,
    /// What the record says.
    Name,
}

/// A term that was read, and where.
#[derive(Clone, Copy, Debug)]
struct Read {
    index: Index,
    kind: Kind,
    at: usize,
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    /// Where the token begins.
    at: usize,
    depth: usize,
    selector: Selector,
}

pub(super) fn parse(text: &str) -> Result<Selector, SelectorError> {
    if text.len() > SELECTOR_BYTES_MAX {
        return Err(SelectorError { text: "a selector has at most 1024 bytes", offset: SELECTOR_BYTES_MAX });
    }
    let mut copy = [0; SELECTOR_BYTES_MAX];
    copy[..text.len()].copy_from_slice(text.as_bytes());
    let names = Names { names: [PathName::default(); NAMES_MAX], hashes: [0; NAMES_MAX], len: 0, ends: 0, lengths: 0 };
    let terms = [Term::Truth(false); TERMS_MAX];
    let selector = Selector { text: copy, text_len: text.len() as u16, terms, terms_len: 0, names };
    let mut parser = Parser { lexer: Lexer { text, at: 0 }, token: Token::End, at: 0, depth: 0, selector };
    parser.advance()?;
    if parser.token == Token::End {
        return parser.fail("a selector is not empty");
    }
    let condition = parser.or()?;
    is_condition(condition)?;
    if parser.token != Token::End {
        return parser.fail("expected an operator or the end");
    }
    debug_assert_eq!(condition.index + 1, parser.selector.terms_len, "the last term is the condition");
    Ok(parser.selector)
}

fn is_condition(read: Read) -> Result<(), SelectorError> {
    match read.kind {
        Kind::Condition | Kind::Truth | Kind::Name => Ok(()),
        Kind::Number | Kind::Text => Err(SelectorError { text: "expected a condition", offset: read.at }),
    }
}

fn is_number(read: Read) -> Result<(), SelectorError> {
    match read.kind {
        Kind::Number | Kind::Name => Ok(()),
        _ => Err(SelectorError { text: "expected a number or a name", offset: read.at }),
    }
}

fn is_name(read: Read) -> Result<(), SelectorError> {
    match read.kind {
        Kind::Name => Ok(()),
        _ => Err(SelectorError { text: "expected a name", offset: read.at }),
    }
}

impl Parser<'_> {
    fn fail<T>(&self, text: &'static str) -> Result<T, SelectorError> {
        Err(SelectorError { text, offset: self.at })
    }

    fn advance(&mut self) -> Result<(), SelectorError> {
        self.lexer.space();
        self.at = self.lexer.at;
        self.token = self.lexer.token()?;
        Ok(())
    }

    /// Passes a token if it is there.
    fn takes(&mut self, token: Token) -> Result<bool, SelectorError> {
        let is_there = self.token == token;
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn takes_word(&mut self, keyword: Keyword) -> Result<bool, SelectorError> {
        self.takes(Token::Keyword(keyword))
    }

    fn push(&mut self, term: Term, kind: Kind, at: usize) -> Result<Read, SelectorError> {
        let index = self.selector.terms_len;
        let Some(room) = self.selector.terms.get_mut(usize::from(index)) else {
            return Err(SelectorError { text: "the selector has too many terms", offset: at });
        };
        *room = term;
        self.selector.terms_len += 1;
        Ok(Read { index, kind, at })
    }

    /// Reads what is inside of something, one level deeper.
    fn deeper(&mut self, read: fn(&mut Self) -> Result<Read, SelectorError>) -> Result<Read, SelectorError> {
        if self.depth == DEPTH_MAX {
            return self.fail("the selector is nested too deep");
        }
        self.depth += 1;
        let inside = read(self)?;
        self.depth -= 1;
        Ok(inside)
    }

    fn or(&mut self) -> Result<Read, SelectorError> {
        let mut one = self.and()?;
        while self.takes_word(Keyword::Or)? {
            let other = self.and()?;
            is_condition(one)?;
            is_condition(other)?;
            one = self.push(Term::Or(one.index, other.index), Kind::Condition, one.at)?;
        }
        Ok(one)
    }

    fn and(&mut self) -> Result<Read, SelectorError> {
        let mut one = self.not()?;
        while self.takes_word(Keyword::And)? {
            let other = self.not()?;
            is_condition(one)?;
            is_condition(other)?;
            one = self.push(Term::And(one.index, other.index), Kind::Condition, one.at)?;
        }
        Ok(one)
    }

    fn not(&mut self) -> Result<Read, SelectorError> {
        let at = self.at;
        if !self.takes_word(Keyword::Not)? {
            return self.predicate();
        }
        let of = self.deeper(Self::not)?;
        is_condition(of)?;
        self.push(Term::Not(of.index), Kind::Condition, at)
    }

    /// Reads a value, and what is said of it.
    fn predicate(&mut self) -> Result<Read, SelectorError> {
        let value = self.sum()?;
        if let Token::Compare(how) = self.token {
            self.advance()?;
            return self.compared(value, how);
        }
        if self.takes_word(Keyword::Is)? {
            let negated = self.takes_word(Keyword::Not)?;
            if !self.takes_word(Keyword::Null)? {
                return self.fail("expected NULL or NOT NULL");
            }
            is_name(value)?;
            return self.push(Term::IsNull { value: value.index, negated }, Kind::Condition, value.at);
        }
        let negated = self.takes_word(Keyword::Not)?;
        if self.takes_word(Keyword::Between)? {
            self.between(value, negated)
        } else if self.takes_word(Keyword::In)? {
            self.within(value, negated)
        } else if self.takes_word(Keyword::Like)? {
            self.like(value, negated)
        } else if negated {
            self.fail("expected BETWEEN, IN or LIKE")
        } else {
            Ok(value)
        }
    }

    fn compared(&mut self, value: Read, how: Comparison) -> Result<Read, SelectorError> {
        let other = self.sum()?;
        for read in [value, other] {
            let wrong = match read.kind {
                Kind::Condition => "expected a value, and not a condition",
                Kind::Text | Kind::Truth if !matches!(how, Comparison::Equal | Comparison::Unequal) => {
                    "strings and truth values are compared by = and <> only"
                }
                _ => continue,
            };
            return Err(SelectorError { text: wrong, offset: read.at });
        }
        self.push(Term::Compare(how, value.index, other.index), Kind::Condition, value.at)
    }

    fn between(&mut self, value: Read, negated: bool) -> Result<Read, SelectorError> {
        let from = self.sum()?;
        if !self.takes_word(Keyword::And)? {
            return self.fail("expected AND and the end of what it is between");
        }
        let to = self.sum()?;
        for read in [value, from, to] {
            is_number(read)?;
        }
        let term = Term::Between { value: value.index, from: from.index, to: to.index, negated };
        self.push(term, Kind::Condition, value.at)
    }

    fn within(&mut self, value: Read, negated: bool) -> Result<Read, SelectorError> {
        is_name(value)?;
        if !self.takes(Token::Open)? {
            return self.fail("expected ( and a list");
        }
        let first = self.selector.terms_len;
        loop {
            self.literal()?;
            if self.takes(Token::Close)? {
                break;
            }
            if !self.takes(Token::Comma)? {
                return self.fail("expected , or )");
            }
        }
        let count = self.selector.terms_len - first;
        self.push(Term::In { value: value.index, first, count, negated }, Kind::Condition, value.at)
    }

    /// Reads a literal of a list: one term.
    fn literal(&mut self) -> Result<Read, SelectorError> {
        let negative = self.takes(Token::Minus)?;
        let (term, kind) = match self.token {
            Token::Integer(value) => (Term::Integer(if negative { -value } else { value }), Kind::Number),
            Token::Decimal(value) => (Term::Decimal(if negative { -value } else { value }), Kind::Number),
            Token::Text { at, len, doubled } if !negative => (Term::Text(Slice { at, len, doubled }), Kind::Text),
            Token::Keyword(Keyword::True) if !negative => (Term::Truth(true), Kind::Truth),
            Token::Keyword(Keyword::False) if !negative => (Term::Truth(false), Kind::Truth),
            _ => return self.fail("expected a string, a number, TRUE or FALSE"),
        };
        let at = self.at;
        self.advance()?;
        self.push(term, kind, at)
    }

    fn like(&mut self, value: Read, negated: bool) -> Result<Read, SelectorError> {
        is_name(value)?;
        let pattern_at = self.at;
        let pattern = self.string("expected a pattern: a string")?;
        let mut escape = 0;
        if self.takes_word(Keyword::Escape)? {
            let at = self.at;
            let character = self.string("expected the escape character: a string")?;
            let mut bytes = self.text_of(character).bytes();
            escape = match (bytes.next(), bytes.next()) {
                (Some(byte @ 1..=0x7f), None) => byte,
                _ => {
                    return Err(SelectorError { text: "the escape character is one character of ASCII", offset: at });
                }
            };
            if !is_sound(self.text_of(pattern).bytes(), escape) {
                let text = "the escape character stands before %, _ or itself";
                return Err(SelectorError { text, offset: pattern_at });
            }
        }
        self.push(Term::Like { value: value.index, pattern, escape, negated }, Kind::Condition, value.at)
    }

    fn text_of(&self, slice: Slice) -> Text<'_> {
        slice.of(&self.selector.text)
    }

    fn string(&mut self, otherwise: &'static str) -> Result<Slice, SelectorError> {
        let Token::Text { at, len, doubled } = self.token else { return self.fail(otherwise) };
        self.advance()?;
        Ok(Slice { at, len, doubled })
    }

    fn sum(&mut self) -> Result<Read, SelectorError> {
        let mut one = self.product()?;
        loop {
            let how = match self.token {
                Token::Plus => Operation::Plus,
                Token::Minus => Operation::Minus,
                _ => return Ok(one),
            };
            self.advance()?;
            let other = self.product()?;
            one = self.arithmetic(how, one, other)?;
        }
    }

    fn product(&mut self) -> Result<Read, SelectorError> {
        let mut one = self.signed()?;
        loop {
            let how = match self.token {
                Token::Star => Operation::Times,
                Token::Slash => Operation::Over,
                _ => return Ok(one),
            };
            self.advance()?;
            let other = self.signed()?;
            one = self.arithmetic(how, one, other)?;
        }
    }

    fn arithmetic(&mut self, how: Operation, one: Read, other: Read) -> Result<Read, SelectorError> {
        is_number(one)?;
        is_number(other)?;
        self.push(Term::Arithmetic(how, one.index, other.index), Kind::Number, one.at)
    }

    fn signed(&mut self) -> Result<Read, SelectorError> {
        let at = self.at;
        let negative = match self.token {
            Token::Plus => false,
            Token::Minus => true,
            _ => return self.primary(),
        };
        self.advance()?;
        let of = self.deeper(Self::signed)?;
        is_number(of)?;
        match (negative, of.kind) {
            (false, Kind::Number) => Ok(Read { at, ..of }),
            // Of a name `+a` is a number all the same, and NULL if there is none.
            (false, _) => {
                let zero = self.push(Term::Integer(0), Kind::Number, at)?;
                self.push(Term::Arithmetic(Operation::Plus, zero.index, of.index), Kind::Number, at)
            }
            (true, _) => self.push(Term::Negative(of.index), Kind::Number, at),
        }
    }

    fn primary(&mut self) -> Result<Read, SelectorError> {
        let at = self.at;
        let (term, kind) = match self.token {
            Token::Open => {
                self.advance()?;
                let inside = self.deeper(Self::or)?;
                if !self.takes(Token::Close)? {
                    return self.fail("expected )");
                }
                return Ok(Read { at, ..inside });
            }
            Token::Integer(value) => (Term::Integer(value), Kind::Number),
            Token::Decimal(value) => (Term::Decimal(value), Kind::Number),
            Token::Text { at, len, doubled } => (Term::Text(Slice { at, len, doubled }), Kind::Text),
            Token::Keyword(Keyword::True) => (Term::Truth(true), Kind::Truth),
            Token::Keyword(Keyword::False) => (Term::Truth(false), Kind::Truth),
            Token::Keyword(Keyword::Null) => return self.fail("NULL stands behind IS and IS NOT only"),
            Token::Path { to } => (Term::Found(self.path(at, to)?), Kind::Name),
            Token::Given { to } => {
                let term = match &self.lexer.text[at..to] {
                    "$topic" => Term::Topic,
                    "$key" => Term::Key,
                    "$event" => Term::Event,
                    _ => return self.fail("of names that begin with $ there are $topic, $key and $event"),
                };
                (term, Kind::Name)
            }
            Token::End => return self.fail("expected a value, and not the end"),
            _ => return self.fail("expected a name or a value"),
        };
        self.advance()?;
        self.push(term, kind, at)
    }

    /// Enters a path into the tree of names, and says which one ends it.
    fn path(&mut self, from: usize, to: usize) -> Result<u8, SelectorError> {
        let mut lexer = Lexer { text: &self.lexer.text[..to], at: from };
        let mut above = 0;
        loop {
            let start = lexer.at;
            let slice = lexer.name()?;
            let n = self.name(above, slice, start)?;
            let goes_on = lexer.at < to;
            let names = &mut self.selector.names;
            let entered = &mut names.names[usize::from(n)];
            if goes_on {
                entered.goes_on = true;
                lexer.at += 1;
                above = n + 1;
                continue;
            }
            if !entered.is_end {
                entered.is_end = true;
                names.ends += 1;
            }
            return Ok(n);
        }
    }

    /// Finds or enters a name below another.
    fn name(&mut self, above: u8, slice: Slice, at: usize) -> Result<u8, SelectorError> {
        let text = self.text_of(slice);
        let hash = hash_bytes(text.bytes());
        let len = text.bytes().count();
        let names = &self.selector.names;
        let known = (0..names.len).find(|&n| {
            let other = names.names[usize::from(n)];
            other.above == above && self.text_of(other.slice).is(text)
        });
        if let Some(n) = known {
            return Ok(n);
        }
        let names = &mut self.selector.names;
        let n = names.len;
        let Some(room) = names.names.get_mut(usize::from(n)) else {
            return Err(SelectorError { text: "the selector has too many names", offset: at });
        };
        *room = PathName { slice, above, is_end: false, goes_on: false };
        names.hashes[usize::from(n)] = hash;
        names.lengths |= length_bit(len);
        names.len += 1;
        Ok(n)
    }
}
