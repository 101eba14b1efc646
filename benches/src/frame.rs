//! WebSocket frames as the baselines need them: read masked ones, write unmasked ones (RFC 6455 section 5.2).

/// Longest header of an unmasked frame, in bytes.
pub const HEADER_BYTES_MAX: usize = 10;

/// Text frame.
pub const TEXT: u8 = 1;
/// Binary frame.
pub const BINARY: u8 = 2;
/// Close frame.
pub const CLOSE: u8 = 8;
/// Ping frame.
pub const PING: u8 = 9;
/// Pong frame.
pub const PONG: u8 = 10;

/// Header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Opcode, 0 to 15.
    pub opcode: u8,
    /// Bytes of the header, with the mask.
    pub header_len: usize,
    /// Bytes of the payload.
    pub payload_len: usize,
    /// What every byte is XORed with, four at a time.
    pub mask: [u8; 4],
}

impl Header {
    /// Reads the header of a masked frame; `None` while it is not complete.
    #[must_use]
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Header> {
        let opcode = bytes.first()? & 15;
        let (extended, payload_len) = match bytes.get(1)? & 127 {
            126 => (2, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (8, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
            short => (0, u64::from(short)),
        };
        let mask = bytes.get(2 + extended..6 + extended)?.try_into().ok()?;
        Some(Header { opcode, header_len: 6 + extended, payload_len: payload_len as usize, mask })
    }

    /// Returns the bytes of the whole frame.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.header_len + self.payload_len
    }
}

/// Writes the header of an unmasked, unfragmented frame and returns its length.
///
/// # Panics
/// If `out` is too short; [`HEADER_BYTES_MAX`] always suffices.
#[inline]
pub fn write_header(out: &mut [u8], opcode: u8, payload_len: usize) -> usize {
    out[0] = 0x80 | opcode;
    match payload_len {
        0..=125 => {
            out[1] = payload_len as u8;
            2
        }
        126..=0xffff => {
            out[1] = 126;
            out[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            out[1] = 127;
            out[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    }
}

/// Returns how long the header of an unmasked frame is, in bytes.
#[must_use]
pub const fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Copies `from` to `to` without its mask, 8 bytes at a time.
///
/// # Panics
/// If the two are not of one length.
#[inline]
pub fn unmask(from: &[u8], to: &mut [u8], mask: [u8; 4]) {
    assert_eq!(from.len(), to.len(), "unmask copies the whole payload");
    let word = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (from_words, from_rest) = from.as_chunks::<8>();
    let (to_words, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in from_words.iter().zip(to_words) {
        *to = (u64::from_ne_bytes(*from) ^ word).to_ne_bytes();
    }
    for (index, (from, to)) in from_rest.iter().zip(to_rest).enumerate() {
        *to = from ^ mask[index % 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers of every length class are read back as written, and a cut header is not an error.
    #[test]
    fn headers_round_trip() {
        for payload_len in [0, 1, 125, 126, 0xffff, 0x1_0000, 1 << 30] {
            let mut bytes = [0; HEADER_BYTES_MAX + 4];
            let unmasked = write_header(&mut bytes, TEXT, payload_len);
            assert_eq!(unmasked, header_len(payload_len));
            bytes[1] |= 0x80;
            bytes[unmasked..unmasked + 4].copy_from_slice(&[1, 2, 3, 4]);
            let header_len = unmasked + 4;
            for cut in 0..header_len {
                assert_eq!(Header::read(&bytes[..cut]), None);
            }
            let header = Header::read(&bytes[..header_len]).unwrap();
            assert_eq!(header, Header { opcode: TEXT, header_len, payload_len, mask: [1, 2, 3, 4] });
        }
    }

    /// Unmasking in words gives what unmasking in bytes gives, at every length up to three words.
    #[test]
    fn unmask_equals_the_naive_way() {
        for len in 0..24u8 {
            let from: Vec<u8> = (0..len).collect();
            let mask = [0xa5, 0x5a, 0x0f, 0xf1];
            let naive: Vec<u8> = from.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            let mut to = vec![0; from.len()];
            unmask(&from, &mut to, mask);
            assert_eq!(to, naive);
        }
    }
}
