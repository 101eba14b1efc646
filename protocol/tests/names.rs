//! Topics, percent-encoding, cursors, start positions and event names, rule by rule.

use corecast_protocol::cursor::TEXT_BYTES_MAX;
use corecast_protocol::message::check_event;
use corecast_protocol::pattern::{self, PatternError};
use corecast_protocol::topic::{self, TOPIC_BYTES_MAX, TopicError};
use corecast_protocol::{Cursor, Since, Violation, Writer, percent, valid_event};
use proptest::prelude::*;

/// A topic that tells how many read another names it; the engine's own are not counted, and every topic that is has a name that fits.
#[test]
fn numbers_of_readers_have_a_name() {
    let longest = "x".repeat(TOPIC_BYTES_MAX - topic::OCCUPANCY_PREFIX.len());
    for of in ["a", "a/b", "sys/occupancy/a", &longest] {
        let name = format!("{}{of}", topic::OCCUPANCY_PREFIX);
        assert_eq!((topic::occupied(&name), topic::validate_subscribe(&name)), (Some(of), Ok(())));
        assert!(topic::can_be_occupied(of), "{of}");
    }
    for of in ["a", "$sys/occupancy", "$sys/occupancyx/a", "$sys/a", "$sys/occupancy/$sys/a", "sys/occupancy/a"] {
        assert_eq!(topic::occupied(of), None, "{of}");
    }
    assert!(!topic::can_be_occupied("$sys/a") && !topic::can_be_occupied(&format!("{longest}x")));
}

/// The rules for topics (PROTOCOL "Topics"), each at its border.
#[test]
fn topics_obey_their_rules() {
    use TopicError as T;
    let longest = "x".repeat(TOPIC_BYTES_MAX);
    let too_long = "x".repeat(TOPIC_BYTES_MAX + 1);
    let too_long_in_bytes = "é".repeat(128);
    let rows: &[(&str, Result<(), T>)] = &[
        ("a", Ok(())),
        ("a/b/c", Ok(())),
        ("a b", Ok(())),
        ("a%b", Ok(())),
        ("ü/😀", Ok(())),
        ("a$/$sys", Ok(())),
        // No URL can name a topic with such a segment, escaped or not: they are steps in its path.
        ("..", Err(T::DotSegment)),
        (".", Err(T::DotSegment)),
        ("./a", Err(T::DotSegment)),
        ("a/..", Err(T::DotSegment)),
        ("a/../b", Err(T::DotSegment)),
        ("a/./b", Err(T::DotSegment)),
        ("...", Ok(())),
        (".a/b./..c/d../.e.", Ok(())),
        ("\u{a0}", Ok(())),
        (&longest, Ok(())),
        ("", Err(T::Empty)),
        (&too_long, Err(T::TooLong)),
        (&too_long_in_bytes, Err(T::TooLong)),
        ("/", Err(T::EmptySegment)),
        ("/a", Err(T::EmptySegment)),
        ("a/", Err(T::EmptySegment)),
        ("a//b", Err(T::EmptySegment)),
        ("a\0", Err(T::ControlCharacter)),
        ("a\nb", Err(T::ControlCharacter)),
        ("\u{1f}", Err(T::ControlCharacter)),
        ("\u{7f}", Err(T::ControlCharacter)),
        ("\u{80}", Err(T::ControlCharacter)),
        ("a\u{9f}", Err(T::ControlCharacter)),
        ("a+b", Err(T::ReservedCharacter)),
        ("a/#", Err(T::ReservedCharacter)),
        ("*", Err(T::ReservedCharacter)),
        ("$sys/load", Err(T::System)),
        ("$", Err(T::System)),
        ("$other", Err(T::System)),
    ];
    for (topic, judged) in rows {
        assert_eq!(topic::validate(topic), *judged, "{topic:?}");
        if !topic.starts_with('$') {
            assert_eq!(topic::validate_subscribe(topic), *judged, "{topic:?}");
        }
    }
    assert_eq!(topic::validate_subscribe("$sys/load"), Ok(()));
    assert_eq!(topic::validate_subscribe("$sys/"), Err(T::EmptySegment));
    assert_eq!(topic::validate_subscribe("$sys"), Err(T::System));
    assert_eq!(topic::validate_subscribe("$other/x"), Err(T::System));
}

