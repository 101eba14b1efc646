//! What `corecast --version` says, and what the build script makes of its sources.

use std::process::Command;

#[allow(dead_code, reason = "cargo runs the rest of it")]
#[path = "../build/version.rs"]
mod build;

/// A day is the one that the calendar has, over leap years and ends of months.
#[test]
fn days_are_those_of_the_calendar() {
    for (unix_s, day) in [
        (0, "1970-01-01"),
        (951_782_399, "2000-02-28"),
        (951_782_400, "2000-02-29"),
        (951_868_800, "2000-03-01"),
        (1_709_164_800, "2024-02-29"),
        (1_735_689_599, "2024-12-31"),
        (1_735_689_600, "2025-01-01"),
        (4_107_542_400, "2100-03-01"),
    ] {
        assert_eq!(build::day(unix_s), day, "{unix_s}");
    }
}

/// The commit and its day stand behind the version, as far as they are known.
#[test]
fn what_is_known_is_said() {
    assert_eq!(build::said("0.2.0", Some("1a2b3c4"), Some("2026-11-30")), "0.2.0 (1a2b3c4 2026-11-30)");
    assert_eq!(build::said("0.2.0", Some("1a2b3c4"), None), "0.2.0 (1a2b3c4)");
    assert_eq!(build::said("0.2.0", None, Some("2026-11-30")), "0.2.0");
}

/// What the environment names is taken for a commit only if it cannot be taken for anything else.
#[test]
fn a_commit_is_a_word() {
    assert!(build::is_name("1a2b3c4") && build::is_name("1a2b3c4-dirty") && build::is_name(&"f".repeat(64)));
    assert!(
        !build::is_name("1a2b3c4\ncargo::rustc-env=X=1") && !build::is_name("a b") && !build::is_name(&"f".repeat(73))
    );
}

/// The binary says the version of this source, and one line.
#[test]
fn the_binary_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_corecast")).arg("--version").output().expect("it is there");
    let said = String::from_utf8(output.stdout).expect("text");
    let begins = format!("corecast {}", env!("CARGO_PKG_VERSION"));
    let rest = said.strip_prefix(&begins).and_then(|rest| rest.strip_suffix('\n')).expect("the version, and its end");
    let known = rest.strip_prefix(" (").and_then(|known| known.strip_suffix(')'));
    assert!(output.status.success() && (rest.is_empty() || known.is_some_and(|known| !known.is_empty())), "{said}");
}
