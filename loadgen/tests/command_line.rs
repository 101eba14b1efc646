//! The command line from the outside: what becomes of output that cannot be written.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::process::{Command, Stdio};

fn print_plan(stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast-load"));
    let output = command.args(["fan-out", "--print-plan"]).stdout(stdout).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A full disk is told, and is status 1; a reader that is gone is no failure.
#[test]
fn output_that_cannot_be_written() {
    let (status, errors) = print_plan(File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(status, Some(1), "{errors}");
    assert!(errors.contains("cannot write the report: No space left on device"), "{errors}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(print_plan(writer), (Some(0), String::new()));
}
