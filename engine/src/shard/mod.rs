//! The messaging logic of one core.
//!
//! Owns everything of one shard: connections, topics and frame logs, homes and histories, timers, statistics. Touches
//! the kernel only through [`Driver`](crate::io::driver::Driver), other shards only through [`Links`]. Never: unsafe, atomics, system calls,
//! shared ownership, dynamic calls, futures. A source test holds that.
//!
//! The path of a message, and the file of each step:
//!
//! ```text
//!   reap ─▶ decode ─▶ route ─▶ cross ─▶ number ─▶ record ─▶ relay ─▶ encode ─▶ flush ─▶ settle
//!   serve   carrier/  session/ mesh     topic/    topic/    topic/   hear      flush    settle
//!           websocket publish           at_home   home      at_home
//! ```
//!
//! [`turn`] runs them in order. The files at the top are its phases and what these share; the folders:
//!
//! ```text
//!   slot/      a connection: what it costs, its outbox, its end
//!   carrier/   bytes of a socket <-> messages
//!   session/   what messages mean: requests, streams, the line protocol, raw payloads
//!   topic/     homes, subscribers, frame logs, replays
//!   dialect/   how a message looks on the wire; encoding, compression
//!   memory/    blocks, buffers, timers
//! ```

mod carrier;
mod check;
mod control;
mod crossing;
mod dialect;
mod expire;
mod flush;
mod hear;
mod limits;
mod memory;
mod serve;
mod session;
mod settle;
mod slot;
mod stats;
mod topic;
mod turn;
mod work;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hasher;

use corecast_protocol::http::date::{DATE_BYTES, date};
use siphasher::sip::SipHasher13;
use slab::Slab;

use crate::io::driver::{Completion, Slot};
use crate::mesh::{Links, Shards};
use crossing::{Crossing, Way};
use dialect::compress::Inflater;
use dialect::encode::Encoder;
use memory::wheel::Wheel;
use session::reading::Reading;
use session::request::exchange::Exchange;
use slot::connection::{Active, Connection, Life};
use topic::chain::Store;
use topic::home::Homes;
use topic::topics::{NONE, Topics};
use work::{Postponed, Work};

#[doc(hidden)]
pub use check::{Head, Standing};
pub use control::{Answer, ConnectionRow, Order, Question, ROWS_MAX, Said, SlowRow, TopicRow, Wish};
#[doc(hidden)]
pub use dialect::compress::fuzz_inflate;
pub use limits::{LagPolicy, Limits};
pub use memory::pool::{BLOCKS_MIN, SHARD_BYTES_MAX, block_bytes_max, bookkeeping_bytes};
pub use session::request::exchange::ORIGIN_BYTES_MAX;
pub(crate) use session::request::origin::{MISDIRECTED, allowed as is_origin_allowed, is_host_allowed};
pub use stats::Stats;
pub use turn::Busy;

/// What a shard is made of.
#[derive(Debug)]
pub struct Setup {
    /// Its number.
    pub index: usize,
    /// Its limits.
    pub limits: Limits,
    /// Its ends of the rings.
    pub links: Links,
    /// Seed of its random numbers (epochs, jitter).
    pub seed: u64,
    /// Largest slot number plus one.
    pub slots_max: u32,
    /// Key of the topic hash, the same on all shards and secret to peers.
    pub hash_key: u64,
    /// What the time of day, in microseconds since 1970, is ahead of the driver's clock.
    pub wall_offset_us: u64,
}

/// One core's part of the engine.
#[derive(Debug)]
pub struct Shard {
    index: u32,
    limits: Limits,
    links: Links,
    /// Shards whose ring still has packets, which were left to be fair to the other phases of the turn.
    unheard: Shards,
    stats: Stats,
    hash_key: u64,
    random: u64,

    now_us: u64,
    now_ms: u64,
    tick: u32,
    /// What the time of day is ahead of this clock, in microseconds.
    wall_offset_us: u64,
    /// The time of day in seconds, and how answers say it; written anew when one is written in another second.
    date: (u64, [u8; DATE_BYTES]),

    connections: Vec<Connection>,
    actives: Slab<Active>,
    /// What sessions are in the middle of, as far as they keep it: see [`Active::state`].
    exchanges: Slab<Exchange>,
    readings: Slab<Reading>,
    topics: Topics,
    homes: Homes,
    store: Store,
    wheel: Wheel,

    /// What the kernel said and was not served yet.
    completions: VecDeque<Completion>,
    reaped: Vec<Completion>,
    due: Vec<u32>,
    /// Connections with something to send that the walk does not send.
    ready: VecDeque<Slot>,
    /// Logs with a walk under way.
    dirty: VecDeque<u32>,
    /// Logs that may give their blocks back after this submit.
    releasing: Vec<u32>,
    /// Connections whose queue is sent by this submit.
    sent_private: Vec<Slot>,
    /// Where among the busy connections the next search for memory begins.
    keep_from: usize,
    /// Number of the submit being prepared.
    submit: u32,

