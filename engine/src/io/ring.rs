//! The kernel as a shard sees it: one io_uring per shard, and a table of direct descriptors for its sockets.
//!
//! Owns: the ring, the table, the receive buffers, the block memory, the listeners, and the shard's doorbell. Touches
//! nothing of the shard. Never: waits (see [`super::rest`]), copies a byte of a message, or keeps a record per
//! connection: a completion's token says all.
//!
//! Why the unsafe is sound. An entry names memory by address, so that memory must live until the kernel is done:
//! * a send's bytes lie in `memory`, checked against the mapping when queued; the kernel reads them inside
//!   `io_uring_enter` only (`MSG_DONTWAIT`: it never parks a send), and `submit` returns when every entry was taken;
//! * what names the pieces of a send lies in `parts`, which is emptied only when every entry was taken;
//! * receives write into `buffers`, accepts and connects use boxed places: each says in its module why that holds;
//! * with `DEFER_TASKRUN` the kernel completes nothing outside our own `io_uring_enter`, so no reference into these
//!   memories is ever live while the kernel writes; closing the ring ends what is armed without running it;
//! * fields are dropped in order: the ring first, then what it names.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::accept::{Accepting, with_ioprio};
use super::buffers::{Buffers, GROUP};
use super::check::limit;
use super::clock::{now_us, ticks};
use super::dial::{Dial, Dials};
use super::doorbell::Doorbell;
use super::driver::{Completion, Driver, Interest, Lent, Slot};
use super::entries::{close_entry, lean_entry};
use super::listen::Listener;
use super::memory::{Memory, Span};
use super::parts::Parts;
use super::shortage::Shortage;
use super::token::{self, Operation, Token};
use super::unix::Credentials;

/// Orders that fit between two submits: a slice of a broadcast, with room for everything else of a turn. 64 B each.
pub const SUBMISSIONS: u32 = 4_096;

/// Completions the kernel can hold before it must allocate for more: several turns of a slow shard, and every socket
/// of a full submission answering at once, eight times. 16 B each.
const COMPLETIONS: u32 = 32_768;

/// The kernel runs at most 20 deferred works per `io_uring_enter` (since Linux 6.13); `submit` asks again until so many
/// completions are ready, so that a turn is not cut into tiny ones.
const READY_MIN: usize = 256;

/// `IORING_RECVSEND_POLL_FIRST`, in `ioprio` (Linux 5.19): wait before the first try, which would be in vain.
const RECEIVE_POLL_FIRST: u16 = 1;

/// Completions taken from the kernel at a time.
const REAP_BATCH: usize = 64;

/// Submits that may leave orders in the queue if all of them can wait: a few turns of a busy shard, in each of which
/// something else mostly is urgent anyway.
const PUT_OFF_MAX: u8 = 4;

/// Times `io_uring_enter` may make no progress at all before it is a fault.
const ENTER_TRIES_MAX: u32 = 100_000;

/// What `finishing` says of a slot. Bytes, so that the table of a large ring costs nothing until it is used.
pub(super) const OPEN: u8 = 0;
pub(super) const FINISHING: u8 = 1;
pub(super) const FINISHING_THEN_CLOSE: u8 = 2;

/// Largest table of direct descriptors the kernel makes (`IORING_MAX_FIXED_FILES`).
pub const SLOTS_MAX: u32 = 1 << 20;

/// What one shard's ring shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Connections wished for, 1 and up; the ring's `slots_max` says how many it got.
    pub slots: u32,
    /// Receive buffers: a power of two, at most 32,768.
    pub buffers: u16,
    /// Size of a receive buffer in bytes.
    pub buffer_bytes: u32,
    /// Size of the block memory in bytes; committed as it is used.
    pub memory_bytes: usize,
}

impl Default for RingConfig {
    /// 2 KiB hold nearly every request head and message in one piece; 4,096 of them (8 MiB) are sixteen full turns
    /// of receiving, so that the kernel runs dry only when the shard is far behind, and then TCP should push back.
    fn default() -> RingConfig {
        RingConfig { slots: SLOTS_MAX, buffers: 4_096, buffer_bytes: 2_048, memory_bytes: 1 << 30 }
    }
}

