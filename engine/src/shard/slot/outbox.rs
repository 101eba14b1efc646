//! The outbox: what waits to be sent to one connection only, beside what it reads of frame logs.

use crate::io::driver::{Driver, Slot};
use crate::io::memory::Span;
use crate::shard::Shard;
use crate::shard::slot::connection::{Life, Waiting};

impl Shard {
    /// Puts bytes into the connection's queue; sheds the connection if there is no memory for them.
    pub(in crate::shard) fn push<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) {
        let gone = self.slots.connections[slot as usize].life != Life::Open;
        if gone || self.slots.is_closing(slot) {
            return; // Nobody reads it any more, or our last word stands in the queue already.
        }
        self.active(slot);
        let index = self.slots.connections[slot as usize].active as usize;
        if self.slots.actives[index].queue.push(&mut self.store, driver.memory_mut(), bytes) {
            self.queued(slot);
        } else {
            self.kill(driver, slot);
        }
    }

    /// Makes room in the connection's queue; `None` if there is no memory.
    pub(in crate::shard) fn place_in_queue<D: Driver>(&mut self, driver: &mut D, slot: Slot, len: u32) -> Option<Span> {
        self.active(slot);
        let connection = &mut self.slots.connections[slot as usize];
        connection.cursor_due = true;
        self.slots.actives[connection.active as usize].queue.reserve(&mut self.store, driver.memory_mut(), len)
    }

    /// Copies a frame into the connection's queue; says false if there is no memory.
    #[must_use]
    pub(in crate::shard) fn queue_span<D: Driver>(&mut self, driver: &mut D, slot: Slot, frame: Span) -> bool {
        self.active(slot);
        let index = self.slots.connections[slot as usize].active as usize;
        let memory = driver.memory_mut();
        let Some(place) = self.slots.actives[index].queue.reserve(&mut self.store, memory, frame.len) else {
            return false;
        };
        memory.copy(frame, place, frame.len);
        self.slots.make_ready(slot);
        true
    }

    /// Copies the rest of a frame that was begun before everything in the connection's queue; says false if there is no
    /// memory.
    #[must_use]
    pub(in crate::shard) fn queue_span_first<D: Driver>(&mut self, driver: &mut D, slot: Slot, rest: Span) -> bool {
        self.active(slot);
        let index = self.slots.connections[slot as usize].active as usize;
        self.slots.make_ready(slot);
        let active = &mut self.slots.actives[index];
        let put = active.queue.push_front(&mut self.store, driver.memory_mut(), rest);
        if put {
            active.front.put_first(rest.len);
        }
        put
    }

    /// Something came into the connection's queue: it is to be sent; and if it is much, no command is taken meanwhile.
    pub(in crate::shard) fn queued(&mut self, slot: Slot) {
        let private_bytes_max = self.limits.private_bytes_max;
        let active = self.active(slot);
        if active.waiting == Waiting::No && active.queue.len() > private_bytes_max {
            active.waiting = Waiting::Drain;
        }
        self.slots.make_ready(slot);
    }
}
