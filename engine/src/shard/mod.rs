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

mod accepting;
mod access;
mod carrier;
mod check;
mod clock;
mod control;
mod crossing;
mod dialect;
mod disconnect;
mod drain;
pub(crate) mod errand;
mod expire;
mod flush;
mod governor;
mod grant;
mod handover;
mod hear;
pub(crate) mod histogram;
mod ledger;
pub(crate) mod limits;
mod look;
mod memory;
mod notices;
mod pattern;
mod pressure;
mod quotas;
mod random;
mod recent;
mod refusal;
mod relief;
pub(crate) mod rules;
mod scratch;
mod sending;
mod serve;
mod session;
mod settle;
mod slot;
mod stats;
mod timers;
pub(crate) mod timings;
mod topic;
mod turn;
mod work;

use std::collections::VecDeque;
use std::hash::Hasher;

use corecast_protocol::topic::{is_system, occupied, presented};
use siphasher::sip::SipHasher13;

use crate::io::driver::{Completion, Slot};
use crate::mesh::{Links, Shards};
use accepting::Accepting;
use access::Accesses;
use clock::Clock;
use crossing::Crossings;
use dialect::compress::Inflater;
use dialect::encode::Encoder;
use dialect::view::Shaping;
use drain::Drain;
use governor::Governor;
use grant::trust::Trust;
use notices::Notices;
use pattern::journal::Journal;
use pattern::reads::Reads;
use random::random;
use recent::Recent;
use scratch::Scratch;
use sending::Sending;
use session::reading::Reading;
use session::request::exchange::Exchange;
use slot::connection::Active;
use slot::slots::Slots;
use timers::Timers;
use timings::Watch;
use topic::attendance::Attendance;
use topic::chain::Store;
use topic::demand::Demand;
use topic::home::Homes;
use topic::hottest::Hottest;
use topic::leaving::Leaving;
use topic::occupancy::Occupancy;
use topic::presence::Presence;
use topic::producers::{Producers, key_of};
use topic::recounts::Recounts;
use topic::topics::{NONE, Topics};
use topic::values::Values;
use work::{Postponed, Work};

