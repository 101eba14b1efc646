//! Who reads a topic, from where its readers are to who reads `$sys/presence/TOPIC`: a topic with keys, whose keys are names.
//!
//! ```text
//!   shard with readers                    home                                         who reads $sys/presence/a/b
//!   subscribe, leave, AUTH ─▶ attendance ─▶ Present, Leave ─▶ presence ─▶ number, record, relay ─▶ rows, and what changes
//! ```
//!
//! A topic and the one that tells who reads it have the same home, so no ring lies between a name and its row. A name is that of the grant; who shows
//! nothing has one of the connection's own, that nobody can foresee. Homes believe what shards say, whatever rules hold for themselves.

use corecast_protocol::json;
use corecast_protocol::message::Op;
use corecast_protocol::topic::{PRESENCE_PREFIX, TOPIC_BYTES_MAX};
use corecast_protocol::write::Writer;

use crate::grant::NAME_BYTES_MAX;
use crate::io::driver::{Driver, Slot};
use crate::mesh::packet::PREFIX_BYTES_MAX;
use crate::mesh::{Content, Name, Packet, Word};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::topic::attendance::Change;
use crate::shard::topic::presence::News;
use crate::shard::topic::topics::NONE;

/// Names that homes are told of in one turn, about, and that are told in one.
const REPORTS_PER_TURN: usize = 256;
const TOLD_PER_TURN: usize = 256;

/// Subscriptions looked at in one turn after the rules have changed.
const LOOKS_PER_TURN: usize = 512;

/// Longest name: its characters that are none to be shown take three bytes each.
const SHOWN_BYTES_MAX: usize = 3 * NAME_BYTES_MAX;

/// Longest payload: escaping makes a name at most six times as long.
const PAYLOAD_BYTES_MAX: usize = 6 * SHOWN_BYTES_MAX + 96;

/// Writes the name of the topic that tells who reads this one.
fn name_of_presence<'o>(of: &str, room: &'o mut [u8; TOPIC_BYTES_MAX]) -> &'o str {
    let mut w = Writer::new(room);
    w.text(PRESENCE_PREFIX);
    w.text(of);
    let len = w.finish().expect("only topics that are short enough have a presence");
    std::str::from_utf8(&room[..len]).expect("it was made of text")
}

