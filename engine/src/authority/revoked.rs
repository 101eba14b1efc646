//! What is not to be believed any more: tokens by their `jti`, and everything of a subject that was issued before a time.
//!
//! Owns: the list, bounded, and the file that keeps it over a restart: a line of JSON for each, added behind the others, and written
//! anew when it is read. An entry is forgotten when nothing it speaks of can be valid any more.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::claims::SUBJECT_BYTES_MAX;
use crate::grant::{Grant, Revocation};
use crate::io::check::StartError;

/// Entries at the same time. Some 100 bytes each.
pub(super) const ENTRIES_MAX: usize = 65_536;
/// Largest file that is read, in bytes: all entries of the longest names, and as much again that was added to them.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of a subject: what was issued before then, in seconds since 1970.
    before_s: u64,
    /// When it may be forgotten, in seconds since 1970.
    until_s: u64,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    tokens: HashMap<Box<str>, Entry>,
    subjects: HashMap<Box<str>, Entry>,
    file: Option<(PathBuf, File)>,
    /// Lines that the file has.
    lines: usize,
}

impl Revoked {
    /// Reads the file, and writes it anew without what may be forgotten.
    ///
    /// # Errors
    /// It cannot be read or written, or is something else.
    pub(super) fn open(path: &Path, now_s: u64) -> Result<Revoked, StartError> {
        let fault = |error: &io::Error| StartError {
            cause: format!("the file of revocations {}: {error}", path.display()),
            cure: "give a file that can be read and written, in a folder where files can be made".to_owned(),
        };
        let mut revoked = Revoked::default();
        match fs::metadata(path) {
            Ok(about) if about.len() > FILE_BYTES_MAX => return Err(fault(&io::Error::other("it is larger than 64M"))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(&error)),
        }
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(fault(&error)),
        };
        // The last line may have been cut off by the end of the process that wrote it; it was not answered then.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        for (number, line) in whole.lines().enumerate() {
            let Some((revocation, until_s)) = entry_in(line) else {
                return Err(fault(&io::Error::other(format!("line {} is no revocation", number + 1))));
            };
            if until_s > now_s && !revoked.insert(&revocation, until_s) {
                return Err(fault(&io::Error::other(format!("more than {ENTRIES_MAX} entries"))));
            }
        }
        revoked.write_anew(path).map_err(|error| fault(&error))?;
        Ok(revoked)
    }

    /// Adds an entry; when this returns it is in the file, too.
    ///
    /// # Errors
    /// There are too many, or the file cannot be written; it holds all the same then, until a restart.
    pub(super) fn add(&mut self, revocation: &Revocation, now_s: u64, until_s: u64) -> Result<(), String> {
        if !self.insert(revocation, until_s) {
            self.forget(now_s);
            if !self.insert(revocation, until_s) {
                return Err(format!(
                    "there are {ENTRIES_MAX} revocations already; change the key, or wait until tokens expire"
                ));
            }
        }
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let written = if self.lines >= 2 * ENTRIES_MAX {
            let path = path.clone();
            self.write_anew(&path)
        } else {
            self.lines += 1;
            file.write_all(line(revocation, until_s).as_bytes()).and_then(|()| file.sync_data())
        };
        written.map_err(|error| format!("it holds, but a restart forgets it, as the file cannot be written: {error}"))
    }

    /// Says whether a grant is revoked.
    #[must_use]
    pub(super) fn has(&self, grant: &Grant, now_s: u64) -> bool {
        let token = self.tokens.get(&*grant.token_id).filter(|_| !grant.token_id.is_empty());
        let subject = self.subjects.get(&*grant.subject).filter(|_| !grant.subject.is_empty());
        let subject = subject.filter(|entry| grant.issued_s < entry.before_s);
        [token, subject].into_iter().flatten().any(|entry| entry.until_s > now_s)
    }

    /// Lists all entries that hold.
    #[must_use]
    pub(super) fn list(&self, now_s: u64) -> Value {
        let mut rows: Vec<Value> =
            self.rows().filter(|(_, until_s)| *until_s > now_s).map(|(one, until)| object(&one, until)).collect();
        rows.sort_by_key(|row| row["until"].as_u64());
        Value::Array(rows)
    }

    /// Returns how many entries there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.tokens.len() + self.subjects.len()
    }

    fn rows(&self) -> impl Iterator<Item = (Revocation, u64)> {
        let tokens = self.tokens.iter().map(|(id, entry)| (Revocation::Token(id.clone()), entry.until_s));
        let subjects = self.subjects.iter();
        let subjects =
            subjects.map(|(subject, entry)| (Revocation::Subject(subject.clone(), entry.before_s), entry.until_s));
        tokens.chain(subjects)
    }

    /// Adds an entry, or makes one that is there reach further; says false if there is no room.
    fn insert(&mut self, revocation: &Revocation, until_s: u64) -> bool {
        let has_room = self.len() < ENTRIES_MAX;
        let (list, name, before_s) = match revocation {
            Revocation::Token(id) => (&mut self.tokens, id, 0),
            Revocation::Subject(subject, before_s) => (&mut self.subjects, subject, *before_s),
        };
        match list.get_mut(name) {
            Some(entry) => {
                entry.before_s = entry.before_s.max(before_s);
                entry.until_s = entry.until_s.max(until_s);
            }
            None if has_room => drop(list.insert(name.clone(), Entry { before_s, until_s })),
            None => return false,
        }
        true
    }

    fn forget(&mut self, now_s: u64) {
        self.tokens.retain(|_, entry| entry.until_s > now_s);
        self.subjects.retain(|_, entry| entry.until_s > now_s);
    }

    /// Writes the file anew: beside it first, so that there is a whole one at any time.
    fn write_anew(&mut self, path: &Path) -> io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        let text: String = self.rows().map(|(revocation, until_s)| line(&revocation, until_s)).collect();
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        self.lines = self.len();
        self.file = Some((path.to_owned(), file));
        Ok(())
    }
}