    /// Per shard: what waits for room in the ring to it.
    crossings: Vec<Crossing>,
    /// The shards whose crossing has something.
    crowded: Shards,
    /// What this phase of the turn may still do.
    work: Work,
    /// Connections that go on when their turn has come.
    postponed: Postponed,
    /// The shard that is heard first in the next turn: a ring that took all the time goes last.
    hear_from: usize,
    /// The lane whose waiting connections are let go on just now.
    unparking: Option<Way>,
    /// Per home: topics without subscribers, which it is to be told.
    leaving: Vec<VecDeque<u32>>,
    /// The homes for which there are any.
    homes_left: Shards,
    /// Connections that have ended, or will be sent nothing more, and had too many subscriptions to end them at once.
    departing: VecDeque<(Slot, u16)>,
    /// Subscriptions that were ended since they last had their share of a turn.
    left: usize,
    /// Connections that lost part of a frame for want of memory: they end before anything more is sent.
    condemned: Vec<(Slot, u16)>,
    /// Connections that are tried again to be sent to, and when.
    retrying: BinaryHeap<Reverse<(u64, Slot, u16)>>,
    /// Subscribers with a pace, by the time their next message may be sent.
    paced: BinaryHeap<Reverse<(u64, u32)>>,

    encoder: Encoder,
    inflater: Inflater,

    /// Scratch: received bytes, a packet, text being written.
    inbound: Vec<u8>,
    inflated: Vec<u8>,
    carried: Vec<u8>,
    whole: Vec<u8>,
    carried_plan: Vec<u8>,
    packet: Vec<u8>,
    text: Vec<u8>,

    /// Listeners that stopped accepting because the kernel said no, and when to try again.
    accepting_failed: Vec<u8>,
    /// Listeners that have accepted nobody since.
    refusing: Vec<u8>,
    accept_again_us: u64,
    /// When it may be said again in the log.
    accept_warn_us: u64,
    /// When it may be said again in the log that somebody speaks TLS.
    tls_warn_us: u64,
    /// Who may show a forever frame of ours, as a policy says it.
    frame_policy: String,
    /// Number of the newest replay asked for.
    serial: u32,
    /// What the control plane asked, while it is being answered.
    look: Option<Box<control::Look>>,
    draining: bool,
    drain_next: Slot,
}

impl Shard {
    /// Makes a shard without connections.
    #[must_use]
    pub fn new(setup: Setup) -> Shard {
        let Setup { index, limits, links, seed, slots_max, hash_key, wall_offset_us } = setup;
        let shards = links.shards();
        let mut random_state = seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let packet_bytes_max = crate::mesh::Packet::bytes_max(limits.message_bytes_max as usize);
        Shard {
            index: index as u32,
            stats: Stats::default(),
            hash_key,
            now_us: 0,
            now_ms: 0,
            tick: 1,
            wall_offset_us,
            date: (0, date(0)),
            // Reserved, not touched: growing by doubling would copy hundreds of megabytes in one turn.
            connections: Vec::with_capacity(slots_max as usize),
            actives: Slab::new(),
            exchanges: Slab::new(),
            readings: Slab::new(),
            topics: Topics::new(),
            homes: Homes::new(random(&mut random_state)),
            store: Store::new(limits.memory_bytes),
            wheel: Wheel::new(0, slots_max),
            completions: VecDeque::with_capacity(4096),
            reaped: Vec::with_capacity(4096),
            due: Vec::new(),
            ready: VecDeque::new(),
            dirty: VecDeque::new(),
            releasing: Vec::new(),
            sent_private: Vec::new(),
            keep_from: 0,
            submit: 1,
            crossings: (0..shards).map(|_| Crossing::default()).collect(),
            crowded: Shards::default(),
            work: Work::default(),
            postponed: Postponed::new(),
            hear_from: 0,
            unparking: None,
            leaving: (0..shards).map(|_| VecDeque::new()).collect(),
            homes_left: Shards::default(),
            departing: VecDeque::new(),
            left: 0,
            condemned: Vec::new(),
            retrying: BinaryHeap::new(),
            paced: BinaryHeap::new(),
            encoder: Encoder::default(),
            inflater: Inflater::new(),
            inbound: Vec::with_capacity(64 << 10),
            inflated: Vec::new(),
            carried: Vec::new(),
            whole: Vec::new(),
            carried_plan: Vec::new(),
            packet: Vec::with_capacity(packet_bytes_max),
            text: vec![0; TEXT_BYTES],
            accepting_failed: Vec::new(),
            refusing: Vec::new(),
            accept_again_us: 0,
            accept_warn_us: 0,
            tls_warn_us: 0,
            frame_policy: session::request::embed::frame_policy(&limits.origins, &limits.loopback),
            serial: 0,
            look: None,
            draining: false,
            drain_next: 0,
            random: random_state,
            limits,
            links,
            unheard: Shards::default(),
        }
    }

