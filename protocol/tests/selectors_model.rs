//! Selectors against an evaluator that knows nothing of them: it walks a tree of its own over what `serde_json` read.

mod any_json;

use corecast_protocol::selector::{Given, Selector};
use proptest::prelude::*;
use serde_json::Value;

/// A condition.
#[derive(Clone, Debug)]
enum Condition {
    Or(Box<Condition>, Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    Compare(&'static str, Operand, Operand),
    Between(Operand, Operand, Operand, bool),
    In(Path, Vec<Literal>, bool),
    Like(Path, Vec<Piece>, bool),
    IsNull(Path, bool),
    Alone(Path),
    Truth(bool),
}

/// A value of a comparison.
#[derive(Clone, Debug)]
enum Operand {
    Path(Path),
    Literal(Literal),
    Arithmetic(char, Box<Operand>, Box<Operand>),
    Negative(Box<Operand>),
}

#[derive(Clone, Debug)]
enum Literal {
    Text(String),
    Integer(i64),
    Decimal(f64),
    Truth(bool),
}

/// A part of a pattern.
#[derive(Clone, Debug)]
enum Piece {
    Character(char),
    One,
    Any,
}

type Path = Vec<&'static str>;

/// What a value is to the model.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Null,
    Text(String),
    Integer(i64),
    Decimal(f64),
    Truth(bool),
    Other,
}

fn lookup(record: &Value, path: &Path) -> Known {
    let found = path.iter().try_fold(record, |value, name| value.as_object()?.get(*name));
    match found {
        None | Some(Value::Null) => Known::Null,
        Some(Value::Bool(value)) => Known::Truth(*value),
        Some(Value::String(text)) => Known::Text(text.clone()),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(integer) => Known::Integer(integer),
            None => Known::Decimal(number.as_f64().expect("a number")),
        },
        Some(Value::Array(_) | Value::Object(_)) => Known::Other,
    }
}

fn literal(literal: &Literal) -> Known {
    match literal {
        Literal::Text(text) => Known::Text(text.clone()),
        Literal::Integer(value) => Known::Integer(*value),
        Literal::Decimal(value) => Known::Decimal(*value),
        Literal::Truth(value) => Known::Truth(*value),
    }
}

fn float(value: &Known) -> Option<f64> {
    match value {
        Known::Integer(value) => Some(*value as f64),
        Known::Decimal(value) => Some(*value),
        _ => None,
    }
}

fn operand(record: &Value, of: &Operand) -> Known {
    match of {
        Operand::Path(path) => lookup(record, path),
        Operand::Literal(value) => literal(value),
        Operand::Negative(of) => match operand(record, of) {
            Known::Integer(i64::MIN) => Known::Decimal(-(i64::MIN as f64)),
            Known::Integer(value) => Known::Integer(-value),
            Known::Decimal(value) => Known::Decimal(-value),
            _ => Known::Null,
        },
        Operand::Arithmetic(how, one, other) => {
            let (one, other) = (operand(record, one), operand(record, other));
            if let (Known::Integer(one), Known::Integer(other)) = (&one, &other) {
                let (one, other) = (i128::from(*one), i128::from(*other));
                let exact = match how {
                    '+' => Some(one + other),
                    '-' => Some(one - other),
                    '*' => Some(one * other),
                    _ if other == 0 => return Known::Null,
                    _ => Some(one / other),
                };
                if let Some(exact) = exact.and_then(|exact| i64::try_from(exact).ok()) {
                    return Known::Integer(exact);
                }
            }
            let (Some(one), Some(other)) = (float(&one), float(&other)) else { return Known::Null };
            let result = match how {
                '+' => one + other,
                '-' => one - other,
                '*' => one * other,
                _ if other == 0.0 => f64::NAN,
                _ => one / other,
            };
            if result.is_nan() { Known::Null } else { Known::Decimal(result) }
        }
    }
}

/// 1 is true, -1 is false, 0 is unknown: then `AND` is the least, `OR` the greatest, and `NOT` the sign.
type Truth = i8;

fn truth(is_true: bool) -> Truth {
    if is_true { 1 } else { -1 }
}

fn compared(how: &str, one: &Known, other: &Known) -> Truth {
    let order = match (one, other) {
        (Known::Null, _) | (_, Known::Null) => return 0,
        (Known::Text(_), Known::Text(_)) | (Known::Truth(_), Known::Truth(_)) => {
            return truth((how == "=" && one == other) || (how == "<>" && one != other));
        }
        (Known::Integer(one), Known::Integer(other)) => Some(one.cmp(other)),
        _ => match (float(one), float(other)) {
            (Some(one), Some(other)) => one.partial_cmp(&other),
            _ => return -1,
        },
    };
    let order = order.expect("what is no number is NULL");
    truth(match how {
        "=" => order.is_eq(),
        "<>" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    })
}