/// A topic is read from the rest of a path, with or without its slashes encoded.
#[test]
fn topics_are_read_from_paths() {
    let longest_encoded = "%78".repeat(TOPIC_BYTES_MAX);
    let too_long = "%78".repeat(TOPIC_BYTES_MAX + 1);
    let mut out = [0; TOPIC_BYTES_MAX];
    for (path, topic) in [("a/b", "a/b"), ("a%2Fb%2fc", "a/b/c"), ("%C3%BC%20+", "ü +"), ("a%25", "a%")] {
        let expected = if topic.contains('+') { Err(TopicError::ReservedCharacter.into()) } else { Ok(topic) };
        assert_eq!(topic::from_path(path, &mut out), expected, "{path}");
    }
    assert_eq!(topic::from_path(&longest_encoded, &mut out).map(str::len), Ok(TOPIC_BYTES_MAX));
    assert_eq!(topic::from_path_subscribe("%24sys/a", &mut out), Ok("$sys/a"));
    for (path, violation) in [
        ("", TopicError::Empty.into()),
        (&too_long[..], TopicError::TooLong.into()),
        ("%24sys/a", TopicError::System.into()),
        ("a%2", Violation::BadEscape),
        ("a%zz", Violation::BadEscape),
        ("a%ff", Violation::NotUtf8),
        ("a%C3", Violation::NotUtf8),
        ("a%00", TopicError::ControlCharacter.into()),
        ("a%2F%2Fb", TopicError::EmptySegment.into()),
        ("%2E%2e", TopicError::DotSegment.into()),
        ("a%2F.%2Fb", TopicError::DotSegment.into()),
    ] {
        assert_eq!(topic::from_path(path, &mut out), Err(violation), "{path}");
    }
}

/// `+` is a space only where it is asked for; a bad escape is never passed through (RFC 3986 section 2.1).
#[test]
fn escapes_are_strict() {
    let mut out = [0; 64];
    assert_eq!(percent::decode("a+b%2B%20c", &mut out, true), Ok("a b+ c"));
    assert_eq!(percent::decode("a+b%2b", &mut out, false), Ok("a+b+"));
    assert_eq!(percent::decode("%E2%82%AC€", &mut out, false), Ok("€€"));
    assert_eq!(percent::decode("%2525", &mut out, false), Ok("%25"));
    for bad in ["%", "a%", "%4", "%4g", "%g4", "%+1", "%%41"] {
        assert_eq!(percent::decode(bad, &mut out, true), Err(Violation::BadEscape), "{bad}");
        let mut copy = bad.as_bytes().to_vec();
        assert_eq!(percent::decode_in_place(&mut copy), Err(Violation::BadEscape), "{bad}");
    }
    assert_eq!(percent::decode("%C3x", &mut out, false), Err(Violation::NotUtf8));
    assert_eq!(percent::decode("abc", &mut out[..2], false), Err(Violation::ValueTooLong));
}

/// A topic as a word of a line is encoded only where it would not be one word, or not come back.
#[test]
fn words_are_hardly_encoded() {
    for (topic, word) in
        [("a/b", "a/b"), ("ü+&=", "ü+&="), ("a b", "a%20b"), ("100%", "100%25"), ("a\n\x7f b", "a%0A%7F%20b")]
    {
        let mut out = [0; 64];
        let mut w = Writer::new(&mut out);
        percent::encode_topic_word(topic, &mut w);
        assert_eq!(w.written(), word.as_bytes());
        assert_eq!(percent::topic_word_len(topic), word.len());
        assert_eq!(percent::needs_encoding(topic), word != topic);
    }
    let mut out = [0; 64];
    let mut w = Writer::new(&mut out);
    percent::encode_path("a/b c?ü~", &mut w);
    assert_eq!(w.written(), b"a/b%20c%3F%C3%BC~");
}

