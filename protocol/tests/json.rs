//! The JSON of a publish, rule by rule (RFC 8259), every row cut at every byte.

use corecast_protocol::json::{self, DEPTH_MAX, PublishLine};
use corecast_protocol::producer::Produced;
use corecast_protocol::{Cursor, Writer};
use proptest::prelude::*;

fn text<'a>(topic: &'a str, data: &'a str, event: Option<&'a str>) -> PublishLine<'a> {
    PublishLine { topic, data: data.as_bytes(), event, key: None, op: None, produced: None }
}

/// Every form that the grammar allows, in any order, with any space.
#[test]
fn lines_are_read() {
    let deep = format!(r#"{{"x":{}{},"topic":"t","data":"d"}}"#, "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
    for (line, found) in [
        (r#"{"topic":"a/b","data":"hello"}"#, text("a/b", "hello", None)),
        (r#"{"data":"","event":"e","topic":"a"}"#, text("a", "", Some("e"))),
        (" \t{ \"topic\" :\r\"a\" , \"data\":\n\"x\" } \r\n", text("a", "x", None)),
        (r#"{"topic":"a","data":"aGVsbG8=","encoding":"base64"}"#, text("a", "hello", None)),
        (r#"{"encoding":"base64","data":"","topic":"a"}"#, text("a", "", None)),
        (r#"{"encoding":"b\u0061se64","data":"aG\u0056sbG8\u003d","topic":"a"}"#, text("a", "hello", None)),
        (r#"{"top\u0069c":"a","d\u0061ta":"x"}"#, text("a", "x", None)),
        (r#"{"topic":"a","data":"\"\\\/\b\f\n\r\t"}"#, text("a", "\"\\/\u{8}\u{c}\n\r\t", None)),
        (r#"{"topic":"\u00fc","data":"\u0000\u20AC\uD83D\ude00\uffff"}"#, text("ü", "\0€😀\u{ffff}", None)),
        ("{\"topic\":\"ü\",\"data\":\"€😀\u{2028}\"}", text("ü", "€😀\u{2028}", None)),
        (r#"{"x":null,"topic":"a","y":[],"z":{},"data":"d"}"#, text("a", "d", None)),
        (
            r#"{"x":[0,-0,1.5,-1e9,2E+3,0.0e-7,true,false,null,"\u00e9",[[]],{"topic":"b"}],"topic":"a","data":"d"}"#,
            text("a", "d", None),
        ),
        (r#"{"x":{"a":{"b":[{"c":1},{}]},"d":"}"},"topic":"a","data":"d"}"#, text("a", "d", None)),
        (r#"{"":1,"":2,"x":1,"x":2,"topic":"a","data":"d"}"#, text("a", "d", None)),
        (&deep, text("t", "d", None)),
        // Any other JSON than a string is the payload, byte for byte.
        (r#"{"topic":"a","data":{"x":1}}"#, text("a", r#"{"x":1}"#, None)),
        (
            r#"{"data": {"top\u0069c" : "\"\u00e9\/",  "data":[ 1,{}]} ,"event":"e","topic":"a"}"#,
            text("a", r#"{"top\u0069c" : "\"\u00e9\/",  "data":[ 1,{}]}"#, Some("e")),
        ),
        (r#"{"data":[],"topic":"a"}"#, text("a", "[]", None)),
        (r#"{"data":-1.5e+3,"topic":"a"}"#, text("a", "-1.5e+3", None)),
        (r#"{"data":0 , "topic":"a"}"#, text("a", "0", None)),
        (r#"{"topic":"a","data":null}"#, text("a", "null", None)),
        (r#"{"topic":"a","data":true}"#, text("a", "true", None)),
    ] {
        assert_eq!(json::publish_line(&mut line.as_bytes().to_vec()), Ok(found), "{line}");
        // Cut anywhere it is an error, never a panic, and never something else.
        for cut in 0..line.trim_end().len() {
            let mut prefix = line.as_bytes()[..cut].to_vec();
            let error = json::publish_line(&mut prefix).expect_err("an object has an end");
            assert!(error.offset <= cut, "{line} cut at {cut}: {error}");
        }
    }
}

/// A line may be numbered, by a producer and its number, which is a number.
#[test]
fn lines_are_numbered() {
    let found = PublishLine { produced: Some(Produced { producer: "p", number: 12 }), ..text("a", "d", None) };
    for line in [
        r#"{"producer":"p","n":12,"topic":"a","data":"d"}"#,
        r#"{"topic":"a","data":"d", "n" : 12 , "producer":"\u0070"}"#,
    ] {
        assert_eq!(json::publish_line(&mut line.as_bytes().to_vec()), Ok(found), "{line}");
    }
    let (producer, number) = (
        "a producer is 1 to 64 visible ASCII characters",
        "the number of a producer's message is 1 to 9223372036854775807",
    );
    for (members, why) in [
        (r#""producer":"p""#, "a producer and the number of its message come together"),
        (r#""n":1"#, "a producer and the number of its message come together"),
        (r#""producer":"","n":1"#, producer),
        (r#""producer":"a b","n":1"#, producer),
        (r#""producer":"p","n":0"#, number),
        (r#""producer":"p","n":1.0"#, number),
        (r#""producer":"p","n":"1""#, number),
        (r#""producer":"p","n":9223372036854775808"#, number),
        (r#""producer":1,"n":1"#, "the member is not a string"),
        (r#""producer":"p","n":1,"n":1"#, "a member is given twice"),
    ] {
        let line = format!(r#"{{"topic":"a","data":"d",{members}}}"#);
        let error = json::publish_line(&mut line.into_bytes()).expect_err(members);
        assert_eq!(error.text, why, "{members}");
    }
}

/// Base64 as RFC 4648 section 4 describes it, bit by bit.
fn encode_naively(data: &[u8]) -> String {
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let mut out = String::new();
    for group in data.chunks(3) {
        let bits = group.iter().fold(0, |bits, &byte| bits << 8 | usize::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let padding = place > group.len();
            out.push(if padding { '=' } else { alphabet[bits >> (18 - 6 * place) & 63] });
        }
    }
    out
}

/// All bytes there are come through base64, over the borders of its groups.
#[test]
fn base64_is_decoded_in_place() {
    for len in (0..200).chain([1000, 4096]) {
        let data: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
        let encoded = encode_naively(&data);
        let mut line = format!(r#"{{"data":"{encoded}","encoding":"base64","topic":"t"}}"#).into_bytes();
        assert_eq!(json::publish_line(&mut line).map(|line| line.data.to_vec()), Ok(data));
    }
    let inside = format!("{}=={}", "A".repeat(62), "A".repeat(4));
    let inside_group = format!("{}=A==", "A".repeat(64));
    for bad in ["a", "aG", "aGk", "aGk==", "aG=k", "====", "a Gk", "aGk=\\n", "aGl=", "-_-_", &inside, &inside_group] {
        let line = format!(r#"{{"topic":"t","encoding":"base64","data":"{bad}"}}"#);
        let error = json::publish_line(&mut line.into_bytes()).unwrap_err();
        assert_eq!(error.text, "\"data\" is not base64", "{bad}");
    }
}

/// What is wrong is told with its place.
#[test]
fn malformed_lines_are_told_with_their_place() {
    let too_deep = format!(r#"{{"x":{}"#, "[".repeat(DEPTH_MAX + 1));
    let too_deep_at = 5 + DEPTH_MAX;
    let rows: &[(&[u8], &str, usize)] = &[
        (b"", "the line is not an object", 0),
        (b"[]", "the line is not an object", 0),
        (b"\"topic\"", "the line is not an object", 0),
        (b"\xef\xbb\xbf{}", "the line is not an object", 0),
        (b"{}", "\"topic\" is missing", 2),
        (br#"{"topic":"a"}"#, "\"data\" is missing", 13),
        (br#"{"topic":"a","data":"d"}x"#, "something follows the object", 24),
        (br#"{"topic":"a","data":"d"}{}"#, "something follows the object", 24),
        (br#"{"topic":"a","data":"d",}"#, "expected a member's name", 24),
        (br#"{,"topic":"a"}"#, "expected a member's name", 1),
        (br#"{topic:"a"}"#, "expected a member's name", 1),
        (br#"{'topic':"a"}"#, "expected a member's name", 1),
        (br#"{"topic" "a"}"#, "expected :", 9),
        (br#"{"topic":"a" "data":"d"}"#, "expected , or }", 13),
        (br#"{"topic":a}"#, "the member is not a string", 9),
        (br#"{"topic":1}"#, "the member is not a string", 9),
        (br#"{"topic":"a","data":{"x":}}"#, "expected a value", 25),
        (br#"{"topic":"a","data":}"#, "expected a value", 20),
        (br#"{"topic":"a","data":NaN}"#, "expected a value", 20),
        (br#"{"topic":"a","data":1,"data":2}"#, "a member is given twice", 22),
        (br#"{"topic":"a","data":1234,"encoding":"base64"}"#, "\"data\" is not base64", 20),
        (br#"{"encoding":"base64","topic":"a","data":null}"#, "\"data\" is not base64", 40),
        (br#"{"topic":["a"],"data":"d"}"#, "the member is not a string", 9),
        (br#"{"topic":"a","data":"d","event":null}"#, "the member is not a string", 32),
        (br#"{"topic":"a","topic":"a","data":"d"}"#, "a member is given twice", 13),
        (br#"{"topic":"a","t\u006fpic":"b","data":"d"}"#, "a member is given twice", 13),
        (br#"{"topic":"a","data":"d","encoding":"hex"}"#, "\"encoding\" is not \"base64\"", 36),
        (b"{\"topic\":\"a\nb\"}", "a control character stands in a string", 11),
        (b"{\"topic\":\"a\0b\"}", "a control character stands in a string", 11),
        (b"{\"topic\":\"\x80\"}", "the line is not UTF-8", 10),
        (b"{\"topic\":\"\xed\xa0\x80\"}", "the line is not UTF-8", 10),
        (br#"{"topic":"\x41"}"#, "the escape is not known", 10),
        (br#"{"topic":"\'"}"#, "the escape is not known", 10),
        (br#"{"topic":"\U0041"}"#, "the escape is not known", 10),
        (br#"{"topic":"\u41"}"#, "\\u needs four hexadecimal digits", 10),
        (br#"{"topic":"\u00g1"}"#, "\\u needs four hexadecimal digits", 10),
        (br#"{"topic":"\u+041"}"#, "\\u needs four hexadecimal digits", 10),
        (br#"{"topic":"\ud800"}"#, "a surrogate stands alone", 16),
        (br#"{"topic":"\ud800\n"}"#, "a surrogate stands alone", 16),
        (br#"{"topic":"\ud800\ud800"}"#, "a surrogate stands alone", 22),
        (br#"{"topic":"\ud800\u0041"}"#, "a surrogate stands alone", 22),
        (br#"{"topic":"\udc00"}"#, "a surrogate stands alone", 16),
        (br#"{"x":01}"#, "expected , or }", 6),
        (br#"{"x":+1}"#, "expected a value", 5),
        (br#"{"x":-}"#, "expected a digit", 6),
        (br#"{"x":1.}"#, "expected a digit", 7),
        (br#"{"x":.5}"#, "expected a value", 5),
        (br#"{"x":1e}"#, "expected a digit", 7),
        (br#"{"x":1e+}"#, "expected a digit", 8),
        (br#"{"x":NaN}"#, "expected a value", 5),
        (br#"{"x":tru}"#, "expected a value", 5),
        (br#"{"x":[1,]}"#, "expected a value", 8),
        (br#"{"x":[1 2]}"#, "expected , or the closing bracket", 8),
        (br#"{"x":[1}}"#, "expected , or the closing bracket", 7),
        (br#"{"x":{"a":1]}"#, "expected , or the closing bracket", 11),
        (br#"{"x":{"a"}}"#, "expected :", 9),
        (br#"{"x":{"a":1,}}"#, "expected a member's name", 12),
        (br#"{"x":{1:1}}"#, "expected a member's name", 6),
        (too_deep.as_bytes(), "the nesting is too deep", too_deep_at),
        (br#"{"topic":"a//b","data":"d"}"#, "the topic has an empty segment", 10),
        (br#"{"topic":"$sys/a","data":"d"}"#, "topics that start with $ belong to the engine", 10),
        (br#"{"topic":"a","data":"d","event":"a b"}"#, "an event name is 1 to 64 visible ASCII characters", 33),
        (
            br#"{"topic":"a","data":"d","event":"corecast-gap"}"#,
            "event names that begin with corecast- belong to the engine",
            33,
        ),
        (br#"{"topic":"a","data":"d","event":""}"#, "an event name is 1 to 64 visible ASCII characters", 33),
    ];
    for (line, why, offset) in rows {
        let error = json::publish_line(&mut line.to_vec()).expect_err(why);
        assert_eq!((error.text, error.offset), (*why, *offset), "{}", line.escape_ascii());
        assert_eq!(error.to_string(), format!("{why} at byte {offset}"));
    }
}

/// The answers to publishing, as PROTOCOL prints them.
#[test]
fn answers_are_written() {
    let mut out = [0; 256];
    let mut w = Writer::new(&mut out);
    json::publish_answer(&mut w, "a\"b", Cursor { epoch: 0x1a2b_3c4d, seq: 17 });
    assert_eq!(w.written(), br#"{"topic":"a\"b","cursor":"1a2b3c4d-17"}"#);
    let mut w = Writer::new(&mut out);
    json::repeat_answer(&mut w, "a\"b", Some(Cursor { epoch: 0x1a2b_3c4d, seq: 17 }));
    assert_eq!(w.written(), br#"{"topic":"a\"b","cursor":"1a2b3c4d-17","repeated":true}"#);
    let mut w = Writer::new(&mut out);
    json::repeat_answer(&mut w, "a", None);
    assert_eq!(w.written(), br#"{"topic":"a","repeated":true}"#);
    let mut w = Writer::new(&mut out);
    json::batch_answer(&mut w, 3);
    assert_eq!(w.written(), br#"{"published":3}"#);
    let mut w = Writer::new(&mut out);
    json::error(&mut w, "a \"bad\"\n\u{2028}\u{2029}\u{202a}thing\x01\u{7f}");
    assert_eq!(w.written(), b"{\"error\":\"a \\\"bad\\\"\\n\\u2028\\u2029\xe2\x80\xaathing\\u0001\x7f\"}");
}

proptest! {
    /// Any text that is escaped by hand, in any of the ways the grammar has, comes out as it was.
    #[test]
    fn escaped_text_comes_out_again(characters in prop::collection::vec((any::<char>(), 0u8..4), 0..60)) {
        let mut line = String::from("{\"topic\":\"t\",\"data\":\"");
        let mut expected = String::new();
        for (character, way) in characters {
            expected.push(character);
            let must = character < ' ' || character == '"' || character == '\\';
            match way {
                0 | 1 if !must => line.push(character),
                2 if "\"\\/".contains(character) => line.extend(['\\', character]),
                way => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let escape = if way == 3 { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
                        line.push_str(&escape);
                    }
                }
            }
        }
        line.push_str("\"}");
        let mut line = line.into_bytes();
        let found = json::publish_line(&mut line).map(|line| line.data.to_vec());
        prop_assert_eq!(found, Ok(expected.into_bytes()));
    }

    /// A string that is written is read again, and its length was known.
    #[test]
    fn written_strings_are_read_again(data in "[\u{2027}-\u{202a}\u{0}-\u{7f}]{0,40}|\\PC{0,40}") {
        let mut out = vec![0; 6 * data.len() + 40];
        let mut w = Writer::new(&mut out);
        w.text("{\"topic\":\"t\",\"data\":");
        let before = w.len();
        json::string(&mut w, &data);
        prop_assert_eq!(w.len() - before, json::escaped_len(&data));
        w.text("}");
        let len = w.finish().unwrap();
        let written = String::from_utf8(out[..len].to_vec()).unwrap();
        let clean = !written.contains(['\u{2028}', '\u{2029}', '\n']);
        prop_assert!(clean);
        prop_assert_eq!(json::publish_line(&mut out[..len]).map(|line| line.data.to_vec()), Ok(data.into_bytes()));
    }
}
