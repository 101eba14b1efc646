//! The witness: drives a server with very many subscribers, checks every delivery, reports.
//!
//! [`plan`] says what to do, [`run`](run()) does it, [`report`] says what was found. [`payload`] and [`witness`] are the
//! check itself. The rest is the machine: workers turn lanes, a lane is a ring (the engine's own) with its connections.

pub mod calibrate;
pub mod payload;
pub mod plan;
pub mod process;
pub mod report;
pub mod witness;

mod account;
mod client;
mod echoes;
mod lane;
mod outbox;
mod publisher;
mod roster;
mod run;
mod sealed;
mod stage;
mod subscription;
mod tally;
mod worker;

pub use plan::{
    Audience, CannotStart, Gaps, Generic, Kind, Load, Phase, Plan, Publish, Scenario, Slow, Stream, Tls, Transport, Url,
};
pub use report::{PhaseReport, Report};
pub use run::{run, run_until};