    /// Returns the counters, with the gauges brought up to date.
    pub fn stats(&mut self) -> &Stats {
        use memory::pool::Owner;
        let pool = &self.store.pool;
        self.stats.topics = self.topics.len() as u64;
        self.stats.homes = self.homes.len() as u64;
        self.stats.subscriptions = self.topics.memberships.len() as u64;
        self.stats.compressed = self.encoder.compressed;
        self.stats.uncompressed = self.encoder.uncompressed;
        self.stats.compressed_bytes_before = self.encoder.bytes.0;
        self.stats.compressed_bytes_after = self.encoder.bytes.1;
        self.stats.pool_bytes = pool.used_total();
        self.stats.pool_bytes_max = pool.bytes_max();
        self.stats.pool_log_bytes = pool.used(Owner::Log);
        self.stats.pool_history_bytes = pool.used(Owner::History);
        self.stats.pool_private_bytes = pool.used(Owner::Private);
        self.stats.pool_inbound_bytes = pool.used(Owner::Inbound);
        &self.stats
    }

    /// Says what the time of day, in microseconds since 1970, is ahead of the driver's clock: it may have been set meanwhile.
    pub fn set_wall_clock(&mut self, wall_offset_us: u64) {
        self.wall_offset_us = wall_offset_us;
    }

    /// Announces that this shard's core is about to rest; says false if another turn is needed first. A core with several
    /// shards asks all of them.
    #[must_use]
    pub fn announce_rest(&mut self) -> bool {
        self.links.announce_rest()
    }

    /// Takes the announcement back, after a rest or instead of one.
    pub fn woke(&mut self) {
        self.links.woke();
    }

    /// Says whether other shards have sent something: a shard that found nothing to do then takes another turn.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.links.has_mail()
    }

    /// Says whether a packet waits in any in-ring, for checks.
    #[must_use]
    pub fn anything(&self) -> bool {
        self.links.anything()
    }

    fn hash(&self, topic: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.hash_key, !self.hash_key);
        hasher.write(topic.as_bytes());
        hasher.finish()
    }

    fn home_of(&self, hash: u64) -> usize {
        (hash % self.links.shards() as u64) as usize
    }

    /// Returns the connection's `Active`, made if need be.
    fn active(&mut self, slot: Slot) -> &mut Active {
        let index = self.connections[slot as usize].active;
        if index != NONE {
            return &mut self.actives[index as usize];
        }
        let index = self.actives.insert(Active::new(slot));
        self.connections[slot as usize].active = u32::try_from(index).expect("fewer than 2^32");
        self.look_at(slot);
        &mut self.actives[index]
    }

    /// Returns the connection's `Active`, if it has one.
    fn active_if_any(&mut self, slot: Slot) -> Option<&mut Active> {
        self.actives.get_mut(self.connections[slot as usize].active as usize)
    }

    /// Forgets the connection's `Active`, if nothing is unfinished.
    fn settle_down(&mut self, slot: Slot) {
        let index = self.connections[slot as usize].active;
        if index == NONE {
            return;
        }
        let active = &mut self.actives[index as usize];
        active.queue.release_if_empty(&mut self.store);
        active.carry.release_if_empty(&mut self.store);
        if active.complete || !active.is_idle() {
            return;
        }
        active.clear(&mut self.store);
        self.actives.remove(index as usize);
        self.connections[slot as usize].active = NONE;
    }

    /// Forbids the walk to send to the connection's subscriptions: from now on it has to be looked at.
    fn look_at(&mut self, slot: Slot) {
        let first = self.connections[slot as usize].first;
        if first != NONE {
            // Of several subscriptions, all are flagged already.
            self.topics.subscriber_mut(first).flags |= topic::topics::LOOK;
        }
    }

    /// Lets the walk send to a connection's only subscription again, if nothing speaks against it.
    ///
    /// Only for a connection that has nothing to send and did not send in this submit: otherwise both would send.
    fn look_no_more(&mut self, slot: Slot) {
        use topic::topics::{CONFLATE, ENOUGH, LOOK, PACED, REPLAYING, UNRESOLVED};
        let connection = &self.connections[slot as usize];
        let busy = connection.active != NONE || connection.blocked || connection.partial != NONE;
        // The walk knows nothing of cursors that are told behind the messages.
        if connection.subscriptions != 1 || busy || connection.dialect.shape.is_shared() {
            return;
        }
        let first = connection.first;
        let subscriber = self.topics.subscriber_mut(first);
        if subscriber.flags & (CONFLATE | PACED | UNRESOLVED | REPLAYING | ENOUGH) == 0 {
            subscriber.flags &= !LOOK;
        }
    }

    /// Puts the connection into the queue of those with something to send.
    fn make_ready(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot as usize];
        if !std::mem::replace(&mut connection.ready, true) {
            self.ready.push_back(slot);
        }
    }

    fn is_living(&self, slot: Slot, generation: u16) -> bool {
        self.connections
            .get(slot as usize)
            .is_some_and(|connection| connection.generation == generation && connection.life == Life::Open)
    }
}

/// Scratch for heads, lines and short bodies: the longest is a head with the list of 64 cursors in it twice (4 KiB).
const TEXT_BYTES: usize = 16 << 10;

/// Draws the next number of a splitmix64 sequence: for jitter and epochs, not for secrets.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
