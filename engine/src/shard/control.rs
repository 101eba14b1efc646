//! What the control plane wants of a shard: new limits, and answers to what an operator asks.
//!
//! Owns: the orders, the answers, and the one order that is being done. Touches: reads everything, changes the limits; what is taken
//! back is taken by [`super::grant::revoke`], and what is handed over goes by [`super::handover`].
//! Never: takes longer than a slice of a turn ([`LOOKS`]), waits for the control plane, or grows: each order has one answer of
//! bounded length. A look that takes several turns is no snapshot: what moves meanwhile may be missing, or stand there twice.

use super::Shard;
use super::errand::{Answer, ConnectionRow, Dumping, Errand, Look, Most, Page, Rows, Said, SlowRow, TopicRow, Wanted};
use super::limits::Limits;
use super::memory::wheel::TICK_MS;
use super::session::request::embed;
use super::slot::connection::Life;
use super::timings::low_bits;
use super::topic::topics::UNRESOLVED;
use crate::io::driver::{Driver, Slot};
use crate::mesh::{Content, Name};
use crate::reach::{Mark, reach};

/// Connections, topics or subscribers that a turn looks at: 1,024 take some 20 to 100 µs, most of it waiting for memory.
const LOOKS: usize = 1024;

impl Shard {
    /// Does one order of the control plane, or a part of it, and hears verdicts of the authority. To be called if [`Links::has_orders`](crate::mesh::Links::has_orders).
    #[cold]
    pub(super) fn obey<D: Driver>(&mut self, driver: &mut D) {
        self.crossings.links.take_orders();
        let begun = (self.look.take(), self.revoking.take(), self.dumping.take(), self.settling.take());
        let answer = match begun {
            (Some(look), ..) => self.look_on(look),
            (_, Some(revoking), ..) => self.revoke_on(driver, revoking),
            (_, _, Some(dumping), _) => self.dump_on(driver, dumping),
            (.., Some((number, unheard))) => self.settle_on(number, unheard),
            (None, None, None, None) => match self.crossings.links.next_order() {
                None => None,
                Some(Errand { number, wish: Wanted::Set(limits) }) => {
                    Some(Answer { number, said: Said::Applied(self.hold_to(limits)) })
                }
                Some(Errand { number, wish: Wanted::Ask(question, rows_max) }) => {
                    self.look_on(Look::new(number, question, rows_max))
                }
                Some(Errand { number, wish: Wanted::Revoke(revocations) }) => {
                    let revoking = self.begin_revoking(number, revocations);
                    self.revoke_on(driver, revoking)
                }
                Some(Errand { number, wish: Wanted::Freeze(frozen) }) => {
                    self.freeze(driver, frozen);
                    Some(Answer { number, said: Said::Frozen })
                }
                Some(Errand { number, wish: Wanted::Tell { topic, remembered, payload } }) => {
                    self.tell_news(driver, topic, remembered, &payload);
                    Some(Answer { number, said: Said::Told })
                }
                Some(Errand { number, wish: Wanted::Sign }) => Some(Answer { number, said: Said::Alive }),
                Some(Errand { number, wish: Wanted::Settle }) => self.settle_on(number, self.all_shards()),
                Some(Errand { number, wish: Wanted::Dump(place, bytes_max) }) => {
                    self.dump_on(driver, Box::new(Dumping { number, place, bytes_max, page: Page::default() }))
                }
            },
        };
        if let Some(answer) = answer {
            self.crossings.links.answer(answer);
            driver.wake(self.crossings.links.shards());
        }
        let unheard = self.hear_verdicts();
        let unfinished =
            self.look.is_some() || self.revoking.is_some() || self.dumping.is_some() || self.settling.is_some();
        if unheard || unfinished || self.crossings.links.has_next_order() {
            self.crossings.links.put_off_orders();
        }
    }

    /// Holds to new limits from now on; returns the old ones. What sizes were made from at the start stays as it is.
    fn hold_to(&mut self, mut limits: Box<Limits>) -> Box<Limits> {
        let old = &mut self.limits;
        limits.message_bytes_max = old.message_bytes_max;
        limits.head_bytes_max = old.head_bytes_max;
        limits.private_bytes_max = old.private_bytes_max;
        limits.connections_max = old.connections_max;
        limits.memory_bytes = old.memory_bytes;
        limits.loopback.clone_from(&old.loopback);
        limits.ports.clone_from(&old.ports);
        limits.tls.clone_from(&old.tls);
        limits.inside = old.inside;
        limits.announced.clone_from(&old.announced);
        if limits.origins != old.origins {
            self.frame_policy = embed::frame_policy(&limits.origins, &limits.loopback);
        }
        if self.stats.connections > 0 {
            reach(Mark::LimitsChanged);
        }
        std::mem::swap(old, &mut limits);
        if limits.asks.subscribe | limits.asks.publish {
            self.trust.forget_topics();
        }
        self.homes.rules_changed();
        if self.limits.rules.count_any() || limits.rules.count_any() {
            self.recounts.look_at_all();
        }
        self.all_may = self.is_open_to_all();
        self.metered = self.limits.quotas.meters();
        self.access.set(self.limits.access_log);
        limits
    }