impl RingConfig {
    /// Returns a configuration for one of so many shards that take turns on a core: they have the receive buffers of one
    /// shard between them, as far as turns go; each keeps enough for a turn.
    #[must_use]
    pub fn shared_by(shards: usize) -> RingConfig {
        let all = RingConfig::default();
        let buffers = (usize::from(all.buffers) / shards.max(1)).next_power_of_two().max(BUFFERS_MIN);
        RingConfig { buffers: buffers as u16, ..all }
    }
}

/// Receive buffers of a shard that shares its core with many: 512 KiB.
const BUFFERS_MIN: usize = 256;

/// The kernel's flag that there is work is seen by whoever was too late to be rung for: the kernel sets it, then looks
/// whether notifications are on (`io_req_local_work_add`), and on this processor the first is a full barrier. Elsewhere only
/// a call tells, one for each ring of a core and each rest.
const FLAG_BEFORE_BELL: bool = cfg!(target_arch = "x86_64");

/// What a ring has done since it was made; each wraps at 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounts {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Orders handed to the kernel.
    pub orders: u64,
    /// Completions reaped.
    pub completions: u64,
    /// Times the kernel had more completions than its queue holds; none was lost.
    pub overflows: u64,
}

/// One shard's io_uring.
pub struct Ring {
    pub(super) ring: IoUring,
    memory: Memory,
    pub(super) buffers: Buffers,
    parts: Parts,
    pub(super) accepting: Vec<Accepting>,
    /// Completed accepts are not armed again for now.
    pub(super) held: bool,
    pub(super) dials: Dials,
    pub(super) slots_max: u32,
    /// Slots open, and slots promised to accepts and connects in flight: never more than the table has.
    pub(super) slots_promised: u32,
    pub(super) stopped: bool,
    /// Per slot, whether a shutdown is on its way through the kernel's worker, and whether to close after it.
    pub(super) finishing: Box<[u8]>,
    /// Who is at the other end of Unix sockets that were accepted, until the shard asks.
    pub(super) credentials: Vec<(Slot, Credentials)>,
    /// What the ring itself has to say, before the kernel's.
    pub(super) said: VecDeque<Completion>,
    pub(super) shortage: Shortage,
    /// Something is queued that must not wait.
    urgent: bool,
    /// How often a submit left what can wait in the queue, one after the other.
    put_off: u8,
    doorbells: Vec<Doorbell>,
    shard: usize,
    pub(super) timer: super::rest::Timer,
    counts: RingCounts,
}

impl Ring {
    /// Makes the ring of shard number `shard`, disabled: [`Ring::enable`] starts it on the shard's own thread.
    ///
    /// `doorbells` are those of all shards, by number; `listeners` get their index in order.
    ///
    /// # Errors
    /// `InvalidInput` if the configuration is impossible; what the kernel said otherwise (see [`super::check`] for
    /// the usual causes).
    pub fn new(
        config: &RingConfig,
        shard: usize,
        doorbells: Vec<Doorbell>,
        listeners: Vec<Listener>,
    ) -> io::Result<Ring> {
        if config.slots == 0 || shard >= doorbells.len() || listeners.len() > 256 {
            let text = "a ring needs at least one slot, its own doorbell, and at most 256 listeners";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let ring: IoUring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_r_disabled()
            .build(SUBMISSIONS)?;
        let file_limit = u32::try_from(limit(libc::RLIMIT_NOFILE)?.rlim_cur).unwrap_or(u32::MAX);
        let slots_max = config.slots.min(SLOTS_MAX).min(file_limit);
        let submitter = ring.submitter();
        submitter.register_files_sparse(slots_max)?;
        submitter.register_eventfd(doorbells[shard].as_fd().as_raw_fd())?;
        // Shutdown is the only order that the kernel's workers do; by default they may grow to thousands.
        submitter.register_iowq_max_workers(&mut [1, 2])?;
        let buffers = Buffers::new(config.buffers, config.buffer_bytes)?;
        // SAFETY: the descriptor ring has `count` entries, is page aligned, and is unmapped after the ring is closed.
        unsafe { submitter.register_buf_ring_with_flags(buffers.address(), buffers.count(), GROUP, 0)? };
        let mut ring = Ring {
            ring,
            memory: Memory::reserve(config.memory_bytes)?,
            buffers,
            parts: Parts::new(),
            accepting: Vec::new(),
            held: false,
            dials: Dials::default(),
            slots_max,
            slots_promised: 0,
            stopped: false,
            finishing: vec![OPEN; slots_max as usize].into_boxed_slice(),
            credentials: Vec::new(),
            said: VecDeque::new(),
            shortage: Shortage::default(),
            urgent: false,
            put_off: 0,
            doorbells,
            shard,
            timer: super::rest::Timer::default(),
            counts: RingCounts::default(),
        };
        // The bell is for a resting shard only; one that runs looks by itself.
        ring.ring.completion().disable_eventfd();
        ring.listen_on(listeners)?;
        Ok(ring)
    }

    /// Gives the ring listeners besides those it has, at most 256 altogether; they get their index in order.
    ///
    /// # Errors
    /// What the kernel said when it was asked for its version.
    pub fn listen_on(&mut self, listeners: Vec<Listener>) -> io::Result<()> {
        let kernel = super::check::kernel()?;
        let indices = self.accepting.len() as u8..=u8::MAX;
        // Each accept holds a slot that nobody else gets: where there are few, no listener may hold most of them.
        let all = self.accepting.len() + listeners.len();
        let share = (self.slots_max as usize / (4 * all.max(1))).clamp(1, super::accept::ACCEPTS);
        let accepting = |(one, index)| Accepting::new(one, index, share, kernel);
        self.accepting.extend(listeners.into_iter().zip(indices).map(accepting));
        Ok(())
    }

    /// Starts the ring. From here on only the calling thread may use it.
    ///
    /// # Errors
    /// What the kernel said: `EBADFD` if it is enabled already.
    pub fn enable(&mut self) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()
    }

