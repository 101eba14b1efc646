//! Chains beside plain lists.

use super::*;

fn bytes_of(number: u64) -> Vec<u8> {
    vec![number as u8; (number as usize * 53) % 900]
}

/// A chain answers like a plain list of records, for any order of appending, forgetting and skipping, whether their numbers
/// run on or leave some out.
#[test]
fn like_a_list() {
    let mut memory = Memory::reserve(1 << 20).unwrap();
    let mut store = Store::new(1 << 20);
    let mut chain = Chain::new(Owner::Log, 5);
    // Numbers; the first one has the position of the chain's first record.
    let mut list: std::collections::VecDeque<u64> = [].into();
    let (mut next, mut last, mut before) = (1u64, 5u64, 5u64);
    let (mut wide, mut narrow) = (0, 0);
    let mut seed = 7u64;
    for round in 0..8_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let dice = (seed >> 33) as u32;
        let first = next - list.len() as u64;
        let mut forget = |list: &mut std::collections::VecDeque<u64>, count: u64| {
            before = list.drain(..(count as usize).min(list.len())).next_back().unwrap_or(before);
        };
        match dice % 16 {
            0 => {
                let count = u64::from(dice >> 8) % 9;
                chain.forget_before(&mut store, &memory, first + count);
                forget(&mut list, count);
            }
            3 if !list.is_empty() => {
                let len = chain.forget_first(&mut store, &memory);
                assert_eq!(len as usize, bytes_of(list[0]).len());
                forget(&mut list, 1);
            }
            1 => {
                chain.forget_oldest_block(&mut store);
                forget(&mut list, chain.first() - first);
            }
            2 if dice % 8 == 2 => {
                let count = u64::from(dice >> 8) % 3;
                (next, last) = (next + count, last + 2 * count);
                chain.skip(&mut store, count, last);
                list.clear();
                before = last;
            }
            _ => {
                // Now and then all numbers run on for a while, and now and then a number is far away.
                last += match dice >> 8 {
                    far if far % 500 == 0 => 1 << 33,
                    _ if round / 64 % 2 == 0 => 1,
                    more => 1 + u64::from(more % 4) / 2,
                };
                let bytes = bytes_of(last);
                let (len, block_bytes) = (bytes.len() as u32, 1 << ((dice >> 8) % 14));
                let place = chain.append(&mut store, &mut memory, last, len, block_bytes).unwrap();
                memory.bytes_mut(place).copy_from_slice(&bytes);
                list.push_back(last);
                next += 1;
            }
        }
        let first = next - list.len() as u64;
        assert_eq!((chain.first(), chain.next()), (first, next));
        assert_eq!((chain.before(), chain.last(&store)), (before, last));
        for (position, number) in (first..).zip(&list) {
            assert_eq!(memory.bytes(chain.record(&store, &memory, position)), bytes_of(*number));
            assert_eq!(chain.number(&store, &memory, position), *number);
            assert_eq!(chain.number_before(&store, &memory, position + 1), *number);
            assert_eq!(chain.position_after(&store, &memory, *number), position + 1);
            assert_eq!(chain.position_after(&store, &memory, before.max(*number - 1)), position);
        }
        assert_eq!(chain.number_before(&store, &memory, first), before);
        assert_eq!(chain.position_after(&store, &memory, last + 9), next);
        for (_, link) in store.links.iter() {
            *(if link.is_wide() { &mut wide } else { &mut narrow }) += u32::from(link.count > 1);
        }
        if !list.is_empty() {
            let nth = dice as usize % list.len();
            let from = first + nth as u64;
            let all_from =
                |to: u64| -> Vec<u8> { list.range(nth..(to - first) as usize).copied().flat_map(bytes_of).collect() };
            let piece = chain.piece(&store, &memory, from, 0, dice >> 20);
            assert_eq!(memory.bytes(piece.span), all_from(piece.next));
            assert!(piece.next > from && (piece.next == from + 1 || piece.span.len <= dice >> 20));
            let run = chain.run(&store, &memory, from, 0);
            assert!(piece.next == run.next || all_from(piece.next + 1).len() > (dice >> 20) as usize);
            let expected = all_from(run.next);
            assert_eq!(memory.bytes(run.span), expected);
            let runs = chain.runs(&store, &memory, from, 0, dice >> 12);
            let all: Vec<u8> = runs.parts().iter().flat_map(|part| memory.bytes(*part)).copied().collect();
            assert_eq!(all, all_from(runs.next));
            assert_eq!(runs.bytes as usize, all.len());
            assert!(runs.next == next || runs.count == PARTS_MAX || runs.bytes >= dice >> 12);
            let unsent = (dice >> 9) % (run.span.len + 1);
            let (position, skip) = chain.back(&store, &memory, run.next, unsent);
            assert_eq!(all_from(position).len() + skip as usize + unsent as usize, expected.len());
            assert_eq!(chain.bytes_from(&store, &memory, from), all_from(next).len() as u64);
            assert!(chain.bytes_used(&store) >= chain.bytes_from(&store, &memory, 0));
        }
    }
    assert!(wide > 1000 && narrow > 1000, "{wide} blocks with wide marks, {narrow} without: the test is too tame");
    chain.clear(&mut store);
    assert_eq!((store.pool.used_total(), chain.bytes(), store.links.len()), (0, 0, 0));
}

/// When memory is used up, appending says so and changes nothing.
#[test]
fn out_of_memory_changes_nothing() {
    let mut memory = Memory::reserve(1 << 16).unwrap();
    let mut store = Store::new(1 << 16);
    let mut chain = Chain::new(Owner::History, 0);
    while chain.append(&mut store, &mut memory, chain.next(), 1000, 0).is_some() {}
    let (first, next, used) = (chain.first(), chain.next(), store.pool.used_total());
    assert!(chain.append(&mut store, &mut memory, next, 1000, 0).is_none());
    assert_eq!((first, next, used), (chain.first(), chain.next(), store.pool.used_total()));
}
