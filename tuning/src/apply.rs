//! Raising the limits: a file for sysctl.d that keeps them, and the running kernel that gets them at once.
//!
//! Owns: what would change, shown before it is done; the file, written whole or not at all; the record of what was before.
//! Touches: that file, its record beside it, and `/proc/sys` below the host's root. Never: lowers a value, turns a switch,
//! or changes anything without being told so (`commit`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use similar::TextDiff;

use crate::Problem;
use crate::amount::grouped;
use crate::check::{Ask, Cure};
use crate::checks;
use crate::host::Host;

/// The file for sysctl.d, below the root of the host. It is read late, so that it counts above what a distribution sets.
pub const FILE: &str = "etc/sysctl.d/60-corecast.conf";

/// What `format` says in a record.
const RECORD_FORMAT: &str = "corecast-tune-undo";
const RECORD_VERSION: u32 = 1;

/// Folders that settings are read from at boot (sysctl.d(5)).
const FOLDERS: [&str; 3] = ["etc/sysctl.d", "run/sysctl.d", "usr/lib/sysctl.d"];

/// One value in the kernel that shall change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Name of the sysctl.
    pub name: String,
    /// What it is.
    pub before: String,
    /// What it shall be.
    pub after: String,
}

/// What was before, so that it can be again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: String,
    version: u32,
    /// Text of the file; none if there was none.
    file_before: Option<String>,
    values: Vec<Change>,
}

/// What is going to be done, either way.
#[derive(Clone, Debug)]
pub struct Plan {
    root: Host,
    file: PathBuf,
    file_before: Option<String>,
    file_after: Option<String>,
    /// Values to be written to the kernel.
    pub changes: Vec<Change>,
    /// What is worth knowing: left alone, overruled elsewhere.
    pub notes: Vec<String>,
    /// The record to be kept; none: it is done with.
    record: Option<Record>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Values that the kernel took.
    pub set: Vec<Change>,
    /// Those it did not take, with its reason.
    pub failed: Vec<(Change, String)>,
}

/// Plans to raise the limits that are too low for what is asked.
///
/// # Errors
/// If the file cannot be read, or its record is not one.
pub fn raise(host: &Host, ask: &Ask, file: Option<&Path>) -> Result<Plan, Problem> {
    let file = file.map_or_else(|| host.path(FILE), Path::to_owned);
    let file_before = read(&file)?;
    let record = read_record(&file)?;
    // What was raised before is fine now, and would be gone from the file: its lines stay, never lower than they are.
    let mut lines: BTreeMap<String, String> = settings(file_before.as_deref().unwrap_or_default()).collect();
    let (mut changes, mut notes) = (Vec::new(), Vec::new());
    for check in checks::all().filter(|check| check.cure == Cure::Limit) {
        let finding = check.finding(host, ask);
        let Some(wanted) = finding.set else {
            if finding.verdict == crate::check::Verdict::Unknown {
                notes.push(format!("{} is left alone: {}", check.name, finding.note.unwrap_or_default()));
            }
            continue;
        };
        let before = host.text(&kernel_path(check.name)).map_err(|unknown| Problem::new(unknown.0, "try again"))?;
        let before = before.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let kept = lines.get(check.name).map_or(wanted.clone(), |line| higher(check.name, line, &wanted));
        lines.insert(check.name.to_owned(), kept);
        changes.push(Change { name: check.name.to_owned(), before, after: wanted });
    }
    notes.extend(overruled(host, &file, &lines));
    let file_after = (!lines.is_empty()).then(|| render(ask, &lines));
    let unchanged = changes.is_empty() && file_before.is_some();
    let file_after = if unchanged { file_before.clone() } else { file_after };
    let record = remember(record, &file_before, &changes);
    Ok(Plan { root: host.clone(), file, file_before, file_after, changes, notes, record: Some(record) })
}

