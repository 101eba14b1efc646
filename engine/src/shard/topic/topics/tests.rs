//! Topics and who reads them, by themselves.

use super::*;
use crate::shard::dialect::view::ALL;
use crate::shard::dialect::{Coding, Shape};
use crate::shard::rules::Mode;

/// However many topics a connection has, each is found by its name, and no other: subscriptions that come and go in any
/// order, on several connections, are those of plain lists; the table holds those of connections with many, and nothing
/// else. (Finding one used to cost a look at each.)
#[test]
fn like_plain_lists() {
    let mut topics = Topics::new();
    let ids: Vec<u32> = (0..40u64)
        .map(|n| topics.make(Name { hash: n.wrapping_mul(0x9E37_79B9_7F4A_7C15), text: "t" }, 0, false, Mode::Distinct))
        .collect();
    let dialect = Dialect::new(Shape::Line, Coding::Plain);
    let mut lists: Vec<Vec<(u32, u32)>> = vec![Vec::new(); 4];
    let mut firsts = [NONE; 4];
    let mut seed = 5u64;
    let mut entered_max = 0;
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let dice = (seed >> 33) as usize;
        let slot = dice % lists.len();
        let topic = ids[dice / 4 % ids.len()];
        let others = lists[slot].len() as u32;
        let known = lists[slot].iter().position(|(other, _)| *other == topic);
        let found = topics.subscription_of(slot as u32, firsts[slot], others, topic);
        assert_eq!(found, known.map(|at| lists[slot][at].1));
        // Towards many in the first half of every thousand, towards few in the other.
        let grows = dice / 160 % 3 > usize::from((dice / 500).is_multiple_of(2));
        match known {
            None if grows => {
                let log = topics.log_of(topic, dialect, ALL);
                let subscription = topics.join(log, slot as u32, LOOK, Speed::default());
                firsts[slot] = topics.link(firsts[slot], subscription, others);
                lists[slot].push((topic, subscription));
            }
            Some(at) if !grows => {
                let (_, subscription) = lists[slot].swap_remove(at);
                firsts[slot] = topics.unlink(firsts[slot], subscription, others - 1);
                topics.leave(subscription);
            }
            _ => {}
        }
        let many = lists.iter().map(Vec::len).filter(|count| *count > FEW as usize);
        let entered: usize = many.sum();
        assert_eq!(topics.entered(), entered);
        entered_max = entered_max.max(entered);
    }
    assert!(entered_max > 20, "the connections never had many: the test is too tame");
}
