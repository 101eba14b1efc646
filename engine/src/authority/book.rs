//! Files that say what somebody may do: those who show an API key, and those who have a certificate.
//!
//! ```toml
//! [[key]]                                   [[certificate]]
//! name = "billing"                          name = "*.devices.example.com"
//! sha256 = "2c26b46b68ffc68ff99b453c..."    publish = ["devices/{sub}/#"]
//! publish = ["invoices/#"]                  subscribe = ["commands/{sub}"]
//! subscribe = ["invoices/#"]
//! limits = { connections = 3 }
//! ```
//!
//! Owns: the rows. Touches: the file, when it is read. Never: a key itself, unless the file has it (`key = "..."`).

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::claims::{self, SUBJECT_BYTES_MAX};
use super::secret::Digest;
use crate::grant::{Grant, GrantLimits, NAME_BYTES_MAX, PATTERNS_MAX, Patterns};
use crate::io::check::StartError;

/// Rows of a file, at most.
const ROWS_MAX: usize = 4096;
/// Largest file in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Shortest API key in bytes: what a hash gives away of a shorter one can be tried out.
const KEY_BYTES_MIN: usize = 16;

/// What stands before a name in a certificate and says of what kind it is.
const KINDS: [&str; 4] = ["CN=", "DNS:", "email:", "URI:"];

/// Which rows a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// `[[key]]`
    Keys,
    /// `[[certificate]]`
    Certificates,
}

impl What {
    fn table(self) -> &'static str {
        match self {
            What::Keys => "key",
            What::Certificates => "certificate",
        }
    }
}

/// A row: who it is about, and what he may do.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: Box<str>,
    /// Of a key: what it hashes to.
    digest: Option<Digest>,
    publish: Vec<String>,
    subscribe: Vec<String>,
    /// It has neither of the two.
    unlisted: bool,
    limits: GrantLimits,
}

/// A file that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    rows: Vec<Row>,
}