/// Plans to take back what was raised.
///
/// # Errors
/// If nothing was raised, or what is needed cannot be read.
pub fn undo(host: &Host, file: Option<&Path>) -> Result<Plan, Problem> {
    let file = file.map_or_else(|| host.path(FILE), Path::to_owned);
    let Some(record) = read_record(&file)? else {
        let cause = format!("there is nothing to undo: no {}", record_path(&file).display());
        return Err(Problem::new(cause, "say --file if it was applied with another"));
    };
    let (mut changes, mut notes) = (Vec::new(), Vec::new());
    for Change { name, before, after } in &record.values {
        match host.text(&kernel_path(name)) {
            Ok(now) if same(&now, after) => {
                changes.push(Change { name: name.clone(), before: after.clone(), after: before.clone() });
            }
            Ok(now) if same(&now, before) => {}
            Ok(now) => notes.push(format!("{name} is left alone: it is {now} now, and was set to {after}")),
            Err(unknown) => notes.push(format!("{name} is left alone: {unknown}")),
        }
    }
    let file_before = read(&file)?;
    Ok(Plan { root: host.clone(), file, file_before, file_after: record.file_before, changes, notes, record: None })
}

impl Plan {
    /// Says whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.file_before == self.file_after
    }

    /// Returns what is going to be done, for people: a diff of the file, and the values of the running kernel.
    #[must_use]
    pub fn text(&self) -> String {
        let path = self.file.display().to_string();
        let side = |text: &Option<String>| if text.is_some() { path.clone() } else { "/dev/null".to_owned() };
        let (before, after) = (side(&self.file_before), side(&self.file_after));
        let old = self.file_before.as_deref().unwrap_or_default();
        let new = self.file_after.as_deref().unwrap_or_default();
        let diff = TextDiff::from_lines(old, new);
        let mut text = diff.unified_diff().context_radius(3).header(&before, &after).to_string();
        if !self.changes.is_empty() {
            text += "\nin the running kernel\n";
            for Change { name, before, after } in &self.changes {
                text += &format!("  {name}: {before} -> {after}\n");
            }
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        text
    }

    /// Does it: the record first, so that whatever comes after can be taken back; then the file; then the kernel.
    ///
    /// # Errors
    /// If the record or the file cannot be written: nothing was changed in the kernel then.
    pub fn commit(self) -> Result<Done, Problem> {
        let record_path = record_path(&self.file);
        if let Some(record) = &self.record {
            let text = serde_json::to_string_pretty(record).expect("strings are JSON") + "\n";
            write_whole(&record_path, &text)?;
        }
        match &self.file_after {
            Some(text) if self.file_before.as_ref() != Some(text) => write_whole(&self.file, text)?,
            None if self.file_before.is_some() => {
                fs::remove_file(&self.file).map_err(|error| cannot("remove", &self.file, &error))?;
            }
            _ => {}
        }
        let mut done = Done { set: Vec::new(), failed: Vec::new() };
        for change in self.changes {
            match fs::write(self.root.path(&kernel_path(&change.name)), format!("{}\n", change.after)) {
                Ok(()) => done.set.push(change),
                Err(error) => done.failed.push((change, error.to_string())),
            }
        }
        // A record is done with when all of it was taken back; what failed can be tried again.
        if self.record.is_none() && done.failed.is_empty() {
            fs::remove_file(&record_path).map_err(|error| cannot("remove", &record_path, &error))?;
        }
        Ok(done)
    }
}

/// Returns where a sysctl is, below the root.
fn kernel_path(name: &str) -> String {
    format!("proc/sys/{}", name.replace('.', "/"))
}

fn record_path(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    // Not `.conf`: nothing reads it at boot.
    name.push(".undo");
    file.with_file_name(name)
}

/// Adds changes to a record; what was first before stays, however often limits are raised.
fn remember(record: Option<Record>, file_before: &Option<String>, changes: &[Change]) -> Record {
    let new = || Record {
        format: RECORD_FORMAT.to_owned(),
        version: RECORD_VERSION,
        file_before: file_before.clone(),
        values: Vec::new(),
    };
    let mut record = record.unwrap_or_else(new);
    for change in changes {
        match record.values.iter_mut().find(|known| known.name == change.name) {
            Some(known) => known.after.clone_from(&change.after),
            None => record.values.push(change.clone()),
        }
    }
    record
}

