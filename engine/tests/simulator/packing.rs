//! Deflate (RFC 1951) as clients use it: every piece by itself, with a compressor or decompressor that knows nothing else.
//!
//! That is the point: a piece that refers to an earlier one, as those of most servers do, is an error here.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What ends a piece, and is left out of WebSocket messages (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// An empty last block: behind whole blocks that end at a byte it ends the data, and anywhere else it does not.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Unpacks whole blocks that end at a byte and look back 2 to the power of `window_bits` bytes at most.
pub(crate) fn unpack(piece: &[u8], window_bits: u8) -> Vec<u8> {
    let input = [piece, &LAST_BLOCK].concat();
    let mut inflater = Decompress::new_with_window_bits(false, window_bits);
    let mut out = Vec::new();
    loop {
        // Less than the smallest window: what lies further back than the window is not in this buffer by chance.
        let mut some = [0; 256];
        let (read, written) = (inflater.total_in(), inflater.total_out());
        let status = inflater.decompress(&input[read as usize..], &mut some, FlushDecompress::None);
        out.extend_from_slice(&some[..(inflater.total_out() - written) as usize]);
        match status.expect("deflate data that refers to nothing before it") {
            Status::StreamEnd => break,
            _ => assert!(
                (inflater.total_in(), inflater.total_out()) != (read, written),
                "a piece ends with a whole block, at a byte"
            ),
        }
    }
    assert_eq!(inflater.total_in() as usize, input.len(), "nothing behind the last block of a piece");
    out
}

/// Unpacks a WebSocket message.
pub(crate) fn unpack_message(packed: &[u8], window_bits: u8) -> Vec<u8> {
    unpack(&[packed, &TAIL].concat(), window_bits)
}

/// Packs a WebSocket message.
pub(crate) fn pack_message(payload: &[u8]) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::default(), false);
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
    let status = compressor.compress_vec(payload, &mut out, FlushCompress::Sync);
    assert_eq!((status.expect("it was just made"), compressor.total_in() as usize), (Status::Ok, payload.len()));
    assert!(out.ends_with(&TAIL) && out.len() < out.capacity(), "there was room");
    out.truncate(out.len() - TAIL.len());
    out
}

/// The example of RFC 7692, section 7.2.3.1, unpacks; what is packed unpacks; a block that was cut does not.
#[test]
fn deflate_of_the_rfc() {
    assert_eq!(unpack_message(&[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], 15), b"Hello");
    let text = b"abcabcabcabcabcabc".repeat(1_000);
    assert_eq!(unpack_message(&pack_message(&text), 15), text);
    let cut = std::panic::catch_unwind(|| unpack(&[0xF2, 0x48, 0xCD, 0xC9], 15));
    assert!(cut.is_err());
}
