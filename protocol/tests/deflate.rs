//! Compression as the wire shows it: the agreement (RFC 7692 section 7.1), the bit in a frame (section 6), and gzip pieces.

use corecast_protocol::Violation;
use corecast_protocol::http::field::Field;
use corecast_protocol::http::{gzip, head, prefer};
use corecast_protocol::write::Writer;
use corecast_protocol::ws::decoder::{Decoder, Event, Role, compressed_bytes_max};
use corecast_protocol::ws::deflate::{Agreement, Window, negotiate};
use corecast_protocol::ws::frame::Opcode::{self, Binary, Continuation, Ping, Text};
use corecast_protocol::ws::frame::write_header;

fn answer(agreement: Agreement) -> String {
    let mut out = [0; 256];
    let mut w = Writer::new(&mut out);
    agreement.write(&mut w);
    String::from_utf8_lossy(w.written()).into_owned()
}

/// What clients offer, and what is made of it: the offers of browsers, of `ws`, of Python's `websockets`, and those of RFC 7692
/// section 7.1.3; an offer that cannot be accepted is passed over for the next.
#[test]
fn offers_are_accepted_or_passed_over() {
    let said = |window| Some(Agreement { window, named: true });
    let unsaid = Some(Agreement { window: Window::Bits15, named: false });
    let rows = [
        ("permessage-deflate", unsaid),
        ("permessage-deflate; client_max_window_bits", unsaid),
        ("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", said(Window::Bits12)),
        ("permessage-deflate; client_max_window_bits; server_max_window_bits=10", said(Window::Bits9)),
        ("permessage-deflate;server_no_context_takeover;client_no_context_takeover", unsaid),
        ("permessage-deflate; server_max_window_bits=\"14\"", said(Window::Bits12)),
        ("permessage-deflate; server_max_window_bits=15", said(Window::Bits15)),
        ("permessage-deflate; server_max_window_bits=9", said(Window::Bits9)),
        ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=8", unsaid),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", unsaid),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=09", None),
        ("permessage-deflate; server_max_window_bits=1x", None),
        ("permessage-deflate; server_max_window_bits=99999999999999999999999", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=12; server_max_window_bits=12", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate;", None),
        ("PERMESSAGE-DEFLATE", None),
        ("permessage-bzip2", None),
        ("", None),
        (",;=", None),
    ];
    for (offers, agreement) in rows {
        assert_eq!(negotiate(Field::line(offers.as_bytes())), agreement, "{offers}");
    }
    let none = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(unsaid.map(answer).as_deref(), Some(none));
    assert_eq!(said(Window::Bits12).map(answer), Some(format!("{none}; server_max_window_bits=12")));
}

/// Offers may stand on several lines (RFC 6455 section 9.1); the first that can be accepted counts.
#[test]
fn offers_stand_on_any_line() {
    let request = "GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Extensions: permessage-deflate; what=ever\r\n\
                   Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9, permessage-deflate\r\n\r\n";
    let (request, _) = head::parse(request.as_bytes(), 4096).unwrap().unwrap();
    assert_eq!(
        negotiate(request.headers.sec_websocket_extensions),
        Some(Agreement { window: Window::Bits9, named: true })
    );
}

fn packed(fin: bool, rsv: u8, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 14];
    let header = write_header(&mut out, fin, false, opcode, payload.len(), Some([0; 4]));
    out.truncate(header);
    out[0] |= rsv;
    out.extend_from_slice(payload);
    out
}

