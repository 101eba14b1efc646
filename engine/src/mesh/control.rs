//! The control plane's end of the mesh: a pair of rings with each shard, orders one way and answers the other.
//!
//! ```text
//!   control plane ──orders (8)──▶ shard        mail: a flag beside those of the other shards
//!                 ◀─answers (8)──              bell: `driver.wake(shards)`, the number behind the last shard
//! ```
//!
//! It is no end number `shards` of the rings of bytes: a set of shards has no room for it beside 256 of them, and what is said here
//! (limits, rows of a list) is said seldom, by value, and needs no encoding. What a turn pays for it is one relaxed load of the
//! cache line that its mail stands on, and one branch that is hardly ever taken.
//!
//! Invariants: each order has one answer, and at most [`OWED_MAX`] answers of a shard are owed or unread: so there is always room
//! for an answer, and neither a shard that stands still nor a control plane that never reads makes anybody wait, or anything grow.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::Links;
use super::bells::Bells;
use crate::reach::{Mark, reach};
use crate::shard::errand::{Answer, Errand};

/// Orders of which a shard owes the answer, at most: a reload, and a few questions at a time.
pub const OWED_MAX: usize = 8;

/// A shard's end.
#[derive(Debug)]
pub(super) struct Ear {
    orders: Consumer<Errand>,
    answers: Producer<Answer>,
}

/// What the control plane has of one shard.
#[derive(Debug)]
struct Wire {
    orders: Producer<Errand>,
    answers: Consumer<Answer>,
    /// Answers that have not been read.
    owed: usize,
}

/// The control plane's ends.
#[derive(Debug)]
pub struct Control {
    wires: Vec<Wire>,
    bells: Arc<Bells>,
}

impl Control {
    /// Makes the rings between the control plane and so many shards.
    pub(super) fn to(shards: usize, bells: &Arc<Bells>) -> (Control, Vec<Ear>) {
        let pair = |_| {
            let (orders, heard) = RingBuffer::new(OWED_MAX);
            let (said, answers) = RingBuffer::new(OWED_MAX);
            (Wire { orders, answers, owed: 0 }, Ear { orders: heard, answers: said })
        };
        let (wires, ears) = (0..shards).map(pair).unzip();
        (Control { wires, bells: bells.clone() }, ears)
    }

    /// Returns how many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.wires.len()
    }

    /// Says whether a shard can be given an order.
    #[must_use]
    pub fn has_room(&self, to: usize) -> bool {
        self.wires[to].owed < OWED_MAX
    }

    /// Gives a shard an order, and calls `wake` if its core rests; says false, and does nothing, if the shard owes too many answers.
    #[must_use]
    pub fn send(&mut self, to: usize, order: Errand, wake: impl FnOnce(usize)) -> bool {
        if !self.has_room(to) {
            reach(Mark::ControlStalled);
            return false;
        }
        let wire = &mut self.wires[to];
        if wire.orders.push(order).is_err() {
            return false;
        }
        wire.owed += 1;
        self.bells.leave_order(to, wake);
        true
    }

    /// Takes the next answer of a shard.
    pub fn receive(&mut self, from: usize) -> Option<Answer> {
        let wire = &mut self.wires[from];
        let answer = wire.answers.pop().ok()?;
        wire.owed -= 1;
        Some(answer)
    }
}

impl Links {
    /// Says whether the control plane wants something (a new order, or the rest of one that was put off), or the authority has
    /// said something.
    #[inline]
    #[must_use]
    pub fn has_orders(&self) -> bool {
        self.bells.has_order(self.shard)
    }

    /// Takes that mail, before a look at the orders: what is ordered after that look is mail again.
    pub fn take_orders(&self) {
        self.bells.take_order(self.shard);
    }

    /// Leaves mail for the shard itself: an order is not done yet.
    pub fn put_off_orders(&self) {
        self.bells.put_off_order(self.shard);
    }

    /// Takes the next order, in the order in which they were given.
    pub fn next_order(&mut self) -> Option<Errand> {
        self.ear.orders.pop().ok()
    }

    /// Says whether there is a further order.
    #[must_use]
    pub fn has_next_order(&self) -> bool {
        !self.ear.orders.is_empty()
    }

    /// Answers an order; whoever does rings the bell with the number behind the last shard.
    ///
    /// # Panics
    /// If it answers more than there were orders.
    pub fn answer(&mut self, answer: Answer) {
        let pushed = self.ear.answers.push(answer);
        assert!(pushed.is_ok(), "no more answers than orders, and there is room for one of each");
    }
}

#[cfg(test)]
mod tests {
    use super::super::join_with_control;
    use super::*;
    use crate::shard::{By, Question, Wanted};

    fn order(number: u64) -> Errand {
        Errand { number, wish: Wanted::Ask(Question::Topics(By::Bytes), 1) }
    }

    /// Orders come in order, wake a core that rests, once, and keep one awake that is about to.
    #[test]
    fn orders_are_never_slept_over() {
        let (mut links, mut control) = join_with_control(2, 2, 4096);
        let mut woken = Vec::new();
        assert!(links[1].announce_rest());
        assert!(control.send(1, order(1), |shard| woken.push(shard)));
        assert!(control.send(1, order(2), |shard| woken.push(shard)));
        assert_eq!(woken, [1]);
        assert!(!links[0].has_mail() && links[1].has_orders() && !links[1].announce_rest());
        links[1].take_orders();
        assert!(!links[1].has_mail());
        let numbers: Vec<u64> = std::iter::from_fn(|| links[1].next_order()).map(|order| order.number).collect();
        assert_eq!(numbers, [1, 2]);
        links[1].put_off_orders();
        assert!(links[1].has_mail());
    }

    /// A shard that stands still, or answers that nobody reads, fill their rings, and no more; it goes on when they are read.
    #[test]
    fn nothing_grows() {
        let (mut links, mut control) = join_with_control(1, 1, 4096);
        let sent = |control: &mut Control| (0..100).filter(|n| control.send(0, order(*n), |_| {})).count();
        assert_eq!(sent(&mut control), OWED_MAX);
        while let Some(order) = links[0].next_order() {
            links[0].answer(Answer { number: order.number, said: crate::shard::Said::Topics(Vec::new()) });
        }
        assert_eq!(sent(&mut control), 0, "the answers were not read");
        let numbers: Vec<u64> = std::iter::from_fn(|| control.receive(0)).map(|answer| answer.number).collect();
        assert_eq!(numbers, (0..OWED_MAX as u64).collect::<Vec<_>>());
        assert_eq!(sent(&mut control), OWED_MAX);
    }
}