fn like(text: &[char], pattern: &[Piece]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [Piece::Any, rest @ ..] => (0..=text.len()).any(|skipped| like(&text[skipped..], rest)),
        [Piece::One, rest @ ..] => !text.is_empty() && like(&text[1..], rest),
        [Piece::Character(wanted), rest @ ..] => text.first() == Some(wanted) && like(&text[1..], rest),
    }
}

fn condition(record: &Value, of: &Condition) -> Truth {
    let sign = |negated: &bool, truth: Truth| if *negated { -truth } else { truth };
    match of {
        Condition::Or(one, other) => condition(record, one).max(condition(record, other)),
        Condition::And(one, other) => condition(record, one).min(condition(record, other)),
        Condition::Not(of) => -condition(record, of),
        Condition::Truth(value) => truth(*value),
        Condition::Compare(how, one, other) => compared(how, &operand(record, one), &operand(record, other)),
        Condition::Between(value, from, to, negated) => {
            let (value, from, to) = (operand(record, value), operand(record, from), operand(record, to));
            if *negated {
                compared("<", &value, &from).max(compared(">", &value, &to))
            } else {
                compared(">=", &value, &from).min(compared("<=", &value, &to))
            }
        }
        Condition::In(path, list, negated) => {
            let value = lookup(record, path);
            let any = list.iter().map(|one| compared("=", &value, &literal(one))).max();
            sign(negated, any.expect("a list has a literal"))
        }
        Condition::Like(path, pattern, negated) => match lookup(record, path) {
            Known::Null => 0,
            Known::Text(text) => sign(negated, truth(like(&text.chars().collect::<Vec<_>>(), pattern))),
            _ => sign(negated, -1),
        },
        Condition::IsNull(path, negated) => sign(negated, truth(lookup(record, path) == Known::Null)),
        Condition::Alone(path) => match lookup(record, path) {
            Known::Truth(value) => truth(value),
            _ => 0,
        },
    }
}

/// Writes a condition with the parentheses that it needs, and some that it does not.
fn write(of: &Condition, binding: u8, out: &mut String) {
    let not = |negated: &bool| if *negated { "not " } else { "" };
    let (mine, text) = match of {
        Condition::Or(one, other) => (0, joined(one, " OR ", other, 0)),
        Condition::And(one, other) => (1, joined(one, "\nand ", other, 1)),
        Condition::Not(of) => {
            let mut text = "NOT ".to_owned();
            write(of, 2, &mut text);
            (2, text)
        }
        Condition::Compare(how, one, other) => (3, format!("{}{how}{}", operand_text(one, 0), operand_text(other, 0))),
        Condition::Between(value, from, to, negated) => {
            let [value, from, to] = [value, from, to].map(|of| operand_text(of, 0));
            (3, format!("{value} {}BETWEEN {from} AND {to}", not(negated)))
        }
        Condition::In(path, list, negated) => {
            let list: Vec<_> = list.iter().map(literal_text).collect();
            (3, format!("{} {}in({})", path_text(path), not(negated), list.join(" , ")))
        }
        Condition::Like(path, pattern, negated) => {
            let pattern: String = pattern.iter().map(piece_text).collect();
            (3, format!("{} {}Like '{pattern}' escape '!'", path_text(path), not(negated)))
        }
        Condition::IsNull(path, negated) => (3, format!("{} IS {}null", path_text(path), not(negated))),
        Condition::Alone(path) => (3, path_text(path)),
        Condition::Truth(value) => (3, if *value { "True".to_owned() } else { "false".to_owned() }),
    };
    if mine < binding {
        *out += &format!("({text})");
    } else {
        *out += &text;
    }
}

fn joined(one: &Condition, word: &str, other: &Condition, binding: u8) -> String {
    let mut text = String::new();
    write(one, binding, &mut text);
    text += word;
    write(other, binding + 1, &mut text);
    text
}

fn operand_text(of: &Operand, binding: u8) -> String {
    let (mine, text) = match of {
        Operand::Path(path) => (2, path_text(path)),
        Operand::Literal(value) => (2, literal_text(value)),
        Operand::Negative(of) => (2, format!("-{}", operand_text(of, 2))),
        Operand::Arithmetic(how, one, other) => {
            let mine = if matches!(how, '+' | '-') { 0 } else { 1 };
            (mine, format!("{} {how} {}", operand_text(one, mine), operand_text(other, mine + 1)))
        }
    };
    if mine < binding { format!("({text})") } else { text }
}

fn path_text(path: &Path) -> String {
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphabetic());
    let names: Vec<_> = path
        .iter()
        .map(|name| if plain(name) { (*name).to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) })
        .collect();
    names.join(".")
}

