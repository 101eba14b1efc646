//! Pongs: every ping is answered, in order, and before everything that waits for the connection, but for the rest of a frame
//! that was begun.
//!
//! ```text
//!   queue   [ rest of a frame | pong | pong | answers, replay, close ... ]
//!             begun             pongs       ^ the next pong comes here
//! ```
//!
//! A peer measures by its pings whether we live; an answer that stood behind 256 KiB of data would tell it too late. Nor is one
//! dropped: the pongs count into the queue like everything in it, and whoever pings without reading is not read any more.
//!
//! Invariant: the queue of a WebSocket begins with `begun` bytes of a frame, and then holds whole frames.

use corecast_protocol::ws::frame;

use crate::io::driver::{Driver, Slot};
use crate::shard::Shard;

impl Shard {
    /// Answers a ping.
    pub(in crate::shard) fn pong<D: Driver>(&mut self, driver: &mut D, slot: Slot, payload: &[u8]) {
        let mut bytes = [0; 2 + frame::CONTROL_BYTES_MAX];
        let header = frame::write_header(&mut bytes, true, false, frame::Opcode::Pong, payload.len(), None);
        let len = header + payload.len();
        bytes[header..len].copy_from_slice(payload);
        let active = self.active(slot);
        let front = active.front;
        active.front.pongs += len as u32;
        let index = self.slots.connections[slot as usize].active as usize;
        let queue = &mut self.slots.actives[index].queue;
        self.work.spend_on(queue.len() as usize);
        if queue.insert(&mut self.store, driver.memory_mut(), front.begun + front.pongs, &bytes[..len]) {
            self.queued(slot);
        } else {
            self.slots.actives[index].front = front;
            self.shed(driver, slot);
        }
    }
}
