//! A worker: a thread, its lanes, and the loop that turns them through the phases of the plan.
//!
//! Worker 0 also publishes. Deliveries and publishing share a loop on purpose: what a publisher on a thread of its own
//! would gain in punctuality, the scheduler would take away on a host with fewer cores than threads. How late it was is
//! measured and reported.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use crate::account::{Account, Scope};
use crate::client::Rules;
use crate::echoes::Echoes;
use crate::lane::{Lane, Surroundings};
use crate::plan::{Audience, CannotStart, Kind, Load, Phase, Plan, Topic};
use crate::process::{now_ns, thread_cpu_ns};
use crate::publisher::Publisher;
use crate::roster::Roster;
use crate::stage::{Stage, Step, Subscribers};
use crate::tally::Tally;

/// Time a worker keeps looking before it waits, in nanoseconds: waking up costs the server's core more than this.
const SPIN_NS: u64 = 50_000;

/// Longest wait, in microseconds: a change of phase is seen this late.
const WAIT_US_MAX: u64 = 1_000;

/// Nap of a worker with several lanes, which cannot wait for all of them at once, in microseconds.
const NAP_US: u64 = 50;

/// Shortest time between two counts of what is outstanding, in nanoseconds; the next comes no sooner than four times what
/// the last one took.
const COUNT_NS: u64 = 1_000_000;

/// What a worker tells the coordinator.
#[derive(Debug)]
pub(crate) enum News {
    /// The worker could not go on.
    CannotStart(CannotStart),
    /// The worker has closed the account of a phase.
    PhaseOver(Box<PhaseOver>),
}

/// What a worker has seen in a phase.
#[derive(Debug)]
pub(crate) struct PhaseOver {
    pub(crate) account: Account,
    /// Part of the phase that the worker's thread was on a core, 0 to 1.
    pub(crate) cpu_share: f64,
    /// Those who are subscribed now.
    pub(crate) subscribers: Subscribers,
}

#[derive(Debug)]
pub(crate) struct Worker {
    number: u32,
    rules: Rules,
    stage: Arc<Stage>,
    tally: Arc<Tally>,
    news: Sender<News>,
    lanes: Vec<Lane>,
    account: Account,
    publisher: Option<Publisher>,
    out: Vec<Vec<u8>>,
    echoes: Echoes,
    /// Heard in earlier phases.
    heard_before: u64,
    now: Now,
}

/// The phase that runs.
#[derive(Debug)]
struct Now {
    phase: Phase,
    start_ns: u64,
    end_ns: u64,
    /// Everyone is to be dropped when the phase starts.
    drop: bool,
    /// Times that everyone was dropped so far.
    round: u32,
    dialed: u64,
    left: u64,
    /// This worker will send no more messages in this phase.
    ended: bool,
    told: u64,
    cpu_ns: u64,
    began_ns: u64,
    count_at_ns: u64,
}

impl Worker {
    /// Makes the worker's lanes; to be called on its own thread.
    pub(crate) fn new(
        number: u32,
        rules: Rules,
        ring_slots: u32,
        stage: Arc<Stage>,
        tally: Arc<Tally>,
        news: Sender<News>,
    ) -> io::Result<Worker> {
        let plan = &rules.plan;
        let publishes = number == 0 && !plan.echo() && plan.phases.iter().any(Phase::publishes);
        let (mut first, end) = (plan.first_of(number), plan.first_of(number) + plan.share_of(number));
        let mut lanes = Vec::new();
        while first < end {
            let publishers = if lanes.is_empty() && publishes { plan.publishers.min(ring_slots / 2) } else { 0 };
            let count = (end - first).min(ring_slots - publishers);
            lanes.push(Lane::new(&rules, Roster::new(plan, first, count, now_ns()), publishers)?);
            first += count;
        }
        Ok(Worker {
            account: Account::new(Scope::default()),
            publisher: publishes.then(|| Publisher::new(plan, Arc::clone(&tally), now_ns())),
            out: vec![Vec::new(); plan.publishers as usize],
            echoes: Echoes::new(Arc::clone(&tally)),
            now: Now {
                phase: plan.phases[0].clone(),
                start_ns: u64::MAX,
                end_ns: u64::MAX,
                drop: false,
                round: 0,
                dialed: 0,
                left: 0,
                ended: true,
                told: 0,
                cpu_ns: 0,
                began_ns: 0,
                count_at_ns: 0,
            },
            heard_before: 0,
            number,
            rules,
            stage,
            tally,
            news,
            lanes,
        })
    }

