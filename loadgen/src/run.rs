//! The coordinator: starts workers, moves the run from phase to phase, adds up what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use corecast_protocol::ws::handshake::encode_key;
use crossbeam_channel::{Receiver, unbounded};

use crate::account::{Account, Scope};
use crate::client::Rules;
use crate::plan::{CannotStart, Kind, Load, Phase, Plan, Tls};
use crate::process::{cpu_ns, now_ns, raise_file_limit};
use crate::report::series::Gauges;
use crate::report::show::{Progress, Show};
use crate::report::watch::Watch;
use crate::report::{self, Host, Pace, PhaseReport, Report, Series};
use crate::stage::{Stage, Subscribers, Sum};
use crate::tally::Tally;
use crate::worker::{News, PhaseOver, Worker};

/// Connecting has failed without any new connection for so many times the plan's patience: a server that is flooded
/// may forget a connection, and TCP asks again after one second, and then three.
const CONNECT_PATIENCE: u32 = 2;

/// Pause behind a phase in which connections moved: what the last of them set off shall not be counted as the next
/// phase's cost.
const SETTLE: Duration = Duration::from_millis(200);

/// Time between looks at the counts.
const LOOK: Duration = Duration::from_millis(2);

/// Time from the decision to begin a phase to the first message due, so that every worker is there.
const LEAD_NS: u64 = 20_000_000;

/// Time from an interruption to its report, for what is on its way to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Does what the plan says. `connected` is called when all connections stand and nothing else has happened yet.
///
/// # Errors
/// Why the run could not be started. What goes wrong later is in the report.
pub fn run(plan: &Plan, connected: &mut dyn FnMut()) -> Result<Report, CannotStart> {
    run_until(plan, &AtomicBool::new(false), connected)
}

/// Does what the plan says as [`run`] does, until it has done so or `interrupted` becomes true. What is known by then is
/// reported: nothing more is published, what is on its way has two seconds, and later phases do not begin.
///
/// # Errors
/// Those of [`run`].
pub fn run_until(plan: &Plan, interrupted: &AtomicBool, connected: &mut dyn FnMut()) -> Result<Report, CannotStart> {
    let file_limit = raise_file_limit()
        .map_err(|error| CannotStart::new(format!("cannot read the file limit: {error}"), "run on Linux"))?;
    plan.check(file_limit)?;
    if let Some(pid) = plan.server_pid {
        cpu_ns(pid).map_err(|error| {
            CannotStart::new(
                format!("cannot read the CPU time of process {pid}: {error}"),
                "give --server-pid of the server",
            )
        })?;
    }
    for core in &plan.cores {
        check_core(*core)?;
    }
    let named = plan.with_names();
    let mut coordinator = Coordinator::new(&named, interrupted, file_limit)?;
    let result = coordinator.phases(connected);
    let notes = coordinator.watch.notes().to_vec();
    let interrupted = coordinator.cut_short.take();
    coordinator.end();
    let (phases, faults, started_unix_seconds) = result?;
    Ok(Report { plan: plan.clone(), started_unix_seconds, host: Host::read(), phases, faults, notes, interrupted })
}

struct Coordinator<'a> {
    plan: &'a Plan,
    interrupted: &'a AtomicBool,
    /// The phase that was interrupted.
    cut_short: Option<String>,
    stage: Arc<Stage>,
    news: Receiver<News>,
    threads: Vec<JoinHandle<()>>,
    show: Show,
    watch: Watch,
    subscribers: Subscribers,
    began_ns: u64,
    ready: u32,
}

/// Phases, why things failed, and when it all began.
type Found = (Vec<PhaseReport>, Vec<String>, u64);

impl<'a> Coordinator<'a> {
    fn new(plan: &'a Plan, interrupted: &'a AtomicBool, file_limit: u32) -> Result<Coordinator<'a>, CannotStart> {
        let seal = plan.tls.as_ref().map(Tls::seal).transpose()?;
        let stage = Arc::new(Stage::new(plan.workers));
        let tally = Arc::new(Tally::new(plan));
        let (sender, news) = unbounded();
        let mut threads = Vec::new();
        for number in 0..plan.workers {
            let mut rules = Rules::new(plan.clone(), encode_key(u128::from(now_ns()).to_le_bytes()));
            rules.seal.clone_from(&seal);
            let (sender, slots) = (sender.clone(), plan.ring_slots(file_limit));
            let (stage, tally) = (Arc::clone(&stage), Arc::clone(&tally));
            let core = plan.cores.get(number as usize % plan.cores.len().max(1)).copied();
            let work = move || {
                if let Some(id) = core {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
                let failed = sender.clone();
                match Worker::new(number, rules, slots, stage, tally, sender) {
                    Ok(worker) => worker.run(),
                    Err(error) => {
                        let cause = format!("cannot set up io_uring: {error}");
                        let cure = "Linux 6.1 or newer, kernel.io_uring_disabled=0, no seccomp filter against io_uring";
                        // The coordinator waits for this.
                        let _ = failed.send(News::CannotStart(CannotStart::new(cause, cure)));
                    }
                }
            };
            let thread = thread::Builder::new().name(format!("load-{number}")).spawn(work);
            threads.push(thread.map_err(|error| CannotStart::new(error.to_string(), "give fewer --workers"))?);
        }
        Ok(Coordinator {
            plan,
            interrupted,
            cut_short: None,
            stage,
            news,
            threads,
            show: Show::default(),
            watch: Watch::find(plan.server_pid, &plan.connect),
            subscribers: Subscribers::default(),
            began_ns: 0,
            ready: 0,
        })
    }

