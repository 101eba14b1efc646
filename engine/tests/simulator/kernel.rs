//! A kernel in memory: the second implementor of `Driver`, as unkind as its seed says, and a witness of the contract.
//!
//! Owns: one shard's table of slots, its receive buffers, its queue of orders and its queue of completions.
//! Touches: the network shared with the clients and the other shards' kernels.
//! Never: reorders bytes of one direction, loses a completion, or forgives a breach of the rules in `io/driver.rs`.
//!
//! When things happen, as on the ring: orders take effect in `submit`, in their order; a send is over when `submit`
//! returns; whatever waits (receives, waits for room, accepts, closes) comes back in some later `submit`, in any order
//! between slots and between the operations of one, and may stand in the queue for turns; only `Unsent` is heard right after its `submit`. "Armed" is what the shard can know: from the order until the shard reaped the completion that ends it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;

use corecast::io::driver::{Completion, Driver, End, Interest, Lent, PARTS_MAX, Slot};
use corecast::io::memory::{Memory, Span};

use crate::faults::Faults;
use crate::net::{ConnId, Found, SharedNet};
use crate::rng::Rng;
use crate::seat::{Armed, BufferOwner, EMPTY, Phase, Seat, Sizes, Tally};

/// Longest wait of who was sent away for want of the kernel's memory, in microseconds.
const SHORTAGE_US_MAX: u64 = 50_000;

/// What the shard ordered, waiting for `submit`.
#[derive(Debug)]
enum Order {
    Accept,
    HoldAccepting(bool),
    StopAccepting,
    Receive(Slot),
    CancelReceive(Slot, u16, Interest),
    Send(Slot, Vec<Span>, u64),
    WaitWritable,
    CancelWritable(Slot, u16),
    FinishSending(Slot),
    Close(Slot),
}

#[derive(Debug)]
pub(crate) struct FakeKernel {
    shard: usize,
    net: SharedNet,
    rng: Rng,
    faults: Faults,
    memory: Memory,
    seats: Vec<Seat>,
    buffers: Vec<Vec<u8>>,
    owners: Vec<BufferOwner>,
    orders: VecDeque<Order>,
    orders_max: usize,
    queue: VecDeque<Completion>,
    accepting: bool,
    /// Accepted between two looks, at most.
    pub(crate) accepts_max: usize,
    /// Time that each order takes.
    pub(crate) order_us: u64,
    held: bool,
    stopped: bool,
    pub(crate) tally: Tally,
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Returns whose completion this is; that of a listener is nobody's.
fn slot_of(completion: &Completion) -> Slot {
    match *completion {
        Completion::Accepted { slot, .. }
        | Completion::Connected { slot, .. }
        | Completion::Received { slot, .. }
        | Completion::ReceiveEnded { slot, .. }
        | Completion::Readable { slot, .. }
        | Completion::Unsent { slot, .. }
        | Completion::Writable { slot, .. }
        | Completion::Secured { slot, .. }
        | Completion::Announced { slot, .. }
        | Completion::PeerEnded { slot }
        | Completion::Broken { slot, .. }
        | Completion::Closed { slot } => slot,
        Completion::AcceptFailed { .. } => Slot::MAX,
    }
}

impl FakeKernel {
    pub(crate) fn new(shard: usize, net: SharedNet, rng: Rng, faults: Faults, sizes: Sizes) -> FakeKernel {
        FakeKernel {
            shard,
            net,
            rng,
            faults,
            memory: Memory::reserve(sizes.memory_bytes).expect("the host has this much address space"),
            seats: vec![EMPTY; sizes.slots as usize],
            buffers: vec![vec![0xDD; sizes.buffer_bytes]; usize::from(sizes.buffers)],
            owners: vec![BufferOwner::Kernel; usize::from(sizes.buffers)],
            orders: VecDeque::new(),
            orders_max: sizes.orders,
            queue: VecDeque::new(),
            accepting: false,
            accepts_max: usize::MAX,
            order_us: 0,
            held: false,
            stopped: false,
            tally: Tally::default(),
        }
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Says whether a shard that rests must wake: something stands in the queue, or would if the kernel looked now.
    pub(crate) fn must_wake(&mut self) -> bool {
        self.look_around();
        !self.queue.is_empty()
    }

    /// Returns when the kernel next has something to say of itself.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        let receives = self.seats.iter().flat_map(|seat| [seat.receive, seat.writable]).flatten();
        let closes = self.seats.iter().filter_map(|seat| match seat.phase {
            Phase::Closed(due_us) => Some(due_us),
            _ => None,
        });
        receives.filter(|armed| armed.live).filter_map(|armed| armed.due_us).chain(closes).min()
    }

