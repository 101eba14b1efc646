//! Waiting for room in a ring, and going on when there is some: whose turn it is is said in [`super::crossing`].

use super::Shard;
use super::crossing::{ASKED_MAX, Lane, Way};
use super::slot::connection::Waiting;
use super::topic::topics::Topics;
use crate::io::driver::{Driver, Slot};
use crate::mesh::packet::PREFIX_BYTES_MAX;
use crate::mesh::{Asker, Packet, Start, Ticket};
use crate::reach::{Mark, reach};

/// Connections that go on in one turn when a ring has room again.
const UNPARKED_PER_TURN: usize = 1024;

/// Requests sent in one turn for those that lag.
const ASKED_PER_TURN: usize = 256;

impl Shard {
    /// Makes a connection wait until a lane of the ring to a home has room.
    pub(super) fn park(&mut self, slot: Slot, way: Way) {
        let generation = self.slots.connections[slot as usize].generation;
        self.active(slot).waiting = Waiting::Room(way);
        let parked = &mut self.crossings.all[way.home as usize].parked[way.lane as usize];
        if self.crossings.unparking == Some(way) {
            // It has waited already, and its turn is not over.
            parked.push_front((slot, generation));
        } else {
            parked.push_back((slot, generation));
        }
        self.crossings.crowded.insert(way.home as usize);
        self.stats.parked += 1;
    }

    /// A connection waits until its home may be asked for more.
    pub(super) fn want(&mut self, slot: Slot, home: usize) {
        let connection = &mut self.slots.connections[slot as usize];
        if std::mem::replace(&mut connection.wanting, true) {
            return;
        }
        let generation = connection.generation;
        reach(Mark::LagWaits);
        self.crossings.all[home].wanting.push_back((slot, generation));
        self.crossings.crowded.insert(home);
    }

    /// A topic is behind, and is to ask its home for what it missed.
    pub(super) fn catch_up(&mut self, id: u32) {
        let topic = self.topics.topic(id);
        let (home, generation) = (topic.home as usize, topic.generation);
        self.crossings.all[home].catching.push_back((id, generation));
        self.crossings.crowded.insert(home);
    }

    /// Does what waited for room in crowded rings, as far as there is some now; says whether anything was done.
    #[cold]
    pub(super) fn relieve<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = false;
        let crowded = self.crossings.crowded;
        crowded.each(|shard| {
            worked |= self.ask_to_catch_up(shard);
            // By turns: each of the two could take all the room that the other waits for.
            if self.stats.turns.is_multiple_of(2) {
                worked |= self.pay(driver, shard);
                worked |= self.unpark(driver, shard);
            } else {
                worked |= self.unpark(driver, shard);
                worked |= self.pay(driver, shard);
            }
            worked |= self.let_ask(shard);
            if !self.crossings.is_crowded(shard) {
                self.crossings.crowded.remove(shard);
            }
        });
        worked
    }

    /// Lets connections go on that waited for the ring to a home; says whether any did.
    fn unpark<D: Driver>(&mut self, driver: &mut D, home: usize) -> bool {
        let mut worked = false;
        // Each lane is first in its turn.
        let first = (self.stats.turns / 2) as usize;
        for n in 0..Lane::ALL.len() {
            let lane = Lane::ALL[(first + n) % Lane::ALL.len()];
            for _ in 0..self.crossings.all[home].parked[lane as usize].len().min(UNPARKED_PER_TURN) {
                if self.work.is_over(driver) || !self.unpark_one(driver, Way::to(home, lane)) {
                    break;
                }
                worked = true;
            }
        }
        worked
    }

    /// Lets the next connection that waits for a lane go on; says false if there is no room for it yet.
    fn unpark_one<D: Driver>(&mut self, driver: &mut D, way: Way) -> bool {
        let (home, lane) = (way.home as usize, way.lane);
        // Half a ring holds the largest packet; with less, the same connections would come and go.
        let enough = if lane == Lane::Short {
            self.crossings.links.ring_bytes() / 4
        } else {
            self.crossings.links.ring_bytes() / 2
        };
        let room = self.crossings.links.room(home) >= enough;
        let crossing = &mut self.crossings.all[home];
        if !room || crossing.is_impatient() || crossing.asked[lane.answers()] >= ASKED_MAX / 2 {
            return false;
        }
        let Some((slot, generation)) = crossing.parked[lane as usize].pop_front() else { return false };
        if self.slots.is_living(slot, generation) {
            reach(Mark::Unparked);
            self.work.spend(super::work::PIECE_NS);
            self.crossings.unparking = Some(way);
            self.go_on(driver, slot);
            self.crossings.unparking = None;
        }
        !self.waits_for(slot, generation, way)
    }

    fn waits_for(&self, slot: Slot, generation: u16, way: Way) -> bool {
        self.slots.is_living(slot, generation)
            && self
                .slots
                .actives
                .get(self.slots.connections[slot as usize].active as usize)
                .is_some_and(|active| active.waiting == Waiting::Room(way))
    }

    /// Lets connections that lag ask for more, as far as their home may owe it; says whether any may.
    fn let_ask(&mut self, home: usize) -> bool {
        let mut worked = false;
        let crossing = &mut self.crossings.all[home];
        let owed = ASKED_MAX.saturating_sub(crossing.asked[Lane::Bulk.answers()]) as usize;
        let room =
            self.crossings.links.room(home).saturating_sub(self.crossings.links.ring_bytes() / 8) / PREFIX_BYTES_MAX;
        for _ in 0..owed.min(room).min(ASKED_PER_TURN) {
            let Some((slot, generation)) = self.crossings.all[home].wanting.pop_front() else { break };
            if self.slots.is_living(slot, generation) {
                self.slots.connections[slot as usize].wanting = false;
                self.slots.make_ready(slot);
                worked = true;
            }
        }
        worked
    }

    /// Asks a home for what topics missed, as far as there is room; says whether it asked.
    fn ask_to_catch_up(&mut self, home: usize) -> bool {
        let mut worked = false;
        // There is one for each topic at most, so nobody has to count them.
        while self.crossings.links.room(home) >= PREFIX_BYTES_MAX {
            let Some((id, generation)) = self.crossings.all[home].catching.pop_front() else { break };
            worked = true;
            if !self.topics.living(id, generation) {
                continue;
            }
            if !self.ask_to_catch_up_with(home, id, generation) {
                let asked = self.crossings.links.send(home, &catch_up_request(&self.topics, id, generation));
                assert!(asked, "room was looked for");
            }
            self.stats.replays += 1;
        }
        worked
    }
}

fn catch_up_request(topics: &Topics, id: u32, generation: u32) -> Packet<'_> {
    let topic = topics.topic(id);
    // The ticket's slot carries the topic's generation: catching up is nobody's in particular.
    let ticket = Ticket { slot: generation, generation: 0, asker: Asker::Topic, word: id, serial: 0, token: "" };
    Packet::Replay { topic: topics.name(id), ticket, from: Start::Behind(topic.head), generation }
}