/// Cursors: exactly 8 hexadecimal digits, `-`, a plain number (PROTOCOL "Messages and cursors").
#[test]
fn cursors_are_strict() {
    let mut out = [0; TEXT_BYTES_MAX];
    for (text, epoch, seq) in
        [("1a2b3c4d-17", 0x1a2b_3c4d, 17), ("00000000-0", 0, 0), ("ffffffff-18446744073709551615", u32::MAX, u64::MAX)]
    {
        let cursor = Cursor { epoch, seq };
        assert_eq!(Cursor::parse(text), Ok(cursor));
        assert_eq!(cursor.text(&mut out), text);
        assert_eq!(cursor.text_len(), text.len());
    }
    assert_eq!(Cursor::parse("1A2B3C4D-17"), Cursor::parse("1a2b3c4d-17"));
    for bad in [
        "",
        "-",
        "1a2b3c4d",
        "1a2b3c4d-",
        "1a2b3c4-17",
        "1a2b3c4d5-17",
        "1a2b3c4d17",
        "1a2b3c4d_17",
        "1a2b3c4g-17",
        "+a2b3c4d-17",
        " 1a2b3c4d-17",
        "1a2b3c4d-17 ",
        "1a2b3c4d--1",
        "1a2b3c4d-+1",
        "1a2b3c4d-1.0",
        "1a2b3c4d-01",
        "1a2b3c4d-0x1",
        "1a2b3c4d-18446744073709551616",
        "1a2b3c4d-99999999999999999999",
        "1a2b3c4d-1,1a2b3c4d-2",
        "1a2b3cé-17",
        "\u{1f600}\u{1f600}-1",
    ] {
        assert_eq!(Cursor::parse(bad), Err(Violation::BadCursor), "{bad}");
        assert_eq!(Since::parse(bad), Err(Violation::BadSince), "{bad}");
    }
}

/// All the values of `since=`; the default is the newest message.
#[test]
fn start_positions_are_read() {
    for (text, since) in [
        ("latest", Since::Latest),
        ("live", Since::Live),
        ("earliest", Since::Earliest),
        ("-1", Since::Last(1)),
        ("-4294967295", Since::Last(u32::MAX)),
        ("1a2b3c4d-17", Since::After(Cursor { epoch: 0x1a2b_3c4d, seq: 17 })),
    ] {
        assert_eq!(Since::parse(text), Ok(since));
        let mut out = [0; TEXT_BYTES_MAX];
        let mut w = Writer::new(&mut out);
        since.write(&mut w);
        assert_eq!(w.written(), text.as_bytes());
    }
    assert_eq!(Since::default(), Since::Latest);
    for bad in ["Latest", "newest", "0", "5", "-4294967296", "--5", "-5 ", "-1a", "live "] {
        assert_eq!(Since::parse(bad), Err(Violation::BadSince), "{bad}");
    }
}

/// An event name is 1 to 64 visible ASCII characters, and none of the engine's own.
#[test]
fn event_names_are_visible_ascii() {
    let (longest, too_long) = ("e".repeat(64), "e".repeat(65));
    for good in ["e", "!", "~", "a=b", "corecast", "Corecast-gap", "a-corecast-", &longest] {
        assert!(valid_event(good), "{good}");
    }
    for bad in ["", " ", "a b", "a\n", "\x7f", "é", &too_long] {
        assert_eq!(check_event(bad), Err(Violation::BadEvent), "{bad:?}");
    }
    for reserved in ["corecast-", "corecast-gap", "corecast-base64", "corecast-x"] {
        assert_eq!(check_event(reserved), Err(Violation::ReservedEvent), "{reserved}");
        assert!(!valid_event(reserved));
    }
}

