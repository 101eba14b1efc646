//! The access log: who was served what. A line for each request that is answered, and for each WebSocket and stream that begins and that ends.
//!
//! Owns: what is noted of those that are under way, and which of them are told. Nothing is noted while it is off: that costs a branch. Never: waits for a
//! reader of the log, or keeps what stands behind the `?` of a request, where a token may be.
//!
//! ```text
//!   off       nothing
//!   sampled   SAMPLES_PER_SECOND lines of a shard, drawn evenly; each says for how many it stands
//!   all       each; what the reader of stderr does not take is dropped by the outlet, and counted
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Shard;
use super::random::random;
use crate::io::driver::Slot;

/// Lines that a shard samples in a second: enough to see who comes, and few enough for any disk.
const SAMPLES_PER_SECOND: u64 = 100;

/// Bytes of a path that are kept: names of topics have 255 at most, and what is longer is nonsense.
const PATH_BYTES_MAX: usize = 320;

/// The code of a WebSocket that ends without a close frame (RFC 6455 section 7.1.5).
const CUT_OFF: u16 = 1006;

/// The status of a stream that does not end in order: its client is gone. No standard has one; nginx writes this one.
const CUT_OFF_STREAM: u16 = 499;

/// What is written down of what is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nothing.
    #[default]
    Off,
    /// Some of it.
    Sampled,
    /// All of it.
    All,
}

/// A request that is under way.
#[derive(Debug)]
struct Asked {
    method: &'static str,
    path: Box<str>,
    begun_us: u64,
    stands_for: u64,
}

/// A WebSocket or a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    begun_us: u64,
    bytes: u64,
    /// How it ends, once that is known.
    status: u16,
}

/// Which of very many are told.
#[derive(Debug, Default)]
struct Sampling {
    /// The second that is running, and those that were seen in it.
    since_us: u64,
    seen: u64,
    /// How many more may be told in it.
    left: u64,
    /// One of so many is told; of the second before.
    one_of: u64,
    /// Seen since one was told.
    unsaid: u64,
}

impl Sampling {
    /// Sees one more; returns for how many it stands, if it is told.
    fn see(&mut self, now_us: u64, random: u64) -> Option<u64> {
        let elapsed_us = now_us.saturating_sub(self.since_us);
        if elapsed_us >= 1_000_000 || self.one_of == 0 {
            let seconds = (elapsed_us / 1_000_000).max(1);
            self.one_of = (self.seen / seconds).div_ceil(SAMPLES_PER_SECOND).max(1);
            (self.since_us, self.seen, self.left) = (now_us, 0, SAMPLES_PER_SECOND);
        }
        self.seen += 1;
        self.unsaid += 1;
        if self.left == 0 || !random.is_multiple_of(self.one_of) {
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// What is noted.
#[derive(Debug, Default)]
pub(super) struct Accesses {
    log: AccessLog,
    /// Requests under way that are told.
    asked: HashMap<Slot, Asked>,
    /// By slot; of those that are none it says nothing.
    standing: Vec<Standing>,
    sampling: Sampling,
}

impl Accesses {
    /// Makes it note so much.
    pub(super) fn new(log: AccessLog) -> Accesses {
        Accesses { log, ..Accesses::default() }
    }

    /// Notes so much from now on.
    pub(super) fn set(&mut self, log: AccessLog) {
        if log == AccessLog::Off {
            *self = Accesses::default();
        }
        self.log = log;
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.log != AccessLog::Off
    }

    fn see(&mut self, now_us: u64, state: &mut u64) -> Option<u64> {
        match self.log {
            AccessLog::Off => None,
            AccessLog::All => Some(1),
            AccessLog::Sampled => self.sampling.see(now_us, random(state)),
        }
    }

    /// Bytes were sent on a WebSocket or a stream, or fewer than was thought.
    #[inline]
    pub(super) fn sent(&mut self, slot: Slot, bytes: i64) {
        if self.is_on()
            && let Some(standing) = self.standing.get_mut(slot as usize)
        {
            standing.bytes = standing.bytes.saturating_add_signed(bytes);
        }
    }

    /// It is known how one ends.
    pub(super) fn ends_with(&mut self, slot: Slot, status: u16) {
        if let Some(standing) = self.standing.get_mut(slot as usize) {
            standing.status = status;
        }
    }
}

/// A line.
struct Line<'l> {
    what: &'static str,
    peer: SocketAddr,
    user: &'l str,
    method: &'l str,
    path: &'l str,
    status: u16,
    bytes: Option<u64>,
    us: Option<u64>,
    transport: &'static str,
    /// How many of its kind it stands for; 1 if all are told.
    stands_for: u64,
}

impl Line<'_> {
    #[cold]
    fn write(&self) {
        let Line { what, peer, user, method, path, status, bytes, transport, .. } = *self;
        let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
        let (user, method, path) = (some(user), some(method), some(path));
        let ms = self.us.map(|us| us / 1000);
        let stands_for = Some(self.stands_for).filter(|count| *count > 1);
        tracing::info!(target: "access", %peer, user, method, path, status, bytes, ms, transport, stands_for, "{what}");
    }
}

impl Shard {
    /// Notes a request whose head has come; what stands behind its `?` is not kept.
    pub(in crate::shard) fn note_request(&mut self, slot: Slot, method: &'static str, path: &str) {
        if !self.access.is_on() || self.access.asked.contains_key(&slot) {
            return; // It waited, and is read once more.
        }
        let now_us = self.clock.now_us;
        let Some(stands_for) = self.access.see(now_us, &mut self.random) else { return };
        let path = &path[..path.floor_char_boundary(PATH_BYTES_MAX)];
        let asked = Asked { method, path: path.into(), begun_us: now_us, stands_for };
        self.access.asked.insert(slot, asked);
    }

