//! Tables of the manuals that repeat what stands in the sources: they must not differ.

use std::fs;
use std::path::Path;

use corecast::admin::PROCESS_FIELDS;
use corecast::shard::{Refusal, RefusalRow, Stats};

/// Where the table of counters begins in `docs/operating.md`.
const COUNTERS_BEGIN: &str = "| counter | meaning |\n|---|---|\n";

/// `docs/operating.md` lists what is counted beside the shards, with the words of `PROCESS_FIELDS`.
#[test]
fn numbers_of_the_process_are_those_of_the_engine() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let text = fs::read_to_string(&path).unwrap();
    let rows: String = PROCESS_FIELDS.iter().map(|(name, help)| format!("| `{name}` | {help} |\n")).collect();
    let expected = format!("| number | meaning |\n|---|---|\n{rows}\n");
    assert!(
        text.contains(&expected),
        "docs/operating.md differs from PROCESS_FIELDS; its table has to be:\n{expected}"
    );
}

/// `docs/operating.md` lists every counter of `/stats`, in order, with the words of `Stats::FIELDS`.
#[test]
fn counters_are_those_of_the_engine() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let text = fs::read_to_string(&path).unwrap();
    let (_, after) = text.split_once(COUNTERS_BEGIN).expect("docs/operating.md has the table of counters");
    let written: String = after.split_inclusive('\n').take_while(|line| line.starts_with('|')).collect();
    let expected: String = Stats::FIELDS.iter().map(|(name, help)| format!("| `{name}` | {help} |\n")).collect();
    assert!(written == expected, "docs/operating.md differs from Stats::FIELDS; its table has to be:\n{expected}");
}

/// Where the table of refusals begins in `docs/protocol.md`.
const REFUSALS_BEGIN: &str =
    "| name | text | when | what to do | HTTP | close | `ERR` | event |\n|---|---|---|---|---|---|---|---|\n";

/// Writes a refusal as a row of the manual.
fn refusal(row: &RefusalRow) -> String {
    let code = |code: Option<u16>| code.map_or(String::new(), |code| code.to_string());
    let RefusalRow { name, text, when, cure, .. } = row;
    let headers: String = row.headers.iter().map(|(name, value)| format!(", `{name}: {value}`")).collect();
    let (status, close) = (code(row.status), code(row.close));
    let err = row.err.map_or(String::new(), |code| format!("`{}`", code.as_str()));
    let event = if row.event { format!("`{name}`") } else { String::new() };
    format!("| `{name}` | {text} | {when} | {cure} | {status}{headers} | {close} | {err} | {event} |\n")
        .replace("|  |", "| |")
        .replace("|  |", "| |")
}

/// `docs/protocol.md` lists every refusal, with how each session is told, as the engine's own table has it.
#[test]
fn refusals_are_those_of_the_engine() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let text = fs::read_to_string(&path).unwrap();
    let (_, after) = text.split_once(REFUSALS_BEGIN).expect("docs/protocol.md has the table of refusals");
    let written: String = after.split_inclusive('\n').take_while(|line| line.starts_with('|')).collect();
    let expected: String = Refusal::TABLE.iter().map(refusal).collect();
    assert!(written == expected, "docs/protocol.md differs from Refusal::TABLE; its table has to be:\n{expected}");
}
