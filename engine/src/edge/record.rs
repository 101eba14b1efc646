//! TLS records: framing, sealing, opening, and the keys for it (RFC 8446 section 5, RFC 5246 section 6.2, RFC 5288, RFC 7905).
//!
//! ```text
//!   TLS 1.3   23 3 3 length | text, kind        sealed | tag        header is what is signed besides
//!   TLS 1.2   kind 3 3 length | (number) | text sealed | tag        number, kind, length are; AES-GCM shows the number
//! ```
//!
//! Owns: [`Keys`], some 200 bytes a connection: keys as they were agreed, numbers, and what the next keys are made from. Never: allocates,
//! knows a socket, keeps a byte of a record.
//!
//! A record is a function of key, number and text. So if the kernel took nothing of one, nothing was said, and its number is free for
//! another text; if it took a part, exactly that record has to go on.

use std::ops::Range;

use aws_lc_rs::hkdf;

use super::alert::Fault;
use crate::io::aead::{Cipher, Key, NONCE_BYTES, TAG_BYTES, with_key};

/// What records hold.
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 5;

/// The longest text of a record.
const TEXT_BYTES_MAX: usize = 1 << 14;

/// The longest record behind its header: RFC 8446 allows 256 bytes more than the text, RFC 5246 2,048. The larger holds until it is known
/// which one is spoken.
const SEALED_BYTES_MAX_12: usize = TEXT_BYTES_MAX + 2048;
const SEALED_BYTES_MAX_13: usize = TEXT_BYTES_MAX + 256;

/// Records that a key may seal: then it is replaced. AES-GCM is good for 2^24.5 full ones (RFC 8446 section 5.5), all others for more.
const RECORDS_MAX: u64 = 1 << 23;

/// Which TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

/// The keys of one direction.
#[derive(Clone)]
pub(super) struct Half {
    pub(super) key: [u8; 32],
    pub(super) iv: [u8; NONCE_BYTES],
    /// Number of the next record.
    pub(super) seq: u64,
}

/// A traffic secret, as long as the hash of the suite.
pub(super) type Secret = [u8; 48];

/// The keys of a connection.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) version: Version,
    pub(super) cipher: Cipher,
    pub(super) sending: Half,
    pub(super) receiving: Half,
    /// What the next keys are made from, in TLS 1.3.
    pub(super) sending_secret: Secret,
    pub(super) receiving_secret: Secret,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({:?}, {:?})", self.version, self.cipher)
    }
}

/// Finds the first record of bytes that came; `None`: more are needed.
///
/// # Errors
/// What came is no record, or longer than one may be.
pub(super) fn frame(bytes: &[u8], version: Option<Version>) -> Result<Option<usize>, Fault> {
    match *bytes {
        [kind, ..] if !(CHANGE_CIPHER_SPEC..=DATA).contains(&kind) => Err(Fault::NotTls),
        [_, major, ..] if major != 3 => Err(Fault::NotTls),
        [_, _, _, high, low, ..] => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let len_max = if version == Some(Version::Tls13) { SEALED_BYTES_MAX_13 } else { SEALED_BYTES_MAX_12 };
            if len > len_max {
                return Err(Fault::RecordOverflow);
            }
            Ok((bytes.len() >= HEADER_BYTES + len).then_some(HEADER_BYTES + len))
        }
        _ => Ok(None),
    }
}

