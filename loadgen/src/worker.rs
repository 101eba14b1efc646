//! A worker: a thread, its lanes, and the loop that turns them.
//!
//! Worker 0 also publishes. Deliveries and publishing share a loop on purpose: what a publisher on a thread of its own
//! would gain in punctuality, the scheduler would take away on a host with fewer cores than threads. How late it was is
//! measured and reported.

use std::io;
use std::sync::Arc;

use corecast::io::driver::Slot;
use crossbeam_channel::Sender;
use hdrhistogram::Histogram;

use crate::account::{Account, histogram};
use crate::client::{Purpose, Rules};
use crate::lane::{Lane, Surroundings};
use crate::payload::Stamp;
use crate::plan::{CannotStart, Load, Publish};
use crate::process::{now_ns, thread_cpu_ns};
use crate::publisher::{Publisher, append_frame};
use crate::stage::{Phase, Stage};

/// Time between two progress reports, in nanoseconds.
const NEWS_NS: u64 = 50_000_000;

/// Time a worker keeps looking before it waits, in nanoseconds: waking up costs the server's core more than this.
const SPIN_NS: u64 = 50_000;

/// Longest wait, in microseconds: a change of phase is seen this late.
const WAIT_US_MAX: u64 = 1_000;

/// Nap of a worker with several lanes, which cannot wait for all of them at once, in microseconds.
const NAP_US: u64 = 50;

/// What a worker tells the coordinator.
#[derive(Debug)]
pub(crate) enum News {
    /// How far connecting is.
    Progress { worker: u32, ready: u32, failed: u32 },
    /// Every connection of the worker is ready or has failed; subscribers of each topic.
    Connected { audience: Vec<u32>, at_ns: u64 },
    /// The worker could not go on.
    CannotStart(CannotStart),
    /// The worker has ended.
    Outcome(Box<Outcome>),
}

/// What a worker has seen.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) account: Account,
    pub(crate) lag: Histogram<u64>,
    /// Part of the run that the worker's thread was on a core, 0 to 1.
    pub(crate) cpu_share: f64,
}

#[derive(Debug)]
pub(crate) struct Worker {
    number: u32,
    rules: Rules,
    stage: Arc<Stage>,
    news: Sender<News>,
    lanes: Vec<Lane>,
    account: Account,
    publisher: Option<Publisher>,
    echoes: Echoes,
    started_ns: u64,
    dialed: u64,
    /// This worker will send no more messages.
    ended: bool,
    echo_lag: Histogram<u64>,
}

/// The schedule of this worker's echoing connections.
#[derive(Debug, Default)]
struct Echoes {
    /// Messages sent, and sent when the stage was last told.
    sent: u64,
    told: u64,
    connections: Vec<(usize, Slot, u32)>,
    /// Open loop: messages due so far.
    scheduled: u64,
    start_ns: u64,
    end_ns: u64,
}

impl Worker {
    /// Makes the worker's lanes; to be called on its own thread.
    pub(crate) fn new(
        number: u32,
        rules: Rules,
        ring_slots: u32,
        stage: Arc<Stage>,
        news: Sender<News>,
    ) -> io::Result<Worker> {
        let plan = &rules.plan;
        let publishes = number == 0 && !plan.echo && plan.load != Load::Idle;
        let (mut first, end) = (plan.first_of(number), plan.first_of(number) + plan.share_of(number));
        let mut lanes = Vec::new();
        while first < end {
            let publisher = u32::from(lanes.is_empty() && publishes);
            let count = (end - first).min(ring_slots - publisher);
            let mut lane = Lane::new(&rules, count + publisher, first, count)?;
            if publisher == 1 {
                lane.host_publisher(if plan.publish == Publish::Ws { Purpose::Publish } else { Purpose::Post });
            }
            lanes.push(lane);
            first += count;
        }
        let spread = !plan.echo && plan.topics < plan.connections;
        Ok(Worker {
            account: Account::new(plan.late_ms, plan.topics, spread),
            publisher: publishes.then(|| Publisher::new(plan)),
            number,
            rules,
            stage,
            news,
            lanes,
            // Nothing is due until the run starts.
            echoes: Echoes { start_ns: u64::MAX, ..Echoes::default() },
            started_ns: now_ns(),
            dialed: 0,
            ended: false,
            echo_lag: histogram(),
        })
    }

