//! Instructions of one operation, counted under callgrind (valgrind).
//!
//! A process has other instructions than those in question: the loader's, those that prepare, those that check. They are the
//! same whether an operation is done N times or 2 N times, so the difference of two runs, divided by N, is one operation.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::micro::Case;

/// Counts the instructions of one operation of a case, or of what stands beside it.
///
/// # Errors
/// If valgrind or `micro` cannot be started, or the work found its answer wrong.
pub fn count(micro: &Path, case: &Case, baseline: bool) -> io::Result<f64> {
    let run = |iterations: u64| -> io::Result<u64> {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(micro).arg(case.name);
        command.args(["--iterations", &iterations.to_string()]);
        if baseline {
            command.arg("--baseline");
        }
        let output = command.stdin(Stdio::null()).output().map_err(|error| explain(&error))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(io::Error::other(format!("{} ended with {}: {}", case.name, output.status, said.trim())));
        }
        collected(&said).ok_or_else(|| io::Error::other(format!("callgrind says no count: {}", said.trim())))
    };
    let (once, twice) = (run(case.iterations)?, run(case.iterations * 2)?);
    Ok((twice as f64 - once as f64) / case.iterations as f64)
}

/// Finds the number of instructions in what callgrind says.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected :"))?.1.trim().parse().ok()
}

fn explain(error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("valgrind is missing (apt-get install valgrind)"),
        _ => io::Error::other(format!("cannot start valgrind: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The count is found among what else callgrind says.
    #[test]
    fn counts_are_found() {
        let said = "==7== Callgrind, a tool\n==7== \n==7== Events    : Ir\n==7== Collected : 4501097\n==7== \n";
        assert_eq!(collected(said), Some(4_501_097));
        assert_eq!(collected("==7== Callgrind, a tool\n"), None);
    }
}
