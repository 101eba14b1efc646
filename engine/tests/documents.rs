//! Tables of the manuals that repeat what stands in the sources: they must not differ.

use std::fs;
use std::path::Path;

use corecast::admin::PROCESS_FIELDS;
use corecast::config::{self, Flags, Host};
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
    let mut headers: String = row.headers.iter().map(|(name, value)| format!(", `{name}: {value}`")).collect();
    if let (Some((least_s, most_s)), Some(_)) = (row.comes_back_s, row.status) {
        headers += &format!(", `Retry-After`: {least_s} to {most_s}");
    }
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

/// Every example of `docs/rules.md` is a file that loads, and what it shows of `corecast check --topic` is what is said of the last one.
#[test]
fn examples_of_rules_load() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules.md");
    let text = fs::read_to_string(&path).unwrap();
    let blocks = |kind: &str| -> Vec<String> {
        let fence = format!("```{kind}\n");
        text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let host = Host { cores: vec![0, 1], memory_bytes: 8 << 30 };
    let examples = blocks("toml");
    assert!(examples.len() >= 2, "the examples were found");
    let folder = std::env::temp_dir().join(format!("corecast-examples-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut said = String::new();
    // That of the example before it.
    let explained = text.split("```console\n").next().unwrap().matches("```toml\n").count() - 1;
    for (place, example) in examples.iter().enumerate() {
        let file = folder.join("corecast.toml");
        fs::write(&file, example).unwrap();
        let flags = Flags { file: Some(file.clone()), ..Flags::default() };
        let loaded =
            config::load(&flags, std::iter::empty(), &host).unwrap_or_else(|wrong| panic!("{example}: {wrong:?}"));
        assert_eq!(loaded.config.check(), Ok(()), "{example}");
        assert!(!loaded.config.rules.written().is_empty(), "{example}");
        if place == explained {
            said = config::explain(&loaded, "prices/eur").unwrap().replace(&format!("{}/", folder.display()), "");
        }
    }
    fs::remove_dir_all(&folder).unwrap();
    let shown = &blocks("console")[0];
    let (_, shown) = shown.split_once('\n').unwrap();
    assert!(*shown == said, "docs/rules.md shows\n{shown}instead of\n{said}");
}

/// Where the files that `docs/security.md` names tests of stand.
const TESTS_BELOW: [&str; 5] = ["engine/src", "engine/tests", "protocol/src", "tests/clients", "tests/javascript"];

/// Every threat that `docs/security.md` lists has a test, and every test that it names is there.
#[test]
fn threats_have_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let (_, threats) = text.split_once("\n## Threats\n").expect("docs/security.md lists threats");
    let (threats, _) = threats.split_once("\n### Not held\n").expect("and what is no threat to it");
    let listed: Vec<_> = threats.split("\n* **").skip(1).collect();
    assert!(listed.len() > 30, "the threats were found");
    for threat in listed {
        // What stands between backticks, and is a file and a name.
        let words = threat.split('`').skip(1).step_by(2);
        let tests = words.filter_map(|words| words.split_once(' ')).filter(|(file, _)| file.contains('.'));
        let mut count = 0;
        for (file, name) in tests {
            count += 1;
            let path = TESTS_BELOW.iter().map(|folder| root.join(folder).join(file)).find(|path| path.is_file());
            let path =
                path.unwrap_or_else(|| panic!("docs/security.md names `{file} {name}`, and there is no such file"));
            let source = fs::read_to_string(path).unwrap();
            let begins = match file.rsplit_once('.') {
                Some((_, "rs")) => format!("#[test]\nfn {name}()"),
                Some((_, "py")) => format!("\ndef {name}("),
                _ => name.to_owned(),
            };
            let unindented: String = source.lines().map(|line| format!("{}\n", line.trim_start())).collect();
            assert!(unindented.contains(&begins), "docs/security.md names `{file} {name}`, and there is no such test");
        }
        assert!(count > 0, "no test is named for the threat: {threat}");
    }
}
