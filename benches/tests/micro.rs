//! The micro benches still measure what they say: each does its operations natively and finds its answers right.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use corecast_benches::micro::CASES;

/// Runs `micro`; returns whether it succeeded, and what it said.
fn micro(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_micro")).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Every case, and what stands beside it, gives right answers, for an odd and an even number of operations.
#[test]
fn every_case_checks_its_answers() {
    for case in CASES {
        for iterations in ["1", "4"] {
            let (fine, said) = micro(&[case.name, "--iterations", iterations]);
            assert!(fine, "{}: {said}", case.name);
            let (fine, said) = micro(&[case.name, "--iterations", iterations, "--baseline"]);
            assert_eq!(fine, case.baseline.is_some(), "{}: {said}", case.name);
        }
    }
}

/// A case that is not there is refused with a hint, and the list names all that are.
#[test]
fn cases_are_listed() {
    let (fine, said) = micro(&["nothing"]);
    assert!(!fine && said.contains("micro --list"), "{said}");
    let (fine, said) = micro(&["--list"]);
    assert!(fine && CASES.iter().all(|case| said.contains(case.name)), "{said}");
}
