//! What a ring's connections still have to send.
//!
//! Owns: two halves of the ring's memory, and the bytes that did not fit the kernel. Keeps the driver's two rules: one
//! send per slot between two submits, and bytes that stay as they are until `submit` returns. The halves take turns, so
//! that when the kernel says that a send of the last turn was short, its bytes still stand where they stood.

use std::collections::HashMap;

use corecast::io::driver::{Driver, Errno, Slot};
use corecast::io::memory::Span;

/// Bytes of one half. A turn that sends more goes on in the next.
const HALF_BYTES: u32 = 4 << 20;

/// Memory that a ring needs for its outbox, in bytes.
pub(crate) const MEMORY_BYTES: usize = 2 * HALF_BYTES as usize;

/// Most bytes of one send from a queue, so that one slow connection does not fill a half.
const SLICE_BYTES: usize = 256 << 10;

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Waits for the kernel to have room.
    blocked: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    turn: u32,
    used: u32,
    /// Turn of each slot's last send, by slot.
    sent_in: Vec<u32>,
    /// Sends of the turns with an even and an odd number.
    sends: [Vec<(Slot, Span)>; 2],
    queues: HashMap<Slot, Queue>,
    /// Slots whose queue may go on.
    ready: Vec<Slot>,
}

impl Outbox {
    pub(crate) fn new(slots: u32) -> Outbox {
        Outbox {
            turn: 1,
            used: 0,
            sent_in: vec![0; slots as usize],
            sends: [Vec::new(), Vec::new()],
            queues: HashMap::new(),
            ready: Vec::new(),
        }
    }

    /// Returns how many bytes of a slot wait for room.
    pub(crate) fn waiting_bytes(&self, slot: Slot) -> usize {
        self.queues.get(&slot).map_or(0, |queue| queue.bytes.len())
    }

    /// Sends bytes now, or queues them behind what is queued.
    pub(crate) fn send(&mut self, driver: &mut impl Driver, slot: Slot, bytes: &[u8]) {
        if !self.queues.is_empty()
            && let Some(queue) = self.queues.get_mut(&slot)
        {
            queue.bytes.extend_from_slice(bytes);
        } else if self.sent_in[slot as usize] == self.turn
            || bytes.len() > (HALF_BYTES - self.used) as usize
            || driver.room() == 0
        {
            self.queues.insert(slot, Queue { bytes: bytes.to_vec(), blocked: false });
            self.ready.push(slot);
        } else {
            self.order(driver, slot, bytes);
        }
    }

    /// Takes note of a send of the last turn that was not done in full.
    pub(crate) fn unsent(&mut self, driver: &mut impl Driver, slot: Slot, sent: Result<u32, Errno>) {
        let taken = match sent {
            Ok(taken) => taken,
            Err(libc::EAGAIN) => 0,
            // The connection is gone: its receive says so.
            Err(_) => return self.forget(driver, slot),
        };
        let last = &self.sends[(self.turn as usize + 1) % 2];
        let (_, span) = last.iter().find(|(sender, _)| *sender == slot).expect("unsent names a send of the last turn");
        let rest = driver.memory().bytes(span.part(taken, span.len - taken));
        let queue = self.queues.entry(slot).or_default();
        queue.bytes.splice(..0, rest.iter().copied());
        queue.blocked = true;
        driver.wait_writable(slot, 0);
    }

    /// Takes note that a slot has room again.
    pub(crate) fn writable(&mut self, slot: Slot) {
        if let Some(queue) = self.queues.get_mut(&slot)
            && std::mem::take(&mut queue.blocked)
        {
            self.ready.push(slot);
        }
    }

    /// Drops what a slot still had to send, and waits for nothing any more, so that it can be closed.
    pub(crate) fn forget(&mut self, driver: &mut impl Driver, slot: Slot) {
        if self.queues.remove(&slot).is_some_and(|queue| queue.blocked) {
            driver.cancel_writable(slot, 0);
        }
    }

    /// Orders what may go on; to be called once before `submit`.
    pub(crate) fn flush(&mut self, driver: &mut impl Driver) {
        for slot in std::mem::take(&mut self.ready) {
            let Some(queue) = self.queues.get_mut(&slot).filter(|queue| !queue.blocked) else {
                continue;
            };
            let len = queue.bytes.len().min(SLICE_BYTES).min((HALF_BYTES - self.used) as usize);
            if len == 0 || self.sent_in[slot as usize] == self.turn || driver.room() == 0 {
                self.ready.push(slot);
                continue;
            }
            let slice: Vec<u8> = queue.bytes.drain(..len).collect();
            if queue.bytes.is_empty() {
                self.queues.remove(&slot);
            } else {
                self.ready.push(slot);
            }
            self.order(driver, slot, &slice);
        }
    }

