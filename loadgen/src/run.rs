//! The coordinator: starts workers, moves the run from phase to phase, adds up what they saw.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corecast_protocol::ws::handshake::encode_key;
use crossbeam_channel::{Receiver, unbounded};

use crate::account::{Account, Scope};
use crate::client::Rules;
use crate::plan::{CannotStart, Kind, Load, Phase, Plan};
use crate::process::{cpu_ns, now_ns, raise_file_limit};
use crate::report::{Ramp, Report};
use crate::stage::{Stage, Subscribers, Sum};
use crate::tally::Tally;
use crate::worker::{News, PhaseOver, Worker};

/// Without any new connection for so long, connecting has failed.
const RAMP_PATIENCE: Duration = Duration::from_secs(10);

/// Pause behind a phase in which connections moved: what the last of them set off shall not be counted as the next
/// phase's cost.
const SETTLE: Duration = Duration::from_millis(200);

/// Time between looks at the counts.
const LOOK: Duration = Duration::from_millis(2);

/// Time between two progress lines.
const SHOW: Duration = Duration::from_millis(200);

/// Time from the decision to begin a phase to the first message due, so that every worker is there.
const LEAD_NS: u64 = 20_000_000;

/// Does what the plan says. `connected` is called when all connections stand and nothing else has happened yet.
///
/// # Errors
/// Why the run could not be started. What goes wrong later is in the report.
pub fn run(plan: &Plan, connected: &mut dyn FnMut()) -> Result<Report, CannotStart> {
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
    let mut coordinator = Coordinator::new(plan, file_limit)?;
    let result = coordinator.phases(connected);
    coordinator.end();
    result
}

/// One phase, as the report needs it.
#[derive(Debug)]
struct Done {
    kind: Kind,
    account: Account,
    published: u64,
    start_ns: u64,
    sum: Sum,
    server_cpu_ns: Option<u64>,
    cpu_shares: Vec<f64>,
}

struct Coordinator<'a> {
    plan: &'a Plan,
    stage: Arc<Stage>,
    news: Receiver<News>,
    threads: Vec<JoinHandle<()>>,
    show: Show,
    subscribers: Subscribers,
}

