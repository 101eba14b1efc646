//! Handing histories over: to a file or to another process, and out of one of them.
//!
//! Owns: the freeze, and the page that is being dumped. Touches: homes. Never: takes longer than a slice of a turn, but for [`Shard::restore`], which is
//! called before the first one.
//!
//! When all shards have said that they are frozen, no message leaves any of them for a home any more; when all have said that they are settled, those
//! that were on their way before are numbered. So what is dumped then is all that was ever answered.

use corecast_protocol::snapshot::{Reader, Record};

use super::errand::{Answer, Dumping, Restored, Said};
use super::topic::home::{Came, Restoring};
use super::{Shard, hash_topic_of, home_among};
use crate::io::driver::Driver;
use crate::mesh::{Name, Shards};
use crate::reach::{Mark, reach};

/// Homes and messages that a turn dumps, some 50 ns each besides their bytes.
const LOOKS: usize = 1024;

/// A restoring that is under way.
#[derive(Debug)]
pub struct Restore {
    reader: Reader,
    restoring: Restoring,
}

impl Restore {
    /// Begins one. If it is `exact`, nothing was numbered behind what is restored, and epochs and numbers go on.
    #[must_use]
    pub fn new(exact: bool) -> Restore {
        Restore { reader: Reader::behind_the_head(), restoring: Restoring::new(exact) }
    }
}

/// Returns the shard of so many that is the home of a topic; the key is that of all of them.
pub(crate) fn home_shard(hash_key: u64, shards: usize, topic: &str) -> usize {
    home_among(shards, hash_topic_of(hash_key, shards, topic))
}

impl Shard {
    /// Refuses what would change a history from now on, or takes it again. Who comes new waits in the kernel meanwhile: for this engine or the next.
    pub(super) fn freeze<D: Driver>(&mut self, driver: &mut D, frozen: bool) {
        reach(if frozen { Mark::Frozen } else { Mark::Thawed });
        self.frozen = frozen;
        driver.hold_accepting(frozen || self.governor.holds());
        if frozen {
            driver.cancel_accepts();
        }
    }

    pub(super) fn all_shards(&self) -> Shards {
        let mut all = Shards::default();
        (0..self.crossings.links.shards()).for_each(|shard| all.insert(shard));
        all
    }

    /// Waits until each of these shards has once been heard in full; returns the answer when all have.
    pub(super) fn settle_on(&mut self, number: u64, mut unheard: Shards) -> Option<Answer> {
        unheard.each(|shard| {
            if !self.crossings.links.has_packet(shard) {
                unheard.remove(shard);
            }
        });
        if unheard.is_empty() {
            return Some(Answer { number, said: Said::Settled });
        }
        reach(Mark::SettlesLater);
        self.settling = Some((number, unheard));
        None
    }

    /// Dumps so much as a turn has time for; returns the answer, if the page is full or the last one.
    pub(super) fn dump_on<D: Driver>(&mut self, driver: &mut D, mut dumping: Box<Dumping>) -> Option<Answer> {
        let Dumping { number, place, bytes_max, page } = &mut *dumping;
        let offset_ms = self.clock.wall_offset_us / 1000;
        let came = self.homes.dump((&self.store, driver.memory()), *place, page, *bytes_max, LOOKS, offset_ms);
        page.next = match came {
            Came::Over => None,
            Came::Full(next) => Some(next),
            Came::Later(next) => {
                reach(Mark::DumpedInTurns);
                *place = next;
                self.dumping = Some(dumping);
                return None;
            }
        };
        Some(Answer { number: *number, said: Said::Dumped(std::mem::take(page)) })
    }

    /// Takes a piece of a snapshot, whole parts behind its head, of which all topics have their home here; before the first turn.
    pub fn restore<D: Driver>(&mut self, driver: &mut D, restore: &mut Restore, piece: &[u8]) {
        self.clock.turn(driver.now_us());
        self.weigh();
        let offset_ms = self.clock.wall_offset_us / 1000;
        let now_ms = self.clock.now_ms;
        let Restore { reader, restoring } = restore;
        let mut rest = piece;
        while let Ok(Some((record, len))) = reader.record(rest) {
            match record {
                Record::Topic(topic) => {
                    let name = Name { hash: self.hash_topic(topic.name), text: topic.name };
                    self.homes.restore_topic(restoring, name, &topic, &mut self.store, &self.limits, now_ms);
                }
                Record::Message(message) => {
                    let time_ms = message.time_ms.saturating_sub(offset_ms).min(now_ms);
                    let key_hash = self.hash_topic(message.key);
                    let memory = driver.memory_mut();
                    let (store, limits) = (&mut self.store, &self.limits);
                    self.homes.restore_message(restoring, &message, key_hash, (store, memory), limits, time_ms);
                }
                Record::End(_) => break,
            }
            rest = &rest[len..];
        }
        debug_assert!(rest.is_empty(), "the piece was read before");
    }

    /// Ends a restoring; returns what came of it.
    pub fn restored(&mut self, mut restore: Restore) -> Restored {
        self.homes.restore_no_more(&mut restore.restoring, &mut self.store);
        self.weigh();
        restore.restoring.restored
    }
}
