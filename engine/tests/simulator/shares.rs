//! Memory has owners, each with its share: who takes much is refused by name, costs nobody else anything, and gives back what it took.

use corecast::shard::{Limits, Stats};

use crate::endings::{frame, upgrade};
use crate::net::ConnId;
use crate::stage::Stage;

const MEMORY: u64 = 8 << 20;

/// Topics with a history of 10 KB each: nearly all that histories may take.
const TOPICS: usize = 200;

fn scene(limits: Limits) -> Stage {
    Stage::new(1, &Limits { memory_bytes: MEMORY, ..limits })
}

/// Publishes to all topics.
fn remember(scene: &mut Stage) {
    let publisher = scene.open(1 << 16, upgrade("/ws").as_bytes());
    scene.turns();
    for topic in 0..TOPICS {
        scene.say(publisher, &frame(0x82, format!("PUB t/{topic}\n{}", "x".repeat(10_000)).as_bytes()));
        scene.turns();
    }
    assert_eq!(scene.stats().published as usize, TOPICS);
}

/// Returns how many topics still have what was published to them.
fn remembered(scene: &mut Stage) -> usize {
    let knows = |topic: usize, scene: &mut Stage| {
        let poll = format!("GET /topics/t/{topic}?transport=value HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let conn = scene.open(1 << 16, poll.as_bytes());
        (0..12).for_each(|_| scene.turn());
        scene.text(conn).contains(&"x".repeat(10_000))
    };
    (0..TOPICS).filter(|topic| knows(*topic, scene)).count()
}

/// Sends commands in pieces that fit the socket, and returns what was answered.
fn commands(scene: &mut Stage, conn: ConnId, count: usize, command: impl Fn(usize) -> String) -> String {
    let mut answers = String::new();
    for n in 0..count {
        scene.say(conn, &frame(0x81, command(n).as_bytes()));
        if n % 32 == 31 {
            (0..8).for_each(|_| scene.quick_turn());
            answers += &scene.text(conn);
        }
    }
    scene.turns();
    answers + &scene.text(conn)
}

/// Who subscribes to topics without end is refused by name before its tables are beyond their share; histories and what others read
/// stay, a newcomer still has its first topics, and when it has gone so has what it took.
#[test]
fn subscribing_without_end() {
    let mut scene = scene(Limits::default());
    remember(&mut scene);
    let before = scene.stats();
    let name = |k: usize, n: usize| format!("SUB {k:04}{}{n:04} since=live", "n".repeat(190));
    let (mut greedy, mut refused) = (Vec::new(), 0);
    for k in 0..6 {
        let conn = scene.upgrade_at(0, 1 << 16, "/ws");
        refused += commands(&mut scene, conn, 1024, |n| name(k, n)).matches("ERR - full").count();
        greedy.push(conn);
    }
    let Stats { table_bytes, topics, .. } = scene.stats();
    assert!(refused > 2_000 && topics > 2_000, "{refused} refused, {topics} topics");
    assert!(table_bytes <= MEMORY / 8 * 3 + (MEMORY >> 4), "{table_bytes} bytes of tables");
    assert_eq!(remembered(&mut scene), TOPICS, "nobody else forgot anything");
    let newcomer = scene.upgrade_at(0, 1 << 16, "/ws");
    let answer = commands(&mut scene, newcomer, 1, |_| "SUB fresh id=a".to_owned());
    assert!(answer.contains("OK a "), "{answer}");
    assert!(scene.publish("fresh", "news"));
    assert!(scene.text(newcomer).contains("news"));
    for conn in greedy {
        scene.net.borrow_mut().client_close(conn);
    }
    (0..4_000).for_each(|_| scene.quick_turn());
    let after = scene.stats();
    assert!(after.topics <= 1, "{} topics", after.topics);
    // A chunk of 256 KiB is kept of each table, which is much of so small a memory.
    let Stats { table_bytes: left, .. } = after;
    assert!(left + (1 << 20) < table_bytes, "{left} of {table_bytes} bytes are left, of {} before", before.table_bytes);
}

/// What a peak took goes back to the kernel when it is over: block memory is resident while it is used, and not for long afterwards.
#[test]
fn after_a_peak() {
    let mut scene = scene(Limits { history_ms: 3_000, ..Limits::default() });
    remember(&mut scene);
    let peak = scene.stats().resident_bytes;
    assert!(peak > 2 << 20, "{peak} bytes");
    for topic in 0..TOPICS {
        let delete = format!("DELETE /topics/t/{topic} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        scene.open(1 << 16, delete.as_bytes());
        (0..6).for_each(|_| scene.turn());
    }
    scene.turns();
    assert!(scene.stats().resident_bytes > peak / 2, "not at once");
    scene.pass_ms(20_000);
    let left = scene.stats().resident_bytes;
    assert!(left < peak / 4, "{left} of {peak} bytes are left");
}

/// Logs that are long for laggards only, and queues that nobody reads, give way before histories do.
#[test]
fn laggards_give_way_before_histories() {
    let limits = Limits { log_bytes_max: 4 << 20, history_messages: 1, ..Limits::default() };
    let mut scene = scene(limits);
    remember(&mut scene);
    // A reader that reads, and one that does not, of each of some topics.
    let mut readers = Vec::new();
    for topic in 0..4 {
        let reader = scene.upgrade_at(0, 1 << 20, &format!("/topics/load/{topic}?since=live"));
        scene.upgrade_at(0, 1 << 10, &format!("/topics/load/{topic}?since=live"));
        readers.push(reader);
    }
    let publisher = scene.upgrade_at(0, 1 << 16, "/ws");
    let mut got = 0;
    for n in 0..600 {
        scene.say(publisher, &frame(0x82, format!("PUB load/{}\n{}", n % 4, "y".repeat(20_000)).as_bytes()));
        (0..8).for_each(|_| scene.turn());
        got += readers.iter().map(|reader| scene.text(*reader).len()).sum::<usize>();
    }
    let refused = scene.text(publisher).matches("ERR").count();
    assert_eq!((refused, got / 20_000), (0, 600), "who reads has everything");
    assert_eq!(remembered(&mut scene), TOPICS, "no history gave way");
}
