//! Names of an object's members, sorted, so that each is found in `log n` whoever chose them.
//!
//! An entry is the hash of a name, and where in the record it stands. Sorted by hash, and where hashes are equal by the names themselves: a table by
//! hash alone is as slow as a list for who makes hashes meet, and one with a secret key needs one.
//!
//! ```text
//!   63          32 31   30            0
//!  ┌──────────────┬────┬───────────────┐
//!  │ hash         │used│ offset        │
//!  └──────────────┴────┴───────────────┘
//! ```

use core::cmp::Ordering;

use super::{Cursor, Malformed, Name, Scanned};

const USED: u64 = 1 << 31;

/// Up to so many names are compared with each other as they stand.
const FEW: usize = 16;

/// Makes the entry of a name whose quote stands at `offset`.
#[inline]
pub(super) const fn entry(hash: u32, offset: usize) -> u64 {
    (hash as u64) << 32 | offset as u64
}

const fn hash_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

/// Says where the name of an entry stands.
pub(super) const fn offset_of(entry: u64) -> usize {
    (entry & (USED - 1)) as usize
}

pub(super) const fn is_used(entry: u64) -> bool {
    entry & USED != 0
}

/// Remembers that what was asked for is this.
pub(super) const fn use_entry(entry: &mut u64) {
    *entry |= USED;
}

/// The name of an entry: it was read once already.
fn name_of(bytes: &[u8], entry: u64) -> Name<'_> {
    Cursor::at(bytes, offset_of(entry)).string().unwrap_or(Name { raw: b"", escaped: false })
}

/// Stands at the value of an entry.
pub(super) fn value_of(bytes: &[u8], entry: u64) -> Scanned<Cursor<'_>> {
    let mut cursor = Cursor::at(bytes, offset_of(entry));
    cursor.name()?;
    Ok(cursor)
}

/// Sorts entries of names in `bytes`.
pub(super) fn sort(bytes: &[u8], entries: &mut [u64]) {
    entries.sort_unstable();
    let mut rest = entries;
    while let Some(&first) = rest.first() {
        let run = rest.iter().take_while(|&&entry| hash_of(entry) == hash_of(first)).count();
        let (same_hash, behind) = rest.split_at_mut(run);
        if run > 1 {
            same_hash.sort_unstable_by(|&a, &b| name_of(bytes, a).compare(&name_of(bytes, b)));
        }
        rest = behind;
    }
}

/// Finds the entry of a name among sorted ones.
pub(super) fn find(bytes: &[u8], entries: &[u64], name: &Name<'_>) -> Option<usize> {
    if entries.is_empty() {
        return None;
    }
    let hash = name.hash();
    let order = |&entry: &u64| match hash_of(entry).cmp(&hash) {
        Ordering::Equal => name_of(bytes, entry).compare(name),
        unequal => unequal,
    };
    entries.binary_search_by(order).ok()
}

/// Finds a name that stands twice, and says where for the second time. The entries may be sorted then.
pub(super) fn twice(bytes: &[u8], entries: &mut [u64]) -> Option<usize> {
    if entries.len() <= FEW {
        for (n, &second) in entries.iter().enumerate() {
            let same = |&&first: &&u64| hash_of(first) == hash_of(second);
            if entries[..n].iter().filter(same).any(|&first| name_of(bytes, first) == name_of(bytes, second)) {
                return Some(offset_of(second));
            }
        }
        return None;
    }
    sort(bytes, entries);
    let pairs = entries.windows(2).filter(|pair| hash_of(pair[0]) == hash_of(pair[1]));
    let same = pairs.filter(|pair| name_of(bytes, pair[0]) == name_of(bytes, pair[1]));
    same.map(|pair| offset_of(pair[0]).max(offset_of(pair[1]))).min()
}

/// Why an object has no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoIndex {
    /// There is no room for so many names.
    Full,
    Malformed,
}

impl From<Malformed> for NoIndex {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Enters the members of an object that `cursor` has not passed yet, and passes them; says how many there are. The entries are sorted.
pub(super) fn build(cursor: &mut Cursor<'_>, first: &mut bool, scratch: &mut [u64]) -> Result<usize, NoIndex> {
    let mut len = 0;
    while cursor.next(first)? {
        let offset = cursor.at;
        let name = cursor.name()?;
        *scratch.get_mut(len).ok_or(NoIndex::Full)? = entry(name.hash(), offset);
        len += 1;
        cursor.value()?;
    }
    sort(cursor.bytes, &mut scratch[..len]);
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::vec::Vec;
    use std::{format, string::String};

    /// Names whose hashes are equal are told apart, and found, wherever they stand; and one that stands twice among them is seen.
    #[test]
    fn names_of_equal_hash_are_told_apart() {
        let mut seen: HashMap<u32, String> = HashMap::new();
        let mut names: Vec<String> = Vec::new();
        for n in 0..600_000u32 {
            // In no order, so that sorting has something to do.
            let name = format!("{:x}", n.wrapping_mul(2_654_435_761));
            if let Some(other) = seen.insert(super::super::hash(name.as_bytes()), name.clone()) {
                names.extend([name, other]);
            }
        }
        assert!(names.len() > 2 * FEW, "names of equal hash were found: {}", names.len());
        let record = |names: &[String]| {
            let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":1")).collect();
            format!("{{{}}}", members.join(","))
        };
        let bytes = record(&names);
        let mut scratch = std::vec![0; names.len()];
        let mut cursor = Cursor::new(bytes.as_bytes());
        cursor.open().expect("an object");
        assert_eq!(build(&mut cursor, &mut true, &mut scratch), Ok(names.len()));
        for name in &names {
            let found = find(bytes.as_bytes(), &scratch, &Name { raw: name.as_bytes(), escaped: false });
            let found = found.expect("each is there");
            assert!(name_of(bytes.as_bytes(), scratch[found]).is(name.as_bytes()));
        }
        assert_eq!(twice(bytes.as_bytes(), &mut scratch), None);
        names.push(names[0].clone());
        names.swap(1, 20);
        let bytes = record(&names);
        let mut scratch = std::vec![0; names.len()];
        let mut cursor = Cursor::new(bytes.as_bytes());
        cursor.open().expect("an object");
        build(&mut cursor, &mut true, &mut scratch).expect("room for all");
        assert_eq!(twice(bytes.as_bytes(), &mut scratch), bytes.rfind(',').map(|comma| comma + 1));
    }
}
