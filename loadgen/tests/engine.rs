//! The load generator against the engine itself, and against servers that are not there or not well.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use corecast::config::Listen;
use corecast::edge::{Certificates, ClientAuth, Door, Identity, Serving};
use corecast::io::unix::UnixAccess;
use corecast::node::{Node, Settings};
use corecast::shard::Limits;
use corecast_loadgen::report;
use corecast_loadgen::{
    Audience, Gaps, Generic, Kind, Load, Phase, Plan, Publish, Report, Scenario, Slow, Tls, Transport, run,
};

/// A node with echo, on two shards if nothing else is said; it ends with the test.
struct Engine(Option<Node>);

impl Engine {
    fn start() -> Engine {
        Engine::with_shards(2)
    }

    fn with_shards(shards: usize) -> Engine {
        Engine::with(shards, Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into()), Door::default())
    }

    fn with(shards: usize, listen: Listen, door: Door) -> Engine {
        let settings = Settings {
            listen: vec![listen],
            shards,
            cores: Vec::new(),
            connections: 2_000,
            memory_bytes: (shards as u64) << 25,
            limits: Limits { echo: true, ..Limits::default() },
            doors: vec![door],
            unix: UnixAccess::default(),
            finish_ms: 2_000,
        };
        Engine(Some(Node::start(&settings).unwrap()))
    }

    fn plan(&self) -> Plan {
        Plan {
            connect: self.0.as_ref().unwrap().addresses().iter().filter_map(Listen::socket).collect(),
            connections: 120,
            topics: 7,
            phases: messages(Load::Open { rate: 400.0 }, 200),
            ..Plan::default()
        }
    }
}

fn messages(load: Load, count: u64) -> Vec<Phase> {
    Plan::connect_then(Phase { messages: Some(count), ..Phase::publish(load) })
}

fn seconds(load: Load, seconds: f64) -> Vec<Phase> {
    Plan::connect_then(Phase { seconds: Some(seconds), ..Phase::publish(load) })
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(node) = self.0.take() {
            node.stop(std::time::Duration::ZERO);
            node.join().unwrap();
        }
    }
}

