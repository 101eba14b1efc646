//! Lines, put together out of the pieces that a body comes in.

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// LF only; what stands before it, a CR too, is the line.
    LineFeed,
    /// CR, LF or CRLF, as in an event stream.
    Any,
}

/// Holds the line at hand, at most so many bytes of it.
#[derive(Debug)]
pub(super) struct Splitter {
    line: Vec<u8>,
    bytes_max: usize,
    ends: Ends,
    /// The line was handed out; the next byte begins another.
    complete: bool,
    /// The line ended with CR: an LF right behind it belongs to that end.
    after_cr: bool,
}

impl Splitter {
    pub(super) fn new(ends: Ends, bytes_max: usize) -> Splitter {
        Splitter { line: Vec::new(), bytes_max, ends, complete: false, after_cr: false }
    }

    /// Returns the next whole line, without its end, and moves `rest` behind it; `None` once all of `rest` is taken.
    pub(super) fn next(&mut self, rest: &mut &[u8]) -> Result<Option<&[u8]>, String> {
        if std::mem::take(&mut self.complete) {
            self.line.clear();
            // One endless line must not keep its memory for ever.
            self.line.shrink_to(64 << 10);
        }
        if !rest.is_empty() && std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
            *rest = &rest[1..];
        }
        let is_end = |byte: &u8| *byte == b'\n' || (self.ends == Ends::Any && *byte == b'\r');
        let end = rest.iter().position(is_end);
        let piece = &rest[..end.unwrap_or(rest.len())];
        if self.line.len() + piece.len() > self.bytes_max {
            return Err(format!("a line is longer than {} bytes", self.bytes_max));
        }
        self.line.extend_from_slice(piece);
        let Some(end) = end else {
            *rest = &[];
            return Ok(None);
        };
        self.after_cr = rest[end] == b'\r';
        *rest = &rest[end + 1..];
        self.complete = true;
        Ok(Some(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(ends: Ends, pieces: &[&[u8]]) -> Vec<String> {
        let mut splitter = Splitter::new(ends, 8);
        let mut lines = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while let Some(line) = splitter.next(&mut rest).unwrap() {
                lines.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        lines
    }

    /// Lines end where they should, also if the cut goes through CRLF; what has no end yet is kept.
    #[test]
    fn lines_end() {
        assert_eq!(split(Ends::Any, &[b"a\rb\nc\r\nd\r", b"\n\r", b"\re"]), ["a", "b", "c", "d", "", ""]);
        assert_eq!(split(Ends::LineFeed, &[b"a\r", b"\nb", b"c\n\nd"]), ["a\r", "bc", ""]);
    }

    /// A line that does not end is refused when it is too long, however it comes.
    #[test]
    fn an_endless_line_is_refused() {
        let mut splitter = Splitter::new(Ends::LineFeed, 8);
        assert_eq!(splitter.next(&mut &b"12345678"[..]), Ok(None));
        assert!(splitter.next(&mut &b"9"[..]).is_err());
    }
}
