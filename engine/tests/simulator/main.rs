//! The seeded simulator: several production shards on a fake kernel, scripted clients at the other end, an oracle.
//!
//! `SIM_SEEDS=n` runs n worlds (default 200) from `SIM_FIRST` (default 0); `SIM_SEED=n` replays one with a trace on
//! stderr. A failure prints the command that replays it.

mod faults;
mod kernel;
mod kernel_tests;
mod net;
mod rng;
