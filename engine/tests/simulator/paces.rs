//! Subscribers that want a message an hour, and clocks that jump: what has a pace comes when its time has come, not before, and
//! a pace that changes counts from the last message.

use corecast::reach::Mark;
use corecast::shard::Limits;

use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::Stage;

const HOUR_MS: u64 = 3_600_000;

/// A subscriber of the line protocol that answers its pings, and hears what it is told.
struct Reader {
    conn: ConnId,
    bytes: Vec<u8>,
}

impl Reader {
    fn new(stage: &mut Stage, says: &str) -> Reader {
        let conn = stage.upgrade_at(0, 1 << 16, "/ws");
        let mut reader = Reader { conn, bytes: Vec::new() };
        reader.say(stage, says);
        reader
    }

    fn say(&mut self, stage: &mut Stage, line: &str) {
        stage.say_text(self.conn, line.as_bytes());
        stage.turns();
    }

    /// Returns the payloads that came since the last call.
    fn heard(&mut self, stage: &mut Stage) -> Vec<String> {
        assert!(!stage.read(self.conn, usize::MAX, &mut self.bytes), "who answers its pings is not cut off");
        if self.bytes.windows(2).any(|two| two == [0x89, 0]) {
            stage.say(self.conn, &[0x8A, 0x80, 0, 0, 0, 0]);
        }
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned();
        let payloads = text.match_indices("<").map(|(at, _)| {
            let end = text[at..].find('>').expect("messages come whole here");
            text[at + 1..at + end].to_string()
        });
        payloads.collect()
    }
}

/// Lets time pass in steps in which pings are answered, and returns what came.
fn pass_ms(stage: &mut Stage, reader: &mut Reader, ms: u64) -> Vec<String> {
    const STEP_MS: u64 = 5_000;
    let mut all = Vec::new();
    let mut left_ms = ms;
    while left_ms > 0 {
        let step_ms = left_ms.min(STEP_MS);
        left_ms -= step_ms;
        stage.net.borrow_mut().advance_us(step_ms * 1000);
        (0..6).for_each(|_| stage.turn());
        all.extend(reader.heard(stage));
    }
    all
}

fn publish(stage: &mut Stage, message: &str) {
    assert!(stage.publish("t", &format!("<{message}>")));
}

/// A message an hour is the newest after an hour, and nothing comes before; the first comes at once.
#[test]
fn a_message_an_hour() {
    let marks = Watched::begin();
    let mut stage = Stage::new(1, &Limits::default());
    let mut reader = Reader::new(&mut stage, &format!("SUB t since=live every={HOUR_MS}"));
    publish(&mut stage, "first");
    assert_eq!(reader.heard(&mut stage), ["first"]);
    for hour in 0..3 {
        for part in 0..3 {
            publish(&mut stage, &format!("{hour}.{part}"));
            assert_eq!(reader.heard(&mut stage), [""; 0]);
            assert_eq!(pass_ms(&mut stage, &mut reader, HOUR_MS / 3 - 10_000), [""; 0], "hour {hour}, part {part}");
        }
        assert_eq!(pass_ms(&mut stage, &mut reader, 40_000), [format!("{hour}.2")]);
    }
    marks.reached(&[Mark::HourOver]);
}

/// A reader that is slow in the midst of a message gets the rest of it, and no more than that until its time has come. The rest used
/// to take with it what had been published meanwhile.
#[test]
fn the_rest_of_a_message_brings_no_other() {
    let mut stage = Stage::new(1, &Limits::default());
    let conn = stage.upgrade_at(0, 300, "/ws");
    let mut reader = Reader { conn, bytes: Vec::new() };
    reader.say(&mut stage, &format!("SUB t since=live every={HOUR_MS}"));
    assert_eq!(reader.heard(&mut stage), [""; 0]);
    let first = "1".repeat(1_000);
    publish(&mut stage, &first);
    publish(&mut stage, "second");
    publish(&mut stage, "third");
    let mut bytes = Vec::new();
    for _ in 0..20 {
        assert!(!stage.read(conn, usize::MAX, &mut bytes));
        stage.turns();
    }
    reader.bytes = bytes;
    assert_eq!(reader.heard(&mut stage), [first]);
    assert_eq!(pass_ms(&mut stage, &mut reader, HOUR_MS - 10_000), [""; 0]);
    assert_eq!(pass_ms(&mut stage, &mut reader, 40_000), ["third"]);
}

/// The largest pace is kept by a clock that has run for longer, and by one that jumps.
#[test]
fn the_largest_pace() {
    let mut stage = Stage::new(1, &Limits { ping_ms: 1 << 40, dead_ms: 1 << 41, ..Limits::default() });
    let mut reader = Reader::new(&mut stage, "SUB t since=live every=4294967295");
    publish(&mut stage, "first");
    publish(&mut stage, "second");
    assert_eq!(reader.heard(&mut stage), ["first"]);
    stage.net.borrow_mut().advance_us(u64::from(u32::MAX) * 1000 - 10_000_000);
    stage.turns();
    assert_eq!(reader.heard(&mut stage), [""; 0]);
    stage.net.borrow_mut().advance_us(10_000_000);
    stage.turns();
    assert_eq!(reader.heard(&mut stage), ["second"]);
}

/// A pace that is lowered while a message waits holds from then on: the message comes within the new pace, at once if there is
/// none any more. The old time used to be waited for.
#[test]
fn a_lowered_pace_holds_at_once() {
    for (lower, within_ms) in [("", 0), (" every=0", 0), (" every=1000", 1_000), (" every=30000", 30_000)] {
        let mut stage = Stage::new(1, &Limits::default());
        let mut reader = Reader::new(&mut stage, &format!("SUB t since=live every={HOUR_MS}"));
        publish(&mut stage, "first");
        publish(&mut stage, "second");
        assert_eq!(reader.heard(&mut stage), ["first"]);
        assert_eq!(pass_ms(&mut stage, &mut reader, 10_000), [""; 0]);
        reader.say(&mut stage, &format!("SUB t{lower}"));
        let mut heard = reader.heard(&mut stage);
        if within_ms > 0 {
            heard.extend(pass_ms(&mut stage, &mut reader, within_ms + 1_000));
        }
        assert_eq!(heard, ["second"], "{lower:?}");
    }
}

/// A pace that is raised while a message waits does not lose it, and holds for the next.
#[test]
fn a_raised_pace_holds_for_the_next() {
    let mut stage = Stage::new(1, &Limits::default());
    let mut reader = Reader::new(&mut stage, "SUB t since=live every=10000");
    publish(&mut stage, "first");
    publish(&mut stage, "second");
    assert_eq!(reader.heard(&mut stage), ["first"]);
    reader.say(&mut stage, "SUB t every=60000");
    let mut heard = pass_ms(&mut stage, &mut reader, 5_000);
    assert_eq!(heard, [""; 0]);
    while heard.is_empty() {
        heard = pass_ms(&mut stage, &mut reader, 5_000);
        assert!(stage.net.borrow().now_us() < 100_000_000, "the new pace has passed twice");
    }
    assert_eq!(heard, ["second"]);
    publish(&mut stage, "third");
    assert_eq!(pass_ms(&mut stage, &mut reader, 50_000), [""; 0]);
    assert_eq!(pass_ms(&mut stage, &mut reader, 20_000), ["third"]);
}