impl Book {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub(super) fn read(path: &Path, what: What) -> Result<Book, StartError> {
        let wrong = |line: Option<usize>, cause: &str| {
            let line = line.map_or(String::new(), |line| format!(":{line}"));
            let table = what.table();
            StartError {
                cause: format!("{}{line}: {cause}", path.display()),
                cure: format!("write [[{table}]] with name, publish and subscribe, as docs/permissions.md shows"),
            }
        };
        let size = std::fs::metadata(path).map_err(|error| wrong(None, &error.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(wrong(None, "it is larger than 4M"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(None, &error.to_string()))?;
        Book::parse(&text, what).map_err(|(offset, cause)| {
            let line = 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count();
            wrong(Some(line), &cause)
        })
    }

    /// Reads what stands in a file; an error has the place in it.
    fn parse(text: &str, what: What) -> Result<Book, (usize, String)> {
        // What the parser says may repeat a line of the file; a line may hold a key.
        let table = DeTable::parse(text).map_err(|error| {
            (
                error.span().map_or(0, |span| span.start),
                "this is not TOML: `name = value` a line, text in quotes".to_owned(),
            )
        })?;
        let mut rows: Vec<Row> = Vec::new();
        for (key, value) in table.get_ref() {
            let at = key.span().start;
            if key.get_ref() != what.table() {
                return Err((at, format!("only [[{}]] is known here", what.table())));
            }
            let DeValue::Array(list) = value.get_ref() else {
                return Err((at, format!("write [[{}]], in double brackets", what.table())));
            };
            for row in list {
                let DeValue::Table(table) = row.get_ref() else {
                    return Err((row.span().start, "this is no table".to_owned()));
                };
                let row = Row::parse(table, what, row.span().start)?;
                let twice = |other: &Row| {
                    let digests = other.digest.as_ref().zip(row.digest.as_ref());
                    other.name == row.name || digests.is_some_and(|(one, other)| one.is(other))
                };
                if rows.iter().any(twice) {
                    return Err((at, format!("{} stands there twice, or its key does", row.name)));
                }
                if rows.len() == ROWS_MAX {
                    return Err((at, format!("more than {ROWS_MAX} rows")));
                }
                rows.push(row);
            }
        }
        Ok(Book { rows })
    }

    /// Returns the grant of an API key. Which key it is, and whether it is any, takes the same time.
    #[must_use]
    pub(super) fn by_key(&self, key: &str) -> Option<Grant> {
        let digest = Digest::of(key.as_bytes());
        let mut found = None;
        for row in &self.rows {
            if row.digest.as_ref().is_some_and(|known| known.is(&digest)) {
                found = Some(row);
            }
        }
        found.and_then(|row| row.grant(&row.name).ok())
    }

    /// Returns the grant of a certificate with these names, a line each, as in `CN=hub` and `DNS:hub.example.com`: that of the first row
    /// that knows one of them.
    ///
    /// # Errors
    /// Nobody knows them, or the name cannot stand in the patterns of the row.
    pub(super) fn by_names(&self, names: &str) -> Result<Grant, &'static str> {
        for row in &self.rows {
            if let Some(name) = names.lines().find_map(|line| row.name_in(line)) {
                return row.grant(name);
            }
        }
        Err("nothing is granted to the names of this certificate")
    }

    /// Returns whose rows are gone from a newer file, or are others there.
    pub(super) fn changed<'b>(&'b self, newer: &'b Book) -> impl Iterator<Item = &'b str> {
        self.rows.iter().filter(|row| !newer.rows.contains(row)).map(|row| &*row.name)
    }

    /// Says whether there is somebody of that name.
    #[must_use]
    pub(super) fn has(&self, name: &str) -> bool {
        self.rows.iter().any(|row| {
            row.knows(name)
                || row.name.rsplit_once(name).is_some_and(|(kind, rest)| rest.is_empty() && KINDS.contains(&kind))
        })
    }
}

impl Row {
    fn parse(table: &DeTable<'_>, what: What, at: usize) -> Result<Row, (usize, String)> {
        let mut row = Row {
            name: Box::default(),
            digest: None,
            publish: Vec::new(),
            subscribe: Vec::new(),
            unlisted: true,
            limits: GrantLimits::default(),
        };
        for (key, value) in table {
            let told = |cause: &str| (key.span().start, format!("{}: {cause}", key.get_ref()));
            let wrong = |cause: &str| Err(told(cause));
            let text = value.get_ref().as_str();
            match (key.get_ref().as_ref(), what) {
                ("name", _) => match text {
                    Some(name) if !name.is_empty() && name.len() <= SUBJECT_BYTES_MAX => row.name = name.into(),
                    _ => return wrong("this is no text of 1 to 255 bytes"),
                },
                ("sha256", What::Keys) => match text.and_then(Digest::read) {
                    Some(digest) if row.digest.is_none() => row.digest = Some(digest),
                    Some(_) => return wrong("a key has either `sha256` or `key`"),
                    None => return wrong("this is no SHA-256: 64 hexadecimal digits"),
                },
                ("key", What::Keys) => match text {
                    Some(_) if row.digest.is_some() => return wrong("a key has either `sha256` or `key`"),
                    Some(key) if key.len() >= KEY_BYTES_MIN => row.digest = Some(Digest::of(key.as_bytes())),
                    _ => {
                        return wrong(
                            "this is no key of at least 16 characters; `corecast token --new-api-key NAME` makes one",
                        );
                    }
                },
                ("publish" | "subscribe", _) => {
                    let list = if key.get_ref() == "publish" { &mut row.publish } else { &mut row.subscribe };
                    *list = patterns(value).map_err(|cause| told(&cause))?;
                    row.unlisted = false;
                }
                ("limits", _) => row.limits = limits(value).map_err(told)?,
                _ => return wrong("this is not known here"),
            }
        }
        if row.name.is_empty() {
            return Err((at, "the row has no name".to_owned()));
        }
        if what == What::Keys && row.digest.is_none() {
            return Err((at, format!("{} has no sha256", row.name)));
        }
        // What can go wrong with a name that is the subject goes wrong now.
        if what == What::Keys {
            row.grant(&row.name).map_err(|cause| (at, cause.to_owned()))?;
        }
        Ok(row)
    }

