//! Facts of the host that a figure means nothing without.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Settings of the kernel that decide how many connections there can be, how fast they come, and what they cost.
const SYSCTLS: [&str; 17] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
];

/// Where the load generator ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Version of this program.
    pub program_version: String,
    /// The kernel's name and version.
    pub kernel: String,
    /// The processor's name.
    pub cpu_model: String,
    /// Cores that are there.
    pub cores: u32,
    /// Memory that is there.
    pub memory_bytes: u64,
    /// Files that this process may have open.
    pub open_files_max: u64,
    /// CPUs that may do the receiver's work of loopback (`rps_cpus` of `lo`), as a mask; 0: the sender's own.
    pub loopback_rps_cpus: String,
    /// Settings of the kernel, by name.
    pub sysctls: BTreeMap<String, String>,
}

impl Host {
    /// Reads the facts of this host; what cannot be read is empty.
    #[must_use]
    pub fn read() -> Host {
        Host::read_below(Path::new("/proc"), Path::new("/sys"))
    }

    /// Reads the facts of a host whose `/proc` and `/sys` are there.
    #[must_use]
    pub fn read_below(proc: &Path, sys: &Path) -> Host {
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpus = text(&proc.join("cpuinfo"));
        let values = |name: &str| {
            let of_name = move |line: &str| {
                line.split_once(':').filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
            };
            cpus.lines().filter_map(of_name).collect::<Vec<_>>()
        };
        let kib = text(&proc.join("meminfo"))
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        let open_files = text(&proc.join("self/limits"))
            .lines()
            .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
        let sysctls = SYSCTLS.into_iter().filter_map(|name| {
            let value = fs::read_to_string(proc.join("sys").join(name.replace('.', "/"))).ok()?;
            Some((name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        });
        Host {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: text(&proc.join("version")).split(" (").next().unwrap_or_default().to_owned(),
            cpu_model: values("model name").into_iter().next().unwrap_or_default(),
            cores: values("processor").len() as u32,
            memory_bytes: kib.unwrap_or(0) * 1024,
            open_files_max: open_files.unwrap_or(0),
            loopback_rps_cpus: text(&sys.join("class/net/lo/queues/rx-0/rps_cpus")),
            sysctls: sysctls.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This very host tells its kernel, cores, memory and settings.
    #[test]
    fn this_host_is_read() {
        let host = Host::read();
        assert!(host.kernel.starts_with("Linux version "), "{host:?}");
        assert!(host.cores > 0 && host.memory_bytes > 64 << 20 && host.open_files_max > 0, "{host:?}");
        assert!(host.sysctls.contains_key("net.core.somaxconn"), "{host:?}");
    }

    /// A host that tells nothing is no failure.
    #[test]
    fn nothing_is_no_failure() {
        let host = Host::read_below(Path::new("/nonexistent"), Path::new("/nonexistent"));
        assert_eq!(Host { program_version: host.program_version.clone(), ..Host::default() }, host);
    }
}
