//! Frames made and fed as a connection would, for the tests of the WebSocket decoder.

use corecast_protocol::Violation;
use corecast_protocol::ws::decoder::{Decoder, Event, Role};
use corecast_protocol::ws::frame::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Opcode, unmask, write_header};

/// What went past, with the pieces of a message put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Message {
        text: bool,
        data: Vec<u8>,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
    /// What there was of a message that had not ended.
    Part {
        text: bool,
        data: Vec<u8>,
    },
}

/// Feeds `pieces` as a connection would: what is left over of one is put before the next.
pub(crate) fn feed<'p>(
    role: Role,
    limit: usize,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Seen>, Result<(), Violation>) {
    let mut decoder = Decoder::new(role);
    let mut seen = Vec::new();
    let mut part: Option<(bool, Vec<u8>)> = None;
    let mut buf = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        let mut used = 0;
        loop {
            let step = match decoder.next(&mut buf[used..], limit) {
                Ok(step) => step,
                Err(violation) => return (seen, Err(violation)),
            };
            let bytes = |range: std::ops::Range<usize>| {
                assert!(range.end <= step.consumed, "what is handed out is consumed");
                buf[used..][range].to_vec()
            };
            match step.event {
                None if step.consumed == 0 => break,
                None => {}
                Some(Event::Data { text, data, first, last, .. }) => {
                    assert_eq!(first, part.is_none(), "first is said once");
                    assert!(last || !data.is_empty(), "only a last piece is empty");
                    let (_, message) = part.get_or_insert((text, Vec::new()));
                    message.extend(bytes(data));
                    assert_eq!(decoder.mid_message(), !last);
                    if let Some((text, data)) = part.take_if(|_| last) {
                        seen.push(Seen::Message { text, data });
                    }
                }
                Some(Event::Ping(range)) => seen.push(Seen::Ping(bytes(range))),
                Some(Event::Pong(range)) => seen.push(Seen::Pong(bytes(range))),
                Some(Event::Close { code, reason }) => seen.push(Seen::Close(code, bytes(reason))),
            }
            used += step.consumed;
        }
        buf.drain(..used);
        assert!(buf.len() < HEADER_BYTES_MAX + CONTROL_BYTES_MAX);
    }
    if let Some((text, data)) = part {
        seen.push(Seen::Part { text, data });
    }
    (seen, Ok(()))
}

pub(crate) fn frame(fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES_MAX];
    let header = write_header(&mut out, fin, false, opcode, payload.len(), mask);
    out.truncate(header);
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        unmask(&mut out[header..], mask, 0);
    }
    out
}
