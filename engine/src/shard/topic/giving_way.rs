//! What histories give way to when memory is short: the order, and what nobody forgets anything for.

use crate::io::memory::Memory;
use crate::mesh::{Content, Name};
use crate::shard::limits::Limits;
use crate::shard::memory::pool::Owner;
use crate::shard::topic::chain::Store;
use crate::shard::topic::home::Homes;

fn content(payload: &[u8]) -> Content<'_> {
    Content { event: "", payload, text: true, at_us: 0, ..Default::default() }
}

fn name(text: &str) -> Name<'_> {
    Name { hash: text.len() as u64, text }
}

fn remembered(homes: &Homes, store: &Store, names: &[String]) -> usize {
    let keeps = |name_text: &&String| {
        homes.find(name(name_text)).is_some_and(|index| homes.home(index).standing(store).remembers)
    };
    names.iter().filter(keeps).count()
}

/// A message that cannot fit, because it is larger than the largest block, or because what others hold leaves no hole for
/// it, is refused, and nobody forgets anything for it. All histories used to be forgotten first.
#[test]
fn nothing_is_forgotten_for_what_cannot_fit() {
    let mut memory = Memory::reserve(1 << 20).unwrap();
    let mut store = Store::new(1 << 20);
    let limits = Limits::default();
    let mut homes = Homes::new(1);
    // In every 64 KiB, somebody holds 256 bytes, and a history half of it.
    let held: Vec<_> = std::iter::from_fn(|| store.pool.take(Owner::Private, 256)).collect();
    for block in held.into_iter().filter(|block| !block.span().start.is_multiple_of(64 << 10)) {
        store.pool.give(Owner::Private, block);
    }
    let names: Vec<String> = (0..16).map(|n| format!("topic/{n:02}")).collect();
    for name_text in &names {
        let index = homes.find_or_make(name(name_text), &mut store, &limits).unwrap();
        homes.record(index, content(&[b'x'; 20_000]), &mut store, &mut memory, &limits, 0).unwrap();
    }
    let before = remembered(&homes, &store, &names);
    assert_eq!(before, names.len());
    let index = homes.find_or_make(name("large"), &mut store, &limits).unwrap();
    for bytes in [40_000, 200_000, 300_000, 16 << 20] {
        let recorded = homes.record(index, content(&vec![b'y'; bytes]), &mut store, &mut memory, &limits, 0);
        assert_eq!((recorded, remembered(&homes, &store, &names)), (None, before), "{bytes} bytes");
    }
    // What fits where a history is makes some forget, not all.
    let recorded = homes.record(index, content(&[b'y'; 30_000]), &mut store, &mut memory, &limits, 0);
    assert_eq!(recorded, Some(1));
    assert!(remembered(&homes, &store, &names) >= before - 3);
}

/// A topic that holds all there is forgets what it said before, and not the message that comes.
#[test]
fn its_own_history_gives_way_too() {
    let mut memory = Memory::reserve(1 << 20).unwrap();
    let mut store = Store::new(1 << 20);
    let limits = Limits { history_bytes: 1 << 20, ..Limits::default() };
    let mut homes = Homes::new(1);
    let index = homes.find_or_make(name("t"), &mut store, &limits).unwrap();
    for seq in 1..=9 {
        let recorded = homes.record(index, content(&[b'x'; 200_000]), &mut store, &mut memory, &limits, 0);
        assert_eq!(recorded, Some(seq));
    }
}

/// When memory is short, the topic used longest ago gives way first, and the newest messages always fit.
#[test]
fn the_oldest_gives_way() {
    let mut memory = Memory::reserve(1 << 20).unwrap();
    let mut store = Store::new(1 << 20);
    let limits = Limits::default();
    let mut homes = Homes::new(1);
    let names: Vec<String> = (0..100).map(|n| format!("topic/{n}")).collect();
    for name_text in &names {
        let index = homes.find_or_make(name(name_text), &mut store, &limits).unwrap();
        homes.record(index, content(&[b'x'; 30_000]), &mut store, &mut memory, &limits, 0).unwrap();
    }
    assert!(store.pool.used(Owner::History) <= 1 << 19);
    assert!(homes.find(name(&names[0])).is_none());
    assert!(homes.find(name(&names[99])).is_some());
}
