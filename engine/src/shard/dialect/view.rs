//! Views: which of a topic's messages are wanted, which part of them, and in which form. A frame log stands for a topic, a dialect and a
//! view, so that all who want the same share the same bytes, and a message is looked at once for all of them.
//!
//! ```text
//!   selector   does it match now?  did what its key had before?     no, no: nothing · yes, no: it is gone · no, yes: it is new
//!   fields     only these members
//!   delta      what changed since before, as a merge patch; the whole if that says more
//! ```
//!
//! A message that a view does not want has no place in its logs: numbers may be left out. Owns: the views that somebody reads, each once.
//! Invariant: a view is used by so many logs and readings as it counts.

use std::collections::HashMap;
use std::fmt;

use corecast_protocol::line;
use corecast_protocol::message::Op;
use corecast_protocol::record::{self, Fields};
use corecast_protocol::selector::{Given, Selector};
use corecast_protocol::write::Writer;

use crate::mesh::Content;
use crate::shard::memory::slab::Slab;

/// The view that is everything, whole.
pub(in crate::shard) const ALL: u32 = u32::MAX;

/// What is wrong with a view that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One view.
#[derive(Debug)]
struct View {
    /// What it is known by.
    text: Box<str>,
    fields: Option<Box<Fields>>,
    selector: Option<Box<Selector>>,
    delta: bool,
    /// Logs and readings that use it.
    users: u32,
}

/// All views of a shard.
#[derive(Debug)]
pub(in crate::shard) struct Views {
    views: Slab<View>,
    by_text: HashMap<Box<str>, u32>,
}

/// Where messages are shaped.
#[derive(Debug, Default)]
pub(in crate::shard) struct Shaping {
    new: Vec<u8>,
    old: Vec<u8>,
    patch: Vec<u8>,
    members: Vec<u64>,
}

impl Shaping {
    /// Returns the bytes of memory that it holds.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> usize {
        let pieces = self.new.capacity() + self.old.capacity() + self.patch.capacity();
        pieces + self.members.capacity() * size_of::<u64>()
    }

    /// Returns what changed between two values, as [`diff`] does.
    pub(in crate::shard) fn diff(&mut self, old: &[u8], new: &[u8]) -> Option<&[u8]> {
        diff(old, new, &mut self.patch, &mut self.members)
    }
}

/// What is known of a message besides what it says.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Known<'a> {
    /// Its messages are values of keys.
    pub(in crate::shard) table: bool,
    /// What its key had before, or its topic; none: nothing, or nobody knows.
    pub(in crate::shard) old: Option<&'a [u8]>,
    /// Whoever is sent it has nothing yet.
    pub(in crate::shard) fresh: bool,
}

/// A message as a view wants it.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Shaped<'a> {
    /// What is sent to who has all before it.
    pub(in crate::shard) step: Content<'a>,
    /// The same, whole.
    pub(in crate::shard) whole: Content<'a>,
    /// What who has all before it has of its key, as the view shows it; none: nothing, or nobody knows.
    pub(in crate::shard) before: Option<&'a [u8]>,
}

impl Default for Views {
    fn default() -> Views {
        Views { views: Slab::new(), by_text: HashMap::new() }
    }
}

