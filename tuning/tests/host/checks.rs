//! The checks on made-up hosts: what is found, what is wanted, and that nothing that a file can hold makes them panic.

use crate::tree::Tree;
use corecast_tuning::check::{Ask, Memory, Verdict, explain};
use corecast_tuning::checks;

fn of(tree: &Tree, verdict: Verdict, connections: u64, shards: u64) -> Vec<&'static str> {
    let report = tree.report(connections, shards);
    report.rows.iter().filter(|(_, finding)| finding.verdict == verdict).map(|(check, _)| check.name).collect()
}

/// A laptop holds what it is asked for a small number; what is slow about it is told apart from what limits.
#[test]
fn a_laptop_and_a_hundred_thousand() {
    let tree = Tree::laptop();
    assert_eq!(of(&tree, Verdict::Low, 100_000, 4), [""; 0]);
    assert_eq!(of(&tree, Verdict::Unknown, 100_000, 4), [""; 0]);
    let slow = of(&tree, Verdict::Slow, 100_000, 4);
    let expected = [
        "RLIMIT_MEMLOCK",
        "net.ipv4.tcp_wmem",
        "net.core.somaxconn",
        "net.ipv4.tcp_max_orphans",
        "net.ipv4.tcp_slow_start_after_idle",
        "rx-queues",
        "rps",
        "governor",
        "c-states",
        "thp",
    ];
    assert_eq!(slow, expected);
    assert!(!tree.report(100_000, 4).limited());
}

/// A laptop does not hold ten million, and every reason is named, with what would do.
#[test]
fn a_laptop_and_ten_million() {
    let tree = Tree::laptop();
    assert_eq!(of(&tree, Verdict::Low, 10_000_000, 4), ["shards", "RLIMIT_NOFILE", "memory"]);
    let shards = tree.look("shards", 10_000_000, 4);
    // 11,000,000 / 1,048,576 = 10.49
    assert_eq!((shards.found.as_str(), shards.wanted.as_str()), ("4", "11"));
    let files = tree.look("RLIMIT_NOFILE", 10_000_000, 4);
    assert_eq!((files.found.as_str(), files.wanted.as_str()), ("524,288", "1,048,576"));
    // 11,000,000 / 524,288 = 20.98
    assert!(files.note.unwrap().contains("--shards 21 would hold them"));
    let memory = tree.look("memory", 10_000_000, 4);
    // 10 M x (206 + 3,936) B + 4 x 9 MiB + 16 x 256 KiB = 41,461,943,040 B, and a third of that on top.
    assert_eq!((memory.found.as_str(), memory.wanted.as_str()), ("16.4 GB", "55.3 GB"));
    assert_eq!(memory.memory, Memory::Takes(41_461_943_040));
    let buckets = tree.look("tcp_ehash_entries", 10_000_000, 4);
    assert_eq!((buckets.verdict, buckets.wanted.as_str()), (Verdict::Slow, "4,194,304"));
    assert_eq!(buckets.note.as_deref(), Some("chains of 76.3 sockets on average"));
}

/// A server that is set up for ten million passes every check.
#[test]
fn a_server_and_ten_million() {
    let tree = Tree::server();
    let report = tree.report(10_000_000, 16);
    let text = report.text();
    for (check, finding) in &report.rows {
        assert_eq!(finding.verdict, Verdict::Ok, "{}: {finding:?}\n{text}", check.name);
    }
    assert!(text.contains("30 ok, 0 slow, 0 low, 0 cannot tell"), "{text}");
}

/// A container that may not use io_uring is told so, its own limit of memory counts, and what it hides cannot be told.
#[test]
fn a_container() {
    let tree = Tree::container();
    assert_eq!(of(&tree, Verdict::Low, 1_000_000, 4), ["kernel.io_uring_disabled", "memory"]);
    let unknown = of(&tree, Verdict::Unknown, 1_000_000, 4);
    let expected =
        ["seccomp", "rx-queues", "irq-affinity", "rps", "xps", "numa", "governor", "c-states", "mitigations"];
    assert_eq!(unknown, expected);
    let memory = tree.look("memory", 1_000_000, 4);
    assert_eq!((memory.found.as_str(), memory.note.as_deref()), ("4.29 GB", Some("the limit of a control group")));
    let text = tree.report(1_000_000, 4).text();
    assert!(text.contains("`corecast check` tries whether io_uring passes it"), "{text}");
}

