//! The host as files: `/proc` and `/sys` below a root, read when asked for.
//!
//! Owns: the root and whose limits are looked at. Touches: files below it, reading only. What cannot be read or is not
//! what it should be is an [`Unknown`] with its reason, never a panic and never a guess.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Most bytes read of one file: what the kernel says is short, and a made-up tree may hold anything.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why something cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host to look at.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    process: String,
}

/// A network card: an interface with a device behind it that is not down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its name, as `eth0`.
    pub name: String,
    /// Number of receive queues.
    pub receive_queues: u64,
    /// Number of transmit queues.
    pub transmit_queues: u64,
}

impl Host {
    /// Returns the host whose `/proc` and `/sys` lie below `root`. Limits are those of process `pid`; none: our own.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>, pid: Option<u32>) -> Host {
        Host { root: root.into(), process: pid.map_or("self".to_owned(), |pid| pid.to_string()) }
    }

    /// Returns where a path of the host, given without its leading slash, is.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Returns the text of a file, without white space around it.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn text(&self, path: &str) -> Result<String, Unknown> {
        let mut text = String::new();
        let read = File::open(self.path(path)).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(text.trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Unknown(format!("there is no /{path}"))),
            Err(error) => Err(Unknown(format!("/{path} cannot be read: {error}"))),
        }
    }

    /// Returns the number that a file holds.
    ///
    /// # Errors
    /// Why there is none.
    pub fn number<T: FromStr>(&self, path: &str) -> Result<T, Unknown> {
        let text = self.text(path)?;
        text.parse().map_err(|_| Unknown(format!("/{path} holds `{}`, no number", shortened(&text))))
    }

    /// Returns the numbers that a file holds.
    ///
    /// # Errors
    /// Why there are not exactly `N` of them.
    pub fn numbers<const N: usize>(&self, path: &str) -> Result<[u64; N], Unknown> {
        let text = self.text(path)?;
        let numbers: Option<Vec<u64>> = text.split_ascii_whitespace().map(|part| part.parse().ok()).collect();
        let bad = || Unknown(format!("/{path} holds `{}`, not {N} numbers", shortened(&text)));
        numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(bad)
    }

    /// Returns the names in a folder, sorted; none if there is no such folder.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Returns the value of a `Name: value` line of a file.
    ///
    /// # Errors
    /// Why there is none.
    pub fn field(&self, path: &str, name: &str) -> Result<String, Unknown> {
        let text = self.text(path)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(|value| value.trim().to_owned()).ok_or_else(|| Unknown(format!("/{path} has no line `{name}:`")))
    }

    /// Returns a field of the status of the process.
    ///
    /// # Errors
    /// Why there is none.
    pub fn status(&self, name: &str) -> Result<String, Unknown> {
        self.field(&format!("proc/{}/status", self.process), name)
    }

    /// Says whether the process has a capability, by its number.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn capable(&self, number: u32) -> Result<bool, Unknown> {
        let hex = self.status("CapEff")?;
        let set =
            u64::from_str_radix(&hex, 16).map_err(|_| Unknown(format!("`CapEff: {}` is no set", shortened(&hex))))?;
        Ok(set & (1 << number) != 0)
    }

    /// Returns the soft and the hard limit of the process by the name that `/proc/PID/limits` gives it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn limits(&self, name: &str) -> Result<(u64, u64), Unknown> {
        let path = format!("proc/{}/limits", self.process);
        let text = self.text(&path)?;
        let bad = || Unknown(format!("/{path} has no limits `{name}`"));
        let mut values =
            text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(bad)?.split_ascii_whitespace();
        let mut next = || match values.next() {
            Some("unlimited") => Some(u64::MAX),
            value => value?.parse().ok(),
        };
        next().zip(next()).ok_or_else(bad)
    }

    /// Returns the CPUs that the process may use, ascending.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn cpus(&self) -> Result<Vec<u32>, Unknown> {
        list(&self.status("Cpus_allowed_list")?)
    }

    /// Returns the memory of the host in bytes.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn memory_bytes(&self) -> Result<u64, Unknown> {
        let text = self.field("proc/meminfo", "MemTotal")?;
        let kib = text.strip_suffix("kB").and_then(|kib| kib.trim().parse::<u64>().ok());
        kib.and_then(|kib| kib.checked_mul(1024)).ok_or_else(|| Unknown(format!("`MemTotal: {text}` is no size in kB")))
    }

    /// Returns the least limit of memory that the process's control groups set, in bytes; none: no limit is known.
    #[must_use]
    pub fn group_memory_bytes(&self) -> Option<u64> {
        let groups = self.text(&format!("proc/{}/cgroup", self.process)).unwrap_or_default();
        // `0::/system.slice/x` is version 2, `4:memory:/x` version 1 (cgroups(7)).
        let own = groups.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            match controllers {
                "" => Some(format!("sys/fs/cgroup{path}/memory.max")),
                "memory" => Some(format!("sys/fs/cgroup/memory{path}/memory.limit_in_bytes")),
                _ => None,
            }
        });
        // In a container the group is seen at the top.
        let top = ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"].map(str::to_owned);
        own.chain(top).filter_map(|path| self.number(&path).ok()).min()
    }

    /// Returns the network cards, by name.
    #[must_use]
    pub fn cards(&self) -> Vec<Card> {
        let mut cards = Vec::new();
        for name in self.names("sys/class/net") {
            let folder = format!("sys/class/net/{name}");
            let real = self.path(&format!("{folder}/device")).exists();
            if !real || self.text(&format!("{folder}/operstate")).is_ok_and(|state| state == "down") {
                continue;
            }
            let queues = self.names(&format!("{folder}/queues"));
            let count = |prefix| queues.iter().filter(|queue| queue.starts_with(prefix)).count() as u64;
            cards.push(Card { receive_queues: count("rx-"), transmit_queues: count("tx-"), name });
        }
        cards
    }

    /// Returns the root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Reads a list of CPUs as the kernel writes it: `0-3,8`.
