//! Compressing and decompressing, a message at a time.
//!
//! Owns one compressor per window and one decompressor for the whole shard: nothing of a message is remembered for the next
//! one, so none belongs to a connection. What a peer sends never becomes larger than it is told.

use corecast_protocol::violation::Violation;
use corecast_protocol::ws::deflate::{TAIL, Window};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// How hard the compressor tries, of 9: the next level takes two and a half times as long for a sixth of the bytes
/// (`benches/LOG.md`, 2026-11-28).
const LEVEL: u32 = 1;

/// An empty last block (RFC 1951 section 3.2.6): whatever ends at a block's end ends with it, and nothing else does.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// The compressors of a shard; each is made when it is first needed.
#[derive(Debug, Default)]
pub(in crate::shard) struct Deflater {
    by_window: [Option<Compress>; 3],
}

/// Room that a compressed message may take, whatever it holds: at [`LEVEL`] a byte becomes 9 bits at most, and there are a few
/// bytes around them.
pub(in crate::shard) const fn room(message_bytes: usize) -> usize {
    message_bytes + message_bytes / 8 + 64
}

impl Deflater {
    /// Compresses a message into the front of `out`, as blocks of deflate that end at a byte with [`TAIL`], and returns their
    /// length; `None` if that is not below `bytes_max`.
    ///
    /// `out` has [room](room) for any outcome: a compressor that is stopped for want of it keeps what it could not write, and
    /// zlib-rs (0.6.8) forgets that when it is reset, but not the place it takes. The next such message would be its end, and
    /// everybody's.
    ///
    /// # Panics
    /// If `out` is shorter than that.
    pub(in crate::shard) fn deflate(
        &mut self,
        window: Window,
        message: &[u8],
        out: &mut [u8],
        bytes_max: usize,
    ) -> Option<usize> {
        assert!(out.len() >= room(message.len()), "the caller made room for any outcome");
        let place = match window {
            Window::Bits15 => 0,
            Window::Bits12 => 1,
            Window::Bits9 => 2,
        };
        let make = || Compress::new_with_window_bits(Compression::new(LEVEL), false, window as u8);
        let compress = self.by_window[place].get_or_insert_with(make);
        compress.reset();
        let status = compress.compress(message, out, FlushCompress::Sync);
        let (read, written) = (compress.total_in() as usize, compress.total_out() as usize);
        // With no byte to spare, there may be more to come.
        if !matches!(status, Ok(Status::Ok)) || read < message.len() || written == out.len() {
            debug_assert!(false, "there was room for any outcome: {status:?}, {read} bytes became {written}");
            self.by_window[place] = None; // Whatever it keeps is nobody's.
            return None;
        }
        (written < bytes_max).then_some(written)
    }
}

/// The decompressor of a shard.
#[derive(Debug)]
pub(in crate::shard) struct Inflater {
    inflate: Decompress,
}

impl Inflater {
    /// Makes the decompressor.
    #[must_use]
    pub(in crate::shard) fn new() -> Inflater {
        Inflater { inflate: Decompress::new(false) }
    }

    /// Decompresses a whole message without its [`TAIL`] into `out`, which is cleared first.
    ///
    /// # Errors
    /// [`Violation::MessageTooLarge`] as soon as there are more than `bytes_max` bytes; [`Violation::BadDeflate`] if it is not
    /// deflate data, or ends within a block.
    pub(in crate::shard) fn inflate(
        &mut self,
        message: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        out.clear();
        self.inflate.reset(false);
        for piece in [message, &TAIL, &LAST_BLOCK] {
            if self.piece(piece, bytes_max, out)? {
                return Ok(());
            }
        }
        Err(Violation::BadDeflate)
    }

