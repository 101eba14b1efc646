//! Which part of a record somebody is shown: a list of paths, parsed once, and the record with nothing else.

use core::cmp::Ordering;
use core::fmt;

use super::{Cursor, DEPTH_MAX, Malformed, NOT_SOUND, Name, RecordError, Scanned, hash, record};
use crate::write::Writer;

/// The longest list of fields in bytes: a request line with one stays a request line.
pub const FIELDS_BYTES_MAX: usize = 512;

/// The most fields of a list.
pub const FIELDS_MAX: usize = 64;

/// The most names in the paths of a list, where paths that begin alike count what they have in common once, and the record itself.
pub const NODES_MAX: usize = 128;

/// Why a list of fields is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldsError {
    /// There is nothing in it.
    Empty,
    /// A name is empty: two commas, or two dots.
    EmptyName,
    /// It is longer than [`FIELDS_BYTES_MAX`].
    TooLong,
    /// It has more fields than [`FIELDS_MAX`], or more names in them than [`NODES_MAX`].
    TooMany,
    /// A path has more names than a record is deep.
    TooDeep,
    /// A field stands twice.
    Twice,
    /// A control character.
    Character,
}

impl FieldsError {
    /// Returns what is wrong, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            FieldsError::Empty => "a list of fields has at least one",
            FieldsError::EmptyName => "a field has no empty names: write a,b.c",
            FieldsError::TooLong => "a list of fields has at most 512 bytes",
            FieldsError::TooMany => "a list of fields has at most 64 fields and 127 names",
            FieldsError::TooDeep => "a field has at most 32 names",
            FieldsError::Twice => "a field is given twice",
            FieldsError::Character => "a field has no control characters",
        }
    }
}

impl fmt::Display for FieldsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for FieldsError {}

/// A list of fields, `a,b.c`: about 2 KiB, with nothing outside of it. Two are equal if they show the same, in whatever order they were given.
///
/// Inside it is a tree of names, those of the same object beside each other.
#[derive(Clone)]
pub struct Fields {
    /// The paths in order, joined by commas.
    text: [u8; FIELDS_BYTES_MAX],
    text_len: u16,
    nodes: [Node; NODES_MAX],
    /// The hash of each node's name: what is compared first stands together.
    hashes: [u32; NODES_MAX],
}

/// A name in the tree; the first is the record itself.
#[derive(Clone, Copy, Default)]
struct Node {
    name_at: u16,
    name_len: u16,
    /// Which nodes are below it.
    child_at: u8,
    /// How many; of one that is shown whole none.
    children: u8,
}

/// A path in the text.
#[derive(Clone, Copy, Default)]
struct Path {
    at: u16,
    len: u16,
}