///
/// # Errors
/// If it is not one.
pub fn list(text: &str) -> Result<Vec<u32>, Unknown> {
    // CONFIG_NR_CPUS ends at 8,192; a made-up tree must not make us count to four billion.
    const CPUS_MAX: u32 = 8_192;
    let bad = || Unknown(format!("`{}` is no list of CPUs", shortened(text)));
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = first.parse().ok().zip(last.parse().ok()).ok_or_else(bad)?;
        if first > last || last >= CPUS_MAX {
            return Err(bad());
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

/// Says whether a mask of CPUs as the kernel writes it (`00000000,000000ff`) names any.
///
/// # Errors
/// If it is not one.
pub fn mask_names_any(text: &str) -> Result<bool, Unknown> {
    let shaped = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b',');
    if shaped {
        Ok(text.bytes().any(|b| b != b'0' && b != b','))
    } else {
        Err(Unknown(format!("`{}` is no mask of CPUs", shortened(text))))
    }
}

/// Cuts text of unknown length and content down to what fits into a message.
fn shortened(text: &str) -> String {
    let line: String = text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > 40 { format!("{line}...") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists and masks are read as the kernel writes them, and nothing else is.
    #[test]
    fn lists_and_masks() {
        assert_eq!(list("0-3,8"), Ok(vec![0, 1, 2, 3, 8]));
        assert_eq!(list("5"), Ok(vec![5]));
        for text in ["", "a", "3-1", "0-", "0-99999999", "0,,1"] {
            assert!(list(text).is_err(), "{text}");
        }
        assert_eq!(mask_names_any("00000000,00000000"), Ok(false));
        assert_eq!(mask_names_any("00000000,00000100"), Ok(true));
        assert!(mask_names_any("").is_err() && mask_names_any("xyz").is_err());
    }

    /// A reason never repeats more of a file than fits on a line, nor what would drive a terminal.
    #[test]
    fn reasons_are_tame() {
        let text = shortened(&"\x1b[2J\n".repeat(100));
        assert!(text.chars().count() <= 43 && !text.contains(char::is_control), "{text:?}");
    }
}