/// Decodes as the grammar reads, with no care for speed.
fn decode_naively(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = after.get(..2)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

proptest! {
    /// Percent-decoding agrees with the naive reading of the grammar.
    #[test]
    fn decoding_agrees_with_the_naive_one(text in "(%[0-9a-fA-F]{2}|%[0-9a-g]{0,2}|\\PC){0,30}") {
        let mut out = [0; 200];
        let found = percent::decode(&text, &mut out, false);
        match decode_naively(&text) {
            None => prop_assert_eq!(found, Err(Violation::BadEscape)),
            Some(bytes) => match String::from_utf8(bytes) {
                Ok(decoded) => prop_assert_eq!(found, Ok(&decoded[..])),
                Err(_) => prop_assert_eq!(found, Err(Violation::NotUtf8)),
            },
        }
    }

    /// A cursor is what `{:08x}-{}` prints.
    #[test]
    fn cursors_are_what_the_standard_library_prints(epoch: u32, seq: u64) {
        let cursor = Cursor { epoch, seq };
        let text = format!("{epoch:08x}-{seq}");
        let mut out = [0; TEXT_BYTES_MAX];
        prop_assert_eq!(cursor.text(&mut out), &text);
        prop_assert_eq!(Cursor::parse(&text), Ok(cursor));
    }

    /// A topic is valid exactly if the rules, put down one by one, say so.
    #[test]
    fn topics_agree_with_the_rules(topic in "[a$/+#*\u{7f}\u{80}\u{9f}\u{a0}é😀 \n]{0,6}") {
        let good = !topic.is_empty()
            && topic.split('/').all(|segment| !segment.is_empty())
            && !topic.chars().any(|c| c.is_control() || "+#*".contains(c))
            && !topic.starts_with('$');
        prop_assert_eq!(topic::validate(&topic).is_ok(), good);
    }
}

/// The rules for patterns, each at its border.
#[test]
fn patterns_obey_their_rules() {
    use PatternError as P;
    let longest = "x".repeat(TOPIC_BYTES_MAX);
    let too_long = "x".repeat(TOPIC_BYTES_MAX + 1);
    for (text, expected) in [
        ("#", Ok(())),
        ("+", Ok(())),
        ("+/+/#", Ok(())),
        ("prices/eur", Ok(())),
        ("$sys/#", Ok(())),
        ("a/$b/+", Ok(())),
        (&longest, Ok(())),
        (&too_long, Err(P::Length)),
        ("", Err(P::Length)),
        ("/a", Err(P::EmptySegment)),
        ("a/", Err(P::EmptySegment)),
        ("a//#", Err(P::EmptySegment)),
        ("a+", Err(P::PartOfSegment)),
        ("a/#b", Err(P::PartOfSegment)),
        ("++", Err(P::PartOfSegment)),
        ("#/a", Err(P::NotLast)),
        ("#/#", Err(P::NotLast)),
        ("a/*", Err(P::Character)),
        ("a\n", Err(P::Character)),
        ("a/..", Err(P::DotSegment)),
        ("$", Err(P::System)),
        ("$share/a", Err(P::System)),
    ] {
        assert_eq!(pattern::validate(text), expected, "{text:?}");
    }
}

proptest! {
    /// Of the patterns that match a topic, one is the most specific, whatever the order in which they are looked at; and who
    /// matches a topic is what a look at segment after segment says.
    #[test]
    fn one_pattern_is_the_most_specific(
        patterns in prop::collection::vec("(a|b|\\+)(/(a|b|\\+)){0,3}(/#)?|#", 1..8),
        topic in "(a|b|ab)(/(a|b|ab)){0,4}",
    ) {
        let naive = |pattern: &str| {
            let (wanted, there): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), topic.split('/').collect());
            let open = wanted.last() == Some(&"#");
            let fixed = wanted.len() - usize::from(open);
            (if open { there.len() >= fixed } else { there.len() == fixed })
                && wanted[..fixed].iter().zip(&there).all(|(wanted, there)| *wanted == "+" || wanted == there)
        };
        for text in &patterns {
            prop_assert_eq!(pattern::validate(text), Ok(()));
            prop_assert_eq!(pattern::matches(text, &topic), naive(text), "{} {}", text, topic);
        }
        let mut matching: Vec<&String> = patterns.iter().filter(|text| naive(text)).collect();
        let most = matching.iter().copied().max_by(|a, b| pattern::specificity(a, b));
        matching.reverse();
        prop_assert_eq!(most, matching.iter().copied().max_by(|a, b| pattern::specificity(a, b)));
        // A strict order: sorted in any way, each is below all that follow.
        matching.sort_by(|a, b| pattern::specificity(a, b));
        for (place, low) in matching.iter().enumerate() {
            for high in &matching[place..] {
                prop_assert!(pattern::specificity(low, high).is_le());
                prop_assert_eq!(pattern::specificity(low, high).is_eq(), low == high);
            }
        }
    }
}