    /// Returns this shard's doorbell.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbells[self.shard]
    }

    /// Returns how many listeners the ring has, 256 at most.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.accepting.len()
    }

    /// Returns what the ring has done so far.
    #[must_use]
    pub fn counts(&self) -> RingCounts {
        self.counts
    }

    /// Returns how many receive buffers the shard holds.
    #[must_use]
    pub fn buffers_lent(&self) -> u32 {
        self.buffers.lent_count()
    }

    /// Begins an outgoing connection, from a local address if one is given; as [`Ring::dial`] does.
    ///
    /// # Errors
    /// Those of [`Ring::dial`].
    pub fn connect(&mut self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        self.dial(&Dial { to, from, receive_buffer: None })
    }

    /// Begins an outgoing connection; `Connected` follows.
    ///
    /// If it failed, the slot of the completion must be closed all the same. If there is no slot at all (the table is
    /// full after all), `Connected` names slot `u32::MAX`, which must not be closed.
    ///
    /// # Errors
    /// `WouldBlock` if too many are on their way: reap first. `ENFILE` if the table is full. What the kernel said to
    /// the socket or the local address.
    pub fn dial(&mut self, dial: &Dial) -> io::Result<()> {
        if self.slots_promised >= self.slots_max {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let entry = self.dials.start(dial)?;
        self.slots_promised += 1;
        self.push(&entry);
        Ok(())
    }

    /// Says whether the kernel seems to have something for us, without asking it: for shards that take turns on a core.
    #[must_use]
    pub fn stirs(&mut self) -> bool {
        let queue = self.ring.submission();
        let (work, overflow) = (queue.taskrun(), queue.cq_overflow());
        drop(queue);
        let over = self.shortage.next_us().is_some_and(|due_us| due_us <= now_us());
        work || overflow || over || !self.said.is_empty() || !self.ring.completion().is_empty()
    }

    /// Hands over what can wait and is still queued: for a shard that will have no turn for a while, nor its core a rest.
    pub fn hand_over(&mut self) {
        if !self.ring.submission().is_empty() {
            self.enter();
        }
    }

    /// Hands everything over, and says whether the kernel then has nothing for us.
    ///
    /// That its flag says there is work does not mean so: it is set after the work was queued, by another CPU, and we
    /// may have run the work between the two; then it stands until the next work. It would keep a shard from ever
    /// resting. But work may also really be left, and none of it bring a completion: a peer's urgent byte, or its
    /// acknowledgement of our end, wakes a poll for nothing, and thousands of peers can do so at once. A shard must
    /// not rest over such work: the kernel rings the bell only for the first work in its queue, so whatever comes
    /// behind it, a timer too, would be heard by nobody. So all of it is run before the flag is taken for a stale one.
    pub(super) fn quiet(&mut self) -> bool {
        if FLAG_BEFORE_BELL && self.ring.submission().is_empty() && !self.stirs() {
            return true;
        }
        self.enter();
        let mut rounds_left = 2 + self.slots_promised / COMPLETIONS;
        loop {
            if !self.said.is_empty() || !self.ring.completion().is_empty() {
                return false;
            }
            let queue = self.ring.submission();
            if rounds_left == 0 || (!queue.taskrun() && !queue.cq_overflow()) {
                return true;
            }
            drop(queue);
            rounds_left -= 1;
            self.run_deferred();
        }
    }

    /// Runs what the kernel has deferred until it has brought as many completions as there is room for, or is done. It
    /// runs more than 20 works at a time only for who waits for more completions; so we do, for no time at all.
    fn run_deferred(&mut self) {
        let no_time = Timespec::new();
        let arguments = SubmitArgs::new().timespec(&no_time);
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        // SAFETY: the arguments are of the type that EXT_ARG announces, and outlive the call. An error says that the
        // time is over, or that a signal came; what else could be wrong, the next `enter` says too.
        let _ = unsafe { self.ring.submitter().enter(0, COMPLETIONS, flags, Some(&arguments)) };
    }

    /// Hands over what is queued, and waits for a completion, for so long at most.
    pub(super) fn enter_for(&mut self, time: Timespec) {
        let queued = self.ring.submission().len();
        let arguments = SubmitArgs::new().timespec(&time);
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        self.counts.enters += 1;
        // SAFETY: the arguments are of the type that EXT_ARG announces, and outlive the call; the entries are as the module
        // header says. What is not taken is still queued. An error says that the time is over, or that a signal came; what
        // else could be wrong, the next `enter` says too.
        let taken = unsafe { self.ring.submitter().enter(queued as u32, 1, flags, Some(&arguments)) };
        self.counts.orders += taken.as_ref().map_or(0, |taken| *taken as u64);
        if taken.is_ok_and(|taken| taken == queued) {
            self.parts.clear();
            (self.urgent, self.put_off) = (false, 0);
        }
    }

    /// Queues an order that shall be carried out by the next `submit`.
    #[inline]
    pub(super) fn push(&mut self, entry: &squeue::Entry) {
        self.urgent = true;
        self.push_lazily(entry);
    }

    /// Queues an order that only waits for something of the peer's: it may go with the next that is urgent, or with the
    /// rest, so that one system call does what two would.
    #[inline]
    pub(super) fn push_lazily(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: what the entry names lives until the kernel is done with it: see the module header.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            self.enter();
        }
    }

    /// Hands every queued entry to the kernel and runs its deferred work, without waiting.
    pub(super) fn enter(&mut self) {
        let mut tries = 0;
        loop {
            let queued = self.ring.submission().len();
            self.counts.enters += 1;
            // SAFETY: no argument is passed; the entries are as the module header says.
            let result = unsafe {
                let flags = EnterFlags::GETEVENTS.bits();
                self.ring.submitter().enter::<libc::sigset_t>(queued as u32, 0, flags, None)
            };
            match result {
                Ok(taken) => {
                    self.counts.orders += taken as u64;
                    if taken == queued {
                        self.parts.clear();
                        (self.urgent, self.put_off) = (false, 0);
                        return;
                    }
                }
                Err(error) => {
                    assert!(is_passing(&error), "io_uring_enter failed: {error}");
                    std::thread::yield_now();
                }
            }
            tries += 1;
            assert!(tries < ENTER_TRIES_MAX, "io_uring_enter makes no progress");
        }
    }

    /// Has the kernel put what its queue of completions had no room for into it, now that it is empty; says false if
    /// there is nothing.
    ///
    /// Kernels do so at each `io_uring_enter` that asks for events, as far as there is room. Until all of it was heard,
    /// some sends of the last submit may be among it, and whoever takes them for done would send their bytes again or
    /// never. So `reap` comes here until nothing is left. Nothing is handed over meanwhile, so that comes to an end.
    #[cold]
    fn flush_overflow(&mut self) -> bool {
        for _ in 0..ENTER_TRIES_MAX {
            if !self.ring.submission().cq_overflow() {
                return false;
            }
            self.counts.overflows += 1;
            self.counts.enters += 1;
            // SAFETY: no entry and no argument is passed.
            let done =
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, EnterFlags::GETEVENTS.bits(), None) };
            if let Err(error) = done {
                assert!(is_passing(&error), "io_uring_enter failed: {error}");
                std::thread::yield_now();
            }
            if !self.ring.completion().is_empty() {
                return true;
            }
        }
        panic!("io_uring_enter does not bring what its queue had no room for");
    }

    fn cancel(&mut self, target: Token) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(target.raw()))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Token::new(Operation::Cancel, 0, target.slot()).raw());
        self.push(&entry);
    }
}

