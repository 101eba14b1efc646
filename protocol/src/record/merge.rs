//! A patch put into a record (RFC 7396).

use super::fields::{write_member, write_name};
use super::index::{self, NoIndex};
use super::{Cursor, DEPTH_MAX, Malformed, NOT_SOUND, RecordError, TOO_DEEP, TOO_MANY_MEMBERS};
use crate::write::Writer;

/// Writes what a record becomes by a JSON merge patch (RFC 7396): members of the patch are set, `null` takes one away, objects are merged. Members
/// that the patch does not name keep their bytes and their order, new ones come behind them; space between members is left out. A patch that is no
/// object is what comes out, and a target that is none counts as empty.
///
/// Of two sound ones, what comes out is sound. Writes at most as many bytes as both have together. `scratch` has room for the names of the patch's
/// objects that are open at a time.
///
/// # Errors
/// A patch with more members than that, deeper than [`DEPTH_MAX`], or one of both that cannot be followed (the offset is in the patch); what was
/// written is incomplete then.
pub fn merge(target: &[u8], patch: &[u8], scratch: &mut [u64], w: &mut Writer<'_>) -> Result<(), RecordError> {
    let target = &mut Cursor::new(target);
    let mut cursor = Cursor::new(patch);
    let merged = if cursor.is_object() {
        set(target, &mut cursor, scratch, DEPTH_MAX, w)
    } else {
        cursor.value().map(|value| w.put(value)).map_err(Unmergeable::from)
    };
    merged.map_err(|why| {
        let text = match why {
            Unmergeable::Full => TOO_MANY_MEMBERS,
            Unmergeable::Deep => TOO_DEEP,
            Unmergeable::Malformed => NOT_SOUND,
        };
        RecordError { text, offset: cursor.at.min(patch.len()) }
    })
}

#[derive(Clone, Copy, Debug)]
enum Unmergeable {
    Full,
    Deep,
    Malformed,
}

impl From<Malformed> for Unmergeable {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<NoIndex> for Unmergeable {
    fn from(why: NoIndex) -> Self {
        match why {
            NoIndex::Full => Self::Full,
            NoIndex::Malformed => Self::Malformed,
        }
    }
}

/// Merges the object at `patch` into whatever there is at `target`, and passes both.
fn set(
    target: &mut Cursor<'_>,
    patch: &mut Cursor<'_>,
    scratch: &mut [u64],
    depth: usize,
    w: &mut Writer<'_>,
) -> Result<(), Unmergeable> {
    if target.is_object() {
        merge_objects(target, patch, scratch, depth, w)
    } else {
        if target.peek().is_some() {
            target.value()?;
        }
        without_nulls(patch, depth, w)
    }
}

fn merge_objects(
    target: &mut Cursor<'_>,
    patch: &mut Cursor<'_>,
    scratch: &mut [u64],
    depth: usize,
    w: &mut Writer<'_>,
) -> Result<(), Unmergeable> {
    let depth = depth.checked_sub(1).ok_or(Unmergeable::Deep)?;
    patch.open()?;
    let begin = *patch;
    let count = index::build(patch, &mut true, scratch)?;
    let (entries, scratch) = scratch.split_at_mut(count);
    let mut left = count;
    target.open()?;
    w.byte(b'{');
    let (mut any, mut first) = (false, true);
    while target.next(&mut first)? {
        let start = target.at;
        let name = target.name()?;
        let Some(n) = index::find(patch.bytes, entries, &name) else {
            target.value()?;
            write_member(w, any, &target.bytes[start..target.at]);
            any = true;
            continue;
        };
        if !index::is_used(entries[n]) {
            left -= 1;
            index::use_entry(&mut entries[n]);
        }
        let mut value = index::value_of(patch.bytes, entries[n])?;
        if value.is_null() {
            target.value()?;
            continue;
        }
        write_name(w, any, &name);
        any = true;
        if value.is_object() {
            set(target, &mut value, scratch, depth, w)?;
        } else {
            target.value()?;
            w.put(value.value()?);
        }
    }
    if left > 0 {
        let mut rest = begin;
        let mut first = true;
        while let Some(name) = rest.member(&mut first)? {
            let is_new = index::find(patch.bytes, entries, &name).is_some_and(|n| !index::is_used(entries[n]));
            any |= add(&mut rest, is_new.then_some(&name), any, depth, w)?;
        }
    }
    w.byte(b'}');
    Ok(())
}

/// Writes a member with the value at `patch` under a name, unless there is none, or the value is null; passes the value, and says whether it wrote.
fn add(
    patch: &mut Cursor<'_>,
    name: Option<&super::Name<'_>>,
    any: bool,
    depth: usize,
    w: &mut Writer<'_>,
) -> Result<bool, Unmergeable> {
    let Some(name) = name.filter(|_| !patch.is_null()) else {
        patch.value()?;
        return Ok(false);
    };
    write_name(w, any, name);
    if patch.is_object() {
        without_nulls(patch, depth, w)?;
    } else {
        w.put(patch.value()?);
    }
    Ok(true)
}

/// Writes what an object makes of nothing: itself without members that are null, at any depth but not in arrays.
fn without_nulls(patch: &mut Cursor<'_>, depth: usize, w: &mut Writer<'_>) -> Result<(), Unmergeable> {
    let depth = depth.checked_sub(1).ok_or(Unmergeable::Deep)?;
    patch.open()?;
    w.byte(b'{');
    let (mut any, mut first) = (false, true);
    while let Some(name) = patch.member(&mut first)? {
        any |= add(patch, Some(&name), any, depth, w)?;
    }
    w.byte(b'}');
    Ok(())
}
