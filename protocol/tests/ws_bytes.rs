//! The byte work under the WebSocket decoder, each fast path against a naive oracle: masks, UTF-8, headers, whole frames.

use corecast_protocol::ws::close;
use corecast_protocol::ws::frame::{self, HEADER_BYTES_MAX, Opcode};
use corecast_protocol::ws::utf8::{NotUtf8, Utf8};
use proptest::prelude::*;

fn unmask_naively(data: &mut [u8], mask: [u8; 4], offset: usize) {
    for (at, byte) in data.iter_mut().enumerate() {
        *byte ^= mask[(offset + at) % 4];
    }
}

/// The shortest header for each length, at every border (RFC 6455 section 5.2).
#[test]
fn headers_take_the_fewest_bytes() {
    let rows: &[(usize, &[u8])] = &[
        (0, b"\x82\x00"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65_535, b"\x82\x7e\xff\xff"),
        (65_536, b"\x82\x7f\0\0\0\0\0\x01\0\0"),
        (1 << 40, b"\x82\x7f\0\0\x01\0\0\0\0\0"),
    ];
    for &(len, header) in rows {
        let mut out = [0; HEADER_BYTES_MAX];
        let written = frame::write_header(&mut out, true, false, Opcode::Binary, len, None);
        assert_eq!(&out[..written], header);
        assert_eq!(frame::header_len(len, false), header.len());
        let mut out = [0; HEADER_BYTES_MAX];
        let written = frame::write_header(&mut out, false, true, Opcode::Continuation, len, Some(*b"mask"));
        assert_eq!(out[0], 0x40);
        assert_eq!(out[1], header[1] | 0x80);
        assert_eq!(&out[2..header.len()], &header[2..]);
        assert_eq!(&out[header.len()..written], b"mask");
        assert_eq!(frame::header_len(len, true), written);
    }
}

/// A wrapped text is a frame, whatever its length; one byte of room less is an overflow.
#[test]
fn texts_are_wrapped() {
    for mask in [None, Some([1, 2, 3, 4])] {
        for len in [0, 1, 125, 126, 127, 1000, 65_535, 65_536] {
            let text = vec![b'x'; len];
            let size = frame::header_len(len, mask.is_some()) + len;
            let mut out = vec![0xee; size];
            assert_eq!(frame::wrap(&mut out, Opcode::Text, mask, |w| w.put(&text)), Ok(size));
            let mut expected = vec![0; HEADER_BYTES_MAX];
            let header = frame::write_header(&mut expected, true, false, Opcode::Text, len, mask);
            expected.truncate(header);
            expected.extend(&text);
            unmask_naively(&mut expected[header..], mask.unwrap_or_default(), 0);
            assert_eq!(out, expected);
            assert!(frame::wrap(&mut out[..size - 1], Opcode::Text, mask, |w| w.put(&text)).is_err());
        }
    }
    assert!(frame::wrap(&mut [], Opcode::Text, None, |_| ()).is_err());
}

/// A close frame holds code and reason; a reason too long ends at a character.
#[test]
fn close_frames_are_cut_to_size() {
    let mut out = [0; 200];
    let len = frame::write_close(&mut out, close::GOING_AWAY, "bye").unwrap();
    assert_eq!(&out[..len], b"\x88\x05\x03\xe9bye");
    let len = frame::write_close(&mut out, close::NORMAL, "").unwrap();
    assert_eq!(&out[..len], b"\x88\x02\x03\xe8");
    let reason = "€".repeat(50);
    let len = frame::write_close(&mut out, close::POLICY, &reason).unwrap();
    assert_eq!(std::str::from_utf8(&out[4..len]).unwrap(), "€".repeat(41));
    assert!(frame::write_close(&mut out[..5], close::NORMAL, "long").is_err());
}

/// Which codes a peer may send, over all 65,536 of them (RFC 6455 section 7.4).
#[test]
fn close_codes_that_may_be_sent() {
    let allowed = (0..=u16::MAX).filter(|&code| close::may_be_sent(code)).count();
    assert_eq!(allowed, 4 + 8 + 2000);
    assert!(![999, 1004, 1005, 1006, 1015, 2999, 5000].into_iter().any(close::may_be_sent));
}

/// All two-, three- and the border cases of four-byte sequences: valid exactly if the standard library says so, cut anywhere.
#[test]
fn every_short_sequence_is_judged_as_the_standard_library_does() {
    let interesting =
        [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xff];
    for first in 0..=255 {
        for second in 0..=255 {
            check_text(&[first, second]);
            for third in interesting {
                check_text(&[first, second, third]);
            }
        }
        for second in interesting {
            for third in interesting {
                for fourth in interesting {
                    check_text(&[first, second, third, fourth]);
                }
            }
        }
    }
}

/// Compares with the standard library: byte by byte, and whole.
fn check_text(text: &[u8]) {
    let judged = std::str::from_utf8(text);
    let bytewise = run(text.chunks(1));
    assert_eq!(run([text]), bytewise, "{text:x?}");
    match judged {
        Ok(_) => assert_eq!(bytewise, Ok(true), "{text:x?}"),
        Err(error) if error.error_len().is_none() => assert_eq!(bytewise, Ok(false), "{text:x?}"),
        Err(_) => assert_eq!(bytewise, Err(NotUtf8), "{text:x?}"),
    }
}

fn run<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<bool, NotUtf8> {
    let mut state = Utf8::new();
    for piece in pieces {
        state.push(piece)?;
    }
    Ok(state.complete())
}

proptest! {
    /// Wide unmasking is the same as unmasking byte by byte, for every length, offset and alignment.
    #[test]
    fn unmasking_agrees_with_the_naive_loop(
        data in prop::collection::vec(any::<u8>(), 0..300),
        skip in 0usize..9,
        mask in any::<[u8; 4]>(),
        offset in 0usize..1000,
    ) {
        let skip = skip.min(data.len());
        let mut wide = data.clone();
        let mut naive = data;
        frame::unmask(&mut wide[skip..], mask, offset);
        unmask_naively(&mut naive[skip..], mask, offset);
        prop_assert_eq!(wide, naive);
    }

    /// Any text, spoiled or not, is judged as the standard library judges it, however it is cut.
    #[test]
    fn text_is_judged_as_the_standard_library_does(
        text in "\\PC{0,80}",
        spoil in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        end in any::<prop::sample::Index>(),
        sizes in prop::collection::vec(1usize..12, 1..8),
    ) {
        let mut data = text.into_bytes();
        if let Some((at, byte)) = spoil && !data.is_empty() {
            let at = at.index(data.len());
            data[at] = byte;
        }
        data.truncate(end.index(data.len() + 1));
        check_text(&data);
        let mut state = Utf8::new();
        let mut rest = &data[..];
        let mut sizes = sizes.iter().cycle();
        let mut found = Ok(());
        let mut taken = 0;
        while !rest.is_empty() && found.is_ok() {
            let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            found = state.push(piece);
            rest = after;
            taken += piece.len();
            // It fails in the piece that makes the text impossible, neither before nor after.
            let impossible = std::str::from_utf8(&data[..taken]).is_err_and(|error| error.error_len().is_some());
            prop_assert_eq!(found.is_err(), impossible);
        }
        prop_assert_eq!(found.is_ok() && state.complete(), std::str::from_utf8(&data).is_ok());
    }
}
