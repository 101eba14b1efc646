//! The load generator against the baselines: servers that share no code with it.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use corecast_loadgen::{Load, Phase, Plan, Transport, run};

struct Server {
    child: Child,
    plan: Plan,
}

impl Server {
    fn start(program: &str) -> Server {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--slots", "1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("says where it listens").parse().unwrap();
        let plan = Plan {
            connect: vec![address],
            transport: Transport::Raw,
            connections: 300,
            phases: messages(Load::Closed { in_flight: 4 }, 100),
            server_pid: Some(child.id()),
            ..Plan::default()
        };
        Server { child, plan }
    }
}

fn messages(load: Load, count: u64) -> Vec<Phase> {
    Plan::connect_then(Phase { messages: Some(count), ..Phase::publish(load) })
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The plain fan-out delivers everything, and its CPU time is told.
#[test]
fn fan_out_is_witnessed() {
    let server = Server::start(env!("CARGO_BIN_EXE_bare-fanout"));
    let report = run(&server.plan, &mut || {}).unwrap();
    assert!(report.fine(), "{report}");
    assert_eq!(report.counts().delivered, 300 * 100);
    assert!(report.phases[1].server_cpu_ns_per_delivery().unwrap() > 100.0, "{report}");
}

/// The plain epoll fan-out delivers everything to subscribers of several topics, a round at once.
#[test]
fn topics_are_witnessed() {
    let server = Server::start(env!("CARGO_BIN_EXE_epoll-fanout"));
    let together = Phase { together: Some(16), messages: Some(160), ..Phase::publish(Load::Closed { in_flight: 16 }) };
    let plan = Plan { transport: Transport::Line, topics: 16, topics_each: 16, ..server.plan.clone() };
    let report = run(&Plan { phases: Plan::connect_then(together), ..plan }, &mut || {}).unwrap();
    assert!(report.fine(), "{report}");
    assert_eq!(report.counts().delivered, 300 * 160);
}

/// A server that mixes up topics, as the plain fan-out does when there are several, is found out.
#[test]
fn mixed_up_topics_are_found_out() {
    let server = Server::start(env!("CARGO_BIN_EXE_bare-fanout"));
    let phases = messages(Load::Open { rate: 1_000.0 }, 100);
    let plan = Plan { topics: 2, patience_seconds: 0.5, phases, ..server.plan.clone() };
    let report = run(&plan, &mut || {}).unwrap();
    assert_eq!((report.counts().delivered, report.counts().corrupted), (300 * 50, 300 * 50), "{report}");
    assert!(!report.fine());
}

/// Both plain echoes echo.
#[test]
fn echoes_are_witnessed() {
    for program in [env!("CARGO_BIN_EXE_bare-echo"), env!("CARGO_BIN_EXE_epoll-echo")] {
        let server = Server::start(program);
        let phases = messages(Load::Closed { in_flight: 4 }, 6_000);
        let plan = Plan { transport: Transport::Echo, bytes: 64, phases, ..server.plan.clone() };
        let report = run(&plan, &mut || {}).unwrap();
        assert!(report.fine(), "{program}: {report}");
        assert_eq!(report.counts().delivered, 6_000);
    }
}
