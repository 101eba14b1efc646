//! Ciphers of TLS records: keys are expanded where they are used, on the stack.
//!
//! Owns: nothing that lasts. Why not `aws_lc_rs::aead`: each key there is an allocation of 592 bytes, and one per connection to
//! keep, or one per record to make. An expanded key costs no less to fetch from cold memory than to make again (LOG: 135 ns hot), so
//! connections keep 16 or 32 bytes.
//!
//! Sound because: a context is made, used and cleaned at one place in memory, on the stack of [`with_key`], and never moved (it
//! aligns itself at its address); every length is that of a slice; where text and record are the same bytes, they begin at the same
//! address, which AWS-LC allows.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;

use aws_lc_sys::{
    EVP_AEAD, EVP_AEAD_CTX, EVP_AEAD_CTX_cleanup, EVP_AEAD_CTX_init, EVP_AEAD_CTX_open, EVP_AEAD_CTX_seal_scatter,
    EVP_aead_aes_128_gcm, EVP_aead_aes_256_gcm, EVP_aead_chacha20_poly1305,
};

/// Bytes of the tag behind each text, for all of them.
pub(crate) const TAG_BYTES: usize = 16;

/// Bytes of a nonce, for all of them.
pub(crate) const NONCE_BYTES: usize = 12;

/// A cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Cipher {
    /// Returns the bytes of its keys.
    pub(crate) const fn key_bytes(self) -> usize {
        match self {
            Cipher::Aes128Gcm => 16,
            Cipher::Aes256Gcm | Cipher::ChaCha20Poly1305 => 32,
        }
    }

    fn algorithm(self) -> *const EVP_AEAD {
        // SAFETY: they return addresses of constants.
        unsafe {
            match self {
                Cipher::Aes128Gcm => EVP_aead_aes_128_gcm(),
                Cipher::Aes256Gcm => EVP_aead_aes_256_gcm(),
                Cipher::ChaCha20Poly1305 => EVP_aead_chacha20_poly1305(),
            }
        }
    }
}

/// A key that is ready for use.
pub(crate) struct Key<'c>(&'c EVP_AEAD_CTX);

impl std::fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// Cleans a context when its time is over, also if that is a panic's.
struct Context(MaybeUninit<EVP_AEAD_CTX>);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was initialised (`with_key`), and is not used any more.
        unsafe { EVP_AEAD_CTX_cleanup(self.0.as_mut_ptr()) }
    }
}

