//! What the program leaves behind: files, text on the terminal, exit status. The server is in this process, so that it is
//! another one's for the program.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use corecast::io::unix::UnixAccess;
use corecast::node::{Node, Settings};
use corecast::shard::Limits;
use corecast_loadgen::Report;
use corecast_loadgen::report::Kind;
use corecast_tuning::constants::ConstantsFile;

/// A node; it ends with the test.
struct Engine(Option<Node>);

impl Engine {
    fn start() -> Engine {
        Engine::with(Limits::default())
    }

    fn with(limits: Limits) -> Engine {
        let settings = Settings {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()],
            shards: 1,
            cores: Vec::new(),
            connections: 2_000,
            memory_bytes: 64 << 20,
            limits,
            doors: Vec::new(),
            unix: UnixAccess::default(),
            finish_ms: 2_000,
        };
        Engine(Some(Node::start(&settings).unwrap()))
    }

    fn published(&self) -> u64 {
        self.0.as_ref().unwrap().board().read(0).published
    }

    fn address(&self) -> String {
        self.0.as_ref().unwrap().addresses()[0].to_string()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(node) = self.0.take() {
            node.stop(Duration::ZERO);
            node.join().unwrap();
        }
    }
}

/// A folder of its own, which goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("corecast-load-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corecast-load")).args(arguments).output().unwrap()
}

/// A run leaves the text on stdout, all files that were asked for, and nothing on a stderr that is no terminal; the server
/// is found by its port, and what it used is told.
#[test]
fn a_run_leaves_what_was_asked_for() {
    let (engine, folder) = (Engine::start(), Folder::new("files"));
    let (json, html, hgrm) = (folder.path("run.json"), folder.path("run.html"), folder.path("run.hgrm"));
    let output = load(&[
        "--connect",
        &engine.address(),
        "--connections",
        "60",
        "--rate",
        "50",
        "--seconds",
        "1.5",
        "--json",
        &json,
        "--html",
        &html,
        "--hgrm",
        &hgrm,
    ]);
    let (text, noise) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && text.ends_with("\nfine\n"), "{text}{noise}");
    assert_eq!(noise, "", "nothing where nobody looks");
    let report = Report::from_json(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(text, format!("{report}\n"), "the text is that of the stored report");
    let publish = report.phase(Kind::Publish).unwrap();
    let server = publish.server.as_ref().expect("a server in this process is found by its port");
    assert_eq!(server.pid, std::process::id(), "{:?}", report.notes);
    assert!(server.cpu_ns > 0 && server.resident_bytes_after > Some(0), "{server:?}");
    let rows = &publish.series.rows;
    let published: u64 = rows.iter().map(|row| row.published_messages).sum();
    assert!(rows.len() >= 2 && published == 75, "a second and a half, or more if it was kept waiting: {rows:?}");
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("<figcaption>Latency</figcaption>") && page.contains("<strong>Fine.</strong>"));
    let percentiles = std::fs::read_to_string(folder.path("run.2-publish-latency.hgrm")).unwrap();
    assert!(percentiles.contains("Total count    =         4500]"), "{percentiles}");
}

/// An interrupted run reports what it has, says where it ended, and exits with 1; what was sent by then is not called lost.
#[test]
fn an_interruption_keeps_what_there_is() {
    for signal in ["INT", "TERM"] {
        let (engine, folder) = (Engine::start(), Folder::new(signal));
        let json = folder.path("run.json");
        let address = engine.address();
        let words =
            ["--connect", &address, "--connections", "50", "--rate", "200", "--seconds", "600", "--json", &json];
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_corecast-load")).args(words).stdout(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while engine.published() < 20 {
            assert!(Instant::now() < deadline, "nothing is published");
            std::thread::sleep(Duration::from_millis(10));
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{text}");
        let report = Report::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
        assert_eq!(report.interrupted.as_deref(), Some("publish"), "{text}");
        assert_eq!(report.problems(), ["interrupted in publish: the rest was not tried"]);
        assert!(report.counts().delivered >= 20 * 50 && report.counts().lost == 0, "{text}");
        assert!(text.contains("interrupted in publish"), "{text}");
    }
}

/// A report that cannot be written is told, with the name of its file, and the text is there all the same.
#[test]
fn a_file_that_cannot_be_written() {
    let engine = Engine::start();
    let output = load(&["--connect", &engine.address(), "--messages", "1", "--html", "/nonexistent/page.html"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent/page.html"));
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("\nfine\n"));
}

/// With `--json -` stdout holds nothing but JSON.
#[test]
fn nothing_but_json() {
    let engine = Engine::start();
    let output = load(&["--connect", &engine.address(), "--connections", "5", "--messages", "3", "--json", "-"]);
    let report = Report::from_json(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(report.counts().delivered, 15);
}

/// Calibrating tells every cost it can, and writes those of them that the planner has.
#[test]
fn calibrating_writes_constants() {
    let (engine, folder) = (Engine::with(Limits { ping_ms: 200, ..Limits::default() }), Folder::new("constants"));
    let out = folder.path("constants.json");
    let address = engine.address();
    let few = ["--connections", "100", "--rounds", "1", "--ping-seconds", "1"];
    let output = load(&[&["calibrate", "--connect", &address, "--out", &out][..], &few].concat());
    let (text, noise) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{text}{noise}");
    for name in ["cpu_ns_per_delivery_websocket ", "cpu_ns_per_connect ", "stream_bytes_per_delivery_websocket_line "] {
        assert!(text.contains(name), "{name} in {text}");
    }
    let file = ConstantsFile::read(&std::fs::read_to_string(out).unwrap()).unwrap();
    assert!(file.constants.cpu_ns_per_ping.is_some(), "{file:?} {text}");
    assert!(file.constants.cpu_ns_per_connect.is_some() && file.constants.cpu_ns_per_delivery.len() == 3, "{file:?}");
}

/// Without a server there is nothing to calibrate.
#[test]
fn calibrating_needs_a_server() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = load(&["calibrate", "--connect", &free]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cure:"));
    for seconds in ["-1", "NaN", "4000"] {
        let output = load(&["calibrate", "--connect", &free, &format!("--ping-seconds={seconds}")]);
        assert_eq!(output.status.code(), Some(2), "{seconds}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("--ping-seconds must be"), "{seconds}");
    }
}
