//! What clients of Unix sockets may do, by who they are on this host.
//!
//! Owns: [`UnixGrants`], and how it is written. Names are looked up in `/etc/passwd` and `/etc/group`, when it is read.

use std::fmt;
use std::fs;

use super::{Grant, Patterns};
use crate::io::unix::Credentials;

/// Whom a grant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    User(u32),
    Group(u32),
}

/// One line of the table: who, and what he may do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    who: Who,
    publish: Patterns,
    subscribe: Patterns,
    /// As it was written, with numbers for names.
    text: String,
}

/// What clients of Unix sockets may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixGrants {
    lines: Vec<Line>,
    /// Root, and the user of the engine, may everything.
    is_default: bool,
}

impl Default for UnixGrants {
    /// Root and the user whose process this is may everything.
    fn default() -> UnixGrants {
        let own = fs::metadata("/proc/self").ok().map(|file| std::os::unix::fs::MetadataExt::uid(&file));
        let lines = [Some(0), own.filter(|uid| *uid != 0)].into_iter().flatten();
        let lines = lines.map(|uid| read_line(&format!("uid:{uid}")).expect("a number of a user is one"));
        UnixGrants { lines: lines.collect(), is_default: true }
    }
}

impl UnixGrants {
    /// Reads `auto`, or a list: `uid:1000 publish:prices/# subscribe:#`, likewise with `gid:`, `user:` or `group:`. Who is given
    /// without rights may everything.
    ///
    /// # Errors
    /// What is wrong.
    pub fn read(text: &str) -> Result<UnixGrants, String> {
        if text == "auto" {
            return Ok(UnixGrants::default());
        }
        let lines = text.split(',').map(|line| read_line(line.trim())).collect::<Result<_, _>>()?;
        Ok(UnixGrants { lines, is_default: false })
    }

    /// Says whether nothing was said, and root and the user of the engine may everything.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// Returns what a client may do, if anything is said of it. The first line counts that is for it.
    #[must_use]
    pub fn grant(&self, of: Credentials) -> Option<Grant> {
        let line = self.lines.iter().find(|line| match line.who {
            Who::User(uid) => uid == of.uid,
            Who::Group(gid) => gid == of.gid,
        })?;
        let subject = format!("uid:{}", of.uid).into_boxed_str();
        let (publish, subscribe) = (line.publish.clone(), line.subscribe.clone());
        Some(Grant { publish, subscribe, subject: subject.clone(), ..Grant::nothing(&subject) })
    }
}

impl fmt::Display for UnixGrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_default {
            return f.write_str("auto");
        }
        for (i, line) in self.lines.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { "," } else { "" }, line.text)?;
        }
        Ok(())
    }
}

fn read_line(text: &str) -> Result<Line, String> {
    let wrong = |why: &str| {
        let expected = "uid:, gid:, user: or group:, perhaps with rights, as in `gid:100 publish:prices/# subscribe:#`";
        format!("`{text}` is not a grant: {why}; expected {expected}")
    };
    let mut words = text.split_ascii_whitespace();
    let who = words.next().ok_or_else(|| wrong("it is empty"))?;
    let (who, number) = match who.split_once(':') {
        Some(("uid", number)) => (Who::User as fn(u32) -> Who, number.parse().ok()),
        Some(("gid", number)) => (Who::Group as fn(u32) -> Who, number.parse().ok()),
        Some(("user", name)) => (Who::User as fn(u32) -> Who, number_of("/etc/passwd", name)),
        Some(("group", name)) => (Who::Group as fn(u32) -> Who, number_of("/etc/group", name)),
        _ => return Err(wrong("it does not say whom it is for")),
    };
    let number = number.ok_or_else(|| wrong("there is nobody of that name or number"))?;
    let who = who(number);
    let (mut publish, mut subscribe) = (Vec::new(), Vec::new());
    for word in words {
        match word.split_once(':') {
            Some(("publish", pattern)) => publish.push(pattern),
            Some(("subscribe", pattern)) => subscribe.push(pattern),
            _ => return Err(wrong("a right begins with publish: or subscribe:")),
        }
    }
    let all = publish.is_empty() && subscribe.is_empty();
    let name = match who {
        Who::User(uid) => format!("uid:{uid}"),
        Who::Group(gid) => format!("gid:{gid}"),
    };
    let rights: String = text
        .split_once(char::is_whitespace)
        .map_or(String::new(), |(_, rest)| rest.split_ascii_whitespace().map(|word| format!(" {word}")).collect());
    if all {
        (publish, subscribe) = (EVERYTHING.to_vec(), EVERYTHING.to_vec());
    }
    let patterns = |list: Vec<&str>| Patterns::new(list).map_err(|error| wrong(&error));
    Ok(Line { who, publish: patterns(publish)?, subscribe: patterns(subscribe)?, text: name + &rights })
}