    /// Says whether this is the name of the row; `*.` at its beginning stands for exactly one part of a host name, as in certificates.
    fn knows(&self, name: &str) -> bool {
        match self.name.strip_prefix("*.") {
            None => *self.name == *name,
            Some(rest) => name.split_once('.').is_some_and(|(first, behind)| !first.is_empty() && behind == rest),
        }
    }

    /// Returns the name in a line of a certificate, without its kind, if this row knows it. A row that says a kind knows that one only; one
    /// that does not, names of hosts.
    fn name_in<'n>(&self, line: &'n str) -> Option<&'n str> {
        let kind = KINDS.iter().find(|kind| line.starts_with(**kind))?;
        let name = &line[kind.len()..];
        let is_host = matches!(*kind, "CN=" | "DNS:");
        (*self.name == *line || is_host && self.knows(name)).then_some(name)
    }

    fn grant(&self, subject: &str) -> Result<Grant, &'static str> {
        let patterns = |list: &[String]| {
            let list: Vec<String> =
                list.iter().map(|pattern| claims::with_subject(pattern, subject)).collect::<Result<_, _>>()?;
            Patterns::new(list.iter().map(String::as_str)).map_err(|_| "a pattern is none")
        };
        Ok(Grant {
            subject: subject.into(),
            publish: patterns(&self.publish)?,
            subscribe: patterns(&self.subscribe)?,
            unlisted: self.unlisted,
            limits: self.limits,
            ..Grant::nothing(&subject[..subject.floor_char_boundary(NAME_BYTES_MAX)])
        })
    }
}

fn patterns(value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
    let DeValue::Array(list) = value.get_ref() else { return Err("this is no list of patterns".to_owned()) };
    if list.len() > PATTERNS_MAX {
        return Err(format!("more than {PATTERNS_MAX} patterns"));
    }
    list.iter()
        .map(|pattern| {
            let pattern = pattern.get_ref().as_str().ok_or("a pattern is no text")?;
            let example = pattern.replace("{sub}", "a");
            corecast_protocol::pattern::validate(&example).map_err(|error| format!("`{pattern}`: {error}"))?;
            Ok(pattern.to_owned())
        })
        .collect()
}

