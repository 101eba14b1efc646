//! Base64 as RFC 4648 says, slow and obvious: it judges the production codec.

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes bytes, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Decodes text that must have its padding.
pub(crate) fn unbase64(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 4, 0, "base64 with padding");
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let digits: Vec<u32> = four
            .iter()
            .filter(|digit| **digit != b'=')
            .map(|digit| BASE64.iter().position(|other| other == digit).expect("a base64 digit") as u32)
            .collect();
        let bits = digits.iter().fold(0u32, |bits, digit| bits << 6 | digit) << (6 * (4 - digits.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..digits.len()]);
    }
    bytes
}

/// The example of RFC 4648, section 10, both ways.
#[test]
fn base64_of_the_rfc() {
    for (bytes, text) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
    {
        assert_eq!(base64(bytes.as_bytes()), text);
        assert_eq!(unbase64(text), bytes.as_bytes());
    }
}
