//! A world: shards on fake kernels, clients, and a scheduler that decides by its seed who acts next.
//!
//! A shard that rests is woken by its doorbell, by a completion or by its deadline, and by nothing else: a lost wake-up
//! shows as a client that waits for ever. "For ever" is virtual time: when nobody can act, the clock jumps to the next
//! deadline.

mod accounts;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use corecast::edge::{Edge, SCRATCH_BYTES, Through};
use corecast::io::driver::Driver;
use corecast::mesh;
use corecast::shard::{Busy, Readers, Rule, Rules, Setup, Shard, Terms};

use crate::authority::{Authority, Says, clients_show_tokens, resident};
use crate::client::{Client, Phase, Plan, Scene};
use crate::draft::Draft;
use crate::faults::Faults;
use crate::kernel::FakeKernel;
use crate::line::HOUR_MS;
use crate::marks::Coverage;
use crate::net::{Net, SharedNet};
use crate::operator::Operator;
use crate::oracle::Oracle;
use crate::promptness::Promptness;
use crate::regime::{Regime, SharedRegime};
use crate::report::Report;
use crate::rng::Rng;
use crate::rounds::Rounds;
use crate::seat::Sizes;
use crate::secured;
use crate::upstream::Upstreams;
use crate::watcher::Watcher;
use crate::wire::STALL_US_MAX;

/// Longest that nobody can act while somebody waits, once faults are over: a head may take 10 s, an ended connection 2 s. Below the 25 s
/// of a ping, which would hide a lost wake-up.
const SETTLE_US_MAX: u64 = 15_000_000;

/// Once nobody waits, so long must nobody be able to act: more than the longest pace of a subscriber.
const QUIET_US: u64 = 300_000;

/// So long after its time a message of a reader with a pace must have come.
const HOUR_SLACK_US: u64 = 10_000_000;

/// Steps after which a world that makes no end of it is stuck in a circle.
const STEPS_MAX: u64 = 10_000_000;

/// What is given to strangers for a time is over after so long, and whoever reads by it has been ended.
const ENDS_US: u64 = 4_500_000;

/// How long the authority thinks at most, in microseconds.
const THINKS_US_MAX: usize = 50_000;

/// How long the authority thinks at most where it is slow, and for how long it is so, or silent.
const SLOW_US_MAX: usize = 2_000_000;
const MOOD_US_MAX: usize = 3_000_000;

/// So many steps lie between two orders of the control plane. A prime, so that all shards get all kinds.
const STEPS_AN_ORDER: u64 = 61;

/// Within this time of quiet everybody must be told how many read a topic, who wants to know.
const COUNTED_US_MAX: u64 = 30_000_000;

/// With so much memory no number is without room.
const ROOM_FOR_NUMBERS: u64 = 16 << 20;

/// And so many where they say who may what.
const STEPS_AN_ORDER_OF_RULES: u64 = 23;

/// A shard and where it stands.
struct Berth {
    shard: Shard,
    edge: Edge,
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
        late || self.shard.has_mail() || self.kernel.must_wake()
    }
}

/// How soon the authority says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Quick,
    Slow,
    Silent,
}