    /// Returns how many slots are not free.
    pub(crate) fn slots_taken(&self) -> usize {
        self.seats.iter().filter(|seat| seat.phase != Phase::Free).count()
    }

    /// Describes what this kernel knows of a connection, for reports.
    pub(crate) fn describe(&self, conn: ConnId) -> Option<String> {
        let slot = self.seats.iter().position(|seat| seat.phase != Phase::Free && seat.conn == conn)?;
        Some(format!("shard {} slot {slot}: {:?}", self.shard, self.seats[slot]))
    }

    /// Says whether nobody can be accepted before somebody is closed.
    pub(crate) fn is_full(&self) -> bool {
        self.slots_taken() == self.seats.len()
    }

    /// Returns how many receive buffers the shard holds.
    pub(crate) fn buffers_lent(&self) -> usize {
        self.owners.iter().filter(|owner| **owner == BufferOwner::Shard).count()
    }

    /// Wakes the shard of this kernel, as the control plane does.
    pub(crate) fn ring_own_doorbell(&self) {
        self.net.borrow_mut().ring_doorbell(self.shard);
    }

    #[track_caller]
    fn breach(&self, slot: Slot, rule: &str) -> ! {
        panic!("driver contract, shard {} slot {slot}: {rule}; {:?}", self.shard, self.seats.get(slot as usize))
    }

    #[track_caller]
    fn open_seat(&mut self, slot: Slot) -> &mut Seat {
        if slot as usize >= self.seats.len() {
            self.breach(slot, "slot outside the table");
        }
        if self.seats[slot as usize].phase != Phase::Open {
            self.breach(slot, "named while not open");
        }
        &mut self.seats[slot as usize]
    }

    /// Queues an order; when the queue is full the kernel takes the orders early, as the ring does.
    fn order(&mut self, order: Order) {
        if self.orders.len() == self.orders_max {
            self.tally.overfull_orders += 1;
            self.execute();
        }
        self.orders.push_back(order);
    }

    fn execute(&mut self) {
        self.net.borrow_mut().advance_us(self.order_us * self.orders.len() as u64);
        while let Some(order) = self.orders.pop_front() {
            match order {
                Order::Accept => self.accepting = !self.stopped,
                Order::HoldAccepting(held) => self.held = held,
                Order::StopAccepting => {
                    self.accepting = false;
                    self.stopped = true;
                    self.net.borrow_mut().refuse(self.shard);
                }
                Order::Receive(slot) => {
                    if self.seats[slot as usize].receive.is_some_and(|armed| armed.interest == Interest::Once) {
                        self.answer_receive(slot);
                    }
                }
                Order::CancelReceive(slot, generation, interest) => self.execute_cancel(slot, generation, interest),
                Order::Send(slot, parts, before) => self.execute_send(slot, &parts, before),
                Order::WaitWritable => {}
                Order::CancelWritable(slot, generation) => {
                    let seat = &mut self.seats[slot as usize];
                    if let Some(armed) = &mut seat.writable
                        && armed.generation == generation
                        && armed.live
                    {
                        armed.live = false;
                        self.queue.push_back(Completion::Writable { slot, generation });
                    }
                }
                Order::FinishSending(slot) => {
                    self.seats[slot as usize].finished = true;
                    let conn = self.seats[slot as usize].conn;
                    self.net.borrow_mut().server_end(conn);
                }
                Order::Close(slot) => {
                    let due_us = self.due_us(self.faults.delay_us_max);
                    let seat = &mut self.seats[slot as usize];
                    seat.phase = Phase::Closed(due_us);
                    self.net.borrow_mut().server_close(seat.conn);
                }
            }
        }
    }

