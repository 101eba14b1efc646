//! The witness against servers that lie: each lie is told by its name, and by the exit status of the program.
#![allow(clippy::unwrap_used)]

mod fake;

use std::process::{Command, Output};

use fake::Lie;
use serde_json::Value;

/// What the program found.
struct Found {
    status: i32,
    stderr: String,
    report: Value,
}

fn load(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corecast-load")).args(words).output().unwrap()
}

/// Publishes ten messages to each of two topics with six subscribers in all, unless the words say otherwise.
fn found(lie: Lie, words: &[&str]) -> Found {
    let address = fake::start(lie).to_string();
    let usual = ["--connect", &address, "--connections", "6", "--json", "-", "--late", "100"];
    let patience: &[&str] = if words.contains(&"--patience") { &[] } else { &["--patience", "0.3"] };
    let output = load(&[words, &usual, patience].concat());
    Found {
        status: output.status.code().unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
    }
}

const WORDS: &[&str] = &["--topics", "2", "--messages", "20", "--rate", "200"];

impl Found {
    /// Adds up a count of all phases.
    fn count(&self, name: &str) -> u64 {
        let phases = self.report["phases"].as_array().unwrap();
        phases.iter().map(|phase| phase["counts"][name].as_u64().or(phase[name].as_u64()).unwrap()).sum()
    }

    /// Returns every count that is not zero, besides deliveries.
    fn verdicts(&self) -> Vec<(&'static str, u64)> {
        let names = ["lost_messages", "duplicated_messages", "reordered_messages", "corrupted_messages"];
        let names =
            names.into_iter().chain(["late_messages", "told_messages", "refused_messages", "connections_failed"]);
        names.map(|name| (name, self.count(name))).filter(|(_, count)| *count > 0).collect()
    }

    fn faults(&self) -> String {
        self.report["faults"].to_string()
    }
}

/// A server that does nothing wrong is fine.
#[test]
fn honest() {
    let found = found(Lie::Honest, WORDS);
    assert_eq!(
        (found.status, found.verdicts(), found.count("delivered_messages")),
        (0, vec![], 60),
        "{}",
        found.stderr
    );
    assert_eq!(found.report["verdict"]["fine"], true);
}

/// Each verdict is found, with its number, and makes the exit status 1; alone a late message does not.
#[test]
fn every_verdict() {
    let cases = [
        (Lie::Loses, 1, vec![("lost_messages", 6)], 54),
        (Lie::Repeats, 1, vec![("duplicated_messages", 6)], 60),
        (Lie::Reorders, 1, vec![("reordered_messages", 6)], 60),
        (Lie::Corrupts, 1, vec![("lost_messages", 6), ("corrupted_messages", 6)], 54),
        (Lie::Misdelivers, 1, vec![("corrupted_messages", 6)], 60),
        (Lie::Swallows, 1, vec![("lost_messages", 60)], 0),
        (Lie::TellsOfAGap, 1, vec![("told_messages", 6)], 54),
        (Lie::Refuses, 1, vec![("lost_messages", 60), ("refused_messages", 20)], 0),
    ];
    for (lie, status, verdicts, delivered) in cases {
        let found = found(lie, WORDS);
        assert_eq!((found.status, found.verdicts()), (status, verdicts), "{lie:?}: {}", found.stderr);
        assert_eq!(found.count("delivered_messages"), delivered, "{lie:?}");
        assert_eq!(found.report["verdict"]["fine"], false, "{lie:?}");
    }
}

/// Late messages are counted, and alone are no failure.
#[test]
fn lateness() {
    let found = found(Lie::Delays, WORDS);
    assert_eq!((found.status, found.count("delivered_messages")), (0, 60), "{}", found.stderr);
    assert!(
        found.count("late_messages") >= 6,
        "those that the delayed ones held up are late, too: {:?}",
        found.verdicts()
    );
}

/// A gap that is told is fine if the plan says so.
#[test]
fn gaps_can_be_allowed() {
    let found = found(Lie::TellsOfAGap, &[WORDS, &["--gaps", "allowed"]].concat());
    assert_eq!((found.status, found.verdicts()), (0, vec![("told_messages", 6)]), "{}", found.stderr);
}

