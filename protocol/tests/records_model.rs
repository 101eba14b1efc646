//! Records against `serde_json` and the plainest way to say what each function does.

mod any_json;

use corecast_protocol::Writer;
use corecast_protocol::record::{self, Fields, MEMBERS_MAX, NUMBER_BYTES_MAX};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Runs `write` with room for `most` bytes.
fn written<T>(most: usize, write: impl FnOnce(&mut Writer<'_>) -> T) -> (T, String) {
    let mut out = vec![0; most];
    let mut w = Writer::new(&mut out);
    let result = write(&mut w);
    let len = w.finish().expect("what is written has a bound");
    (result, String::from_utf8(out[..len].to_vec()).expect("text of text"))
}

fn check(text: &str) -> Result<(), record::RecordError> {
    record::check(text.as_bytes(), &mut vec![0; MEMBERS_MAX])
}

fn meaning(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

fn merge(target: &str, patch: &str) -> String {
    let (result, text) = written(target.len() + patch.len(), |w| {
        record::merge(target.as_bytes(), patch.as_bytes(), &mut vec![0; MEMBERS_MAX], w)
    });
    assert_eq!(result, Ok(()));
    text
}

fn diff(old: &str, new: &str) -> Option<String> {
    let (len, text) =
        written(new.len(), |w| record::diff(old.as_bytes(), new.as_bytes(), &mut vec![0; MEMBERS_MAX], w));
    assert_eq!(len.unwrap_or(0), text.len());
    len.map(|_| text)
}

/// RFC 7396 section 2, word by word.
fn merge_plainly(target: Value, patch: &Value) -> Value {
    let Value::Object(members) = patch else { return patch.clone() };
    let mut target = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    for (name, value) in members {
        if value.is_null() {
            target.remove(name);
        } else {
            let was = target.remove(name).unwrap_or(Value::Null);
            target.insert(name.clone(), merge_plainly(was, value));
        }
    }
    Value::Object(target)
}

/// The patch from one object to another; `None` where there is a null to be set.
fn diff_plainly(old: &Map<String, Value>, new: &Map<String, Value>) -> Option<Value> {
    fn has_null(value: &Value) -> bool {
        value.is_null() || value.as_object().is_some_and(|members| members.values().any(has_null))
    }
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        match (old.get(name), value) {
            (Some(was), value) if was == value => {}
            (Some(Value::Object(was)), Value::Object(is)) => drop(patch.insert(name.clone(), diff_plainly(was, is)?)),
            (_, value) if has_null(value) => return None,
            (_, value) => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    Some(Value::Object(patch))
}

/// A record with what a list of paths shows; objects in which nothing is shown are left out.
fn project_plainly(value: &Value, paths: &[Vec<&str>]) -> Option<Value> {
    if paths.iter().any(Vec::is_empty) {
        return Some(value.clone());
    }
    let mut shown = Map::new();
    for (name, value) in value.as_object()? {
        let below: Vec<Vec<&str>> =
            paths.iter().filter(|path| path[0] == name).map(|path| path[1..].to_vec()).collect();
        if let Some(part) = (!below.is_empty()).then(|| project_plainly(value, &below)).flatten() {
            shown.insert(name.clone(), part);
        }
    }
    (!shown.is_empty()).then_some(Value::Object(shown))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

const FIELDS: &[&str] = &["a", "b", "a.a", "a.b", "b.c", "b.c.dd", "dd.a.a", "a name of many words.a", "é\".c", "x"];

proptest! {
    /// What is written as JSON is a record if it is an object, and its members are found.
    #[test]
    fn records_are_read(json in any_json::value(), seed: u64) {
        let text = json.text(seed);
        let value = json.meaning();
        prop_assert_eq!(check(&text).is_ok(), value.is_object(), "{}", text);
        let members: Vec<_> = record::members(text.as_bytes()).collect();
        prop_assert_eq!(members.len(), value.as_object().map_or(0, Map::len));
        for member in members {
            let name = String::from_utf8(member.name.bytes().collect()).expect("names are text");
            prop_assert_eq!(meaning(std::str::from_utf8(member.value).expect("text of text")), value[&name].clone());
            if !name.is_empty() {
                prop_assert_eq!(record::get(text.as_bytes(), &name), Some(member.value));
            }
        }
    }

    /// Whatever becomes of a record by a few changed bytes, it is one exactly if `serde_json` can read it; except that here names stand once, numbers
    /// may be as large as they want but not as long, and the nesting has its own bound.
    #[test]
    fn damaged_records_are_told(json in any_json::record(), seed: u64, damage in prop::collection::vec((any::<prop::sample::Index>(), 0usize..32), 1..3)) {
        const BYTES: &[u8; 32] = b"{}[]:,\"\\ue019.-+ntfEa \t\n\x00\x1f\x7f\x80\xc3\xa9x/";
        let mut text = json.text(seed).into_bytes();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = BYTES[byte];
        }
        let theirs = serde_json::from_slice::<Value>(&text);
        let ours = record::check(&text, &mut vec![0; MEMBERS_MAX]);
        match (&ours, &theirs) {
            (Ok(()), Ok(value)) => prop_assert!(value.is_object()),
            (Ok(()), Err(error)) => prop_assert_eq!(error.to_string().contains("number out of range"), true, "{}", error),
            (Err(error), Ok(value)) => {
                let ours_only = ["a member is given twice", "a number is too long", "the nesting is too deep"];
                prop_assert!(!value.is_object() || ours_only.contains(&error.text), "{}", error);
                prop_assert!(error.text != "the nesting is too deep" || depth(value) > record::DEPTH_MAX);
                prop_assert!(error.text != "a number is too long" || text.len() > NUMBER_BYTES_MAX);
            }
            (Err(error), Err(_)) => prop_assert!(error.offset <= text.len()),
        }
    }

    /// A merged record means what the standard says, is a record, and what the patch does not name keeps its bytes.
    #[test]
    fn merging_is_as_the_standard_says(target in any_json::value(), patch in any_json::value(), seed: u64) {
        let (target_text, patch_text) = (target.text(seed), patch.text(!seed));
        let merged = merge(&target_text, &patch_text);
        prop_assert_eq!(meaning(&merged), merge_plainly(target.meaning(), &patch.meaning()));
        if patch.meaning().is_object() {
            prop_assert_eq!(check(&merged), Ok(()));
            let named: Vec<_> = record::members(patch_text.as_bytes()).map(|member| member.name).collect();
            let kept = record::members(target_text.as_bytes()).filter(|member| !named.contains(&member.name));
            let kept: Vec<_> = kept.map(|member| (member.name.raw().to_vec(), member.value.to_vec())).collect();
            let now = record::members(merged.as_bytes()).filter(|member| !named.contains(&member.name));
            let now: Vec<_> = now.map(|member| (member.name.raw().to_vec(), member.value.to_vec())).collect();
            prop_assert_eq!(kept, now);
        }
    }

    /// The patch between two records makes one into the other, is the plain one where values are written the same way, and is missing only for a reason.
    #[test]
    fn a_difference_leads_there(old in any_json::record(), new in any_json::record(), seed: u64) {
        let (old_text, new_text) = (old.text(seed), new.text(!seed));
        if let Some(patch) = diff(&old_text, &new_text) {
            prop_assert_eq!(check(&patch), Ok(()));
            prop_assert_eq!(meaning(&merge(&old_text, &patch)), new.meaning());
        }
        // `serde_json` writes in one way only.
        let (old, new) = (old.meaning(), new.meaning());
        let (old_text, new_text) = (old.to_string(), new.to_string());
        let plain = diff_plainly(old.as_object().expect("a record"), new.as_object().expect("a record"));
        match diff(&old_text, &new_text) {
            Some(patch) => {
                prop_assert_eq!(Some(meaning(&patch)), plain);
                prop_assert!(patch.len() < new_text.len());
            }
            None => prop_assert!(plain.is_none_or(|patch| patch.to_string().len() >= new_text.len())),
        }
    }

    /// A record that was changed a little leads to a little patch, whatever order its members stand in.
    #[test]
    fn a_little_difference_is_little(json in any_json::record(), change in any_json::value(), seed: u64, order: u64) {
        let old = json.text(seed);
        let any_json::Json::Object(mut members) = json else { unreachable!("a record") };
        members.push(("new".to_owned(), change));
        let len = members.len() as u64;
        for n in 0..len {
            members.swap(n as usize, (order.rotate_left(n as u32) % len) as usize);
        }
        let new = any_json::Json::Object(members);
        if let Some(patch) = diff(&old, &new.text(seed)) {
            prop_assert_eq!(meaning(&merge(&old, &patch)), new.meaning());
        }
    }

    /// What is shown of a record is what a plain reading of the list says, in the bytes and the order of the record.
    #[test]
    fn projection_shows_what_is_asked_for(
        json in any_json::record(),
        seed: u64,
        wanted in prop::sample::subsequence(FIELDS, 1..FIELDS.len()).prop_shuffle(),
    ) {
        let text = json.text(seed);
        let fields = Fields::parse(&wanted.join(",")).expect("fields");
        let (result, shown) = written(text.len(), |w| record::project(text.as_bytes(), &fields, w));
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(check(&shown), Ok(()));
        let paths: Vec<Vec<&str>> = wanted.iter().map(|path| path.split('.').collect()).collect();
        let expected = project_plainly(&json.meaning(), &paths).unwrap_or_else(|| Value::Object(Map::new()));
        prop_assert_eq!(meaning(&shown), expected);
        // In their order: what is shown of what is shown is all of it.
        let (_, again) = written(shown.len(), |w| record::project(shown.as_bytes(), &fields, w));
        prop_assert_eq!(&again, &shown);
        let order = |text: &str| record::members(text.as_bytes()).map(|member| member.name.raw().to_vec()).collect::<Vec<_>>();
        let all = order(&text);
        let places: Vec<_> = order(&shown).iter().map(|name| all.iter().position(|other| other == name)).collect();
        prop_assert!(places.is_sorted() && !places.contains(&None));
        // A list has one form, whatever order it was given in.
        let mut sorted = wanted.clone();
        sorted.sort_unstable();
        let other = Fields::parse(&sorted.join(",")).expect("fields");
        prop_assert_eq!(other.text(), fields.text());
    }
}
