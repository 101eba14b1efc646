//! Rows beside plain maps: what a reader has who applies all he is sent is what the topic says.

use std::collections::BTreeMap;

use corecast_protocol::message::Op;

use super::*;
use crate::mesh::Name;
use crate::shard::rules::{Mode, Rule, Rules, Terms};

type Table = BTreeMap<String, String>;

struct World {
    memory: Memory,
    store: Store,
    homes: Homes,
    limits: Limits,
    values: Values,
    index: u32,
    /// What the topic says after each number.
    said: BTreeMap<u64, Table>,
    now_ms: u64,
}

fn hash_of(key: &str) -> u64 {
    key.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte))
}

impl World {
    fn new(mode: Mode, memory_bytes: u64, rows: u32, row_bytes: u32) -> World {
        let terms = Terms { mode: Some(mode), rows: Some(rows), row_bytes: Some(row_bytes), ..Terms::default() };
        let rules = Rules::new(vec![Rule { pattern: "#".into(), terms }]).unwrap();
        let limits = Limits { rules, history_ms: 1000, ..Limits::default() };
        let (memory, mut store) = (Memory::reserve(memory_bytes as usize).unwrap(), Store::new(memory_bytes));
        let mut homes = Homes::new(1);
        let index = homes.find_or_make(Name { hash: 1, text: "t" }, &mut store, &limits).unwrap();
        let said = BTreeMap::from([(0, Table::new())]);
        World { memory, store, homes, limits, values: Values::default(), index, said, now_ms: 0 }
    }

    fn order(&mut self, op: Op, key: &str, payload: &str) -> Result<Valued, Reason> {
        let content = Content { payload: payload.as_bytes(), text: true, key, op, ..Default::default() };
        let before = self.said.last_key_value().map(|(number, table)| (*number, table.clone())).unwrap();
        let kept = (&mut self.store, &mut self.memory);
        let done = self.homes.record_value(
            self.index,
            hash_of(key),
            content,
            &mut self.values,
            kept,
            &self.limits,
            self.now_ms,
        );
        self.homes.check_rows(&self.store, &self.memory);
        if let Ok(Valued::Recorded(number, had)) = done {
            let (last, mut table) = before;
            assert_eq!(number, last + 1, "numbers run on");
            if had {
                assert_eq!(table.get(key).map(String::as_bytes), Some(&self.values.old[..]), "what was before");
            }
            match op {
                Op::Delete if key.is_empty() && !table.contains_key("") => table.clear(),
                Op::Delete if key.is_empty() => table.clear(),
                Op::Delete => drop(table.remove(key)),
                Op::Put => drop(table.insert(key.to_owned(), payload.to_owned())),
                Op::Merge => {
                    table.insert(key.to_owned(), String::from_utf8(self.values.new.clone()).unwrap());
                }
            }
            self.said.insert(number, table);
        }
        done
    }

    /// Applies what a reader is sent who starts somewhere; says what he has then, and whether something is lost.
    fn read(&self, start: Start, mut table: Table) -> (Table, bool) {
        let Resolved { first, lost } = self.homes.resolve_rows(self.index, &self.store, &self.memory, start);
        let home = self.homes.home(self.index);
        if lost.is_some() {
            table.clear();
        }
        for position in first..home.next() {
            if home.is_replaced(&self.store, &self.memory, position) {
                continue;
            }
            let content = home.content(&self.store, &self.memory, position);
            match content.op {
                Op::Delete if content.key.is_empty() => table.clear(),
                Op::Delete => drop(table.remove(content.key)),
                _ => {
                    let value = String::from_utf8(content.payload.to_vec()).unwrap();
                    table.insert(content.key.to_owned(), value);
                }
            }
        }
        (table, lost.is_some())
    }
}