    /// Says whether there is more to send without waiting for anybody.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes note that `submit` returned.
    pub(crate) fn turned(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.used = 0;
        self.sends[self.turn as usize % 2].clear();
    }

    fn order(&mut self, driver: &mut impl Driver, slot: Slot, bytes: &[u8]) {
        let half = self.turn as usize % 2;
        let start = half as u64 * u64::from(HALF_BYTES) + u64::from(self.used);
        let span = Span { start, len: bytes.len() as u32 };
        driver.memory_mut().bytes_mut(span).copy_from_slice(bytes);
        driver.send(slot, span);
        self.used += span.len;
        self.sends[half].push((slot, span));
        self.sent_in[slot as usize] = self.turn;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::sync::mpsc::channel;
    use std::thread;

    use corecast::io::doorbell::Doorbell;
    use corecast::io::driver::Completion;
    use corecast::io::ring::{Ring, RingConfig};

    use super::*;

    /// A peer that reads slowly gets every byte in order, whatever the sizes and however often its socket is full.
    #[test]
    fn slow_readers_get_every_byte() {
        // Far more than both sockets' buffers take (4 and 6 MiB by default).
        const TOTAL: usize = 40 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The reader reads a part for each time that the socket was full, and the rest at the end.
        let (full, fulls) = channel::<()>();
        let reader = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut total, mut may, mut part) = (0, 0, vec![0; 300_000]);
            while total < TOTAL {
                if total >= may {
                    may = if fulls.recv().is_ok() { may + (6 << 20) } else { TOTAL };
                    continue;
                }
                let count = stream.read(&mut part).unwrap();
                assert!(count > 0, "the sender ended after {total} bytes");
                assert!((total..).zip(&part[..count]).all(|(at, byte)| *byte == pattern(at)), "after {total} bytes");
                total += count;
            }
            total
        });
        let config = RingConfig { slots: 4, buffers: 4, buffer_bytes: 256, memory_bytes: MEMORY_BYTES };
        let mut ring = Ring::new(&config, 0, Doorbell::several(1).unwrap(), Vec::new()).unwrap();
        ring.enable().unwrap();
        ring.connect(address, None).unwrap();
        let mut outbox = Outbox::new(4);
        let (mut connected, mut queued, mut blocked) = (None, 0, 0);
        let mut full = Some(full);
        let mut completions = Vec::new();
        while queued < TOTAL || connected.is_some_and(|slot| outbox.waiting_bytes(slot) > 0) {
            outbox.flush(&mut ring);
            ring.submit();
            outbox.turned();
            ring.reap(&mut completions, 100);
            for completion in completions.drain(..) {
                match completion {
                    Completion::Connected { slot, errno: 0 } => connected = Some(slot),
                    Completion::Unsent { slot, sent, .. } => {
                        blocked += 1;
                        // A reader that has read all has no use for it.
                        let _ = full.as_ref().map(|full| full.send(()));
                        outbox.unsent(&mut ring, slot, sent);
                    }
                    Completion::Writable { slot, .. } => outbox.writable(slot),
                    other => panic!("unexpected {other:?}"),
                }
            }
            // Two sends in a turn, small and large: the second must wait for the next turn.
            for len in [1 + queued % 1_000, 1 + queued % 90_000] {
                let Some(slot) = connected.filter(|slot| outbox.waiting_bytes(*slot) < 1 << 20) else { break };
                let bytes: Vec<u8> = (queued..TOTAL.min(queued + len)).map(pattern).collect();
                queued += bytes.len();
                if !bytes.is_empty() {
                    outbox.send(&mut ring, slot, &bytes);
                }
            }
            if queued == TOTAL {
                full = None;
            }
            let soon_us = ring.now_us() + 1_000;
            ring.wait(Some(soon_us));
        }
        assert_eq!(reader.join().unwrap(), TOTAL);
        assert!(blocked > 2, "the socket was full {blocked} times only: the test shows nothing");
        assert!(!outbox.has_ready() && outbox.queues.is_empty());
    }

    /// Differs from its neighbours and does not repeat with any power of two.
    fn pattern(at: usize) -> u8 {
        (at % 251) as u8
    }
}
