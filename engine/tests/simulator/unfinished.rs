//! Messages that are begun and not finished: they have as long as a body, and then their memory is free again.

use corecast::shard::Limits;

use crate::endings::{frame, text, upgrade};
use crate::net::ConnId;
use crate::stage::Stage;

/// What a message may take.
const REQUEST_MS: u64 = 5_000;

/// The close frame that a message gets that does not arrive in time, without its reason.
const CLOSE_1008: &[u8] = &[0x03, 0xF0];

fn scene_with(path: &str) -> (Stage, ConnId) {
    let mut scene = Stage::new(1, &Limits { request_ms: REQUEST_MS, echo: true, ..Limits::default() });
    let conn = scene.open(1 << 16, upgrade(path).as_bytes());
    scene.turns();
    scene.text(conn);
    (scene, conn)
}

/// Sends a pong and lets a second pass, again and again, as long as the connection stands: at most so many times.
fn pongs_until_closed(scene: &mut Stage, conn: ConnId, seconds: u64, then: impl Fn(u64) -> Vec<u8>) -> (u64, Vec<u8>) {
    let mut told = Vec::new();
    for second in 0..seconds {
        let _ = scene.net.borrow_mut().client_write(conn, &then(second));
        scene.pass_ms(1_000);
        if scene.read(conn, usize::MAX, &mut told) || told.windows(2).any(|bytes| bytes == CLOSE_1008) {
            return (second + 1, told);
        }
    }
    (seconds, told)
}

/// A message whose first part has come is closed with 1008 when its time is over, whatever pongs come meanwhile, and its memory is
/// free. It used to be held as long as its peer liked: 16 MB sent once, and everybody else got 503.
#[test]
fn a_part_of_a_message() {
    for path in ["/ws", "/topics/t", "/echo"] {
        let (mut scene, conn) = scene_with(path);
        scene.say(conn, &frame(0x01, &[b'P'; 30_000]));
        scene.turns();
        assert!(scene.stats().pool_inbound_bytes >= 30_000);
        let (seconds, told) = pongs_until_closed(&mut scene, conn, 20, |_| frame(0x8A, b""));
        assert!(told.windows(2).any(|bytes| bytes == CLOSE_1008), "{path}: it is told why: {told:?}");
        assert!((5..=7).contains(&seconds), "{path}: after {seconds} s");
        let stats = scene.stats();
        assert_eq!((stats.pool_inbound_bytes, stats.violations), (0, 1), "{path}");
    }
}

/// The same for a frame of which not even the header came, and for one that comes byte by byte: what trickles does not begin
/// anew.
#[test]
fn a_part_of_a_frame() {
    let (mut scene, conn) = scene_with("/ws");
    scene.say(conn, &[0x81]);
    let (seconds, told) = pongs_until_closed(&mut scene, conn, 20, |_| Vec::new());
    assert!((5..=7).contains(&seconds) && told.windows(2).any(|bytes| bytes == CLOSE_1008), "{seconds} s: {told:?}");

    let (mut scene, conn) = scene_with("/ws");
    let slow = text(&format!("PUB t\n{}", "x".repeat(1_000)));
    let (seconds, told) = pongs_until_closed(&mut scene, conn, 20, |n| slow[n as usize..=n as usize].to_vec());
    assert!((5..=7).contains(&seconds) && told.windows(2).any(|bytes| bytes == CLOSE_1008), "{seconds} s: {told:?}");
    assert_eq!(scene.stats().pool_inbound_bytes, 0);
}

/// Whoever is always in the middle of a message, because its messages follow each other closely, may go on: each has its own
/// time. So may who sends a message in parts that is complete in time, or control frames that are cut.
#[test]
fn one_message_after_another() {
    let (mut scene, conn) = scene_with("/ws");
    let stream = text("PUB t\nhello").repeat(40);
    let each = stream.len() / 20 - 1;
    let (seconds, _) = pongs_until_closed(&mut scene, conn, 20, |n| {
        let start = n as usize * each;
        stream[start..start + each].to_vec()
    });
    assert_eq!(seconds, 20, "every message came within its time");
    assert!(scene.stats().published > 30);

    let (mut scene, conn) = scene_with("/ws");
    let message = [frame(0x01, b"PUB t\n"), frame(0x00, b"slow"), frame(0x80, b"ly")];
    let pings = frame(0x89, b"ping").repeat(40);
    let (seconds, _) = pongs_until_closed(&mut scene, conn, 18, |n| match n {
        0..3 => message[n as usize].clone(),
        n => pings[(n as usize - 3) * 9..(n as usize - 2) * 9].to_vec(),
    });
    assert_eq!(seconds, 18);
    assert_eq!(scene.stats().published, 1);
}
