//! How long records take, printed; not run by itself: `cargo test --release -p corecast-protocol --test records_speed -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use corecast_protocol::Writer;
use corecast_protocol::record::{self, Fields, KEY_BYTES_MAX, MEMBERS_MAX};

/// A row as people send it: ten fields, about 200 bytes.
const ROW: &str = r#"{"id":"EUR/USD","bid":1.0843,"ask":1.0845,"time":1718000000123,"venue":"EBS","open":true,"size":1500000,"note":null,"spread":{"pips":2.0,"wide":false},"flags":["a","b"]}"#;
const NEXT: &str = r#"{"id":"EUR/USD","bid":1.0844,"ask":1.0845,"time":1718000000456,"venue":"EBS","open":true,"size":1500000,"note":null,"spread":{"pips":1.0,"wide":false},"flags":["a","b"]}"#;

fn time(what: &str, times: u32, mut work: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            (0..times).for_each(|_| work());
            start.elapsed().as_nanos() as f64 / f64::from(times)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{what:32} {best:12.1} ns");
}

fn all(what: &str, times: u32, old: &str, new: &str, patch: &str, fields: &str) {
    let fields = Fields::parse(fields).expect("fields");
    let mut scratch = vec![0; MEMBERS_MAX];
    let mut out = vec![0; old.len() + new.len() + patch.len()];
    println!("{what}: {} bytes", old.len());
    time("  check", times, || record::check(black_box(old.as_bytes()), &mut scratch).expect("a record"));
    time("  serde_json::Value", times.div_ceil(10), || {
        black_box(serde_json::from_slice::<serde_json::Value>(black_box(old.as_bytes())).expect("JSON"));
    });
    time("  members", times, || {
        black_box(record::members(black_box(old.as_bytes())).count());
    });
    time("  project", times, || {
        record::project(black_box(old.as_bytes()), &fields, &mut Writer::new(&mut out)).expect("a record")
    });
    time("  merge", times, || {
        let w = &mut Writer::new(&mut out);
        record::merge(black_box(old.as_bytes()), patch.as_bytes(), &mut scratch, w).expect("a record");
    });
    time("  diff", times, || {
        black_box(record::diff(black_box(old.as_bytes()), new.as_bytes(), &mut scratch, &mut Writer::new(&mut out)));
    });
}

/// Prints what rows of the usual kind cost, and such that are meant to cost much.
#[test]
#[ignore = "prints times, and has nothing to fail by"]
fn times() {
    all("row", 200_000, ROW, NEXT, r#"{"bid":1.0844,"time":1718000000456}"#, "id,bid,spread.pips");
    let mut out = [0; KEY_BYTES_MAX];
    time("  key", 200_000, || {
        black_box(record::key(black_box(ROW.as_bytes()), "id", &mut out).expect("a key"));
    });
    let members = |order: &dyn Fn(usize) -> usize, value: usize| {
        let members: Vec<_> = (0..9_000).map(|n| format!("\"{:x}\":{value}", order(n) + 0x100)).collect();
        format!("{{{}}}", members.join(","))
    };
    let wanted = (0..64).map(|n| format!("{:x}", 0x2345 - n)).collect::<Vec<_>>().join(",");
    let (old, new) = (members(&|n| n, 1), members(&|n| n * 7_001 % 9_000, 2));
    all("many members, out of order", 50, &old, &new, &new, &wanted);
    let deep = |order: bool, value: u32| {
        let mut text = (0..400).map(|n| format!("\"{n}\":{value}")).collect::<Vec<_>>().join(",");
        for _ in 0..30 {
            let fill = (0..150).map(|n| format!("\"{n}\":{value}")).collect::<Vec<_>>().join(",");
            text = if order { format!("\"x\":{{{text}}},{fill}") } else { format!("{fill},\"x\":{{{text}}}") };
        }
        format!("{{{text}}}")
    };
    let path = vec!["x"; 30].join(".") + ".399";
    all("deep, out of order", 50, &deep(true, 1), &deep(false, 2), &deep(false, 2), &path);
    let strings = format!("{{\"a\":\"{}\"}}", "text ".repeat(13_000));
    all("one long string", 1_000, &strings, &strings, "{}", "a");
    let escapes = format!("{{\"a\":\"{}\"}}", "\\n".repeat(32_000));
    all("many escapes", 200, &escapes, &escapes, "{}", "a");
    let brackets = format!("{{\"a\":[{}1]}}", "[],".repeat(21_000));
    all("many brackets", 200, &brackets, &brackets, "{}", "b");
}