    /// Runs until the coordinator says stop.
    pub(crate) fn run(mut self) {
        let mut step = Step::Before;
        let mut quiet_since_ns = now_ns();
        loop {
            let now_ns = now_ns();
            let next = self.stage.step();
            if next != step {
                step = next;
                match step {
                    Step::Before => {}
                    Step::Runs(phase) => self.begin(phase),
                    Step::Over(_) => self.finish(),
                    Step::Stop => return,
                }
            }
            let mut busy = self.hear();
            if let Step::Runs(_) = step {
                match self.advance(now_ns) {
                    Ok(more) => busy |= more,
                    Err(reason) => return self.tell(News::CannotStart(reason)),
                }
            }
            let rules = &self.rules;
            let resume_ns = self.lanes.iter_mut().filter_map(|lane| lane.resume(rules, now_ns)).min();
            self.lanes.iter_mut().for_each(Lane::submit);
            if busy {
                quiet_since_ns = now_ns;
            } else if now_ns - quiet_since_ns > SPIN_NS {
                self.rest(now_ns, resume_ns);
            }
        }
    }

    fn tell(&self, news: News) {
        // A coordinator that has gone away has no use for news.
        let _ = self.news.send(news);
    }

    fn begin(&mut self, number: u32) {
        let plan = &self.rules.plan;
        let phase = plan.phases[number as usize].clone();
        let start_ns = self.stage.start_ns();
        let seconds_ns = |seconds: f64| start_ns.saturating_add((seconds * 1e9) as u64);
        let end_ns = phase.seconds.map_or(u64::MAX, seconds_ns);
        let publishes = phase.publishes() && (plan.echo() || self.publisher.is_some());
        let account = Account::new(scope(plan, &phase, &self.tally, seconds_ns));
        // What happened between the phases belongs to this one.
        let mut between = std::mem::replace(&mut self.account, account);
        between.restart(start_ns);
        self.account.add(&between);
        if let Some(publisher) = &mut self.publisher {
            publisher.begin(&phase, start_ns, self.stage.subscribers(), self.stage.heard());
        }
        if plan.echo() && publishes {
            let each = self
                .lanes
                .iter()
                .enumerate()
                .flat_map(|(lane, all)| all.roster.subscribed().map(move |(number, slot)| (lane, slot, number)));
            let connections: Vec<_> = each.collect();
            let messages = phase.streams()[0].messages;
            let each_max = messages.map_or(u64::MAX, |all| all.div_ceil(u64::from(plan.connections)));
            // Echoes come in turn, so no connection is further than another by more than one.
            let sent = |connection: &(usize, u32, u32)| {
                self.tally.published(Topic { audience: Audience::Own, number: connection.2 })
            };
            let sent_before = connections.iter().map(sent).max().unwrap_or(0);
            self.rules.echo_numbers_max = each_max.saturating_add(sent_before);
            self.echoes.begin(plan, &phase, start_ns, connections, each_max);
            self.rules.echo_ahead = self.echoes.ahead();
        }
        let throttles = publishes || phase.kind == Kind::Hold;
        self.lanes.iter_mut().for_each(|lane| lane.hurry = !throttles);
        self.now = Now {
            start_ns,
            end_ns,
            drop: phase.kind == Kind::Reconnect,
            round: self.now.round + u32::from(phase.kind == Kind::Reconnect),
            dialed: 0,
            left: 0,
            ended: !publishes,
            told: 0,
            cpu_ns: thread_cpu_ns(),
            began_ns: now_ns(),
            count_at_ns: 0,
            phase,
        };
        self.stage.board(self.number).begin(number, self.pending());
        self.show();
    }

    /// Does what the phase asks for; returns whether there was anything to do.
    fn advance(&mut self, now_ns: u64) -> Result<bool, CannotStart> {
        let mut busy = false;
        if self.stage.curtailed() && now_ns < self.now.end_ns {
            self.now.end_ns = now_ns;
            self.echoes.end(now_ns);
            self.publisher.iter_mut().for_each(Publisher::end);
        }
        if now_ns >= self.now.start_ns && !self.stage.curtailed() {
            if std::mem::take(&mut self.now.drop) {
                self.lanes.iter_mut().for_each(Lane::drop_all);
                busy = true;
            }
            busy |= self.churn(now_ns);
            busy |= self.dial(now_ns)?;
        }
        busy |= self.publish(now_ns) | self.echo(now_ns);
        self.give_up()?;
        self.count(now_ns);
        self.show();
        Ok(busy)
    }

    /// Returns how many connections are neither there nor failed.
    fn pending(&self) -> u32 {
        let dropped = if self.now.drop { self.rules.plan.share_of(self.number) } else { 0 };
        self.lanes.iter().map(|lane| lane.roster.pending()).sum::<u32>().max(dropped)
    }

    fn sum(&self, of: impl Fn(&Roster) -> u32) -> u32 {
        self.lanes.iter().map(|lane| of(&lane.roster)).sum()
    }