/// Whatever is put, deleted and cleared, and however much of it was replaced and copied: whoever starts anywhere has, with what he
/// had there, what the topic says; and whoever is told that he lost something has it, too.
#[test]
fn like_a_map() {
    let mut seed = 11_u64;
    let mut roll = |sides: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % sides
    };
    let (mut lost, mut found) = (0, 0);
    for round in 0..30 {
        let mut world = World::new(Mode::Command, 1 << 22, 40, 1 << 20);
        let mut before = None;
        for _ in 0..400 {
            world.now_ms += roll(60);
            let key = format!("k{}", roll(if round % 2 == 0 { 60 } else { 5 }));
            let size = roll(200) as usize;
            let done = match roll(20) {
                0 if roll(4) == 0 => world.order(Op::Delete, "", ""),
                1..=6 => world.order(Op::Delete, &key, ""),
                _ => world.order(Op::Put, &key, &"x".repeat(size)),
            };
            let live = world.said.last_key_value().unwrap().1.len();
            match done {
                Err(reason) => assert!(reason == Reason::Rows && live == 40, "{reason:?}, {live}"),
                Ok(Valued::Nothing(number)) => assert_eq!(Some(&number), world.said.last_key_value().map(|(n, _)| n)),
                Ok(Valued::Recorded(..)) => {}
            }
            let last = world.said.last_key_value().unwrap().1.clone();
            let epoch = world.homes.home(world.index).epoch;
            let count = world.said.len() as u64;
            let from = count.saturating_sub(1 + roll(count.min(80)));
            let (has, gone) = world.read(Start::After { epoch, seq: from }, world.said[&from].clone());
            assert_eq!(has, last, "from {from} of {count}");
            *(if gone { &mut lost } else { &mut found }) += 1;
            assert_eq!(world.read(Start::Latest, Table::new()), (last.clone(), false));
            let other = Start::After { epoch: epoch ^ 1, seq: from };
            assert_eq!(world.read(other, Table::from([("old".into(), "x".into())])), (last, true));
            let home = world.homes.home(world.index);
            let replaced = u64::from(world.homes.replaced(home));
            assert!(replaced <= 65 || replaced <= home.next() - home.history.first(), "what is replaced is left");
            before = Some(replaced);
        }
        assert!(before.is_some());
    }
    assert!(lost > 100 && found > 1000, "{lost} lost, {found} found: the test is too tame");
}

/// A merge is one of JSON, and what a key has is the whole.
#[test]
fn merges_are_whole() {
    let mut world = World::new(Mode::Merge, 1 << 20, 10, 1000);
    for (patch, whole) in [
        (r#"{"a":1,"b":{"c":2}}"#, r#"{"a":1,"b":{"c":2}}"#),
        (r#"{"b":{"d":3}}"#, r#"{"a":1,"b":{"c":2,"d":3}}"#),
        (r#"{"a":null}"#, r#"{"b":{"c":2,"d":3}}"#),
    ] {
        world.order(Op::Merge, "", patch).unwrap();
        let (table, _) = world.read(Start::Latest, Table::new());
        assert_eq!(table[""], whole);
    }
    let long = format!(r#"{{"x":"{}"}}"#, "y".repeat(1000));
    assert_eq!(world.order(Op::Merge, "", &long), Err(Reason::Rows), "more than its bytes");
    world.order(Op::Delete, "", "").unwrap();
    assert!(matches!(world.order(Op::Delete, "", ""), Ok(Valued::Nothing(4))));
    world.order(Op::Merge, "", r#"{"z":1}"#).unwrap();
    assert_eq!(world.read(Start::Latest, Table::new()).0[""], r#"{"z":1}"#);
}

/// Without memory a value is refused, or the topic's own are forgotten, and all that is counted stays right.
#[test]
fn little_memory() {
    let mut world = World::new(Mode::Command, 1 << 16, 1000, 1 << 20);
    let (mut refused, mut recorded) = (0, 0);
    for n in 0..300 {
        let content = Content { payload: &[b'x'; 900], text: true, key: "k", op: Op::Put, ..Default::default() };
        let kept = (&mut world.store, &mut world.memory);
        let hash = n % 90 + 1;
        match world.homes.record_value(world.index, hash, content, &mut world.values, kept, &world.limits, n) {
            Ok(_) => recorded += 1,
            Err(reason) => {
                assert_eq!(reason, Reason::Full);
                refused += 1;
            }
        }
        world.homes.check_rows(&world.store, &world.memory);
    }
    assert!(recorded > 100, "{recorded} recorded, {refused} refused");
}

/// A topic whose rule says something else now begins anew.
#[test]
fn rules_change() {
    let mut world = World::new(Mode::Command, 1 << 20, 10, 10_000);
    world.order(Op::Put, "k", "v").unwrap();
    let plain = Limits::default();
    world.homes.rules_changed();
    let content = Content { payload: b"x", text: true, ..Default::default() };
    let number = world.homes.record(world.index, content, &mut world.store, &mut world.memory, &plain, 0);
    assert_eq!((number, world.homes.has_rows(world.index)), (Some(2), false));
    assert_eq!(world.homes.home(world.index).content(&world.store, &world.memory, 2).payload, b"x");
    world.said.insert(2, Table::new());
    world.homes.rules_changed();
    assert_eq!(world.order(Op::Put, "k", "w"), Ok(Valued::Recorded(3, false)));
    assert_eq!(world.read(Start::Latest, Table::new()).0, Table::from([("k".into(), "w".into())]));
}