pub(crate) struct World {
    rng: Rng,
    net: SharedNet,
    berths: Vec<Berth>,
    operator: Operator,
    authority: Authority,
    /// How long the authority thinks; drawn apart.
    thoughts: Rng,
    /// Over which time the shards tell their connections that they end, in microseconds.
    drain_within_us: u64,
    mood: Mood,
    mood_until_us: u64,
    /// Who may what, if not everybody may everything.
    regime: Option<SharedRegime>,
    /// Clients that are no strangers; these stand behind them.
    residents: usize,
    /// By how much time runs faster than usual.
    haste: u64,
    /// For each core, whether it rests: all its shards have announced it. Shard `n` is one of core `n % cores`.
    resting: Vec<bool>,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    /// Those who number what they publish; drawn apart.
    upstreams: Upstreams,
    /// Numbers of readers have room at all times.
    has_room: bool,
    oracle: Oracle,
    promptness: Promptness,
    rounds: Rounds,
    plan: Plan,
    faults: Faults,
    busy_steps: u64,
    phase: Phase,
    /// When the phase began.
    phase_us: u64,
    steps: u64,
    /// Time in which nobody could act, in all.
    idle_us: u64,
    /// How much of it had passed when nobody was last seen to wait for the server.
    excused_us: u64,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> World {
        // What the thread has reached before is not of this world.
        let _ = Coverage::of_one();
        let mut rng = Rng::new(seed);
        let mut draft = Draft::draw(&mut rng, trace);
        // Half of the worlds; drawn apart, so that they are otherwise those that they were without it.
        let leaves_out = Rng::new(!seed).chance(500);
        // Nearly half of those that may have strangers has them.
        let mut apart = Rng::new(seed ^ 0x5174_0303);
        let strange = draft.may_have_strangers() && apart.chance(450);
        // An eighth of them speaks TLS, and a fifth of those with strangers.
        let secured = Rng::new(seed ^ 0x7152_0303).chance(if strange { 200 } else { 125 });
        // In a third of them clients show tokens, which an authority is slow to know.
        let shows = strange || Rng::new(seed.rotate_left(17)).chance(333);
        clients_show_tokens(shows, strange);
        draft.limits.asks.tokens = shows;
        draft.limits.verdict_ms = 600_000;
        // In half of these it is asked about single topics, too.
        draft.limits.asks.publish = shows && !strange && Rng::new(seed.rotate_left(41)).chance(500);
        draft.limits.asks.subscribe = shows && !strange && Rng::new(seed.rotate_left(43)).chance(500);
        let moody = strange && !draft.plan.calm && apart.chance(500);
        let mut haste = 1;
        if strange {
            draft.limits.open = vec![false];
            draft.limits.asks.cookie = Some("access".to_owned());
            draft.busy_steps = draft.busy_steps.max(4_000);
            // Whoever finds no place shows nothing.
            draft.limits.connections_max = 1 << 20;
            draft.sizes.slots = draft.sizes.slots.max(200);
            haste = apart.pick(draft.haste());
        }
        if moody {
            draft.limits.verdict_ms = apart.pick(&[100, 400, 2_000]);
        }
        if trace {
            eprintln!("seed {seed}, numbers are left out: {leaves_out}, TLS is spoken: {secured}: {draft:#?}");
            eprintln!("strangers: {strange}, the authority is moody: {moody}, haste {haste}");
        }
        if Rng::new(seed.rotate_left(32)).chance(500) {
            // Nobody meets these: what is counted is right, or it is not nothing in the end.
            let quotas = &mut draft.limits.quotas;
            (quotas.connections_in_all, quotas.subscriptions_in_all) = (1 << 20, 1 << 20);
            (quotas.connections_per_address, quotas.subscriptions_per_address) = (1 << 20, 1 << 20);
            (quotas.connections_per_subject, quotas.subscriptions_per_subject) = (1 << 20, 1 << 20);
        }
        // In a third of those without strangers readers are counted.
        let counts = !strange && Rng::new(seed.rotate_left(48)).chance(333);
        if counts {
            let terms = Terms { occupancy: Some(true), ..Terms::default() };
            draft.limits.rules = Rules::new(vec![Rule { pattern: "#".into(), terms }]).expect("a sound rule");
        }
        let Draft { shards, cores, ring_bytes, faults, sizes, .. } = draft;
        let watched: Vec<&String> = match counts && sizes.slots >= 200 && draft.limits.connections_max > 1_000 {
            true => draft.plan.topics.iter().take(2).collect(),
            false => Vec::new(),
        };
        let watchers = watched.iter().enumerate().map(|(n, topic)| Watcher::new(n % shards, topic)).collect();
        let net = Net::shared(shards);
        net.borrow_mut().secured = secured;
        let hash_key = rng.next();
        let mesh::Ends { links, control, questions } = mesh::join_all(shards, cores, ring_bytes);
        let regime = strange.then(|| Rc::new(RefCell::new(Regime::new(&mut apart, shards, &draft.limits, moody))));
        let says = regime.as_ref().map_or_else(|| -> Says { Box::new(|_, _| Ok(resident())) }, Regime::says);
        let mut authority = Authority::new(questions, net.clone(), says);
        authority.holds_ms = if strange { apart.pick(&[0, 0, 5_000, 600_000]) } else { 0 };
        let berths = links
            .into_iter()
            .enumerate()
            .map(|(index, links)| {
                // Behind what the pool has is where records are sealed.
                let with_scratch = Sizes { memory_bytes: sizes.memory_bytes + SCRATCH_BYTES as usize, ..sizes };
                let mut kernel = FakeKernel::new(index, net.clone(), rng.split(), faults, with_scratch);
                // Whoever makes a shard starts its listeners.
                kernel.accept(0);
                let seed = rng.next();
                let limits = draft.limits.clone();
                let setup = Setup { index, limits, links, seed, slots_max: sizes.slots, hash_key, wall_offset_us: 0 };
                let mut shard = Shard::new(setup);
                if leaves_out {
                    shard.leave_out_numbers();
                }
                let edge = secured::edge(sizes.memory_bytes as u64, secured);
                Berth { shard, edge, kernel, idle: None, stalled_until_us: 0 }
            })
            .collect();
        let mut clients = draft.clients(&mut rng);
        let residents = clients.len();
        if let Some(regime) = &regime {
            clients.extend(draft.strangers(&mut apart, regime));
        }
        let now_us = net.borrow().now_us();
        let mut oracle = draft.oracle(now_us);
        oracle.numbers.leaves_out = leaves_out;
        oracle.regime = regime.clone();
        World {
            rng,
            net,
            berths,
            operator: Operator::new(control, seed, draft.limits.clone(), draft.plan.calm, regime.clone()),
            authority,
            mood: Mood::Quick,
            mood_until_us: if moody { 0 } else { u64::MAX },
            regime,
            residents,
            haste,
            thoughts: Rng::new(seed.rotate_left(33)),
            drain_within_us: if Rng::new(seed.rotate_left(9)).chance(500) { 2_000_000 } else { 0 },
            resting: vec![false; cores],
            clients,
            watchers,
            upstreams: Upstreams::draw(seed, !strange && sizes.slots >= 200),
            has_room: draft.limits.memory_bytes >= ROOM_FOR_NUMBERS && !draft.is_hoard(),
            oracle,
            promptness: Promptness::new(shards, draft.bounds()),
            rounds: Rounds::new(shards),
            plan: draft.plan,
            faults,
            busy_steps: draft.busy_steps,
            phase: Phase::Busy,
            phase_us: now_us,
            steps: 0,
            idle_us: 0,
            excused_us: 0,
        }
    }