pub use access::AccessLog;
#[doc(hidden)]
pub use check::{Head, Readers, Standing};
#[doc(hidden)]
pub use dialect::compress::fuzz_inflate;
pub use errand::{
    Answer, By, ConnectionRow, Described, DumpPlace, Errand, Inspected, Only, Page, PeerAddress, Question, ROWS_MAX,
    Restored, Said, SlowRow, TopicRow, Wanted, Whom,
};
pub use handover::Restore;
pub(crate) use handover::home_shard;
pub use histogram::{BUCKETS, Histogram, bound_us};
pub use limits::{Asks, Limits, Quotas};
pub use memory::pool::{BLOCKS_MIN, SHARD_BYTES_MAX, block_bytes_max, bookkeeping_bytes};
pub(crate) use memory::slab::Slab;
pub use refusal::{COME_BACK, Refusal, Row as RefusalRow};
pub use rules::{LagPolicy, Mode, RULES_MAX, Rule, Rules, Terms};
pub use session::KINDS;
pub(crate) use session::entrance::Entrance;
pub use session::request::exchange::ORIGIN_BYTES_MAX;
pub(crate) use session::request::origin::{MISDIRECTED, Welcome, is_host_allowed, welcome};
pub use stats::Stats;
pub use timings::{HISTOGRAMS, PHASES, TIMED, Timings};
#[doc(hidden)]
pub use topic::numbering::with_holes;
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
    stats: Stats,
    /// What takes how long.
    watch: Watch,
    hash_key: u64,
    random: u64,
    clock: Clock,

    /// What the kernel said and was not served yet.
    completions: VecDeque<Completion>,
    reaped: Vec<Completion>,
    accepting: Accepting,

    slots: Slots,
    /// What sessions are in the middle of, as far as they keep it: see [`Active::state`].
    exchanges: Slab<Exchange>,
    readings: Slab<Reading>,
    /// What the edge keeps for what is unfinished there, in bytes.
    edge_bytes: u64,
    /// Where among the busy connections the next search for memory begins.
    keep_from: usize,
    /// Where among the frame logs the search for one to cut goes on.
    cut_from: usize,
    /// Tick in which memory was given back last.
    gave_back_tick: u32,

    topics: Topics,
    homes: Homes,
    store: Store,
    leaving: Leaving,
    /// Patterns that have readers here, and those that anybody reads.
    reads: Reads,
    journal: Journal,
    /// Topics whose homes are to be told how many read them here.
    recounts: Recounts,
    /// How many read the topics that have their home here, as far as anybody wants to know.
    occupancy: Occupancy,
    /// Which of them are wanted, as far as anybody wants to know.
    demand: Demand,
    /// Who reads topics here, and those that have their home here, as far as that is told.
    attendance: Attendance,
    presence: Presence,
    /// Who numbers what it publishes to them.
    producers: Producers,
    /// Which of the topics that have their home here are published to most.
    hottest: Hottest,
    /// Number of the newest replay asked for.
    serial: u32,

    /// Who may what.
    trust: Trust,
    /// No rule says anything, and everybody may everything.
    all_may: bool,

    crossings: Crossings,
    sending: Sending,
    timers: Timers,
    /// What this phase of the turn may still do.
    work: Work,
    /// Connections that go on when their turn has come.
    postponed: Postponed,

    encoder: Encoder,
    inflater: Inflater,
    /// Where values are put together, and messages made what somebody wants of them.
    values: Values,
    shaping: Shaping,
    scratch: Scratch,
    /// Bytes of queues and buffers that were there from the start: they are not of the budget.
    scratch_at_start: u64,

    /// When it may be said again in the log that somebody speaks TLS.
    tls_warn_us: u64,
    /// Who may show a forever frame of ours, as a policy says it.
    frame_policy: String,
    /// Proxies that connections came from.
    proxies: session::entrance::Proxies,
    /// Whether what is published and subscribed to is metered, as the limits have it.
    metered: bool,
    recent: Recent,
    governor: Governor,
    /// What the control plane asked, while it is being answered.
    look: Option<Box<errand::Look>>,
    /// What the control plane takes back, while that is being done.
    revoking: Option<Box<errand::Revoking>>,
    /// Connections that the control plane wants to end, while they do.
    disconnecting: Option<Box<errand::Disconnecting>>,
    /// The page of a dump that is being written.
    dumping: Option<Box<errand::Dumping>>,
    /// Who waits until these shards are heard.
    settling: Option<(u64, Shards)>,
    /// Nothing changes a history.
    frozen: bool,
    /// What is noted for the access log.
    access: Accesses,
    notices: Notices,
    /// It is to finish.
    drain: Option<Drain>,
    /// After how many seconds whoever is refused next may come back, if that is known.
    comes_back_s: Option<u32>,
    /// What is drawn otherwise is drawn from these.
    comes_back_random: u64,
}