/// The first bit of a message's first frame says that it is compressed; anywhere else, or without an agreement, it is an error,
/// as are the other two bits.
#[test]
fn the_bit_stands_on_first_frames_only() {
    let fine = [packed(false, 0x40, Text, b"\xff\xfe"), packed(true, 0, Continuation, b"\x80")].concat();
    let rows: [(bool, Vec<u8>, Option<Violation>); 9] = [
        (true, fine.clone(), None),
        (true, packed(true, 0x40, Binary, b""), None),
        (true, packed(true, 0, Text, b"plain"), None),
        (false, fine, Some(Violation::ReservedBits)),
        (true, packed(true, 0x40, Ping, b"x"), Some(Violation::ReservedBits)),
        (true, packed(true, 0x60, Text, b"x"), Some(Violation::ReservedBits)),
        (true, packed(true, 0x50, Text, b"x"), Some(Violation::ReservedBits)),
        (
            true,
            [packed(false, 0x40, Text, b"a"), packed(true, 0x40, Continuation, b"b")].concat(),
            Some(Violation::ReservedBits),
        ),
        // Without the bit the message is text as ever, also right behind a compressed one.
        (true, [packed(true, 0x40, Text, b"\xff"), packed(true, 0, Text, b"\xff")].concat(), Some(Violation::NotUtf8)),
    ];
    for (agreed, input, wrong) in rows {
        for cut in 0..=input.len() {
            let mut decoder = Decoder::new(Role::Server);
            if agreed {
                decoder = decoder.with_deflate();
            }
            let (mut buf, mut found, mut kinds) = (Vec::new(), Ok(()), Vec::new());
            'pieces: for piece in [&input[..cut], &input[cut..]] {
                buf.extend_from_slice(piece);
                loop {
                    match decoder.next(&mut buf, 1000) {
                        Ok(step) if step.consumed == 0 => break,
                        Ok(step) => {
                            if let Some(Event::Data { compressed, last: true, .. }) = step.event {
                                kinds.push(compressed);
                            }
                            buf.drain(..step.consumed);
                        }
                        Err(violation) => {
                            found = Err(violation);
                            break 'pieces;
                        }
                    }
                }
            }
            assert_eq!(found.err(), wrong, "{} cut at {cut}", input.escape_ascii());
            if wrong.is_none() {
                assert_eq!(kinds, [input[0] & 0x40 != 0], "{} cut at {cut}", input.escape_ascii());
                assert_eq!(decoder.has_deflate(), agreed);
            }
        }
    }
}

/// A compressed message may be a little longer than a plain one, and no more.
#[test]
fn compressed_messages_have_a_limit() {
    for bytes_max in [0, 100, 65_536] {
        for (len, fits) in [(compressed_bytes_max(bytes_max), true), (compressed_bytes_max(bytes_max) + 1, false)] {
            let mut frame = packed(true, 0x40, Binary, &vec![0; len]);
            let found = Decoder::new(Role::Server).with_deflate().next(&mut frame, bytes_max);
            assert_eq!(found.is_ok(), fits, "{len} of {bytes_max}");
        }
    }
}

/// Who reads gzip is told by Accept-Encoding, weights included; what every client sends names nothing.
#[test]
fn gzip_is_asked_for_by_name() {
    let rows = [
        ("gzip", true),
        ("deflate, GZIP;q=0.5, br", true),
        ("gzip, deflate, br, zstd", true),
        ("x-gzip", true),
        ("gzip;q=0", false),
        ("gzip; q=0.000, x-gzip", false),
        ("identity", false),
        ("*", false),
        ("br", false),
        ("", false),
    ];
    for (header, accepted) in rows {
        assert_eq!(prefer::accepts_gzip(Field::line(header.as_bytes())), accepted, "{header}");
    }
}

/// Stored blocks hold any data as it is, and their length is known beforehand.
#[test]
fn stored_blocks_are_exact() {
    for len in [0, 1, 5, 65_534, 65_535, 65_536, 131_070, 131_071, 200_000] {
        let data: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
        let mut out = vec![0xaa; gzip::stored_len(len)];
        assert_eq!(gzip::store(&data, &mut out), out.len());
        let (mut rest, mut found) = (&out[..], Vec::new());
        while let [header, low, high, not_low, not_high, ..] = *rest {
            assert_eq!((header, low, high), (0, !not_low, !not_high), "a block that is not the last, stored");
            let end = 5 + usize::from(u16::from_le_bytes([low, high]));
            found.extend_from_slice(&rest[5..end]);
            rest = &rest[end..];
        }
        assert_eq!((found, rest), (data, &[][..]));
    }
}