/// Where nothing can be read, nothing is told: no check panics, guesses or says that all is well.
#[test]
fn an_empty_tree() {
    let tree = Tree::laptop();
    for folder in ["proc", "sys"] {
        tree.remove(folder);
    }
    for (check, finding) in tree.report(1_000_000, 2).rows {
        if check.name != "shards" {
            assert_eq!(finding.verdict, Verdict::Unknown, "{}: {finding:?}", check.name);
            assert!(finding.note.is_some() && finding.set.is_none(), "{}: {finding:?}", check.name);
        }
    }
}

/// Every check explains itself: what it found, what is wanted, why, and where that is written.
#[test]
fn explanations() {
    let (tree, ask) = (Tree::laptop(), Ask { connections: 10_000_000, shards: 4 });
    for (check, finding) in tree.report(ask.connections, ask.shards).rows {
        let text = explain(check, &tree.host(), &ask);
        for part in [check.what, check.rule, check.why, check.source, check.place, &finding.found, &finding.wanted] {
            assert!(text.contains(part), "{}: `{part}` is missing: {text}", check.name);
        }
    }
}

/// Whatever a file holds, every check comes to an end, and what is written about it stays tame.
#[test]
fn malformed_files() {
    let junk =
        ["", "\n", "-1", "x", "99999999999999999999999", "18446744073709551615", "1 2 3", "\0\x1b[2J", "0-", "é[[]"];
    let paths = [
        "proc/sys/kernel/osrelease",
        "proc/sys/kernel/io_uring_disabled",
        "proc/self/status",
        "proc/self/limits",
        "proc/self/cgroup",
        "proc/meminfo",
        "proc/sys/fs/nr_open",
        "proc/sys/fs/file-max",
        "proc/sys/net/ipv4/tcp_mem",
        "proc/sys/net/ipv4/tcp_wmem",
        "proc/sys/net/ipv4/tcp_rmem",
        "proc/sys/net/core/somaxconn",
        "proc/sys/net/ipv4/tcp_max_orphans",
        "proc/sys/net/ipv4/ip_local_port_range",
        "proc/sys/net/ipv4/tcp_ehash_entries",
        "proc/sys/net/netfilter/nf_conntrack_max",
        "proc/sys/net/core/netdev_max_backlog",
        "proc/net/softnet_stat",
        "proc/irq/40/effective_affinity_list",
        "sys/fs/cgroup/memory.max",
        "sys/class/net/eth0/queues/rx-0/rps_cpus",
        "sys/class/net/eth0/device/numa_node",
        "sys/devices/system/node/online",
        "sys/kernel/mm/transparent_hugepage/enabled",
        "sys/devices/system/cpu/cpu0/cpuidle/state3/latency",
    ];
    let asks = [Ask { connections: 1, shards: 1 }, Ask { connections: u64::MAX, shards: 256 }];
    for path in paths {
        let tree = Tree::laptop();
        for text in junk {
            tree.set(path, text);
            for ask in asks {
                let written = tree.report(ask.connections, ask.shards).text();
                assert!(!written.contains('\x1b') && !written.contains('\0'), "{path} {text:?}: {written:?}");
            }
        }
    }
    // Bytes that are no text, and a folder in place of a file.
    let tree = Tree::laptop();
    tree.remove("proc/sys/net/core/somaxconn");
    tree.set("proc/sys/net/core/somaxconn/inside", "1");
    assert_eq!(tree.look("somaxconn", 1, 1).verdict, Verdict::Unknown);
}