impl<'a> Coordinator<'a> {
    fn new(plan: &'a Plan, file_limit: u32) -> Result<Coordinator<'a>, CannotStart> {
        let stage = Arc::new(Stage::new(plan.workers));
        let tally = Arc::new(Tally::new(plan));
        let (sender, news) = unbounded();
        let mut threads = Vec::new();
        for number in 0..plan.workers {
            let rules = Rules::new(plan.clone(), encode_key(u128::from(now_ns()).to_le_bytes()));
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
        Ok(Coordinator { plan, stage, news, threads, show: Show::new(), subscribers: Subscribers::default() })
    }

    fn end(self) {
        self.stage.stop();
        self.threads.into_iter().for_each(|thread| thread.join().expect("a worker does not panic"));
    }

    fn phases(&mut self, connected: &mut dyn FnMut()) -> Result<Report, CannotStart> {
        let mut done: Vec<Done> = Vec::new();
        for (number, phase) in (0..).zip(&self.plan.phases) {
            let phase_done = self.phase(number, phase)?;
            let dead = phase_done.sum.ready == 0 || phase_done.account.publisher_lost;
            done.push(phase_done);
            if number == 0 {
                thread::sleep(SETTLE);
                connected();
            } else if phase.moves() {
                thread::sleep(SETTLE);
            }
            // What is known is kept; there is nothing to learn from nobody.
            if dead {
                break;
            }
        }
        self.show.clear();
        Ok(report(self.plan, &done))
    }

    fn phase(&mut self, number: u32, phase: &Phase) -> Result<Done, CannotStart> {
        let publishing = match phase.publishes() {
            true if self.plan.echo() => self.plan.workers,
            true => 1,
            false => 0,
        };
        let cpu_before = self.server_cpu();
        let start_ns = now_ns() + if number > 0 { LEAD_NS } else { 0 };
        self.stage.begin(number, start_ns, publishing, self.subscribers.clone());
        let sum = self.wait(number, phase, start_ns)?;
        let server_cpu_ns = self.server_cpu().zip(cpu_before).map(|(after, before)| after - before);
        self.stage.end(number);
        let mut account = Account::new(Scope::default());
        let mut cpu_shares = Vec::new();
        self.subscribers = Subscribers::default();
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
        let sum = Sum { ready: self.stage.sum(number).ready, ..sum };
        let published = self.stage.published();
        Ok(Done { kind: phase.kind, account, published, start_ns, sum, server_cpu_ns, cpu_shares })
    }

    /// Waits until a phase has done what it should, or nothing comes of it any more.
    fn wait(&mut self, number: u32, phase: &Phase, start_ns: u64) -> Result<Sum, CannotStart> {
        let patience = Duration::from_secs_f64(self.plan.patience_seconds);
        let closed = phase.streams().iter().any(|stream| matches!(stream.load(), Load::Closed { .. }));
        let timed = matches!(phase.kind, Kind::Hold | Kind::Churn);
        let end_ns = start_ns.saturating_add((phase.seconds.unwrap_or(0.0) * 1e9) as u64);
        let (mut before, mut moved) = (Sum::default(), Instant::now());
        loop {
            if let Ok(News::CannotStart(reason)) = self.news.recv_timeout(LOOK) {
                return Err(reason);
            }
            let ended = self.stage.publishing_ended();
            let sum = self.stage.sum(number);
            let dead = sum.begun && sum.pending == 0 && sum.ready == 0;
            let time_over = !timed || now_ns() >= end_ns || dead;
            if sum.begun && ended && time_over && sum.pending == 0 && (sum.complete || dead) {
                return Ok(sum);
            }
            // An open loop publishes whatever happens; a closed one that stands still will not go on.
            let waits = sum.begun && time_over && (ended || closed);
            if sum != before || !waits {
                (before, moved) = (sum, Instant::now());
            }
            let all = self.plan.connections;
            if sum.pending > 0 {
                if moved.elapsed() > RAMP_PATIENCE && phase.kind == Kind::Connect {
                    return Err(CannotStart::new(
                        format!("only {} of {all} connections after {RAMP_PATIENCE:?} without a new one", sum.ready),
                        "see whether the server accepts so many, and speaks this --transport",
                    ));
                }
                if moved.elapsed() > RAMP_PATIENCE.max(patience) {
                    return Ok(sum);
                }
                self.show.line(|| format!("{}: connected {} of {all}", phase.name(), sum.ready));
            } else {
                if moved.elapsed() > patience {
                    return Ok(sum);
                }
                let published = self.stage.published();
                self.show.line(|| format!("{}: published {published}, heard {}", phase.name(), sum.heard));
            }
        }
    }

    fn server_cpu(&self) -> Option<u64> {
        self.plan.server_pid.and_then(|pid| cpu_ns(pid).ok())
    }
}

fn check_core(core: usize) -> Result<(), CannotStart> {
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if cores.contains(&core) {
        return Ok(());
    }
    Err(CannotStart::new(format!("there is no core {core} here"), format!("give --cores out of {cores:?}")))
}

fn report(plan: &Plan, done: &[Done]) -> Report {
    let mut all = Account::new(Scope::default());
    let ramp = done.first().expect("a run has a phase");
    let spent_ns = |phase: &Done| phase.account.last_ns.saturating_sub(phase.start_ns);
    let publishing = || done.iter().filter(|phase| phase.kind != Kind::Connect);
    done.iter().for_each(|phase| all.add(&phase.account));
    let seconds = ramp.account.connected_ns.saturating_sub(ramp.start_ns) as f64 / 1e9;
    Report {
        plan: plan.clone(),
        ramp: Ramp { connected: ramp.sum.ready, seconds, server_cpu_ns: ramp.server_cpu_ns },
        published: done.iter().map(|phase| phase.published).sum(),
        refused: all.refused,
        counts: all.counts,
        gaps_told: all.gaps_told,
        failed: all.failed,
        seconds: publishing().map(spent_ns).sum::<u64>() as f64 / 1e9,
        server_cpu_ns: publishing().map(|phase| phase.server_cpu_ns).sum(),
        spread_ns: all.spread.histogram(),
        latency_ns: all.latency,
        faults: all.faults,
        lag_ns: all.lag,
        cpu_shares: done.last().map(|phase| phase.cpu_shares.clone()).unwrap_or_default(),
    }
}

/// The progress line, on a terminal only.
struct Show {
    active: bool,
    last: Option<Instant>,
}

impl Show {
    fn new() -> Show {
        Show { active: std::io::stderr().is_terminal(), last: None }
    }

    fn line(&mut self, text: impl FnOnce() -> String) {
        if self.active && self.last.is_none_or(|last| last.elapsed() >= SHOW) {
            self.last = Some(Instant::now());
            // A terminal that is gone is no reason to end a run.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", text());
        }
    }

    fn clear(&mut self) {
        if self.active {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
