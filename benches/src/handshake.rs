//! The WebSocket handshake of the baselines: enough of RFC 6455 section 4.2 for a well-behaved client.
//!
//! Never checks what it does not need: these servers meet the load generator on loopback and nobody else.

use base64::Engine as _;
use sha1::{Digest as _, Sha1};

/// The string that RFC 6455 section 1.3 appends to the client's key.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Longest request head that a baseline reads, in bytes.
pub const HEAD_BYTES_MAX: usize = 4096;

/// What a baseline wants to know of an upgrade request.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade<'b> {
    /// Target of the request, as it stands in the first line.
    pub path: &'b str,
    /// `Sec-WebSocket-Key`.
    pub key: &'b str,
    /// Bytes of the head, with the empty line that ends it.
    pub head_len: usize,
}

/// Why a request cannot be upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnUpgrade;

/// Finds path and key in a request head; `None` while the head is not complete.
///
/// # Errors
/// If the head is too long, not UTF-8, not a request, or carries no key.
pub fn parse(bytes: &[u8]) -> Result<Option<Upgrade<'_>>, NotAnUpgrade> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() >= HEAD_BYTES_MAX { Err(NotAnUpgrade) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| NotAnUpgrade)?;
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or(NotAnUpgrade)?;
    let key = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .map(|(_, value)| value.trim())
        .ok_or(NotAnUpgrade)?;
    Ok(Some(Upgrade { path, key, head_len: end + 4 }))
}

/// Returns the `101` answer to a key (RFC 6455 section 4.2.2).
#[must_use]
pub fn answer(key: &str) -> Vec<u8> {
    let digest = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3 gets the answer printed there, and a head cut short is not an error.
    #[test]
    fn example_of_the_rfc() {
        let head = b"GET /chat HTTP/1.1\r\nHost: a\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nrest";
        for cut in 0..head.len() - 4 {
            assert_eq!(parse(&head[..cut]), Ok(None), "cut at {cut}");
        }
        let upgrade = parse(head).unwrap().unwrap();
        assert_eq!((upgrade.path, upgrade.head_len), ("/chat", head.len() - 4));
        let answer = String::from_utf8(answer(upgrade.key)).unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    }

    /// A request without a key, and a head without end, are refused.
    #[test]
    fn not_an_upgrade() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(NotAnUpgrade));
        assert_eq!(parse(&[b'a'; HEAD_BYTES_MAX]), Err(NotAnUpgrade));
    }
}