/// Connections that end, or talk nonsense, in the middle have failed; what came before is in the report.
#[test]
fn connections_that_break() {
    for (lie, fault) in [(Lie::HangsUp, "the server ended"), (Lie::TalksNonsense, "broke WebSocket")] {
        let found = found(lie, WORDS);
        assert_eq!((found.status, found.count("connections_failed")), (1, 6), "{lie:?}: {}", found.stderr);
        assert_eq!(found.count("delivered_messages"), 18, "{lie:?}: three messages of each topic came");
        assert!(found.faults().contains(fault), "{lie:?}: {}", found.faults());
    }
}

/// Without its publisher a run ends, and its results are kept.
#[test]
fn publisher_that_is_hung_up_on() {
    let found = found(Lie::HangsUpOnThePublisher, &["--topics", "2", "--messages", "2000", "--rate", "200"]);
    assert_eq!((found.status, found.count("connections_failed")), (1, 1), "{}", found.stderr);
    let delivered = found.count("delivered_messages");
    assert!((18..=21).contains(&delivered), "what came before is there: {delivered}");
}

/// A lost publisher may be the first sign of a lost server: those whose end comes a little later are told of as well.
/// (A run once ended with its publisher, and counted them as connected.)
#[test]
fn server_that_goes_away() {
    let words = ["--topics", "2", "--messages", "2000", "--rate", "200", "--patience", "5"];
    let found = found(Lie::GoesAway, &words);
    assert_eq!((found.status, found.count("connections_failed")), (1, 7), "{}", found.stderr);
}

/// Who comes back must be given what was published meanwhile.
#[test]
fn forgetting_meanwhile() {
    let words = ["reconnect-storm", "--messages", "20", "--rate", "200", "--subscribe", "all"];
    let honest = found(Lie::Honest, &words);
    assert_eq!((honest.status, honest.verdicts(), honest.count("delivered_messages")), (0, vec![], 360));
    let liar = found(Lie::ForgetsMeanwhile, &[&words[..], &["--ramp", "100"]].concat());
    assert_eq!(liar.status, 1, "{}", liar.stderr);
    assert!(liar.count("lost_messages") > 0, "{:?}", liar.verdicts());
}

/// A server that says nothing, nonsense, or no, is a reason not to start, with cause and cure, and status 2.
#[test]
fn servers_that_are_none() {
    let cases = [
        (Lie::NeverAnswers, "connections after"),
        (Lie::AnswersNonsense, "not HTTP"),
        (Lie::RefusesSubscriptions, "ERR 0 full no room"),
    ];
    for (lie, cause) in cases {
        let found = found(lie, &["--rate", "10"]);
        assert_eq!(found.status, 2, "{lie:?}: {}", found.stderr);
        assert!(found.stderr.contains(cause) && found.stderr.contains("cure:"), "{lie:?}: {}", found.stderr);
    }
}

/// Plans that cannot be read or carried out are told with their place, and status 2.
#[test]
fn bad_plans() {
    let folder = std::env::temp_dir().join(format!("corecast-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("plan.toml");
    let path = file.to_str().unwrap();
    let told = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = load(&["--plan", path]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let unknown = told("connections = 3\nconnectons = 4\n");
    assert!(unknown.contains("line 2") && unknown.contains("connectons") && unknown.contains("plan.toml"), "{unknown}");
    let impossible = told("[[phase]]\nkind = \"hold\"\nseconds = 1\n");
    assert!(impossible.contains("nobody is connected"), "{impossible}");
    assert!(told("[[phase]]\nkind = \"connect\"\nrate = 5\n").contains("rate means nothing"));
    let printed = load(&["fan-out", "--print-plan", "--connections", "7"]);
    assert_eq!(printed.status.code(), Some(0));
    std::fs::write(&file, &printed.stdout).unwrap();
    let again = load(&["--plan", path, "--print-plan"]);
    assert_eq!(again.stdout, printed.stdout, "a printed plan is a plan");
    assert!(String::from_utf8(again.stdout).unwrap().contains("connections = 7"));
    std::fs::remove_dir_all(&folder).unwrap();
}
