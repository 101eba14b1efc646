//! The oracle on trial: it must see every lie, and accept the truth.

use corecast::shard::with_holes;

use crate::oracle::{Cursor, Oracle, Since, Told, Watch};
use crate::rng::Rng;

const EPOCH: u32 = 0xABCD;

fn at(seq: u64) -> Cursor {
    Cursor { epoch: EPOCH, seq }
}

/// Publishes payloads `1..=count` to topic `t`, numbered by nobody yet.
fn published(count: usize) -> (Oracle, Vec<Vec<u8>>) {
    let mut oracle = Oracle::default();
    let mut rng = Rng::new(1);
    let payloads = (0..count)
        .map(|_| {
            let mut sent = oracle.publish(&mut rng, "t", 0, 50);
            oracle.without_event(&mut sent);
            sent.bytes
        })
        .collect();
    (oracle, payloads)
}

/// Shows a live watch of topic `t` the messages with these numbers.
fn show(seqs: &[u64]) {
    let (mut oracle, payloads) = published(10);
    let mut watch = Watch::new("t", Since::Live);
    watch.head_told(&mut oracle, at(0));
    for seq in seqs {
        watch.message(&mut oracle, at(*seq), None, &payloads[*seq as usize - 1]);
    }
}

/// Everything once and in order is accepted, and is all there is only when the head is reached.
#[test]
fn the_truth_is_accepted() {
    show(&[1, 2, 3, 4]);
    let (mut oracle, payloads) = published(3);
    let mut watch = Watch::new("t", Since::After(at(0)));
    watch.message(&mut oracle, at(1), None, &payloads[0]);
    oracle.answered(2, at(3));
    assert!(!watch.is_complete(&oracle));
    let told = Told { topic: "t", from: "0000abcd-1", to: "0000abcd-2", count: 1, reason: "overflow" };
    watch.gap(&mut oracle, told);
    watch.message(&mut oracle, at(3), None, &payloads[2]);
    assert!(watch.is_complete(&oracle));
    oracle.check_order();
}

/// A message twice is seen.
#[test]
#[should_panic(expected = "again or out of order")]
fn a_repetition() {
    show(&[1, 2, 2]);
}

/// A message that nobody told lost is seen.
#[test]
#[should_panic(expected = "that nobody told")]
fn a_hole() {
    show(&[1, 3]);
}

/// A live subscription that misses its first message is seen.
#[test]
#[should_panic(expected = "that nobody told")]
fn a_hole_at_the_start() {
    show(&[2]);
}

/// A gap that counts wrong is seen.
#[test]
#[should_panic(expected = "count of a gap is exact")]
fn a_wrong_count() {
    let (mut oracle, _) = published(1);
    let mut watch = Watch::new("t", Since::After(at(3)));
    let told = Told { topic: "t", from: "0000abcd-3", to: "0000abcd-6", count: 2, reason: "expired" };
    watch.gap(&mut oracle, told);
}

/// Where homes leave numbers out, what they give is accepted, and every lie about it is seen: a hole where one of their numbers
/// is, a number that they do not give, a count that is the difference of two numbers.
#[test]
fn numbers_that_are_left_out() {
    let lie = |seqs: &[u64], count| {
        let (mut oracle, payloads) = published(10);
        oracle.numbers.leaves_out = true;
        let mut watch = Watch::new("t", Since::After(at(0)));
        for (seq, payload) in seqs.iter().zip(&payloads) {
            watch.message(&mut oracle, at(*seq), None, payload);
        }
        let (from, to) = (at(seqs[1]), at(with_holes(EPOCH, 7)));
        let (from, to) = (from.to_string(), to.to_string());
        watch.gap(&mut oracle, Told { topic: "t", from: &from, to: &to, count, reason: "overflow" });
    };
    let seqs: Vec<u64> = (0..8).map(|nth| with_holes(EPOCH, nth)).collect();
    let given = |number| seqs.contains(&number);
    lie(&[seqs[1], seqs[2]], 5);
    assert!(!given(3) || !given(4), "numbers are left out");
    let not_given = (1..seqs[7]).find(|number| !given(*number)).expect("some are left out");
    for (seqs, count) in [
        (vec![seqs[1], seqs[3]], 4),
        (vec![seqs[1], seqs[1] + not_given], 5),
        (vec![seqs[1], seqs[2]], seqs[7] - seqs[2]),
        (vec![seqs[1], seqs[2]], 4),
    ] {
        let seen = std::panic::catch_unwind(|| lie(&seqs, count));
        assert!(seen.is_err(), "{seqs:?}, and a gap of {count}");
    }
}

/// A snapshot older than the newest message is seen.
#[test]
#[should_panic(expected = "asked for from 7 on")]
fn an_old_snapshot() {
    let (mut oracle, payloads) = published(10);
    let mut watch = Watch::new("t", Since::Latest);
    watch.head_told(&mut oracle, at(7));
    watch.message(&mut oracle, at(6), None, &payloads[5]);
}

/// A payload under a number that is another's is seen.
#[test]
#[should_panic(expected = "have the same cursor")]
fn two_of_one_number() {
    let (mut oracle, payloads) = published(2);
    oracle.answered(0, at(1));
    oracle.saw("t", at(1), None, &payloads[1]);
}

/// A changed byte is seen.
#[test]
#[should_panic(expected = "was changed on the way")]
fn a_changed_byte() {
    let (oracle, payloads) = published(1);
    let mut bytes = payloads[0].clone();
    bytes[20] ^= 1;
    oracle.identify("t", &bytes);
}

/// A message on a topic it was not published to is seen.
#[test]
#[should_panic(expected = "came on another topic")]
fn a_stray() {
    let (oracle, payloads) = published(1);
    oracle.identify("other", &payloads[0]);
}

/// A message that was refused and yet delivered is seen.
#[test]
#[should_panic(expected = "refused and delivered")]
fn a_refused_one() {
    let (mut oracle, payloads) = published(1);
    oracle.refused(0);
    oracle.identify("t", &payloads[0]);
}

/// Publishes of one connection that changed places are seen.
#[test]
#[should_panic(expected = "on one connection")]
fn changed_places() {
    let (mut oracle, _) = published(2);
    oracle.answered(0, at(2));
    oracle.answered(1, at(1));
    oracle.check_order();
}

/// Raw messages that changed places are seen, whoever learned their cursors, and whenever.
#[test]
#[should_panic(expected = "a raw subscriber of t saw")]
fn changed_places_raw() {
    let (mut oracle, _) = published(2);
    oracle.saw_raw("t", vec![1, 0]);
    oracle.answered(0, at(1));
    oracle.answered(1, at(2));
    oracle.check_raw();
}