    /// Runs the world to its end; panics if anything is wrong.
    pub(crate) fn run(mut self) -> Report {
        while self.steps < self.busy_steps {
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
            if self.plan.patient {
                self.enter(Phase::Patient, Faults::NONE);
                self.pass_hours();
            }
            self.enter(Phase::Settling, Faults::NONE);
            self.run_until_nobody_waits();
            if self.regime.is_some() {
                self.pass_ends();
            }
            self.check_accounts();
            self.run_until_readers_are_known();
        }
        self.enter(Phase::Draining, Faults::NONE);
        let within_us = self.drain_within_us;
        self.berths.iter_mut().for_each(|berth| {
            berth.shard.drain(&mut Through { edge: &mut berth.edge, driver: &mut berth.kernel }, within_us);
            berth.idle = None;
            // The signal comes over the control plane, which rings every doorbell.
            berth.kernel.ring_own_doorbell();
        });
        self.run_until_nobody_waits();
        self.check_end();
        let Oracle { sights, gaps, heard, ends, .. } = self.oracle;
        let mut report = Report { sights, gaps, heard, ends, ..Report::default() };
        report.rounds_to_hear = self.promptness.longest;
        report.rounds_to_send = self.rounds.longest;
        report.steps_max = self.steps;
        report.told = self.regime.as_ref().map(|regime| regime.borrow().told).unwrap_or_default();
        report.coverage = Coverage::of_one();
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
        if !phase.is_lively() && std::mem::replace(&mut self.mood, Mood::Quick) != Mood::Quick {
            self.authority.hurry();
        }
        for berth in &mut self.berths {
            berth.kernel.set_faults(faults);
            berth.stalled_until_us = 0;
        }
    }