/// Patterns that match every topic but those of the engine itself.
const EVERYTHING: [&str; 1] = ["#"];

/// Finds the number of a name in a file like `/etc/passwd`: the third of the fields of its line.
pub(crate) fn number_of(file: &str, name: &str) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(|line| line.split(':'));
    let mut of = lines.find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
    of.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Action;

    fn of(uid: u32, gid: u32) -> Credentials {
        Credentials { uid, gid, pid: 1 }
    }

    /// Who is listed may what his line says, the first that is for him; others have no grant.
    #[test]
    fn grants_of_a_table() {
        let table =
            UnixGrants::read("uid:7 publish:prices/# publish:news subscribe:#, gid:100 subscribe:public/#,uid:8")
                .unwrap();
        let grant = table.grant(of(7, 100)).unwrap();
        assert_eq!((&*grant.name, &*grant.subject, grant.expires_s), ("uid:7", "uid:7", u64::MAX));
        assert!(grant.gives(Action::Publish, "prices/eur") && grant.gives(Action::Publish, "news"));
        assert!(!grant.gives(Action::Publish, "other") && grant.gives(Action::Subscribe, "other"));
        let group = table.grant(of(9, 100)).unwrap();
        assert!(group.gives(Action::Subscribe, "public/a") && !group.gives(Action::Publish, "public/a"));
        let all = table.grant(of(8, 8)).unwrap();
        assert!(all.gives(Action::Publish, "a/b") && all.gives(Action::Subscribe, "a"));
        assert_eq!(table.grant(of(9, 9)), None);
        assert_eq!(table.grant(of(100, 7)), None, "a user is no group");
        assert_eq!(UnixGrants::read(&table.to_string()), Ok(table), "what is shown reads back");
    }

    /// Without a table root and the engine's own user may everything, and nobody else.
    #[test]
    fn grants_by_default() {
        let table = UnixGrants::default();
        let own = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap());
        for uid in [0, own] {
            assert!(table.grant(of(uid, 12345)).unwrap().gives(Action::Publish, "a"));
        }
        assert_eq!(table.grant(of(54321, 0)), None);
        assert_eq!(table.to_string(), "auto");
    }

    /// Names stand for their numbers; what is nobody's, and no right, is refused.
    #[test]
    fn names_and_nonsense() {
        assert_eq!(
            UnixGrants::read("user:root group:x").unwrap_err().split(';').next(),
            Some("`user:root group:x` is not a grant: a right begins with publish: or subscribe:")
        );
        assert!(UnixGrants::read("user:root").unwrap().grant(of(0, 0)).is_some());
        for text in [
            "",
            "root",
            "uid:",
            "uid:x",
            "uid:-1",
            "user:no such",
            "gid:4294967296",
            "uid:1 read:#",
            "uid:1 publish:a/#/b",
            "uid:1,,uid:2",
        ] {
            assert!(UnixGrants::read(text).is_err(), "{text}");
        }
    }
}