    fn execute_cancel(&mut self, slot: Slot, generation: u16, interest: Interest) {
        let seat = &mut self.seats[slot as usize];
        let Some(armed) = &mut seat.receive else {
            return;
        };
        if armed.generation != generation || armed.interest != interest {
            return;
        }
        if !armed.live {
            self.tally.crossed_cancels += 1;
            return;
        }
        armed.live = false;
        self.queue.push_back(match interest {
            Interest::Readiness | Interest::Ending => {
                Completion::Readable { slot, generation, cancelled: true, failed: false }
            }
            Interest::Multishot | Interest::Next | Interest::Once => {
                Completion::ReceiveEnded { slot, generation, end: End::Cancelled }
            }
        });
    }

    /// Returns the bytes of a send's pieces, one after the other.
    fn bytes_of(&self, parts: &[Span]) -> Vec<u8> {
        parts.iter().flat_map(|part| self.memory.bytes(*part)).copied().collect()
    }

    fn execute_send(&mut self, slot: Slot, parts: &[Span], before: u64) {
        let bytes = self.bytes_of(parts);
        if hash(&bytes) != before {
            self.breach(slot, "the bytes of a send changed before submit");
        }
        self.tally.sends += 1;
        let seat = &mut self.seats[slot as usize];
        let offered = if self.rng.chance(self.faults.again) {
            0
        } else if self.rng.chance(self.faults.short_send) {
            self.rng.below(bytes.len())
        } else {
            bytes.len()
        };
        let sent = if seat.finished {
            Err(libc::EPIPE)
        } else if self.rng.chance(self.faults.shortage) {
            Err(self.rng.pick(&[libc::ENOBUFS, libc::ENOMEM]))
        } else {
            match self.net.borrow_mut().server_write(seat.conn, &bytes[..offered]) {
                Ok(0) => Err(libc::EAGAIN),
                Ok(count) => Ok(count as u32),
                Err(()) => Err(self.rng.pick(&[libc::ECONNRESET, libc::EPIPE])),
            }
        };
        match sent {
            Ok(count) if count as usize == bytes.len() => return,
            Ok(_) => self.tally.short += 1,
            Err(libc::ENOBUFS | libc::ENOMEM) => self.tally.shortages += 1,
            Err(_) => self.tally.again += 1,
        }
        seat.unsent_unreaped += 1;
        self.queue.push_back(Completion::Unsent { slot, asked: bytes.len() as u32, sent });
    }

    fn has_news(&self, conn: ConnId, interest: Interest) -> bool {
        let net = self.net.borrow();
        if interest == Interest::Ending { net.server_sees_end(conn) } else { net.server_readable(conn) }
    }

    fn due_us(&mut self, delay_us_max: u64) -> u64 {
        self.net.borrow().now_us() + self.rng.within(0..delay_us_max + 1)
    }

    /// Answers whatever waits and is due: accepts, receives, waits for room, closes; slots in random order.
    fn look_around(&mut self) {
        self.look_at_backlog();
        let now_us = self.net.borrow().now_us();
        let mut slots: Vec<Slot> =
            (0..self.seats.len() as Slot).filter(|slot| self.seats[*slot as usize].phase != Phase::Free).collect();
        self.rng.shuffle(&mut slots);
        for slot in slots {
            let seat = self.seats[slot as usize];
            if let Phase::Closed(due_us) = seat.phase {
                if due_us <= now_us {
                    self.seats[slot as usize].phase = Phase::ClosedUnreaped;
                    self.queue.push_back(Completion::Closed { slot });
                }
                continue;
            }
            if let Some(armed) = seat.receive
                && armed.live
                && self.has_news(seat.conn, armed.interest)
            {
                let due_us = armed.due_us.unwrap_or_else(|| self.due_us(self.faults.delay_us_max));
                self.seats[slot as usize].receive = Some(Armed { due_us: Some(due_us), ..armed });
                if due_us <= now_us {
                    // One busy socket may take up to 32 buffers in a row.
                    for _ in 0..32 {
                        self.answer_receive(slot);
                        if self.rng.chance(self.faults.pauses) {
                            break;
                        }
                    }
                }
            }
            self.look_for_room(slot, now_us);
        }
    }