impl Keys {
    /// Returns where the text of a record begins.
    pub(super) const fn text_at(&self) -> usize {
        match (self.version, self.cipher) {
            (Version::Tls12, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => HEADER_BYTES + 8,
            _ => HEADER_BYTES,
        }
    }

    /// Returns the bytes of a record besides its text.
    pub(super) const fn overhead(&self) -> usize {
        let kind = match self.version {
            Version::Tls12 => 0,
            Version::Tls13 => 1,
        };
        self.text_at() + kind + TAG_BYTES
    }

    /// Says whether the keys for sending should be replaced.
    pub(super) const fn are_used_up(&self) -> bool {
        self.sending.seq >= RECORDS_MAX
    }

    /// Does something with the key for sending.
    #[inline]
    pub(super) fn with_sending<R>(&mut self, act: impl FnOnce(&mut Keys, Key<'_>) -> R) -> R {
        let key = self.sending.key;
        let cipher = self.cipher;
        with_key(cipher, &key[..cipher.key_bytes()], |key| act(self, key))
    }

    /// Seals a text as the next record, which takes all of `record`; `None`: it stands already where it belongs there.
    #[inline]
    pub(super) fn seal(&mut self, key: &Key<'_>, kind: u8, text: Option<&[u8]>, record: &mut [u8]) {
        let seq = self.sending.seq;
        self.sending.seq += 1;
        let nonce = nonce(&self.sending.iv, seq);
        let at = self.text_at();
        let len = record.len() - self.overhead();
        let shown = if self.version == Version::Tls13 { DATA } else { kind };
        let [high, low] = ((record.len() - HEADER_BYTES) as u16).to_be_bytes();
        record[..HEADER_BYTES].copy_from_slice(&[shown, 3, 3, high, low]);
        record[HEADER_BYTES..at].copy_from_slice(&nonce[NONCE_BYTES - (at - HEADER_BYTES)..]);
        let (head, sealed) = record.split_at_mut(at);
        let signed_12;
        let (signed, extra): (&[u8], &[u8]) = match self.version {
            Version::Tls13 => (head, &[kind]),
            Version::Tls12 => {
                signed_12 = signed_in_12(seq, kind, len);
                (&signed_12, &[])
            }
        };
        match text {
            Some(text) => key.seal(&nonce, signed, text, extra, sealed),
            None => key.seal_in_place(&nonce, signed, len, extra, sealed),
        }
    }

    /// Opens a whole record where it stands; returns what it holds, and where.
    ///
    /// # Errors
    /// It was forged, or breaks a rule.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(u8, Range<usize>), Fault> {
        let at = self.text_at();
        let shown = record[0];
        if record.len() < self.overhead() {
            return Err(Fault::BadRecord);
        }
        let seq = self.receiving.seq;
        self.receiving.seq += 1;
        let mut nonce = nonce(&self.receiving.iv, seq);
        nonce[NONCE_BYTES - (at - HEADER_BYTES)..].copy_from_slice(&record[HEADER_BYTES..at]);
        let (cipher, key) = (self.cipher, self.receiving.key);
        let (head, sealed) = record.split_at_mut(at);
        let opened = with_key(cipher, &key[..cipher.key_bytes()], |key| match self.version {
            Version::Tls13 if shown != DATA => Err(Fault::Unexpected),
            Version::Tls13 => key.open_in_place(&nonce, head, sealed).ok_or(Fault::BadRecord),
            Version::Tls12 => {
                let signed = signed_in_12(seq, shown, sealed.len() - TAG_BYTES);
                key.open_in_place(&nonce, &signed, sealed).ok_or(Fault::BadRecord)
            }
        })?;
        let (kind, len) = match self.version {
            Version::Tls12 => (shown, opened),
            // Behind the text stand its kind, and zeros that hide how long it is.
            Version::Tls13 => {
                let padded = &sealed[..opened];
                let end = padded.iter().rposition(|byte| *byte != 0).ok_or(Fault::Unexpected)?;
                (padded[end], end)
            }
        };
        if len > TEXT_BYTES_MAX {
            return Err(Fault::RecordOverflow);
        }
        if len == 0 && kind != DATA {
            return Err(Fault::Unexpected);
        }
        Ok((kind, at..at + len))
    }

    /// Replaces the keys for sending: our peer has been told with the old ones.
    pub(super) fn update_sending(&mut self) {
        (self.sending_secret, self.sending) = next(self.cipher, &self.sending_secret);
    }

    /// Replaces the keys for receiving: the peer has said that it did.
    pub(super) fn update_receiving(&mut self) {
        (self.receiving_secret, self.receiving) = next(self.cipher, &self.receiving_secret);
    }
}

/// Returns the nonce of a record (RFC 8446 section 5.3).
#[inline]
fn nonce(iv: &[u8; NONCE_BYTES], seq: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = *iv;
    for (byte, number) in nonce[4..].iter_mut().zip(seq.to_be_bytes()) {
        *byte ^= number;
    }
    nonce
}

/// Returns what TLS 1.2 signs besides the text (RFC 5246 section 6.2.3.3).
fn signed_in_12(seq: u64, kind: u8, len: usize) -> [u8; 13] {
    let mut signed = [0; 13];
    signed[..8].copy_from_slice(&seq.to_be_bytes());
    signed[8..11].copy_from_slice(&[kind, 3, 3]);
    signed[11..].copy_from_slice(&(len as u16).to_be_bytes());
    signed
}

/// Returns the next secret, and the keys made from it (RFC 8446 sections 7.2 and 7.3).
fn next(cipher: Cipher, secret: &Secret) -> (Secret, Half) {
    let (algorithm, bytes) = match cipher {
        Cipher::Aes256Gcm => (hkdf::HKDF_SHA384, 48),
        Cipher::Aes128Gcm | Cipher::ChaCha20Poly1305 => (hkdf::HKDF_SHA256, 32),
    };
    let mut new = [0; 48];
    expand(algorithm, &secret[..bytes], b"traffic upd", &mut new[..bytes]);
    let mut half = Half { key: [0; 32], iv: [0; NONCE_BYTES], seq: 0 };
    expand(algorithm, &new[..bytes], b"key", &mut half.key[..cipher.key_bytes()]);
    expand(algorithm, &new[..bytes], b"iv", &mut half.iv);
    (new, half)
}

/// HKDF-Expand-Label without a context (RFC 8446 section 7.1).
fn expand(algorithm: hkdf::Algorithm, secret: &[u8], label: &[u8], into: &mut [u8]) {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let [high, low] = (into.len() as u16).to_be_bytes();
    let head = [high, low, 6 + label.len() as u8];
    let info: [&[u8]; 4] = [&head, b"tls13 ", label, &[0]];
    let prk = hkdf::Prk::new_less_safe(algorithm, secret);
    let filled = prk.expand(&info, Length(into.len())).and_then(|okm| okm.fill(into));
    filled.expect("keys are shorter than 255 hashes");
}

/// A fuzz body: bytes as records, in every version and cipher. Whatever comes is framed within itself, opened or refused; what is sealed
/// is opened again, and forged nowhere.
///
/// # Panics
/// If any of that is not so.
#[doc(hidden)]
pub fn fuzz_records(data: &[u8]) {
    let half = || Half { key: [7; 32], iv: [9; NONCE_BYTES], seq: 0 };
    for version in [Version::Tls12, Version::Tls13] {
        for cipher in [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
            let (sending_secret, receiving_secret) = ([3; 48], [3; 48]);
            let keys = Keys { version, cipher, sending: half(), receiving: half(), sending_secret, receiving_secret };
            let mut bytes = data.to_vec();
            let (mut at, mut receiver) = (0, keys.clone());
            while let Ok(Some(len)) = frame(&bytes[at..], Some(version)) {
                assert!(len > 0 && at + len <= bytes.len());
                if let Ok((_, range)) = receiver.open(&mut bytes[at..at + len]) {
                    assert!(range.end <= len);
                }
                at += len;
            }
            // A prefix asks for more, or says what the whole says.
            for cut in 0..data.len().min(HEADER_BYTES) {
                let (short, long) = (frame(&data[..cut], Some(version)), frame(data, Some(version)));
                assert!(short == Ok(None) || short == long);
            }
            let text = &data[..data.len().min(TEXT_BYTES_MAX)];
            let (mut sender, mut receiver) = (keys.clone(), keys.clone());
            let mut record = vec![0; text.len() + keys.overhead()];
            sender.with_sending(|keys, key| keys.seal(&key, DATA, Some(text), &mut record));
            let forged_at = data.iter().map(|byte| usize::from(*byte)).sum::<usize>() % record.len();
            let mut forged = record.clone();
            forged[forged_at] ^= 1 + data.first().copied().unwrap_or(0) % 255;
            if !(1..HEADER_BYTES).contains(&forged_at) {
                assert!(receiver.clone().open(&mut forged).is_err());
            }
            let opened = receiver.open(&mut record).map(|(kind, range)| (kind, &record[range]));
            assert_eq!(opened, Ok((DATA, text)));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::edge) fn keys(version: Version, cipher: Cipher) -> Keys {
        let half = Half { key: [7; 32], iv: [9; 12], seq: 0 };
        Keys {
            version,
            cipher,
            sending: half.clone(),
            receiving: half,
            sending_secret: [3; 48],
            receiving_secret: [3; 48],
        }
    }

    pub(in crate::edge) fn every() -> Vec<Keys> {
        let ciphers = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];
        let versions = [Version::Tls12, Version::Tls13];
        versions.iter().flat_map(|version| ciphers.map(|cipher| keys(*version, cipher))).collect()
    }

    fn sealed(keys: &mut Keys, kind: u8, text: &[u8]) -> Vec<u8> {
        let mut record = vec![0; text.len() + keys.overhead()];
        keys.with_sending(|keys, key| keys.seal(&key, kind, Some(text), &mut record));
        record
    }

    /// What is sealed is framed as one record and opened again, in every version and cipher, also where it was put in place; a second
    /// record of the same text looks different.
    #[test]
    fn records_are_opened() {
        for mut keys in every() {
            for text in [&b""[..], b"x", &[5; 4096]] {
                let mut records = [sealed(&mut keys, DATA, text), sealed(&mut keys, DATA, text)];
                let [first, second] = &mut records;
                assert!(text.is_empty() || first[HEADER_BYTES..] != second[HEADER_BYTES..]);
                for record in [first, second] {
                    assert_eq!(frame(record, Some(keys.version)), Ok(Some(record.len())));
                    for cut in 0..record.len() {
                        assert_eq!(frame(&record[..cut], Some(keys.version)), Ok(None));
                    }
                    let (kind, range) = keys.open(record).unwrap();
                    assert_eq!((kind, &record[range]), (DATA, text));
                }
            }
            let mut copy = keys.clone();
            let apart = sealed(&mut keys, DATA, b"the same");
            let mut record = vec![0; 8 + copy.overhead()];
            record[copy.text_at()..][..8].copy_from_slice(b"the same");
            copy.with_sending(|keys, key| keys.seal(&key, DATA, None, &mut record));
            assert_eq!(record, apart);
        }
    }

    /// A record that was changed anywhere, is heard twice, or out of order, is not opened.
    #[test]
    fn nothing_but_the_next_record_is_opened() {
        for keys in every() {
            let mut sender = keys.clone();
            let (one, two) = (sealed(&mut sender, DATA, b"one"), sealed(&mut sender, DATA, b"two"));
            assert!(keys.clone().open(&mut two.clone()).is_err(), "the second is not the first");
            for at in 0..one.len() {
                let mut forged = one.clone();
                forged[at] ^= 1;
                // Of the header only what is signed tells; a wrong length frames another record.
                if keys.version == Version::Tls12 && (1..HEADER_BYTES).contains(&at) {
                    continue;
                }
                assert!(keys.clone().open(&mut forged).is_err(), "{at} {keys:?}");
            }
            let mut receiver = keys.clone();
            assert!(receiver.open(&mut one.clone()).is_ok());
            assert!(receiver.clone().open(&mut one.clone()).is_err(), "a replay");
            assert!(receiver.open(&mut two.clone()).is_ok());
        }
    }

    /// Padding is cut off, nothing but padding is refused, and so are empty messages and texts that are too long.
    #[test]
    fn padding_and_limits() {
        let keys = keys(Version::Tls13, Cipher::Aes128Gcm);
        let raw = |inner: &[u8]| {
            let mut sender = keys.clone();
            let mut record = vec![0; HEADER_BYTES + inner.len() + TAG_BYTES];
            let [high, low] = ((record.len() - HEADER_BYTES) as u16).to_be_bytes();
            record[..HEADER_BYTES].copy_from_slice(&[DATA, 3, 3, high, low]);
            let (head, rest) = record.split_at_mut(HEADER_BYTES);
            sender.with_sending(|keys, key| key.seal(&nonce(&keys.sending.iv, 0), head, inner, &[], rest));
            record
        };
        let open = |inner: &[u8]| {
            let mut record = raw(inner);
            keys.clone().open(&mut record).map(|(kind, range)| (kind, record[range].to_vec()))
        };
        assert_eq!(open(b"text\x17"), Ok((DATA, b"text".to_vec())));
        assert_eq!(open(b"text\x17\0\0\0\0"), Ok((DATA, b"text".to_vec())));
        assert_eq!(open(b"\x17"), Ok((DATA, vec![])));
        assert_eq!(open(b"\x16"), Err(Fault::Unexpected));
        assert_eq!(open(b"\0\0\0"), Err(Fault::Unexpected));
        assert_eq!(open(&[&[1; TEXT_BYTES_MAX][..], &[DATA]].concat()), Ok((DATA, vec![1; TEXT_BYTES_MAX])));
        assert_eq!(open(&[&[1; TEXT_BYTES_MAX + 1][..], &[DATA]].concat()), Err(Fault::RecordOverflow));
        assert_eq!(frame(&[DATA, 3, 3, 0x41, 0x01], Some(Version::Tls13)), Err(Fault::RecordOverflow));
        assert_eq!(frame(b"GET / HTTP/1.1\r\n", None), Err(Fault::NotTls));
        assert_eq!(frame(&[HANDSHAKE, 2], None), Err(Fault::NotTls));
    }

    /// New keys are those of RFC 8448's arithmetic: both ends get the same, and old ones open nothing any more.
    #[test]
    fn keys_are_replaced() {
        for cipher in [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
            let (mut sender, mut receiver) = (keys(Version::Tls13, cipher), keys(Version::Tls13, cipher));
            let old = receiver.clone();
            sender.update_sending();
            receiver.update_receiving();
            assert_eq!(sender.sending.key, receiver.receiving.key);
            let record = sealed(&mut sender, DATA, b"new");
            assert!(old.clone().open(&mut record.clone()).is_err());
            assert!(receiver.open(&mut record.clone()).is_ok());
        }
    }
}