impl Views {
    /// Uses the view that somebody wants.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::shard) fn hold(&mut self, wanted: &line::View<'_>) -> Result<u32, Wrong> {
        if wanted.is_all() {
            return Ok(ALL);
        }
        let fields = wanted
            .fields
            .map(|list| Fields::parse(list).map(Box::new).map_err(|error| Wrong(format!("fields: {error}"))));
        let fields = fields.transpose()?;
        let selector = wanted
            .selector
            .map(|text| Selector::parse(text).map(Box::new).map_err(|error| Wrong(format!("where: {error}"))));
        let selector = selector.transpose()?;
        let shown = fields.as_ref().map_or("", |fields| fields.text());
        let text = format!("{}\n{shown}\n{}", u8::from(wanted.delta), wanted.selector.unwrap_or("")).into_boxed_str();
        if let Some(known) = self.by_text.get(&text) {
            self.views[*known as usize].users += 1;
            return Ok(*known);
        }
        let view = View { text: text.clone(), fields, selector, delta: wanted.delta, users: 1 };
        let index = u32::try_from(self.views.insert(view)).expect("fewer views than 2^32");
        self.by_text.insert(text, index);
        Ok(index)
    }

    /// One more uses a view that somebody uses.
    pub(in crate::shard) fn hold_too(&mut self, view: u32) {
        if let Some(view) = self.views.get_mut(view as usize) {
            view.users += 1;
        }
    }

    /// One uses a view no more.
    pub(in crate::shard) fn release(&mut self, index: u32) {
        let Some(view) = self.views.get_mut(index as usize) else { return };
        view.users -= 1;
        if view.users == 0 {
            let view = self.views.remove(index as usize);
            self.by_text.remove(&view.text);
        }
    }

    /// Says whether a view shows what changed.
    #[must_use]
    pub(in crate::shard) fn is_delta(&self, view: u32) -> bool {
        self.views.get(view as usize).is_some_and(|view| view.delta)
    }

    /// Says whether a view of a topic depends on what was there before a message.
    #[must_use]
    pub(in crate::shard) fn wants_old(&self, view: u32, table: bool) -> bool {
        self.views.get(view as usize).is_some_and(|view| view.delta || table && view.selector.is_some())
    }

    /// Returns how many there are, and their users.
    #[must_use]
    pub(in crate::shard) fn count(&self) -> (usize, u32) {
        (self.views.len(), self.views.iter().map(|(_, view)| view.users).sum())
    }

    /// Returns the bytes of memory that all of it holds.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        let programs = self.views.len() * (size_of::<Fields>() + size_of::<Selector>() + 64);
        self.views.bytes() + (programs + self.by_text.capacity() * 32) as u64
    }

    /// Returns a message as a view wants it; none if it does not.
    pub(in crate::shard) fn shape<'a>(
        &self,
        view: u32,
        topic: &str,
        content: Content<'a>,
        known: Known<'a>,
        shaping: &'a mut Shaping,
    ) -> Option<Shaped<'a>> {
        let as_it_is = Shaped { step: content, whole: content, before: known.old };
        let deletes = content.op == Op::Delete;
        if deletes && known.fresh {
            return None;
        }
        let Some(view) = self.views.get(view as usize) else { return Some(as_it_is) };
        let matches = |payload: &[u8]| {
            let said = |text: &'a str| Some(text).filter(|text| !text.is_empty());
            let given = Given { topic: Some(topic), key: said(content.key), event: said(content.event) };
            view.selector.as_ref().is_none_or(|selector| selector.matches(payload, &given))
        };
        let had = known.old.map(matches);
        if deletes || !matches(content.payload) {
            // Whoever may have it is told that he has it no more.
            let is_told = known.table && !known.fresh && (deletes || view.selector.is_some()) && had != Some(false);
            let gone = Content { payload: &[], text: true, op: Op::Delete, ..content };
            return is_told.then_some(Shaped {
                step: gone,
                whole: gone,
                before: known.old.filter(|_| had == Some(true)),
            });
        }
        let Shaping { new, old, patch, members } = shaping;
        let shown = shown(view.fields.as_deref(), content.payload, new);
        let whole = Content { payload: shown, ..content };
        let before = match known.old {
            Some(value) if had == Some(true) => Some(self::shown(view.fields.as_deref(), value, old)),
            _ => None,
        };
        let changed = before.filter(|_| view.delta).and_then(|before| diff(before, shown, patch, members));
        match changed {
            Some(b"{}") => None,
            Some(changes) => {
                let step = Content { payload: changes, text: true, op: Op::Merge, ..content };
                Some(Shaped { step, whole, before })
            }
            None => Some(Shaped { step: whole, whole, before }),
        }
    }
}

/// Returns what fields show of a payload; of one that is no record all of it.
fn shown<'a>(fields: Option<&Fields>, payload: &'a [u8], room: &'a mut Vec<u8>) -> &'a [u8] {
    let Some(fields) = fields else { return payload };
    if room.len() < payload.len() {
        room.resize(payload.len(), 0);
    }
    let mut w = Writer::new(room);
    let projected = record::project(payload, fields, &mut w).is_ok();
    match (projected, w.finish()) {
        (true, Ok(len)) => &room[..len],
        _ => payload,
    }
}