    fn look_for_room(&mut self, slot: Slot, now_us: u64) {
        let seat = self.seats[slot as usize];
        let Some(armed) = seat.writable.filter(|armed| armed.live) else {
            return;
        };
        // That the peer has ended its direction ends every poll.
        let ended = self.net.borrow().server_sees_end(seat.conn);
        let room = self.net.borrow().server_writable(seat.conn) || seat.finished || ended;
        if !room && armed.due_us.is_none() && !self.rng.chance(self.faults.false_writable / 8) {
            return;
        }
        let due_us = armed.due_us.unwrap_or_else(|| self.due_us(self.faults.late_writable_us_max));
        let answered = due_us <= now_us;
        self.seats[slot as usize].writable = Some(Armed { due_us: Some(due_us), live: !answered, ..armed });
        if answered {
            self.queue.push_back(Completion::Writable { slot, generation: armed.generation });
        }
    }

    fn look_at_backlog(&mut self) {
        let mut accepts = 0;
        while self.accepting
            && !self.held
            && accepts < self.accepts_max
            && self.net.borrow().backlog_len(self.shard) > 0
        {
            accepts += 1;
            let free: Vec<Slot> = (0..self.seats.len() as Slot)
                .filter(|slot| matches!(self.seats[*slot as usize].phase, Phase::Free | Phase::ClosedUnreaped))
                .collect();
            let errno = if free.is_empty() { libc::ENFILE } else { libc::ENOMEM };
            if free.is_empty() || self.rng.chance(self.faults.accept_fails) {
                self.tally.table_full += u64::from(free.is_empty());
                self.accepting = false;
                self.queue.push_back(Completion::AcceptFailed { listener: 0, errno });
                return;
            }
            let slot = self.rng.pick(&free);
            let conn = self.net.borrow_mut().accept(self.shard).expect("the backlog was not empty");
            // `Closed` of the last owner, and `Unsent` before it, may still stand in the queue, ahead of this `Accepted`.
            let unsent_unreaped = self.seats[slot as usize].unsent_unreaped;
            self.seats[slot as usize] = Seat { phase: Phase::Unannounced, conn, unsent_unreaped, ..EMPTY };
            let peer = SocketAddr::from((self.net.borrow().address_of(conn), 40_000));
            self.queue.push_back(Completion::Accepted { listener: 0, slot, peer });
            if self.net.borrow().names.contains_key(&conn) {
                self.queue.push_back(Completion::Secured { slot, resumed: false, took_us: 0 });
            }
        }
    }

    /// Answers an armed receive with what there is now.
    fn answer_receive(&mut self, slot: Slot) {
        let seat = self.seats[slot as usize];
        let Some(armed) = seat.receive.filter(|armed| armed.live) else {
            return;
        };
        let generation = armed.generation;
        let over = |end| Completion::ReceiveEnded { slot, generation, end };
        let readable = self.has_news(seat.conn, armed.interest);
        if !readable && armed.interest != Interest::Once {
            return;
        }
        let completion = if matches!(armed.interest, Interest::Readiness | Interest::Ending) {
            let failed = self.net.borrow().has_failed(seat.conn);
            Completion::Readable { slot, generation, cancelled: false, failed }
        } else if !readable {
            over(End::Again)
        } else if armed.interest == Interest::Multishot && self.rng.chance(self.faults.rearm / 2) {
            self.tally.rearms += 1;
            over(End::Rearm)
        } else if let Some(id) = self.free_buffer() {
            let max = self.buffers[id].len();
            let max = if self.rng.chance(self.faults.small_receive) { self.rng.skewed(max) } else { max };
            match self.net.borrow_mut().server_read(seat.conn, &mut self.buffers[id][..max]) {
                Found::Bytes(count) => {
                    self.owners[id] = BufferOwner::Queue;
                    let more = armed.interest == Interest::Multishot && !self.rng.chance(self.faults.rearm / 2);
                    let lent = Lent { id: id as u16, len: count as u32 };
                    Completion::Received { slot, generation, lent, more }
                }
                Found::Eof => over(End::Eof),
                Found::Reset => over(End::Failed(libc::ECONNRESET)),
                Found::Nothing => unreachable!("the connection was readable"),
            }
        } else {
            self.tally.no_buffers += 1;
            over(End::NoBuffers)
        };
        let live = matches!(completion, Completion::Received { more: true, .. });
        self.seats[slot as usize].receive = Some(Armed { live, due_us: None, ..armed });
        self.queue.push_back(completion);
    }

