//! Frame logs of a topic: one for each dialect and view in use, those of one view behind each other.

use crate::io::memory::Memory;
use crate::shard::dialect::Dialect;
use crate::shard::dialect::view::ALL;
use crate::shard::memory::few::Few;
use crate::shard::memory::pool::Owner;
use crate::shard::rules::Mode;
use crate::shard::topic::chain::{Chain, Store};
use crate::shard::topic::side::Side;
use crate::shard::topic::topics::{FrameLog, Gauge, LOOK_BYTES, NONE, Topics};

impl Topics {
    /// Returns the topic's log in a dialect and a view, if there is one.
    #[must_use]
    pub(in crate::shard) fn log_if_any(&self, topic: u32, dialect: Dialect, view: u32) -> Option<u32> {
        let mut known = self.topics[topic as usize].logs;
        while known != NONE {
            let log = &self.logs[known as usize];
            if log.dialect == dialect && self.view_of(known) == view {
                return Some(known);
            }
            known = log.next;
        }
        None
    }

    /// Returns what is encoded in a log.
    #[must_use]
    pub(in crate::shard) fn view_of(&self, log: u32) -> u32 {
        self.sides.get(self.logs[log as usize].side as usize).map_or(ALL, |side| side.view)
    }

    /// Returns how many views of a topic are read, besides one.
    #[must_use]
    pub(in crate::shard) fn views_besides(&self, topic: u32, view: u32) -> usize {
        // Logs of one view stand behind each other.
        let (mut count, mut last, mut index) = (0, ALL, self.topics[topic as usize].logs);
        while let Some(log) = self.logs.get(index as usize) {
            let here = self.view_of(index);
            count += usize::from(here != ALL && here != view && here != last);
            (last, index) = (here, log.next);
        }
        count
    }

    /// Returns the topic's log in a dialect and a view; makes it if need be.
    pub(in crate::shard) fn log_of(&mut self, topic: u32, dialect: Dialect, view: u32) -> u32 {
        if let Some(known) = self.log_if_any(topic, dialect, view) {
            return known;
        }
        self.views.hold_too(view);
        let keyed = self.topics[topic as usize].mode == Mode::Command;
        let deltas = self.views.is_delta(view);
        let side = match keyed || view != ALL {
            true => self.sides.insert(Side::new(view, keyed || deltas, deltas)) as u32,
            false => NONE,
        };
        let gauge = match dialect.shape.is_stream() {
            true => self.gauges.insert(Gauge { appended: 0, packed: 0, look_at: LOOK_BYTES, look: 0 }) as u32,
            false => NONE,
        };
        let log = FrameLog {
            topic,
            dialect,
            side,
            next: NONE,
            chain: Chain::new(Owner::Log, self.topics[topic as usize].head),
            subscribers: Few::new(),
            walk: 0,
            pending: 0,
            again: false,
            behind: 0,
            unresolved: 0,
            partials: 0,
            queued: false,
            releasing: false,
            block_bytes: 0,
            appended_tick: 0,
            gauge,
        };
        let index = u32::try_from(self.logs.insert(log)).expect("fewer logs than 2^32");
        // Behind one of the same view, so that this is made of a message once for all of them.
        let mut before = self.topics[topic as usize].logs;
        while before != NONE && self.view_of(before) != view {
            before = self.logs[before as usize].next;
        }
        let place = match self.logs.get_mut(before as usize) {
            Some(before) => &mut before.next,
            None => &mut self.topics[topic as usize].logs,
        };
        let following = std::mem::replace(place, index);
        self.logs[index as usize].next = following;
        index
    }

    /// Forgets the frames of a log.
    pub(in crate::shard) fn clear_log(&mut self, log: u32, store: &mut Store) {
        let log = &mut self.logs[log as usize];
        log.chain.clear(store);
        if let Some(side) = self.sides.get_mut(log.side as usize) {
            side.clear(store);
        }
    }

    /// Forgets what a log knows of messages whose frames it has forgotten.
    pub(in crate::shard) fn trim_side(&mut self, log: u32, store: &mut Store, memory: &Memory) {
        let log = &self.logs[log as usize];
        if let Some(side) = self.sides.get_mut(log.side as usize) {
            side.forget_up_to(store, memory, log.chain.before());
        }
    }

    /// Forgets a log that nobody reads, and no queue names.
    pub(in crate::shard) fn forget_log(&mut self, log: u32) {
        let log = self.logs.remove(log as usize);
        if log.gauge != NONE {
            self.gauges.remove(log.gauge as usize);
        }
        if log.side != NONE {
            let side = self.sides.remove(log.side as usize);
            self.views.release(side.view);
        }
    }

    /// Returns what the streams of a log are measured by; `None` if it has none.
    #[must_use]
    pub(in crate::shard) fn gauge_mut(&mut self, log: u32) -> Option<&mut Gauge> {
        self.gauges.get_mut(self.logs[log as usize].gauge as usize)
    }

    /// Takes a log out of its topic's list.
    pub(in crate::shard) fn unlink_log(&mut self, log: u32) {
        let FrameLog { topic, next, .. } = self.logs[log as usize];
        let topic = &mut self.topics[topic as usize];
        if topic.logs == log {
            topic.logs = next;
            return;
        }
        let mut before = topic.logs;
        while self.logs[before as usize].next != log {
            before = self.logs[before as usize].next;
        }
        self.logs[before as usize].next = next;
    }
}