fn object(revocation: &Revocation, until_s: u64) -> Value {
    match revocation {
        Revocation::Token(id) => json!({ "jti": id, "until": until_s }),
        Revocation::Subject(subject, before_s) => json!({ "sub": subject, "before": before_s, "until": until_s }),
    }
}

fn line(revocation: &Revocation, until_s: u64) -> String {
    format!("{}\n", object(revocation, until_s))
}

fn entry_in(line: &str) -> Option<(Revocation, u64)> {
    let value: Value = serde_json::from_str(line).ok()?;
    Some((revocation_in(&value, None).ok()?, value.get("until")?.as_u64()?))
}

/// Reads what is to be revoked: `{"jti": "..."}` or `{"sub": "...", "before": seconds}`; without `before`, all of the subject until now.
///
/// # Errors
/// What is wrong with it.
pub fn revocation_in(value: &Value, now_s: Option<u64>) -> Result<Revocation, &'static str> {
    let name = |value: &Value| {
        let name = value.as_str().filter(|name| !name.is_empty() && name.len() <= SUBJECT_BYTES_MAX);
        name.map(Box::from).ok_or("`jti` and `sub` are texts of 1 to 255 bytes")
    };
    match (value.get("jti"), value.get("sub"), value.get("before")) {
        (Some(id), None, None) => Ok(Revocation::Token(name(id)?)),
        (None, Some(subject), before) => {
            let before_s = match before {
                // What was issued within this second, before, is meant as well.
                None => now_s.ok_or("`before` is missing")?.saturating_add(1),
                Some(before) => before.as_u64().ok_or("`before` is a time in seconds since 1970")?,
            };
            Ok(Revocation::Subject(name(subject)?, before_s))
        }
        _ => Err("say {\"jti\": \"...\"}, or {\"sub\": \"...\"} and perhaps \"before\" in seconds since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(subject: &str, id: &str, issued_s: u64) -> Grant {
        Grant { subject: subject.into(), token_id: id.into(), issued_s, ..Grant::nothing("") }
    }

    /// A token is revoked by its name, a subject for all that was issued before; what has neither name is never meant.
    #[test]
    fn what_is_revoked() {
        let mut revoked = Revoked::default();
        revoked.add(&Revocation::Token("7".into()), 100, 200).unwrap();
        revoked.add(&Revocation::Subject("anna".into(), 50), 100, 200).unwrap();
        for (grant, is_revoked) in [
            (grant("bert", "7", 60), true),
            (grant("bert", "8", 60), false),
            (grant("anna", "8", 49), true),
            (grant("anna", "8", 50), false),
            (grant("anna", "", 0), true),
            (grant("", "", 0), false),
        ] {
            assert_eq!(revoked.has(&grant, 100), is_revoked, "{grant:?}");
            assert!(!revoked.has(&grant, 200), "by then it is forgotten: {grant:?}");
        }
        // Who says less later takes nothing back.
        revoked.add(&Revocation::Subject("anna".into(), 10), 100, 150).unwrap();
        assert!(revoked.has(&grant("anna", "", 49), 199));
    }

    /// The list is bounded; what may be forgotten makes room.
    #[test]
    fn the_list_is_bounded() {
        let mut revoked = Revoked::default();
        for number in 0..ENTRIES_MAX {
            revoked.add(&Revocation::Token(number.to_string().into()), 100, 200 + number as u64 % 2).unwrap();
        }
        assert!(revoked.add(&Revocation::Token("more".into()), 100, 300).unwrap_err().contains("65536"));
        revoked.add(&Revocation::Token("more".into()), 200, 300).unwrap();
        assert_eq!(revoked.len(), ENTRIES_MAX / 2 + 1);
    }

    /// A restart forgets nothing that holds; a line that was cut off is no harm, one that is something else is.
    #[test]
    fn a_restart_forgets_nothing() {
        let path = std::env::temp_dir().join(format!("corecast-revoked-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let mut revoked = Revoked::open(&path, 100).unwrap();
        revoked.add(&Revocation::Token("7".into()), 100, 200).unwrap();
        revoked.add(&Revocation::Token("old".into()), 100, 101).unwrap();
        revoked.add(&Revocation::Subject("anna".into(), 50), 100, 200).unwrap();
        drop(revoked);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"jti\":\"half").unwrap();
        let revoked = Revoked::open(&path, 150).unwrap();
        assert!(revoked.has(&grant("", "7", 0), 150) && revoked.has(&grant("anna", "", 49), 150));
        assert_eq!(revoked.len(), 2);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2, "it was written anew");
        fs::write(&path, "hello\n").unwrap();
        let error = Revoked::open(&path, 150).unwrap_err();
        assert!(error.cause.contains("line 1 is no revocation"), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(Revoked::open(Path::new("/nowhere/at/all"), 0).is_err());
    }

    /// What an operator says is read, or he is told how to say it.
    #[test]
    fn words_of_operators() {
        let read = |value: Value| revocation_in(&value, Some(99));
        assert_eq!(read(json!({"jti": "7"})), Ok(Revocation::Token("7".into())));
        assert_eq!(read(json!({"sub": "a", "before": 5})), Ok(Revocation::Subject("a".into(), 5)));
        assert_eq!(read(json!({"sub": "a"})), Ok(Revocation::Subject("a".into(), 100)));
        for value in [
            json!({}),
            json!([]),
            json!({"jti": ""}),
            json!({"jti": 7}),
            json!({"jti": "a", "sub": "b"}),
            json!({"sub": "a", "before": "b"}),
        ] {
            assert!(read(value.clone()).is_err(), "{value}");
        }
    }
}
