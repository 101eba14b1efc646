//! Records rule by rule: what is one, what is found in it, and the examples of RFC 7396.

use corecast_protocol::Writer;
use corecast_protocol::record::{
    DEPTH_MAX, FIELDS_BYTES_MAX, FIELDS_MAX, Fields, FieldsError, KEY_BYTES_MAX, KeyError, MEMBERS_MAX, NODES_MAX,
    NUMBER_BYTES_MAX, check, check_key, diff, get, key, members, merge, project,
};
use serde_json::Value;

fn scratch() -> Vec<u64> {
    vec![u64::MAX; MEMBERS_MAX]
}

fn merged(target: &str, patch: &str) -> String {
    let mut out = vec![0; target.len() + patch.len()];
    let mut w = Writer::new(&mut out);
    merge(target.as_bytes(), patch.as_bytes(), &mut scratch(), &mut w).expect("both are JSON");
    let len = w.finish().expect("no longer than both");
    String::from_utf8(out[..len].to_vec()).expect("text of text")
}

fn patch(old: &str, new: &str) -> Option<String> {
    let mut out = vec![0; new.len()];
    let mut w = Writer::new(&mut out);
    let len = diff(old.as_bytes(), new.as_bytes(), &mut scratch(), &mut w);
    assert_eq!(len.unwrap_or(0), w.len());
    len.map(|len| String::from_utf8(out[..len].to_vec()).expect("text of text"))
}

fn shown(record: &str, fields: &str) -> String {
    let mut out = vec![0; record.len()];
    let mut w = Writer::new(&mut out);
    project(record.as_bytes(), &Fields::parse(fields).expect(fields), &mut w).expect(record);
    let len = w.finish().expect("no longer than the record");
    String::from_utf8(out[..len].to_vec()).expect("text of text")
}

/// What is a record is one, also at the limits.
#[test]
fn records_are_accepted() {
    let deep = format!("{}1{}", "{\"a\":".repeat(DEPTH_MAX), "}".repeat(DEPTH_MAX));
    let arrays = format!("{{\"a\":{}{}}}", "[".repeat(DEPTH_MAX - 1), "]".repeat(DEPTH_MAX - 1));
    let long = format!("{{\"a\":{}}}", "9".repeat(NUMBER_BYTES_MAX));
    let many = (0..100).map(|n| format!("\"{n}\":{n}")).collect::<Vec<_>>().join(",");
    let many = format!("{{{many}}}");
    for record in [
        "{}",
        " \t\r\n{ \"a\" : 1 , \"b\" : [ ] } \n",
        r#"{"":"","a":null,"A":true,"aa":false,"b":[{"a":1},{"a":1}],"c":{"a":1}}"#,
        r#"{"a":[0,-0,1.5,-1e9,2E+3,0.0e-7,1e999],"é":"\u0000\u20AC\uD83D\ude00\uffff\"\\\/\b\f\n\r\t"}"#,
        "{\"ü\":\"€😀\u{2028}\u{7f}\"}",
        &deep,
        &arrays,
        &long,
        &many,
    ] {
        assert_eq!(check(record.as_bytes(), &mut scratch()), Ok(()), "{record}");
        for cut in 0..record.trim_end().len() {
            let error = check(&record.as_bytes()[..cut], &mut scratch()).expect_err("an object has an end");
            assert!(error.offset <= cut, "{record} cut at {cut}: {error}");
        }
    }
}

