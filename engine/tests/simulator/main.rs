//! The seeded simulator: several production shards on a fake kernel, scripted clients at the other end, an oracle.
//!
//! The clients, a file each: `line`, `raw` and `echo` (WebSockets), `rest` (publishes, batches, deletes), `stream` (the HTTP
//! streams), `beholder` (reads patterns), `poller` (all that polls), `glutton` (whole histories, again and again), `hoarder` (begins what it never ends, reads
//! nothing of what it asks for), `migrant` (one reader that changes its transport in mid-stream). `reading` turns
//! bytes of any transport into what they tell, `following` and `oracle` judge it. `finds` plays again what it found.
//! Beside them `upstream`s number what they publish, in many worlds, and lose their connections; `producers` has the scenes of that.
//! In every world an `operator` asks, and sets other limits, all the while, or reads no answers; `control` has its scenes, and
//! `disconnect` those of connections that he ends.
//! An `authority` says who may what, and is slow; `rights` has its scenes, and `asked` those where it is asked about single topics. `certificates` has those of who is known
//! by one. Some worlds have a `regime`: not everybody may everything in them, and beside those who may there are `stranger`s and `guest`s,
//! whose rights end, are renewed and are taken back.
//! `marks` knows which rare places of the engine were reached: by a world, or by a scene that says so.
//! `manners` and `letters` put one shard at a `table`, and say what HTTP asks of it.
//!
//! `SIM_SEEDS=n` runs n worlds (default 200) from `SIM_FIRST` (default 0); `SIM_SEED=n` replays one with a trace on
//! stderr. A failure prints the command that replays it.

mod ask;
mod asked;
mod authority;
mod base64;
mod beholder;
mod body;
mod broad;
mod burden;
mod certificates;
mod client;
mod control;
mod counts;
mod demand;
mod disconnect;
mod draft;
mod drains;
mod echo;
mod endings;
mod fairness;
mod faults;
mod finds;
mod following;
mod forever_frame;
mod ghosts;
mod glutton;
mod guest;
mod handover;
mod hoarder;
mod holders;
mod item;
mod kernel;
mod kernel_tests;
mod letters;
mod limits;
mod line;
mod manners;
mod marks;
mod migrant;
mod misuse;
mod multipart;
mod multitude;
mod ndjson;
mod net;
mod news;
mod numbers;
mod occupancy;
mod operator;
mod oracle;
mod oracle_tests;
mod overload;
mod paces;
mod packing;
mod patterns;
mod poller;
mod presence;
mod producers;
mod promptness;
mod raw;
mod reader_tests;
mod reading;
mod refusals;
mod regime;
mod report;
mod rest;
mod rights;
mod rng;
mod rounds;
mod rules;
mod seat;
mod secured;
mod shares;
mod sse;
mod stage;
mod standstill;
mod starvation;
mod stranger;
mod stream;
mod table;
mod telnet;
mod unfinished;
mod upstream;
mod views;
mod waiting;
mod watcher;
mod wire;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::report::Report;
use crate::world::World;

/// More broken worlds than this say nothing new.
const FAILURES_MAX: usize = 10;

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Runs worlds `first..end` on two threads; a world is one thread's own, so each of them still replays.
fn run_all(first: u64, end: u64) -> (Report, Vec<String>) {
    let next = AtomicU64::new(first);
    let sum = Mutex::new((Report::default(), Vec::new()));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || sum.lock().expect("nobody panics here").1.len() >= FAILURES_MAX {
            return;
        }
        let result = catch_unwind(AssertUnwindSafe(|| World::new(seed, false).run()));
        let (report, failures) = &mut *sum.lock().expect("nobody panics here");
        match result {
            Ok(one) => report.add(&one),
            Err(_) => failures.push(format!("seed {seed}: {}", LAST_PANIC.take())),
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    sum.into_inner().expect("nobody panics here")
}

/// Several shards deliver every message once, in order and unchanged, and tell every loss, whatever the kernel, the
/// clock, the peers and the scheduler do; nothing that waits for the server waits for ever.
#[test]
fn worlds() {
    if let Some(seed) = number("SIM_SEED") {
        eprintln!("{:#?}", World::new(seed, true).run());
        return;
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        LAST_PANIC.set(text);
    }));
    let first = number("SIM_FIRST").unwrap_or(0);
    let seeds = number("SIM_SEEDS").unwrap_or(200);
    let (sum, failures) = run_all(first, first + seeds);
    std::panic::set_hook(usual);
    eprintln!("{sum:#?}\n{}", sum.coverage.table());
    for failure in &failures {
        eprintln!("{failure}\n");
    }
    if let Some(failure) = failures.first() {
        let seed = failure.trim_start_matches("seed ").split(':').next().unwrap_or_default();
        panic!("SIM_SEED={seed} cargo test -p corecast --test simulator worlds -- --nocapture");
    }
    if first == 0 && seeds >= 200 {
        // Those are the seeds that the test command runs: chance has no part in it.
        sum.coverage.check();
    }
    if seeds >= 200 {
        // A simulator that sees nothing proves nothing.
        assert!(sum.sights > 10_000 && sum.gaps > 100, "{sum:?}");
        assert!(sum.heard.iter().all(|heard| *heard > 100) && sum.ends > 100 && sum.stats.compressed > 100, "{sum:?}");
        assert!(sum.tally.shortages > 100, "{sum:?}");
        // Where memory is short, a long record that nobody ends may have to.
        assert!(sum.stats.tls_handshakes > 100 && sum.stats.tls_broken * 50 < sum.stats.tls_handshakes, "{sum:?}");
        let told = sum.told;
        assert!(
            told.done > 1_000 && told.forbidden > 1_000 && told.unauthorized > 300 && told.invalid > 300,
            "{sum:?}"
        );
        assert!(told.expired > 200 && told.unavailable > 50 && told.renewed > 200 && told.lost > 50, "{sum:?}");
        assert!(told.ended > 20 && told.taken_back > 10, "{sum:?}");
        assert!(sum.tally.short > 100 && sum.tally.again > 100 && sum.tally.no_buffers > 100, "{sum:?}");
        assert!(sum.tally.late > 100 && sum.tally.halves > 100 && sum.tally.crossed > 100, "{sum:?}");
    }
}