    /// Writes on the board how far the worker is.
    fn show(&self) {
        let board = self.stage.board(self.number);
        board.ready.store(self.sum(Roster::ready), Ordering::Relaxed);
        board.failed.store(self.sum(Roster::failed), Ordering::Relaxed);
        board.pending.store(self.pending(), Ordering::Relaxed);
        if board.asked() {
            let p99_ns = |times: &hdrhistogram::Histogram<u64>| times.value_at_quantile(0.99);
            board.set_percentiles(p99_ns(&self.account.latency), p99_ns(&self.account.lag));
        }
    }

    fn dial(&mut self, now_ns: u64) -> Result<bool, CannotStart> {
        let plan = &self.rules.plan;
        if self.lanes.iter().all(|lane| lane.roster.next_to_dial().is_none() && lane.publishers_ready()) {
            return Ok(false);
        }
        let under_way = self.sum(Roster::under_way);
        let mut at_most = plan.under_way(&self.now.phase).saturating_sub(under_way);
        if let Some(ramp) = self.now.phase.ramp {
            // Each worker makes its part of the connections that are due by now.
            let passed_ns = now_ns - self.now.start_ns;
            let due = passed_ns as f64 / 1e9 * f64::from(ramp) / f64::from(plan.workers);
            at_most = at_most.min((due as u64 + 1).saturating_sub(self.now.dialed).min(u64::from(u32::MAX)) as u32);
        }
        let mut begun = 0;
        for lane in &mut self.lanes {
            begun += lane.dial(&self.rules, at_most - begun, self.now.round).map_err(|error| {
                CannotStart::new(
                    format!("no further connection can be made: {error}"),
                    "give more --connect addresses, or raise `ulimit -n` and net.ipv4.ip_local_port_range",
                )
            })?;
            if !lane.publishers_ready() {
                break;
            }
        }
        self.now.dialed += u64::from(begun);
        Ok(begun > 0)
    }

    /// Says why a first phase that cannot succeed has failed. Later ones have something to report all the same.
    fn give_up(&self) -> Result<(), CannotStart> {
        let nobody = self.sum(Roster::failed) == self.rules.plan.share_of(self.number);
        if self.now.phase.kind == Kind::Connect && (nobody || self.account.publisher_lost) {
            let cause = self.account.faults.first().cloned();
            return Err(CannotStart::new(
                cause.unwrap_or_else(|| "the server does not answer".to_owned()),
                "start the server, and compare its --listen with --connect",
            ));
        }
        Ok(())
    }

    /// Lets those go who leave by now; others come in their place.
    fn churn(&mut self, now_ns: u64) -> bool {
        let (Some(leaving), true) = (self.now.phase.leaving, now_ns < self.now.end_ns) else {
            return false;
        };
        let share = self.rules.plan.share_of(self.number);
        let rate = leaving * f64::from(share) / f64::from(self.rules.plan.connections);
        let due = ((now_ns - self.now.start_ns) as f64 / 1e9 * rate) as u64;
        let before = self.now.left;
        while self.now.left < due {
            // In turn, so that who has just come is not the next to go.
            let mut place = (self.now.left % u64::from(share)) as u32;
            for lane in &mut self.lanes {
                if place < lane.roster.count() {
                    let number = lane.roster.numbers().start + place;
                    lane.replace(number, &mut self.account);
                    break;
                }
                place -= lane.roster.count();
            }
            self.now.left += 1;
        }
        self.now.left > before
    }

    fn hear(&mut self) -> bool {
        let mut busy = false;
        let mut around = Surroundings {
            rules: &self.rules,
            account: &mut self.account,
            tally: &self.tally,
            echoes_sent: &mut self.echoes.sent,
        };
        for lane in &mut self.lanes {
            busy |= lane.hear(&mut around);
        }
        if busy {
            let counts = &self.account.counts;
            let heard = self.heard_before + counts.delivered + counts.told;
            self.stage.board(self.number).heard.store(heard, Ordering::Relaxed);
        }
        busy
    }

    fn publish(&mut self, now_ns: u64) -> bool {
        let Some(publisher) = &mut self.publisher else {
            return false;
        };
        if self.now.ended {
            return self.lanes[0].has_ready();
        }
        if self.account.publisher_lost || self.stage.publisher_lost() {
            self.stage.lose_publisher();
            publisher.end();
        }
        let before = self.account.published;
        let waiting_bytes = self.lanes[0].publisher_waiting_bytes();
        publisher.turn(now_ns, self.stage.heard(), waiting_bytes, &mut self.out, &mut self.account);
        let count = self.account.published - before;
        if count > 0 {
            self.lanes[0].publish(&mut self.out);
            self.stage.add_published(count);
            self.stage.set_expected(publisher.expected());
        }
        if publisher.done(now_ns) {
            self.end_publishing();
        }
        count > 0 || self.lanes[0].has_ready()
    }

