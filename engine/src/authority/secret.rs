//! Bytes that nobody may see: they are not printed, logged, or compared in a time that says how much of them is right.

use std::fmt;

use aws_lc_rs::{constant_time, digest};

/// A secret.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes bytes for a secret.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Secret {
        Secret(bytes.into())
    }

    /// Shows them, to who works with them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Draws so many random bytes, as twice as many hexadecimal digits.
    ///
    /// # Errors
    /// The kernel gives no random numbers.
    pub fn draw(bytes: usize) -> Result<Secret, &'static str> {
        let mut drawn = vec![0; bytes];
        aws_lc_rs::rand::fill(&mut drawn).map_err(|_| "the kernel gives no random numbers")?;
        Ok(Secret::new(hex(&drawn).into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a secret hashes to (SHA-256): enough to know it again, and of no use to who reads it, if the secret is random.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes a secret.
    #[must_use]
    pub fn of(secret: &[u8]) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        Digest(bytes)
    }

    /// Reads one of 64 hexadecimal digits.
    #[must_use]
    pub fn read(text: &str) -> Option<Digest> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Digest(bytes))
    }

    /// Says whether two are the same, in a time that does not depend on how much of them is.
    #[must_use]
    pub fn is(&self, other: &Digest) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// Writes it as 64 hexadecimal digits.
    #[must_use]
    pub fn text(&self) -> String {
        hex(&self.0)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Digest) -> bool {
        self.is(other)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither a secret nor its hash shows itself by accident.
    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new(*b"correct horse");
        let shown = format!("{secret:?} {:?}", Digest::of(secret.bytes()));
        assert_eq!(shown, "Secret(..) Digest(..)");
    }

    /// A hash is written and read as `sha256sum` writes it.
    #[test]
    fn hashes_are_those_of_sha256sum() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.text(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(Digest::read(&digest.text()).unwrap().is(&digest));
        assert!(!Digest::of(b"abd").is(&digest));
        for text in ["", "ab", &"g".repeat(64), &"é".repeat(32)] {
            assert!(Digest::read(text).is_none(), "{text}");
        }
    }

    /// Two draws differ, and are as long as they should be.
    #[test]
    fn draws_differ() {
        let (one, other) = (Secret::draw(32).unwrap(), Secret::draw(32).unwrap());
        assert!(one.bytes().len() == 64 && one.bytes() != other.bytes());
    }
}