    /// Runs until the coordinator says stop.
    pub(crate) fn run(mut self) {
        if let Err(reason) = self.ramp() {
            self.tell(News::CannotStart(reason));
            return;
        }
        let mut cpu = None;
        let mut quiet_since_ns = now_ns();
        loop {
            let phase = self.stage.phase();
            let now_ns = now_ns();
            if phase == Phase::Stop {
                break self.finish(cpu, now_ns);
            }
            if phase == Phase::Run && cpu.is_none() {
                cpu = Some((thread_cpu_ns(), now_ns));
                self.start();
            }
            let mut busy = self.hear();
            busy |= self.publish(now_ns);
            busy |= self.echo(now_ns);
            self.submit();
            if busy {
                quiet_since_ns = now_ns;
            } else if now_ns - quiet_since_ns > SPIN_NS {
                self.rest(now_ns);
            }
        }
    }

    fn tell(&self, news: News) {
        // A coordinator that has gone away has no use for news.
        let _ = self.news.send(news);
    }

    fn ramp(&mut self) -> Result<(), CannotStart> {
        let share = self.rules.plan.share_of(self.number);
        let mut told_ns = 0;
        loop {
            let now_ns = now_ns();
            let dialed = self.dial(now_ns)?;
            let busy = self.hear() || dialed;
            self.submit();
            let (ready, failed) = self.progress();
            if now_ns - told_ns > NEWS_NS {
                told_ns = now_ns;
                self.tell(News::Progress { worker: self.number, ready, failed });
            }
            let publisher_ready = self.publisher.is_none() || self.lanes[0].publisher_ready();
            if ready + failed == share && ready > 0 && publisher_ready {
                self.tell(News::Progress { worker: self.number, ready, failed });
                let audience = self.audience();
                self.tell(News::Connected { audience, at_ns: now_ns });
                return Ok(());
            }
            let hopeless = failed == share || !publisher_ready && !self.account.faults.is_empty();
            if hopeless || self.stage.phase() == Phase::Stop {
                let cause = self.account.faults.first().cloned();
                return Err(CannotStart::new(
                    cause.unwrap_or_else(|| "the server does not answer".to_owned()),
                    "start the server, and compare its --listen with --connect",
                ));
            }
            if !busy {
                self.rest(now_ns);
            }
        }
    }

