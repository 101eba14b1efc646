//! The content coding gzip (RFC 1952), as far as a stream needs it whose pieces are shared.
//!
//! A stream is [`START`] and then pieces of deflate data that end at a byte, each of which refers to nothing before it: so all
//! subscribers share them, wherever they came in. Compressing is the engine's; what is not worth it goes in stored blocks. The
//! checksum at the end of a gzip file would be another one for every subscriber, and so is left out: clients that show data as
//! it comes, as browsers, curl and fetch, take the end of the answer for the end.

/// What a stream begins with: deflate, no name, no time, made by an unknown system (RFC 1952 section 2.3).
pub const START: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The most data of a stored block, in bytes (RFC 1951 section 3.2.4).
const BLOCK_BYTES_MAX: usize = 0xffff;

/// Says how many bytes [`store`] writes for so many bytes of data.
pub const fn stored_len(len: usize) -> usize {
    let blocks = if len == 0 { 1 } else { len.div_ceil(BLOCK_BYTES_MAX) };
    len + 5 * blocks
}

/// Writes data as it is, in stored blocks, to the start of `out`, and says how many bytes they took: [`stored_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
pub fn store(data: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    let mut rest = data;
    loop {
        let (block, following) = rest.split_at(rest.len().min(BLOCK_BYTES_MAX));
        let [low, high] = (block.len() as u16).to_le_bytes();
        out[at..at + 5].copy_from_slice(&[0, low, high, !low, !high]);
        out[at + 5..at + 5 + block.len()].copy_from_slice(block);
        at += 5 + block.len();
        rest = following;
        if rest.is_empty() {
            return at;
        }
    }
}
