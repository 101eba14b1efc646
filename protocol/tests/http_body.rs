//! Chunked bodies (RFC 9112 section 7.1), queries, and their cuts.

use corecast_protocol::Violation;
use corecast_protocol::http::body::{Chunked, EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};
use corecast_protocol::http::query;
use proptest::prelude::*;

/// What a body gave: its data, how many bytes it took, and whether it ended.
type Found = Result<(Vec<u8>, usize, bool), Violation>;

fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Found {
    let mut chunked = Chunked::default();
    let (mut data, mut used, mut done) = (Vec::new(), 0, false);
    for mut piece in pieces {
        while !piece.is_empty() && !done {
            let found = chunked.next(piece)?;
            assert!(found.consumed > 0);
            data.extend_from_slice(&piece[found.data]);
            used += found.consumed;
            done = found.done;
            piece = &piece[found.consumed..];
        }
    }
    Ok((data, used, done))
}

fn cut_everywhere(input: &[u8]) -> Found {
    let whole = read([input]);
    for cut in 0..=input.len() {
        let (before, after) = input.split_at(cut);
        assert_eq!(read([before, after]), whole, "{} cut at {cut}", input.escape_ascii());
    }
    assert_eq!(read(input.chunks(1)), whole, "{} byte by byte", input.escape_ascii());
    whole
}

/// Sizes, extensions and trailers that the grammar allows; what follows the body is left alone.
#[test]
fn bodies_are_read() {
    for (input, data, rest) in [
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("4\r\nWiki\r\n6\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\nGET", "Wikipedia in \r\n\r\nchunks.", "GET"),
        ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", ""),
        ("0000000000000001\r\nx\r\n0000\r\n\r\n", "x", ""),
        ("1;a=b;c=\"d e\"\r\nx\r\n0;last\r\n\r\n", "x", ""),
        // White space around an extension's parts is bad, and read (RFC 9112 section 7.1.1).
        ("1 ;a\r\nx\r\n0\r\n\r\n", "x", ""),
        ("1\t; a\t =\tb \t;c = \"d\\\"\\\\; \" ;d\r\nx\r\n0\r\n\r\n", "x", ""),
        ("1;a=\"\";b\r\nx\r\n0 ; last\r\n\r\n", "x", ""),
        ("0\r\nA:\r\nB-1: \u{e9} \r\n!#$%&'*+-.^_`|~9: x\r\n\r\n", "", ""),
        ("1\r\n\r\r\n0\r\nExpires: never\r\nX:\ty\r\n\r\n\r\n", "\r", "\r\n"),
    ] {
        let used = input.len() - rest.len();
        assert_eq!(cut_everywhere(input.as_bytes()), Ok((data.into(), used, true)), "{input:?}");
    }
}

/// A body that has not ended asks for more.
#[test]
fn unfinished_bodies_ask_for_more() {
    for input in ["", "5", "5\r", "5\r\n", "5\r\nhell", "5\r\nhello", "5\r\nhello\r\n0\r\n", "0\r\nX: y\r\n"] {
        let (_, used, done) = cut_everywhere(input.as_bytes()).unwrap();
        assert!(!done && used == input.len(), "{input:?}");
    }
    assert_eq!(cut_everywhere(b"ffffffffffffffff\r\nabc"), Ok((b"abc".to_vec(), 21, false)));
}