fn literal_text(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Literal::Integer(value) => value.to_string(),
        Literal::Decimal(value) => format!("{value:?}"),
        Literal::Truth(value) => value.to_string(),
    }
}

fn piece_text(piece: &Piece) -> String {
    match piece {
        Piece::One => "_".to_owned(),
        Piece::Any => "%".to_owned(),
        Piece::Character('\'') => "''".to_owned(),
        Piece::Character(character @ ('_' | '%' | '!')) => format!("!{character}"),
        Piece::Character(character) => character.to_string(),
    }
}

/// The names of [`any_json`], and one that no record has.
fn path() -> impl Strategy<Value = Path> {
    let name = prop::sample::select(&["a", "b", "c", "dd", "é\"\n", "a name of many words", "none"][..]);
    prop::collection::vec(name, 1..3)
}

fn number() -> impl Strategy<Value = Literal> {
    prop_oneof![
        (0i64..4).prop_map(Literal::Integer),
        (0..=i64::MAX).prop_map(Literal::Integer),
        (0u32..1000).prop_map(|n| Literal::Decimal(f64::from(n) / 8.0)),
        prop::num::f64::POSITIVE.prop_map(Literal::Decimal),
    ]
}

fn any_literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        prop::sample::select(&["x", "y", "EUR", "", "it's"][..]).prop_map(|text| Literal::Text(text.to_owned())),
        number(),
        any::<bool>().prop_map(Literal::Truth),
    ]
}

fn calculated() -> impl Strategy<Value = Operand> {
    let leaf = prop_oneof![path().prop_map(Operand::Path), number().prop_map(Operand::Literal)];
    leaf.prop_recursive(3, 6, 2, |inner| {
        prop_oneof![
            (prop::sample::select(&['+', '-', '*', '/'][..]), inner.clone(), inner.clone())
                .prop_map(|(how, one, other)| Operand::Arithmetic(how, one.into(), other.into())),
            inner.prop_map(|of| Operand::Negative(of.into())),
        ]
    })
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let order = prop::sample::select(&["=", "<>", "<", "<=", ">", ">="][..]);
    let equality = prop::sample::select(&["=", "<>"][..]);
    let any_operand = prop_oneof![calculated(), any_literal().prop_map(Operand::Literal)];
    let piece = prop_oneof![
        prop::sample::select(&['x', 'y', 'E', 'U', '\'', '%', '_', '!', 'é'][..]).prop_map(Piece::Character),
        Just(Piece::One),
        Just(Piece::Any),
    ];
    let leaf = prop_oneof![
        3 => (order, calculated(), calculated()).prop_map(|(how, one, other)| Condition::Compare(how, one, other)),
        3 => (equality, any_operand.clone(), any_operand).prop_map(|(how, one, other)| Condition::Compare(how, one, other)),
        1 => (calculated(), calculated(), calculated(), any::<bool>())
            .prop_map(|(value, from, to, negated)| Condition::Between(value, from, to, negated)),
        1 => (path(), prop::collection::vec(any_literal(), 1..4), any::<bool>())
            .prop_map(|(path, list, negated)| Condition::In(path, list, negated)),
        1 => (path(), prop::collection::vec(piece, 0..5), any::<bool>())
            .prop_map(|(path, pattern, negated)| Condition::Like(path, pattern, negated)),
        1 => (path(), any::<bool>()).prop_map(|(path, negated)| Condition::IsNull(path, negated)),
        1 => path().prop_map(Condition::Alone),
        1 => any::<bool>().prop_map(Condition::Truth),
    ];
    leaf.prop_recursive(4, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| Condition::Or(one.into(), other.into())),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| Condition::And(one.into(), other.into())),
            inner.prop_map(|of| Condition::Not(of.into())),
        ]
    })
}

proptest! {
    /// A selector is of any record what the model says, and of what is no object as of one without members.
    #[test]
    fn the_model_agrees(of in any_condition(), records in prop::collection::vec(prop_oneof![4 => any_json::record(), 1 => any_json::value()], 1..6), seed: u64) {
        let mut text = String::new();
        write(&of, 0, &mut text);
        let selector = match Selector::parse(&text) {
            Ok(selector) => selector,
            Err(error) => {
                let bounds = ["at most 1024 bytes", "too many terms", "too many names", "nested too deep"];
                prop_assert!(bounds.iter().any(|bound| error.text.contains(bound)), "{}: {}", text, error);
                return Ok(());
            }
        };
        for record in records {
            let expected = condition(&record.meaning(), &of);
            let found = selector.evaluate(record.text(seed).as_bytes(), &Given::default());
            prop_assert_eq!(found.map_or(0, truth), expected, "{} of {}", text, record.text(seed));
        }
    }
}
