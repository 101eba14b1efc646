//! What the control plane wants of a shard: new limits, and answers to what an operator asks.
//!
//! Owns: the orders, the answers, and the one order that is being done. Touches: changes the limits; questions are answered by
//! [`super::look`], connections end by [`super::disconnect`], what is taken back is taken by [`super::grant::revoke`], and what is handed
//! over goes by [`super::handover`]. Never: takes longer than a slice of a turn, waits for the control plane, or grows: each order has
//! one answer of bounded length.

use super::Shard;
use super::errand::{Answer, Disconnecting, Dumping, Errand, Look, Page, Said, Wanted, Whom};
use super::limits::Limits;
use super::session::request::embed;
use super::timings::low_bits;
use crate::io::driver::Driver;
use crate::mesh::{Content, Name};
use crate::reach::{Mark, reach};

impl Shard {
    /// Does one order of the control plane, or a part of it, and hears verdicts of the authority. To be called if [`Links::has_orders`](crate::mesh::Links::has_orders).
    #[cold]
    pub(super) fn obey<D: Driver>(&mut self, driver: &mut D) {
        self.crossings.links.take_orders();
        let begun = (
            self.look.take(),
            self.revoking.take(),
            self.dumping.take(),
            self.settling.take(),
            self.disconnecting.take(),
        );
        let answer = match begun {
            (Some(look), ..) => self.look_on(look),
            (_, Some(revoking), ..) => self.revoke_on(driver, revoking),
            (_, _, Some(dumping), ..) => self.dump_on(driver, dumping),
            (.., Some((number, unheard)), _) => self.settle_on(number, unheard),
            (.., Some(disconnecting)) => self.disconnect_on(driver, disconnecting),
            (None, None, None, None, None) => match self.crossings.links.next_order() {
                None => None,
                Some(Errand { number, wish: Wanted::Set(limits) }) => {
                    Some(Answer { number, said: Said::Applied(self.hold_to(limits)) })
                }
                Some(Errand { number, wish: Wanted::Ask(question, rows_max) }) => {
                    self.look_on(Look::new(number, question, rows_max))
                }
                Some(Errand { number, wish: Wanted::Describe(topic) }) => {
                    Some(Answer { number, said: Said::Described(Box::new(self.describe(driver, &topic))) })
                }
                Some(Errand { number, wish: Wanted::Inspect(slot) }) => {
                    Some(Answer { number, said: Said::Inspected(self.inspect(slot).map(Box::new)) })
                }
                Some(Errand { number, wish: Wanted::Disconnect(whom) }) => {
                    let next = if let Whom::Slot(slot, _) = whom { slot as usize } else { 0 };
                    self.disconnect_on(driver, Box::new(Disconnecting { number, whom, next, ended: 0 }))
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
        let unfinished = self.look.is_some()
            || self.revoking.is_some()
            || self.dumping.is_some()
            || self.settling.is_some()
            || self.disconnecting.is_some();
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
        if self.demand.is_told {
            self.demand.look = Some(0);
        }
        if self.limits.rules.presence_any() || limits.rules.presence_any() {
            self.attendance.look = Some(0);
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
        let content =
            Content { event: "", payload, text: true, at_us: low_bits(self.clock.now_us), ..Default::default() };
        // What finds no room is not told: there is more in a second.
        if self.record_and_relay(driver, topic, content).is_ok() {
            self.stats.news += 1;
        }
    }
}
