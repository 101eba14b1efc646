//! The topics that one reader follows, from request to request: one `Watch` each, and their combined cursor.
//!
//! Owns: what the reader must see next of each topic. Survives connections: a client that comes back goes on from here.

use crate::ask::{Ask, Transport};
use crate::item::{Item, Message};
use crate::oracle::{Cursor, Oracle, PayloadId, Since, Told, Watch};

#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) topics: Vec<String>,
    since: Since,
    watches: Vec<Watch>,
    /// Per topic, messages that came without a cursor, from a place that is not known yet.
    unplaced: Vec<Vec<Message>>,
    /// The newest only was asked for.
    pub(crate) conflates: bool,
    /// The cursors that were told last, as a browser would send them back.
    told: Option<String>,
    /// Something came since they were told.
    stale: bool,
    /// Events come in the way of several topics: nothing but a block of cursors has an id.
    shared: bool,
    /// How it asked last.
    transport: Transport,
}

impl Following {
    pub(crate) fn new(topics: Vec<String>, since: Since) -> Following {
        Following {
            watches: topics.iter().map(|topic| Watch::new(topic, since)).collect(),
            unplaced: topics.iter().map(|_| Vec::new()).collect(),
            topics,
            since,
            conflates: false,
            told: None,
            stale: false,
            shared: false,
            transport: Transport::Poll,
        }
    }

    /// Returns the cursors to go on from, if all are known.
    pub(crate) fn cursors(&self) -> Option<String> {
        let cursors: Option<Vec<String>> = self.watches.iter().map(|watch| Some(watch.last()?.to_string())).collect();
        Some(cursors?.join(","))
    }

    /// Returns where the next request starts: behind what came, or where the first one did.
    pub(crate) fn since(&mut self) -> String {
        let known = self.cursors();
        if known.is_none() {
            self.restart();
        }
        known.unwrap_or_else(|| self.since.to_string())
    }

    /// Goes back to what was told last, as a browser does, and returns that; what came behind it comes again.
    pub(crate) fn last_event_id(&mut self) -> Option<String> {
        let told = self.told.clone()?;
        for (watch, cursor) in self.watches.iter_mut().zip(told.split(',')) {
            *watch = Watch::new(watch.topic(), Since::After(Cursor::parse(cursor)));
        }
        Some(told)
    }

    /// Begins anew: of some topics nobody knows where they stand.
    fn restart(&mut self) {
        for watch in &mut self.watches {
            *watch = Watch::new(watch.topic(), self.since);
        }
    }

    /// A request goes out.
    pub(crate) fn asked(&mut self, oracle: &Oracle, ask: &Ask) {
        self.watches.iter_mut().for_each(|watch| watch.asked(oracle));
        self.stale = false;
        self.shared = ask.is_shared();
        self.transport = ask.transport;
    }

    /// The connection is gone, or the answer is over: what came without a cursor will never have one.
    pub(crate) fn parted(&mut self, oracle: &mut Oracle) {
        for (watch, unplaced) in self.watches.iter().zip(&mut self.unplaced) {
            let ids: Vec<PayloadId> = unplaced
                .drain(..)
                .map(|message| {
                    let (bytes, _) = oracle.restore(watch.topic(), &message);
                    oracle.identify(watch.topic(), &bytes)
                })
                .collect();
            if !ids.is_empty() {
                oracle.saw_raw(watch.topic(), ids);
            }
        }
    }

    /// Says whether everything came that anybody knows of; with `combined`, also the cursors of it.
    pub(crate) fn is_complete(&self, oracle: &Oracle, combined: bool) -> bool {
        self.watches.iter().all(|watch| watch.is_complete(oracle)) && !(combined && self.stale)
    }

    /// Describes what is missing, for reports.
    pub(crate) fn describe(&self, oracle: &Oracle) -> String {
        let missing = self.watches.iter().filter(|watch| !watch.is_complete(oracle));
        let missing: Vec<String> =
            missing.map(|watch| format!("{watch:?}, head {:?}", oracle.head(watch.topic()))).collect();
        format!("{missing:?}, cursors due {}", self.stale)
    }

    pub(crate) fn item(&mut self, oracle: &mut Oracle, item: Item) {
        match item {
            Item::Message(message) => self.message(oracle, message),
            Item::Gap(gap) => {
                let place = self.place_of(Some(&gap.topic));
                assert!(gap.reason != "conflated" || self.conflates, "nobody asked for the newest only: {gap:?}");
                if !self.unplaced[place].is_empty() {
                    self.place(oracle, place, Cursor::parse(&gap.from));
                }
                let told =
                    Told { topic: &gap.topic, from: &gap.from, to: &gap.to, count: gap.count, reason: &gap.reason };
                self.watches[place].gap(oracle, told);
                self.stale = true;
                if !self.shared {
                    self.told = Some(gap.to);
                }
            }
            Item::Cursors(cursors) => {
                assert_eq!(cursors.split(',').count(), self.watches.len(), "a cursor for each topic: {cursors}");
                for (place, cursor) in cursors.split(',').enumerate() {
                    let cursor = Cursor::parse(cursor);
                    self.place(oracle, place, cursor);
                    if Transport::POLLS.contains(&self.transport) {
                        self.watches[place].polled_up_to(oracle, cursor);
                    } else {
                        self.watches[place].told(oracle, cursor);
                    }
                }
                self.told = Some(cursors);
                self.stale = false;
            }
            Item::Head(head) => self.watches[0].head_told(oracle, head),
            // What it was refused for is judged by the client.
            Item::Refused(_) | Item::Life => {}
        }
    }

    fn message(&mut self, oracle: &mut Oracle, message: Message) {
        oracle.heard[self.transport as usize] += 1;
        let place = self.place_of(message.topic.as_deref());
        let watch = &mut self.watches[place];
        self.stale = true;
        let (bytes, event) = oracle.restore(watch.topic(), &message);
        match (message.cursor, watch.last()) {
            (Some(cursor), _) => {
                watch.message(oracle, cursor, event.as_deref(), &bytes);
                if !self.shared {
                    self.told = Some(cursor.to_string());
                }
            }
            (None, Some(_)) => watch.next_message(oracle, event.as_deref(), &bytes),
            (None, None) => self.unplaced[place].push(message),
        }
    }

    /// Finds the topic that is named, or the only one.
    fn place_of(&self, topic: Option<&str>) -> usize {
        match topic {
            Some(topic) => self.topics.iter().position(|other| other == topic),
            None => (self.topics.len() == 1).then_some(0),
        }
        .unwrap_or_else(|| panic!("{topic:?} is none of {:?}", self.topics))
    }

    /// Messages that came without cursors end at this one.
    fn place(&mut self, oracle: &mut Oracle, place: usize, last: Cursor) {
        let watch = &mut self.watches[place];
        let unplaced = std::mem::take(&mut self.unplaced[place]);
        let count = unplaced.len() as u64;
        assert!(oracle.numbers.count(last) >= count, "{count} messages end at {last}");
        for (more, message) in (0..count).rev().zip(unplaced) {
            let seq = oracle.numbers.back(last, more);
            let (bytes, event) = oracle.restore(watch.topic(), &message);
            watch.message(oracle, Cursor { seq, ..last }, event.as_deref(), &bytes);
        }
    }
}
