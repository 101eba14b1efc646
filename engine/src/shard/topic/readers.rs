//! How many read a topic, from where its readers are to who wants to know it.
//!
//! ```text
//!   shard with readers                  home                                        who reads $sys/occupancy/a/b
//!   subscribe, leave ─▶ recount ──▶ Readers ─▶ occupancy ─▶ {"readers":12} ─▶ number, record, relay ─▶ as every message
//! ```
//!
//! A topic and the one that tells how many read it have the same home, so no ring lies between the sum and its history. Homes believe what
//! shards say, whatever rules hold for themselves: where shards hold to a change of the rules one after the other, the last one ends it.
//! Nobody is told a number that nobody asked for: that topic has a history while it is read or polled, and a little longer. Who
//! asks when it has none, gets the number there is.

use corecast_protocol::topic::{OCCUPANCY_PREFIX, TOPIC_BYTES_MAX, occupied};
use corecast_protocol::write::Writer;

use crate::io::driver::Driver;
use crate::mesh::packet::PREFIX_BYTES_MAX;
use crate::mesh::{Content, Name, Packet};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::topic::occupancy::Due;
use crate::shard::topic::topics::{NONE, Topics};

/// Topics whose homes are told in one turn, about: no more than homes hear in one.
const REPORTS_PER_TURN: usize = 256;

/// Numbers told in one turn, or looked at.
const TOLD_PER_TURN: usize = 256;

/// Topics, homes and counts looked at in one turn after the rules have changed.
const LOOKS_PER_TURN: usize = 512;

/// Longest message: the number has 20 digits at most.
const NUMBER_BYTES_MAX: usize = 40;

/// Writes the name of the topic that tells how many read this one.
fn name_of_number<'o>(of: &str, room: &'o mut [u8; TOPIC_BYTES_MAX]) -> &'o str {
    let mut w = Writer::new(room);
    w.text(OCCUPANCY_PREFIX);
    w.text(of);
    let len = w.finish().expect("only topics that are short enough are counted");
    std::str::from_utf8(&room[..len]).expect("it was made of text")
}

impl Topics {
    /// Returns how many subscriptions a topic has here.
    #[must_use]
    pub(in crate::shard) fn readers(&self, index: u32) -> u32 {
        let mut readers = 0;
        let mut log = self.topic(index).logs;
        while log != NONE {
            readers += self.logs[log as usize].subscribers.len() as u32;
            log = self.logs[log as usize].next;
        }
        readers
    }
}

impl Shard {
    /// The home of a topic is to be told how many read it here.
    pub(in crate::shard) fn recount(&mut self, topic: u32) {
        let counted = self.topics.topic_mut(topic);
        if !std::mem::replace(&mut counted.recounts, true) {
            let (home, generation) = (counted.home as usize, counted.generation);
            self.recounts.add(home, topic, generation);
        }
    }

