//! What is wanted, from the homes of topics to who reads `$sys/demand`: a topic with keys, whose keys are topics that somebody subscribes to.
//!
//! ```text
//!   home of a topic                           home of $sys/demand                          who reads it
//!                    ◀──────────── AskDemand  somebody asks for it: his answer waits
//!   looks at all its homes
//!   Wanted a/b, ... ───────────────────────▶ number, record, relay ──────────────────▶ MSG $sys/demand .. key=a/b
//!   AllWanted       ───────────────────────▶ all shards have: the answer goes ───────▶ rows, and their end
//!   Wanted, not wanted, as it changes ─────▶
//!                    ◀───────────── Untold   there was no room: once more, later
//! ```
//!
//! What waits for room in a ring stays what it is: of each topic only what is so is told, however often it has changed. Homes believe nothing that
//! is said of the past: who begins to read anew, or restarts, is told all. Nobody is told anything that nobody asked for.

use corecast_protocol::json;
use corecast_protocol::message::Op;
use corecast_protocol::topic::{DEMAND, TOPIC_BYTES_MAX};
use corecast_protocol::write::Writer;

use crate::io::driver::Driver;
use crate::mesh::packet::PREFIX_BYTES_MAX;
use crate::mesh::{Content, Name, Packet, Word};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::topic::demand::{Ask, KEPT_MS};

/// Topics told of in one turn: no more than homes hear in one.
const TOLD_PER_TURN: usize = 256;

/// Homes looked at in one turn, once somebody begins to read.
const LOOKS_PER_TURN: usize = 512;

/// Longest payload: escaping makes a topic at most six times as long.
const PAYLOAD_BYTES_MAX: usize = 6 * TOPIC_BYTES_MAX + 32;

