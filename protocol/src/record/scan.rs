//! A walk over JSON that was checked before, or that nobody promised anything of.
//!
//! Owns a place in the bytes and nothing else. It sees where members and values begin and end, and looks no closer: of what is no JSON it may find
//! something all the same, or that it is [`Malformed`]. It never panics, and each byte it passes is passed once.

use memchr::memchr2;

use super::Name;

/// Says that no value can be seen here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

pub(crate) type Scanned<T> = Result<T, Malformed>;

/// A place in JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

/// What a byte is to who looks for the end of an array or an object.
const KIND: u8 = 3;
const PLAIN: u8 = 0;
const QUOTE: u8 = 1;
const OPEN: u8 = 2;
const CLOSE: u8 = 3;
/// It ends a number or a word.
const END: u8 = 4;
/// It stands between values.
const SPACE: u8 = 8;

const KINDS: [u8; 256] = {
    let mut kinds = [PLAIN; 256];
    kinds[b'"' as usize] = QUOTE;
    kinds[b'{' as usize] = OPEN;
    kinds[b'[' as usize] = OPEN;
    kinds[b'}' as usize] = CLOSE | END;
    kinds[b']' as usize] = CLOSE | END;
    kinds[b',' as usize] = END;
    kinds[b' ' as usize] = SPACE | END;
    kinds[b'\t' as usize] = SPACE | END;
    kinds[b'\r' as usize] = SPACE | END;
    kinds[b'\n' as usize] = SPACE | END;
    kinds
};

impl<'a> Cursor<'a> {
    /// Stands at the first byte that is no space.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut cursor = Self { bytes, at: 0 };
        cursor.space();
        cursor
    }

    /// Stands at a byte.
    pub(crate) const fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Says whether an object begins here.
    #[inline]
    pub(crate) fn is_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Says whether `null` begins here: no other value begins with its letter.
    #[inline]
    pub(crate) fn is_null(&self) -> bool {
        self.peek() == Some(b'n')
    }

    #[inline]
    pub(crate) fn space(&mut self) {
        while let Some(byte) = self.peek()
            && KINDS[usize::from(byte)] & SPACE != 0
        {
            self.at += 1;
        }
    }

    #[inline]
    fn take(&mut self, wanted: u8) -> Scanned<()> {
        if self.peek() != Some(wanted) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Passes the bracket of an object.
    #[inline]
    pub(crate) fn open(&mut self) -> Scanned<()> {
        self.take(b'{')
    }

    /// Passes what stands before the name of the next member; false if there is no more, and the object is passed. `first` says whether none was passed
    /// yet, and is false afterwards.
    #[inline]
    pub(crate) fn next(&mut self, first: &mut bool) -> Scanned<bool> {
        self.space();
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !*first => {
                self.at += 1;
                self.space();
            }
            _ if *first => {}
            _ => return Err(Malformed),
        }
        *first = false;
        Ok(true)
    }

    /// Passes the name of the next member, up to its value; `None` if there is no more, and the object is passed.
    #[inline]
    pub(crate) fn member(&mut self, first: &mut bool) -> Scanned<Option<Name<'a>>> {
        if self.next(first)? { self.name().map(Some) } else { Ok(None) }
    }

    /// Passes a name, the colon and the space around it.
    #[inline]
    pub(crate) fn name(&mut self) -> Scanned<Name<'a>> {
        let name = self.string()?;
        self.space();
        self.take(b':')?;
        self.space();
        Ok(name)
    }

    /// Passes a string.
    #[inline]
    pub(crate) fn string(&mut self) -> Scanned<Name<'a>> {
        self.take(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..).ok_or(Malformed)?;
            self.at += end_or_escape(rest).ok_or(Malformed)?;
            if self.bytes[self.at] == b'"' {
                let raw = &self.bytes[start..self.at];
                self.at += 1;
                return Ok(Name { raw, escaped });
            }
            escaped = true;
            self.at += 2;
        }
    }

    /// Passes a value of any kind, and gives its bytes.
    #[inline]
    pub(crate) fn value(&mut self) -> Scanned<&'a [u8]> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.string()?;
            }
            Some(b'{' | b'[') => {
                self.at += 1;
                self.close()?;
            }
            _ => {
                let rest = &self.bytes[self.at..];
                let ends = |&byte: &u8| KINDS[usize::from(byte)] & END != 0;
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
                if self.at == start {
                    return Err(Malformed);
                }
            }
        }
        Ok(&self.bytes[start..self.at])
    }

    /// Passes these bytes, which end with a value, if they are what stands here and the value ends there, too; says whether it did.
    #[inline]
    pub(crate) fn passes(&mut self, bytes: &[u8]) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let is_here =
            rest.starts_with(bytes) && rest.get(bytes.len()).is_none_or(|&byte| KINDS[usize::from(byte)] & END != 0);
        if is_here {
            self.at += bytes.len();
        }
        is_here
    }

    /// Passes the rest of an array or object whose bracket was passed.
    pub(crate) fn close(&mut self) -> Scanned<()> {
        let mut depth = 1u32;
        while let Some(byte) = self.peek() {
            match KINDS[usize::from(byte)] & KIND {
                PLAIN => self.at += 1,
                QUOTE => {
                    self.string()?;
                }
                OPEN => {
                    self.at += 1;
                    depth += 1;
                }
                _ => {
                    self.at += 1;
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
            }
        }
        Err(Malformed)
    }
}

/// Words looked at before a search with a call of its own pays: names and most values are shorter.
const WORDS_AT_HAND: usize = 4;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks the first byte of a word that is `byte`; bytes behind it may be marked, too.
const fn marks(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ (ONES * byte as u64);
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & HIGHS
}

/// Finds the first quote or backslash.
#[inline]
fn end_or_escape(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let (words, _) = bytes.as_chunks::<8>();
    for word in words.iter().take(WORDS_AT_HAND) {
        let word = u64::from_le_bytes(*word);
        let found = marks(word, b'"') | marks(word, b'\\');
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', &bytes[at..]).map(|found| at + found)
}

/// Counts the bytes before the first that may not stand in a string as it is: a quote, a backslash or a control character.
#[inline]
pub(super) fn clean_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        // A byte is below 0x20 if taking that from it borrows; the first one marked is one, as nothing before it borrowed.
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = controls | marks(word, b'"') | marks(word, b'\\');
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\').unwrap_or(rest.len())
}
