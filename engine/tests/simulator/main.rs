//! The seeded simulator: several production shards on a fake kernel, scripted clients at the other end, an oracle.
//!
//! `SIM_SEEDS=n` runs n worlds (default 200) from `SIM_FIRST` (default 0); `SIM_SEED=n` replays one with a trace on
//! stderr. A failure prints the command that replays it.

mod client;
mod faults;
mod kernel;
mod kernel_tests;
mod line;
mod net;
mod oracle;
mod oracle_tests;
mod raw;
mod rest;
mod rng;
mod wire;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
    )
}