impl Fields {
    /// Reads a list of paths joined by commas, `a,b.c`. Of `a` and `a.b` together `a` is meant. Spaces belong to names.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(list: &str) -> Result<Self, FieldsError> {
        if list.is_empty() {
            return Err(FieldsError::Empty);
        }
        if list.len() > FIELDS_BYTES_MAX {
            return Err(FieldsError::TooLong);
        }
        if list.chars().any(char::is_control) {
            return Err(FieldsError::Character);
        }
        let mut paths = [""; FIELDS_MAX];
        let mut len = 0;
        for path in list.split(',') {
            if path.split('.').any(str::is_empty) {
                return Err(FieldsError::EmptyName);
            }
            if path.split('.').count() > DEPTH_MAX {
                return Err(FieldsError::TooDeep);
            }
            *paths.get_mut(len).ok_or(FieldsError::TooMany)? = path;
            len += 1;
        }
        let paths = &mut paths[..len];
        // A path stands right before all that begin with it.
        paths.sort_unstable_by(|a, b| a.split('.').cmp(b.split('.')));
        if paths.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(FieldsError::Twice);
        }
        let mut fields = Self {
            text: [0; FIELDS_BYTES_MAX],
            text_len: 0,
            nodes: [Node::default(); NODES_MAX],
            hashes: [0; NODES_MAX],
        };
        let mut kept = [Path::default(); FIELDS_MAX];
        let mut count = 0;
        let mut w = Writer::new(&mut fields.text);
        let mut last = "";
        for &path in &*paths {
            if count > 0 && path.strip_prefix(last).is_some_and(|rest| rest.starts_with('.')) {
                continue;
            }
            if count > 0 {
                w.byte(b',');
            }
            kept[count] = Path { at: w.len() as u16, len: path.len() as u16 };
            w.text(path);
            count += 1;
            last = path;
        }
        fields.text_len = w.finish().expect("no longer than the list") as u16;
        fields.plant(&kept[..count])?;
        Ok(fields)
    }

    /// Makes the tree of paths in order, none of which begins with another: level by level, so that the children of each node are together.
    fn plant(&mut self, paths: &[Path]) -> Result<(), FieldsError> {
        // Which paths go through a node, and how many of their names are above what is below it.
        let mut through = [(0u8, 0u8, 0u8); NODES_MAX];
        through[0] = (0, paths.len() as u8, 0);
        let mut count = 1;
        let mut at = 0;
        while at < count {
            let (from, to, depth) = through[at];
            self.nodes[at].child_at = count.min(NODES_MAX - 1) as u8;
            let mut path = from;
            while path < to {
                let Some(name) = self.name_in(paths[usize::from(path)], depth) else { break };
                if count == NODES_MAX {
                    return Err(FieldsError::TooMany);
                }
                let text = self.slice(name);
                let begin = path;
                while path < to && self.name_in(paths[usize::from(path)], depth).is_some_and(|n| self.slice(n) == text)
                {
                    path += 1;
                }
                self.hashes[count] = hash(text);
                self.nodes[count] = Node { name_at: name.at, name_len: name.len, child_at: 0, children: 0 };
                through[count] = (begin, path, depth + 1);
                self.nodes[at].children += 1;
                count += 1;
            }
            at += 1;
        }
        Ok(())
    }

    fn slice(&self, path: Path) -> &[u8] {
        &self.text[usize::from(path.at)..][..usize::from(path.len)]
    }

    /// Finds the name at that depth of a path.
    fn name_in(&self, path: Path, depth: u8) -> Option<Path> {
        let mut at = path.at;
        let mut names = self.slice(path).split(|&byte| byte == b'.').map(|name| {
            let found = Path { at, len: name.len() as u16 };
            at += found.len + 1;
            found
        });
        names.nth(depth.into())
    }

    /// Lends the list, with its paths in order and none that is part of another: of lists that show the same it is the same.
    #[must_use]
    pub fn text(&self) -> &str {
        core::str::from_utf8(&self.text[..usize::from(self.text_len)]).expect("paths of a text")
    }

    /// Finds the child of a node that has this name.
    #[inline]
    fn child(&self, node: usize, name: &Name<'_>) -> Option<usize> {
        let Node { child_at, children, .. } = self.nodes[node];
        let range = usize::from(child_at)..usize::from(child_at) + usize::from(children);
        let hash = name.hash();
        let same = |&child: &usize| {
            let Node { name_at, name_len, .. } = self.nodes[child];
            self.hashes[child] == hash && name.is(self.slice(Path { at: name_at, len: name_len }))
        };
        range.into_iter().find(same)
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Fields {}

impl core::hash::Hash for Fields {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl Ord for Fields {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text().cmp(other.text())
    }
}

impl PartialOrd for Fields {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fields").field(&self.text()).finish()
    }
}

/// Writes the record with these fields only, in the order in which they stand there, without space between them. What a path does not find is left
/// out, and so are objects in which nothing was found. A record of which nothing is shown is `{}`.
///
/// Writes at most as many bytes as the record has.
///
/// # Errors
/// What is no object, or cannot be followed; what was written is incomplete then.
pub fn project(bytes: &[u8], fields: &Fields, w: &mut Writer<'_>) -> Result<(), RecordError> {
    let mut cursor = record(bytes)?;
    match object(&mut cursor, fields, 0, w) {
        Ok(_) => Ok(()),
        Err(_) => Err(RecordError { text: NOT_SOUND, offset: cursor.at.min(bytes.len()) }),
    }
}

/// Writes an object with what is below a node; says whether there was anything. Passes the object, unless it is the record: that need not be read to
/// its end.
fn object(cursor: &mut Cursor<'_>, fields: &Fields, node: usize, w: &mut Writer<'_>) -> Scanned<bool> {
    let mut missing = fields.nodes[node].children;
    let mut any = false;
    let mut first = true;
    cursor.open()?;
    w.byte(b'{');
    while cursor.next(&mut first)? {
        let start = cursor.at;
        let name = cursor.name()?;
        let Some(child) = fields.child(node, &name) else {
            cursor.value()?;
            continue;
        };
        missing = missing.saturating_sub(1);
        if fields.nodes[child].children == 0 {
            cursor.value()?;
            write_member(w, any, &cursor.bytes[start..cursor.at]);
            any = true;
        } else if cursor.is_object() {
            let mark = w.mark();
            write_name(w, any, &name);
            if object(cursor, fields, child, w)? {
                any = true;
            } else {
                w.back_to(mark);
            }
        } else {
            cursor.value()?;
        }
        if missing == 0 {
            if node != 0 {
                cursor.close()?;
            } else if cursor.peek().is_none() {
                return Err(Malformed); // Whose bracket would be one byte more than there is.
            }
            break;
        }
    }
    w.byte(b'}');
    Ok(any)
}

/// Writes a member as it stands somewhere.
#[inline]
pub(super) fn write_member(w: &mut Writer<'_>, behind_another: bool, member: &[u8]) {
    if behind_another {
        w.byte(b',');
    }
    w.put(member);
}

/// Writes what stands before a member's value.
#[inline]
pub(super) fn write_name(w: &mut Writer<'_>, behind_another: bool, name: &Name<'_>) {
    w.text(if behind_another { ",\"" } else { "\"" });
    w.put(name.raw());
    w.text("\":");
}
