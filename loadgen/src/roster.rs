//! The connections of a lane by number: which socket each has, how it stands, and what it has seen.
//!
//! Owns what outlives a socket. A number goes from waiting to dialing to joining to ready; one that is dropped, or leaves,
//! waits again. One that fails stays failed: what it misses afterwards is no loss. Never: touches the ring.

use std::collections::VecDeque;

use corecast::io::driver::Slot;

use crate::account::Account;
use crate::plan::Plan;
use crate::subscription::Subscription;
use crate::tally::Tally;

/// No socket.
const NOWHERE: Slot = Slot::MAX;

/// How a number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Has no socket, and waits to be dialed.
    Waiting,
    /// Is on its way to the server.
    Dialing,
    /// Has a connection, and is not subscribed yet.
    Joining,
    Ready,
    /// Its socket is being closed, and it comes back.
    Leaving,
    /// Failed in this phase.
    Failed,
    /// Failed earlier.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    slot: Slot,
    /// When it was dialed, since the roster was made; in microseconds, wraps.
    dialed_us: u32,
    standing: Standing,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Roster {
    /// Number of the first connection.
    first: u32,
    /// Subscriptions of each.
    stride: usize,
    places: Vec<Place>,
    subscriptions: Vec<Subscription>,
    waiting: VecDeque<u32>,
    /// In the order of dialing: connections get their numbers in the order they come.
    dialing: VecDeque<u32>,
    ready: u32,
    failed: u32,
    born_ns: u64,
}