    /// A request is answered, with a body of so many bytes.
    pub(in crate::shard) fn note_answer(&mut self, slot: Slot, status: u16, bytes: u64) {
        if self.access.is_on() {
            self.tell_answer("request", slot, status, Some(bytes));
        }
    }

    /// A request has become a WebSocket or a stream.
    pub(in crate::shard) fn note_begin(&mut self, slot: Slot, status: u16) {
        if !self.access.is_on() {
            return;
        }
        let standing = &mut self.access.standing;
        if standing.len() <= slot as usize {
            standing.resize(slot as usize + 1, Standing::default());
        }
        standing[slot as usize] = Standing { begun_us: self.clock.now_us, bytes: 0, status: 0 };
        self.tell_answer("begin", slot, status, None);
    }

    fn tell_answer(&mut self, what: &'static str, slot: Slot, status: u16, bytes: Option<u64>) {
        let asked = self.access.asked.remove(&slot);
        if asked.is_none() && self.access.log != AccessLog::All {
            return; // It is not among those that are told; or nobody knows what it was to be.
        }
        let Asked { method, path, begun_us, stands_for } =
            asked.unwrap_or(Asked { method: "", path: "".into(), begun_us: self.clock.now_us, stands_for: 1 });
        Line {
            what,
            peer: self.slots.connections[slot as usize].peer(),
            user: self.user_of(slot),
            method,
            path: &path,
            status,
            bytes,
            us: Some(self.clock.now_us.saturating_sub(begun_us)),
            transport: self.kind_of(slot).name(),
            stands_for,
        }
        .write();
    }

    /// An open connection ends. Of one that is a WebSocket or a stream that is told.
    #[inline]
    pub(in crate::shard) fn note_end(&mut self, slot: Slot) {
        if self.access.is_on() {
            self.tell_end(slot);
        }
    }

    #[cold]
    fn tell_end(&mut self, slot: Slot) {
        self.access.asked.remove(&slot);
        if !self.slots.connections[slot as usize].is_subscriber() {
            return;
        }
        let Some(stands_for) = self.access.see(self.clock.now_us, &mut self.random) else { return };
        // One that began before the log was switched on has none.
        let standing = self.access.standing.get_mut(slot as usize).map(std::mem::take);
        let standing = standing.filter(|standing| standing.begun_us > 0);
        let cut_off = if self.slots.is_websocket(slot) { CUT_OFF } else { CUT_OFF_STREAM };
        let status = standing.map_or(0, |standing| standing.status);
        Line {
            what: "end",
            peer: self.slots.connections[slot as usize].peer(),
            user: self.user_of(slot),
            method: "",
            path: "",
            status: if status == 0 { cut_off } else { status },
            bytes: standing.map(|standing| standing.bytes),
            us: standing.map(|standing| self.clock.now_us.saturating_sub(standing.begun_us)),
            transport: self.kind_of(slot).name(),
            stands_for,
        }
        .write();
    }

    /// Returns whose a connection is, or its request; empty: nobody has said so.
    pub(in crate::shard) fn user_of(&self, slot: Slot) -> &str {
        let interned = self.trust.grants.get(self.grant_of(slot));
        interned.map_or("", |interned| match &*interned.grant.subject {
            "" => &interned.grant.name,
            subject => subject,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of few, each is told; of very many, about a hundred in a second, evenly, and together they stand for all.
    #[test]
    fn samples_are_even() {
        let mut state = 1;
        for per_second in [50, 100, 5_000, 200_000] {
            let mut sampling = Sampling::default();
            let (mut stood_for, mut tenths) = (0, [0; 50]);
            for n in 0..5 * per_second {
                let now_us = 7_000_000 + n * 1_000_000 / per_second;
                if let Some(stands_for) = sampling.see(now_us, random(&mut state)) {
                    stood_for += stands_for;
                    tenths[(n * 10 / per_second) as usize] += 1;
                }
            }
            assert_eq!(stood_for + sampling.unsaid, 5 * per_second);
            // Before it knows how many there are, the first hundred are told.
            let seconds: Vec<u64> = tenths.chunks(10).map(|tenths| tenths.iter().sum()).collect();
            assert!(seconds.iter().all(|told| *told <= SAMPLES_PER_SECOND), "{seconds:?}");
            let wanted = per_second.min(SAMPLES_PER_SECOND);
            assert!(seconds[1..].iter().all(|told| *told * 10 >= wanted * 6), "{per_second}: {seconds:?}");
            assert!(tenths[10..].iter().all(|told| *told <= 30), "{per_second}: {tenths:?}");
        }
    }

    /// Nothing is kept of one that is off, nor once it is switched off.
    #[test]
    fn off_is_off() {
        let mut access = Accesses::new(AccessLog::All);
        access.standing.resize(9, Standing::default());
        access.sent(3, 100);
        access.sent(3, -40);
        assert_eq!((access.standing[3].bytes, access.see(1, &mut 1)), (60, Some(1)));
        access.set(AccessLog::Off);
        access.sent(3, 100);
        assert!(!access.is_on() && access.standing.is_empty() && access.see(1, &mut 1).is_none());
    }
}
