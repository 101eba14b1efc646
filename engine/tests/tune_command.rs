//! `corecast tune` and `corecast plan` from the outside, on a made-up host, and the numbers they share with the engine.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corecast::config::{Config, Host};
use corecast::io::{check, listen, rest, ring};
use corecast::mesh::Packet;
use corecast::shard::Limits;
use corecast_tuning::constants::{Calibrated, ConstantsFile, Measured};
use corecast_tuning::needs;
use serde_json::Value;

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_corecast")).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

/// A folder of this test's own, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("corecast-tune-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn set(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A host that holds 1,000 connections, with a queue of 128 for new ones.
fn small_host(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.set("proc/self/limits", "Max open files            1024                 4096                 files\n");
    folder.set("proc/self/status", "Cpus_allowed_list:\t0-1\nSeccomp:\t0\n");
    folder.set("proc/meminfo", "MemTotal:       2000000 kB\n");
    folder.set("proc/sys/net/core/somaxconn", "128\n");
    folder.set("etc/sysctl.d/README", "");
    folder
}

/// `check` ends with 0 if nothing limits the number, with 1 and the names if something does; JSON says the same.
#[test]
fn check_tells_by_its_status() {
    let host = small_host("check");
    let (status, out, errors) = run(&["tune", "check", "--root", host.path(), "--connections", "1k"]);
    assert_eq!((status, errors.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("1,000 connections on 2 shards\n"), "{out}");
    assert!(
        out.contains("\nslow         net.core.somaxconn") && out.contains("cannot tell  net.ipv4.tcp_mem"),
        "{out}"
    );
    let (status, out, errors) = run(&["tune", "check", "--root", host.path(), "--connections", "1M", "--json"]);
    assert_eq!(status, 1, "{out}");
    assert_eq!(errors, "error: too low here for 1,000,000 connections: RLIMIT_NOFILE, memory\n");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["limited"], &json["shards"]), (&true.into(), &2.into()));
}

/// `explain` explains one setting, lists all, and refuses what it does not know.
#[test]
fn explain_explains() {
    let host = small_host("explain");
    let (status, out, _) = run(&["tune", "explain", "somaxconn", "--root", host.path(), "--shards", "1"]);
    assert_eq!(status, 0);
    assert!(out.contains("slow: 128 found, 65,535 wanted for 1,000,000 connections on 1 shard"), "{out}");
    assert!(out.contains("(source: listen(2)"), "{out}");
    let (status, out, _) = run(&["tune", "explain"]);
    assert!(status == 0 && out.contains("net.ipv4.tcp_mem  ") && out.contains("mitigations  "), "{out}");
    let (status, _, errors) = run(&["tune", "explain", "tcp_memm"]);
    assert_eq!(status, 2);
    assert!(errors.contains("there is no setting `tcp_memm`") && errors.contains("lists them"), "{errors}");
}

/// `apply` only shows what it would do, does it with `--yes`, and takes it back with `--undo --yes`.
#[test]
fn apply_there_and_back() {
    let host = small_host("apply");
    let (value, file) = (host.0.join("proc/sys/net/core/somaxconn"), host.0.join("etc/sysctl.d/60-corecast.conf"));
    let apply = |more: &[&str]| {
        let (status, out, errors) = run(&[&["tune", "apply", "--root", host.path()], more].concat());
        assert_eq!(status, 0, "{out}{errors}");
        out
    };
    let out = apply(&[]);
    assert!(
        out.contains("+net.core.somaxconn = 65535") && out.ends_with("nothing was changed: --yes does it\n"),
        "{out}"
    );
    assert!(!file.exists());
    let out = apply(&["--yes"]);
    assert!(out.ends_with("1 set in the running kernel, 0 failed\n"), "{out}");
    assert_eq!(fs::read_to_string(&value).unwrap(), "65535\n");
    assert!(fs::read_to_string(&file).unwrap().ends_with("\nnet.core.somaxconn = 65535\n"));
    let out = apply(&["--yes"]);
    assert!(out.ends_with("nothing to change\n"), "{out}");
    let out = apply(&["--undo"]);
    assert!(out.contains("net.core.somaxconn: 65535 -> 128") && file.exists(), "{out}");
    apply(&["--undo", "--yes"]);
    assert_eq!((fs::read_to_string(&value).unwrap().as_str(), file.exists()), ("128\n", false));
    let (status, _, errors) = run(&["tune", "apply", "--root", host.path(), "--undo"]);
    assert!(status == 2 && errors.contains("there is nothing to undo"), "{errors}");
}

