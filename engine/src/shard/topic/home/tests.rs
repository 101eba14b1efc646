//! Homes, by themselves.

use super::*;
use crate::shard::rules::{Rule, Rules, Terms};

fn content(payload: &[u8]) -> Content<'_> {
    Content { event: "", payload, text: true, at_us: 0, ..Default::default() }
}

fn name(text: &str) -> Name<'_> {
    Name { hash: text.len() as u64, text }
}

/// The history is held to its number, its bytes and its age, and the newest message outlives all three.
#[test]
fn history_is_bounded() {
    let mut memory = Memory::reserve(1 << 20).unwrap();
    let mut store = Store::new(1 << 20);
    let limits = Limits { history_messages: 5, history_bytes: 1000, history_ms: 100, ..Limits::default() };
    let mut homes = Homes::new(1);
    let index = homes.find_or_make(name("t"), &mut store, &limits).unwrap();
    for seq in 1..=20 {
        let recorded = homes.record(index, content(b"0123456789"), &mut store, &mut memory, &limits, 0);
        assert_eq!(recorded, Some(seq));
    }
    let first =
        |homes: &Homes, store: &Store, memory: &Memory| homes.home(index).resolve(store, memory, Start::Earliest).first;
    assert_eq!(first(&homes, &store, &memory), 16);
    homes.record(index, content(&[b'x'; 990]), &mut store, &mut memory, &limits, 50).unwrap();
    assert_eq!(first(&homes, &store, &memory), 20, "ten bytes of the bound are left");
    homes.record(index, content(&[b'y'; 5000]), &mut store, &mut memory, &limits, 60).unwrap();
    assert_eq!(first(&homes, &store, &memory), 22, "the newest is kept beyond the bound");
    homes.record(index, content(b"a"), &mut store, &mut memory, &limits, 70).unwrap();
    homes.record(index, content(b"b"), &mut store, &mut memory, &limits, 171).unwrap();
    homes.forget_old(&mut store, &mut memory, &limits, 10_000, 10);
    assert_eq!(first(&homes, &store, &memory), 24);
    assert_eq!(homes.home(index).content(&store, &memory, 24).payload, b"b");
    homes.clear(index, &mut store);
    assert_eq!((homes.len(), store.pool.used_total()), (0, 0));
}

/// Homes look for their terms once for each change of the rules, and find what those say then.
#[test]
fn terms_are_found_again() {
    let rules = |messages| {
        let terms = Terms { history_messages: Some(messages), ..Terms::default() };
        let rules = Rules::new(vec![Rule { pattern: "a/#".into(), terms }]).unwrap();
        Limits { rules, ..Limits::default() }
    };
    let mut homes = Homes::new(1);
    let (first, second) = (homes.make(name("a/bc")), homes.make(name("b")));
    let base = Limits::default().history_messages;
    assert_eq!([first, second].map(|home| homes.keeps(home, &rules(3)).messages), [3, base]);
    homes.rules_changed();
    assert_eq!([first, second].map(|home| homes.keeps(home, &rules(5)).messages), [5, base]);
    let third = homes.make(name("a/bcd"));
    assert_eq!(homes.keeps(third, &rules(5)).messages, 5);
    homes.changes = u32::MAX;
    homes.rules_changed();
    assert_eq!(homes.keeps(first, &Limits::default()).messages, base, "changes are counted on and on");
}

/// Every kind of start finds its first message, and loss is told with its number and counted, whether or not numbers are
/// left out.
#[test]
fn starts_resolve() {
    for leaves_out in [false, true] {
        let mut memory = Memory::reserve(1 << 20).unwrap();
        let mut store = Store::new(1 << 20);
        let limits = Limits { history_messages: 5, ..Limits::default() };
        let numbering = Numbering { leaves_out };
        let mut homes = Homes { numbering, ..Homes::new(1) };
        let index = homes.find_or_make(name("t"), &mut store, &limits).unwrap();
        let empty = homes.home(index);
        for start in [Start::Latest, Start::Live, Start::Earliest, Start::Last(3), Start::Behind(0)] {
            let resolved = empty.resolve(&store, &memory, start);
            assert_eq!(resolved, Resolved { first: 1, lost: None }, "{start:?}");
        }
        let epoch = empty.epoch;
        let nth = |nth| numbering.number(epoch, nth);
        for place in 1..=20 {
            let recorded = homes.record(index, content(b"x"), &mut store, &mut memory, &limits, 0);
            assert_eq!(recorded, Some(nth(place)));
        }
        let home = homes.home(index);
        let lost =
            |after_epoch, after_seq, count, epoch_changed| Some(Lost { after_epoch, after_seq, count, epoch_changed });
        let after = |place| Start::After { epoch, seq: nth(place) };
        let beyond = nth(20) + 1;
        for (start, first, lost) in [
            (Start::Latest, 20, None),
            (Start::Live, 21, None),
            (Start::Earliest, 16, None),
            (Start::Last(0), 21, None),
            (Start::Last(2), 19, None),
            (Start::Last(99), 16, None),
            (after(20), 21, None),
            (after(15), 16, None),
            (after(14), 16, lost(epoch, nth(14), 1, false)),
            (after(0), 16, lost(epoch, 0, 15, false)),
            (Start::After { epoch, seq: beyond }, 16, lost(epoch, beyond, 15, true)),
            (Start::After { epoch: epoch ^ 1, seq: nth(20) }, 16, lost(epoch ^ 1, nth(20), 15, true)),
            (Start::Behind(nth(15)), 16, None),
            (Start::Behind(nth(17)), 18, None),
            (Start::Behind(nth(20)), 21, None),
            (Start::Behind(nth(9)), 16, lost(epoch, nth(9), 6, false)),
        ] {
            assert_eq!(home.resolve(&store, &memory, start), Resolved { first, lost }, "{start:?}");
            assert_eq!(home.number_before(&store, &memory, first), nth(first - 1));
        }
    }
}
