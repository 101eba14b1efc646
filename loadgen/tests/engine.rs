//! The load generator against the engine itself, and against servers that are not there or not well.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use corecast::node::{Node, Settings};
use corecast::shard::Limits;
use corecast_loadgen::report::Kind;
use corecast_loadgen::{Load, Plan, Protocol, Publish, Report, run};

/// A node on two shards, with echo; it ends with the test.
struct Engine(Option<Node>);

impl Engine {
    fn start() -> Engine {
        let settings = Settings {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            shards: 2,
            cores: Vec::new(),
            connections: 2_000,
            memory_bytes: 64 << 20,
            limits: Limits { echo: true, ..Limits::default() },
            drain_ms: 2_000,
        };
        Engine(Some(Node::start(&settings).unwrap()))
    }

    fn plan(&self) -> Plan {
        Plan {
            connect: self.0.as_ref().unwrap().addresses().to_vec(),
            connections: 120,
            topics: 7,
            load: Load::Open { rate: 400.0 },
            messages: Some(200),
            seconds: None,
            ..Plan::default()
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(node) = self.0.take() {
            node.stop();
            node.join().unwrap();
        }
    }
}

/// Every way to subscribe and to publish delivers everything, in open and closed loop, from one and several workers.
#[test]
fn every_way_delivers_everything() {
    let engine = Engine::start();
    for protocol in [Protocol::Line, Protocol::Raw] {
        for publish in [Publish::Ws, Publish::Http] {
            for (load, workers) in [(Load::Open { rate: 400.0 }, 1), (Load::Closed { in_flight: 8 }, 3)] {
                let plan = Plan { protocol, publish, load, workers, ..engine.plan() };
                let report = run(&plan, &mut || {}).unwrap();
                assert!(report.fine(), "{protocol:?} {publish:?} {load:?}: {report}");
                // 200 messages to 7 topics: 4 of them get 29, and 3 get 28. Of 120 subscribers, topic 0 has 18.
                assert_eq!(report.published_messages(), 200);
                assert_eq!(report.counts().delivered, 18 * 29 + 17 * (3 * 29 + 3 * 28));
                let publish = report.phase(Kind::Publish).unwrap();
                assert_eq!(publish.latency.len(), publish.counts.delivered);
                assert_eq!(publish.expected_messages, publish.counts.delivered);
                assert_eq!(publish.spread.len(), 200);
                let by_second: u64 = publish.series.rows.iter().map(|row| row.delivered_messages).sum();
                assert_eq!(by_second, publish.counts.delivered, "every delivery is in a row");
                assert_eq!(publish.series.rows.iter().map(|row| row.published_messages).sum::<u64>(), 200);
                assert_eq!(Report::from_json(&report.to_json()).unwrap(), report);
            }
        }
    }
}

/// Echo round trips are counted and checked, in both loops.
#[test]
fn echoes_are_witnessed() {
    let engine = Engine::start();
    for load in [Load::Open { rate: 3_000.0 }, Load::Closed { in_flight: 2 }] {
        let plan = Plan { echo: true, bytes: 64, load, workers: 2, messages: Some(1_200), ..engine.plan() };
        let report = run(&plan, &mut || {}).unwrap();
        assert!(report.fine(), "{load:?}: {report}");
        assert_eq!((report.published_messages(), report.counts().delivered), (1_200, 1_200));
    }
}

/// A run that is limited by time ends, complete; one that publishes nothing holds its connections meanwhile.
#[test]
fn time_limits_a_run() {
    let engine = Engine::start();
    for load in [Load::Closed { in_flight: 1 }, Load::Open { rate: 500.0 }, Load::Idle] {
        for echo in [false, true] {
            let plan = Plan { load, echo, messages: None, seconds: Some(0.3), ..engine.plan() };
            let mut connected = 0;
            let report = run(&plan, &mut || connected += 1).unwrap();
            assert!(report.fine(), "{load:?} {echo}: {report}");
            assert_eq!((connected, report.phases[0].connections_made), (1, 120));
            assert_eq!(report.published_messages() == 0, load == Load::Idle, "{load:?} {echo}: {report}");
        }
    }
}

/// The ramp keeps its pace.
#[test]
fn ramp_keeps_its_pace() {
    let engine = Engine::start();
    let plan = Plan { ramp: Some(400), load: Load::Idle, messages: None, seconds: Some(0.0), ..engine.plan() };
    let report = run(&plan, &mut || {}).unwrap();
    assert!(report.fine() && report.phases[0].connect_seconds > 0.28, "120 connections at 400/s: {report}");
}

/// A server that is not there is a reason not to start, with cause and cure.
#[test]
fn nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = Plan { connect: vec![free], ..Plan::default() };
    let reason = run(&plan, &mut || {}).unwrap_err();
    assert!(reason.cause.contains("refused") && reason.cure.contains("start the server"), "{reason}");
}

/// A server that is no WebSocket server is a reason not to start.
#[test]
fn not_a_websocket_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = Plan { connect: vec![listener.local_addr().unwrap()], connections: 3, ..Plan::default() };
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
        // Until the client goes away.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let reason = run(&plan, &mut || {}).unwrap_err();
    assert!(reason.cause.contains("status 404"), "{reason}");
    server.join().unwrap();
}

/// When the server goes away in the middle, what was lost is counted, connection by connection, and the run ends.
#[test]
fn server_goes_away() {
    let engine = Engine::start();
    let plan =
        Plan { load: Load::Open { rate: 200.0 }, messages: None, seconds: Some(1.0), patience_s: 0.3, ..engine.plan() };
    let mut engine = Some(engine);
    let mut stopper = None;
    let report = run(&plan, &mut || {
        let engine = engine.take();
        stopper = Some(thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(400));
            drop(engine);
        }));
    })
    .unwrap();
    stopper.unwrap().join().unwrap();
    assert!(!report.fine());
    assert_eq!(report.connections_failed(), 121, "all subscribers and the publisher: {report}");
    assert!(report.counts().lost > 0 && report.counts().delivered > 0, "{report}");
    assert!(report.faults.iter().any(|fault| fault.contains("1001")), "{:?}", report.faults);
}