fn read_record(file: &Path) -> Result<Option<Record>, Problem> {
    let path = record_path(file);
    let Some(text) = read(&path)? else {
        return Ok(None);
    };
    let record: Option<Record> = serde_json::from_str(&text).ok();
    let known = |record: &Record| record.format == RECORD_FORMAT && record.version == RECORD_VERSION;
    match record.filter(known) {
        Some(record) => Ok(Some(record)),
        None => Err(Problem::new(
            format!("{} is not a record of what was before", path.display()),
            "it was changed, or is of another version: restore by hand what it says, and move it away",
        )),
    }
}

/// Reads a file; none if there is none.
fn read(path: &Path) -> Result<Option<String>, Problem> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read", path, &error)),
    }
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
fn write_whole(path: &Path, text: &str) -> Result<(), Problem> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&new, path));
    renamed.and_then(|()| File::open(folder)?.sync_all()).map_err(|error| {
        let _ = fs::remove_file(&new);
        cannot("write", path, &error)
    })
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Problem {
    let cure = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "run it as root, outside of containers",
        io::ErrorKind::NotFound => "make its folder, or say --file",
        _ => "say --file if it should be elsewhere",
    };
    Problem::new(format!("cannot {what} {}: {error}", path.display()), cure)
}

fn render(ask: &Ask, lines: &BTreeMap<String, String>) -> String {
    let mut text = format!(
        "# Written by `corecast tune apply` for {} connections on {} shards. Lines are only ever raised.\n\
         # `corecast tune explain NAME` says why, `corecast tune apply --undo` takes it back.\n",
        grouped(ask.connections),
        grouped(ask.shards)
    );
    for (name, value) in lines {
        // A leading `-`: no error at boot if the module is not loaded yet (sysctl.d(5)).
        let mark = if name.starts_with("net.netfilter.") { "-" } else { "" };
        text += &format!("{mark}{name} = {value}\n");
    }
    text
}

/// Reads the settings of a file for sysctl.d, in order.
fn settings(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.lines().filter(|line| !line.starts_with(['#', ';'])).filter_map(|line| {
        let (name, value) = line.trim().split_once('=')?;
        let name = name.trim().trim_start_matches('-').replace('/', ".");
        Some((name, value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")))
    })
}

/// Returns the higher of two values, number by number; a range of ports is wider, not higher.
fn higher(name: &str, a: &str, b: &str) -> String {
    let numbers = |text: &str| text.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
    match (numbers(a), numbers(b)) {
        (Ok(a), Ok(b)) if a.len() == b.len() => {
            let wider = name.ends_with("port_range");
            let pick = |(i, (a, b)): (usize, (&u64, &u64))| {
                let best = if wider && i == 0 { a.min(b) } else { a.max(b) };
                best.to_string()
            };
            a.iter().zip(&b).enumerate().map(pick).collect::<Vec<_>>().join(" ")
        }
        // What is in the file is no value at all.
        _ => b.to_owned(),
    }
}

fn same(a: &str, b: &str) -> bool {
    a.split_ascii_whitespace().eq(b.split_ascii_whitespace())
}

/// Finds what other files set that are read after ours at boot.
fn overruled(host: &Host, file: &Path, lines: &BTreeMap<String, String>) -> Vec<String> {
    let ours = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut later = Vec::new();
    for folder in FOLDERS {
        let names = host.names(folder);
        later.extend(
            names
                .into_iter()
                .filter(|name| name.ends_with(".conf") && *name > ours)
                .map(|name| format!("{folder}/{name}")),
        );
    }
    // Where `sysctl --system` of procps is what runs at boot, this file comes last.
    later.push("etc/sysctl.conf".to_owned());
    let mut notes = Vec::new();
    for path in later {
        let text = host.text(&path).unwrap_or_default();
        for (name, value) in settings(&text) {
            let Some(wanted) = lines.get(&name) else {
                continue;
            };
            if higher(&name, &value, wanted) != value {
                notes.push(format!("/{path} sets {name} = {value} after ours, at every boot"));
            }
        }
    }
    notes
}
