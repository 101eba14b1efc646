//! Records and selectors: what is found in JSON, shown of it, and made of it.

use super::{INPUT_BYTES_MAX, bounded};
use crate::record::{self, Fields, KEY_BYTES_MAX, Name, check, diff, get, key, members, merge, project};
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
