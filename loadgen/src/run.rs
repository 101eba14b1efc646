//! The coordinator: starts workers, moves the run from phase to phase, adds up what they saw.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use corecast_protocol::ws::handshake::encode_key;
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::account::{Account, histogram};
use crate::client::Rules;
use crate::plan::{CannotStart, Load, Plan};
use crate::process::{cpu_ns, now_ns, raise_file_limit};
use crate::report::{Ramp, Report};
use crate::stage::Stage;
use crate::worker::{News, Outcome, Worker};

/// Without any new connection for so long, the ramp has failed.
const RAMP_PATIENCE: Duration = Duration::from_secs(10);

/// Pause between ramp and run: what the last connections set off shall not be counted as the first messages' cost.
const SETTLE: Duration = Duration::from_millis(200);

/// Time between looks at the counts while messages are under way.
const LOOK: Duration = Duration::from_millis(5);

/// Time between two progress lines.
const SHOW: Duration = Duration::from_millis(200);

/// Time from the decision to run to the first message due, so that every worker is there.
const LEAD_NS: u64 = 20_000_000;

/// Does what the plan says. `connected` is called when all connections stand and nothing is published yet.
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
    let publishing = match plan.load {
        Load::Idle => 0,
        _ if plan.echo => plan.workers,
        _ => 1,
    };
    let stage = Arc::new(Stage::new(plan.workers, publishing));
    let (sender, news) = unbounded();
    let (ramp_start, ramp_cpu) = (Instant::now(), server_cpu(plan));
    let mut threads = Vec::new();
    for number in 0..plan.workers {
        let rules = Rules {
            plan: plan.clone(),
            key: encode_key(u128::from(now_ns()).to_le_bytes()),
            echo_ahead: 0,
            echo_messages_max: plan.messages.map_or(u64::MAX, |all| all.div_ceil(u64::from(plan.connections))),
        };
        let (stage, sender, slots) = (Arc::clone(&stage), sender.clone(), plan.ring_slots(file_limit));
        let core = plan.cores.get(number as usize % plan.cores.len().max(1)).copied();
        if let Some(core) = core {
            check_core(core)?;
        }
        let work = move || {
            if let Some(id) = core {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            let failed = sender.clone();
            match Worker::new(number, rules, slots, stage, sender) {
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
    drop(sender);
    let mut show = Show::new();
    let ramped = wait_for_ramp(plan, &news, &mut show);
    let end = |stage: &Stage| {
        stage.stop();
        threads.into_iter().for_each(|thread| thread.join().expect("a worker does not panic"));
    };
    let (audience, ready, ramped_ns) = match ramped {
        Ok(ramped) => ramped,
        Err(cause) => {
            end(&stage);
            return Err(news
                .try_iter()
                .find_map(|news| match news {
                    News::CannotStart(why) => Some(why),
                    _ => None,
                })
                .unwrap_or(cause));
        }
    };
    let ramp = Ramp {
        connected: ready,
        seconds: ramp_start.elapsed().as_secs_f64() - now_ns().saturating_sub(ramped_ns) as f64 / 1e9,
        server_cpu_ns: server_cpu(plan).zip(ramp_cpu).map(|(after, before)| after - before),
    };
    thread::sleep(SETTLE);
    connected();
    let run_cpu = server_cpu(plan);
    let start_ns = now_ns() + LEAD_NS;
    stage.run(start_ns, audience.clone());
    let server_cpu_ns = wait_for_deliveries(plan, &stage, &audience, start_ns, &mut show, run_cpu);
    end(&stage);
    show.clear();
    let outcomes: Vec<Outcome> = news
        .try_iter()
        .filter_map(|news| match news {
            News::Outcome(outcome) => Some(*outcome),
            _ => None,
        })
        .collect();
    Ok(report(plan, ramp, &stage, start_ns, server_cpu_ns, &outcomes))
}

fn check_core(core: usize) -> Result<(), CannotStart> {
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if cores.contains(&core) {
        return Ok(());
    }
    Err(CannotStart::new(format!("there is no core {core} here"), format!("give --cores out of {cores:?}")))
}

fn server_cpu(plan: &Plan) -> Option<u64> {
    plan.server_pid.and_then(|pid| cpu_ns(pid).ok())
}

type Ramped = (Vec<u32>, u32, u64);

/// Waits until every worker has said that it is connected; returns each topic's audience, how many, and since when.
fn wait_for_ramp(plan: &Plan, news: &Receiver<News>, show: &mut Show) -> Result<Ramped, CannotStart> {
    let mut audience = vec![0; plan.topics as usize];
    let mut progress = vec![(0, 0); plan.workers as usize];
    let mut missing = plan.workers;
    let mut ramped_ns = 0;
    let mut moved = Instant::now();
    while missing > 0 {
        match news.recv_timeout(SHOW) {
            Ok(News::Progress { worker, ready, failed }) => {
                if progress[worker as usize] != (ready, failed) {
                    moved = Instant::now();
                }
                progress[worker as usize] = (ready, failed);
            }
            Ok(News::Connected { audience: more, at_ns, .. }) => {
                audience.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                ramped_ns = at_ns.max(ramped_ns);
                missing -= 1;
            }
            Ok(News::CannotStart(reason)) => return Err(reason),
            Ok(News::Outcome(_)) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("workers tell before they end"),
        }
        let ready: u32 = progress.iter().map(|(ready, _)| ready).sum();
        if moved.elapsed() > RAMP_PATIENCE {
            return Err(CannotStart::new(
                format!("only {ready} of {} connections after {RAMP_PATIENCE:?} without a new one", plan.connections),
                "see whether the server accepts so many, and speaks this --protocol",
            ));
        }
        show.line(|| format!("connected {ready} of {}", plan.connections));
    }
    Ok((audience, progress.iter().map(|(ready, _)| ready).sum(), ramped_ns))
}

/// Waits until all is published and delivered, or nothing comes any more; returns the server's CPU time meanwhile.
fn wait_for_deliveries(
    plan: &Plan,
    stage: &Stage,
    audience: &[u32],
    start_ns: u64,
    show: &mut Show,
    run_cpu: Option<u64>,
) -> Option<u64> {
    let patience = Duration::from_secs_f64(plan.patience_s);
    let (mut delivered, mut moved) = (0, Instant::now());
    loop {
        thread::sleep(LOOK);
        let (ended, published) = (stage.publishing_ended(), stage.published());
        // A closed loop that stands still will not go on; an open one publishes whatever happens.
        if stage.delivered() != delivered || !ended && !matches!(plan.load, Load::Closed { .. }) {
            (delivered, moved) = (stage.delivered(), Instant::now());
        }
        let expected = if plan.echo {
            published
        } else {
            (0..).zip(audience).map(|(topic, count)| u64::from(*count) * plan.published_to(topic, published)).sum()
        };
        show.line(|| format!("published {published}, delivered {delivered} of {expected}"));
        let idle_over =
            plan.load != Load::Idle || now_ns() >= start_ns.saturating_add((plan.seconds.unwrap_or(0.0) * 1e9) as u64);
        let complete = ended && idle_over && delivered >= expected;
        if complete || idle_over && moved.elapsed() > patience {
            return server_cpu(plan).zip(run_cpu).map(|(after, before)| after - before);
        }
    }
}

fn report(
    plan: &Plan,
    ramp: Ramp,
    stage: &Stage,
    start_ns: u64,
    server_cpu_ns: Option<u64>,
    outcomes: &[Outcome],
) -> Report {
    let mut all = Account::new(plan.late_ms, plan.topics, true);
    let mut lag_ns = histogram();
    for outcome in outcomes {
        all.add(&outcome.account);
        lag_ns.add(&outcome.lag).expect("both histograms have the same bounds");
    }
    Report {
        plan: plan.clone(),
        ramp,
        published: stage.published(),
        refused: all.refused,
        counts: all.counts,
        gaps_told: all.gaps_told,
        failed: all.failed,
        seconds: all.last_ns.saturating_sub(start_ns) as f64 / 1e9,
        server_cpu_ns,
        spread_ns: all.spread.map_or_else(histogram, |spread| spread.histogram()),
        latency_ns: all.latency,
        faults: all.faults,
        lag_ns,
        cpu_shares: outcomes.iter().map(|outcome| outcome.cpu_share).collect(),
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
