//! Fuzz bodies: each takes any bytes and asserts what must hold for all of them.
//!
//! They live in the crate so that they run twice: over a corpus and its mutations as a test on stable
//! (`tests/fuzz_corpus.rs`), and under a fuzzer from the one-line targets in `fuzz/`. What they assert: nothing panics; what is
//! found does not depend on the cuts; what was read and is written again reads the same. Not part of the crate's interface.

mod cuts;
mod kept;
mod patterns;
mod records;
mod streams;
mod trips;

pub use cuts::{chunked, credential, decoder, head, proxy, response};
pub use kept::snapshot;
pub use patterns::pattern;
pub use records::{record, selector};
pub use streams::{forwarded, multipart, prefer, script, sse};
pub use trips::{cursor, line, percent, publish_line, topic};

/// The most input a body looks at. Every cut is tried, so the work grows with the square.
const INPUT_BYTES_MAX: usize = 1024;

fn bounded(data: &[u8]) -> &[u8] {
    &data[..data.len().min(INPUT_BYTES_MAX)]
}

/// A copy on the stack, for what is parsed in place.
struct Copied {
    bytes: [u8; 4 * INPUT_BYTES_MAX],
    len: usize,
}

impl Copied {
    fn of(data: &[u8]) -> Self {
        let mut bytes = [0; 4 * INPUT_BYTES_MAX];
        bytes[..data.len()].copy_from_slice(data);
        Self { bytes, len: data.len() }
    }

    /// What `write` writes.
    fn written(write: impl FnOnce(&mut crate::Writer<'_>)) -> Self {
        let mut bytes = [0; 4 * INPUT_BYTES_MAX];
        let mut w = crate::Writer::new(&mut bytes);
        write(&mut w);
        let len = w.finish().expect("nothing grows to more than four times its size");
        Self { bytes, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}
