//! A kernel that takes every send at once and in full: what is counted on it is the shard alone.
//!
//! Owns: block memory, one receive buffer, the orders since the last submit. One peer speaks at a time. Never: refuses,
//! delays or checks an order; the simulator's kernel does that.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use corecast::io::driver::{Completion, Driver, Interest, Lent, Slot};
use corecast::io::memory::{Memory, Span};

/// Orders that fit before a submit: more than a turn gives.
const ORDERS: usize = 8192;

#[derive(Debug)]
pub(super) struct QuietKernel {
    memory: Memory,
    slots: u32,
    /// How each slot waits for bytes.
    armed: Vec<Option<(u16, Interest)>>,
    /// Who has sent what stands in `buffer`.
    speaker: Option<Slot>,
    buffer: Vec<u8>,
    said: VecDeque<Completion>,
    now_us: u64,
    orders: Vec<(Slot, Span)>,
    /// Keeps the bytes of what is sent, by slot.
    pub(super) keeps: bool,
    pub(super) kept: Vec<Vec<u8>>,
    pub(super) sends: u64,
    pub(super) sent_bytes: u64,
}

impl QuietKernel {
    pub(super) fn new(slots: u32, memory_bytes: usize) -> QuietKernel {
        QuietKernel {
            memory: Memory::reserve(memory_bytes).expect("the host has this much address space"),
            slots,
            armed: vec![None; slots as usize],
            speaker: None,
            buffer: Vec::new(),
            said: VecDeque::new(),
            now_us: 1_000_000,
            orders: Vec::with_capacity(ORDERS),
            keeps: false,
            kept: vec![Vec::new(); slots as usize],
            sends: 0,
            sent_bytes: 0,
        }
    }

    /// A peer connects.
    pub(super) fn accept_one(&mut self, slot: Slot) {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        self.said.push_back(Completion::Accepted { listener: 0, slot, peer });
    }

    /// A peer sends bytes, which arrive together.
    pub(super) fn speak(&mut self, slot: Slot, bytes: &[u8]) {
        assert!(self.speaker.is_none(), "what was sent before has been received");
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.speaker = Some(slot);
    }

    /// A second passes, or a little more. Otherwise time stands still: no timer is due while instructions are counted.
    pub(super) fn pass_a_second(&mut self) {
        self.now_us += 1_100_000;
    }

    /// Says whether everything that was sent to the shard has been received.
    pub(super) fn heard(&self) -> bool {
        self.speaker.is_none()
    }

    /// Answers the slot that waits for what has been sent.
    fn answer(&mut self) {
        let Some(slot) = self.speaker else { return };
        let Some((generation, interest)) = self.armed[slot as usize] else { return };
        if interest == Interest::Readiness {
            self.armed[slot as usize] = None;
            self.said.push_back(Completion::Readable { slot, generation, cancelled: false, failed: false });
            return;
        }
        let more = interest == Interest::Multishot;
        if !more {
            self.armed[slot as usize] = None;
        }
        self.speaker = None;
        let lent = Lent { id: 0, len: self.buffer.len() as u32 };
        self.said.push_back(Completion::Received { slot, generation, lent, more });
    }
}

impl Driver for QuietKernel {
    fn now_us(&mut self) -> u64 {
        self.now_us
    }

    fn ticks(&self) -> u64 {
        2 * self.now_us
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    fn slots_max(&self) -> u32 {
        self.slots
    }

    fn room(&self) -> usize {
        ORDERS - self.orders.len()
    }

    fn accept(&mut self, _listener: u8) {}

    fn hold_accepting(&mut self, _held: bool) {}

    fn stop_accepting(&mut self) {}

    fn receive(&mut self, slot: Slot, generation: u16, interest: Interest) {
        self.armed[slot as usize] = Some((generation, interest));
    }

    fn cancel_receive(&mut self, _slot: Slot, _generation: u16, _interest: Interest) {
        unreachable!("nobody here is too fast");
    }

    fn send(&mut self, slot: Slot, bytes: Span) {
        self.orders.push((slot, bytes));
    }

    fn send_parts(&mut self, slot: Slot, parts: &[Span]) {
        self.orders.extend(parts.iter().map(|part| (slot, *part)));
    }

    fn wait_writable(&mut self, _slot: Slot, _generation: u16) {
        unreachable!("every send is taken in full");
    }

    fn wait_for_memory(&mut self, _slot: Slot, _generation: u16) {
        unreachable!("every send is taken in full");
    }

    fn cancel_writable(&mut self, _slot: Slot, _generation: u16) {
        unreachable!("nobody waits for room");
    }

    fn finish_sending(&mut self, slot: Slot) {
        unreachable!("nobody ends, but slot {slot} is ended");
    }

    fn close(&mut self, slot: Slot) {
        unreachable!("nobody ends, but slot {slot} is closed");
    }

    fn received(&mut self, _slot: Slot, lent: Lent) -> &mut [u8] {
        &mut self.buffer[..lent.len as usize]
    }

    fn recycle(&mut self, _lent: Lent) {}

    fn submit(&mut self) {
        for (slot, span) in self.orders.drain(..) {
            self.sends += 1;
            self.sent_bytes += u64::from(span.len);
            if self.keeps {
                self.kept[slot as usize].extend_from_slice(self.memory.bytes(span));
            }
        }
        self.answer();
    }

    fn reap(&mut self, into: &mut Vec<Completion>, max: usize) {
        let count = self.said.len().min(max);
        into.extend(self.said.drain(..count));
    }

    fn wake(&mut self, _shard: usize) {}
}
