//! Records and selectors: what is found in JSON, shown of it, and made of it.

use super::{Copied, INPUT_BYTES_MAX, bounded};
use crate::record::{self, Fields, KEY_BYTES_MAX, Name, check, diff, get, key, members, merge, project};
use crate::selector::{Given, Selector};
use crate::write::Writer;

const ROOM: usize = 2 * INPUT_BYTES_MAX;

/// A list of fields, and two records, behind a NUL each. Nothing panics or writes more than it may, whatever they are; of records, what is shown and
/// made is one, what is shown stays when it is shown again, and the patch between two leads from one to the other.
pub fn record(data: &[u8]) {
    let mut parts = bounded(data).splitn(3, |&byte| byte == 0);
    let (list, old, new) = (parts.next().unwrap_or(b""), parts.next().unwrap_or(b""), parts.next().unwrap_or(b""));
    let mut scratch = [0; INPUT_BYTES_MAX];
    let sound = [old, new].map(|bytes| match check(bytes, &mut scratch) {
        Ok(()) => true,
        Err(error) => {
            assert!(error.offset <= bytes.len() && !error.text.is_empty());
            false
        }
    });
    for member in members(old).filter(|_| sound[0]) {
        let mut name = [0; INPUT_BYTES_MAX];
        let mut len = 0;
        for byte in member.name.bytes() {
            name[len] = byte;
            len += 1;
        }
        let name = core::str::from_utf8(&name[..len]).expect("a name of UTF-8 is UTF-8");
        assert!(member.name.is(name.as_bytes()));
        if !name.contains('.') {
            assert_eq!(get(old, name), Some(member.value));
        }
    }
    if let Ok(list) = core::str::from_utf8(list) {
        if let Ok(text) = key(old, list, &mut [0; KEY_BYTES_MAX]) {
            assert_eq!(record::check_key(text), Ok(()));
        }
        if let Ok(fields) = Fields::parse(list) {
            assert_eq!(Fields::parse(fields.text()).as_ref(), Ok(&fields));
            show(old, sound[0], &fields, &mut scratch);
        }
    }
    let mut patch = [0; INPUT_BYTES_MAX];
    let Some(len) = diff(old, new, &mut scratch, &mut Writer::new(&mut patch)) else {
        merged(old, new, sound == [true; 2], &mut scratch);
        return;
    };
    assert!(len < new.len());
    let (out, len) = merged(old, &patch[..len], sound == [true; 2], &mut scratch);
    assert!(sound != [true; 2] || same(&out[..len], new));
    merged(old, new, sound == [true; 2], &mut scratch);
}

fn show(record: &[u8], sound: bool, fields: &Fields, scratch: &mut [u64]) {
    let mut out = [0; INPUT_BYTES_MAX];
    let mut w = Writer::new(&mut out[..record.len()]);
    if project(record, fields, &mut w).is_err() {
        assert!(!sound, "a record is shown");
        return;
    }
    let len = w.finish().expect("no longer than the record");
    if sound {
        assert_eq!(check(&out[..len], scratch), Ok(()));
        let mut again = [0; INPUT_BYTES_MAX];
        let mut w = Writer::new(&mut again);
        assert_eq!(project(&out[..len], fields, &mut w), Ok(()));
        assert_eq!(w.written(), &out[..len]);
    }
}

/// A record and a patch together; of sound ones it is sound.
fn merged(target: &[u8], patch: &[u8], sound: bool, scratch: &mut [u64]) -> ([u8; ROOM], usize) {
    let mut out = [0; ROOM];
    let mut w = Writer::new(&mut out[..target.len() + patch.len()]);
    let result = merge(target, patch, scratch, &mut w);
    let len = w.len();
    let fits = w.finish().is_ok();
    if sound {
        assert_eq!(result, Ok(()));
        assert!(fits, "no longer than both");
        assert_eq!(check(&out[..len], scratch), Ok(()));
    }
    (out, len)
}

/// Says whether two values mean the same, where numbers are what they are written as.
fn same(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (one.trim_ascii(), other.trim_ascii());
    match (one.first(), other.first()) {
        (Some(b'{'), Some(b'{')) => {
            let find = |name: &Name<'_>| members(other).find(|member| member.name == *name);
            members(one).count() == members(other).count()
                && members(one).all(|member| find(&member.name).is_some_and(|found| same(member.value, found.value)))
        }
        _ => one == other,
    }
}

/// A selector and a payload, a NUL between them. Whatever is parsed evaluates, in whatever record; in parentheses it says the same, and its negation the
/// opposite.
pub fn selector(data: &[u8]) {
    let mut parts = bounded(data).splitn(2, |&byte| byte == 0);
    let (text, payload) = (parts.next().unwrap_or(b""), parts.next().unwrap_or(b""));
    let Ok(text) = core::str::from_utf8(text) else { return };
    let selector = match Selector::parse(text) {
        Ok(selector) => selector,
        Err(error) => {
            assert!(error.offset <= text.len() && !error.text.is_empty());
            return;
        }
    };
    assert_eq!(selector.text(), text);
    let given = Given { topic: Some("a/b"), key: Some(text), event: None };
    let is_true = selector.evaluate(payload, &given);
    assert_eq!(selector.matches(payload, &given), is_true == Some(true));
    let mut other = Copied::written(|w| {
        w.text("NOT (");
        w.text(text);
        w.byte(b')');
    });
    let other = core::str::from_utf8(other.bytes()).expect("text around text");
    for (other, expected) in [(other, is_true.map(|is_true| !is_true)), (&other[4..], is_true)] {
        match Selector::parse(other) {
            Ok(other) => assert_eq!(other.evaluate(payload, &given), expected),
            Err(error) => assert!(
                ["at most 1024 bytes", "too many terms", "nested too deep"]
                    .iter()
                    .any(|bound| error.text.ends_with(bound)),
                "{error}"
            ),
        }
    }
    if check(payload, &mut [0; INPUT_BYTES_MAX]).is_err() {
        return;
    }
    // What stands behind a record, or around it, is not of it.
    let mut spaced = Copied::written(|w| {
        w.byte(b' ');
        w.put(payload);
    });
    assert_eq!(selector.evaluate(spaced.bytes(), &given), is_true);
}
