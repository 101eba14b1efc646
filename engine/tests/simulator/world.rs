//! A world: shards on fake kernels, clients, and a scheduler that decides by its seed who acts next.
//!
//! A shard that rests is woken by its doorbell, by a completion or by its deadline, and by nothing else: a lost wake-up
//! shows as a client that waits for ever. "For ever" is virtual time: when nobody can act, the clock jumps to the next
//! deadline.

use corecast::io::driver::Driver;
use corecast::mesh;
use corecast::shard::{Busy, LagPolicy, Limits, Setup, Shard, Stats};

use crate::ask::TRANSPORTS;
use crate::client::{Client, Phase, Plan, Scene};
use crate::echo::EchoClient;
use crate::faults::Faults;
use crate::kernel::FakeKernel;
use crate::line::LineClient;
use crate::migrant::Migrant;
use crate::net::{Net, SharedNet};
use crate::oracle::{History, Oracle};
use crate::poller::Poller;
use crate::raw::RawClient;
use crate::rest::HttpClient;
use crate::rng::Rng;
use crate::seat::{Sizes, Tally};
use crate::stream::StreamClient;

/// Longest that nobody can act while somebody waits, once faults are over: a head may take 10 s, an ended connection 2 s. Below the 25 s
/// of a ping, which would hide a lost wake-up.
const SETTLE_US_MAX: u64 = 15_000_000;

/// Once nobody waits, so long must nobody be able to act: more than the longest pace of a subscriber.
const QUIET_US: u64 = 300_000;

/// Steps after which a world that makes no end of it is stuck in a circle.
const STEPS_MAX: u64 = 3_000_000;

/// A shard and where it stands.
struct Berth {
    shard: Shard,
    kernel: FakeKernel,
    /// Its last turn found nothing; it wants another at this time, if it says one.
    idle: Option<Option<u64>>,
    stalled_until_us: u64,
}

impl Berth {
    /// Says whether a core that is awake gives the shard a turn.
    fn is_due(&mut self, now_us: u64) -> bool {
        let Some(deadline_us) = self.idle else { return true };
        let late = deadline_us.is_some_and(|deadline_us| deadline_us <= now_us);
        late || self.shard.has_mail() || self.kernel.stirs()
    }
}

pub(crate) struct World {
    rng: Rng,
    net: SharedNet,
    berths: Vec<Berth>,
    /// For each core, whether it rests: all its shards have announced it. Shard `n` is one of core `n % cores`.
    resting: Vec<bool>,
    clients: Vec<Client>,
    oracle: Oracle,
    plan: Plan,
    faults: Faults,
    phase: Phase,
    /// When the phase began.
    phase_us: u64,
    steps: u64,
    /// Time in which nobody could act, in all.
    idle_us: u64,
    /// How much of it had passed when nobody was last seen to wait for the server.
    excused_us: u64,
}

/// What a run amounted to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) sights: u64,
    pub(crate) gaps: u64,
    pub(crate) heard: [u64; TRANSPORTS],
    pub(crate) ends: u64,
    pub(crate) stats: Stats,
    pub(crate) tally: Tally,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Report) {
        self.sights += other.sights;
        self.gaps += other.gaps;
        self.heard.iter_mut().zip(other.heard).for_each(|(sum, one)| *sum += one);
        self.ends += other.ends;
        self.stats.add(&other.stats);
        self.tally.add(&other.tally);
    }
}

const TOPICS: [&str; 12] = [
    "hot",
    "a",
    "a/b",
    "with space",
    "100%",
    "é/ü",
    "long/long/long/long/long/long/long/topic",
    "x1",
    "x2",
    "x3",
    "x4",
    "x5",
];

/// Lengths at which streams end: soon, after a while, never.
const STREAM_BYTES: [u64; 4] = [500, 20_000, 0, 64 << 20];

/// Ages at which streams end: soon after their beginning, after a while, never in a run.
const STREAM_MS: [u64; 4] = [150, 2_000, 1_800_000, 1_800_000];

