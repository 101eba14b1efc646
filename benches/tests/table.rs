//! `bench` tells what it cannot measure, and says so with its status too.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use corecast_benches::micro::CASES;
use corecast_benches::scenario::SCENARIOS;

/// Runs `bench` where no other program is found; returns its status and what it said.
fn bench(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).env("PATH", "/nowhere").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Without valgrind an instruction count is neither held nor missed, but not measured, and that is a failure.
#[test]
fn what_is_not_measured_is_told() {
    let (status, said) = bench(&["utf8-ascii"]);
    assert_eq!(status, Some(1), "{said}");
    let row = said.lines().find(|line| line.starts_with("| utf8-ascii |")).unwrap();
    assert!(row.ends_with("| NOT MEASURED: valgrind is missing (apt-get install valgrind) |"), "{said}");
    assert!(said.trim_end().ends_with("0 of 1 hold, 1 could not be measured"), "{said}");
}

/// The list names every scenario and micro bench, and a bench that is not in it is refused.
#[test]
fn benches_are_listed() {
    let (status, said) = bench(&["--list"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(SCENARIOS.iter().all(|scenario| said.contains(scenario.name)), "{said}");
    assert!(CASES.iter().all(|case| said.contains(case.name)), "{said}");
    let (status, said) = bench(&["fanout-warm", "nothing"]);
    assert!(status == Some(2) && said.contains("bench --list"), "{said}");
}