impl Driver for Ring {
    fn now_us(&mut self) -> u64 {
        now_us()
    }

    #[inline]
    fn ticks(&self) -> u64 {
        ticks()
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    fn slots_max(&self) -> u32 {
        self.slots_max
    }

    fn room(&self) -> usize {
        // SAFETY: entries are queued through `&mut self` only, so nobody queues one while this looks.
        let queue = unsafe { self.ring.submission_shared() };
        queue.capacity() - queue.len()
    }

    fn take_credentials(&mut self, slot: Slot) -> Option<Credentials> {
        let at = self.credentials.iter().position(|(of, _)| *of == slot)?;
        Some(self.credentials.swap_remove(at).1)
    }

    fn accept(&mut self, listener: u8) {
        self.accepting[usize::from(listener)].start();
        self.arm_accepts(listener, super::accept::ACCEPTS, false);
    }

    fn hold_accepting(&mut self, held: bool) {
        self.held = held;
        for listener in 0..self.accepting.len() {
            self.arm_accepts(listener as u8, super::accept::ACCEPTS, true);
        }
    }

    fn cancel_accepts(&mut self) {
        for listener in 0..self.accepting.len() {
            for entry in self.accepting[listener].cancel_all() {
                self.push(&entry);
            }
        }
    }

    fn stop_accepting(&mut self) {
        self.stopped = true;
        self.cancel_accepts();
        // Queued accepts name the listeners' descriptors, so they go to the kernel before these are closed.
        self.enter();
        self.accepting.iter_mut().for_each(Accepting::close);
    }

    #[inline]
    fn receive(&mut self, slot: Slot, generation: u16, interest: Interest) {
        let token = Token::new(token::receive_operation(interest), generation, slot);
        let entry = match interest {
            Interest::Multishot => opcode::RecvMulti::new(Fixed(slot), GROUP).build(),
            Interest::Readiness => opcode::PollAdd::new(Fixed(slot), (libc::POLLIN | libc::POLLRDHUP) as u32).build(),
            Interest::Ending => opcode::PollAdd::new(Fixed(slot), libc::POLLRDHUP as u32).build(),
            // With MSG_DONTWAIT the kernel answers EAGAIN and arms nothing.
            Interest::Once => opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), 0)
                .buf_group(GROUP)
                .flags(libc::MSG_DONTWAIT)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Interest::Next => {
                let entry = opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), 0).buf_group(GROUP).build();
                with_ioprio(entry.flags(squeue::Flags::BUFFER_SELECT), RECEIVE_POLL_FIRST)
            }
        };
        let entry = entry.user_data(token.raw());
        if interest == Interest::Once {
            self.push(&entry);
        } else {
            self.push_lazily(&entry);
        }
    }

    fn cancel_receive(&mut self, slot: Slot, generation: u16, interest: Interest) {
        self.cancel(Token::new(token::receive_operation(interest), generation, slot));
    }

    fn send_parts(&mut self, slot: Slot, parts: &[Span]) {
        let len: u32 = parts.iter().map(|part| part.len).sum();
        if !self.parts.has_room(parts.len()) {
            // What names them is taken then.
            self.enter();
        }
        let message = self.parts.add(parts.iter().map(|part| self.memory.bytes(*part)));
        let entry = opcode::SendMsg::new(Fixed(slot), message)
            .flags((libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Token::send(slot, len).raw());
        self.push(&entry);
    }

    #[inline]
    fn send(&mut self, slot: Slot, bytes: Span) {
        let address = self.memory.bytes(bytes).as_ptr();
        // MSG_WAITALL makes a short send a failure, so that it is told; a full one says nothing (SKIP_SUCCESS).
        let entry = opcode::Send::new(Fixed(slot), address, bytes.len)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Token::send(slot, bytes.len).raw());
        self.push(&entry);
    }

    fn wait_writable(&mut self, slot: Slot, generation: u16) {
        let token = Token::new(Operation::PollWritable, generation, slot);
        let entry = opcode::PollAdd::new(Fixed(slot), libc::POLLOUT as u32).build();
        self.push_lazily(&entry.user_data(token.raw()));
    }

    fn wait_for_memory(&mut self, slot: Slot, generation: u16) {
        self.shortage.begin(slot, generation, now_us());
    }

    fn cancel_writable(&mut self, slot: Slot, generation: u16) {
        if self.shortage.cancel(slot, generation) {
            self.said.push_back(Completion::Writable { slot, generation });
            return;
        }
        self.cancel(Token::new(Operation::PollWritable, generation, slot));
    }

    fn finish_sending(&mut self, slot: Slot) {
        // The kernel does a shutdown later, in a thread, and finds the socket by its slot then: until that is done the slot is not closed.
        self.finishing[slot as usize] = FINISHING;
        let entry = opcode::Shutdown::new(Fixed(slot), libc::SHUT_WR).build();
        self.push(&entry.user_data(Token::new(Operation::Finish, 0, slot).raw()));
    }

    fn keep_lean(&mut self, slot: Slot) {
        self.push(&lean_entry(slot));
    }

    fn close(&mut self, slot: Slot) {
        let finishing = &mut self.finishing[slot as usize];
        if *finishing == OPEN {
            self.push(&close_entry(slot, Operation::Close));
        } else {
            *finishing = FINISHING_THEN_CLOSE;
        }
    }

    #[inline]
    fn received(&mut self, _slot: Slot, lent: Lent) -> &mut [u8] {
        self.buffers.bytes(lent)
    }

    #[inline]
    fn recycle(&mut self, lent: Lent) {
        self.buffers.give(lent.id);
    }

    fn submit(&mut self) {
        self.buffers.provide();
        let queue = self.ring.submission();
        let (queued, work, overflow) = (!queue.is_empty(), queue.taskrun(), queue.cq_overflow());
        drop(queue);
        if !work && !overflow && !self.urgent {
            if !queued {
                return;
            }
            if self.put_off < PUT_OFF_MAX {
                self.put_off += 1;
                return;
            }
        }
        self.counts.overflows += u64::from(overflow);
        let mut ready = self.ring.completion().len();
        loop {
            self.enter();
            let more = self.ring.completion().len();
            // The flag may stand with nothing to run (see `quiet`): only what comes of it counts.
            if more == ready || more >= READY_MIN || !self.ring.submission().taskrun() {
                return;
            }
            ready = more;
        }
    }

    fn reap(&mut self, into: &mut Vec<Completion>, max: usize) {
        let full = into.len().saturating_add(max);
        if self.shortage.next_us().is_some() {
            let now_us = now_us();
            while let Some((slot, generation)) = self.shortage.over(now_us) {
                self.said.push_back(Completion::Writable { slot, generation });
            }
        }
        while into.len() < full {
            let Some(said) = self.said.pop_front() else {
                break;
            };
            into.push(said);
        }
        let mut batch = [const { std::mem::MaybeUninit::<cqueue::Entry>::uninit() }; REAP_BATCH];
        while into.len() < full {
            let room = REAP_BATCH.min(full - into.len());
            let entries = self.ring.completion().fill(&mut batch[..room]);
            if entries.is_empty() {
                if !self.flush_overflow() {
                    break;
                }
                continue;
            }
            self.counts.completions += entries.len() as u64;
            for entry in entries {
                into.extend(self.understand(entry));
            }
        }
    }

    fn wake(&mut self, shard: usize) {
        self.doorbells[shard].ring();
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("shard", &self.shard)
            .field("slots_max", &self.slots_max)
            .field("slots_promised", &self.slots_promised)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// Says whether `io_uring_enter` is worth another try.
///
/// EAGAIN: no memory for a request just now. EBUSY: completions overflow, flushed as far as they fit. But EBADR: the kernel
/// lost completions for want of memory; nothing we know is true any more.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}
