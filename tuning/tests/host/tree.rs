//! Made-up hosts: a folder with the files of `/proc` and `/sys` that the checks read.

use std::fs;

use corecast_tuning::check::{Ask, Finding, Report};
use corecast_tuning::checks;
use corecast_tuning::host::Host;
use tempfile::TempDir;

/// A made-up host, gone with the test.
pub(crate) struct Tree {
    folder: TempDir,
}

impl Tree {
    /// A laptop: 4 cores, 16 GB, everything as a distribution sets it, one card with one queue.
    pub(crate) fn laptop() -> Tree {
        let tree = Tree { folder: tempfile::tempdir().unwrap() };
        for (path, text) in [
            ("proc/sys/kernel/osrelease", "6.12.9-amd64\n"),
            ("proc/sys/kernel/io_uring_disabled", "0\n"),
            ("proc/sys/kernel/io_uring_group", "-1\n"),
            ("proc/self/status", STATUS),
            ("proc/self/limits", LIMITS),
            ("proc/self/cgroup", "0::/user.slice/session-1.scope\n"),
            ("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:         1000000 kB\n"),
            ("proc/sys/fs/nr_open", "1048576\n"),
            ("proc/sys/fs/file-max", "9223372036854775807\n"),
            ("proc/sys/vm/overcommit_memory", "0\n"),
            ("proc/sys/net/ipv4/tcp_mem", "180000\t240000\t360000\n"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "1024\n"),
            ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
            ("proc/sys/net/ipv4/tcp_max_orphans", "65536\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/ipv4/tcp_ehash_entries", "131072\n"),
            ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n"),
            ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
            ("proc/net/softnet_stat", "0011c53b 00000000 00000001\n00115551 00000000 00000000\n"),
            ("sys/class/net/lo/operstate", "unknown\n"),
            ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/device/numa_node", "-1\n"),
            ("sys/class/net/eth0/device/msi_irqs/40", "msix\n"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
            ("sys/class/net/eth0/queues/tx-0/traffic_class", "\n"),
            ("proc/irq/40/effective_affinity_list", "2\n"),
            ("sys/devices/system/node/online", "0\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
            ("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected\n"),
            ("sys/devices/system/cpu/vulnerabilities/spectre_v1", "Mitigation: usercopy/swapgs barriers\n"),
            ("sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/name", "POLL\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/latency", "0\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/disable", "0\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state3/name", "C10\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state3/latency", "890\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state3/disable", "0\n"),
        ] {
            tree.set(path, text);
        }
        for cpu in 0..4 {
            tree.set(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"), "powersave\n");
        }
        tree
    }

    /// A server set up for ten million: 16 cores on one node, 128 GB, a card with a queue for each core.
    pub(crate) fn server() -> Tree {
        let tree = Tree::laptop();
        for (path, text) in [
            ("proc/self/status", STATUS.replace("0-3", "0-15").as_str()),
            ("proc/self/limits", LIMITS.replace("524288 ", "1048576").replace("8388608 ", "67108864").as_str()),
            ("proc/meminfo", "MemTotal:       131072000 kB\n"),
            ("proc/sys/net/ipv4/tcp_mem", "5000000 7000000 10000000\n"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096 16384 131072\n"),
            ("proc/sys/net/core/somaxconn", "65535\n"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65535\n"),
            ("proc/sys/net/ipv4/tcp_max_orphans", "10000000\n"),
            ("proc/sys/net/ipv4/tcp_ehash_entries", "4194304\n"),
            ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state3/disable", "1\n"),
            ("sys/devices/system/node/online", "0\n"),
            ("sys/class/net/eth0/device/numa_node", "0\n"),
        ] {
            tree.set(path, text);
        }
        for n in 0..16 {
            tree.set(&format!("sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor"), "performance\n");
            tree.set(&format!("sys/class/net/eth0/queues/rx-{n}/rps_cpus"), "0000\n");
            tree.set(&format!("sys/class/net/eth0/queues/tx-{n}/xps_cpus"), &format!("{:04x}\n", 1 << n));
            tree.set(&format!("sys/class/net/eth0/device/msi_irqs/{}", 40 + n), "msix\n");
            tree.set(&format!("proc/irq/{}/effective_affinity_list", 40 + n), &format!("{n}\n"));
        }
        tree
    }

    /// A container: a filter, a control group with 4 GiB, io_uring switched off, nothing of the network card to be seen.
    pub(crate) fn container() -> Tree {
        let tree = Tree::laptop();
        tree.set("proc/sys/kernel/io_uring_disabled", "2\n");
        tree.set("proc/self/status", &STATUS.replace("Seccomp:\t0", "Seccomp:\t2"));
        tree.set("proc/self/cgroup", "0::/\n");
        tree.set("sys/fs/cgroup/memory.max", "4294967296\n");
        tree.remove("sys/class/net");
        tree.remove("sys/devices");
        tree.remove("proc/irq");
        tree
    }

    /// Writes a file, and its folders.
    pub(crate) fn set(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Removes a file or a folder.
    pub(crate) fn remove(&self, path: &str) {
        let path = self.folder.path().join(path);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.unwrap();
    }

    /// Reads a file; none if there is none.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join(path)).ok()
    }

    /// The host that it is.
    pub(crate) fn host(&self) -> Host {
        Host::at(self.folder.path(), None)
    }

    /// What one check finds.
    pub(crate) fn look(&self, name: &str, connections: u64, shards: u64) -> Finding {
        let [check] = checks::named(name)[..] else { panic!("{name} is one check") };
        check.finding(&self.host(), &Ask { connections, shards })
    }

    /// What all checks find.
    pub(crate) fn report(&self, connections: u64, shards: u64) -> Report {
        Report::of(&self.host(), Ask { connections, shards })
    }
}

const STATUS: &str = "\
Name:\tcorecast
Gid:\t1000\t1000\t1000\t1000
Groups:\t27 1000
CapEff:\t0000000000000000
Seccomp:\t0
Cpus_allowed_list:\t0-3
";

const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 524288               files
Max locked memory         8388608              8388608              bytes
Max stack size            8388608              unlimited            bytes
";
