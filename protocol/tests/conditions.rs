//! Entity tags and conditions on them (RFC 9110 sections 8.8.3 and 13.1), and dates (section 5.6.7).

use corecast_protocol::http::date::date;
use corecast_protocol::http::etag::{Current, if_match, if_none_match, is_any, tags};
use corecast_protocol::http::field::Field;
use corecast_protocol::http::head;

fn read(value: &[u8]) -> Vec<(String, bool)> {
    tags(Field::line(value)).map(|(tag, weak)| (tag.escape_ascii().to_string(), weak)).collect()
}

/// Tags are read as the grammar has them; what is none is passed over, and hides none of its neighbours.
#[test]
fn tags_are_read() {
    for (value, expected) in [
        (&b"\"a\""[..], &[("a", false)][..]),
        (b"W/\"a\"", &[("a", true)]),
        (b"\"\"", &[("", false)]),
        (b"\"a\",\"b\" ,\t W/\"c\",,", &[("a", false), ("b", false), ("c", true)]),
        (b"\"a,b\", \"c\"", &[("a,b", false), ("c", false)]),
        (b"\"a\\\", \"b\"", &[("a\\\\", false), ("b", false)]),
        (b"\"\xe9\", \"a\"", &[("\\xe9", false), ("a", false)]),
        (b"a, \"b\"", &[("b", false)]),
        (b"w/\"a\", \"b\"", &[("b", false)]),
        (b"\"a\"b, \"c\"", &[("c", false)]),
        (b"\"a b\", \"c\"", &[("c", false)]),
        (b"\"a\x7f\", \"c\"", &[("c", false)]),
        (b"\"a", &[]),
        (b"\"a\", \"b", &[("a", false)]),
        (b"*", &[]),
        (b"W/", &[]),
        (b"W/a", &[]),
        (b"", &[]),
        (b" ,, ", &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|(tag, weak)| ((*tag).to_string(), *weak)).collect();
        assert_eq!(read(value), expected, "{}", value.escape_ascii());
    }
}

fn there(tag: &[u8]) -> Current<'_> {
    Current { tag, exists: true }
}

/// If-Match wants a strong tag of what is there, If-None-Match wants none of it, weak or strong; `*` is anything that is there.
#[test]
fn conditions_hold_or_not() {
    for (value, matches, none_matches) in [
        ("\"a\"", true, false),
        ("W/\"a\"", false, false),
        ("\"b\"", false, true),
        ("\"b\", \"c\", \"a\"", true, false),
        ("\"b\", W/\"a\"", false, false),
        ("*", true, false),
        (" * ", true, false),
        ("\"*\"", false, true),
        ("*, \"b\"", false, true),
        ("a", false, true),
        ("", false, true),
    ] {
        let field = Field::line(value.as_bytes());
        assert_eq!(if_match(field, there(b"a")), matches, "{value}");
        assert_eq!(if_none_match(field, there(b"a")), none_matches, "{value}");
        // What is not there is not anything; it may be named all the same.
        let nothing = Current { tag: b"a", exists: false };
        let any = value.trim() == "*";
        assert_eq!(if_match(field, nothing), matches && !any, "{value}");
        assert_eq!(if_none_match(field, nothing), none_matches || any, "{value}");
    }
    assert!(if_match(Field::default(), there(b"a")) && if_none_match(Field::default(), there(b"a")));
}

/// The lines of a header are found again among lines that were kept.
#[test]
fn kept_lines_are_found() {
    let block = b"if-match: \"a\"\r\nif-none-match: \"b\"\r\nif-match: \"c\"\r\n";
    let field = Field::within("if-match", block);
    assert!(field.is_given());
    assert_eq!(field.values().collect::<Vec<_>>(), [b"\"a\"", b"\"c\""]);
    assert!(!Field::within("if-range", block).is_given() && !Field::within("if-match", b"").is_given());
}

/// Every tag on every line counts; only the first of the first line did once.
#[test]
fn conditions_stand_on_any_line() {
    let input =
        b"GET / HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"\xe9\"\r\nIf-Match: \"x\"\r\nif-none-match: \"b\", \"a\"\r\n\
        IF-MATCH: W/\"y\", \"z\"\r\n\r\n";
    let (request, _) = head::parse(input, 4096).unwrap().unwrap();
    assert!(!if_none_match(request.headers.if_none_match, there(b"a")));
    assert!(!if_none_match(request.headers.if_none_match, there(b"\xe9")));
    assert!(if_none_match(request.headers.if_none_match, there(b"x")));
    for (tag, matches) in [(&b"x"[..], true), (b"y", false), (b"z", true), (b"a", false)] {
        assert_eq!(if_match(request.headers.if_match, there(tag)), matches);
    }
    let input = b"GET / HTTP/1.1\r\nHost: h\r\nIf-Match: *\r\nIf-Match: \"x\"\r\n\r\n";
    let (request, _) = head::parse(input, 4096).unwrap().unwrap();
    assert!(!is_any(request.headers.if_match), "it stands alone, or is nothing");
}

/// Dates at the borders of days, months, leap years, centuries and eras.
#[test]
fn dates_are_written() {
    for (unix_s, expected) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
        (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
        (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
        (1_740_787_200, "Sat, 01 Mar 2025 00:00:00 GMT"),
        (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        assert_eq!(std::str::from_utf8(&date(unix_s)), Ok(expected), "{unix_s}");
    }
}

/// Day by day over four centuries, the calendar agrees with one that counts.
#[test]
fn dates_follow_each_other() {
    let (mut year, mut month, mut day) = (1970, 0, 1);
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let week = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    for days in 0..146_097_u64 {
        let expected = format!("{}, {day:02} {} {year} 00:00:01 GMT", week[(days % 7) as usize], names[month]);
        assert_eq!(std::str::from_utf8(&date(days * 86_400 + 1)), Ok(expected.as_str()));
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        day += 1;
        if day > lengths[month] {
            (day, month) = (1, month + 1);
        }
        if month == 12 {
            (month, year) = (0, year + 1);
        }
    }
}