    fn echo(&mut self, now_ns: u64) -> bool {
        if !self.rules.plan.echo() || self.now.ended {
            return false;
        }
        let before = self.echoes.sent;
        let lanes = &mut self.lanes;
        self.echoes.turn(now_ns, &mut self.account, |(lane, slot, _), bytes| lanes[lane].send(slot, bytes));
        let done = self.echoes.done(now_ns);
        if done {
            self.rules.echo_ahead = 0;
        }
        if self.echoes.sent > self.now.told {
            self.stage.add_published(self.echoes.sent - self.now.told);
            self.account.replied(self.echoes.sent - self.account.published, now_ns);
            self.now.told = self.echoes.sent;
        }
        if done {
            self.end_publishing();
        }
        self.echoes.sent > before
    }

    fn end_publishing(&mut self) {
        self.now.ended = true;
        self.stage.end_publishing();
    }

    /// Counts what may still come, once all is published and everyone is there. Nobody is slow from then on.
    fn count(&mut self, now_ns: u64) {
        let timed = matches!(self.now.phase.kind, Kind::Hold | Kind::Churn);
        if now_ns < self.now.count_at_ns
            || now_ns < self.now.start_ns
            || timed && now_ns < self.now.end_ns
            || !self.stage.publishing_ended()
            || self.pending() > 0
        {
            return;
        }
        self.lanes.iter_mut().for_each(|lane| lane.hurry = true);
        let plan = &self.rules.plan;
        let outstanding = self.lanes.iter().map(|lane| lane.roster.outstanding(plan, &self.tally)).sum();
        self.stage.board(self.number).set_outstanding(outstanding);
        let took_ns = crate::process::now_ns() - now_ns;
        self.now.count_at_ns = now_ns + COUNT_NS.max(4 * took_ns);
    }

    fn rest(&mut self, now_ns: u64, resume_ns: Option<u64>) {
        let publish_ns = self.publisher.as_ref().and_then(|publisher| publisher.next_due_ns(now_ns));
        let echo_ns = self.echoes.next_due_ns().filter(|_| !self.now.ended);
        let due_ns = publish_ns.into_iter().chain(echo_ns).chain(resume_ns).min();
        let due_us = due_ns.map_or(WAIT_US_MAX, |due_ns| due_ns.saturating_sub(now_ns) / 1_000).min(WAIT_US_MAX);
        match &mut self.lanes[..] {
            [lane] if due_us > 0 => lane.wait(due_us),
            [_] => {}
            _ => std::thread::sleep(std::time::Duration::from_micros(due_us.min(NAP_US))),
        }
    }

    /// Closes the account of the phase.
    fn finish(&mut self) {
        if !self.now.ended {
            self.end_publishing();
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.end();
        }
        self.rules.echo_ahead = 0;
        let plan = &self.rules.plan;
        let mut account = std::mem::replace(&mut self.account, Account::new(Scope::default()));
        let mut subscribers = Subscribers::default();
        for audience in plan.audiences() {
            subscribers.counts[*audience as usize] = vec![0; plan.topics_of(*audience) as usize];
        }
        for lane in &mut self.lanes {
            if self.now.phase.moves() {
                lane.give_up_pending(&mut account);
            }
            lane.roster.settle(plan, &self.tally, &mut account);
            for (number, _) in lane.roster.subscribed() {
                for topic in plan.topics_of_connection(number) {
                    subscribers.counts[topic.audience as usize][topic.number as usize] += 1;
                }
            }
        }
        if account.publisher_lost {
            self.stage.lose_publisher();
        }
        self.heard_before += account.counts.delivered + account.counts.told;
        self.stage.board(self.number).heard.store(self.heard_before, Ordering::Relaxed);
        self.show();
        let wall_ns = now_ns().saturating_sub(self.now.began_ns).max(1);
        let cpu_share = (thread_cpu_ns() - self.now.cpu_ns) as f64 / wall_ns as f64;
        self.tell(News::PhaseOver(Box::new(PhaseOver { account, cpu_share, subscribers })));
    }
}

/// Returns what a phase's account looks at.
fn scope(plan: &Plan, phase: &Phase, tally: &Tally, seconds_ns: impl Fn(f64) -> u64) -> Scope {
    let targets = phase.streams().into_iter().filter(|stream| stream.load() != Load::Idle);
    let shared = |audience: &Audience| plan.topics_of(*audience) < plan.connections && !plan.echo();
    let spread_of = targets.map(|stream| plan.target(&stream)).find(shared);
    Scope {
        start_ns: seconds_ns(0.0),
        late_ns: plan.late_ms * 1_000_000,
        measured_from_ns: phase.warm_up_seconds.map_or(0, seconds_ns),
        spread_of,
        topics: spread_of.map_or(0, |audience| u64::from(plan.topics_of(audience))),
        published_before: spread_of.map_or(0, |audience| tally.published_to(audience)),
    }
}