/// io_uring for one group only is fine for its members and for who has CAP_SYS_ADMIN, and for nobody else.
#[test]
fn io_uring_for_a_group() {
    let tree = Tree::laptop();
    tree.set("proc/sys/kernel/io_uring_disabled", "1\n");
    tree.set("proc/sys/kernel/io_uring_group", "99\n");
    assert_eq!(tree.look("io_uring_disabled", 1, 1).verdict, Verdict::Low);
    tree.set("proc/sys/kernel/io_uring_group", "27\n");
    assert_eq!(tree.look("io_uring_disabled", 1, 1).verdict, Verdict::Ok);
    tree.set("proc/sys/kernel/io_uring_group", "99\n");
    let status = "Gid:\t0\nGroups:\t\nCapEff:\t000001ffffffffff\n";
    tree.set("proc/self/status", status);
    assert_eq!(tree.look("io_uring_disabled", 1, 1).verdict, Verdict::Ok);
    // Before 6.6 there was no such switch; after, its absence cannot be explained.
    tree.remove("proc/sys/kernel/io_uring_disabled");
    assert_eq!(tree.look("io_uring_disabled", 1, 1).verdict, Verdict::Unknown);
    tree.set("proc/sys/kernel/osrelease", "6.1.0-30-amd64\n");
    assert_eq!(tree.look("io_uring_disabled", 1, 1).verdict, Verdict::Ok);
}

/// Old kernels are too low, and only those.
#[test]
fn kernels() {
    let tree = Tree::laptop();
    for (release, verdict) in [
        ("6.0.19", Verdict::Low),
        ("5.15.0-91-generic", Verdict::Low),
        ("6.1.0", Verdict::Ok),
        ("10.0", Verdict::Ok),
        ("unknown", Verdict::Unknown),
    ] {
        tree.set("proc/sys/kernel/osrelease", release);
        assert_eq!(tree.look("kernel", 1, 1).verdict, verdict, "{release}");
    }
}