    fn end(self) {
        self.stage.stop();
        self.threads.into_iter().for_each(|thread| thread.join().expect("a worker does not panic"));
    }

    fn phases(&mut self, connected: &mut dyn FnMut()) -> Result<Found, CannotStart> {
        let started_unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (mut done, mut faults) = (Vec::new(), Vec::new());
        for (number, phase) in (0..).zip(&self.plan.phases) {
            let (phase_done, account) = self.phase(number, phase)?;
            let dead = phase_done.connections_after == 0 || account.publisher_lost;
            done.push(phase_done);
            faults.extend(account.faults);
            if number == 0 {
                connected();
            }
            if self.interrupted.load(Ordering::Relaxed) {
                self.cut_short = Some(phase.name().to_owned());
                break;
            }
            // What is known is kept; there is nothing to learn from nobody.
            if dead {
                break;
            }
        }
        self.show.clear();
        Ok((done, faults, started_unix_seconds))
    }

    fn phase(&mut self, number: u32, phase: &Phase) -> Result<(PhaseReport, Account), CannotStart> {
        let publishing = match phase.publishes() {
            true if self.plan.echo() => self.plan.workers,
            true => 1,
            false => 0,
        };
        let before = self.watch.look();
        let start_ns = now_ns() + if number > 0 { LEAD_NS } else { 0 };
        if number == 0 {
            self.began_ns = start_ns;
        }
        let mut gauges = self.watch.gauges(start_ns, self.ready);
        self.stage.begin(number, start_ns, publishing, std::mem::take(&mut self.subscribers));
        self.wait(number, phase, start_ns, &mut gauges)?;
        let waited_ns = now_ns().saturating_sub(start_ns);
        let mut after = self.watch.look();
        gauges.look(now_ns(), self.watch.gauge(self.stage.sum(number).ready));
        self.stage.end(number);
        let mut account = Account::new(Scope { start_ns, ..Scope::default() });
        let mut cpu_shares = Vec::new();
        for _ in 0..self.plan.workers {
            match self.news.recv().expect("workers tell before they end") {
                News::PhaseOver(over) => {
                    let PhaseOver { account: one, cpu_share, subscribers } = *over;
                    account.add(&one);
                    cpu_shares.push(cpu_share);
                    self.subscribers.add(subscribers);
                }
                News::CannotStart(reason) => return Err(reason),
            }
        }
        let mut done = found(self.plan, phase, &account, start_ns, waited_ns);
        done.start_seconds = start_ns.saturating_sub(self.began_ns) as f64 / 1e9;
        done.published_messages = self.stage.published();
        done.connections_before = self.ready;
        self.ready = self.stage.sum(number).ready;
        done.connections_after = self.ready;
        done.worker_cpu_shares = cpu_shares;
        done.series = Series::new(account.timeline.clone(), gauges);
        if phase.moves() {
            thread::sleep(SETTLE);
            after = after.settled(self.watch.look());
        }
        (done.server, done.kernel) = self.watch.between(&before, &after);
        Ok((done, account))
    }

    /// Waits until a phase has done what it should, or nothing comes of it any more.
    fn wait(&mut self, number: u32, phase: &Phase, start_ns: u64, gauges: &mut Gauges) -> Result<(), CannotStart> {
        let patience = Duration::from_secs_f64(self.plan.patience_seconds);
        let closed = phase.streams().iter().any(|stream| matches!(stream.load(), Load::Closed { .. }));
        let timed = matches!(phase.kind, Kind::Hold | Kind::Churn);
        let end_ns = start_ns.saturating_add((phase.seconds.unwrap_or(0.0) * 1e9) as u64);
        let (mut before, mut moved) = (Sum::default(), Instant::now());
        let heard_before = self.stage.heard();
        let mut interrupted: Option<Instant> = None;
        loop {
            if let Ok(News::CannotStart(reason)) = self.news.recv_timeout(LOOK) {
                return Err(reason);
            }
            let ended = self.stage.publishing_ended();
            let sum = self.stage.sum(number);
            self.watch.tick(gauges, sum.ready);
            let dead = sum.begun && sum.pending == 0 && sum.ready == 0;
            if interrupted.is_none() && self.interrupted.load(Ordering::Relaxed) {
                self.stage.curtail();
                interrupted = Some(Instant::now());
            }
            if interrupted.is_some_and(|since| ended && sum.pending > 0 || since.elapsed() > LAST_WORDS) {
                return Ok(());
            }
            let time_over = !timed || now_ns() >= end_ns || dead || interrupted.is_some();
            // A lost publisher may be the first that is heard of a lost server: the others get time to hear of it too.
            let complete = sum.complete && !self.stage.publisher_lost();
            if sum.begun && ended && time_over && sum.pending == 0 && (complete || dead) {
                return Ok(());
            }
            // An open loop publishes whatever happens; a closed one that stands still will not go on.
            let waits = sum.begun && time_over && (ended || closed);
            if sum != before || !waits {
                (before, moved) = (sum, Instant::now());
            }
            let all = self.plan.connections;
            if sum.pending > 0 {
                let patience = patience * CONNECT_PATIENCE;
                if moved.elapsed() > patience && phase.kind == Kind::Connect {
                    return Err(CannotStart::new(
                        format!("only {} of {all} connections after {patience:?} without a new one", sum.ready),
                        "see whether the server accepts so many, and speaks this --transport",
                    ));
                }
                if moved.elapsed() > patience {
                    return Ok(());
                }
            } else if moved.elapsed() > patience {
                return Ok(());
            }
            if self.show.due() {
                self.progress(number, phase, start_ns, &sum, heard_before);
            }
        }
    }