/// Returns what changed between two values, as a merge patch; none if the whole says no more, or nobody can say.
fn diff<'a>(old: &[u8], new: &[u8], room: &'a mut Vec<u8>, members: &mut Vec<u64>) -> Option<&'a [u8]> {
    if members.is_empty() {
        *members = vec![0; record::MEMBERS_MAX];
    }
    if room.len() < new.len() {
        room.resize(new.len(), 0);
    }
    let mut w = Writer::new(room);
    let len = record::diff(old, new, members, &mut w)?;
    Some(&room[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(fields: Option<&'a str>, selector: Option<&'a str>, delta: bool) -> line::View<'a> {
        line::View { fields, selector, delta }
    }

    fn shaped(
        view: &line::View<'_>,
        payload: &str,
        op: Op,
        old: Option<&str>,
        table: bool,
        fresh: bool,
    ) -> Option<(Op, String)> {
        let mut views = Views::default();
        let index = views.hold(view).unwrap();
        let content = Content { payload: payload.as_bytes(), text: true, key: "k", op, ..Default::default() };
        let known = Known { table, old: old.map(str::as_bytes), fresh };
        let mut shaping = Shaping::default();
        let shaped = views.shape(index, "t", content, known, &mut shaping)?;
        assert!(shaped.before.is_none() || old.is_some());
        Some((shaped.step.op, String::from_utf8(shaped.step.payload.to_vec()).unwrap()))
    }

    /// Views that are the same are one, however many use it, and it goes with the last; what makes no sense is told with the option's name.
    #[test]
    fn views_are_held() {
        let mut views = Views::default();
        assert_eq!(views.hold(&wanted(None, None, false)), Ok(ALL));
        let first = views.hold(&wanted(Some("b,a"), Some("a > 1"), false)).unwrap();
        assert_eq!(views.hold(&wanted(Some("a,b"), Some("a > 1"), false)), Ok(first), "fields have no order");
        let other = views.hold(&wanted(Some("b,a"), Some("a > 1"), true)).unwrap();
        assert!(first != other && views.is_delta(other) && !views.is_delta(first));
        views.hold_too(first);
        assert_eq!(views.count(), (2, 4));
        (0..3).for_each(|_| views.release(first));
        assert_eq!(views.count(), (1, 1));
        views.release(other);
        views.release(ALL);
        assert_eq!(views.count(), (0, 0));
        for (fields, selector, says) in [
            (Some("a,,b"), None, "fields: "),
            (Some("a,a"), None, "fields: "),
            (None, Some("a >"), "where: "),
            (None, Some(""), "where: "),
            (None, Some("a = 'x"), "where: "),
        ] {
            let wrong = views.hold(&wanted(fields, selector, false)).unwrap_err().to_string();
            assert!(wrong.starts_with(says), "{wrong}");
        }
        let long = format!("a = '{}'", "x".repeat(2000));
        let deep = "(".repeat(50) + "a = 1" + &")".repeat(50);
        for selector in [&long, &deep] {
            assert!(views.hold(&wanted(None, Some(selector), false)).is_err());
        }
        assert_eq!(views.count(), (0, 0), "what is wrong is not held");
    }

    /// A value that begins to match is new, one that no longer does is gone, and one that never did is nothing; nobody is told of what
    /// he cannot have.
    #[test]
    fn rows_come_and_go() {
        let view = wanted(None, Some("a > 5"), false);
        let (in_, out) = (r#"{"a":9}"#, r#"{"a":1}"#);
        let put = |payload: &str| Some((Op::Put, payload.to_owned()));
        let gone = Some((Op::Delete, String::new()));
        for (payload, op, old, table, fresh, expected) in [
            (in_, Op::Put, Some(out), true, false, put(in_)),
            (in_, Op::Put, Some(in_), true, false, put(in_)),
            (in_, Op::Put, None, true, true, put(in_)),
            (out, Op::Put, Some(in_), true, false, gone.clone()),
            (out, Op::Put, None, true, false, gone.clone()),
            (out, Op::Put, Some(out), true, false, None),
            (out, Op::Put, None, true, true, None),
            ("", Op::Delete, Some(in_), true, false, gone.clone()),
            ("", Op::Delete, Some(out), true, false, None),
            ("", Op::Delete, None, true, false, gone),
            ("", Op::Delete, None, true, true, None),
            (out, Op::Put, Some(in_), false, false, None),
            (out, Op::Put, None, false, false, None),
            (in_, Op::Put, None, false, false, put(in_)),
            ("no record", Op::Put, None, false, false, None),
        ] {
            let found = shaped(&view, payload, op, old, table, fresh);
            assert_eq!(found, expected, "{payload} {op:?} {old:?} {table} {fresh}");
        }
    }

    /// Changes are those of what is shown, and are not told where nothing that is shown has changed; where they cannot be told, the whole is.
    #[test]
    fn changes_are_of_what_is_shown() {
        let view = wanted(Some("a,b"), None, true);
        let old = r#"{"a":1,"b":"a longer text","c":1}"#;
        for (payload, old, expected) in [
            (r#"{"a":2,"b":"a longer text","c":2}"#, Some(old), Some((Op::Merge, r#"{"a":2}"#))),
            (r#"{"a":1,"b":"a longer text","c":2}"#, Some(old), None),
            (r#"{"b":"a longer text"}"#, Some(old), Some((Op::Merge, r#"{"a":null}"#))),
            (r#"{"a":null,"b":"a longer text"}"#, Some(old), Some((Op::Put, r#"{"a":null,"b":"a longer text"}"#))),
            (r#"{"a":1}"#, None, Some((Op::Put, r#"{"a":1}"#))),
            ("no record", Some(old), Some((Op::Put, "no record"))),
            (r#"{"a":1}"#, Some("no record"), Some((Op::Put, r#"{"a":1}"#))),
        ] {
            let found = shaped(&view, payload, Op::Put, old, true, false);
            assert_eq!(found, expected.map(|(op, text)| (op, text.to_owned())), "{payload} from {old:?}");
        }
    }
}