    fn dial(&mut self, now_ns: u64) -> Result<bool, CannotStart> {
        let plan = &self.rules.plan;
        let mut at_most = u32::MAX;
        if let Some(ramp) = plan.ramp {
            // Each worker makes its part of the connections that are due by now.
            let due = (now_ns - self.started_ns) as f64 / 1e9 * f64::from(ramp) / f64::from(plan.workers);
            at_most = (due as u64 + 1).saturating_sub(self.dialed).min(u64::from(u32::MAX)) as u32;
        }
        let mut begun = 0;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            begun += lane.dial(&self.rules, at_most - begun).map_err(|error| {
                CannotStart::new(
                    format!("no further connection can be made: {error}"),
                    "give more --connect addresses, or raise `ulimit -n` and net.ipv4.ip_local_port_range",
                )
            })?;
            if index == 0 && self.publisher.is_some() && !lane.publisher_ready() {
                break;
            }
        }
        self.dialed += u64::from(begun);
        Ok(begun > 0)
    }

    fn progress(&self) -> (u32, u32) {
        let each = self.lanes.iter().map(Lane::progress);
        each.fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1))
    }

    fn audience(&self) -> Vec<u32> {
        let mut audience = vec![0; self.rules.plan.topics as usize];
        for (_, client) in self.lanes.iter().flat_map(Lane::subscribers) {
            if let (Purpose::Subscribe(topic), true) = (client.purpose(), client.ready()) {
                audience[topic as usize] += 1;
            }
        }
        audience
    }

    fn start(&mut self) {
        let (start_ns, seconds) = (self.stage.start_ns(), self.rules.plan.seconds);
        self.account.start(start_ns);
        if let Some(publisher) = &mut self.publisher {
            publisher.start(start_ns, seconds, self.stage.audience());
        }
        if self.rules.plan.echo {
            let connections = self.lanes.iter().enumerate().flat_map(|(lane, all)| {
                all.subscribers().filter_map(move |(slot, client)| match client.purpose() {
                    Purpose::Echo(own) if client.ready() => Some((lane, slot, own)),
                    _ => None,
                })
            });
            self.echoes.connections = connections.collect();
            self.echoes.start_ns = start_ns;
            self.echoes.end_ns = seconds.map_or(u64::MAX, |seconds| start_ns.saturating_add((seconds * 1e9) as u64));
        }
    }

    fn hear(&mut self) -> bool {
        let mut busy = false;
        let mut around =
            Surroundings { rules: &self.rules, account: &mut self.account, echoes_sent: &mut self.echoes.sent };
        for lane in &mut self.lanes {
            busy |= lane.hear(&mut around);
        }
        if busy {
            self.stage.set_delivered(self.number, self.account.counts.delivered);
        }
        busy
    }

    fn submit(&mut self) {
        self.lanes.iter_mut().for_each(Lane::submit);
    }

    fn publish(&mut self, now_ns: u64) -> bool {
        let Some(publisher) = &mut self.publisher else {
            return false;
        };
        let (before, mut out) = (publisher.published(), Vec::new());
        publisher.turn(now_ns, self.stage.delivered(), self.lanes[0].publisher_waiting_bytes(), &mut out);
        let count = publisher.published() - before;
        if count > 0 {
            self.lanes[0].publish(&out);
            self.stage.add_published(count);
            self.account.timeline.published(now_ns, count);
        }
        if publisher.done(now_ns) && !std::mem::replace(&mut self.ended, true) {
            self.stage.end_publishing();
        }
        count > 0 || self.lanes[0].has_ready()
    }

    /// Sends what is due on echoing connections; in a closed loop that is the first messages only.
    fn echo(&mut self, now_ns: u64) -> bool {
        let Worker { echoes, rules, lanes, .. } = self;
        if !rules.plan.echo || rules.plan.load == Load::Idle || self.ended || now_ns < echoes.start_ns {
            return false;
        }
        let (before, count) = (echoes.sent, echoes.connections.len() as u64);
        let messages_max = rules.echo_messages_max.saturating_mul(count);
        let rate = match rules.plan.load {
            Load::Open { rate } => rate * count as f64 / f64::from(rules.plan.connections),
            Load::Closed { .. } | Load::Idle => 0.0,
        };
        let due = match rules.plan.load {
            Load::Idle => 0,
            Load::Closed { in_flight } => u64::from(in_flight) * count,
            Load::Open { .. } => ((now_ns.min(echoes.end_ns) - echoes.start_ns) as f64 / 1e9 * rate) as u64,
        };
        let over = now_ns >= echoes.end_ns;
        let mut out = Vec::new();
        while echoes.scheduled < due.min(messages_max) && !(over && rate == 0.0) {
            let (lane, slot, own) = echoes.connections[(echoes.scheduled % count) as usize];
            let mut scheduled_ns = now_ns;
            if rate > 0.0 {
                scheduled_ns = echoes.start_ns + (echoes.scheduled as f64 / rate * 1e9) as u64;
                self.echo_lag.saturating_record(now_ns.saturating_sub(scheduled_ns));
            }
            let stamp = Stamp { topic: own, number: echoes.scheduled / count, scheduled_ns };
            append_frame(&mut out, b"", stamp, rules.plan.bytes);
            lanes[lane].send(slot, &out);
            out.clear();
            echoes.scheduled += 1;
            echoes.sent += 1;
        }
        if let Load::Closed { in_flight } = rules.plan.load {
            rules.echo_ahead = in_flight;
        }
        if over || echoes.sent >= messages_max {
            rules.echo_ahead = 0;
            self.ended = true;
        }
        if echoes.sent > echoes.told {
            self.stage.add_published(echoes.sent - echoes.told);
            self.account.timeline.published(now_ns, echoes.sent - echoes.told);
            echoes.told = echoes.sent;
        }
        if self.ended {
            self.stage.end_publishing();
        }
        echoes.sent > before
    }

    fn rest(&mut self, now_ns: u64) {
        let due_ns = self.publisher.as_ref().and_then(|publisher| publisher.next_due_ns(now_ns));
        let due_us = due_ns.map_or(WAIT_US_MAX, |due_ns| due_ns.saturating_sub(now_ns) / 1_000).min(WAIT_US_MAX);
        match &mut self.lanes[..] {
            [lane] if due_us > 0 => lane.wait(due_us),
            [_] => {}
            _ => std::thread::sleep(std::time::Duration::from_micros(due_us.min(NAP_US))),
        }
    }

    fn finish(mut self, cpu: Option<(u64, u64)>, now_ns: u64) {
        let published = self.stage.published();
        for lane in &self.lanes {
            for (_, client) in lane.subscribers() {
                if let Purpose::Subscribe(topic) = client.purpose() {
                    client.finish(self.rules.plan.published_to(topic, published), &mut self.account);
                }
            }
        }
        if self.rules.plan.echo {
            self.account.counts.lost = self.echoes.sent.saturating_sub(self.account.counts.delivered);
        }
        let cpu_share =
            cpu.map_or(0.0, |(cpu_ns, start_ns)| (thread_cpu_ns() - cpu_ns) as f64 / (now_ns - start_ns).max(1) as f64);
        let lag = self.publisher.take().map_or(self.echo_lag, |publisher| publisher.lag);
        let outcome = Outcome { account: self.account, lag, cpu_share };
        // A coordinator that has gone away has no use for news.
        let _ = self.news.send(News::Outcome(Box::new(outcome)));
    }
}
