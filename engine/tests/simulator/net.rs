//! The network between the scripted clients and the fake kernels: bounded byte pipes, one clock, one doorbell a shard, and those of the control plane and the authority.
//!
//! Owns: every connection's bytes in both directions, the accept queues, the clock.
//! Never: drops, invents or reorders a byte of a direction; faults are whole events (reset, end) or belong to the kernel.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use crate::secured::Secured;

/// Number of a simulated TCP connection; never used twice in a run.
pub(crate) type ConnId = usize;

/// The network as shards' kernels and clients share it. One thread runs everything, so no lock.
pub(crate) type SharedNet = Rc<RefCell<Net>>;

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    bytes_max: usize,
    /// The writing side is done; the reader sees the end after the last byte.
    ended: bool,
}

impl Pipe {
    fn room(&self) -> usize {
        self.bytes_max - self.bytes.len()
    }
}

#[derive(Debug)]
struct Conn {
    /// Client to server.
    up: Pipe,
    /// Server to client.
    down: Pipe,
    /// Torn down by either end; what is left of `up` may still be read by the server, what is left of `down` by the client.
    reset: bool,
    /// The client's end is gone: bytes for it vanish, and the first of them brings a reset back.
    client_gone: bool,
    /// The server's end is gone.
    server_gone: bool,
    /// The client's end of TLS, if that is spoken.
    tls: Option<Box<Secured>>,
}

/// What an end finds when it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes(usize),
    Nothing,
    Eof,
    Reset,
}

#[derive(Debug)]
pub(crate) struct Net {
    conns: Vec<Conn>,
    backlog: Vec<VecDeque<ConnId>>,
    refusing: Vec<bool>,
    now_us: u64,
    doorbells: Vec<bool>,
    /// Clients that do not read for a while, and until when.
    stalls: BTreeMap<ConnId, u64>,
    /// Clients speak TLS.
    pub(crate) secured: bool,
    /// Those whose TLS has something to write, or to shake hands.
    unsettled: BTreeSet<ConnId>,
    /// Where all who connect from now on come from; otherwise each has an address of its own.
    pub(crate) origin: Option<IpAddr>,
    /// Where those came from who connected while there was one.
    origins: BTreeMap<ConnId, IpAddr>,
    /// Names of the certificates that clients have shown to a kernel that knows TLS by itself.
    pub(crate) names: BTreeMap<ConnId, Box<str>>,
}

