//! The body of an answer that goes on and on: chunks of HTTP/1.1, or bytes until the connection ends.
//!
//! Owns: what came of the body and is not understood yet, unpacked. Checks every byte of the framing. What the bytes mean is said
//! by the reader of a format (`sse`, `ndjson`, `multipart`, `forever_frame`).

use crate::packing::unpack;
use crate::wire::Answer;

/// What a gzip stream begins with (RFC 1952 section 2.3): deflate, no name, no time, made by an unknown system.
const GZIP_START: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];

/// What the bytes of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Plain,
    /// A gzip stream that has not begun.
    GzipStart,
    Gzip,
}

#[derive(Debug)]
pub(crate) struct Body {
    chunked: bool,
    coding: Coding,
    /// What came, in the clear.
    pub(crate) bytes: Vec<u8>,
    /// All bytes that came, framing and all, and how many they were unpacked.
    pub(crate) came: (u64, u64),
    /// The last chunk has come.
    pub(crate) ended: bool,
}

impl Body {
    /// Begins the body of an answer whose length its head does not say.
    pub(crate) fn new(head: &Answer) -> Body {
        assert_eq!(head.header("content-length"), None, "a stream has no length: {head:?}");
        let chunked = head.header("transfer-encoding").is_some();
        if chunked {
            assert_eq!(head.header("transfer-encoding"), Some("chunked"), "{head:?}");
        } else {
            assert_eq!(head.header("connection"), Some("close"), "its end is that of the connection: {head:?}");
        }
        let coding = match head.header("content-encoding") {
            None => Coding::Plain,
            Some("gzip") => Coding::GzipStart,
            Some(other) => panic!("nobody asked for {other}"),
        };
        assert!(chunked || coding == Coding::Plain, "who cannot read chunks gets no gzip: {head:?}");
        Body { chunked, coding, bytes: Vec::new(), came: (0, 0), ended: false }
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Takes the next whole chunk off `raw`, or all there is of a body without chunks; says whether there was any.
    pub(crate) fn take(&mut self, raw: &mut Vec<u8>) -> bool {
        if self.ended {
            assert!(raw.is_empty(), "bytes after the last chunk: {:?}", String::from_utf8_lossy(raw));
            return false;
        }
        if !self.chunked {
            let came = !raw.is_empty();
            self.came.0 += raw.len() as u64;
            self.pass(raw);
            raw.clear();
            return came;
        }
        let Some(line_len) = raw.windows(2).position(|two| two == b"\r\n") else {
            assert!(raw.len() <= 18, "a chunk's size, not {:?}", String::from_utf8_lossy(raw));
            return false;
        };
        let line = std::str::from_utf8(&raw[..line_len]).expect("a chunk's size is text");
        let size = usize::from_str_radix(line, 16).unwrap_or_else(|_| panic!("a chunk's size, not {line:?}"));
        assert_eq!(line, format!("{size:x}"), "a size in its shortest form, and nothing behind it");
        let (start, end) = (line_len + 2, line_len + 2 + size);
        let Some(rest) = raw.get(end..end + 2) else { return false };
        assert_eq!(rest, b"\r\n", "a chunk ends with CRLF");
        self.ended = size == 0;
        self.came.0 += (end + 2) as u64;
        let data = raw[start..end].to_vec();
        raw.drain(..end + 2);
        if !self.ended {
            self.pass(&data);
        }
        true
    }

    /// Bytes of the body pass through here, in order and without their framing. Each chunk of a gzip stream is a piece by
    /// itself, because it is the same for every reader, wherever it came in.
    fn pass(&mut self, bytes: &[u8]) {
        let before = self.bytes.len();
        match self.coding {
            Coding::Plain => self.bytes.extend_from_slice(bytes),
            Coding::GzipStart => {
                assert_eq!(bytes, GZIP_START, "the start of a gzip stream");
                self.coding = Coding::Gzip;
            }
            Coding::Gzip => self.bytes.extend(unpack(bytes, 15)),
        }
        self.came.1 += (self.bytes.len() - before) as u64;
    }
}
