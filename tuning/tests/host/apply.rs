//! Raising limits and taking it back, on made-up hosts.

use std::fs;
use std::path::Path;

use crate::tree::Tree;
use corecast_tuning::apply::{self, FILE};
use corecast_tuning::check::Ask;

const RECORD: &str = "etc/sysctl.d/60-corecast.conf.undo";
const SOMAXCONN: &str = "proc/sys/net/core/somaxconn";
const TCP_MEM: &str = "proc/sys/net/ipv4/tcp_mem";

fn ask(connections: u64) -> Ask {
    Ask { connections, shards: 4 }
}

/// A laptop with a folder for its settings.
fn laptop() -> Tree {
    let tree = Tree::laptop();
    tree.set("etc/sysctl.d/README", "");
    tree
}

/// Applying shows what it does before it does it, then writes the file and the kernel; undoing leaves things as they were.
#[test]
fn there_and_back() {
    let tree = laptop();
    let plan = apply::raise(&tree.host(), &ask(1_000_000), None).unwrap();
    let text = plan.text();
    assert!(text.starts_with("--- /dev/null\n+++ ") && text.contains("\n+net.core.somaxconn = 65535\n"), "{text}");
    assert!(text.contains("\n  net.core.somaxconn: 4096 -> 65535\n"), "{text}");
    // A look changes nothing.
    assert_eq!((tree.get(FILE), tree.get(RECORD), tree.get(SOMAXCONN)), (None, None, Some("4096\n".to_owned())));

    let done = plan.commit().unwrap();
    assert_eq!((done.set.len(), done.failed.len()), (3, 0), "{done:?}");
    assert_eq!(tree.get(SOMAXCONN).unwrap(), "65535\n");
    // A quarter of 16,000,000 KiB are a million pages of 4 KiB: just enough.
    assert_eq!(tree.get(TCP_MEM).unwrap(), "500000 666666 1000000\n");
    let file = tree.get(FILE).unwrap();
    let lines: Vec<&str> = file.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = [
        "net.core.somaxconn = 65535",
        "net.ipv4.tcp_max_orphans = 1000000",
        "net.ipv4.tcp_mem = 500000 666666 1000000",
    ];
    assert_eq!(lines, expected);
    assert!(apply::raise(&tree.host(), &ask(1_000_000), None).unwrap().is_empty(), "once is enough");

    let plan = apply::undo(&tree.host(), None).unwrap();
    let text = plan.text();
    assert!(text.contains("+++ /dev/null") && text.contains("net.core.somaxconn: 65535 -> 4096"), "{text}");
    let done = plan.commit().unwrap();
    assert_eq!((done.set.len(), done.failed.len()), (3, 0), "{done:?}");
    assert_eq!((tree.get(FILE), tree.get(RECORD)), (None, None));
    assert_eq!(tree.get(SOMAXCONN).unwrap(), "4096\n");
    assert_eq!(tree.get(TCP_MEM).unwrap(), "180000 240000 360000\n");
    let problem = apply::undo(&tree.host(), None).unwrap_err();
    assert!(problem.cause.contains("nothing to undo"), "{problem}");
}

/// Raised twice, for more the second time, an undo still goes back to the very first values.
#[test]
fn twice_and_back() {
    let tree = laptop();
    let orphans = "proc/sys/net/ipv4/tcp_max_orphans";
    apply::raise(&tree.host(), &ask(100_000), None).unwrap().commit().unwrap();
    assert_eq!(tree.get(orphans).unwrap(), "100000\n");
    let plan = apply::raise(&tree.host(), &ask(2_000_000), None).unwrap();
    let text = plan.text();
    assert!(text.contains("\n-net.ipv4.tcp_max_orphans = 100000\n"), "{text}");
    assert!(text.contains("\n+net.ipv4.tcp_max_orphans = 2000000\n"), "{text}");
    plan.commit().unwrap();
    apply::undo(&tree.host(), None).unwrap().commit().unwrap();
    assert_eq!((tree.get(orphans).unwrap().as_str(), tree.get(FILE)), ("65536\n", None));
}

/// Nothing is ever lowered: neither what the kernel has, nor what our file says, nor one of several numbers.
#[test]
fn nothing_is_lowered() {
    let tree = laptop();
    tree.set(SOMAXCONN, "100000\n");
    tree.set(TCP_MEM, "600000 700000 800000\n");
    tree.set(FILE, "net.ipv4.tcp_max_orphans = 9000000\nnet.core.somaxconn = 100000\nmine = 1\n");
    apply::raise(&tree.host(), &ask(900_000), None).unwrap().commit().unwrap();
    assert_eq!(tree.get(SOMAXCONN).unwrap(), "100000\n");
    assert_eq!(tree.get(TCP_MEM).unwrap(), "600000 700000 900000\n");
    let file = tree.get(FILE).unwrap();
    for line in ["net.core.somaxconn = 100000", "net.ipv4.tcp_max_orphans = 9000000", "mine = 1"] {
        assert!(file.lines().any(|written| written == line), "{line}: {file}");
    }
    // What was in the file comes back with an undo.
    apply::undo(&tree.host(), None).unwrap().commit().unwrap();
    assert!(tree.get(FILE).unwrap().ends_with("mine = 1\n"));
}