impl Shard {
    /// Makes a shard without connections.
    #[must_use]
    pub fn new(setup: Setup) -> Shard {
        let Setup { index, limits, links, seed, slots_max, hash_key, wall_offset_us } = setup;
        let shards = links.shards();
        let mut random_state = seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let packet_bytes_max = crate::mesh::Packet::bytes_max(limits.message_bytes_max as usize);
        let mut shard = Shard {
            index: index as u32,
            stats: Stats::default(),
            watch: Watch::default(),
            hash_key,
            clock: Clock::new(wall_offset_us),
            completions: VecDeque::with_capacity(4096),
            reaped: Vec::with_capacity(4096),
            accepting: Accepting::default(),
            slots: Slots::new(slots_max),
            exchanges: Slab::new(),
            readings: Slab::new(),
            edge_bytes: 0,
            keep_from: 0,
            cut_from: 0,
            gave_back_tick: 0,
            topics: Topics::new(),
            homes: Homes::new(random(&mut random_state)),
            store: Store::new(limits.memory_bytes),
            leaving: Leaving::new(shards),
            // Of one process, and the same on all of its shards.
            reads: Reads::new(shards, hash_of(!hash_key, "life of places") as u32, limits.memory_bytes),
            journal: Journal::new(limits.memory_bytes),
            recounts: Recounts::new(shards),
            occupancy: Occupancy::new(),
            demand: Demand::new(shards),
            attendance: Attendance::new(shards),
            presence: Presence::new(),
            producers: Producers::new(key_of(hash_key)),
            hottest: Hottest::new(hash_key),
            serial: 0,
            trust: Trust::new((hash_key, random(&mut random_state)), limits.memory_bytes),
            all_may: false,
            crossings: Crossings::new(links),
            sending: Sending::default(),
            timers: Timers::new(slots_max),
            work: Work::default(),
            postponed: Postponed::new(),
            encoder: Encoder::default(),
            inflater: Inflater::new(),
            values: Values::default(),
            shaping: Shaping::default(),
            scratch: Scratch::new(packet_bytes_max),
            scratch_at_start: 0,
            tls_warn_us: 0,
            proxies: session::entrance::Proxies::default(),
            frame_policy: session::request::embed::frame_policy(&limits.origins, &limits.loopback),
            metered: limits.quotas.meters(),
            recent: Recent::default(),
            governor: Governor::new(),
            look: None,
            revoking: None,
            disconnecting: None,
            dumping: None,
            settling: None,
            frozen: false,
            access: Accesses::new(limits.access_log),
            notices: Notices::new(),
            drain: None,
            comes_back_s: None,
            comes_back_random: !seed,
            random: random_state,
            limits,
        };
        shard.all_may = shard.is_open_to_all();
        shard.scratch_at_start = shard.scratch_bytes();
        shard
    }

    /// Returns the counters, with the gauges brought up to date.
    pub fn stats(&mut self) -> &Stats {
        use memory::pool::Owner;
        self.weigh();
        self.hottest.bring_up_to(self.clock.now_ms);
        let pool = &self.store.pool;
        self.stats.topics = self.topics.len() as u64;
        self.stats.homes = self.homes.len() as u64;
        self.stats.producers = self.producers.len() as u64;
        self.stats.subscriptions = self.topics.subscriptions.len() as u64;
        self.stats.grants = self.trust.grants.len() as u64;
        self.stats.grant_bytes = self.trust.bytes();
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
        let besides = pool.besides();
        self.stats.table_bytes = besides.tables;
        self.stats.busy_bytes = besides.busy;
        self.stats.scratch_bytes = besides.scratch;
        self.stats.resident_bytes = pool.resident_bytes();
        self.stats.overloads = self.governor.times();
        self.stats.overloaded = self.governor.is_overloaded().into();
        self.stats.long_turns_percent = self.governor.long_percent();
        &self.stats
    }

    /// Returns what was measured since it was made.
    #[must_use]
    pub fn timings(&self) -> &Timings {
        &self.watch.timings
    }

