//! Selectors rule by rule (Jakarta Messaging 3.1 section 3.8.1): what is one, and of what it is true, false or unknown.

use corecast_protocol::selector::{
    DEPTH_MAX, Given, LIKE_STEPS_MAX, NAMES_MAX, SELECTOR_BYTES_MAX, Selector, TERMS_MAX,
};

const RECORD: &str = r#"{
    "age": 17, "price": 1.5, "neg": -3, "zero": 0, "big": 9223372036854775807, "small": -9223372036854775808,
    "huge": 9223372036854775808, "far": 1e999, "name": "it's", "code": "a_b%c", "esc": "\u0061\ud83d\ude00\n", "empty": "",
    "yes": true, "no": false, "none": null, "obj": {"in": 5, "deep": {"x": "y"}, "two words": 1}, "list": [1],
    "a.b": "dotted", "q\"q": 1, "é": 2, "$topic": "of the record", "and": 3, "City": "Berlin", "under_score$1": 4
}"#;

fn given() -> Given<'static> {
    Given { topic: Some("prices/eur"), key: Some("EUR/USD"), event: None }
}

fn evaluate(selector: &str) -> Option<bool> {
    let parsed = Selector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
    assert_eq!(parsed.text(), selector);
    let is_true = parsed.evaluate(RECORD.as_bytes(), &given());
    assert_eq!(parsed.matches(RECORD.as_bytes(), &given()), is_true == Some(true));
    is_true
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const UNKNOWN: Option<bool> = None;

/// Each operator, each kind of value, NULL and unlike values.
#[test]
fn conditions_are_true_false_or_unknown() {
    for (selector, expected) in [
        // Comparisons of numbers.
        ("age = 17", YES),
        ("age<>17", NO),
        ("age < 18 and AGE is null", YES),
        ("age <= 16", NO),
        ("age>=17.0", YES),
        ("price > 1", YES),
        ("price = 15E-1", YES),
        ("price = 1.5e+0 AND price = 1500e-3 AND 7. = 7 AND .5 < 1", YES),
        ("neg = -3", YES),
        ("-neg = +3", YES),
        ("17 = age", YES),
        ("1 = 1", YES),
        // Exact where it can be, floating where not.
        ("big = 9223372036854775807", YES),
        ("big = 9223372036854775806", NO),
        ("big = 9223372036854775806.0", YES),
        ("small < -9223372036854775807", YES),
        ("huge = 9223372036854775808", YES),
        ("big + 1 = 9223372036854775808", YES),
        ("big * 2 > big", YES),
        ("small - 1 = small", YES), // As floating ones they are the same.
        ("-small > 0", YES),
        ("small / -1 > 0", YES),
        ("far > 1e300", YES),
        ("far - far = 0", UNKNOWN),
        // Arithmetic, and what binds how.
        ("age / 2 = 8", YES),
        ("neg / 2 = -1", YES),
        ("age / 2.0 = 8.5", YES),
        ("1 + 2 * 3 = 7", YES),
        ("(1 + 2) * 3 = 9", YES),
        ("10 - 4 - 3 = 3", YES),
        ("8 / 4 / 2 = 1", YES),
        ("- - 3 = 3", YES),
        ("2 * -3 = -6", YES),
        ("age / zero = 1", UNKNOWN),
        ("age / 0.0 = 1", UNKNOWN),
        ("name + 1 = 1", UNKNOWN),
        ("yes * 1 = 1", UNKNOWN),
        ("+name = 1", UNKNOWN),
        ("+age = 17", YES),
        ("-none = 1", UNKNOWN),
        // Strings and truth values are equal or not.
        ("name = 'it''s'", YES),
        ("name <> 'its'", YES),
        ("esc = 'a😀\n'", YES),
        ("empty = ''", YES),
        ("yes = TRUE", YES),
        ("yes <> False", YES),
        ("no = true", NO),
        ("'a' = 'a'", YES),
        ("'it''s' = name", YES),
        ("name < age", NO),
        ("name < name", NO),
        ("name >= name", NO),
        ("yes < no", NO),
        // Unlike values, also for `<>`.
        ("age = '17'", NO),
        ("age <> '17'", NO),
        ("yes = 1", NO),
        ("yes <> 'true'", NO),
        ("name > 1", NO),
        ("NOT age = '17'", YES),
        ("obj = 'x'", NO),
        ("list <> 1", NO),
        // NULL.
        ("none = 1", UNKNOWN),
        ("none <> 1", UNKNOWN),
        ("none = none", UNKNOWN),
        ("missing < 1", UNKNOWN),
        ("NOT (missing < 1)", UNKNOWN),
        ("none IS NULL", YES),
        ("none IS NOT NULL", NO),
        ("missing is null", YES),
        ("age IS NULL", NO),
        ("obj IS NOT NULL AND list IS NOT NULL", YES),
        // Logic of three values.
        ("none = 1 OR TRUE", YES),
        ("TRUE OR none = 1", YES),
        ("none = 1 OR FALSE", UNKNOWN),
        ("FALSE OR none = 1", UNKNOWN),
        ("none = 1 AND FALSE", NO),
        ("FALSE AND none = 1", NO),
        ("none = 1 AND TRUE", UNKNOWN),
        ("none = 1 AND none = 1 OR none = 1", UNKNOWN),
        ("TRUE OR FALSE AND FALSE", YES),
        ("(TRUE OR FALSE) AND FALSE", NO),
        ("NOT FALSE AND FALSE", NO),
        ("NOT (FALSE AND FALSE)", YES),
        ("NOT NOT NOT FALSE", YES),
        ("yes", YES),
        ("NOT yes", NO),
        ("no OR yes", YES),
        ("age", UNKNOWN),
        ("NOT name", UNKNOWN),
        ("((yes))", YES),
        // BETWEEN.
        ("age BETWEEN 15 AND 19", YES),
        ("age NOT BETWEEN 15 AND 19", NO),
        ("age BETWEEN 17 AND 17 AND yes", YES),
        ("age BETWEEN 19 AND 15", NO),
        ("age NOT BETWEEN 19 AND 15", YES),
        ("age BETWEEN none AND 16", NO),
        ("age BETWEEN none AND 18", UNKNOWN),
        ("age NOT BETWEEN none AND 16", YES),
        ("age NOT BETWEEN none AND 18", UNKNOWN),
        ("age - 1 BETWEEN price * 2 AND age", YES),
        ("name BETWEEN 1 AND 2", NO),
        ("name NOT BETWEEN 1 AND 2", NO),
        ("none NOT BETWEEN 1 AND 2", UNKNOWN),
        // IN.
        ("City IN ('Paris', 'Berlin')", YES),
        ("City NOT IN ('Paris', 'Berlin')", NO),
        ("City IN('Paris')", NO),
        ("name IN ('x','it''s')", YES),
        ("none IN ('a')", UNKNOWN),
        ("none NOT IN ('a')", UNKNOWN),
        ("age IN ('17')", NO),
        ("age NOT IN ('17')", YES),
        ("age IN (1, 17)", YES),
        ("neg IN (3, -3)", YES),
        ("price IN (1.5)", YES),
        ("no IN (TRUE, FALSE)", YES),
        ("obj NOT IN (1)", YES),
        // LIKE.
        ("City LIKE 'Ber%'", YES),
        ("City LIKE '%lin'", YES),
        ("City LIKE '%r%i%'", YES),
        ("City LIKE 'B_rl_n'", YES),
        ("City LIKE 'B_rl_'", NO),
        ("City LIKE 'Berlin'", YES),
        ("City LIKE 'berlin'", NO),
        ("City LIKE 'Berlin_'", NO),
        ("City LIKE 'Berlin%'", YES),
        ("City LIKE '%'", YES),
        ("City LIKE ''", NO),
        ("empty LIKE ''", YES),
        ("empty LIKE '%%'", YES),
        ("empty LIKE '_'", NO),
        ("City NOT LIKE 'Par%'", YES),
        ("code LIKE 'a\\_b\\%c' ESCAPE '\\'", YES),
        ("code LIKE 'a!_b!_c' ESCAPE '!'", NO),
        ("code LIKE 'a____'", YES),
        ("name LIKE 'it''s' ESCAPE '!'", YES),
        ("name LIKE 'it_s'", YES),
        ("name LIKE '%''%'", YES),
        ("esc LIKE 'a__'", YES),
        ("esc LIKE 'a_'", NO),
        ("esc LIKE '_😀_'", YES),
        ("none LIKE '%'", UNKNOWN),
        ("none NOT LIKE '%'", UNKNOWN),
        ("age LIKE '17'", NO),
        ("age NOT LIKE '17'", YES),
        // Names.
        ("obj.in = 5", YES),
        ("obj.deep.x = 'y'", YES),
        ("obj.deep IS NOT NULL AND obj.in = 5 AND obj.deep.x = 'y' AND obj.deep.z IS NULL AND obj.x IS NULL", YES),
        ("obj.\"two words\" = 1", YES),
        ("age.x IS NULL", YES),
        ("\"a.b\" = 'dotted'", YES),
        ("a.b IS NULL", YES),
        ("\"q\"\"q\" = 1", YES),
        ("é = 2", YES),
        ("\"and\" = 3", YES),
        ("under_score$1 = 4", YES),
        ("$topic = 'prices/eur'", YES),
        ("$topic LIKE 'prices/%' AND $key IN ('EUR/USD') AND $event IS NULL", YES),
        ("\"$topic\" = 'of the record'", YES),
        ("age>16\tAND age<18\r\nAND\u{c}TRUE", YES),
    ] {
        assert_eq!(evaluate(selector), expected, "{selector}");
    }
}

/// Of what is no object nothing is known, nor of one that cannot be followed; and what is there more than once, or behind the last name, is not looked at.
#[test]
fn other_payloads_have_no_members() {
    let selector = Selector::parse("a IS NULL AND b IS NULL").expect("a selector");
    for payload in [
        "",
        "[1]",
        "\"a\"",
        "null",
        "{",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1 \"b\":2}",
        "{\"a\":\"x}",
        "{}",
        " {\"c\":{\"a\":1}} ",
    ] {
        assert_eq!(selector.evaluate(payload.as_bytes(), &Given::default()), YES, "{payload}");
    }
    for payload in ["{\"a\":1,\"b\":2", "{\"a\":null,\"b\":0}", "{\"b\":true,\"a\":1}}}"] {
        assert_eq!(selector.evaluate(payload.as_bytes(), &Given::default()), NO, "{payload}");
    }
    // Names that stand in the record twice, or in the selector.
    let selector = Selector::parse("a = 1 AND a < 2 AND b = 2 AND \"b\" > a").expect("a selector");
    assert_eq!(selector.evaluate(b"{\"a\":1,\"a\":3,\"b\":2,", &Given::default()), YES);
    // Names of any length.
    for len in [1, 7, 8, 9, 62, 63, 64, 65, 300] {
        let name = "n".repeat(len);
        let selector = Selector::parse(&format!("{name} = 1 AND {name}n IS NULL")).expect("a selector");
        for name in [name.clone(), format!("\\u006e{}", &name[1..])] {
            let record = format!("{{\"{name}nn\":2,\"{name}\":1}}");
            assert_eq!(selector.evaluate(record.as_bytes(), &Given::default()), YES, "{record}");
        }
    }
    let selector = Selector::parse("$key = 'k'").expect("a selector");
    assert!(!selector.reads_record());
    assert!(selector.matches(b"no JSON", &Given { key: Some("k"), ..Given::default() }));
    assert!(Selector::parse("a = 1 OR TRUE").expect("a selector").reads_record());
}

/// What is wrong is told with its place.
#[test]
fn bad_selectors_are_told_with_their_place() {
    let deep = format!("{}a{}", "(".repeat(DEPTH_MAX + 1), ")".repeat(DEPTH_MAX + 1));
    let nots = format!("{}a", "NOT ".repeat(DEPTH_MAX + 1));
    let signs = format!("{}a = 1", "-".repeat(DEPTH_MAX + 1));
    let terms = format!("a IN ({}1)", "1,".repeat(TERMS_MAX - 1));
    let names = (0..=NAMES_MAX).map(|n| format!("a{n}")).collect::<Vec<_>>().join(" OR ");
    let long = format!("a = '{}'", "x".repeat(SELECTOR_BYTES_MAX - 6));
    for (selector, why, offset) in [
        ("", "a selector is not empty", 0),
        (" \n", "a selector is not empty", 2),
        ("a =", "expected a value, and not the end", 3),
        ("a = = 1", "expected a name or a value", 4),
        ("a = 1 b", "expected an operator or the end", 6),
        ("a = 1)", "expected an operator or the end", 5),
        ("(a = 1", "expected )", 6),
        ("1", "expected a condition", 0),
        ("a + 1", "expected a condition", 0),
        ("a = 1 AND 'x'", "expected a condition", 10),
        ("NOT 1", "expected a condition", 4),
        ("'x' OR a", "expected a condition", 0),
        ("a = (b = 1)", "expected a value, and not a condition", 4),
        ("(a AND b) <> c", "expected a value, and not a condition", 0),
        ("a < 'x'", "strings and truth values are compared by = and <> only", 4),
        ("TRUE >= a", "strings and truth values are compared by = and <> only", 0),
        ("a + 'x' = 1", "expected a number or a name", 4),
        ("-TRUE = 1", "expected a number or a name", 1),
        ("a BETWEEN 'a' AND 'b'", "expected a number or a name", 10),
        ("a BETWEEN 1, 2", "expected AND and the end of what it is between", 11),
        ("a NOT 1", "expected BETWEEN, IN or LIKE", 6),
        ("a IS 1", "expected NULL or NOT NULL", 5),
        ("1 IS NULL", "expected a name", 0),
        ("a = NULL", "NULL stands behind IS and IS NOT only", 4),
        ("null IS NULL", "NULL stands behind IS and IS NOT only", 0),
        ("'a' IN ('a')", "expected a name", 0),
        ("a IN 'a'", "expected ( and a list", 5),
        ("a IN ()", "expected a string, a number, TRUE or FALSE", 6),
        ("a IN ('a',)", "expected a string, a number, TRUE or FALSE", 10),
        ("a IN (b)", "expected a string, a number, TRUE or FALSE", 6),
        ("a IN ('a' 'b')", "expected , or )", 10),
        ("'a' LIKE 'a'", "expected a name", 0),
        ("a LIKE b", "expected a pattern: a string", 7),
        ("a LIKE 'a' ESCAPE 1", "expected the escape character: a string", 18),
        ("a LIKE 'a' ESCAPE ''", "the escape character is one character of ASCII", 18),
        ("a LIKE 'a' ESCAPE 'xx'", "the escape character is one character of ASCII", 18),
        ("a LIKE 'a' ESCAPE 'é'", "the escape character is one character of ASCII", 18),
        ("a LIKE 'a!b' ESCAPE '!'", "the escape character stands before %, _ or itself", 7),
        ("a LIKE 'a!' ESCAPE '!'", "the escape character stands before %, _ or itself", 7),
        ("a = 'x", "the string does not end", 4),
        ("a = 'x''", "the string does not end", 4),
        ("\"a = 1", "the name does not end", 0),
        ("\"\" = 1", "a name is not empty", 0),
        ("a. = 1", "expected a name", 2),
        ("a..b = 1", "expected a name", 2),
        ("a.5 = 1", "expected a name", 2),
        ("a\"b\" = 1", "a name in quotes begins with its quote", 1),
        ("\"b\"a = 1", "a name in quotes ends with its quote", 3),
        ("a = 1x", "a number ends with a digit or its point", 5),
        ("a = 1.2.3", "a number ends with a digit or its point", 7),
        ("a = 0x1F", "a number ends with a digit or its point", 5),
        ("a = 007", "a number does not begin with 0", 4),
        ("a = 1e", "an exponent has digits", 6),
        ("a = 1e999", "the number is too large", 4),
        ("$x = 1", "of names that begin with $ there are $topic, $key and $event", 0),
        ("a = :x", "expected a name, a value or an operator", 4),
        ("a ! 1", "expected a name, a value or an operator", 2),
        ("a == 1", "expected a name or a value", 3),
        ("a != 1", "expected a name, a value or an operator", 2),
        ("in = 1", "expected a name or a value", 0),
        (&deep, "the selector is nested too deep", DEPTH_MAX + 1),
        (&nots, "the selector is nested too deep", 4 * DEPTH_MAX + 4),
        (&signs, "the selector is nested too deep", DEPTH_MAX + 1),
        (&terms, "the selector has too many terms", 6 + 2 * (TERMS_MAX - 1)),
        (&names, "the selector has too many names", names.rfind('a').expect("a name")),
        (&(long.clone() + " "), "a selector has at most 1024 bytes", SELECTOR_BYTES_MAX),
    ] {
        let error = Selector::parse(selector).expect_err(selector);
        assert_eq!((error.text, error.offset), (why, offset), "{selector}");
        assert_eq!(error.to_string(), format!("{why} at byte {offset}"));
    }
    // And at the limits.
    for selector in
        [&deep[1..deep.len() - 1], &nots[4..], &signs[1..], &names[..names.rfind(" OR").expect("more")], &long]
    {
        assert!(Selector::parse(selector).is_ok(), "{selector}");
    }
    assert!(Selector::parse(&format!("a IN ({}1)", "1,".repeat(TERMS_MAX - 3))).is_ok());
}

/// A pattern that seeks trouble is unknown at last; any pattern on any string of 360 bytes is not, or of 180 with escapes.
#[test]
fn patterns_have_a_bound() {
    let like = |pattern: &str, text: &str| {
        let selector = Selector::parse(&format!("a LIKE '{pattern}'")).expect("a selector");
        selector.evaluate(format!("{{\"a\":\"{text}\"}}").as_bytes(), &Given::default())
    };
    let pattern = |len: usize| format!("%{}b", "a".repeat(len - 2));
    assert_eq!(like(&pattern(360), &"a".repeat(360)), NO);
    assert_eq!(like(&pattern(180), &"a".repeat(360)), NO);
    assert_eq!(like(&pattern(360), &"a".repeat(60_000)), UNKNOWN);
    let escaped = |len: usize| format!("\\u0061{}", "a".repeat(len - 1));
    assert_eq!(like(&pattern(180), &escaped(180)), NO);
    assert_eq!(like(&pattern(360), &escaped(360)), UNKNOWN);
    let text = format!("{}b", "a".repeat(LIKE_STEPS_MAX as usize / 3));
    assert_eq!(like("%b", &text), YES);
    assert_eq!(like("a%c", &text), NO);
    // All patterns of a selector together.
    let many = vec![format!("a LIKE '{}'", pattern(60)); 10].join(" OR ");
    let many = Selector::parse(&many).expect("a selector");
    assert_eq!(many.evaluate(format!("{{\"a\":\"{}\"}}", "a".repeat(300)).as_bytes(), &Given::default()), UNKNOWN);
}