    /// Lets so much time pass that whoever wants a message an hour has got the newest there is.
    fn pass_hours(&mut self) {
        self.excused_us = self.idle_us;
        let until_us = self.phase_us + u64::from(HOUR_MS) * 1000 + HOUR_SLACK_US;
        while self.net.borrow().now_us() < until_us {
            self.step();
            assert!(self.steps < STEPS_MAX, "an hour does not pass");
        }
        let missing = self.clients.iter().find_map(|client| client.misses_after_hours(&self.oracle));
        assert!(missing.is_none(), "an hour has passed: {missing:?}");
    }

    /// Lets so much time pass that whatever strangers were given for a time is over: those who still read by it have to be ended.
    fn pass_ends(&mut self) {
        self.excused_us = self.idle_us;
        let until_us = self.net.borrow().now_us() + ENDS_US;
        while self.net.borrow().now_us() < until_us {
            self.step();
            assert!(self.steps < STEPS_MAX, "some seconds do not pass");
        }
        self.run_until_nobody_waits();
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

    /// Lets time pass until how many read each topic is known to its home, and to whoever wants to know; panics if that takes too long.
    fn run_until_readers_are_known(&mut self) {
        let until_us = self.net.borrow().now_us() + COUNTED_US_MAX;
        while let Some(wrong) = self.readers_unknown() {
            assert!(self.net.borrow().now_us() < until_us, "how many read a topic is not known: {wrong}");
            (0..16).for_each(|_| self.step());
        }
    }

    /// Finds a topic of which somebody believes another number of readers than it has.
    fn readers_unknown(&self) -> Option<String> {
        let (mut here, mut at_home) = (BTreeMap::<String, u64>::new(), BTreeMap::new());
        for berth in &self.berths {
            berth.shard.readers(|readers| match readers {
                Readers::Here(topic, readers) => *here.entry(topic.to_owned()).or_default() += u64::from(readers),
                Readers::AtHome(topic, readers, told, watched) => {
                    let known = at_home.insert(topic.to_owned(), (readers, told, watched));
                    assert_eq!(known, None, "{topic} has one home");
                }
            });
        }
        let unknown = here.iter().find(|(topic, readers)| **readers != at_home.get(*topic).map_or(0, |known| known.0));
        let ghost = at_home.iter().find(|(topic, known)| known.0 != here.get(*topic).copied().unwrap_or(0));
        let untold = at_home.iter().find(|(_, (readers, told, watched))| *watched && *told != Some(*readers));
        let late = self.watchers.iter().find(|watcher| {
            let told = at_home.get(watcher.topic()).and_then(|known| known.1);
            told.is_some() && watcher.told != told
        });
        let (untold, late) = if self.has_room { (untold, late) } else { (None, None) };
        let all = [format!("{unknown:?}"), format!("{ghost:?}"), format!("{untold:?}"), format!("{late:?}")];
        all.iter().any(|wrong| wrong != "None").then(|| all.join(", "))
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
        self.upstreams.waits(self.phase).or_else(|| {
            accepted.find_map(|client| {
                let reason = client.waits_for(self.phase, &self.oracle, &self.plan.topics)?;
                let conn = client.conn().map_or(String::new(), |conn| net.describe(conn));
                let seats = self.berths.iter().filter_map(|berth| berth.kernel.describe(client.conn()?));
                let seats: Vec<String> = seats.collect();
                Some(format!("{reason}; {conn}; {seats:?}"))
            })
        })
    }

    fn step(&mut self) {
        self.steps += 1;
        let now_us = {
            let mut net = self.net.borrow_mut();
            net.advance_us(self.rng.within(1..20) * self.haste);
            net.settle_all();
            if self.rng.chance(self.faults.clock_jump) {
                net.advance_us(self.rng.within(1..self.faults.jump_us_max + 1));
            }
            net.now_us()
        };
        let steps_an_order = if self.regime.is_some() { STEPS_AN_ORDER_OF_RULES } else { STEPS_AN_ORDER };
        if self.steps.is_multiple_of(steps_an_order) {
            self.operator.act(self.steps / steps_an_order, &self.net);
        }
        if let Some(regime) = &self.regime {
            regime.borrow_mut().now_us = now_us;
        }
        self.authority.thinks_us = self.think(now_us);
        let mut acted = self.authority.act();
        acted |= self.step_shard(now_us);
        for _ in 0..1 + self.rng.below(4) {
            let index = self.rng.below(self.clients.len());
            acted |= self.step_client(index);
        }
        for watcher in &mut self.watchers {
            acted |= watcher.act(&mut self.net.borrow_mut(), self.phase != Phase::Draining);
        }
        acted |= self.upstreams.act(&self.net, &mut self.oracle, &self.plan, self.phase, self.phase_us);
        if self.residents < self.clients.len() {
            // There are few of them, and what happens to them is what such a world is about.
            let index = self.rng.within(self.residents as u64..self.clients.len() as u64);
            acted |= self.step_client(index as usize);
        }
        if self.phase.is_lively() && self.faults.storm > 0 && self.rng.below(1_000_000) < self.faults.storm as usize {
            (0..self.clients.len()).for_each(|index| self.act(index, true));
        }
        // Among very many clients, chance alone would hardly ever find the few that have something to do.
        if !acted && !self.step_somebody() && !self.shards_can_act(now_us) {
            self.skip_to_next_deadline();
        }
    }

    /// Returns how long the authority thinks about what it is asked now.
    fn think(&mut self, now_us: u64) -> u64 {
        if self.phase.is_lively() && now_us >= self.mood_until_us {
            self.mood_until_us = now_us + self.thoughts.skewed(MOOD_US_MAX) as u64;
            if std::mem::replace(&mut self.mood, self.thoughts.pick(&[Mood::Quick, Mood::Slow, Mood::Silent]))
                == Mood::Silent
            {
                self.authority.hurry();
            }
        }
        match self.mood {
            Mood::Quick => self.thoughts.skewed(THINKS_US_MAX) as u64,
            Mood::Slow => self.thoughts.skewed(SLOW_US_MAX) as u64,
            Mood::Silent => u64::MAX,
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
            let has_something = |shard: &Shard| shard.anything() || shard.has_mail();
            let sleeps_over = self.of_core(core).find(|shard| has_something(&self.berths[*shard].shard));
            assert!(
                bell || sleeps_over.is_none(),
                "shard {sleeps_over:?} sleeps over a packet or an order: a lost wake-up"
            );
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
        let busy = berth.shard.turn(&mut Through { edge: &mut berth.edge, driver: &mut berth.kernel });
        berth.shard.check();
        if let Some(regime) = &self.regime {
            regime.borrow_mut().turned(index, now_us, self.net.borrow().now_us());
        }
        self.promptness.turned(index, &berth.shard);
        self.rounds.turned(index, &berth.shard);
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

    /// Lets a client act, if it has something to do; says whether it had.
    fn step_client(&mut self, index: usize) -> bool {
        let has_work = self.clients[index].has_work(&self.net.borrow(), self.phase, &self.oracle);
        if has_work {
            let reset = self.phase.is_lively() && self.rng.chance(self.faults.reset);
            self.act(index, reset);
        }
        has_work
    }

    /// Lets the next client act that has something to do, from a random one on; says whether there is any.
    fn step_somebody(&mut self) -> bool {
        let count = self.clients.len();
        let first = self.rng.below(count);
        (first..first + count).any(|index| self.step_client(index % count))
    }

    /// Lets a client act, or breaks its connection.
    fn act(&mut self, index: usize, reset: bool) {
        let net = &mut *self.net.borrow_mut();
        self.oracle.now_us = net.now_us();
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
    }

    fn shards_can_act(&mut self, now_us: u64) -> bool {
        let net = self.net.borrow();
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
        let upstreams = self.upstreams.next_due_us(self.phase);
        let stalled = self.net.borrow_mut().next_stall_over_us();
        let next_us = shards
            .chain(clients)
            .chain([stalled, self.authority.due_us(), upstreams])
            .flatten()
            .filter(|due_us| *due_us > now_us)
            .min();
        // With no deadline at all, time passes until whoever waits has waited too long.
        let by_us = next_us.map_or(1_000_000, |next_us| next_us - now_us);
        // Who has bytes to read and does not is about to: it stalls for so long at most. To jump further would be to blame the
        // server for it.
        let conns = self.clients.iter().filter_map(Client::conn);
        let mut conns = conns.chain(self.upstreams.conns());
        let unread = conns.any(|conn| self.net.borrow().client_has_news(conn));
        let by_us = if unread { by_us.min(STALL_US_MAX as u64) } else { by_us };
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
}
