//! The echo: a WebSocket that gets everything back; for measuring, and off unless it is asked for.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::message::Message;

use crate::io::driver::{Driver, Slot};
use crate::shard::Shard;
use crate::shard::dialect::encode::Effort;
use crate::shard::slot::wait::Outcome;

impl Shard {
    /// Gives a message back.
    pub(in crate::shard) fn echo<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        text: bool,
        bytes: &[u8],
    ) -> Outcome {
        let message = Message {
            topic: "",
            cursor: Cursor { epoch: 0, seq: 0 },
            event: None,
            payload: bytes,
            text,
            ..Default::default()
        };
        let dialect = self.slots.connections[slot as usize].dialect;
        let effort = Effort::From(self.limits.compress_from.unwrap_or(u32::MAX));
        let len = self.encoder.measure(dialect, &message, effort) as u32;
        self.work.spend(self.encoder.cost_ns);
        self.active(slot);
        let index = self.slots.connections[slot as usize].active as usize;
        let memory = driver.memory_mut();
        match self.slots.actives[index].queue.reserve(&mut self.store, memory, len) {
            Some(place) => {
                self.encoder.write(dialect, &message, memory.bytes_mut(place));
                self.queued(slot);
            }
            None => self.shed(driver, slot),
        }
        Outcome::Done
    }
}
