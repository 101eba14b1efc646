//! The coordinator: starts workers, moves the run from phase to phase, adds up what they saw.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use corecast_protocol::ws::handshake::encode_key;
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::account::{Account, histogram};
use crate::client::Rules;
use crate::plan::{CannotStart, Load, Plan};
use crate::process::{cpu_ns, now_ns, raise_file_limit};
use crate::report::series::{Gauges, Timeline};
use crate::report::watch::Watch;
use crate::report::{Host, Kind, Pace, PhaseReport, Report, Series};
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
    let mut watch = Watch::new(plan.server_pid);
    let started_unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (ramp_look, ramp_start_ns) = (watch.look(), now_ns());
    let mut ramp_gauges = watch.gauges(ramp_start_ns, 0);
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
    let ramped = wait_for_ramp(plan, &news, &mut show, &watch, &mut ramp_gauges);
    let end = |stage: &Stage| {
        stage.stop();
        threads.into_iter().for_each(|thread| thread.join().expect("a worker does not panic"));
    };
    let Ramped { audience, ready, failed, at_ns } = match ramped {
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
    let mut connect = PhaseReport::new("connect", Kind::Connect);
    connect.connect_seconds = at_ns.saturating_sub(ramp_start_ns) as f64 / 1e9;
    connect.seconds = connect.connect_seconds;
    (connect.connections_made, connect.connections_after, connect.connections_failed) = (ready, ready, failed);
    let ramped_look = watch.look();
    (connect.server, connect.kernel) = watch.between(&ramp_look, &ramped_look);
    ramp_gauges.look(now_ns(), watch.gauge(ready));
    connect.series = Series::new(Timeline::new(ramp_start_ns), ramp_gauges);
    thread::sleep(SETTLE);
    connected();
    let before = watch.look();
    let start_ns = now_ns() + LEAD_NS;
    let mut gauges = watch.gauges(start_ns, ready);
    stage.run(start_ns, audience.clone());
    let expected = wait_for_deliveries(plan, &stage, &audience, start_ns, &mut show, || watch.tick(&mut gauges, ready));
    gauges.look(now_ns(), watch.gauge(ready));
    let after = watch.look();
    end(&stage);
    show.clear();
    let outcomes = news.try_iter().filter_map(|news| match news {
        News::Outcome(outcome) => Some(*outcome),
        _ => None,
    });
    let (mut load, faults) = load_phase(plan, &stage, start_ns, gauges, outcomes.collect());
    load.start_seconds = start_ns.saturating_sub(ramp_start_ns) as f64 / 1e9;
    load.expected_messages = expected;
    load.connections_failed -= failed;
    load.connections_before = ready;
    load.connections_after = ready.saturating_sub(load.connections_failed);
    (load.server, load.kernel) = watch.between(&before, &after);
    Ok(Report {
        plan: plan.clone(),
        started_unix_seconds,
        host: Host::read(),
        phases: vec![connect, load],
        faults,
        notes: watch.notes().to_vec(),
    })
}

fn check_core(core: usize) -> Result<(), CannotStart> {
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if cores.contains(&core) {
        return Ok(());
    }
    Err(CannotStart::new(format!("there is no core {core} here"), format!("give --cores out of {cores:?}")))
}

/// Where the ramp ended.
struct Ramped {
    /// Subscribers of each topic.
    audience: Vec<u32>,
    ready: u32,
    failed: u32,
    /// When the last connection became ready.
    at_ns: u64,
}

/// Waits until every worker has said that it is connected.
fn wait_for_ramp(
    plan: &Plan,
    news: &Receiver<News>,
    show: &mut Show,
    watch: &Watch,
    gauges: &mut Gauges,
) -> Result<Ramped, CannotStart> {
    let mut audience = vec![0; plan.topics as usize];
    let mut progress = vec![(0, 0); plan.workers as usize];
    let mut missing = plan.workers;
    let mut at_ns = 0;
    let mut moved = Instant::now();
    while missing > 0 {
        match news.recv_timeout(SHOW) {
            Ok(News::Progress { worker, ready, failed }) => {
                if progress[worker as usize] != (ready, failed) {
                    moved = Instant::now();
                }
                progress[worker as usize] = (ready, failed);
            }
            Ok(News::Connected { audience: more, at_ns: ready_ns, .. }) => {
                audience.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                at_ns = ready_ns.max(at_ns);
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
        watch.tick(gauges, ready);
        show.line(|| format!("connected {ready} of {}", plan.connections));
    }
    let (ready, failed) = progress.iter().fold((0, 0), |sum, worker| (sum.0 + worker.0, sum.1 + worker.1));
    Ok(Ramped { audience, ready, failed, at_ns })
}

/// Waits until all is published and delivered, or nothing comes any more; returns how many deliveries there
/// should have been.
fn wait_for_deliveries(
    plan: &Plan,
    stage: &Stage,
    audience: &[u32],
    start_ns: u64,
    show: &mut Show,
    mut looked: impl FnMut(),
) -> u64 {
    let patience = Duration::from_secs_f64(plan.patience_s);
    let (mut delivered, mut moved) = (0, Instant::now());
    loop {
        thread::sleep(LOOK);
        looked();
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
            return expected;
        }
    }
}

/// Adds up what the workers saw of the second phase; returns also why things failed.
fn load_phase(
    plan: &Plan,
    stage: &Stage,
    start_ns: u64,
    gauges: Gauges,
    outcomes: Vec<Outcome>,
) -> (PhaseReport, Vec<String>) {
    let (name, kind) = match plan.load {
        Load::Idle => ("hold", Kind::Hold),
        _ if plan.echo => ("echo", Kind::Echo),
        _ => ("publish", Kind::Publish),
    };
    let mut phase = PhaseReport::new(name, kind);
    let mut all = Account::new(plan.late_ms, plan.topics, true);
    let mut lag = histogram();
    for outcome in outcomes {
        all.add(&outcome.account);
        lag.add(&outcome.lag).expect("both histograms have the same bounds");
        phase.worker_cpu_shares.push(outcome.cpu_share);
    }
    phase.pace = match plan.load {
        Load::Idle => Pace::Silent,
        Load::Open { rate } => Pace::Open { messages_per_second: rate },
        Load::Closed { in_flight } => Pace::Closed { in_flight_messages: in_flight },
    };
    phase.seconds = match plan.load {
        Load::Idle => plan.seconds.unwrap_or(0.0),
        _ => all.last_ns.saturating_sub(start_ns) as f64 / 1e9,
    };
    if plan.load != Load::Idle {
        phase.payload_bytes = plan.bytes as u32;
    }
    phase.published_messages = stage.published();
    phase.refused_messages = all.refused;
    phase.counts = all.counts;
    phase.gaps_told = all.gaps_told;
    phase.connections_failed = all.failed;
    phase.received_bytes = all.received_bytes;
    phase.latency = all.latency.into();
    phase.spread = all.spread.map_or_else(histogram, |spread| spread.histogram()).into();
    phase.lag = lag.into();
    phase.series = Series::new(all.timeline, gauges);
    (phase, all.faults)
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
