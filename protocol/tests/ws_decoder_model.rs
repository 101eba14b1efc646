//! The WebSocket decoder against a naive one, for anything sent, fragmented and cut.

mod frames;

use corecast_protocol::Violation;
use corecast_protocol::ws::decoder::Role;
use corecast_protocol::ws::frame::CONTROL_BYTES_MAX;
use corecast_protocol::ws::frame::Opcode::{self, Binary, Continuation, Ping, Pong, Text};
use frames::{Seen, feed, frame};
use proptest::prelude::*;

const LIMIT: usize = 100_000;

/// A naive decoder: whole input, whole frames, no streaming; the model for the real one.
fn naive(mut input: &[u8], limit: u64) -> (Vec<Seen>, Result<(), Violation>) {
    use Violation as V;
    let mut seen = Vec::new();
    let mut open: Option<(bool, Vec<u8>)> = None;
    let mut frame = || -> Result<bool, Violation> {
        let Some(&[first, second]) = input.first_chunk() else {
            return Ok(false);
        };
        let opcode = first & 15;
        let wide = [0, 2, 8][(second & 127).saturating_sub(125) as usize];
        let Some(length) = input.get(2..2 + wide) else {
            return Ok(false);
        };
        let len = match wide {
            0 => u64::from(second & 127),
            _ => length.iter().fold(0, |len, &byte| len << 8 | u64::from(byte)),
        };
        let Some(mask) = input.get(2 + wide..6 + wide) else {
            return Ok(false);
        };
        if opcode < 8 {
            let had = open.as_ref().map_or(0, |(_, data)| data.len() as u64);
            if had + len > limit {
                return Err(V::MessageTooLarge);
            }
        }
        let Some(payload) = input.get(6 + wide..6 + wide + len as usize) else {
            return Ok(false);
        };
        let payload: Vec<u8> = payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        match opcode {
            8 => {
                let code = payload.first_chunk().map(|&code| u16::from_be_bytes(code));
                seen.push(Seen::Close(code, payload.get(2..).unwrap_or_default().to_vec()));
                return Ok(false);
            }
            9 => seen.push(Seen::Ping(payload)),
            10 => seen.push(Seen::Pong(payload)),
            _ => {
                let (text, data) = open.get_or_insert((opcode == 1, Vec::new()));
                data.extend(payload);
                if first & 128 != 0 {
                    if *text && String::from_utf8(data.clone()).is_err() {
                        return Err(V::NotUtf8);
                    }
                    let (text, data) = open.take().expect("a message is open");
                    seen.push(Seen::Message { text, data });
                }
            }
        }
        input = &input[6 + wide + len as usize..];
        Ok(true)
    };
    loop {
        match frame() {
            Ok(true) => {}
            Ok(false) => return (seen, Ok(())),
            Err(violation) => return (seen, Err(violation)),
        }
    }
}

#[derive(Debug, Clone)]
enum Sent {
    Message { text: bool, fragments: Vec<Vec<u8>>, control_between: bool },
    Control(Opcode, Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    // Texts are cut into fragments at any byte; one in a few is not UTF-8.
    let text = ("\\PC{0,60}", any::<u8>(), 1usize..20, any::<bool>()).prop_map(|(text, spoil, size, between)| {
        let mut data = text.into_bytes();
        if spoil < 20 && !data.is_empty() {
            let at = usize::from(spoil) % data.len();
            data[at] ^= 0x80;
        }
        let fragments = data.chunks(size).map(<[u8]>::to_vec).collect();
        Sent::Message { text: true, fragments, control_between: between }
    });
    prop_oneof![
        text,
        (prop::collection::vec(bytes(200), 0..4), any::<bool>())
            .prop_map(|(fragments, control_between)| Sent::Message { text: false, fragments, control_between }),
        bytes(125).prop_map(|data| Sent::Control(Ping, data)),
        bytes(125).prop_map(|data| Sent::Control(Pong, data)),
    ]
}

fn encode(sent: &[Sent], mask: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    for sent in sent {
        match sent {
            Sent::Control(opcode, data) => out.extend(frame(true, *opcode, data, Some(mask))),
            Sent::Message { text, fragments, control_between } => {
                let mut opcode = if *text { Text } else { Binary };
                for fragment in fragments {
                    out.extend(frame(false, opcode, fragment, Some(mask)));
                    if *control_between {
                        let some = &fragment[..fragment.len().min(CONTROL_BYTES_MAX)];
                        out.extend(frame(true, Ping, some, Some(mask)));
                    }
                    opcode = Continuation;
                }
                out.extend(frame(true, opcode, b"", Some(mask)));
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is sent, fragmented and cut in any way, the decoder sees what the naive one sees.
    #[test]
    fn the_decoder_agrees_with_the_naive_one(
        sent in prop::collection::vec(sent(), 0..6),
        mask in any::<[u8; 4]>(),
        sizes in prop::collection::vec(1usize..50, 1..10),
        limit in prop_oneof![Just(LIMIT), 20usize..300],
    ) {
        let input = encode(&sent, mask);
        let (expected, result) = naive(&input, limit as u64);
        let mut pieces = Vec::new();
        let mut rest = &input[..];
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let (seen, found) = feed(Role::Server, limit, pieces);
        match result {
            Ok(()) => prop_assert_eq!((seen, found), (expected, result)),
            // The naive decoder knows only at the end of a message that its text is bad; the real one stops at the byte, so
            // a control frame or a large fragment after it is not seen.
            Err(_) => {
                prop_assert!(found.is_err());
                prop_assert!(expected.starts_with(&seen), "{:?} then {:?}", expected, seen);
            }
        }
    }
}