/// Everything that is not exactly a chunk is refused by name.
#[test]
fn malformed_bodies_are_refused() {
    use Violation as V;
    let long_extension = format!("1;{}\r\n", "e".repeat(usize::from(EXTENSION_BYTES_MAX) + 1));
    let long_trailer = format!("0\r\nt: {}", "u".repeat(usize::from(TRAILER_BYTES_MAX) - 2));
    let many_trailers = format!("0\r\n{}", "t: u\r\n".repeat(400));
    for (input, violation) in [
        ("\r\n", V::BadChunk),
        ("g\r\n", V::BadChunk),
        ("-1\r\n", V::BadChunk),
        ("+1\r\n", V::BadChunk),
        ("0x1\r\n", V::BadChunk),
        (" 1\r\n", V::BadChunk),
        ("1 \r\n", V::BadChunk),
        (";a\r\n", V::BadChunk),
        // What is no extension (RFC 9112 section 7.1.1).
        ("1;\r\n", V::BadChunk),
        ("1; \r\n", V::BadChunk),
        ("1;;a\r\n", V::BadChunk),
        ("1;a;\r\n", V::BadChunk),
        ("1;=b\r\n", V::BadChunk),
        ("1;a=\r\n", V::BadChunk),
        ("1;a =\r\n", V::BadChunk),
        ("1;a=;b\r\n", V::BadChunk),
        ("1;a=b=c\r\n", V::BadChunk),
        ("1;a b\r\n", V::BadChunk),
        ("1;a=b c\r\n", V::BadChunk),
        ("1;a[=b\r\n", V::BadChunk),
        ("1;a=b@\r\n", V::BadChunk),
        ("1;\u{e9}\r\n", V::BadChunk),
        ("1;a \r\n", V::BadChunk),
        ("1;a=b\t\r\n", V::BadChunk),
        ("1;a=\"b\" \r\n", V::BadChunk),
        ("1;a=\"b\r\n", V::BadChunk),
        ("1;a=\"b\\\"\r\n", V::BadChunk),
        ("1;a=\"b\"c\r\n", V::BadChunk),
        ("1;a=b\"c\"\r\n", V::BadChunk),
        ("1;a=\"\u{7f}\"\r\n", V::BadChunk),
        ("1;a=\"b\n", V::BareLineFeed),
        ("1 a\r\n", V::BadChunk),
        ("1 \n", V::BareLineFeed),
        ("1 1\r\n", V::BadChunk),
        // What is no field line (RFC 9112 section 7.1.2).
        ("0\r\nGET / HTTP/1.1\r\n\r\n", V::BadTrailer),
        ("0\r\nno colon\r\n\r\n", V::BadTrailer),
        ("0\r\nnocolon\r\n\r\n", V::BadTrailer),
        ("0\r\nA : b\r\n\r\n", V::BadTrailer),
        ("0\r\n: b\r\n\r\n", V::BadTrailer),
        ("0\r\nA: b\r\n c\r\n\r\n", V::BadTrailer),
        ("0\r\n A: b\r\n\r\n", V::BadTrailer),
        ("0\r\nA(: b\r\n\r\n", V::BadTrailer),
        ("0\r\nA: \0\r\n\r\n", V::BadTrailer),
        ("0\r\nA: \u{7f}\r\n\r\n", V::BadTrailer),
        ("0\r\nA\n", V::BareLineFeed),
        ("10000000000000000\r\n", V::BadChunk),
        ("00000000000000000\r\n", V::BadChunk),
        ("1\n", V::BareLineFeed),
        ("\n", V::BareLineFeed),
        ("1\rx", V::BadChunk),
        ("1;a\n", V::BareLineFeed),
        ("1;a\0\r\n", V::BadChunk),
        ("1;a\rb", V::BadChunk),
        ("3\r\nabcd\r\n", V::BadChunk),
        ("3\r\nabc\n0\r\n", V::BareLineFeed),
        ("3\r\nabc\r0", V::BadChunk),
        ("0\r\n\n", V::BareLineFeed),
        ("0\r\nX: y\n", V::BareLineFeed),
        ("0\r\n\rX", V::BadChunk),
        ("0\r\nX: y\rZ", V::BadChunk),
        (&long_extension, V::ChunkExtensionTooLong),
        (&long_trailer, V::TrailerTooLong),
        (&many_trailers, V::TrailerTooLong),
    ] {
        assert_eq!(cut_everywhere(input.as_bytes()), Err(violation), "{input:?}");
    }
}

/// The limits are exact, and hold for each chunk's extension on its own.
#[test]
fn extensions_and_trailers_may_reach_their_limits() {
    let extension = "e".repeat(usize::from(EXTENSION_BYTES_MAX));
    let trailer = format!("t: {}", "u".repeat(usize::from(TRAILER_BYTES_MAX) - 3));
    let input = format!("1;{extension}\r\na\r\n1;{extension}\r\nb\r\n0;{extension}\r\n{trailer}\r\n\r\n");
    assert_eq!(cut_everywhere(input.as_bytes()), Ok((b"ab".to_vec(), input.len(), true)));
}

/// The size of a chunk is known before its data comes, and an ended body takes nothing more.
#[test]
fn a_chunk_is_announced() {
    let mut chunked = Chunked::default();
    assert_eq!(chunked.announced(), 0);
    chunked.next(b"ff\r\n").unwrap();
    assert_eq!(chunked.announced(), 255);
    chunked.next(b"abc").unwrap();
    assert_eq!(chunked.announced(), 252);
    let mut chunked = Chunked::default();
    assert!(chunked.next(b"0\r\n\r\n").unwrap().done);
    let piece = chunked.next(b"GET").unwrap();
    assert_eq!((piece.consumed, piece.done), (0, true));
    assert_eq!(size_of::<Chunked>(), 16);
}

/// Queries fall into pairs; nothing is decoded.
#[test]
fn queries_fall_into_pairs() {
    for (query, pairs) in [
        ("", &[][..]),
        ("a=1", &[("a", "1")]),
        ("a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]),
        ("a&=b&c=&&d=e=f", &[("a", ""), ("", "b"), ("c", ""), ("d", "e=f")]),
        ("a=%26+x", &[("a", "%26+x")]),
    ] {
        assert_eq!(query::pairs(query).collect::<Vec<_>>(), pairs, "{query}");
    }
    assert_eq!(query::value("a=1&b=2&b=3", "b"), Some("2"));
    assert_eq!(query::value("a=1", "b"), None);
}

proptest! {
    /// Any data, chunked in any way and cut in any way, comes out again.
    #[test]
    fn chunked_data_comes_out_again(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
        upper in any::<bool>(),
        piece_len in 1usize..30,
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            let size = if upper { format!("{:X}\r\n", chunk.len()) } else { format!("{:02x}\r\n", chunk.len()) };
            body.extend_from_slice(size.as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let end = body.len();
        body.extend_from_slice(b"behind");
        prop_assert_eq!(read(body.chunks(piece_len)), Ok((chunks.concat(), end, true)));
    }
}