impl Net {
    pub(crate) fn new(shards: usize) -> Net {
        Net {
            conns: Vec::new(),
            backlog: vec![VecDeque::new(); shards],
            refusing: vec![false; shards],
            // Not zero, so that a deadline of zero is seen to be in the past.
            now_us: 1_000_000,
            // That of the control plane stands behind those of the shards.
            doorbells: vec![false; shards + 2],
            stalls: BTreeMap::new(),
            secured: false,
            unsettled: BTreeSet::new(),
            origin: None,
            origins: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    pub(crate) fn shared(shards: usize) -> SharedNet {
        Rc::new(RefCell::new(Net::new(shards)))
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    pub(crate) fn advance_us(&mut self, by_us: u64) {
        self.now_us += by_us;
    }

    pub(crate) fn ring_doorbell(&mut self, shard: usize) {
        self.doorbells[shard] = true;
    }

    /// Takes the doorbell's signal, as reading an eventfd does.
    pub(crate) fn answer_doorbell(&mut self, shard: usize) -> bool {
        std::mem::take(&mut self.doorbells[shard])
    }

    pub(crate) fn doorbell_rung(&self, shard: usize) -> bool {
        self.doorbells[shard]
    }

    // ---- the client's end ----

    /// Opens a connection that waits in the accept queue of `shard`.
    pub(crate) fn connect(&mut self, shard: usize, up_bytes_max: usize, down_bytes_max: usize) -> ConnId {
        let pipe = |bytes_max| Pipe { bytes: VecDeque::new(), bytes_max, ended: false };
        let id = self.conns.len();
        if let Some(origin) = self.origin {
            self.origins.insert(id, origin);
        }
        self.conns.push(Conn {
            up: pipe(up_bytes_max),
            down: pipe(down_bytes_max),
            reset: self.refusing[shard],
            client_gone: false,
            server_gone: false,
            tls: self.secured.then(|| Box::new(Secured::begin(id))),
        });
        if !self.refusing[shard] {
            self.backlog[shard].push_back(id);
        }
        self.settle(id);
        id
    }

    /// Returns the address of a client, as the server sees it.
    pub(crate) fn address_of(&self, id: ConnId) -> IpAddr {
        self.origins.get(&id).copied().unwrap_or(IpAddr::V4(Ipv4Addr::from(0x0A00_0000 | id as u32)))
    }

    /// Writes what fits; `Err` once the connection is reset or the server's end is gone.
    pub(crate) fn client_write(&mut self, id: ConnId, bytes: &[u8]) -> Result<usize, ()> {
        let conn = &mut self.conns[id];
        assert!(!conn.up.ended && !conn.client_gone, "a client writes after it ended its direction");
        if conn.reset || conn.server_gone {
            return Err(());
        }
        if let Some(tls) = &mut conn.tls {
            assert!(!tls.ending, "a client writes after it ended its direction");
            // What is not written yet comes first.
            let count = if tls.is_handshaking() || tls.wants_write() { 0 } else { tls.take(bytes) };
            self.settle(id);
            return Ok(count);
        }
        let count = bytes.len().min(conn.up.room());
        conn.up.bytes.extend(&bytes[..count]);
        Ok(count)
    }

    /// Appends at most `max` bytes of the server's to `into`. A reset shows only after the bytes that came before it.
    pub(crate) fn client_read(&mut self, id: ConnId, max: usize, into: &mut Vec<u8>) -> Found {
        let conn = &mut self.conns[id];
        if let Some(tls) = &mut conn.tls {
            if !tls.has_text() {
                let bytes: Vec<u8> = conn.down.bytes.drain(..).collect();
                tls.hear(&bytes);
            }
            let count = tls.read(max, into);
            self.settle(id);
            if count > 0 {
                return Found::Bytes(count);
            }
        }
        let conn = &mut self.conns[id];
        let count = if conn.tls.is_some() { 0 } else { max.min(conn.down.bytes.len()) };
        if count > 0 {
            into.extend(conn.down.bytes.drain(..count));
            return Found::Bytes(count);
        }
        if !conn.down.bytes.is_empty() {
            Found::Nothing
        } else if conn.down.ended {
            Found::Eof
        } else if conn.reset {
            Found::Reset
        } else {
            Found::Nothing
        }
    }

    /// Says whether `client_read` would find something.
    pub(crate) fn client_has_news(&self, id: ConnId) -> bool {
        let conn = &self.conns[id];
        let has_text = conn.tls.as_ref().is_some_and(|tls| tls.has_text());
        has_text || !conn.down.bytes.is_empty() || conn.down.ended || conn.reset
    }

    /// Says whether a client speaks TLS.
    pub(crate) fn client_speaks_tls(&self, id: ConnId) -> bool {
        self.conns[id].tls.is_some()
    }

    /// Says whether a client was told in words of TLS why its connection ends.
    pub(crate) fn client_was_alerted(&self, id: ConnId) -> bool {
        self.conns[id].tls.as_ref().is_some_and(|tls| tls.told)
    }

    /// A client stops reading for so long.
    pub(crate) fn client_stall(&mut self, id: ConnId, for_us: u64) {
        self.stalls.insert(id, self.now_us + for_us);
    }

    /// Says whether a client does not read now.
    pub(crate) fn client_stalls(&self, id: ConnId) -> bool {
        self.stalls.get(&id).is_some_and(|until_us| self.now_us < *until_us)
    }

    /// Returns when the next client reads again that does not now.
    pub(crate) fn next_stall_over_us(&mut self) -> Option<u64> {
        self.stalls.retain(|_, until_us| self.now_us < *until_us);
        self.stalls.values().copied().min()
    }

    pub(crate) fn client_has_room(&self, id: ConnId) -> bool {
        let conn = &self.conns[id];
        let writes = conn.tls.as_ref().is_some_and(|tls| tls.is_handshaking() || tls.wants_write());
        conn.up.room() > 0 && !writes || conn.reset || conn.server_gone
    }

    /// Moves what TLS has to write, as far as there is room, and lets handshakes go on.
    pub(crate) fn settle_all(&mut self) {
        for id in std::mem::take(&mut self.unsettled) {
            self.settle(id);
        }
    }

    fn settle(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        let Some(tls) = &mut conn.tls else { return };
        if conn.reset || conn.server_gone {
            return;
        }
        if tls.is_handshaking() && !conn.down.bytes.is_empty() {
            let bytes: Vec<u8> = conn.down.bytes.drain(..).collect();
            tls.hear(&bytes);
        }
        conn.up.bytes.extend(tls.written(conn.up.room()));
        if tls.is_handshaking() || tls.wants_write() {
            self.unsettled.insert(id);
        } else if tls.ending {
            conn.up.ended = true;
        }
    }

    /// Half close: the server reads what is left, then the end.
    pub(crate) fn client_end(&mut self, id: ConnId) {
        match &mut self.conns[id].tls {
            Some(tls) if !tls.is_handshaking() => {
                tls.end();
                self.settle(id);
            }
            _ => self.conns[id].up.ended = true,
        }
    }

    /// Full close: as half close, but bytes sent to this client now bring a reset back.
    pub(crate) fn client_close(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        conn.tls = None;
        conn.up.ended = true;
        conn.client_gone = true;
        conn.down.bytes.clear();
    }

    /// Tears the connection down at once; `purge` also loses what the server has not read yet.
    pub(crate) fn client_reset(&mut self, id: ConnId, purge: bool) {
        let conn = &mut self.conns[id];
        conn.tls = None;
        conn.reset = true;
        conn.client_gone = true;
        conn.down.bytes.clear();
        if purge {
            conn.up.bytes.clear();
        }
    }

    // ---- the server's end, for the kernel only ----

    pub(crate) fn backlog_len(&self, shard: usize) -> usize {
        self.backlog[shard].len()
    }

    /// Describes a connection, for reports.
    pub(crate) fn describe(&self, id: ConnId) -> String {
        let Conn { up, down, reset, client_gone, server_gone, tls } = &self.conns[id];
        let pipe =
            |pipe: &Pipe| format!("{}/{}{}", pipe.bytes.len(), pipe.bytes_max, if pipe.ended { " ended" } else { "" });
        let queued = self.backlog.iter().position(|queue| queue.contains(&id));
        format!(
            "connection {id}: up {}, down {}, reset {reset}, client gone {client_gone}, server gone {server_gone}, \
             in the accept queue of {queued:?}, {tls:?}",
            pipe(up),
            pipe(down),
        )
    }

    /// Says whether a connection still waits in the accept queue of `shard`.
    pub(crate) fn is_queued(&self, shard: usize, id: ConnId) -> bool {
        self.backlog[shard].contains(&id)
    }

    pub(crate) fn accept(&mut self, shard: usize) -> Option<ConnId> {
        let id = self.backlog[shard].pop_front()?;
        Some(id)
    }

    /// Closes the listener: who waits in its queue, and who comes later, is reset.
    pub(crate) fn refuse(&mut self, shard: usize) {
        self.refusing[shard] = true;
        for id in std::mem::take(&mut self.backlog[shard]) {
            self.conns[id].reset = true;
        }
    }

    pub(crate) fn server_readable(&self, id: ConnId) -> bool {
        let conn = &self.conns[id];
        !conn.up.bytes.is_empty() || conn.up.ended || conn.reset
    }

    /// Says whether the client has ended its direction or the connection failed, whatever bytes are still to be read.
    pub(crate) fn server_sees_end(&self, id: ConnId) -> bool {
        let conn = &self.conns[id];
        conn.up.ended || conn.reset
    }

    /// Says whether the connection was torn down.
    pub(crate) fn has_failed(&self, id: ConnId) -> bool {
        self.conns[id].reset
    }

    /// Copies bytes of the client into `into`, as many as there are and fit.
    pub(crate) fn server_read(&mut self, id: ConnId, into: &mut [u8]) -> Found {
        let conn = &mut self.conns[id];
        let count = into.len().min(conn.up.bytes.len());
        if count > 0 {
            for (to, from) in into.iter_mut().zip(conn.up.bytes.drain(..count)) {
                *to = from;
            }
            Found::Bytes(count)
        } else if conn.reset {
            Found::Reset
        } else if conn.up.ended {
            Found::Eof
        } else {
            Found::Nothing
        }
    }

    /// Says whether POLLOUT would be reported: a third of the buffer is free (`sk_stream_is_writeable`), or an error waits.
    pub(crate) fn server_writable(&self, id: ConnId) -> bool {
        let conn = &self.conns[id];
        conn.reset || conn.client_gone || conn.down.room() * 3 >= conn.down.bytes_max
    }

    /// Takes what fits of `bytes`; `Err` once the connection is reset.
    pub(crate) fn server_write(&mut self, id: ConnId, bytes: &[u8]) -> Result<usize, ()> {
        let conn = &mut self.conns[id];
        if conn.reset || conn.down.ended {
            return Err(());
        }
        if conn.client_gone {
            conn.reset = true;
            return Ok(bytes.len());
        }
        let count = bytes.len().min(conn.down.room());
        conn.down.bytes.extend(&bytes[..count]);
        Ok(count)
    }

    pub(crate) fn server_end(&mut self, id: ConnId) {
        self.conns[id].down.ended = true;
    }

    /// Closes the server's end. What it sent can still be read; as TCP does, unread bytes turn the end into a reset.
    pub(crate) fn server_close(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        conn.server_gone = true;
        if conn.up.bytes.is_empty() {
            conn.down.ended = true;
        } else {
            conn.up.bytes.clear();
            conn.reset = true;
        }
    }
}
