//! What of a record has changed, as a patch (RFC 7396).

use super::fields::write_name;
use super::index::{self, NoIndex};
use super::{Cursor, DEPTH_MAX, Malformed, Name};
use crate::write::Writer;

/// How often the bytes of the old record may be read, on average, to enter members into an index: an object is entered where its members do not stand
/// in the order of the new one, and once more for each object around it of which that is true.
const READINGS_MAX: usize = 4;

/// Writes the merge patch (RFC 7396) that makes `old` into `new`, member by member: [`merge`](super::merge) of `old` and it means what `new` means.
/// Only objects that are there before and after are looked into; other values whose bytes are the same are the same. If nothing has changed it is
/// `{}`.
///
/// Returns how many bytes it has, fewer than `new`; or `None`, and nothing is written: then send `new` whole. That is so
///
/// * if one of both is no object, or cannot be followed;
/// * if a member is new or changed and null, or has a member that is null, not counting those in arrays: no patch can say that;
/// * if the patch would be no shorter than `new`, or longer than there is room;
/// * if members were put in another order, and there are more of them than `scratch` has words, or that in so many objects inside each other that
///   the old record would be read more than four times over.
///
/// A record whose members stand in the same order as before, but for new ones at the end, costs one reading of both, and no scratch.
pub fn diff(old: &[u8], new: &[u8], scratch: &mut [u64], w: &mut Writer<'_>) -> Option<usize> {
    let mark = w.mark();
    let start = w.len();
    let (mut before, mut after) = (Cursor::new(old), Cursor::new(new));
    let mut differ = Differ { readings: READINGS_MAX * old.len() };
    let found = differ.objects(&mut before, &mut after, scratch, DEPTH_MAX, w);
    let len = w.len() - start;
    if found.is_err() || w.is_overflown() || len >= new.len() {
        w.back_to(mark);
        return None;
    }
    Some(len)
}

/// Says that no patch is made.
#[derive(Clone, Copy, Debug)]
struct Whole;

impl From<Malformed> for Whole {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl From<NoIndex> for Whole {
    fn from(_: NoIndex) -> Self {
        Self
    }
}

struct Differ {
    /// How many more bytes may be read for an index.
    readings: usize,
}

impl Differ {
    /// Writes the patch of two objects, and passes both; says whether there is anything in it.
    fn objects(
        &mut self,
        old: &mut Cursor<'_>,
        new: &mut Cursor<'_>,
        scratch: &mut [u64],
        depth: usize,
        w: &mut Writer<'_>,
    ) -> Result<bool, Whole> {
        let depth = depth.checked_sub(1).ok_or(Whole)?;
        old.open()?;
        new.open()?;
        w.byte(b'{');
        let (mut first_old, mut first_new) = (true, true);
        let mut any = false;
        // As long as both have the same names in the same order.
        loop {
            let before = (*old, first_old);
            let (one, other) = (old.next(&mut first_old)?, new.next(&mut first_new)?);
            if !one && !other {
                break;
            }
            if one && other && pass_same(old, new)? {
                continue;
            }
            let name = if other { Some(new.name()?) } else { None };
            if one
                && let Some(is) = name
                && old.name()? == is
            {
                any |= self.values(old, new, &is, any, scratch, depth, w)?;
                continue;
            }
            (*old, first_old) = before;
            any |= self.mixed(old, first_old, new, name, any, scratch, depth, w)?;
            break;
        }
        w.byte(b'}');
        Ok(any)
    }

    /// Writes the patch of the rest of two objects, whose members stand in any order; `name` is what was read of the new one already.
    #[allow(clippy::too_many_arguments)] // What is left of two objects, and where to.
    fn mixed<'a>(
        &mut self,
        old: &mut Cursor<'_>,
        mut first_old: bool,
        new: &mut Cursor<'a>,
        mut name: Option<Name<'a>>,
        mut any: bool,
        scratch: &mut [u64],
        depth: usize,
        w: &mut Writer<'_>,
    ) -> Result<bool, Whole> {
        let begin = old.at;
        let count = index::build(old, &mut first_old, scratch)?;
        self.readings = self.readings.checked_sub(old.at - begin).ok_or(Whole)?;
        let (entries, scratch) = scratch.split_at_mut(count);
        while let Some(is) = name {
            match index::find(old.bytes, entries, &is) {
                Some(n) => {
                    index::use_entry(&mut entries[n]);
                    let mut was = index::value_of(old.bytes, entries[n])?;
                    any |= self.values(&mut was, new, &is, any, scratch, depth, w)?;
                }
                None => any |= added(new, &is, any, depth, w)?,
            }
            // It has begun: a name was read.
            name = new.member(&mut false)?;
        }
        // Those that are gone, in their old order.
        let mut gone = 0;
        for n in 0..entries.len() {
            if !index::is_used(entries[n]) {
                entries[gone] = index::offset_of(entries[n]) as u64;
                gone += 1;
            }
        }
        let gone = &mut entries[..gone];
        gone.sort_unstable();
        for &offset in &*gone {
            write_name(w, any, &Cursor::at(old.bytes, offset as usize).name()?);
            w.text("null");
            any = true;
        }
        Ok(any)
    }

    /// Writes a member that is there before and after, if it has changed, and passes both values; says whether it wrote.
    #[allow(clippy::too_many_arguments)] // Two values, and where to.
    #[inline]
    fn values(
        &mut self,
        old: &mut Cursor<'_>,
        new: &mut Cursor<'_>,
        name: &Name<'_>,
        any: bool,
        scratch: &mut [u64],
        depth: usize,
        w: &mut Writer<'_>,
    ) -> Result<bool, Whole> {
        if old.is_object() && new.is_object() {
            let mark = w.mark();
            write_name(w, any, name);
            let changed = self.objects(old, new, scratch, depth, w)?;
            if !changed {
                w.back_to(mark);
            }
            return Ok(changed);
        }
        let was = old.value()?;
        let begin = *new;
        if new.value()? == was {
            return Ok(false);
        }
        *new = begin;
        added(new, name, any, depth, w)
    }
}

/// Passes a member that is what it was, byte for byte, in both; says whether it did. Most are, and those of the new record need no reading. Objects are
/// looked into instead, so that none is read twice.
#[inline]
fn pass_same(old: &mut Cursor<'_>, new: &mut Cursor<'_>) -> Result<bool, Whole> {
    let start = *old;
    old.name()?;
    if !old.is_object() {
        old.value()?;
        if new.passes(&old.bytes[start.at..old.at]) {
            return Ok(true);
        }
    }
    *old = start;
    Ok(false)
}

/// Writes a member with its whole value, and passes that.
fn added(new: &mut Cursor<'_>, name: &Name<'_>, any: bool, depth: usize, w: &mut Writer<'_>) -> Result<bool, Whole> {
    let mut inside = *new;
    let value = new.value()?;
    can_be_said(&mut inside, depth)?;
    write_name(w, any, name);
    w.put(value);
    Ok(true)
}

/// Passes a value, unless it is null or an object with a null in it, which a patch would take away.
fn can_be_said(value: &mut Cursor<'_>, depth: usize) -> Result<(), Whole> {
    if value.is_null() {
        return Err(Whole);
    }
    if !value.is_object() {
        value.value()?;
        return Ok(());
    }
    let depth = depth.checked_sub(1).ok_or(Whole)?;
    value.open()?;
    let mut first = true;
    while value.member(&mut first)?.is_some() {
        can_be_said(value, depth)?;
    }
    Ok(())
}
