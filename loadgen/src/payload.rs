//! What a message carries, so that whoever receives it can check it: stamped by the publisher, read by the witness.
//!
//! A payload is text, so that every transport carries it as it is:
//!
//! ```text
//! topic (8 hex) number (10 hex) length (6 hex) scheduled, ns (16 hex) checksum (16 hex) padding
//! ```
//!
//! The checksum covers everything but itself, the padding differs from message to message: a payload that is cut,
//! mixed from two messages, or delivered to the wrong topic is noticed. The length makes a payload found wherever it
//! stands, within whatever a server wraps around it.

/// Bytes of the stamp; a payload is never shorter.
pub const STAMP_BYTES: usize = 56;

/// Longest payload in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Numbers that a message may have: what its digits hold.
pub const NUMBERS_MAX: u64 = 1 << 40;

const CHECKSUM: std::ops::Range<usize> = 40..56;

/// Printable, and not special in any transport's framing.
const PADDING: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

/// What a payload says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the topic, from 0.
    pub topic: u32,
    /// Number of the message within its topic, from 0.
    pub number: u64,
    /// When it was due to be sent, in nanoseconds of CLOCK_MONOTONIC. Not when it was sent: a publisher that runs late
    /// must not hide its own queue.
    pub scheduled_ns: u64,
}

/// Writes a payload that fills `out`.
///
/// # Panics
/// If `out` is shorter than [`STAMP_BYTES`].
pub fn write(stamp: Stamp, out: &mut [u8]) {
    write_hex(u64::from(stamp.topic), &mut out[..8]);
    write_hex(stamp.number, &mut out[8..18]);
    write_hex(out.len() as u64, &mut out[18..24]);
    write_hex(stamp.scheduled_ns, &mut out[24..40]);
    let start = (stamp.number as usize).wrapping_add(stamp.topic as usize) % PADDING.len();
    for (index, byte) in out[STAMP_BYTES..].iter_mut().enumerate() {
        *byte = PADDING[(start + index) % PADDING.len()];
    }
    let sum = checksum(out);
    write_hex(sum, &mut out[CHECKSUM]);
}

/// Reads a payload; `None` if it is not one that [`write`] wrote, whole and with nothing behind it.
#[must_use]
#[inline]
pub fn read(payload: &[u8]) -> Option<Stamp> {
    if payload.len() < STAMP_BYTES
        || read_hex(&payload[18..24])? != payload.len() as u64
        || read_hex(&payload[CHECKSUM])? != checksum(payload)
    {
        return None;
    }
    Some(Stamp {
        topic: u32::try_from(read_hex(&payload[..8])?).ok()?,
        number: read_hex(&payload[8..18])?,
        scheduled_ns: read_hex(&payload[24..40])?,
    })
}

/// Returns the first run of bytes at or behind `at` that could be of payloads.
#[must_use]
pub fn run(bytes: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let ours = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let start = at + bytes[at..].iter().position(ours)?;
    let len = bytes[start..].iter().position(|byte| !ours(byte));
    Some(start..len.map_or(bytes.len(), |len| start + len))
}

/// Finds the first payload in a [`run`]: what is around it may be of the same bytes.
#[must_use]
pub fn find(run: &[u8]) -> Option<std::ops::Range<usize>> {
    (0..=run.len().checked_sub(STAMP_BYTES)?).find_map(|start| {
        let len = read_hex(&run[start + 18..start + 24])? as usize;
        let payload = run.get(start..start + len).filter(|_| len >= STAMP_BYTES)?;
        read(payload).map(|_| start..start + len)
    })
}

/// Mixes all bytes but the checksum's own, 8 at a time: one multiplication a word, as it runs on every delivery.
fn checksum(payload: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut sum = payload.len() as u64;
    let mut mix = |word: u64| sum = (sum.rotate_left(23) ^ word).wrapping_mul(ODD);
    for part in [&payload[..CHECKSUM.start], &payload[CHECKSUM.end..]] {
        let (words, rest) = part.as_chunks::<8>();
        for word in words {
            mix(u64::from_le_bytes(*word));
        }
        for byte in rest {
            mix(u64::from(*byte));
        }
    }
    sum ^ sum >> 32
}

fn write_hex(mut value: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    for digit in digits {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u64::from(nibble);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { topic: 70_000, number: 0x12_3456_789a, scheduled_ns: u64::MAX - 5 };

    /// What was stamped is read again, at the shortest and at odd lengths, and it is text.
    #[test]
    fn stamps_round_trip() {
        for bytes in [STAMP_BYTES, STAMP_BYTES + 1, 64, 512, 1021] {
            let mut payload = vec![0; bytes];
            write(STAMP, &mut payload);
            assert_eq!(read(&payload), Some(STAMP));
            assert!(payload.iter().all(u8::is_ascii_graphic));
        }
    }

    /// A payload is found wherever it stands, whatever is around it, also right behind another.
    #[test]
    fn payloads_are_found() {
        let (mut first, mut second) = (vec![0; 60], vec![0; 100]);
        write(STAMP, &mut first);
        write(Stamp { number: 1, ..STAMP }, &mut second);
        let text = [b"{\"id\":\"00ff", &first[..], &second[..], b"00\"}"].concat();
        let id = run(&text, 0).unwrap();
        assert_eq!(&text[id.clone()], b"id");
        assert_eq!(find(&text[id.clone()]), None);
        let all = run(&text, id.end).unwrap();
        let one = find(&text[all.clone()]).unwrap();
        assert_eq!(one, 4..64, "behind 00ff");
        assert_eq!(find(&text[all.start + one.end..all.end]), Some(0..100));
        assert_eq!(run(&text, all.end), None);
        assert_eq!(find(&first[..59]), None);
    }

    /// No single changed, missing, added or exchanged byte goes unnoticed.
    #[test]
    fn damage_is_noticed() {
        let mut payload = vec![0; 150];
        write(STAMP, &mut payload);
        for at in 0..payload.len() {
            for flip in [1, 0x20, 0x80] {
                let mut damaged = payload.clone();
                damaged[at] ^= flip;
                assert_eq!(read(&damaged), None, "byte {at} ^ {flip:#x}");
            }
            let mut exchanged = payload.clone();
            exchanged.swap(at, (at + 9) % 150);
            assert!(exchanged == payload || read(&exchanged).is_none(), "{at} exchanged");
        }
        assert_eq!(read(&payload[..149]), None);
        assert_eq!(read(&[&payload[..], b"0"].concat()), None);
    }

    /// The head of one message on the tail of the next is noticed: that is what a slice at a wrong place looks like.
    #[test]
    fn mixtures_are_noticed() {
        let (mut first, mut second) = (vec![0; 200], vec![0; 200]);
        write(STAMP, &mut first);
        write(Stamp { number: STAMP.number + 1, ..STAMP }, &mut second);
        for cut in 24..190 {
            assert_eq!(read(&[&first[..cut], &second[cut..]].concat()), None, "cut at {cut}");
        }
    }
}
