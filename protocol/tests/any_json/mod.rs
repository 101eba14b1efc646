//! Any JSON, and any way to write it.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// A value whose members have an order.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Plain(Value),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Few names, so that two objects have some in common; one that needs an escape, and one of more than a word.
const NAMES: &[&str] = &["a", "b", "c", "dd", "é\"\n", "", "a name of many words"];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES).prop_map(str::to_owned)
}

fn plain() -> impl Strategy<Value = Json> {
    prop_oneof![
        2 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => (-3i64..4).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (-1000i64..1000).prop_map(|n| Value::from(n as f64 / 8.0)),
        1 => prop::num::f64::NORMAL.prop_map(Value::from),
        2 => prop::sample::select(&["x", "y", "EUR", ""][..]).prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
    ]
    .prop_map(Json::Plain)
}

/// Members, each of whose names stands once.
fn object(value: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    prop::collection::vec((name(), value), 0..6).prop_map(|mut members| {
        let mut seen = Vec::new();
        members.retain(|(name, _)| {
            let is_new = !seen.contains(name);
            seen.push(name.clone());
            is_new
        });
        Json::Object(members)
    })
}

/// Any value, some levels deep.
pub(crate) fn value() -> impl Strategy<Value = Json> {
    plain().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array), object(inner)]
    })
}

/// Any object.
pub(crate) fn record() -> impl Strategy<Value = Json> {
    object(value())
}

impl Json {
    /// What it means.
    pub(crate) fn meaning(&self) -> Value {
        match self {
            Json::Plain(value) => value.clone(),
            Json::Array(values) => values.iter().map(Json::meaning).collect(),
            Json::Object(members) => {
                let members = members.iter().map(|(name, value)| (name.clone(), value.meaning()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }

    /// Writes it in a way that `seed` chooses: space, and escapes of strings.
    pub(crate) fn text(&self, seed: u64) -> String {
        let mut out = String::new();
        self.write(&mut Dice(seed | 1), &mut out);
        out
    }

    fn write(&self, dice: &mut Dice, out: &mut String) {
        space(dice, out);
        match self {
            Json::Plain(Value::String(text)) => string(text, dice, out),
            Json::Plain(value) => out.push_str(&value.to_string()),
            Json::Array(values) => {
                out.push('[');
                for (n, value) in values.iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    value.write(dice, out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (n, (name, value)) in members.iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    space(dice, out);
                    string(name, dice, out);
                    space(dice, out);
                    out.push(':');
                    value.write(dice, out);
                }
                space(dice, out);
                out.push('}');
            }
        }
        space(dice, out);
    }
}

/// Xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

fn space(dice: &mut Dice, out: &mut String) {
    if dice.roll(4) == 0 {
        out.push([' ', '\t', '\r', '\n'][dice.roll(4) as usize]);
    }
}

fn string(text: &str, dice: &mut Dice, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        if character < ' ' || character == '"' || character == '\\' || dice.roll(8) == 0 {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    out.push('"');
}