fn limits(value: &Spanned<DeValue<'_>>) -> Result<GrantLimits, &'static str> {
    let DeValue::Table(table) = value.get_ref() else { return Err("this is no table, as in { connections = 3 }") };
    let mut limits = GrantLimits::default();
    for (name, value) in table {
        let number = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', "").parse::<u32>().ok(),
            _ => None,
        };
        limits.set(name.get_ref(), number.ok_or("a limit is no whole number")?)?;
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Action;

    /// A key gives what its row says, by its hash or as it is; others give nothing.
    #[test]
    fn keys_give_what_their_row_says() {
        let hash = Digest::of(b"sixteen-letters!").text();
        let text = format!(
            "[[key]]\nname = \"billing\"\nsha256 = \"{hash}\"\npublish = [\"invoices/#\", \"of/{{sub}}\"]\nlimits = {{ publish-rate = 1_000 }}\n\
             [[key]]\nname = \"reader\"\nkey = \"another-key-of-mine\"\nsubscribe = [\"#\"]\n"
        );
        let book = Book::parse(&text, What::Keys).unwrap();
        let grant = book.by_key("sixteen-letters!").unwrap();
        assert_eq!((&*grant.name, &*grant.subject, grant.expires_s), ("billing", "billing", u64::MAX));
        assert_eq!(grant.limits.publish_rate, Some(1000));
        assert!(grant.gives(Action::Publish, "invoices/7") && grant.gives(Action::Publish, "of/billing"));
        assert!(!grant.gives(Action::Subscribe, "invoices/7"));
        assert!(book.by_key("another-key-of-mine").unwrap().gives(Action::Subscribe, "x"));
        for key in ["", "sixteen-letters", &hash] {
            assert!(book.by_key(key).is_none(), "{key}");
        }
        assert!(book.has("billing") && !book.has("bill"));
    }

    /// The name in a certificate finds its row, whole or with its first part left open, and stands in the patterns.
    #[test]
    fn certificates_are_known_by_name() {
        let text = "[[certificate]]\nname = \"hub.example.com\"\npublish = [\"#\"]\n\
                    [[certificate]]\nname = \"*.devices.example.com\"\npublish = [\"devices/{sub}/#\"]\n\
                    [[certificate]]\nname = \"URI:spiffe://a/hub\"\n";
        let book = Book::parse(text, What::Certificates).unwrap();
        assert!(book.by_names("CN=other\nDNS:hub.example.com").unwrap().gives(Action::Publish, "any"));
        let device = book.by_names("CN=d7.devices.example.com").unwrap();
        assert_eq!(&*device.subject, "d7.devices.example.com");
        assert!(device.gives(Action::Publish, "devices/d7.devices.example.com/state"));
        assert!(!device.gives(Action::Publish, "devices/d8.devices.example.com/state"));
        assert_eq!(&*book.by_names("URI:spiffe://a/hub").unwrap().subject, "spiffe://a/hub");
        assert!(book.has("spiffe://a/hub") && book.has("d9.devices.example.com") && !book.has("hub"));
        for names in [
            "",
            "hub.example.com",
            "email:hub.example.com",
            "URI:hub.example.com",
            "DNS:spiffe://a/hub",
            "DNS:hub.example.com.evil",
            "DNS:devices.example.com",
            "DNS:.devices.example.com",
            "DNS:a.b.devices.example.com",
            "DNS:#.devices.example.com",
        ] {
            assert!(book.by_names(names).is_err(), "{names}");
        }
    }

    /// What is wrong is told with its place; a key is never repeated.
    #[test]
    fn mistakes_are_told() {
        for (text, expected) in [
            ("[[key]]\nname = \"a\"\nkey = \"secret\"", "at least 16"),
            ("[[key]]\nname = \"a\"\nkey = \"secret-secret-secret", "not TOML"),
            ("[[key]]\nname = \"a\"\nsha256 = \"5\"", "64 hexadecimal"),
            ("[[key]]\nname = \"a\"", "no sha256"),
            ("[[key]]\nsha256 = \"5\"", "64 hexadecimal"),
            ("[[key]]\nkey = \"secret-secret-secret\"", "no name"),
            ("[[key]]\nname = \"a\"\nkey = \"secret-secret-secret\"\npublish = \"#\"", "no list"),
            ("[[key]]\nname = \"a\"\nkey = \"secret-secret-secret\"\npublish = [\"a#\"]", "whole segments"),
            ("[[key]]\nname = \"a\"\nkey = \"secret-secret-secret\"\nsubscrbe = []", "not known"),
            ("[[key]]\nname = \"a/b\"\nkey = \"secret-secret-secret\"\npublish = [\"{sub}\"]", "no plain segment"),
            ("[[key]]\nname = \"a\"\nkey = \"secret-secret-secret\"\nlimits = { x = 1 }", "limits are"),
            (
                "[[key]]\nname = \"a\"\nkey = \"secret-secret-secret\"\n[[key]]\nname = \"b\"\nkey = \"secret-secret-secret\"",
                "twice",
            ),
            ("[key]\nname = \"a\"", "double brackets"),
            ("[[certificate]]\nname = \"a\"", "only [[key]]"),
        ] {
            let (_, cause) = Book::parse(text, What::Keys).unwrap_err();
            assert!(cause.contains(expected) && !cause.contains("secret-"), "{text}: {cause}");
        }
    }
}