/// Every way to subscribe and to publish delivers everything, in open and closed loop, from one and several workers.
#[test]
fn every_way_delivers_everything() {
    let engine = Engine::start();
    for transport in [Transport::Line, Transport::Raw, Transport::Sse, Transport::LongPoll] {
        for publish in [Publish::Ws, Publish::Http] {
            for (load, workers) in [(Load::Open { rate: 400.0 }, 1), (Load::Closed { in_flight: 8 }, 3)] {
                let plan = Plan { transport, publish, workers, phases: messages(load, 200), ..engine.plan() };
                let report = run(&plan, &mut || {}).unwrap();
                assert!(report.fine(), "{transport:?} {publish:?} {load:?}: {report}");
                // 200 messages to 7 topics: 4 of them get 29, and 3 get 28. Of 120 subscribers, topic 0 has 18.
                assert_eq!(report.published_messages(), 200);
                assert_eq!(report.counts().delivered, 18 * 29 + 17 * (3 * 29 + 3 * 28));
                let publish = report.phase(report::Kind::Publish).unwrap();
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

/// Over TLS every way delivers everything, too, also to those who come back; a server whose certificate is not believed is said to be that.
#[test]
fn tls_delivers_everything() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (ca, key_path) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&ca, own.pem()).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    let identity = Identity {
        certificates: vec![ca.clone()],
        keys: vec![key_path],
        client_ca: None,
        client_auth: ClientAuth::Off,
    };
    let tls = Some(Certificates::new(&Serving::load(&identity, None).unwrap()));
    let engine = Engine::with(2, Listen::Tls((Ipv4Addr::LOCALHOST, 0).into()), Door { tls, proxy: false });
    let tls = Some(Tls { ca, name: "localhost".to_owned() });
    for transport in [Transport::Line, Transport::Raw, Transport::Sse, Transport::LongPoll] {
        for publish in [Publish::Ws, Publish::Http] {
            let phases = messages(Load::Closed { in_flight: 8 }, 200);
            let plan = Plan { transport, publish, workers: 2, bytes: 3_000, tls: tls.clone(), phases, ..engine.plan() };
            let report = run(&plan, &mut || {}).unwrap();
            assert!(report.fine(), "{transport:?} {publish:?}: {report}");
            assert_eq!(report.counts().delivered, 18 * 29 + 17 * (3 * 29 + 3 * 28));
        }
    }
    let phases = vec![Phase::connect(), Phase::new(Kind::Reconnect)];
    let report = run(&Plan { phases, tls: tls.clone(), ..engine.plan() }, &mut || {}).unwrap();
    assert!(report.fine(), "{report}");
    let other = tls.map(|tls| Tls { name: "example.com".to_owned(), ..tls });
    let report = run(&Plan { tls: other, patience_seconds: 0.5, ..engine.plan() }, &mut || {});
    let told = report.map_or_else(|error| error.to_string(), |report| report.to_string());
    assert!(told.contains("TLS: invalid peer certificate"), "{told}");
}

/// Echo round trips are counted and checked, in both loops.
#[test]
fn echoes_are_witnessed() {
    let engine = Engine::start();
    for load in [Load::Open { rate: 3_000.0 }, Load::Closed { in_flight: 2 }] {
        let plan =
            Plan { transport: Transport::Echo, bytes: 64, workers: 2, phases: messages(load, 1_200), ..engine.plan() };
        let report = run(&plan, &mut || {}).unwrap();
        assert!(report.fine(), "{load:?}: {report}");
        assert_eq!((report.published_messages(), report.counts().delivered), (1_200, 1_200));
    }
}

/// A run that is limited by time ends, complete; one that publishes nothing holds its connections meanwhile.
#[test]
fn time_limits_a_run() {
    let engine = Engine::start();
    let publish = [Load::Closed { in_flight: 1 }, Load::Open { rate: 500.0 }].map(|load| seconds(load, 0.3));
    for phases in publish.into_iter().chain([Plan::connect_then(Phase::hold(0.3))]) {
        for transport in [Transport::Line, Transport::Echo] {
            let plan = Plan { phases: phases.clone(), transport, ..engine.plan() };
            let mut connected = 0;
            let report = run(&plan, &mut || connected += 1).unwrap();
            assert!(report.fine(), "{phases:?} {transport:?}: {report}");
            assert_eq!((connected, report.phases[0].connections_made), (1, 120));
            assert_eq!(report.published_messages() == 0, phases[1].kind == Kind::Hold, "{transport:?}: {report}");
        }
    }
}

/// The ramp keeps its pace.
#[test]
fn ramp_keeps_its_pace() {
    let engine = Engine::start();
    let phases = vec![Phase { ramp: Some(400), ..Phase::connect() }];
    let plan = Plan { phases, ..engine.plan() };
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

/// When the server goes away in the middle, what was seen is kept, every connection is told of, and the run ends.
#[test]
fn server_goes_away() {
    let engine = Engine::start();
    let phases = seconds(Load::Open { rate: 200.0 }, 1.0);
    let plan = Plan { phases, ..engine.plan() };
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
    assert!(report.counts().delivered > 0, "{report}");
    assert!(report.faults.iter().any(|fault| fault.contains("1001")), "{:?}", report.faults);
}

/// Connections with several topics get broadcasts, groups and what is theirs alone, side by side.
#[test]
fn several_topics_on_a_connection() {
    let engine = Engine::start();
    let stream = |to, rate| corecast_loadgen::Stream { to: Some(to), rate: Some(rate), ..Default::default() };
    let phase = Phase {
        seconds: Some(0.5),
        to: Some(Audience::All),
        also: vec![stream(Audience::Group, 100.0), stream(Audience::Own, 400.0)],
        ..Phase::publish(Load::Open { rate: 20.0 })
    };
    let subscribe = vec![Audience::All, Audience::Group, Audience::Own];
    let plan = Plan { subscribe, phases: Plan::connect_then(phase), workers: 2, ..engine.plan() };
    let report = run(&plan, &mut || {}).unwrap();
    assert!(report.fine(), "{report}");
    assert_eq!(report.published_messages(), 10 + 50 + 200);
    assert!(report.counts().delivered > 10 * 120 + 50 * 17 + 200 - 120, "{report}");
}

/// Messages to random connections are all delivered, in both loops.
#[test]
fn unicast_reaches_each() {
    let engine = Engine::start();
    for load in [Load::Open { rate: 1_000.0 }, Load::Closed { in_flight: 8 }] {
        let plan = Plan { subscribe: vec![Audience::Own], phases: messages(load, 400), ..engine.plan() };
        let report = run(&plan, &mut || {}).unwrap();
        assert!(report.fine(), "{report}");
        assert_eq!((report.counts().delivered, report.phases[1].spread.len()), (400, 0));
    }
}

/// A connection with several topics of a group hears all of them, also when a message to each comes at the same moment, and when
/// it was away meanwhile.
#[test]
fn several_topics_of_a_group() {
    let engine = Engine::start();
    let together = Phase { together: Some(7), messages: Some(70), ..Phase::publish(Load::Closed { in_flight: 7 }) };
    let scheduled = Phase { together: Some(7), messages: Some(70), ..Phase::publish(Load::Open { rate: 700.0 }) };
    let away = Phase { messages: Some(14), rate: Some(1e6), ..Phase::new(Kind::Reconnect) };
    let phases = vec![Phase::connect(), together, scheduled, away];
    for (topics_each, workers) in [(7, 1), (3, 2)] {
        let plan = Plan { connections: 70, topics_each, workers, phases: phases.clone(), ..engine.plan() };
        let report = run(&plan, &mut || {}).unwrap();
        assert!(report.fine(), "{report}");
        let (published, readers) = (70 + 70 + 14, 70 * u64::from(topics_each) / 7);
        assert_eq!((report.published_messages(), report.counts().delivered), (published, published * readers));
        for publish in &report.phases[1..3] {
            assert_eq!((publish.spread.len(), publish.complete.len()), (70, 70), "{report}");
            assert!(publish.complete.max_ns() >= publish.spread.max_ns(), "{report}");
            // Each connection hears something in every round, and no message comes in more than a read of its own.
            assert!((10 * 70..=publish.counts.delivered).contains(&publish.reads), "{report}");
        }
    }
}

/// Everyone is dropped at once and comes back with cursors, several times: what is published meanwhile arrives, once.
#[test]
fn everyone_comes_back() {
    let engine = Engine::start();
    let publish = Phase { messages: Some(20), ..Phase::publish(Load::Open { rate: 200.0 }) };
    let back = Phase { messages: Some(20), rate: Some(200.0), ..Phase::new(Kind::Reconnect) };
    let paced = Phase { ramp: Some(400), ..back.clone() };
    let quiet = Phase::new(Kind::Reconnect);
    let phases = vec![Phase::connect(), publish.clone(), back, paced, publish, quiet];
    let cases = [
        (Transport::Line, vec![Audience::All], 1),
        (Transport::Line, vec![Audience::All, Audience::Own], 2),
        (Transport::Sse, vec![Audience::All], 2),
        (Transport::LongPoll, vec![Audience::All], 1),
        (Transport::Poll, vec![Audience::All], 1),
    ];
    for (transport, subscribe, workers) in cases {
        let phases = phases.clone();
        let plan = Plan { transport, subscribe, workers, phases, poll_seconds: 0.1, ..engine.plan() };
        let report = run(&plan, &mut || {}).unwrap();
        assert!(report.fine(), "{report}");
        assert_eq!((report.published_messages(), report.counts().delivered), (80, 80 * 120));
        assert!(report.phases[3].connect_seconds > 0.28, "120 connections at 400/s: {report}");
    }
}

/// Shards that are more than cores take turns: all of them serve and rest, and nothing is lost between them, whether messages come
/// at once or with time to fall asleep between two; they stop when they are asked to.
#[test]
fn shards_that_share_cores() {
    let cores = thread::available_parallelism().unwrap().get();
    let engine = Engine::with_shards(3 * cores + 1);
    let publish = |to, load, messages| Phase { to: Some(to), messages: Some(messages), ..Phase::publish(load) };
    let phases = vec![
        Phase::connect(),
        publish(Audience::All, Load::Closed { in_flight: 1 }, 50),
        Phase { rate: Some(200.0), to: Some(Audience::Own), messages: Some(20), ..Phase::new(Kind::Reconnect) },
        publish(Audience::Own, Load::Open { rate: 100.0 }, 50),
        publish(Audience::Group, Load::Closed { in_flight: 64 }, 2_000),
    ];
    let subscribe = vec![Audience::All, Audience::Group, Audience::Own];
    let report = run(&Plan { subscribe, phases, ..engine.plan() }, &mut || {}).unwrap();
    assert!(report.fine(), "{report}");
    assert_eq!(report.published_messages(), 50 + 20 + 50 + 2_000);
}

/// Raw WebSockets, which have no cursors, come back too, if nothing is published meanwhile.
#[test]
fn raw_connections_come_back() {
    let engine = Engine::start();
    let publish = Phase { messages: Some(20), ..Phase::publish(Load::Closed { in_flight: 1 }) };
    let phases = vec![Phase::connect(), publish.clone(), Phase::new(Kind::Reconnect), publish];
    let plan = Plan { transport: Transport::Raw, phases, ..engine.plan() };
    let report = run(&plan, &mut || {}).unwrap();
    assert!(report.fine(), "{report}");
    assert_eq!(report.published_messages(), 40);
}

/// Connections leave and others come in their place, each of which misses nothing while it is there.
#[test]
fn connections_leave_and_come() {
    let engine = Engine::start();
    for transport in [Transport::Line, Transport::Raw, Transport::Sse, Transport::LongPoll] {
        let churn = Phase { seconds: Some(0.8), leaving: Some(500.0), rate: Some(200.0), ..Phase::new(Kind::Churn) };
        let plan = Plan { transport, workers: 2, phases: Plan::connect_then(churn), ..engine.plan() };
        let report = run(&plan, &mut || {}).unwrap();
        assert!(report.fine(), "{report}");
        assert_eq!(report.published_messages(), 160);
        assert!(report.counts().delivered > 1_000, "{report}");
    }
}

/// Those who read slowly get everything in the end, or are told what they did not get; the others are not held up.
#[test]
fn slow_readers_are_told() {
    let engine = Engine::start();
    let phases = seconds(Load::Open { rate: 100.0 }, 1.0);
    let slow = Some(Slow::new(0.1, 2_000));
    let subscribe = vec![Audience::All];
    let plan = Plan { slow, subscribe, gaps: Gaps::Allowed, bytes: 8_000, phases, ..engine.plan() };
    let report = run(&plan, &mut || {}).unwrap();
    assert!(report.fine(), "{report}");
    let (counts, phase) = (report.counts(), &report.phases[1]);
    assert_eq!(counts.delivered + counts.told, 100 * 120);
    assert!(counts.told > 0 && phase.gaps_told > 0, "they read 2 of 800 KB in the first second: {report}");
    assert!(phase.latency.len() <= 100 * 108, "the slow are not in the latencies: {report}");
    let refused = Plan { gaps: Gaps::Refused, ..plan };
    assert!(!run(&refused, &mut || {}).unwrap().fine());
}

/// Every ready-made plan, made small, runs against the engine and is fine.
#[test]
fn every_scenario_runs() {
    let engine = Engine::start();
    for scenario in <Scenario as clap::ValueEnum>::value_variants() {
        let mut plan = Plan { connections: 60, workers: 2, connect: engine.plan().connect, ..scenario.plan() };
        plan.topics = plan.topics.min(10);
        for phase in &mut plan.phases {
            phase.seconds = phase.seconds.map(|_| 0.4);
            phase.rate = phase.rate.map(|rate| rate.min(200.0));
            phase.messages = phase.messages.map(|messages| messages.min(4));
        }
        let report = run(&plan, &mut || {}).unwrap();
        assert!(report.fine(), "{scenario:?}: {report}");
        assert_eq!(report.phases[0].connections_made, 60);
        assert_eq!(report.counts().delivered > 0, *scenario != Scenario::Idle, "{scenario:?}: {report}");
    }
}

/// Described as a server like any other, by templates, the engine is measured in the same way: its raw WebSockets with a
/// topic in the path and POSTs, and its line protocol with a greeting, a subscription that is confirmed, and a publisher.
#[test]
fn generic_servers_are_witnessed() {
    let engine = Engine::start();
    let raw = Generic {
        path: "/topics/{topic}?since=live".to_owned(),
        publish_path: "/topics/{topic}".to_owned(),
        ..Generic::default()
    };
    let line = Generic {
        path: "/ws".to_owned(),
        subprotocol: Some("corecast.v1".to_owned()),
        talk: vec!["<HI".to_owned(), ">PING {id}".to_owned(), "<PONG".to_owned()],
        subscribe: Some("SUB {topic} since=live id=1".to_owned()),
        subscribed: Some("OK 1".to_owned()),
        publish: r"PUB {topic}\n{payload}".to_owned(),
        ..Generic::default()
    };
    for (generic, publish) in [(raw, Publish::Http), (line, Publish::Ws)] {
        let generic = Some(generic);
        let phases = vec![
            Phase::connect(),
            Phase { messages: Some(70), ..Phase::publish(Load::Open { rate: 400.0 }) },
            Phase::new(Kind::Reconnect),
            Phase { messages: Some(70), ..Phase::publish(Load::Closed { in_flight: 4 }) },
        ];
        let plan = Plan { transport: Transport::Generic, generic, publish, phases, ..engine.plan() };
        let report = run(&plan, &mut || {}).unwrap();
        assert!(report.fine(), "{report}");
        assert_eq!(report.counts().delivered, 140 / 7 * 120, "{report}");
        assert_eq!(Report::from_json(&report.to_json()).unwrap(), report);
    }
}
