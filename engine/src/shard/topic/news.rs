//! Which of a connection's several subscriptions have news: a circle of memberships, in the order in which they are looked at.
//!
//! Owns the links `news_next` and `news_previous`; a connection knows the first one. Invariant: a membership stands in the circle
//! of its connection exactly when its subscriber is flagged `NEWS`.

use crate::shard::memory::slab::Slab;
use crate::shard::topic::topics::{Membership, NEWS, NONE, Topics};

/// Puts a membership, whose subscriber is flagged, behind those that have news; returns the first of them.
pub(in crate::shard) fn link_news(memberships: &mut Slab<Membership>, first: u32, membership: u32) -> u32 {
    let (next, previous) = match memberships.get(first as usize) {
        Some(place) => (first, place.news_previous),
        None => (membership, membership),
    };
    let place = &mut memberships[membership as usize];
    (place.news_next, place.news_previous) = (next, previous);
    if next == membership {
        return membership;
    }
    memberships[next as usize].news_previous = membership;
    memberships[previous as usize].news_next = membership;
    first
}

impl Topics {
    /// Puts a membership behind those that have news, of which `first` is the first of its connection; returns the first.
    pub(in crate::shard) fn add_news(&mut self, first: u32, membership: u32) -> u32 {
        let subscriber = self.subscriber_mut(membership);
        if subscriber.flags & NEWS != 0 {
            return first;
        }
        subscriber.flags |= NEWS;
        link_news(&mut self.memberships, first, membership)
    }

    /// Takes a membership out of those that have news, of which `first` is the first; returns the first.
    pub(in crate::shard) fn take_news(&mut self, first: u32, membership: u32) -> u32 {
        let subscriber = self.subscriber_mut(membership);
        if subscriber.flags & NEWS == 0 {
            return first;
        }
        subscriber.flags &= !NEWS;
        let Membership { news_next, news_previous, .. } = self.memberships[membership as usize];
        let place = &mut self.memberships[membership as usize];
        (place.news_next, place.news_previous) = (NONE, NONE);
        if news_next == membership {
            return NONE;
        }
        self.memberships[news_next as usize].news_previous = news_previous;
        self.memberships[news_previous as usize].news_next = news_next;
        if first == membership { news_next } else { first }
    }

    /// Returns the last of the memberships that have news, of which `first` is the first.
    pub(in crate::shard) fn last_news(&self, first: u32) -> u32 {
        self.memberships.get(first as usize).map_or(NONE, |place| place.news_previous)
    }

    /// Returns how many memberships have news, of which `first` is the first.
    pub(in crate::shard) fn count_news(&self, first: u32) -> u32 {
        let mut count = 0;
        let mut membership = first;
        while let Some(place) = self.memberships.get(membership as usize) {
            count += 1;
            membership = place.news_next;
            if membership == first {
                break;
            }
        }
        count
    }
}