    /// Finds a receive buffer, unless others were quicker.
    fn free_buffer(&mut self) -> Option<usize> {
        if self.rng.chance(self.faults.no_buffers) {
            return None;
        }
        self.owners.iter().position(|owner| *owner == BufferOwner::Kernel)
    }

    /// Keeps the books when the shard learns of a completion.
    fn learned(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { slot, .. } => self.seats[slot as usize].phase = Phase::Open,
            Completion::Received { slot, lent, more, .. } => {
                self.owners[usize::from(lent.id)] = BufferOwner::Shard;
                if !more {
                    self.seats[slot as usize].receive = None;
                }
            }
            Completion::ReceiveEnded { slot, .. } | Completion::Readable { slot, .. } => {
                self.seats[slot as usize].receive = None;
            }
            Completion::Unsent { slot, .. } => self.seats[slot as usize].unsent_unreaped -= 1,
            Completion::Writable { slot, .. } => self.seats[slot as usize].writable = None,
            Completion::Closed { slot } if self.seats[slot as usize].phase == Phase::ClosedUnreaped => {
                self.seats[slot as usize] = EMPTY;
            }
            Completion::Closed { .. } => {}
            Completion::Secured { .. } => {}
            Completion::Announced { .. } | Completion::PeerEnded { .. } | Completion::Broken { .. } => {
                unreachable!("there is no edge here")
            }
            Completion::AcceptFailed { .. } | Completion::Connected { .. } => {}
        }
    }
}

