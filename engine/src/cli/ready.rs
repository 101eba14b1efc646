//! `corecast ready`: asks the engine of this host whether it is ready, for health checks of containers that hold nothing else.
//!
//! It reads the configuration as the engine did, and asks the admin listener that this names: so the same flags, file and variables
//! lead to it.

use std::time::Duration;

use corecast::config::{self, Flags, Host};

use super::Outcome;
use super::admin::{place_of, talk};

/// How long is waited for an answer, in all: less than the least of what probes wait.
const PATIENCE: Duration = Duration::from_millis(900);
/// An answer that is longer is not one of the engine's.
const ANSWER_BYTES_MAX: usize = 4 << 10;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Asks whether the process answers at all (/healthz), rather than whether it takes clients (/readyz).
    #[arg(long)]
    alive: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let config = match config::load(&arguments.flags, std::env::vars_os(), &Host::read()) {
        Ok(loaded) => loaded.config,
        Err(problems) => return Outcome::CannotStart(problems),
    };
    let place = match place_of(&config) {
        Ok(place) => place,
        Err(problem) => return Outcome::CannotStart(vec![problem]),
    };
    let address = &config.admin[0];
    let path = if arguments.alive { "/healthz" } else { "/readyz" };
    // Without a Host: no setting says which names the listener has to be asked by.
    match talk(&place, &format!("GET {path} HTTP/1.0\r\n\r\n"), PATIENCE, ANSWER_BYTES_MAX) {
        Ok(answer) => {
            let said = answer.body.lines().next().unwrap_or_default().escape_debug();
            match answer.status {
                200 => super::say(&format!("{said}\n")),
                status => Outcome::Failed(format!("{address} says {status} {said}")),
            }
        }
        Err(error) => Outcome::Failed(format!("cannot ask {address}: {error}")),
    }
}