impl Roster {
    pub(crate) fn new(plan: &Plan, first: u32, count: u32, now_ns: u64) -> Roster {
        let stride = plan.subscriptions();
        let place = Place { slot: NOWHERE, dialed_us: 0, standing: Standing::Waiting };
        Roster {
            first,
            stride,
            places: vec![place; count as usize],
            subscriptions: (0..count as usize * stride).map(|_| Subscription::default()).collect(),
            waiting: (0..count).collect(),
            dialing: VecDeque::new(),
            ready: 0,
            failed: 0,
            born_ns: now_ns,
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.places.len() as u32
    }

    pub(crate) fn ready(&self) -> u32 {
        self.ready
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// Returns how many are neither ready nor failed.
    pub(crate) fn pending(&self) -> u32 {
        self.count() - self.ready - self.failed
    }

    /// Returns how many are on their way.
    pub(crate) fn under_way(&self) -> u32 {
        self.pending() - self.waiting.len() as u32
    }

    /// Returns the number that is dialed next.
    pub(crate) fn next_to_dial(&self) -> Option<u32> {
        self.waiting.front().map(|place| self.first + place)
    }

    /// Takes note that the next number is dialed.
    pub(crate) fn dialed(&mut self, now_ns: u64) {
        let place = self.waiting.pop_front().expect("somebody was asked to be dialed");
        let us = ((now_ns - self.born_ns) / 1_000) as u32;
        (self.places[place as usize].dialed_us, self.places[place as usize].standing) = (us, Standing::Dialing);
        self.dialing.push_back(place);
    }

    /// Gives the connection that stands now, or failed to, a number; says whether that is still waited for.
    pub(crate) fn connected(&mut self, slot: Slot) -> (u32, bool) {
        let index = self.dialing.pop_front().expect("only what was dialed comes");
        let place = &mut self.places[index as usize];
        let waited_for = place.standing == Standing::Dialing;
        if waited_for {
            (place.slot, place.standing) = (slot, Standing::Joining);
        }
        (self.first + index, waited_for)
    }

    /// Gives up those who were not dialed yet.
    pub(crate) fn dial_no_more(&mut self) {
        self.waiting.clear();
    }

    /// Takes note that a number is subscribed.
    pub(crate) fn joined(&mut self, number: u32, account: &mut Account, now_ns: u64) {
        let born_ns = self.born_ns;
        let place = self.place(number);
        place.standing = Standing::Ready;
        let us = (((now_ns - born_ns) / 1_000) as u32).wrapping_sub(place.dialed_us);
        account.connected(u64::from(us) * 1_000, now_ns);
        self.ready += 1;
    }

    /// Takes note that a number will not come back.
    pub(crate) fn fail(&mut self, number: u32) {
        let place = self.place(number);
        let was = std::mem::replace(&mut place.standing, Standing::Failed);
        place.slot = NOWHERE;
        if !matches!(was, Standing::Failed | Standing::Gone) {
            self.ready -= u32::from(was == Standing::Ready);
            self.failed += 1;
        }
    }

    /// Takes note that a number loses its socket and comes back; returns its socket, if it has one.
    pub(crate) fn leave(&mut self, number: u32) -> Option<Slot> {
        let place = self.place(number);
        let ready = place.standing == Standing::Ready;
        if !ready && place.standing != Standing::Joining {
            return None;
        }
        place.standing = Standing::Leaving;
        let slot = place.slot;
        self.ready -= u32::from(ready);
        Some(slot)
    }

    /// Takes note that the socket of one that left is closed.
    pub(crate) fn left(&mut self, number: u32) {
        let index = number - self.first;
        let place = self.place(number);
        debug_assert_eq!(place.standing, Standing::Leaving);
        (place.slot, place.standing) = (NOWHERE, Standing::Waiting);
        self.waiting.push_back(index);
    }

    /// Forgets what a number has seen: another comes in its place. Its account is closed.
    pub(crate) fn replace(&mut self, number: u32, account: &mut Account) {
        for subscription in self.subscriptions(number) {
            subscription.seen.settle_holes(&mut account.counts);
            *subscription = Subscription::default();
        }
    }

    pub(crate) fn standing(&self, number: u32) -> Standing {
        self.places[(number - self.first) as usize].standing
    }

    pub(crate) fn numbers(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.count()
    }

    /// Lends what a number has seen.
    #[inline]
    pub(crate) fn subscriptions(&mut self, number: u32) -> &mut [Subscription] {
        let start = (number - self.first) as usize * self.stride;
        &mut self.subscriptions[start..start + self.stride]
    }

    /// Goes through those that are subscribed, with their sockets.
    pub(crate) fn subscribed(&self) -> impl Iterator<Item = (u32, Slot)> {
        let ready = self.places.iter().zip(self.first..).filter(|(place, _)| place.standing == Standing::Ready);
        ready.map(|(place, number)| (number, place.slot))
    }

    /// Returns how many messages may still come.
    pub(crate) fn outstanding(&self, plan: &Plan, tally: &Tally) -> u64 {
        let mut sum = 0;
        for (place, (number, subscriptions)) in
            self.places.iter().zip((self.first..).zip(self.subscriptions.chunks_exact(self.stride)))
        {
            if place.standing == Standing::Ready {
                for (subscription, topic) in subscriptions.iter().zip(plan.topics_of_connection(number)) {
                    sum += subscription.seen.outstanding(tally.published(topic));
                }
            }
        }
        sum
    }

    /// Closes the account of a phase: what has not come by now is lost. Those who failed are not looked at again.
    pub(crate) fn settle(&mut self, plan: &Plan, tally: &Tally, account: &mut Account) {
        for (place, (number, subscriptions)) in
            self.places.iter_mut().zip((self.first..).zip(self.subscriptions.chunks_exact_mut(self.stride)))
        {
            if place.standing == Standing::Gone {
                continue;
            }
            for (subscription, topic) in subscriptions.iter_mut().zip(plan.topics_of_connection(number)) {
                if subscription.begun() {
                    subscription.seen.settle(tally.published(topic), &mut account.counts);
                }
            }
            if place.standing == Standing::Failed {
                place.standing = Standing::Gone;
            }
        }
    }

    fn place(&mut self, number: u32) -> &mut Place {
        &mut self.places[(number - self.first) as usize]
    }
}