    /// Shows how far a phase is.
    fn progress(&mut self, number: u32, phase: &Phase, start_ns: u64, sum: &Sum, heard_before: u64) {
        let (connections, all) = (sum.ready, self.plan.connections);
        let published = self.stage.published();
        let expected = if self.plan.echo() { heard_before + published } else { self.stage.expected() };
        let passed = now_ns().saturating_sub(start_ns) as f64 / 1e9;
        let of_messages: u64 = phase.streams().iter().filter_map(|stream| stream.messages).sum();
        let part = match phase.seconds {
            Some(seconds) if !phase.moves() || phase.kind == Kind::Churn => passed / seconds.max(1e-9),
            _ if of_messages > 0 => published as f64 / of_messages as f64,
            _ => f64::from(connections) / f64::from(all.max(1)),
        };
        let (latency_p99_ns, lag_p99_ns) = self.stage.ask_percentiles();
        self.show.show(&Progress {
            phase: phase.name(),
            number: number + 1,
            phases: self.plan.phases.len() as u32,
            part,
            connections,
            connections_wanted: all,
            published_messages: published,
            delivered_messages: sum.heard.saturating_sub(heard_before),
            expected_messages: expected.saturating_sub(heard_before),
            latency_p99_ns: Some(latency_p99_ns).filter(|ns| *ns > 0),
            lag_ns: Some(lag_p99_ns).filter(|ns| *ns > 0),
        });
    }
}

fn check_core(core: usize) -> Result<(), CannotStart> {
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if cores.contains(&core) {
        return Ok(());
    }
    Err(CannotStart::new(format!("there is no core {core} here"), format!("give --cores out of {cores:?}")))
}

/// Puts down what the workers have seen of a phase.
fn found(plan: &Plan, phase: &Phase, account: &Account, start_ns: u64, waited_ns: u64) -> PhaseReport {
    let streams = phase.streams();
    let mut found = PhaseReport::new(phase.name(), kind(plan, phase));
    let since_start = |ns: u64| ns.saturating_sub(start_ns) as f64 / 1e9;
    // A rate is that of all streams together; a closed loop runs alone.
    found.pace = match streams.first().map(|stream| stream.load()) {
        None | Some(Load::Idle) => Pace::Silent,
        Some(Load::Open { .. }) => {
            Pace::Open { messages_per_second: streams.iter().filter_map(|stream| stream.rate).sum() }
        }
        Some(Load::Closed { in_flight }) => Pace::Closed { in_flight_messages: in_flight },
    };
    found.payload_bytes = streams.first().map_or(0, |stream| plan.bytes_of(stream) as u32);
    found.connections_made = account.connecting.len() as u32;
    found.connections_failed = account.failed;
    found.connect_seconds = since_start(account.connected_ns);
    found.seconds = match phase.kind {
        Kind::Hold | Kind::Churn => waited_ns as f64 / 1e9,
        Kind::Connect | Kind::Publish | Kind::Reconnect => since_start(account.last_ns.max(account.connected_ns)),
    };
    found.refused_messages = account.refused;
    found.counts = account.counts;
    found.expected_messages = account.counts.delivered + account.counts.lost + account.counts.told;
    found.gaps_told = account.gaps_told;
    found.gap_messages = account.counts.told;
    found.pings = account.pings;
    found.gaps_allowed = !plan.refuses_gaps();
    found.received_bytes = account.received_bytes;
    found.reads = account.reads;
    found.latency = account.latency.clone().into();
    found.spread = account.spread.histogram().into();
    found.complete = account.spread.complete().into();
    found.lag = account.lag.clone().into();
    found.connect_time = account.connecting.clone().into();
    found
}

fn kind(plan: &Plan, phase: &Phase) -> report::Kind {
    match phase.kind {
        Kind::Connect => report::Kind::Connect,
        Kind::Hold => report::Kind::Hold,
        Kind::Publish if plan.echo() => report::Kind::Echo,
        Kind::Publish => report::Kind::Publish,
        Kind::Reconnect => report::Kind::Reconnect,
        Kind::Churn => report::Kind::Churn,
    }
}
