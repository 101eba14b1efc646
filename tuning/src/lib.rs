//! The host and its size: what would limit the engine here, and what a number of connections takes.
//!
//! `host` reads files below a root, which is `/` or a made-up tree; `checks` is the one table that `corecast tune check`,
//! `explain`, `apply` and the table in `kernel.md` come from; `plan` is arithmetic over `constants`. Never: part of the
//! running engine, a system call of its own, or a change to anything that was not asked for.
#![forbid(unsafe_code)]

pub mod amount;
pub mod apply;
pub mod check;
pub mod checks;
pub mod constants;
pub mod document;
pub mod host;
pub mod needs;
pub mod plan;
pub mod transport;
pub mod wish;

use std::fmt;

/// Why something that was asked for cannot be done: what is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub cure: String,
}

impl Problem {
    /// Makes a problem of its two halves.
    #[must_use]
    pub fn new(cause: impl Into<String>, cure: impl Into<String>) -> Problem {
        Problem { cause: cause.into(), cure: cure.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  cure: {}", self.cause, self.cure)
    }
}

impl std::error::Error for Problem {}