    /// Tells homes how many read their topics here, and as a home tells how many read its own, as far as it is time; says whether there
    /// was anything to do.
    #[cold]
    pub(in crate::shard) fn count_readers<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = self.look_again(driver);
        worked |= self.report_readers();
        for _ in 0..TOLD_PER_TURN {
            let Some(due) = self.occupancy.take_due(self.clock.now_ms) else { break };
            worked = true;
            match due {
                Due::Tell(index) if self.occupancy.has_news(index) => self.tell_readers(driver, index),
                Due::Tell(index) => self.occupancy.forget_if_idle(index),
                Due::Look(index) => self.look_who_reads(index),
            }
        }
        worked
    }

    /// Tells homes how many read their topics here, a bounded number, and as far as a quarter of the ring stays free, as for a Leave.
    fn report_readers(&mut self) -> bool {
        let mut worked = false;
        let share = (REPORTS_PER_TURN / self.crossings.links.shards()).max(1);
        std::mem::take(&mut self.recounts.homes).each(|home| {
            for _ in 0..share {
                let Some((id, generation)) = self.recounts.next(home) else { break };
                worked = true;
                // Of one that was left, Leave has told all.
                if !self.topics.living(id, generation) {
                    continue;
                }
                if self.crossings.links.room(home) < self.crossings.links.ring_bytes() / 4 + PREFIX_BYTES_MAX {
                    reach(Mark::ReadersWait);
                    self.recounts.put_back(home, id, generation);
                    worked = false;
                    break;
                }
                let readers = if self.topics.topic(id).counted { self.topics.readers(id) } else { 0 };
                let told = self.crossings.links.send(home, &Packet::Readers { topic: self.topics.name(id), readers });
                assert!(told, "room was looked for");
                self.topics.topic_mut(id).recounts = false;
            }
            if self.recounts.has_more(home) {
                self.recounts.homes.insert(home);
            }
        });
        worked
    }

    /// Looks at some of all topics, after the rules have changed; says whether there were any to look at.
    fn look_again<D: Driver>(&mut self, driver: &mut D) -> bool {
        let Some(first) = self.recounts.look else { return false };
        let end = first + LOOKS_PER_TURN;
        for place in first..end {
            let index = place as u32;
            if self.topics.is_there(index) {
                let counted = self.limits.rules.count(self.topics.name(index).text);
                if std::mem::replace(&mut self.topics.topic_mut(index).counted, counted) != counted {
                    self.recount(index);
                }
            }
            if self.occupancy.is_watched(place) && !self.limits.rules.count(self.occupancy.name(index)) {
                self.forget_number(index);
            }
            let read = self.homes.name_at(place).filter(|_| self.homes.has_audience(index));
            if let Some(of) = read.and_then(|name| occupied(name.text)) {
                // Its readers came before there was anything to tell.
                let mut room = [0; TOPIC_BYTES_MAX];
                let text = name_of_number(of, &mut room);
                self.recall_readers(driver, Name { hash: self.hash_topic(text), text });
            }
        }
        let bound = self.topics.bound().max(self.homes.places()).max(self.occupancy.bound());
        self.recounts.look = Some(end).filter(|end| *end < bound);
        true
    }

    /// As a home: a shard says how many read a topic there.
    pub(in crate::shard) fn hear_readers(&mut self, shard: usize, topic: Name<'_>, readers: u32) {
        let index = match self.occupancy.find(topic) {
            Some(index) => index,
            None if readers == 0 => return,
            None => {
                let index = self.occupancy.make(topic);
                // There may have been no room to remember that somebody wants to know.
                if self.limits.rules.count(topic.text) && self.number_is_read(topic.text) {
                    self.occupancy.watch(index, self.clock.now_ms);
                }
                index
            }
        };
        self.occupancy.count(index, shard, readers, self.clock.now_ms);
    }

    /// As a home that counts readers: a shard has none of a topic any more.
    pub(in crate::shard) fn reader_leaves(&mut self, shard: usize, topic: Name<'_>) {
        if let Some(index) = self.occupancy.find(topic) {
            self.occupancy.count(index, shard, 0, self.clock.now_ms);
        }
        // Who reads a number, and goes, may come back.
        if let Some(of) = occupied(topic.text) {
            let found = self.occupancy.find(Name { hash: self.hash(of), text: of });
            if let Some(index) = found.filter(|index| self.occupancy.is_watched(*index as usize)) {
                self.occupancy.watch(index, self.clock.now_ms);
            }
        }
    }

    /// As a home: somebody asks for the topic that tells how many read another one. The number there is becomes its newest message, if it
    /// has none, however long ago the last one was.
    #[cold]
    pub(in crate::shard) fn recall_readers<D: Driver>(&mut self, driver: &mut D, topic: Name<'_>) {
        let Some(of) = occupied(topic.text).filter(|of| self.limits.rules.count(of)) else { return };
        let of = Name { hash: self.hash(of), text: of };
        let index = match self.occupancy.find(of) {
            Some(index) => index,
            // What is asked for has its share of the tables; what is read was let in by them.
            None if self.occupancy.used_bytes() > self.store.pool.tables_max() / 8 => return reach(Mark::NumberUntold),
            None => self.occupancy.make(of),
        };
        self.occupancy.watch(index, self.clock.now_ms);
        let home = self.homes.find(topic).and_then(|home| self.homes.home_mut(home));
        let remembers = home.is_some_and(|home| home.standing(&self.store).remembers);
        if !remembers || !self.occupancy.was_anything_told(index) {
            self.tell_readers(driver, index);
        }
    }

    /// Publishes how many read a topic; what finds no room is tried again.
    fn tell_readers<D: Driver>(&mut self, driver: &mut D, index: u32) {
        let (mut room, mut payload) = ([0; TOPIC_BYTES_MAX], [0; NUMBER_BYTES_MAX]);
        if !self.limits.rules.count(self.occupancy.name(index)) {
            return self.forget_number(index);
        }
        let text = name_of_number(self.occupancy.name(index), &mut room);
        let readers = self.occupancy.readers(index);
        let mut w = Writer::new(&mut payload);
        w.text("{\"readers\":");
        w.decimal(readers);
        w.byte(b'}');
        let len = w.finish().expect("room for the longest was made");
        let content = Content { payload: &payload[..len], text: true, ..Default::default() };
        let topic = Name { hash: self.hash_topic(text), text };
        // While nothing may change a history, this one waits, too: it is tried again.
        let told = if self.frozen { None } else { self.record_and_relay(driver, topic, content).ok().map(|_| readers) };
        match told {
            Some(_) => self.stats.occupancies += 1,
            None => reach(Mark::NumberUntold),
        }
        self.occupancy.was_told(index, told, self.clock.now_ms);
    }

    /// Looks whether anybody reads how many read a topic, who was not there for long.
    fn look_who_reads(&mut self, index: u32) {
        if self.occupancy.is_watched(index as usize) && self.number_is_read(self.occupancy.name(index)) {
            return;
        }
        if !self.occupancy.keep_on(index, self.clock.now_ms) {
            self.forget_number(index);
        }
    }

    /// Nobody is told how many read a topic any more: what was told is forgotten.
    fn forget_number(&mut self, index: u32) {
        let mut room = [0; TOPIC_BYTES_MAX];
        let text = name_of_number(self.occupancy.name(index), &mut room);
        if let Some(home) = self.homes.find(Name { hash: self.hash_topic(text), text }) {
            self.homes.clear(home, &mut self.store);
        }
        self.occupancy.unwatch(index);
    }

    /// Says whether any shard has readers of the topic that tells how many read this one.
    fn number_is_read(&self, of: &str) -> bool {
        let mut room = [0; TOPIC_BYTES_MAX];
        let text = name_of_number(of, &mut room);
        self.homes.find(Name { hash: self.hash_topic(text), text }).is_some_and(|home| self.homes.has_audience(home))
    }

    /// As a home: returns how many read a topic; `None` if they are not counted.
    pub(in crate::shard) fn readers_of(&self, topic: &str) -> Option<u64> {
        let index = || self.occupancy.find(Name { hash: self.hash(topic), text: topic });
        self.limits.rules.count(topic).then(|| index().map_or(0, |index| self.occupancy.readers(index)))
    }
}
