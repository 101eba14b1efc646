//! The smallest session there can be has everything that is not its own: orders, news, waiting, replays, gaps, limits, a farewell.

use corecast::shard::Limits;

use crate::stage::Stage;

fn limits() -> Limits {
    Limits { telnet: Some(0), ..Limits::default() }
}

/// Subscribes, publishes and unsubscribes, in pieces of any size; what makes no sense is told, and costs nothing.
#[test]
fn talks() {
    let mut scene = Stage::new(2, &limits());
    let reader = scene.open(1 << 16, b"SUB prices/eur\n");
    let writer = scene.open_at(1, 1 << 16, b"PUB prices/eur 1.08");
    scene.turns();
    assert!(scene.text(reader).starts_with("OK prices/eur "));
    assert_eq!(scene.text(writer), "", "the line has no end yet");
    scene.say(writer, b"\r\nPUB prices/eur 1.09\nPUB $sys/x y\nNONSENSE\n");
    scene.turns();
    let told = scene.text(writer);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("OK ")).count(), 2, "{told}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("ERR ")).count(), 2, "{told}");
    let read = scene.text(reader);
    let payloads: Vec<bool> = read.lines().map(|line| line.contains("\"1.08\"") || line.contains("\"1.09\"")).collect();
    assert_eq!(payloads, [true, true], "{read}");
    scene.say(reader, b"UNSUB prices/eur\n");
    scene.say(writer, b"PUB prices/eur 1.10\n");
    scene.turns();
    assert_eq!(scene.text(reader), "OK prices/eur\n");
}

/// Publishes more than may be on its way at once: it waits, and every line is answered, in order.
#[test]
fn waits_its_turn() {
    let mut scene = Stage::new(1, &limits());
    let lines: String = (0..200).map(|n| format!("PUB t {n}\n")).collect();
    let writer = scene.open(1 << 16, lines.as_bytes());
    (0..10).for_each(|_| scene.turns());
    let told = scene.text(writer);
    let numbers: Vec<u64> =
        told.lines().map(|line| line.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a cursor")).collect();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    let late = scene.open(1 << 16, b"SUB t\n");
    scene.turns();
    assert!(scene.text(late).contains("\"199\""), "the newest message is remembered");
}

/// A line without an end costs its sender only; and when the engine finishes, everybody is told.
#[test]
fn ends_in_order() {
    let mut scene = Stage::new(1, &limits());
    let reader = scene.open(1 << 16, b"SUB t\n");
    let endless = scene.open(1 << 16, &[]);
    for _ in 0..20 {
        scene.say(endless, &[b'x'; 4096]);
        (0..6).for_each(|_| scene.turn());
        if scene.net.borrow().client_has_news(endless) {
            break;
        }
    }
    assert_eq!(scene.text(endless), "BYE the line is too long\n");
    assert!(scene.text(reader).starts_with("OK t "));
    let (shard, kernel) = &mut scene.berths[0];
    shard.drain(kernel, 0);
    scene.turns();
    assert!(scene.text(reader).starts_with("BYE the engine is shutting down; try again in "));
}
