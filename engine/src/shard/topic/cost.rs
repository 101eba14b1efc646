//! What a topic costs: the sums that the documents name, taken from the tables themselves.

use crate::mesh::Name;
use crate::shard::dialect::view::ALL;
use crate::shard::dialect::{Coding, Dialect, Shape};
use crate::shard::rules::Mode;
use crate::shard::topic::home::Homes;
use crate::shard::topic::member::{Hearing, Member};
use crate::shard::topic::topics::{LOOK, NONE, Speed, Topics};

/// Names of 40 bytes.
fn text_of(n: u64) -> String {
    format!("{n:040}")
}

fn hash_of(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A topic with one subscriber costs at most 400 bytes over both ends besides its name, and a topic that was only published to at
/// most 150; wherever the tables stand that grow by doubling, and for subscribers with so many topics that they find them by a table.
#[test]
fn a_topic_costs_little() {
    let (mut topics, mut homes) = (Topics::new(), Homes::new(1));
    let dialect = Dialect::new(Shape::Line, Coding::Plain);
    let mut first = NONE;
    let (mut read_most, mut published_most) = (0, 0);
    for n in 0..200_000u64 {
        let text = text_of(n);
        let name = Name { hash: hash_of(n), text: &text };
        let home = homes.make(name);
        if n >= 20_000 {
            published_most = published_most.max(homes.bytes() / (n + 1));
        }
        let topic = topics.make(name, 0, false, Mode::Distinct);
        let log = topics.log_of(topic, dialect, ALL);
        let subscription = topics.join(log, 0, LOOK, Speed::default());
        first = topics.link(first, subscription, n as u32);
        homes.add_member(home, Member { shard: 0, id: topic, generation: 0, hearing: Hearing::Live, wants_old: false });
        if n >= 20_000 {
            read_most = read_most.max((homes.bytes() + topics.bytes()) / (n + 1));
        }
    }
    let (read, published) = (read_most - 2 * 40, published_most - 40);
    println!("a topic that is read costs {read} bytes, one that was published to {published}");
    assert!(read <= 440, "{read} bytes");
    assert!(published <= 150, "{published} bytes");
}

/// When most topics have gone, so has most of what they took.
#[test]
fn topics_give_back_what_they_took() {
    let (mut topics, mut homes) = (Topics::new(), Homes::new(1));
    let dialect = Dialect::new(Shape::Line, Coding::Plain);
    let mut all = Vec::new();
    for n in 0..100_000 {
        let text = text_of(n);
        let name = Name { hash: hash_of(n), text: &text };
        let (home, topic) = (homes.make(name), topics.make(name, 0, false, Mode::Distinct));
        let log = topics.log_of(topic, dialect, ALL);
        homes.add_member(home, Member { shard: 0, id: topic, generation: 0, hearing: Hearing::Live, wants_old: false });
        all.push((home, topic, log, topics.join(log, 0, LOOK, Speed::default())));
    }
    let full = topics.bytes() + homes.bytes();
    for (home, topic, log, subscription) in all.drain(1_000..) {
        topics.leave(subscription);
        topics.unlink_log(log);
        topics.forget_log(log);
        topics.remove(topic);
        homes.remove_member(home, 0, topic, 0);
    }
    let left = topics.bytes() + homes.bytes();
    assert!(left < full / 10, "{left} of {full} bytes are left");
}