    /// Publishes a message of the engine's own. One that nobody reads is not kept, and neither are those before it.
    fn tell_news<D: Driver>(&mut self, driver: &mut D, topic: &str, remembered: bool, payload: &[u8]) {
        if self.frozen {
            return;
        }
        let topic = Name { hash: self.hash_topic(topic), text: topic };
        let home = self.homes.find(topic);
        if !remembered && !home.is_some_and(|home| self.homes.has_audience(home)) {
            if let Some(home) = home {
                self.homes.clear(home, &mut self.store);
            }
            return;
        }
        let content = Content { event: "", payload, text: true, at_us: low_bits(self.clock.now_us) };
        // What finds no room is not told: there is more in a second.
        if self.record_and_relay(driver, topic, content).is_some() {
            self.stats.news += 1;
        }
    }

    /// Looks at so much as a turn has time for; returns the answer, if that was all.
    fn look_on(&mut self, mut look: Box<Look>) -> Option<Answer> {
        let Look { next, place, rows_max, rows, .. } = &mut *look;
        let over = match rows {
            Rows::Connections(rows) => self.look_at_connections(next, *rows_max, rows),
            Rows::Topics(rows) => self.look_at_homes(next, *rows_max, rows),
            Rows::Slow(rows) => self.look_at_subscribers(next, place, *rows_max, rows),
        };
        if over {
            return Some(look.into_answer());
        }
        reach(Mark::AnsweredInTurns);
        self.look = Some(look);
        None
    }

    fn look_at_connections(&self, next: &mut usize, rows_max: usize, rows: &mut Vec<ConnectionRow>) -> bool {
        let end = self.slots.connections.len().min(*next + LOOKS);
        for slot in *next..end {
            if rows.len() >= rows_max {
                return true;
            }
            let connection = &self.slots.connections[slot];
            if connection.life != Life::Free {
                rows.push(ConnectionRow {
                    slot: slot as Slot,
                    peer: connection.peer(),
                    kind: connection.kind.name(),
                    subscriptions: connection.subscriptions,
                    queued_bytes: self.queued_bytes(slot),
                    heard_ms: u64::from(self.clock.tick.wrapping_sub(connection.heard_tick)) * TICK_MS,
                });
            }
        }
        *next = end;
        end == self.slots.connections.len() || rows.len() >= rows_max
    }

    fn look_at_homes(&self, next: &mut usize, rows_max: usize, rows: &mut Most<TopicRow>) -> bool {
        let places = self.homes.places();
        let end = places.min(*next + LOOKS);
        for place in *next..end {
            if let Some((name, epoch, head, messages, bytes)) = self.homes.remembered(&self.store, place) {
                rows.keep(bytes, rows_max, || {
                    let topic = name.to_owned();
                    let readers = self.readers_of(name);
                    TopicRow { topic, messages, bytes, epoch, head, readers }
                });
            }
        }
        *next = end;
        end == places
    }

    fn look_at_subscribers(
        &self,
        log: &mut usize,
        place: &mut usize,
        rows_max: usize,
        rows: &mut Most<SlowRow>,
    ) -> bool {
        let mut looks = 0;
        while *log < self.topics.logs.bound() {
            let Some(frame_log) = self.topics.logs.get(*log) else {
                (*log, *place, looks) = (*log + 1, 0, looks + 1);
                if looks >= LOOKS {
                    return false;
                }
                continue;
            };
            let next = frame_log.chain.next();
            let end = frame_log.subscribers.len().min(*place + LOOKS.saturating_sub(looks));
            for subscriber in frame_log.subscribers.get(*place..end).unwrap_or_default() {
                if subscriber.flags & UNRESOLVED != 0 || subscriber.pending(next) == 0 {
                    continue;
                }
                let behind = subscriber.pending(next);
                let slot = subscriber.slot;
                rows.keep(behind, rows_max, || SlowRow {
                    slot,
                    peer: self.slots.connections[slot as usize].peer(),
                    topic: self.topics.name(frame_log.topic).text.to_owned(),
                    behind,
                    queued_bytes: self.queued_bytes(slot as usize),
                });
            }
            looks += 1 + end.saturating_sub(*place);
            *place = end;
            if *place >= frame_log.subscribers.len() {
                (*log, *place) = (*log + 1, 0);
            }
            if looks >= LOOKS {
                return *log >= self.topics.logs.bound();
            }
        }
        true
    }

    fn queued_bytes(&self, slot: usize) -> u32 {
        self.slots.actives.get(self.slots.connections[slot].active as usize).map_or(0, |active| active.queue.len())
    }
}
