//! How long selectors take, printed; not run by itself: `cargo test --release -p corecast-protocol --test selectors_speed -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use corecast_protocol::selector::{Given, Selector};

/// A row as people send it: ten fields, about 200 bytes.
const ROW: &str = r#"{"id":"EUR/USD","bid":1.0843,"ask":1.0845,"time":1718000000123,"venue":"EBS","open":true,"size":1500000,"note":null,"spread":{"pips":2.0,"wide":false},"flags":["a","b"]}"#;

fn time(what: &str, record: &str, selector: &str) {
    let parsed = Selector::parse(selector).expect(selector);
    let given = Given { topic: Some("prices/eur"), ..Given::default() };
    let times = if record.len() > 1000 { 200 } else { 200_000 };
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..times {
                black_box(parsed.matches(black_box(record.as_bytes()), &given));
            }
            start.elapsed().as_nanos() as f64 / f64::from(times)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{what:20} {best:10.1} ns {:?}", parsed.evaluate(record.as_bytes(), &given));
}

/// Prints what selectors of the usual kind cost on a row, and such that are meant to cost much.
#[test]
#[ignore = "prints times, and has nothing to fail by"]
fn times() {
    println!("Selector: {} bytes", size_of::<Selector>());
    time("topic", ROW, "$topic LIKE 'prices/%'");
    time("first field", ROW, "id = 'EUR/USD'");
    time("one number", ROW, "bid > 1.08");
    time("integer", ROW, "size >= 1000000");
    time("three fields", ROW, "bid > 1.08 AND venue IN ('EBS', 'LMAX') AND open");
    time("last field", ROW, "spread.pips BETWEEN 1 AND 3");
    time("missing field", ROW, "region = 'EU'");
    time("like", ROW, "id LIKE '%/USD'");
    time(
        "everything",
        ROW,
        "bid * 2 < ask + 2 AND time > 0 AND venue <> 'X' AND note IS NULL AND spread.pips = 2 AND NOT spread.wide AND id LIKE 'EUR%' AND size IN (1, 1500000)",
    );
    let start = Instant::now();
    for _ in 0..10_000 {
        black_box(Selector::parse(black_box("bid > 1.08 AND venue IN ('EBS', 'LMAX') AND open")).expect("a selector"));
    }
    println!("{:20} {:10.1} ns", "parse", start.elapsed().as_nanos() as f64 / 10_000.0);
    let like = format!("a LIKE '%{}b'", "a".repeat(300));
    time("hostile like", &format!("{{\"a\":\"{}\"}}", "a".repeat(60_000)), &like);
    time("hostile escapes", &format!("{{\"a\":\"{}\"}}", "\\u0061".repeat(10_000)), &like);
    let members = (0..9_000).map(|n| format!("\"{n:x}\":1")).collect::<Vec<_>>().join(",");
    let wanted = (0..31).map(|n| format!("\"{:x}\" = 1", n + 9_000)).collect::<Vec<_>>().join(" OR ");
    time("many members", &format!("{{{members}}}"), &wanted);
}