impl Shard {
    /// Writes what somebody on a connection is called: as the grant says, or by something that only this connection has.
    fn shown_name<'o>(&self, slot: Slot, room: &'o mut [u8; SHOWN_BYTES_MAX]) -> &'o str {
        let grant = self.trust.grants.get(self.grant_of(slot)).map(|interned| &interned.grant);
        let name = grant.map_or("", |grant| if grant.name.is_empty() { &*grant.subject } else { &*grant.name });
        let mut w = Writer::new(room);
        for character in name.chars().take(NAME_BYTES_MAX).take_while({
            let mut bytes = 0;
            move |character| {
                bytes += character.len_utf8();
                bytes <= NAME_BYTES_MAX
            }
        }) {
            let mut shown = [0; 4];
            w.text(if character.is_control() { "\u{fffd}" } else { character.encode_utf8(&mut shown) });
        }
        if name.is_empty() {
            let generation = self.slots.connections[slot as usize].generation;
            let hash = self.hash(&format!("{}.{slot}.{generation}", self.index));
            w.text("~");
            w.text(&format!("{hash:016x}"));
        }
        let len = w.finish().expect("room for the longest name was made");
        std::str::from_utf8(&room[..len]).expect("it was made of text")
    }

    fn hash_name(&self, topic: Name<'_>, name: &str) -> u64 {
        self.hash(name) ^ topic.hash.rotate_left(17)
    }

    /// A subscription of a connection stands: whoever it is reads the topic now, if that is told.
    #[cold]
    pub(in crate::shard) fn arrives(&mut self, slot: Slot, subscription: u32) {
        let log = self.topics.subscriptions[subscription as usize].log;
        let topic = self.topics.logs[log as usize].topic;
        let name = self.topics.name(topic);
        if !self.limits.rules.presence(name.text) || self.attendance.counts(subscription) {
            return;
        }
        if self.attendance.used_bytes() + self.presence.used_bytes() > self.store.pool.tables_max() / 8 {
            return reach(Mark::PresenceUntold);
        }
        let mut room = [0; TOPIC_BYTES_MAX];
        let most = self.limits.keeps(self.limits.rules.index_of(name_of_presence(name.text, &mut room))).rows;
        let mut room = [0; SHOWN_BYTES_MAX];
        let shown = self.shown_name(slot, &mut room);
        let hash = self.hash_name(name, shown);
        let at = (topic, self.topics.topic(topic).generation, self.topics.topic(topic).home);
        self.attendance.arrive(subscription, at, (hash, shown), most);
    }

    /// Whoever is on a connection becomes somebody else: nobody reads what it has subscribed to, for the moment.
    pub(in crate::shard) fn departs_all(&mut self, slot: Slot) {
        let mut subscription = self.slots.connections[slot as usize].first;
        while subscription != NONE {
            self.attendance.depart(subscription);
            subscription = self.topics.subscriptions[subscription as usize].next;
        }
    }

    /// Whoever is on a connection now reads what it has subscribed to.
    pub(in crate::shard) fn arrives_all(&mut self, slot: Slot) {
        let mut subscription = self.slots.connections[slot as usize].first;
        while subscription != NONE {
            self.arrives(slot, subscription);
            subscription = self.topics.subscriptions[subscription as usize].next;
        }
    }

    /// Tells homes who reads their topics here, as far as there is room, and as a home whoever wants to know; says whether there was anything to do.
    #[cold]
    pub(in crate::shard) fn tell_presence<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = self.look_who_is_there();
        worked |= self.report_attendance();
        for _ in 0..TOLD_PER_TURN {
            let due = self.presence.take_due(self.limits.demand_ms, self.clock.now_ms);
            let Some(index) = due else { break };
            worked = true;
            self.tell_person(driver, index);
        }
        worked
    }

    /// As [`Shard::report_readers`](Shard), of names: a bounded number, and as far as a quarter of the ring stays free.
    fn report_attendance(&mut self) -> bool {
        let mut worked = false;
        let share = (REPORTS_PER_TURN / self.crossings.links.shards()).max(1);
        std::mem::take(&mut self.attendance.homes).each(|home| {
            for _ in 0..share {
                let Some(Change { topic, generation, name, count }) = self.attendance.next(home) else { break };
                // Of one that was left, Leave has told all, or will.
                let lives = self.topics.living(topic, generation);
                if lives {
                    if self.crossings.links.room(home) < self.crossings.links.ring_bytes() / 4 + PREFIX_BYTES_MAX {
                        reach(Mark::PresenceWaits);
                        break;
                    }
                    let topic = self.topics.name(topic);
                    let say = Packet::Say { topic, word: Word::Present, name, number: count };
                    let told = self.crossings.links.send(home, &say);
                    assert!(told, "room was looked for");
                }
                self.attendance.was_told(home, !lives);
                worked = true;
            }
            if self.attendance.has_more(home) {
                self.attendance.homes.insert(home);
            }
        });
        worked
    }

    /// Looks at some of all subscriptions, after the rules have changed; says whether there were any to look at.
    fn look_who_is_there(&mut self) -> bool {
        let Some(first) = self.attendance.look else { return false };
        let end = first + LOOKS_PER_TURN;
        for place in first..end {
            let Some(subscription) = self.topics.subscriptions.get(place) else { continue };
            let (slot, log) = (subscription.slot, subscription.log);
            let topic = self.topics.logs[log as usize].topic;
            if self.limits.rules.presence(self.topics.name(topic).text) {
                self.arrives(slot, place as u32);
            } else {
                self.attendance.depart(place as u32);
            }
        }
        self.attendance.look = Some(end).filter(|end| *end < self.topics.subscriptions.bound());
        true
    }

    /// As a home: a shard says how many connections of a name read a topic there.
    pub(in crate::shard) fn hear_present(&mut self, shard: usize, topic: Name<'_>, name: &str, count: u32) {
        let hash = self.hash_name(topic, name);
        let has_room = self.presence.used_bytes() <= self.store.pool.tables_max() / 8;
        if !has_room {
            reach(Mark::PresenceUntold);
        }
        let times = (self.clock.now_ms, self.clock.wall_ms(), self.limits.demand_ms);
        self.presence.count(topic, (hash, name), (shard, count), has_room, times);
    }

    /// As a home: a shard has no readers of a topic any more.
    pub(in crate::shard) fn all_depart(&mut self, shard: usize, topic: Name<'_>) {
        self.presence.leave(topic, shard, self.clock.now_ms, self.limits.demand_ms);
    }

    /// As a home: tells of somebody how many connections he has, or that he is gone.
    fn tell_person<D: Driver>(&mut self, driver: &mut D, index: u32) {
        let News { topic, name, connections, since_ms } = self.presence.news(index);
        let (mut text, mut key) = ([0; TOPIC_BYTES_MAX], [0; SHOWN_BYTES_MAX]);
        let text = name_of_presence(topic, &mut text);
        key[..name.len()].copy_from_slice(name.as_bytes());
        let key = std::str::from_utf8(&key[..name.len()]).expect("names are text");
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let mut w = Writer::new(&mut payload);
        w.text("{\"name\":");
        json::string(&mut w, key);
        w.text(",\"since\":");
        w.decimal(since_ms);
        w.text(",\"connections\":");
        w.decimal(connections.into());
        w.byte(b'}');
        let len = w.finish().expect("room for the longest was made");
        let (op, len) = if connections > 0 { (Op::Put, len) } else { (Op::Delete, 0) };
        let content = Content { payload: &payload[..len], text: true, key, op, ..Default::default() };
        let name = Name { hash: self.hash_topic(text), text };
        // While nothing may change a history, this one waits, too. Where the rule is gone, there are no keys, and nothing is told.
        let wanted = self.limits.rules.presence_any();
        let told = !wanted || !self.frozen && self.record_and_relay(driver, name, content).is_ok();
        if told && wanted {
            self.stats.presences += 1;
        }
        if !told {
            reach(Mark::PresenceUntold);
        }
        self.presence.was_told(index, told, self.clock.now_ms);
        // What remembers only that somebody is gone, and is read by nobody, is of no use.
        if told
            && connections == 0
            && !self.presence.has(self.hash(topic_of(name)), topic_of(name))
            && let Some(home) = self.homes.find(name).filter(|home| !self.homes.has_audience(*home))
        {
            self.homes.clear(home, &mut self.store);
        }
    }
}

/// Returns the topic whose readers a topic tells of.
fn topic_of(name: Name<'_>) -> &str {
    name.text.strip_prefix(PRESENCE_PREFIX).unwrap_or("")
}
