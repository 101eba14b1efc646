//! What `corecast --version` says: the version, and of a release build the commit and its day, `0.2.0 (1a2b3c4 2026-11-30)`.
//!
//! The commit is that of `CORECAST_COMMIT`, for those who build without a repository, or the repository's; the day is that of
//! `SOURCE_DATE_EPOCH`, or the commit's. Without either the version is said alone. So it is in builds for trying (the profile `dev`), or
//! each commit would compile the engine and all of its tests again.

use std::env;
use std::path::Path;
use std::process::Command;

const COMMIT: &str = "CORECAST_COMMIT";
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Longest name of a commit that is taken from the environment: a SHA-256 and a word.
const COMMIT_BYTES_MAX: usize = 72;

pub(crate) fn make() {
    println!("cargo::rerun-if-env-changed={COMMIT}");
    println!("cargo::rerun-if-env-changed={EPOCH}");
    let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let of_repository = if is_release { of_repository() } else { None };
    let (commit, committed_s) = of_repository.unzip();
    let commit = given(COMMIT).inspect(|commit| assert!(is_name(commit), "{COMMIT} is no name of a commit")).or(commit);
    let read = |text: String| text.parse().unwrap_or_else(|_| panic!("{EPOCH} is no number of seconds"));
    let day = given(EPOCH).map(read).or(committed_s).map(day);
    let plain = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=CORECAST_VERSION={}", said(&plain, commit.as_deref(), day.as_deref()));
    println!("cargo::rustc-env=CORECAST_DAY={}", day.unwrap_or_default());
}

/// Says whether something can be the name of a commit: it becomes a line of what cargo reads.
pub(crate) fn is_name(commit: &str) -> bool {
    commit.len() <= COMMIT_BYTES_MAX && commit.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b))
}

/// Returns the version as it is printed. A day without a commit says nothing of what was built.
pub(crate) fn said(version: &str, commit: Option<&str>, day: Option<&str>) -> String {
    match (commit, day) {
        (Some(commit), Some(day)) => format!("{version} ({commit} {day})"),
        (Some(commit), None) => format!("{version} ({commit})"),
        (None, _) => version.to_owned(),
    }
}

/// Returns the commit that is checked out, and when it was made.
fn of_repository() -> Option<(String, u64)> {
    // An archive that was unpacked inside of another repository is not of that one's commit.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.canonicalize().ok()?;
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != root {
        return None;
    }
    // The log of HEAD is written whenever HEAD moves; without one, the references are. A path that is not there would run this each time.
    let place = |name: &str| git(&["rev-parse", "--path-format=absolute", "--git-path", name]);
    let (head, log, references) = (place("HEAD")?, place("logs/HEAD")?, place("refs")?);
    println!("cargo::rerun-if-changed={head}");
    println!("cargo::rerun-if-changed={}", if Path::new(&log).exists() { log } else { references });
    let said = git(&["log", "-1", "--format=%h %ct"])?;
    let (commit, committed_s) = said.split_once(' ')?;
    Some((commit.to_owned(), committed_s.parse().ok()?))
}

/// Runs git and returns what it says, without the end of the line.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim_end().to_owned())
}

/// Returns the day of a time, in UTC, as `2026-11-30`.
///
/// Source: "days from civil", Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the leap day is
/// the last of one.
pub(crate) fn day(unix_s: u64) -> String {
    let days = unix_s / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{:02}", of_year - (153 * from_march + 2) / 5 + 1)
}