    /// Returns what is counted for addresses on all shards, for checks.
    #[doc(hidden)]
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.crossings.links.census().total()
    }

    /// Returns how much of that this shard's connections and subscriptions are.
    #[doc(hidden)]
    #[must_use]
    pub fn counted_here(&self) -> u64 {
        let of = |of: slot::connection::For| u64::from(of.all) + u64::from(of.address) + u64::from(of.subject);
        let connections = self.slots.connections.iter();
        connections
            .map(|one| of(one.counted.connection) + of(one.counted.subscriptions) * u64::from(one.subscriptions))
            .sum()
    }

    /// From now on, new topics that have their home here leave numbers out, as [`with_holes`] says: nobody may take numbers for
    /// dense. For tests.
    #[doc(hidden)]
    pub fn leave_out_numbers(&mut self) {
        self.homes.numbering.leaves_out = true;
    }

    /// Says what the time of day, in microseconds since 1970, is ahead of the driver's clock: it may have been set meanwhile.
    pub fn set_wall_clock(&mut self, wall_offset_us: u64) {
        self.clock.wall_offset_us = wall_offset_us;
    }

    /// Announces that this shard's core is about to rest; says false if another turn is needed first. A core with several
    /// shards asks all of them.
    #[must_use]
    pub fn announce_rest(&mut self) -> bool {
        self.crossings.links.announce_rest()
    }

    /// Takes the announcement back, after a rest or instead of one.
    pub fn woke(&mut self) {
        self.crossings.links.woke();
    }

    /// Says whether other shards have sent something: a shard that found nothing to do then takes another turn.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.crossings.links.has_mail()
    }

    /// Says whether a packet waits in any in-ring, for checks.
    #[must_use]
    pub fn anything(&self) -> bool {
        self.crossings.links.anything()
    }

    fn hash(&self, topic: &str) -> u64 {
        hash_of(self.hash_key, topic)
    }

    /// Returns the hash of a topic. One that tells how many read another has the same home as that.
    fn hash_topic(&self, topic: &str) -> u64 {
        hash_topic_of(self.hash_key, self.crossings.links.shards(), topic)
    }

    fn home_of(&self, hash: u64) -> usize {
        home_among(self.crossings.links.shards(), hash)
    }

    /// Returns the connection's `Active`, made if need be.
    fn active(&mut self, slot: Slot) -> &mut Active {
        let index = self.slots.connections[slot as usize].active;
        if index != NONE {
            return &mut self.slots.actives[index as usize];
        }
        let index = self.slots.actives.insert(Active::new(slot));
        self.slots.connections[slot as usize].active = u32::try_from(index).expect("fewer than 2^32");
        self.look_at(slot);
        &mut self.slots.actives[index]
    }

    /// Forgets the connection's `Active`, if nothing is unfinished.
    fn settle_down(&mut self, slot: Slot) {
        let index = self.slots.connections[slot as usize].active;
        if index == NONE {
            return;
        }
        let active = &mut self.slots.actives[index as usize];
        active.queue.release_if_empty(&mut self.store);
        active.carry.release_if_empty(&mut self.store);
        if active.complete || !active.is_idle() {
            return;
        }
        active.clear(&mut self.store);
        self.slots.actives.remove(index as usize);
        self.slots.connections[slot as usize].active = NONE;
    }

    /// Forbids the walk to send to the connection's subscriptions: from now on it has to be looked at.
    fn look_at(&mut self, slot: Slot) {
        let first = self.slots.connections[slot as usize].first;
        if first != NONE {
            // Of several subscriptions, all are flagged already.
            self.topics.subscriber_mut(first).flags |= topic::topics::LOOK;
        }
    }

    /// Lets the walk send to a connection's only subscription again, if nothing speaks against it.
    ///
    /// Only for a connection that has nothing to send and did not send in this submit: otherwise both would send.
    fn look_no_more(&mut self, slot: Slot) {
        use topic::topics::{AWAY, CONFLATE, ENOUGH, LOOK, METERED, PACED};
        let connection = &self.slots.connections[slot as usize];
        let metered = !self.slots.meters.is_empty() && self.slots.meters.contains_key(&slot);
        let busy = connection.active != NONE || connection.blocked || connection.partial != NONE || metered;
        // The walk knows nothing of cursors that are told behind the messages.
        if connection.subscriptions != 1 || busy || connection.dialect.shape.is_shared() {
            return;
        }
        let first = connection.first;
        let subscriber = self.topics.subscriber_mut(first);
        if subscriber.flags & (CONFLATE | PACED | METERED | AWAY | ENOUGH) == 0 {
            subscriber.flags &= !LOOK;
        }
    }
}

fn hash_of(key: u64, topic: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(key, !key);
    hasher.write(topic.as_bytes());
    hasher.finish()
}

fn home_among(shards: usize, hash: u64) -> usize {
    (hash % shards as u64) as usize
}

fn hash_topic_of(key: u64, shards: usize, topic: &str) -> u64 {
    if is_system(topic) { hash_system_topic_of(key, shards, topic) } else { hash_of(key, topic) }
}

#[cold]
fn hash_system_topic_of(key: u64, shards: usize, topic: &str) -> u64 {
    let hash = hash_of(key, topic);
    let Some(of) = occupied(topic).or_else(|| presented(topic)) else { return hash };
    let home = home_among(shards, hash_of(key, of)) as u64;
    let shards = shards as u64;
    (hash / shards * shards).checked_add(home).unwrap_or(home)
}