fn draw_limits(rng: &mut Rng, calm: bool) -> Limits {
    if calm {
        return Limits {
            message_bytes_max: 400,
            history_messages: 100_000,
            history_bytes: 64 << 20,
            log_bytes_max: 8 << 20,
            memory_bytes: 64 << 20,
            stream_ms: rng.pick(&STREAM_MS),
            stream_bytes: rng.pick(&STREAM_BYTES),
            compress_from: rng.pick(&[None, Some(1), Some(200)]),
            echo: true,
            ..Limits::default()
        };
    }
    let message_bytes_max = rng.pick(&[64, 300, 2_000, 20_000]);
    let defaults = Limits::default();
    Limits {
        message_bytes_max,
        connections_max: rng.pick(&[3, 10, 1 << 20, 1 << 20]),
        subscriptions_max: rng.pick(&[2, 5, 1024]),
        topics_max: rng.pick(&[2, 5, 1 << 20, 1 << 20]),
        history_messages: rng.pick(&[1, 3, 10, 64]),
        history_bytes: rng.pick(&[100, 5_000, 64 << 10]),
        history_ms: rng.pick(&[1, 50, 300_000]),
        log_bytes_max: rng.pick(&[1_000, 10_000, 256 << 10]),
        private_bytes_max: rng.pick(&[1_000, 10_000, 64 << 10]),
        lag: if rng.chance(300) { LagPolicy::Close } else { LagPolicy::Replay },
        memory_bytes: rng.pick(&[64 << 10, 256 << 10, 1 << 20, 16 << 20]),
        stream_ms: rng.pick(&STREAM_MS),
        stream_bytes: rng.pick(&STREAM_BYTES),
        compress_from: rng.pick(&[None, Some(1), Some(200), Some(1 << 10)]),
        echo: true,
        ..defaults
    }
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> World {
        let mut rng = Rng::new(seed);
        let shards = 2 + rng.below(4);
        let calm = rng.chance(200);
        let mut faults = Faults::draw(&mut rng);
        if calm {
            faults = Faults { clock_jump: 0, reset: 0, ..faults };
        }
        let limits = draw_limits(&mut rng, calm);
        let message_bytes_max = limits.message_bytes_max as usize;
        let ring_bytes_min = 2 * mesh::Packet::bytes_max(message_bytes_max);
        let ring_bytes = if calm { 1 << 20 } else { ring_bytes_min * rng.pick(&[1, 1, 2, 10]) };
        // A few worlds are crowded: walks that take more than one slice, and change while they are under way.
        let crowd = rng.chance(30);
        // Others are fans: very many subscribers of one topic, a few sends a turn.
        let fan = rng.chance(120);
        let count = if fan {
            20 + rng.below(100)
        } else if crowd {
            150 + rng.below(400)
        } else {
            2 + rng.skewed(40)
        };
        let plan = Plan {
            topics: TOPICS[..if fan { 1 } else { 1 + rng.below(TOPICS.len()) }]
                .iter()
                .map(|topic| (*topic).to_string())
                .collect(),
            shards,
            message_bytes_max,
            pause_us_max: rng.pick(&[20, 200, 5_000, 100_000]),
            stream_ms: limits.stream_ms,
            stream_bytes: limits.stream_bytes,
            linger_ms: limits.linger_ms,
            calm,
            trace,
        };
        let sizes = Sizes {
            memory_bytes: limits.memory_bytes as usize,
            slots: if crowd {
                1_000
            } else if calm {
                200
            } else {
                rng.pick(&[3, 10, 50, 200])
            },
            buffers: if calm { 64 } else { rng.pick(&[1, 2, 4, 64]) },
            buffer_bytes: rng.pick(&[16, 100, 2_048]),
            orders: if fan { rng.pick(&[2, 4, 8]) } else { rng.pick(&[2, 8, 64, 1_024]) },
        };
        if trace {
            eprintln!(
                "seed {seed}: {shards} shards, rings of {ring_bytes}, {sizes:?}\n{limits:?}\n{plan:?}\n{faults:?}"
            );
        }
        let net = Net::shared(shards);
        let hash_key = rng.next();
        let cores = if rng.chance(400) { 1 + rng.below(shards) } else { shards };
        let berths = mesh::join(shards, cores, ring_bytes)
            .into_iter()
            .enumerate()
            .map(|(index, links)| {
                let mut kernel = FakeKernel::new(index, net.clone(), rng.split(), faults, sizes);
                // Whoever makes a shard starts its listeners.
                kernel.accept(0);
                Berth {
                    shard: Shard::new(Setup {
                        index,
                        limits: limits.clone(),
                        links,
                        seed: rng.next(),
                        slots_max: sizes.slots,
                        hash_key,
                    }),
                    kernel,
                    idle: None,
                    stalled_until_us: 0,
                }
            })
            .collect();
        let clears = !calm && rng.chance(300);
        let clients = (0..count)
            .map(|name| match rng.below(18) {
                kind if fan && name % 8 != 0 && kind < 12 => Client::Line(LineClient::new(name, &mut rng, calm, true)),
                _ if fan && name % 8 != 0 => Client::Stream(StreamClient::new(name, &mut rng, calm, true)),
                0..6 => Client::Line(LineClient::new(name, &mut rng, calm, false)),
                6..8 => Client::Raw(RawClient::new(name, &mut rng, calm)),
                8..10 => Client::Http(HttpClient::new(name, &mut rng, calm, clears)),
                10 => Client::Echo(EchoClient::new(name, &mut rng, calm)),
                11..14 => Client::Stream(StreamClient::new(name, &mut rng, calm, false)),
                14..16 => Client::Poller(Poller::new(name, &mut rng, calm)),
                _ => Client::Migrant(Migrant::new(name, &mut rng, calm)),
            })
            .collect();
        let now_us = net.borrow().now_us();
        let mut oracle = Oracle::default();
        oracle.may_forget = clears || limits.memory_bytes < 16 << 20 || limits.topics_max < 12;
        oracle.history = Some(History {
            messages: limits.history_messages as usize,
            bytes: limits.history_bytes as usize,
            until_us: now_us + limits.history_ms * 1000,
        });
        World {
            rng,
            net,
            berths,
            resting: vec![false; cores],
            clients,
            oracle,
            plan,
            faults,
            phase: Phase::Busy,
            phase_us: now_us,
            steps: 0,
            idle_us: 0,
            excused_us: 0,
        }
    }

    /// Runs the world to its end; panics if anything is wrong.
    pub(crate) fn run(mut self) -> Report {
        let busy_steps = self.rng.within(200..6_000);
        while self.steps < busy_steps {
            self.step();
        }
        if self.rng.chance(800) {
            if self.rng.chance(700) {
                self.enter(Phase::Churning, self.faults);
                let churning_steps = self.steps + self.rng.within(1..1_000);
                while self.steps < churning_steps {
                    self.step();
                }
            }
            self.enter(Phase::Settling, Faults::NONE);
            self.run_until_nobody_waits();
            self.check_accounts();
        }
        self.enter(Phase::Draining, Faults::NONE);
        self.berths.iter_mut().for_each(|berth| {
            berth.shard.drain(&mut berth.kernel);
            berth.idle = None;
            // The signal comes over the control plane, which rings every doorbell.
            berth.kernel.ring_own_doorbell();
        });
        self.run_until_nobody_waits();
        self.check_end();
        let Oracle { sights, gaps, heard, ends, .. } = self.oracle;
        let mut report = Report { sights, gaps, heard, ends, ..Report::default() };
        for berth in &mut self.berths {
            report.stats.add(berth.shard.stats());
            report.tally.add(&berth.kernel.tally);
        }
        report
    }

    fn enter(&mut self, phase: Phase, faults: Faults) {
        if self.plan.trace {
            eprintln!("{:>12} ==== {phase:?} after {} steps", self.net.borrow().now_us(), self.steps);
        }
        self.phase = phase;
        self.phase_us = self.net.borrow().now_us();
        self.faults = faults;
        for berth in &mut self.berths {
            berth.kernel.set_faults(faults);
            berth.stalled_until_us = 0;
        }
    }

    fn run_until_nobody_waits(&mut self) {
        self.excused_us = self.idle_us;
        loop {
            // Looking at everybody costs more than a step.
            for _ in 0..16 {
                self.step();
            }
            let waiting = self.who_waits();
            let unfinished = self.phase == Phase::Draining && self.berths.iter().any(|berth| !berth.shard.finished());
            if waiting.is_none() && !unfinished {
                break;
            }
            assert!(
                self.steps < STEPS_MAX,
                "{:?} goes round in a circle, unfinished {unfinished}: {waiting:?}",
                self.phase
            );
        }
        // What nobody can know to be missing (a raw client's newest message, say) comes now, if it comes; and tells others
        // what to wait for.
        let rested_us = self.idle_us + QUIET_US;
        while self.idle_us < rested_us {
            self.step();
            if self.steps >= STEPS_MAX {
                let rests: Vec<_> = self.berths.iter().map(|berth| berth.idle).collect();
                self.describe_shards();
                panic!(
                    "{:?} never comes to rest: at {}, shards rest {rests:?}",
                    self.phase,
                    self.net.borrow().now_us()
                );
            }
        }
        if self.who_waits().is_some() {
            self.run_until_nobody_waits();
        }
    }

    /// Finds a client that the server owes something. Who waits for a slot of a full table is owed nothing.
    fn who_waits(&self) -> Option<String> {
        let net = self.net.borrow();
        let is_queued = |client: &Client| {
            client.conn().is_some_and(|conn| {
                let mut full = self.berths.iter().enumerate().filter(|(_, berth)| berth.kernel.is_full());
                full.any(|(shard, _)| net.is_queued(shard, conn))
            })
        };
        let mut accepted = self.clients.iter().filter(|client| !is_queued(client));
        accepted.find_map(|client| {
            let reason = client.waits_for(self.phase, &self.oracle)?;
            let conn = client.conn().map_or(String::new(), |conn| net.describe(conn));
            let seats = self.berths.iter().filter_map(|berth| berth.kernel.describe(client.conn()?));
            let seats: Vec<String> = seats.collect();
            Some(format!("{reason}; {conn}; {seats:?}"))
        })
    }

    fn step(&mut self) {
        self.steps += 1;
        let now_us = {
            let mut net = self.net.borrow_mut();
            net.advance_us(self.rng.within(1..20));
            if self.rng.chance(self.faults.clock_jump) {
                net.advance_us(self.rng.within(1..self.faults.jump_us_max + 1));
            }
            net.now_us()
        };
        let mut acted = self.step_shard(now_us);
        for _ in 0..1 + self.rng.below(4) {
            acted |= self.step_client();
        }
        if !acted && !self.anybody_can_act(now_us) {
            self.skip_to_next_deadline();
        }
    }

    fn step_shard(&mut self, now_us: u64) -> bool {
        let index = self.rng.below(self.berths.len());
        let berth = &mut self.berths[index];
        if berth.stalled_until_us > now_us {
            return false;
        }
        if self.rng.chance(self.faults.stall) {
            berth.stalled_until_us = now_us + self.rng.skewed(300_000) as u64;
            return false;
        }
        let core = index % self.resting.len();
        if self.resting[core] {
            let bell =
                self.of_core(core).fold(false, |bell, shard| self.net.borrow_mut().answer_doorbell(shard) | bell);
            let sleeps_over = self.of_core(core).find(|shard| self.berths[*shard].shard.anything());
            assert!(bell || sleeps_over.is_none(), "shard {sleeps_over:?} sleeps over a packet: a lost wake-up");
            if !bell && !self.of_core(core).any(|shard| self.berths[shard].is_due(now_us)) {
                return false;
            }
            self.berths[core].shard.woke();
            self.resting[core] = false;
        }
        let berth = &mut self.berths[index];
        if !berth.is_due(now_us) {
            self.rest_if_idle(core);
            return false;
        }
        let busy = berth.shard.turn(&mut berth.kernel);
        berth.shard.check();
        berth.idle = match busy {
            Busy::Yes => None,
            Busy::RestUntil(deadline_us) => Some(deadline_us),
        };
        self.rest_if_idle(core);
        true
    }

    fn of_core(&self, core: usize) -> impl Iterator<Item = usize> + use<> {
        (core..self.berths.len()).step_by(self.resting.len())
    }

    /// Lets a core rest if none of its shards has found anything, and all agree.
    fn rest_if_idle(&mut self, core: usize) {
        if self.of_core(core).any(|shard| self.berths[shard].idle.is_none()) {
            return;
        }
        self.resting[core] = self.of_core(core).all(|shard| self.berths[shard].shard.announce_rest());
        if !self.resting[core] {
            self.berths[core].shard.woke();
        }
    }

    fn step_client(&mut self) -> bool {
        let index = self.rng.below(self.clients.len());
        let net = &mut *self.net.borrow_mut();
        if !self.clients[index].has_work(net, self.phase, &self.oracle) {
            return false;
        }
        self.oracle.now_us = net.now_us();
        let reset = self.phase.is_lively() && self.rng.chance(self.faults.reset);
        let mut scene = Scene {
            net,
            oracle: &mut self.oracle,
            rng: &mut self.rng,
            plan: &self.plan,
            phase: self.phase,
            phase_us: self.phase_us,
        };
        if reset {
            self.clients[index].break_down(&mut scene);
        } else {
            self.clients[index].step(&mut scene);
        }
        true
    }

    fn anybody_can_act(&mut self, now_us: u64) -> bool {
        let net = self.net.borrow();
        if self.clients.iter().any(|client| client.has_work(&net, self.phase, &self.oracle)) {
            return true;
        }
        let bells: Vec<bool> = (0..self.berths.len()).map(|index| net.doorbell_rung(index)).collect();
        drop(net);
        (0..self.berths.len()).any(|index| {
            let core = index % self.resting.len();
            let wakes =
                self.resting[core] && self.of_core(core).any(|shard| bells[shard] || self.berths[shard].is_due(now_us));
            self.berths[index].stalled_until_us <= now_us && (wakes || self.berths[index].is_due(now_us))
        })
    }

    fn skip_to_next_deadline(&mut self) {
        let now_us = self.net.borrow().now_us();
        let shards = self.berths.iter().flat_map(|berth| {
            let stalled = (berth.stalled_until_us > now_us).then_some(berth.stalled_until_us);
            [stalled, berth.idle.flatten(), berth.kernel.next_due_us()]
        });
        let clients = self.clients.iter().map(|client| client.next_due_us(self.phase, &self.oracle));
        let next_us = shards.chain(clients).flatten().filter(|due_us| *due_us > now_us).min();
        // With no deadline at all, time passes until whoever waits has waited too long.
        let by_us = next_us.map_or(1_000_000, |next_us| next_us - now_us);
        self.idle_us += by_us;
        if !self.phase.is_lively() && self.idle_us > self.excused_us + SETTLE_US_MAX {
            let waiting = self.who_waits();
            let unfinished: Vec<usize> =
                (0..self.berths.len()).filter(|index| !self.berths[*index].shard.finished()).collect();
            let stuck = waiting.is_some() || (self.phase == Phase::Draining && !unfinished.is_empty());
            if stuck {
                self.describe_shards();
            }
            assert!(!stuck, "{:?} makes no progress, unfinished {unfinished:?}: {waiting:?}", self.phase);
            // Time that passed while nobody waited for the server counts against nobody.
            self.excused_us = self.idle_us;
        }
        self.net.borrow_mut().advance_us(by_us);
    }

    /// Published times matching is delivered, conflated, dropped or abandoned, once nothing is on its way.
    fn check_accounts(&mut self) {
        let mut sum = Stats::default();
        self.berths.iter_mut().for_each(|berth| sum.add(berth.shard.stats()));
        let parts = [sum.owed, sum.delivered, sum.conflated, sum.dropped, sum.abandoned];
        assert!(parts.iter().all(|part| *part < 1 << 60), "a counter fell below zero: {sum:?}");
        let pending: u64 = self.berths.iter().map(|berth| berth.shard.pending()).sum();
        let told = sum.delivered + sum.conflated + sum.dropped + sum.abandoned + pending;
        if sum.owed != told || pending != 0 {
            self.describe_shards();
        }
        assert_eq!(sum.owed, told, "the account of messages owed: {sum:?}");
        assert_eq!(pending, 0, "the world is at rest, and somebody still has messages coming");
        let numbered = self.oracle.numbered();
        assert!(sum.published >= numbered, "{numbered} cursors were seen, {} given", sum.published);
        let sent = self.oracle.sent();
        assert!(sum.published <= sent, "{sent} messages were sent and not refused, {} numbered", sum.published);
    }

    /// Says in the trace what every shard has not finished.
    fn describe_shards(&self) {
        if self.plan.trace {
            self.berths.iter().for_each(|berth| eprintln!("{:#?}", berth.shard.unfinished()));
        }
    }

    fn check_end(&mut self) {
        for (index, berth) in self.berths.iter_mut().enumerate() {
            let Stats { subscriptions, topics, pool_log_bytes, pool_private_bytes, pool_inbound_bytes, .. } =
                *berth.shard.stats();
            let left = [subscriptions, topics, pool_log_bytes, pool_private_bytes, pool_inbound_bytes];
            assert_eq!(
                left, [0; 5],
                "shard {index} finished with subscriptions or topics, or bytes of logs, queues or messages"
            );
            assert_eq!(berth.kernel.slots_taken(), 0, "shard {index} finished with slots open");
            assert_eq!(berth.kernel.buffers_lent(), 0, "shard {index} finished with receive buffers");
        }
        for client in &mut self.clients {
            client.finish(&mut self.oracle);
        }
        self.check_accounts();
        self.oracle.check_order();
        self.oracle.check_raw();
    }
}
