//! Lines of the access log: a request that is answered, a WebSocket or a stream that begins, and one that ends.
//!
//! Never: waits for a reader of the log, or keeps what stands behind the `?` of a request, where a token may be. What is noted until then stands in
//! [`access`](crate::shard::access).

use std::net::SocketAddr;

use crate::io::driver::Slot;
use crate::shard::Shard;
use crate::shard::access::{AccessLog, Asked, Standing};

/// Bytes of a path that are kept: names of topics have 255 at most, and what is longer is nonsense.
const PATH_BYTES_MAX: usize = 320;

/// The code of a WebSocket that ends without a close frame (RFC 6455 section 7.1.5).
const CUT_OFF: u16 = 1006;

/// The status of a stream that does not end in order: its client is gone. No standard has one; nginx writes this one.
const CUT_OFF_STREAM: u16 = 499;

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
        standing[slot as usize] = Standing { begun_us: self.clock.now_us, status: 0 };
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
            // The walk over a topic's readers touches none of them for it.
            bytes: None,
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
