//! Raw WebSockets: each message is a payload, of the topic in the path of the handshake; and the echo.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::message::Message;
use corecast_protocol::ws::close;

use crate::io::driver::{Driver, Slot};
use crate::mesh::{Content, Purpose};
use crate::shard::Shard;
use crate::shard::carrier::websocket::{Handled, is_utf8};
use crate::shard::dialect::encode::Effort;
use crate::shard::topic::subscribe::Outcome;
use crate::shard::topic::topics::NONE;

impl Shard {
    pub(in crate::shard) fn publish_payload<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        text: bool,
        bytes: &[u8],
    ) -> Handled {
        let membership = self.connections[slot as usize].first;
        if membership == NONE {
            return Handled::Done;
        }
        let log = &self.topics.logs[self.topics.memberships[membership as usize].log as usize];
        let mut topic = [0; 255];
        let name = self.topics.topic(log.topic).name().text.as_bytes();
        let topic = &mut topic[..name.len()];
        topic.copy_from_slice(name);
        let topic = std::str::from_utf8(topic).expect("topics are text");
        if corecast_protocol::topic::is_system(topic) {
            self.close_websocket(driver, slot, close::POLICY, "topics that start with $ belong to the engine");
            return Handled::Done;
        }
        let text = text || is_utf8(bytes);
        match self.publish(slot, topic, Content { event: "", payload: bytes, text }, Purpose::Silent, "") {
            Outcome::NoRoom(way) => Handled::Room(way),
            Outcome::Done | Outcome::Full => Handled::Done,
        }
    }

    pub(in crate::shard) fn echo<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, bytes: &[u8]) {
        let message = Message { topic: "", cursor: Cursor { epoch: 0, seq: 0 }, event: None, payload: bytes, text };
        let dialect = self.connections[slot as usize].dialect;
        let effort = Effort::From(self.limits.compress_from.unwrap_or(u32::MAX));
        let len = self.encoder.measure(dialect, &message, effort) as u32;
        self.work.spend(self.encoder.cost_ns);
        self.active(slot);
        let index = self.connections[slot as usize].active as usize;
        let memory = driver.memory_mut();
        match self.actives[index].queue.reserve(&mut self.store, memory, len) {
            Some(place) => {
                self.encoder.write(dialect, &message, memory.bytes_mut(place));
                self.queued(slot);
            }
            None => self.shed(driver, slot),
        }
    }
}