/// Connection tracking limits where it tracks, and is only told where it has nothing to do.
#[test]
fn tracking() {
    let tree = Tree::laptop();
    assert_eq!(tree.look("nf_conntrack_max", 1_000_000, 1).found, "not loaded");
    tree.set("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
    tree.set("proc/sys/net/netfilter/nf_conntrack_count", "0\n");
    assert_eq!(tree.look("nf_conntrack_max", 1_000_000, 1).verdict, Verdict::Ok);
    tree.set("proc/sys/net/netfilter/nf_conntrack_count", "7\n");
    let finding = tree.look("nf_conntrack_max", 1_000_000, 1);
    assert_eq!((finding.verdict, finding.set.as_deref()), (Verdict::Low, Some("1250000")));
    assert_eq!(finding.memory, Memory::AtMost(1_250_000 * 264));
}

/// The queue for packets that change cores matters once packets do, or were dropped there.
#[test]
fn backlog() {
    let tree = Tree::laptop();
    assert_eq!(tree.look("netdev_max_backlog", 1, 1).verdict, Verdict::Ok);
    tree.set("proc/net/softnet_stat", "0011c53b 0000000a 00000001\n00115551 00000001 00000000\n");
    let finding = tree.look("netdev_max_backlog", 1, 1);
    assert_eq!((finding.verdict, finding.set.as_deref()), (Verdict::Slow, Some("8192")));
    assert_eq!(finding.note.as_deref(), Some("11 packets dropped since the host started"));
    tree.set("proc/net/softnet_stat", "0011c53b 00000000 00000001\n");
    tree.set("sys/class/net/lo/queues/rx-0/rps_cpus", "2\n");
    assert_eq!(tree.look("netdev_max_backlog", 1, 1).verdict, Verdict::Slow);
}

/// The SYN backlog matters without SYN cookies only, as the kernel looks at it only then.
#[test]
fn syn_backlog() {
    let tree = Tree::laptop();
    let finding = tree.look("tcp_max_syn_backlog", 1_000_000, 4);
    assert_eq!((finding.verdict, finding.set), (Verdict::Ok, None));
    tree.set("proc/sys/net/ipv4/tcp_syncookies", "0\n");
    let finding = tree.look("tcp_max_syn_backlog", 1_000_000, 4);
    assert_eq!((finding.verdict, finding.set.as_deref()), (Verdict::Slow, Some("65535")));
}

/// Locked memory: enough, enough to start but not to restart, too little, and hardly counted.
#[test]
fn locked_memory() {
    let tree = Tree::laptop();
    for (shards, verdict) in [(3, Verdict::Ok), (4, Verdict::Slow), (7, Verdict::Slow), (8, Verdict::Low)] {
        assert_eq!(tree.look("RLIMIT_MEMLOCK", 1, shards).verdict, verdict, "{shards}");
    }
    tree.set("proc/self/status", "CapEff:\t0000000000004000\n");
    assert_eq!(tree.look("RLIMIT_MEMLOCK", 1, 256).verdict, Verdict::Ok);
}

/// Interrupts, queues and steering on a server: each misplacement is found.
#[test]
fn cards() {
    let tree = Tree::server();
    for n in 0..16 {
        tree.set(&format!("proc/irq/{}/effective_affinity_list", 40 + n), "0\n");
    }
    let finding = tree.look("irq-affinity", 1, 16);
    assert_eq!((finding.verdict, finding.found.as_str()), (Verdict::Slow, "eth0 on 1 core"));
    tree.set("sys/class/net/eth0/queues/rx-3/rps_cpus", "ff\n");
    assert_eq!(tree.look("rps", 1, 16).verdict, Verdict::Slow);
    tree.set("sys/class/net/eth0/queues/tx-3/xps_cpus", "0\n");
    let finding = tree.look("xps", 1, 16);
    assert_eq!((finding.verdict, finding.found.as_str()), (Verdict::Slow, "eth0 15 of 16"));
    // A card that is down is not looked at.
    tree.set("sys/class/net/eth0/operstate", "down\n");
    assert_eq!(tree.look("rx-queues", 1, 16).verdict, Verdict::Unknown);
}

/// Shards on two nodes, and shards on the wrong one, are told; the card's node alone is fine.
#[test]
fn nodes() {
    let tree = Tree::server();
    tree.set("sys/devices/system/node/online", "0-1\n");
    tree.set("sys/devices/system/node/node0/cpulist", "0-7\n");
    tree.set("sys/devices/system/node/node1/cpulist", "8-15\n");
    assert_eq!(tree.look("numa", 1, 16).verdict, Verdict::Slow);
    assert_eq!(tree.look("numa", 1, 8).verdict, Verdict::Ok);
    tree.set("sys/class/net/eth0/device/numa_node", "1\n");
    let finding = tree.look("numa", 1, 8);
    assert_eq!((finding.verdict, finding.note.as_deref()), (Verdict::Slow, Some("eth0 is on a node without shards")));
}

/// Limits of another process are looked at when its number is given.
#[test]
fn another_process() {
    let tree = Tree::laptop();
    tree.set("proc/77/limits", "Max open files            64000                64000                files\n");
    let host = corecast_tuning::host::Host::at(tree.host().root(), Some(77));
    let [check] = checks::named("RLIMIT_NOFILE")[..] else { panic!("one check") };
    assert_eq!(check.finding(&host, &Ask { connections: 1, shards: 1 }).found, "64,000");
}

/// What one programs with says the same as what one reads.
#[test]
fn json() {
    let tree = Tree::laptop();
    let report = tree.report(10_000_000, 4);
    let json = report.json();
    assert_eq!((json["limited"].as_bool(), json["connections"].as_u64()), (Some(true), Some(10_000_000)));
    let rows = json["checks"].as_array().unwrap();
    assert_eq!(rows.len(), checks::all().count());
    let files = rows.iter().find(|row| row["name"] == "RLIMIT_NOFILE").unwrap();
    assert_eq!((files["verdict"].as_str(), files["found"].as_str()), (Some("low"), Some("524,288")));
    // 8 bytes for each of 4 x 1,048,576 entries.
    assert_eq!(files["memory_bytes"], 8 * 4 * 1_048_576);
}