impl Shard {
    fn demand_topic(&self) -> Name<'static> {
        Name { hash: self.hash_topic(DEMAND), text: DEMAND }
    }

    /// As a home: a topic has its first subscribers, or none any more, or another shard with some.
    #[cold]
    pub(in crate::shard) fn demand_changes(&mut self, topic: Name<'_>) {
        let is_read = || self.homes.find(topic).is_some_and(|home| self.homes.has_audience(home));
        let wanted = self.limits.rules.demand(topic.text) && is_read();
        if wanted && self.demand.used_bytes() > self.store.pool.tables_max() / 8 {
            // What is told already is known; of this one nobody hears until there is room.
            return reach(Mark::DemandUntold);
        }
        self.demand.change(topic, wanted, self.limits.demand_ms, self.clock.now_ms);
    }

    /// Tells of what is wanted, and asks others to, as far as it is time and there is room; says whether there was anything to do.
    #[cold]
    pub(in crate::shard) fn tell_demand<D: Driver>(&mut self, _: &mut D) -> bool {
        let mut worked = self.ask_for_demand();
        worked |= self.look_at_demand();
        let home = self.home_of(self.demand_topic().hash);
        for _ in 0..TOLD_PER_TURN {
            let Some((index, news)) = self.demand.take_due(self.limits.demand_ms, self.clock.now_ms) else { break };
            worked = true;
            let Some(wanted) = news else { continue };
            if !self.has_room_for_demand(home) {
                reach(Mark::DemandWaits);
                self.demand.put_back(index, self.clock.now_ms);
                return false;
            }
            let text = self.demand.name(index);
            let topic = Name { hash: self.hash_topic(text), text };
            let told = self
                .crossings
                .links
                .send(home, &say(topic, if wanted { Word::Wanted } else { Word::Unwanted }, self.demand.round));
            assert!(told, "room was looked for");
            self.demand.was_told(index, wanted);
        }
        if self.demand.says_all && self.demand.is_all_told() && self.has_room_for_demand(home) {
            worked = true;
            let told = self.crossings.links.send(home, &say(NONE, Word::AllWanted, self.demand.round));
            assert!(told, "room was looked for");
            self.demand.says_all = false;
        }
        self.look_who_wants_demand();
        worked
    }

    /// A quarter of the ring stays free, as for a Leave.
    fn has_room_for_demand(&self, shard: usize) -> bool {
        self.crossings.links.room(shard) >= self.crossings.links.ring_bytes() / 4 + PREFIX_BYTES_MAX
    }

    /// Looks at some of all homes, once somebody has begun to read what is wanted; says whether there were any to look at.
    fn look_at_demand(&mut self) -> bool {
        let Some(first) = self.demand.look else { return false };
        let end = first + LOOKS_PER_TURN;
        for place in first..end {
            let mut room = [0; TOPIC_BYTES_MAX];
            let Some(Name { hash, text }) = self.homes.name_at(place).filter(|_| self.homes.has_audience(place as u32))
            else {
                continue;
            };
            let len = text.len();
            room[..len].copy_from_slice(text.as_bytes());
            let text = std::str::from_utf8(&room[..len]).expect("topics are text");
            self.demand_changes(Name { hash, text });
        }
        self.demand.look = Some(end).filter(|end| *end < self.homes.places());
        self.demand.says_all |= self.demand.look.is_none();
        true
    }

    /// Hears what another shard says of what is wanted, or of who tells it.
    pub(in crate::shard) fn hear_word<D: Driver>(
        &mut self,
        driver: &mut D,
        from: usize,
        topic: Name<'_>,
        (word, name, number): (Word, &str, u32),
    ) {
        match word {
            Word::AskDemand => self.demand.begin(number),
            Word::StopDemand => self.demand.stop(),
            Word::Untold => self.demand.untold(topic, self.clock.now_ms),
            Word::Wanted => self.hear_wanted(driver, from, topic, (true, number)),
            Word::Unwanted => self.hear_wanted(driver, from, topic, (false, number)),
            Word::AllWanted => self.hear_all_wanted(driver, from, number),
            Word::Present => self.hear_present(from, topic, name, number),
        }
    }

    /// As the home of `$sys/demand`: asks the shards that are to be asked, as far as there is room; says whether it asked any.
    fn ask_for_demand(&mut self) -> bool {
        let mut worked = false;
        for shard in 0..self.demand.teller.asks.len() {
            let ask = self.demand.teller.asks[shard];
            if ask != Ask::Nothing && self.has_room_for_demand(shard) {
                let word = if ask == Ask::Tell { Word::AskDemand } else { Word::StopDemand };
                let asked = self.crossings.links.send(shard, &say(NONE, word, self.demand.teller.round));
                assert!(asked, "room was looked for");
                self.demand.teller.asks[shard] = Ask::Nothing;
                worked = true;
            }
        }
        worked
    }

    /// As the home of `$sys/demand`: somebody asks for what is wanted. Says whether that is not known yet, and the answer has to wait.
    pub(in crate::shard) fn recall_demand(&mut self, asker: usize, request: &Packet<'_>) -> bool {
        if !self.limits.rules.demand_any() {
            return false;
        }
        let all = self.all_shards();
        let now_ms = self.clock.now_ms;
        let teller = &mut self.demand.teller;
        teller.asked_ms = now_ms;
        if !std::mem::replace(&mut teller.is_read, true) {
            teller.looks_ms = now_ms + KEPT_MS;
            teller.asks.fill(Ask::Tell);
            teller.awaited = all;
            // What shards have told before, or another engine had been told, is not what is so.
            teller.round = teller.round.wrapping_add(1);
            let name = self.demand_topic();
            if let Some(home) = self.homes.find(name) {
                self.homes.clear(home, &mut self.store);
            }
        }
        let teller = &mut self.demand.teller;
        if teller.awaited.is_empty() {
            return false;
        }
        reach(Mark::DemandAwaited);
        teller.held.push((asker, request.to_bytes()));
        true
    }

    /// As the home of `$sys/demand`: a topic is wanted, or not any more.
    fn hear_wanted<D: Driver>(&mut self, driver: &mut D, from: usize, topic: Name<'_>, (wanted, round): (bool, u32)) {
        if !self.demand.teller.is_read || self.demand.teller.round != round {
            return; // It is told that nobody wants to know, or asked anew.
        }
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let len = if wanted { write_wanted(topic.text, &mut payload) } else { 0 };
        let op = if wanted { Op::Put } else { Op::Delete };
        let content = Content { payload: &payload[..len], text: true, key: topic.text, op, ..Default::default() };
        let name = self.demand_topic();
        // While nothing may change a history, this one waits, too.
        let told = !self.frozen && self.record_and_relay(driver, name, content).is_ok();
        if told {
            self.stats.demands += 1;
        } else {
            reach(Mark::DemandUntold);
            self.tell_shard(from, &say(topic, Word::Untold, round));
        }
    }

    /// As the home of `$sys/demand`: a shard has told all that is wanted there. When all have, those who asked are answered.
    fn hear_all_wanted<D: Driver>(&mut self, driver: &mut D, from: usize, round: u32) {
        let teller = &mut self.demand.teller;
        if teller.round != round {
            return;
        }
        teller.awaited.remove(from);
        if teller.awaited.is_empty() {
            for (asker, bytes) in std::mem::take(&mut teller.held) {
                let request = Packet::decode(&bytes).expect("it was encoded here");
                self.replay(driver, asker, &request);
            }
        }
    }

    /// As the home of `$sys/demand`: looks whether anybody still reads it. If nobody does, what is wanted is forgotten everywhere.
    fn look_who_wants_demand(&mut self) {
        let now_ms = self.clock.now_ms;
        if !self.demand.teller.is_read || self.demand.teller.looks_ms > now_ms {
            return;
        }
        let name = self.demand_topic();
        let home = self.homes.find(name);
        let is_read = home.is_some_and(|home| self.homes.has_audience(home)) || !self.demand.teller.held.is_empty();
        let wants = self.limits.rules.demand_any();
        let teller = &mut self.demand.teller;
        if is_read && wants {
            teller.asked_ms = now_ms;
        }
        if wants && teller.asked_ms + KEPT_MS > now_ms {
            teller.looks_ms = now_ms + KEPT_MS;
            return;
        }
        reach(Mark::DemandForgotten);
        teller.is_read = false;
        teller.awaited = Default::default();
        teller.asks.fill(Ask::Stop);
        if let Some(home) = home {
            self.homes.clear(home, &mut self.store);
        }
    }
}

/// No topic.
const NONE: Name<'static> = Name { hash: 0, text: "" };

fn say(topic: Name<'_>, word: Word, number: u32) -> Packet<'_> {
    Packet::Say { topic, word, name: "", number }
}

/// Writes `{"topic":"a/b","wanted":true}`.
fn write_wanted(topic: &str, room: &mut [u8; PAYLOAD_BYTES_MAX]) -> usize {
    let mut w = Writer::new(room);
    w.text("{\"topic\":");
    json::string(&mut w, topic);
    w.text(",\"wanted\":true}");
    w.finish().expect("room for the longest topic was made")
}
