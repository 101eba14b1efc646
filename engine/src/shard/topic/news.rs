//! Which of a connection's several subscriptions have news: a circle of subscriptions, in the order in which they are looked at.
//!
//! Owns the links `news_next` and `news_previous`; a connection knows the first one. Invariant: a subscription stands in the circle
//! of its connection exactly when its subscriber is flagged `NEWS`.

use crate::shard::memory::slab::Slab;
use crate::shard::topic::topics::{NEWS, NONE, Subscription, Topics};

/// Puts a subscription, whose subscriber is flagged, behind those that have news; returns the first of them.
pub(in crate::shard) fn link_news(subscriptions: &mut Slab<Subscription>, first: u32, subscription: u32) -> u32 {
    let (next, previous) = match subscriptions.get(first as usize) {
        Some(place) => (first, place.news_previous),
        None => (subscription, subscription),
    };
    let place = &mut subscriptions[subscription as usize];
    (place.news_next, place.news_previous) = (next, previous);
    if next == subscription {
        return subscription;
    }
    subscriptions[next as usize].news_previous = subscription;
    subscriptions[previous as usize].news_next = subscription;
    first
}

impl Topics {
    /// Puts a subscription behind those that have news, of which `first` is the first of its connection; returns the first.
    pub(in crate::shard) fn add_news(&mut self, first: u32, subscription: u32) -> u32 {
        let subscriber = self.subscriber_mut(subscription);
        if subscriber.flags & NEWS != 0 {
            return first;
        }
        subscriber.flags |= NEWS;
        link_news(&mut self.subscriptions, first, subscription)
    }

    /// Takes a subscription out of those that have news, of which `first` is the first; returns the first.
    pub(in crate::shard) fn take_news(&mut self, first: u32, subscription: u32) -> u32 {
        let subscriber = self.subscriber_mut(subscription);
        if subscriber.flags & NEWS == 0 {
            return first;
        }
        subscriber.flags &= !NEWS;
        let Subscription { news_next, news_previous, .. } = self.subscriptions[subscription as usize];
        let place = &mut self.subscriptions[subscription as usize];
        (place.news_next, place.news_previous) = (NONE, NONE);
        if news_next == subscription {
            return NONE;
        }
        self.subscriptions[news_next as usize].news_previous = news_previous;
        self.subscriptions[news_previous as usize].news_next = news_next;
        if first == subscription { news_next } else { first }
    }

    /// Returns the last of the subscriptions that have news, of which `first` is the first.
    pub(in crate::shard) fn last_news(&self, first: u32) -> u32 {
        self.subscriptions.get(first as usize).map_or(NONE, |place| place.news_previous)
    }

    /// Returns how many subscriptions have news, of which `first` is the first.
    pub(in crate::shard) fn count_news(&self, first: u32) -> u32 {
        let mut count = 0;
        let mut subscription = first;
        while let Some(place) = self.subscriptions.get(subscription as usize) {
            count += 1;
            subscription = place.news_next;
            if subscription == first {
                break;
            }
        }
        count
    }
}