impl Driver for FakeKernel {
    fn now_us(&mut self) -> u64 {
        let mut net = self.net.borrow_mut();
        net.advance_us(self.rng.below(3) as u64);
        net.now_us()
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    fn slots_max(&self) -> u32 {
        self.seats.len() as u32
    }

    fn room(&self) -> usize {
        self.orders_max - self.orders.len()
    }

    fn accept(&mut self, listener: u8) {
        assert_eq!(listener, 0, "there is one listener");
        self.order(Order::Accept);
    }

    fn hold_accepting(&mut self, held: bool) {
        self.order(Order::HoldAccepting(held));
    }

    fn stop_accepting(&mut self) {
        self.order(Order::StopAccepting);
    }

    fn receive(&mut self, slot: Slot, generation: u16, interest: Interest) {
        let seat = self.open_seat(slot);
        if seat.receive.is_some() {
            self.breach(slot, "a second receive while one is armed");
        }
        seat.receive = Some(Armed { generation, interest, live: true, due_us: None });
        self.order(Order::Receive(slot));
    }

    fn cancel_receive(&mut self, slot: Slot, generation: u16, interest: Interest) {
        self.open_seat(slot);
        self.order(Order::CancelReceive(slot, generation, interest));
    }

    fn send(&mut self, slot: Slot, bytes: Span) {
        self.send_parts(slot, &[bytes]);
    }

    fn send_parts(&mut self, slot: Slot, parts: &[Span]) {
        let seat = self.open_seat(slot);
        seat.sends_since_submit += 1;
        if seat.sends_since_submit > 1 {
            self.breach(slot, "two sends between two submits");
        }
        if seat.unsent_unreaped > 0 {
            self.breach(slot, "a send while Unsent of the one before waits to be reaped");
        }
        if parts.is_empty() || parts.len() > PARTS_MAX || parts.iter().any(|part| part.len == 0) {
            self.breach(slot, "a send of nothing, or of too many pieces");
        }
        if parts.iter().any(|part| part.start + u64::from(part.len) > self.memory.len() as u64) {
            self.breach(slot, "a send from outside the memory");
        }
        let before = hash(&self.bytes_of(parts));
        self.order(Order::Send(slot, parts.to_vec(), before));
    }

    fn wait_writable(&mut self, slot: Slot, generation: u16) {
        let seat = self.open_seat(slot);
        if seat.writable.is_some() {
            self.breach(slot, "a second wait for room while one is armed");
        }
        seat.writable = Some(Armed { generation, interest: Interest::Readiness, live: true, due_us: None });
        self.order(Order::WaitWritable);
    }

    fn wait_for_memory(&mut self, slot: Slot, generation: u16) {
        let due_us = self.due_us(SHORTAGE_US_MAX);
        let seat = self.open_seat(slot);
        if seat.writable.is_some() {
            self.breach(slot, "a second wait for room while one is armed");
        }
        seat.writable = Some(Armed { generation, interest: Interest::Readiness, live: true, due_us: Some(due_us) });
        self.order(Order::WaitWritable);
    }

    fn cancel_writable(&mut self, slot: Slot, generation: u16) {
        self.open_seat(slot);
        self.order(Order::CancelWritable(slot, generation));
    }

    fn finish_sending(&mut self, slot: Slot) {
        self.open_seat(slot);
        self.order(Order::FinishSending(slot));
    }

    fn close(&mut self, slot: Slot) {
        let seat = self.open_seat(slot);
        if seat.receive.is_some() || seat.writable.is_some() {
            self.breach(slot, "closed while something is armed");
        }
        seat.phase = Phase::Closing;
        self.order(Order::Close(slot));
    }

    fn received(&mut self, _slot: Slot, lent: Lent) -> &mut [u8] {
        let id = usize::from(lent.id);
        assert_eq!(self.owners[id], BufferOwner::Shard, "driver contract: buffer {id} is not lent to the shard");
        &mut self.buffers[id][..lent.len as usize]
    }

    fn recycle(&mut self, lent: Lent) {
        let id = usize::from(lent.id);
        assert_eq!(self.owners[id], BufferOwner::Shard, "driver contract: buffer {id} is recycled but not lent");
        self.owners[id] = BufferOwner::Kernel;
        // Whoever still reads it shall notice.
        self.buffers[id].fill(0xDD);
    }

    fn submit(&mut self) {
        // Events before, after or on both sides of the orders: data and cancel cross, room comes before the wait for it.
        let sides = self.rng.below(3);
        if sides != 0 {
            self.look_around();
        }
        self.execute();
        if sides != 1 {
            self.look_around();
        }
        for seat in &mut self.seats {
            seat.sends_since_submit = 0;
        }
    }

    fn reap(&mut self, into: &mut Vec<Completion>, max: usize) {
        // Of one operation of a socket nothing overtakes anything, but for `Unsent`, which never waits.
        let mut late: Vec<(Slot, bool)> = Vec::new();
        let mut place = 0;
        let halves = !self.queue.is_empty() && self.rng.chance(self.faults.halves);
        let end = if halves { self.rng.below(self.queue.len()) } else { max };
        self.tally.halves += u64::from(halves);
        for nth in 0..max {
            let Some(completion) = self.queue.get(place).copied() else {
                break;
            };
            let way = (slot_of(&completion), matches!(completion, Completion::Writable { .. }));
            let may_wait = !matches!(completion, Completion::Unsent { .. });
            if may_wait && (nth >= end || late.contains(&way) || self.rng.chance(self.faults.late)) {
                self.tally.late += 1;
                late.push(way);
                place += 1;
                continue;
            }
            self.tally.crossed += u64::from(may_wait && late.contains(&(way.0, !way.1)));
            self.queue.remove(place);
            self.learned(completion);
            into.push(completion);
        }
    }

    fn wake(&mut self, shard: usize) {
        self.net.borrow_mut().ring_doorbell(shard);
    }

    fn take_names(&mut self, slot: Slot) -> Option<Box<str>> {
        self.net.borrow_mut().names.remove(&self.seats[slot as usize].conn)
    }
}