/// Does something with a key.
///
/// # Panics
/// If the key is not as long as the cipher wants it.
#[inline]
pub(crate) fn with_key<R>(cipher: Cipher, key: &[u8], act: impl FnOnce(Key<'_>) -> R) -> R {
    assert_eq!(key.len(), cipher.key_bytes());
    let mut context = Context(MaybeUninit::zeroed());
    // SAFETY: the context is zero, as `EVP_AEAD_CTX_zero` makes it, and ours; the key is as long as we say; 0 stands for the usual tag.
    let made = unsafe {
        EVP_AEAD_CTX_init(context.0.as_mut_ptr(), cipher.algorithm(), key.as_ptr(), key.len(), 0, ptr::null_mut())
    };
    assert_eq!(made, 1, "a key of the right length is always taken");
    // SAFETY: it is initialised, and lives at this place until it is dropped.
    act(Key(unsafe { context.0.assume_init_ref() }))
}

impl Key<'_> {
    /// Seals `text` and, behind it, `extra` (a few bytes) into `into`, with the tag behind them.
    ///
    /// # Panics
    /// If `into` is not as long as text, extra and tag, or `extra` is longer than a tag.
    #[inline]
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], text: &[u8], extra: &[u8], into: &mut [u8]) {
        assert_eq!(into.len(), text.len() + extra.len() + TAG_BYTES);
        // SAFETY: `into` is ours alone, so it does not overlap with `text`.
        unsafe { self.seal_raw(nonce, aad, text.as_ptr(), text.len(), extra, into) }
    }

    /// Seals the text of `len` bytes that stands at the beginning of `record`, and `extra` behind it, where it stands.
    ///
    /// # Panics
    /// If the record is not as long as text, extra and tag, or `extra` is longer than a tag.
    #[inline]
    pub(crate) fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        len: usize,
        extra: &[u8],
        record: &mut [u8],
    ) {
        assert_eq!(record.len(), len + extra.len() + TAG_BYTES);
        let text = record.as_ptr();
        // SAFETY: text and record begin at the same address.
        unsafe { self.seal_raw(nonce, aad, text, len, extra, record) }
    }

    /// # Safety
    /// `len` bytes can be read at `text`; they do not overlap with `into`, or begin where it does.
    unsafe fn seal_raw(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        text: *const u8,
        len: usize,
        extra: &[u8],
        into: &mut [u8],
    ) {
        assert!(extra.len() <= TAG_BYTES);
        let mut tag_len = 0;
        let out = into.as_mut_ptr();
        // SAFETY: the text as the caller says; the rest are slices; behind the text, `into` has room for extra and tag.
        let sealed = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                self.0,
                out,
                out.add(len),
                &raw mut tag_len,
                into.len() - len,
                nonce.as_ptr(),
                NONCE_BYTES,
                text,
                len,
                extra.as_ptr(),
                extra.len(),
                aad.as_ptr(),
                aad.len(),
            )
        };
        assert!(sealed == 1 && tag_len == extra.len() + TAG_BYTES, "what has room is sealed");
    }

    /// Opens what was sealed, where it stands; returns the bytes of its text, or nothing if it is forged.
    #[inline]
    pub(crate) fn open_in_place(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], sealed: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        let bytes = sealed.as_mut_ptr();
        // SAFETY: text and record begin at the same address; the rest are slices.
        let opened = unsafe {
            EVP_AEAD_CTX_open(
                self.0,
                bytes,
                &raw mut len,
                sealed.len(),
                nonce.as_ptr(),
                NONCE_BYTES,
                bytes,
                sealed.len(),
                aad.as_ptr(),
                aad.len(),
            )
        };
        (opened == 1).then_some(len)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::{
        AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
    };

    use super::*;

    const CIPHERS: [(Cipher, &Algorithm); 3] = [
        (Cipher::Aes128Gcm, &AES_128_GCM),
        (Cipher::Aes256Gcm, &AES_256_GCM),
        (Cipher::ChaCha20Poly1305, &CHACHA20_POLY1305),
    ];

    /// What is sealed here, in either way, the safe interface of the same library opens; what it seals is opened here.
    #[test]
    fn both_interfaces_agree() {
        for (cipher, algorithm) in CIPHERS {
            let key: Vec<u8> = (0..cipher.key_bytes() as u8).collect();
            let other = LessSafeKey::new(UnboundKey::new(algorithm, &key).unwrap());
            let nonce = [7; NONCE_BYTES];
            for len in [0, 1, 15, 16, 17, 512, 4096, 16_384] {
                let text: Vec<u8> = (0..len).map(|n| n as u8).collect();
                let whole = [&text[..], &[23]].concat();
                let mut record = vec![0; len + 1 + TAG_BYTES];
                with_key(cipher, &key, |key| key.seal(&nonce, b"aad", &text, &[23], &mut record));
                let mut again = record.clone();
                let opened =
                    other.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(b"aad"), &mut again).unwrap();
                assert_eq!(opened, whole);

                let mut in_place = [&text[..], &[0; 1 + TAG_BYTES]].concat();
                with_key(cipher, &key, |key| key.seal_in_place(&nonce, b"aad", len, &[23], &mut in_place));
                assert_eq!(in_place, record);

                let mut theirs = whole.clone();
                let unique = Nonce::assume_unique_for_key(nonce);
                other.seal_in_place_append_tag(unique, Aad::from(b"aad"), &mut theirs).unwrap();
                assert_eq!(theirs, record);
                let opened = with_key(cipher, &key, |key| key.open_in_place(&nonce, b"aad", &mut theirs));
                assert_eq!(opened, Some(len + 1));
                assert_eq!(theirs[..=len], whole);
            }
        }
    }

    /// A record that was changed by a bit, cut, or sealed for another place is not opened.
    #[test]
    fn forgeries_are_not_opened() {
        for (cipher, _) in CIPHERS {
            let key = vec![1; cipher.key_bytes()];
            let mut record = vec![0; 20 + TAG_BYTES];
            with_key(cipher, &key, |key| key.seal(&[0; 12], b"aad", &[5; 20], &[], &mut record));
            let open = |nonce: [u8; 12], aad: &[u8], bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                with_key(cipher, &key, |key| key.open_in_place(&nonce, aad, &mut bytes))
            };
            assert_eq!(open([0; 12], b"aad", &record), Some(20));
            assert_eq!(open([1; 12], b"aad", &record), None);
            assert_eq!(open([0; 12], b"aae", &record), None);
            for at in 0..record.len() {
                let mut changed = record.clone();
                changed[at] ^= 1;
                assert_eq!(open([0; 12], b"aad", &changed), None);
                assert_eq!(open([0; 12], b"aad", &record[..at]), None);
            }
        }
    }
}