    /// Decompresses a piece; says whether it ended where a last block does.
    fn piece(&mut self, mut piece: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<bool, Violation> {
        loop {
            // Room for one byte more than may come shows that more comes.
            out.reserve((bytes_max + 1 - out.len()).min(INFLATE_BYTES));
            let before = (self.inflate.total_in(), out.len());
            let status =
                self.inflate.decompress_vec(piece, out, FlushDecompress::None).map_err(|_| Violation::BadDeflate)?;
            piece = &piece[(self.inflate.total_in() - before.0) as usize..];
            if out.len() > bytes_max {
                return Err(Violation::MessageTooLarge);
            }
            if status == Status::StreamEnd {
                if piece.is_empty() {
                    return Ok(true);
                }
                // A sender may end its blocks for good and go on (RFC 7692 section 7.2.3.4).
                self.inflate.reset(false);
            } else if self.inflate.total_in() == before.0 && out.len() == before.1
                || piece.is_empty() && out.len() < out.capacity()
            {
                return Ok(false);
            }
        }
    }
}

/// Room made for what comes out, at least, before more is asked for: small messages take one step.
const INFLATE_BYTES: usize = 16 << 10;

/// Fuzz body: a limit (first byte, in units of 64 bytes), and what claims to be a compressed message.
///
/// # Panics
/// If more comes out than the limit, if what came out does not come out again when it is compressed, or if anything depends on
/// what was decompressed before.
pub fn fuzz_inflate(data: &[u8]) {
    let Some((limit, message)) = data.split_first() else { return };
    let bytes_max = 64 * usize::from(*limit);
    let mut inflater = Inflater::new();
    let (mut out, mut again) = (Vec::new(), Vec::new());
    let found = inflater.inflate(message, bytes_max, &mut out);
    assert_eq!(inflater.inflate(message, bytes_max, &mut again), found);
    if found.is_err() {
        return;
    }
    assert!(out.len() <= bytes_max && out == again);
    let mut deflater = Deflater::default();
    let mut packed = vec![0; room(out.len())];
    for window in [Window::Bits15, Window::Bits12, Window::Bits9] {
        let len = deflater.deflate(window, &out, &mut packed, usize::MAX).expect("nothing becomes much longer");
        let body = packed[..len].strip_suffix(&TAIL).expect("a flush ends like this");
        inflater.inflate(body, bytes_max, &mut again).expect("it was compressed by us");
        assert_eq!(out, again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, Violation> {
        let mut out = Vec::new();
        Inflater::new().inflate(message, bytes_max, &mut out).map(|()| out)
    }

    /// The examples of RFC 7692 section 7.2.3: one block, two blocks, a stored block, a last block, and a byte more.
    #[test]
    fn the_rfc_examples_are_read() {
        for message in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // As above, without the byte that a sender of a last block has to add: everybody reads it.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(inflate(message, 5).as_deref(), Ok(&b"Hello"[..]), "{message:x?}");
            assert_eq!(inflate(message, 4), Err(Violation::MessageTooLarge), "{message:x?}");
            assert!(inflate(&message[..message.len() - 4], 100).is_err(), "{message:x?}");
        }
        assert_eq!(inflate(&[0], 0), Ok(Vec::new()));
        assert_eq!(inflate(&[], 0), Err(Violation::BadDeflate));
    }

    /// A bomb stops at the limit, however much would still come, and takes no more memory than the limit and a little.
    #[test]
    fn bombs_stop_at_the_limit() {
        let bomb = vec![0; 32 << 20];
        let mut packed = vec![0; room(bomb.len())];
        let len =
            Deflater::default().deflate(Window::Bits15, &bomb, &mut packed, 1 << 20).expect("zeros compress well");
        for bytes_max in [0, 1, 65_536, bomb.len() - 1] {
            let mut out = Vec::new();
            let found = Inflater::new().inflate(&packed[..len - TAIL.len()], bytes_max, &mut out);
            assert_eq!(found, Err(Violation::MessageTooLarge), "{bytes_max}");
            assert!(out.capacity() <= 2 * bytes_max + INFLATE_BYTES, "{bytes_max}: {}", out.capacity());
        }
        assert_eq!(inflate(&packed[..len - TAIL.len()], bomb.len()), Ok(bomb));
    }

    /// Messages that do not become smaller, one after the other, leave nothing in the compressor. What had found no room
    /// stayed there, and the next such message was the end of the process: two noisy publications did it.
    #[test]
    fn noise_leaves_nothing_behind() {
        let mut state = 1u64;
        for window in [Window::Bits15, Window::Bits12, Window::Bits9] {
            let mut deflater = Deflater::default();
            for len in [60_000, 60_000, 1, 65_536, 300, 65_536, 20_000, 65_536] {
                let noise: Vec<u8> = (0..len).map(|_| crate::shard::random::random(&mut state) as u8).collect();
                assert_eq!(deflater.deflate(window, &noise, &mut vec![0; room(len)], len), None, "{window:?}, {len}");
            }
        }
    }

    /// What does not become smaller is said to, and the next message is none the worse for it.
    #[test]
    fn what_does_not_fit_is_left() {
        let mut state = 1u64;
        let noise: Vec<u8> = (0..5_000).map(|_| crate::shard::random::random(&mut state) as u8).collect();
        let mut deflater = Deflater::default();
        let mut out = vec![0; room(noise.len())];
        for _ in 0..3 {
            assert_eq!(deflater.deflate(Window::Bits12, &noise, &mut out, noise.len()), None);
            let text = b"corecast ".repeat(500);
            let len = deflater.deflate(Window::Bits12, &text, &mut out, text.len()).expect("it becomes smaller");
            assert_eq!(inflate(&out[..len - TAIL.len()], text.len()), Ok(text));
        }
    }
}