/// What was changed by someone else in between is left alone by an undo, and said.
#[test]
fn undo_respects_others() {
    let tree = laptop();
    apply::raise(&tree.host(), &ask(1_000_000), None).unwrap().commit().unwrap();
    tree.set(SOMAXCONN, "50000\n");
    let plan = apply::undo(&tree.host(), None).unwrap();
    assert!(plan.text().contains("net.core.somaxconn is left alone: it is 50000 now"), "{}", plan.text());
    plan.commit().unwrap();
    assert_eq!(tree.get(SOMAXCONN).unwrap(), "50000\n");
    assert_eq!(tree.get("proc/sys/net/ipv4/tcp_max_orphans").unwrap(), "65536\n");
}

/// What the kernel does not take is told by name, the rest is set, and the record stays for another try.
#[test]
fn the_kernel_refuses() {
    let tree = laptop();
    let plan = apply::raise(&tree.host(), &ask(1_000_000), None).unwrap();
    // A folder cannot be written to, whoever tries: tests may run as root.
    tree.remove(SOMAXCONN);
    tree.set("proc/sys/net/core/somaxconn/inside", "");
    let done = plan.commit().unwrap();
    assert_eq!((done.set.len(), done.failed.len()), (2, 1), "{done:?}");
    assert_eq!(done.failed[0].0.name, "net.core.somaxconn");
    assert!(tree.get(FILE).is_some() && tree.get(RECORD).is_some());
}

/// Without a folder for the file nothing is changed, and the cure says what to do.
#[test]
fn no_folder() {
    let tree = Tree::laptop();
    let problem = apply::raise(&tree.host(), &ask(1_000_000), None).unwrap().commit().unwrap_err();
    assert!(problem.cause.contains("60-corecast.conf") && problem.cure.contains("make its folder"), "{problem}");
    assert_eq!(tree.get(SOMAXCONN).unwrap(), "4096\n");
}

/// The file can be elsewhere, and its record is beside it; no other file is left in its folder.
#[test]
fn another_file() {
    let (tree, folder) = (Tree::laptop(), tempfile::tempdir().unwrap());
    let file = folder.path().join("limits.conf");
    apply::raise(&tree.host(), &ask(1_000_000), Some(&file)).unwrap().commit().unwrap();
    assert_eq!(names(folder.path()), ["limits.conf", "limits.conf.undo"]);
    apply::undo(&tree.host(), Some(&file)).unwrap().commit().unwrap();
    assert_eq!(names(folder.path()), [""; 0]);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A record that is none is never written over: it may be all that is known of what was before.
#[test]
fn a_broken_record() {
    let tree = laptop();
    for text in ["", "{}", r#"{"format":"corecast-tune-undo","version":2,"file_before":null,"values":[]}"#] {
        tree.set(RECORD, text);
        for problem in [
            apply::raise(&tree.host(), &ask(1_000_000), None).unwrap_err(),
            apply::undo(&tree.host(), None).unwrap_err(),
        ] {
            assert!(problem.cause.contains("is not a record"), "{text}: {problem}");
        }
        assert_eq!(tree.get(RECORD).as_deref(), Some(text));
    }
}

/// Settings that come after ours at boot and say less are told, those that say more are not.
#[test]
fn overruled_at_boot() {
    let tree = laptop();
    tree.set(
        "etc/sysctl.d/99-mine.conf",
        "# net.core.somaxconn = 1\nnet/core/somaxconn=128\nnet.ipv4.tcp_max_orphans = 9000000\n",
    );
    tree.set("etc/sysctl.d/10-early.conf", "net.core.somaxconn = 64\n");
    let text = apply::raise(&tree.host(), &ask(1_000_000), None).unwrap().text();
    assert!(text.contains("note: /etc/sysctl.d/99-mine.conf sets net.core.somaxconn = 128 after ours"), "{text}");
    assert!(!text.contains("10-early") && !text.contains("9000000 after"), "{text}");
}

/// A module that may not be loaded at boot does not make the settings fail there; its line is still known as ours.
#[test]
fn tracking_is_optional() {
    let tree = laptop();
    tree.set("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
    tree.set("proc/sys/net/netfilter/nf_conntrack_count", "7\n");
    apply::raise(&tree.host(), &ask(1_000_000), None).unwrap().commit().unwrap();
    assert!(tree.get(FILE).unwrap().contains("\n-net.netfilter.nf_conntrack_max = 1250000\n"));
    tree.set("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
    let plan = apply::raise(&tree.host(), &ask(2_000_000), None).unwrap();
    let text = plan.text();
    assert!(text.contains("+-net.netfilter.nf_conntrack_max = 2500000\n"), "{text}");
    assert_eq!(text.matches("+-net.netfilter").count(), 1, "{text}");
}

/// What cannot be read is left alone, and said.
#[test]
fn unreadable_values() {
    let tree = laptop();
    tree.set(TCP_MEM, "lots\n");
    let plan = apply::raise(&tree.host(), &ask(1_000_000), None).unwrap();
    assert!(
        plan.text().contains("net.ipv4.tcp_mem is left alone: /proc/sys/net/ipv4/tcp_mem holds `lots`"),
        "{}",
        plan.text()
    );
    assert!(plan.changes.iter().all(|change| change.name != "net.ipv4.tcp_mem"));
}