/// What the kernel does not take ends with status 1 and its name; a file that cannot be written with 2 and the cure.
#[test]
fn apply_fails_loudly() {
    let host = small_host("refused");
    let nowhere = host.0.join("nowhere/at/all.conf");
    let (status, _, errors) =
        run(&["tune", "apply", "--root", host.path(), "--yes", "--file", nowhere.to_str().unwrap()]);
    assert!(status == 2 && errors.contains("cure: make its folder, or say --file"), "{errors}");
    // A value that can be read and not written, whoever tries: a link to a file of the kernel's own.
    let value = host.0.join("proc/sys/net/core/somaxconn");
    fs::remove_file(&value).unwrap();
    std::os::unix::fs::symlink("/proc/sys/kernel/cap_last_cap", &value).unwrap();
    let (status, out, errors) = run(&["tune", "apply", "--root", host.path(), "--yes"]);
    assert_eq!(status, 1, "{out}{errors}");
    assert!(errors.contains("the kernel did not take net.core.somaxconn = 65535: "), "{errors}");
}

/// A plan is printed with its constants and their origin; JSON has the same numbers; a file of constants replaces some.
#[test]
fn plan_plans() {
    let ask = ["plan", "--connections", "10M", "--rate", "1/60", "--bytes", "512", "--transport", "websocket"];
    let (status, out, errors) = run(&ask);
    assert_eq!((status, errors.as_str()), (0, ""));
    assert!(out.starts_with("10,000,000 connections over websocket, a message of 512 bytes each 60.0 s"), "{out}");
    assert!(out.contains("166,667/s x 8.40 µs") && out.contains("constants: those shipped"), "{out}");
    let (_, out, _) = run(&[&ask[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["cores"], &json["shards"], &json["files"]), (&11.into(), &11.into(), &1_000_000.into()));

    let folder = Folder::new("plan");
    let measured = Some(Measured::new(4_200.0, "measured here"));
    let file =
        ConstantsFile::new("a test", Calibrated { cpu_ns_per_delivery_websocket: measured, ..Calibrated::default() });
    folder.set("here.json", &file.text());
    let path = folder.0.join("here.json");
    let (status, out, errors) = run(&[&ask[..], &["--constants", path.to_str().unwrap()]].concat());
    assert_eq!((status, errors.as_str()), (0, ""));
    assert!(out.contains("166,667/s x 4.20 µs") && out.contains("measured on a test"), "{out}");
    assert!(out.contains("measured here"), "{out}");
}

/// Nonsense and impossible wishes end with status 2, nothing on stdout, and what is wrong.
#[test]
fn nonsense_is_status_2() {
    for (arguments, expected) in [
        (&["plan"] as &[&str], "--connections"),
        (&["plan", "--connections", "0"], "`0` is nothing"),
        (&["plan", "--connections", "-5"], "-5"),
        (&["plan", "--connections", "many"], "`many` is not a count"),
        (&["plan", "--connections", "1M", "--rate", "1/0"], "`1/0` is not a rate"),
        (&["plan", "--connections", "1M", "--rate", "1000000"], "--rate is that of one connection"),
        (&["plan", "--connections", "1M", "--rate", "5000"], "cores"),
        (&["plan", "--connections", "1M", "--bytes", "1G"], "the engine takes at most 16M"),
        (&["plan", "--connections", "1M", "--transport", "pigeon"], "expected one of websocket, websocket-line"),
        (&["plan", "--connections", "10", "--topics", "11"], "11 topics for 10 connections"),
        (&["plan", "--connections", "1G"], "one engine runs at most 256"),
        (&["plan", "--connections", "1M", "--ping-interval", "25"], "`25` is not a time"),
        (&["plan", "--connections", "1M", "--constants", "/nowhere.json"], "cannot read /nowhere.json"),
        (&["tune"], "Usage"),
        (&["tune", "check", "--shards", "0"], "0 is not in 1..=256"),
        (&["tune", "check", "--connections", "1e6"], "`1e6` is not a count"),
        (&["tune", "check", "--pid", "4294967295"], "there is no process 4294967295"),
        (&["tune", "apply", "--root", "/nowhere", "--undo"], "nothing to undo"),
    ] {
        let (status, out, errors) = run(arguments);
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}

/// The host these tests run on can be checked, and what it is told about its kernel is what the engine finds too.
#[test]
fn this_host() {
    let (status, out, errors) = run(&["tune", "check", "--connections", "1", "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &json["limited"]), (0, &false.into()), "{out}{errors}");
    let kernel = &json["checks"][0];
    assert_eq!(kernel["found"].as_str().unwrap(), check::gather(1, 0).unwrap().release);
}

/// What the checks and plans take for the engine's needs is what the engine needs.
#[test]
fn needs_are_those_of_the_engine() {
    assert_eq!(needs::KERNEL_MIN, check::KERNEL_MIN);
    assert_eq!(needs::SLOTS_MAX, u64::from(ring::SLOTS_MAX));
    assert_eq!(needs::SUBMISSIONS, u64::from(ring::SUBMISSIONS));
    assert_eq!(needs::DESCRIPTORS_BASE, check::DESCRIPTORS_BASE);
    assert_eq!(needs::DESCRIPTORS_PER_SHARD, check::DESCRIPTORS_PER_SHARD);
    assert_eq!(needs::LOCKED_BYTES_MIN, check::LOCKED_BYTES_MIN);
    assert_eq!(needs::LOCKED_BYTES_PER_SHARD, check::LOCKED_BYTES_PER_SHARD);
    assert_eq!(needs::BACKLOG, listen::BACKLOG as u64);
    assert_eq!(needs::NOTSENT_BYTES, listen::NOTSENT_BYTES_MAX as u64);
    assert_eq!(needs::SPIN_US_MAX, u64::from(rest::SPIN_US_MAX));
    assert_eq!(needs::PACKET_BYTES_MAX, Packet::bytes_max(needs::MESSAGE_BYTES_DEFAULT as usize) as u64);
    for shards_per_core in [1, 2, 3, 28, 256] {
        let ring = ring::RingConfig::shared_by(shards_per_core);
        let buffer_bytes = u64::from(ring.buffers) * u64::from(ring.buffer_bytes);
        assert_eq!(needs::buffer_bytes(shards_per_core as u64), buffer_bytes);
        let ring_bytes = Limits::default().ring_bytes(shards_per_core) as u64;
        assert_eq!(needs::ring_bytes(shards_per_core as u64), ring_bytes);
    }
    let config = Config::default_on(&Host { cores: vec![0], memory_bytes: 8 << 30 });
    assert_eq!(needs::MESSAGE_BYTES_DEFAULT, u64::from(config.message_bytes_max));
    assert_eq!(needs::HISTORY_MESSAGES, u64::from(config.history_messages));
    assert_eq!(needs::HISTORY_BYTES, u64::from(config.history_bytes));
    assert_eq!(needs::HISTORY_SECONDS, u64::from(config.history_seconds));
    assert_eq!(needs::PING_SECONDS * 1_000, config.ping_interval_ms);
    assert_eq!((needs::STREAM_SECONDS * 1_000, needs::STREAM_BYTES), (config.stream_ms, config.stream_bytes));
    // The bounds of two settings, as `serve` itself says them.
    let (_, _, errors) = run(&["check", "--shards", "0"]);
    assert!(errors.contains(&format!("1 to {}", needs::SHARDS_MAX)), "{errors}");
    let (_, _, errors) = run(&["check", "--max-message", "0"]);
    assert!(errors.contains(&format!("1 to {}M", needs::MESSAGE_BYTES_MAX >> 20)), "{errors}");
}

/// The unit asks for what the engine can use, and leaves it time to stop.
#[test]
fn the_unit_fits() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning/corecast.service");
    let unit = fs::read_to_string(path).unwrap();
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    assert_eq!(value("LimitNOFILE").unwrap(), needs::SLOTS_MAX.to_string());
    let locked: u64 = value("LimitMEMLOCK").unwrap().strip_suffix('M').unwrap().parse().unwrap();
    assert!(locked << 20 >= 2 * (needs::LOCKED_BYTES_MIN + 127 * needs::LOCKED_BYTES_PER_SHARD));
    let stop: u64 = value("TimeoutStopSec").unwrap().strip_suffix('s').unwrap().parse().unwrap();
    let config = Config::default_on(&Host { cores: vec![0], memory_bytes: 8 << 30 });
    assert!(stop * 1_000 > config.shutdown_timeout_ms + 2_000, "it is killed before it has stopped");
    let calls = unit.lines().filter(|line| line.starts_with("SystemCallFilter=") && !line.contains('~'));
    assert_eq!(calls.clone().next(), Some("SystemCallFilter=@system-service"), "which includes io_uring");
    assert!(calls.skip(1).all(|line| line.contains("prlimit64") && line.contains("sched_setaffinity")));
}
