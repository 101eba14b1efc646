//! What the configuration must know of the host to choose its defaults: cores allowed, memory.
//!
//! Touches: `/proc` and `/sys/fs/cgroup`, read once at start. Never changes anything.

use std::fs;

use super::units;

/// Facts of the host that defaults depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Cores this process may run on, ascending, at least one.
    pub cores: Vec<usize>,
    /// Memory this process may use in bytes: RAM, or the limit of its control group if that is less.
    pub memory_bytes: u64,
}

impl Host {
    /// Reads the facts from the kernel; what cannot be read is taken as one core and 1 GiB.
    #[must_use]
    pub fn read() -> Host {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let group = [file("/sys/fs/cgroup/memory.max"), file("/sys/fs/cgroup/memory/memory.limit_in_bytes")];
        Host {
            cores: cores_allowed(&file("/proc/self/status")).unwrap_or_else(|| vec![0]),
            memory_bytes: memory(&file("/proc/meminfo"), &group).unwrap_or(1 << 30),
        }
    }
}

/// Finds the cores in the text of `/proc/self/status` (`Cpus_allowed_list`, proc(5)).
fn cores_allowed(status: &str) -> Option<Vec<usize>> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    units::cores(list.trim()).ok()
}

/// Finds the RAM in the text of `/proc/meminfo` (`MemTotal` in KiB, proc(5)), and takes the least of it and the limits.
fn memory(meminfo: &str, limits: &[String]) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    // "max", or nothing where the file does not exist, does not parse: no limit.
    let limit = limits.iter().filter_map(|text| text.trim().parse().ok()).min().unwrap_or(u64::MAX);
    Some((kib * 1024).min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's text is understood, and a control group's limit counts when it is below the RAM.
    #[test]
    fn facts_from_text() {
        assert_eq!(cores_allowed("Name:\tx\nCpus_allowed_list:\t0-1,4\n"), Some(vec![0, 1, 4]));
        assert_eq!(cores_allowed("Name:\tx\n"), None);
        let meminfo = "MemTotal:       2048 kB\nMemFree: 1 kB\n";
        assert_eq!(memory(meminfo, &[]), Some(2 << 20));
        assert_eq!(memory(meminfo, &["max\n".to_owned(), String::new()]), Some(2 << 20));
        assert_eq!(memory(meminfo, &["1048576\n".to_owned()]), Some(1 << 20));
        assert_eq!(memory("", &[]), None);
    }

    /// This machine has a core and some memory.
    #[test]
    fn facts_of_this_machine() {
        let host = Host::read();
        assert!(!host.cores.is_empty());
        assert!(host.memory_bytes > 64 << 20, "{host:?}");
    }
}
