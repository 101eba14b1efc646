//! Random numbers that no peer can guess: the kernel's.
#![allow(unsafe_code)]

use std::io;

/// Draws a number.
///
/// # Errors
/// What the kernel said (`ENOSYS` under a seccomp profile that forbids `getrandom`).
pub fn draw() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the pointer is to eight writable bytes, and eight are asked for.
    let drawn = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if drawn == bytes.len() as isize { Ok(u64::from_ne_bytes(bytes)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    /// Two draws differ: a constant would make every topic's home and epoch predictable.
    #[test]
    fn draws_differ() {
        assert_ne!(super::draw().unwrap(), super::draw().unwrap());
    }
}