/// What is wrong is told with its place.
#[test]
fn others_are_told_with_their_place() {
    let too_deep = "{\"a\":".repeat(DEPTH_MAX + 1);
    let too_long = format!("{{\"a\":-{}}}", "9".repeat(NUMBER_BYTES_MAX));
    let mut twice = (0..100).map(|n| format!("\"{n:02}\":{n}")).collect::<Vec<_>>().join(",");
    twice = format!("{{{twice},\"\\u0030\\u0037\":1}}");
    let rows: &[(&[u8], &str, usize)] = &[
        (b"", "the record is not an object", 0),
        (b" [1]", "the record is not an object", 1),
        (b"\"a\"", "the record is not an object", 0),
        (b"\xef\xbb\xbf{}", "the record is not an object", 0),
        (b"{}x", "something follows the object", 2),
        (br#"{"a":1,}"#, "expected a member's name", 7),
        (br#"{,"a":1}"#, "expected a member's name", 1),
        (br#"{a:1}"#, "expected a member's name", 1),
        (br#"{"a" 1}"#, "expected :", 5),
        (br#"{"a":1 "b":2}"#, "expected , or the closing bracket", 7),
        (br#"{"a":1]"#, "expected , or the closing bracket", 6),
        (br#"{"a":[1}"#, "expected , or the closing bracket", 7),
        (br#"{"a":}"#, "expected a value", 5),
        (br#"{"a":tru}"#, "expected a value", 5),
        (br#"{"a":+1}"#, "expected a value", 5),
        (br#"{"a":01}"#, "expected , or the closing bracket", 6),
        (br#"{"a":1.}"#, "expected a digit", 7),
        (br#"{"a":1e}"#, "expected a digit", 7),
        (br#"{"a":-}"#, "expected a digit", 6),
        (b"{\"a\":\"\x01\"}", "a control character stands in a string", 6),
        (b"{\"a\":\"12345678\n\"}", "a control character stands in a string", 14),
        (b"{\"a\":\"\x80\"}", "the record is not UTF-8", 6),
        (b"{\"a\":\"\xed\xa0\x80\"}", "the record is not UTF-8", 6),
        (br#"{"a":"\x41"}"#, "the escape is not known", 6),
        (br#"{"a":"\u00g1"}"#, "\\u needs four hexadecimal digits", 6),
        (br#"{"a":"\ud800"}"#, "a surrogate stands alone", 12),
        (br#"{"a":"\ud800\u0041"}"#, "a surrogate stands alone", 18),
        (br#"{"a":"\udc00"}"#, "a surrogate stands alone", 12),
        (br#"{"a":1,"b":2,"a":3}"#, "a member is given twice", 13),
        (br#"{"a":1,"\u0061":3}"#, "a member is given twice", 7),
        (br#"{"x":[{"a":{"b":1,"c":2,"b":3}}]}"#, "a member is given twice", 24),
        (twice.as_bytes(), "a member is given twice", twice.rfind(',').unwrap() + 1),
        (too_deep.as_bytes(), "the nesting is too deep", 5 * DEPTH_MAX),
        (too_long.as_bytes(), "a number is too long", 5),
    ];
    for (record, why, offset) in rows {
        let error = check(record, &mut scratch()).expect_err(why);
        assert_eq!((error.text, error.offset), (*why, *offset), "{}", record.escape_ascii());
        assert_eq!(error.to_string(), format!("{why} at byte {offset}"));
    }
}

/// Members are counted for as long as their object is open.
#[test]
fn members_are_counted() {
    let record = br#"{"a":{"b":1,"c":2},"d":{"b":1,"c":2},"e":1}"#;
    assert_eq!(check(record, &mut [0; 4]), Ok(()));
    let error = check(record, &mut [0; 3]).expect_err("two and two are open at a time");
    assert_eq!((error.text, error.offset), ("the record has too many members", 30));
}

/// A value is found by its path, however the names on it are escaped.
#[test]
fn values_are_found() {
    let record = r#" { "a" : 1, "b":{"c" : [ 1, {"d":2} ] ,"\u0065\ud83d\ude00":"x\"}"}, "a.b":5,"":{"":null} } "#;
    for (path, value) in [
        ("a", Some("1")),
        ("b", Some(r#"{"c" : [ 1, {"d":2} ] ,"\u0065\ud83d\ude00":"x\"}"}"#)),
        ("b.c", Some(r#"[ 1, {"d":2} ]"#)),
        ("b.e😀", Some(r#""x\"}""#)),
        ("", Some(r#"{"":null}"#)),
        (".", Some("null")),
        ("c", None),
        ("b.c.d", None),
        ("a.b", None),
        ("b.d", None),
    ] {
        assert_eq!(get(record.as_bytes(), path), value.map(str::as_bytes), "{path}");
    }
    let found: Vec<_> =
        members(record.as_bytes()).map(|member| String::from_utf8(member.name.bytes().collect()).unwrap()).collect();
    assert_eq!(found, ["a", "b", "a.b", ""]);
    for other in ["", "[]", "{", "{\"a\"", "{\"a\":", "1", "{\"a\\"] {
        assert_eq!(get(other.as_bytes(), "a"), None, "{other}");
        assert_eq!(members(other.as_bytes()).count(), 0, "{other}");
    }
}

/// What is shown is what was asked for.
#[test]
fn fields_are_shown() {
    let record = r#"{ "a": 1 , "b" : {"c":[1, 2],"d":{"e":null,"f":"x"}},"g":"y" }"#;
    for (fields, expected) in [
        ("a", r#"{"a": 1}"#),
        ("g,a", r#"{"a": 1,"g":"y"}"#),
        ("b", r#"{"b" : {"c":[1, 2],"d":{"e":null,"f":"x"}}}"#),
        ("b.c", r#"{"b":{"c":[1, 2]}}"#),
        ("b.d.f,b.c,g", r#"{"b":{"c":[1, 2],"d":{"f":"x"}},"g":"y"}"#),
        ("b.d.f,b.d", r#"{"b":{"d":{"e":null,"f":"x"}}}"#),
        ("b.d.e", r#"{"b":{"d":{"e":null}}}"#),
        ("x", "{}"),
        ("b.x,a.x,b.d.x.y", "{}"),
        ("b.x,g", r#"{"g":"y"}"#),
    ] {
        assert_eq!(shown(record, fields), expected, "{fields}");
    }
    assert_eq!(shown(r#"{"\u0061":1,"b\"":2}"#, "a,b\""), r#"{"\u0061":1,"b\"":2}"#);
    assert_eq!(shown(" {} ", "a"), "{}");
    for (other, why) in
        [("[]", "the record is not an object at byte 0"), ("{\"a\":", "the record is not sound at byte 5")]
    {
        let mut out = [0; 16];
        let error = project(other.as_bytes(), &Fields::parse("a").unwrap(), &mut Writer::new(&mut out));
        assert_eq!(error.expect_err(other).to_string(), why);
    }
}

/// A list of fields has a form of its own, and bounds.
#[test]
fn lists_of_fields_are_read() {
    for (list, text) in [("a", "a"), ("b,a.c,a.b", "a.b,a.c,b"), ("a.b,a,a.b.c,a0", "a,a0"), (" a,é", " a,é")] {
        let fields = Fields::parse(list).expect(list);
        assert_eq!(fields.text(), text);
        assert_eq!(Fields::parse(text), Ok(fields));
    }
    assert_ne!(Fields::parse("a.b"), Fields::parse("a"));
    let names = |count: usize| (0..count).map(|n| format!("f{n}")).collect::<Vec<_>>().join(",");
    let deep = |names: usize| vec!["d"; names].join(".");
    let nodes = |count: usize| (0..6).map(|n| format!("{n}.{}", deep(count))).collect::<Vec<_>>().join(",");
    assert!(Fields::parse(&names(FIELDS_MAX)).is_ok());
    assert!(Fields::parse(&deep(DEPTH_MAX)).is_ok());
    assert!(Fields::parse(&"x".repeat(FIELDS_BYTES_MAX)).is_ok());
    assert!(Fields::parse(&nodes(NODES_MAX / 6 - 1)).is_ok());
    for (list, error) in [
        (String::new(), FieldsError::Empty),
        (",".to_owned(), FieldsError::EmptyName),
        ("a,,b".to_owned(), FieldsError::EmptyName),
        ("a.".to_owned(), FieldsError::EmptyName),
        ("a..b".to_owned(), FieldsError::EmptyName),
        ("a,b,a".to_owned(), FieldsError::Twice),
        ("a.b,a,a.b".to_owned(), FieldsError::Twice),
        ("a\n".to_owned(), FieldsError::Character),
        (names(FIELDS_MAX + 1), FieldsError::TooMany),
        (nodes(NODES_MAX / 6), FieldsError::TooMany),
        (deep(DEPTH_MAX + 1), FieldsError::TooDeep),
        ("x".repeat(FIELDS_BYTES_MAX + 1), FieldsError::TooLong),
    ] {
        assert_eq!(Fields::parse(&list), Err(error), "{list}");
        assert!(!error.to_string().is_empty());
    }
}

/// The examples of RFC 7396, appendix A, and that of section 3.
#[test]
fn patches_are_merged_as_the_standard_says() {
    for (original, patch, result) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, "null", "null"),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        (
            r#"{"title":"Goodbye!","author":{"givenName":"John","familyName":"Doe"},"tags":["example","sample"],"content":"This will be unchanged"}"#,
            r#"{"title":"Hello!","phoneNumber":"+01-123-456-7890","author":{"familyName":null},"tags":["example"]}"#,
            r#"{"title":"Hello!","author":{"givenName":"John"},"tags":["example"],"content":"This will be unchanged","phoneNumber":"+01-123-456-7890"}"#,
        ),
        // What is not named keeps its bytes.
        ("", r#" {"a":1} "#, r#"{"a":1}"#),
        (
            r#" { "a" : 1.0 , "\u0062" : [ 1 ] } "#,
            r#" {"b" : 2, "c" : [null, {"d":null}]}"#,
            r#"{"a" : 1.0,"\u0062":2,"c":[null, {"d":null}]}"#,
        ),
    ] {
        assert_eq!(merged(original, patch), result, "{original} and {patch}");
    }
    let error = |patch: &str, scratch: &mut [u64]| {
        let mut out = [0; 1024];
        merge(b"{}", patch.as_bytes(), scratch, &mut Writer::new(&mut out)).expect_err(patch).to_string()
    };
    assert_eq!(error(r#"{"a":1,"b":1}"#, &mut [0]), "the record has too many members at byte 11");
    assert_eq!(error(r#"{"a":"#, &mut [0; 2]), "the record is not sound at byte 5");
    let deep = format!("{}1{}", "{\"a\":".repeat(DEPTH_MAX + 1), "}".repeat(DEPTH_MAX + 1));
    assert!(error(&deep, &mut [0; 64]).starts_with("the nesting is too deep"));
}

/// What has changed is said as shortly as members allow, and what no patch can say is not.
#[test]
fn changes_are_said() {
    for (old, new, expected) in [
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, Some(r#"{"b":3}"#)),
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#, Some("{}")),
        (r#"{"a":1,"b":2}"#, r#"{ "b":2,"\u0061": 1}"#, Some("{}")),
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2,"c":[null]}"#, Some(r#"{"c":[null]}"#)),
        (r#"{"a":1,"b":2,"c":"long"}"#, r#"{"a":1,"c":"long"}"#, Some(r#"{"b":null}"#)),
        (r#"{"x":9,"a":1,"b":2}"#, r#"{"a":1,"b":2}"#, Some(r#"{"x":null}"#)),
        (r#"{"c":1,"b":{"x":1,"y":2},"a":3}"#, r#"{"a":3,"b":{"y":2,"x":5},"c":1}"#, Some(r#"{"b":{"x":5}}"#)),
        (r#"{"a":{"b":{"c":1}},"d":2}"#, r#"{"a":{"b":{ "c":1}},"d":3}"#, Some(r#"{"d":3}"#)),
        (r#"{"a":1,"bbb":"x"}"#, r#"{"a":12,"bbb":"x"}"#, Some(r#"{"a":12}"#)),
        (r#"{"a":"x","bbbbb":1}"#, r#"{"a":"x\"","bbbbb":1}"#, Some(r#"{"a":"x\""}"#)),
        (
            r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"z":"what stays is longer than the patch of it all"}"#,
            r#"{"z":"what stays is longer than the patch of it all","c":3}"#,
            Some(r#"{"a":null,"b":null,"d":null,"e":null,"f":null}"#),
        ),
        (r#"{"a":null,"b":1}"#, r#"{"a":null,"b":2}"#, Some(r#"{"b":2}"#)),
        (r#"{"a":1,"b":{"c":1,"d":22222}}"#, r#"{"a":1,"b":{"d":22222}}"#, Some(r#"{"b":{"c":null}}"#)),
        (r#"{"a":[1],"bbbbbbb":0}"#, r#"{"a":[1,{"n":null}],"bbbbbbb":0}"#, Some(r#"{"a":[1,{"n":null}]}"#)),
        (r#"{"a":1,"bbbb":1}"#, r#"{"a":null,"bbbb":1}"#, None),
        (r#"{"a":1,"bbbb":1}"#, r#"{"a":1,"bbbb":1,"c":{"d":{"e":null}}}"#, None),
        (r#"{"a":1}"#, r#"{"a":2}"#, None),
        (r#"{"a":1,"bbbbbbbbbb":1}"#, r#"{"a":1}"#, None),
        ("{}", "{}", None),
        ("[1]", r#"{"a":1}"#, None),
        (r#"{"a":1}"#, "[1]", None),
        (r#"{"a":1"#, r#"{"a":1}"#, None),
    ] {
        let found = patch(old, new);
        assert_eq!(found.as_deref(), expected, "{old} to {new}");
        if let Some(patch) = found {
            let value = |text: &str| serde_json::from_str::<Value>(text).expect(text);
            assert_eq!(value(&merged(old, &patch)), value(new), "{old} to {new}");
        }
    }
    // Without room for the names of what was put in another order, or for the patch: whole.
    let (old, new) = (r#"{"a":1,"b":2,"c":3}"#, r#"{"b":2,"a":1,"c":4}"#);
    let mut out = [0; 16];
    assert_eq!(diff(old.as_bytes(), new.as_bytes(), &mut [0; 2], &mut Writer::new(&mut out)), None);
    assert_eq!(diff(old.as_bytes(), new.as_bytes(), &mut [0; 3], &mut Writer::new(&mut out)), Some(7));
    let mut w = Writer::new(&mut out[..6]);
    assert_eq!(diff(old.as_bytes(), new.as_bytes(), &mut [0; 3], &mut w), None);
    assert_eq!(w.finish(), Ok(0));
    // Where another order, in objects inside each other, would have the old record read again and again: whole.
    let nested = |depth: usize, swapped: bool| {
        let inside = |n: usize| format!("\"fill\":{n}");
        let text = (0..depth).fold("\"text\":\"which is long enough to be most of it\"".to_owned(), |text, n| {
            if swapped { format!("{},\"x\":{{{text}}}", inside(n)) } else { format!("\"x\":{{{text}}},{}", inside(n)) }
        });
        format!("{{{text}}}")
    };
    assert_eq!(patch(&nested(4, false), &nested(4, true)).as_deref(), Some("{}"));
    assert_eq!(patch(&nested(30, false), &nested(30, true)), None);
    assert_eq!(patch(&nested(30, false), &nested(30, false)).as_deref(), Some("{}"));
}

/// A key is a string, an integer, or a truth value.
#[test]
fn keys_are_read() {
    let long = "k".repeat(KEY_BYTES_MAX);
    let record = format!(
        r#"{{"s":"EUR/USD","e":"\u00fc\n","u":"\u00fc\"","i":-42,"t":true,"f":false,"n":null,"o":{{"k":"x"}},"l":[1],"d":1.0,"x":1e2,"z":"","long":"{long}","longer":"{long}k","escaped":"{}","c":"\u0085"}}"#,
        "\\u006b".repeat(KEY_BYTES_MAX + 1)
    );
    for (path, expected) in [
        ("s", Ok("EUR/USD")),
        ("u", Ok("ü\"")),
        ("i", Ok("-42")),
        ("t", Ok("true")),
        ("f", Ok("false")),
        ("o.k", Ok("x")),
        ("long", Ok(&*long)),
        ("n", Err(KeyError::Null)),
        ("o", Err(KeyError::NotPlain)),
        ("l", Err(KeyError::NotPlain)),
        ("d", Err(KeyError::NotInteger)),
        ("x", Err(KeyError::NotInteger)),
        ("z", Err(KeyError::Empty)),
        ("e", Err(KeyError::Character)),
        ("c", Err(KeyError::Character)),
        ("longer", Err(KeyError::TooLong)),
        ("escaped", Err(KeyError::TooLong)),
        ("y", Err(KeyError::Missing)),
        ("s.x", Err(KeyError::Missing)),
    ] {
        assert_eq!(key(record.as_bytes(), path, &mut [0; KEY_BYTES_MAX]), expected, "{path}");
    }
    assert_eq!(key(b"[1]", "a", &mut [0; KEY_BYTES_MAX]), Err(KeyError::Missing));
    assert_eq!(check_key("a b"), Ok(()));
}
