//! Histories go from shards to others, of another number and with another key: what was answered is there, cursors are good, and
//! nobody waits for it.

use std::collections::BTreeMap;

use corecast::handover::save::Saving;
use corecast::mesh::Control;
use corecast::reach::Mark;
use corecast::shard::{Answer, DumpPlace, Errand, Limits, Page, Restored, Said, Wanted};

use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::{LAST, Manner, Stage, post};

fn limits() -> Limits {
    Limits { memory_bytes: 32 << 20, ..Limits::default() }
}

fn order(stage: &Stage, control: &mut Control, shard: usize, wish: Wanted) {
    let sent = control.send(shard, Errand { number: 7, wish }, |shard| stage.net.borrow_mut().ring_doorbell(shard));
    assert!(sent, "it owes nothing");
}

/// Waits for a shard's answer; `meanwhile` is done before each turn.
fn answer(stage: &mut Stage, control: &mut Control, shard: usize, mut meanwhile: impl FnMut(&mut Stage)) -> Said {
    for _ in 0..5000 {
        meanwhile(stage);
        stage.turn();
        if let Some(Answer { number, said }) = control.receive(shard) {
            assert_eq!(number, 7);
            return said;
        }
    }
    panic!("no answer");
}

/// Dumps all shards, in pages of so many bytes, as a snapshot.
fn dump(
    stage: &mut Stage,
    control: &mut Control,
    page_bytes: usize,
    is_last: bool,
    mut meanwhile: impl FnMut(&mut Stage),
) -> (Vec<u8>, u64) {
    let mut out = Vec::new();
    let mut saving = Saving::begin(&mut out, is_last).expect("memory takes it");
    let mut pages = 0;
    for shard in 0..control.shards() {
        let mut place = Some(DumpPlace::default());
        while let Some(from) = place {
            order(stage, control, shard, Wanted::Dump(from, page_bytes));
            let Said::Dumped(page) = answer(stage, control, shard, &mut meanwhile) else { panic!("a page") };
            saving.page(&page).expect("memory takes it");
            let Page { next, .. } = page;
            place = next;
            pages += 1;
        }
    }
    saving.end().expect("memory takes it");
    (out, pages)
}

fn freeze(stage: &mut Stage, control: &mut Control) {
    for wish in [|| Wanted::Freeze(true), || Wanted::Settle] {
        for shard in 0..control.shards() {
            order(stage, control, shard, wish());
        }
        for shard in 0..control.shards() {
            assert!(matches!(answer(stage, control, shard, |_| {}), Said::Frozen | Said::Settled));
        }
    }
}

/// Asks for what a topic has after a cursor; returns the cursor behind it, the messages, and whether a gap was told.
fn poll(stage: &mut Stage, topic: &str, since: &str) -> (String, Vec<String>, bool) {
    let head = format!(
        "GET /topics/{topic}?since={since}&transport=poll HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\
         Connection: close\r\n\r\n"
    );
    let conn = stage.open(1 << 20, head.as_bytes());
    stage.turns();
    let answer = stage.text(conn);
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let cursor = head.lines().find_map(|line| line.strip_prefix("Corecast-Cursor: ")).expect("a cursor").to_owned();
    let items: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    let items = items.as_array().expect("a list");
    let messages = items.iter().filter_map(|item| item["data"].as_str()).map(str::to_owned).collect();
    (cursor, messages, items.iter().any(|item| item["gap"].is_object()))
}

/// Reads statuses of the answers on a connection that publishes one message after the other.
fn statuses(stage: &mut Stage, conn: ConnId) -> Vec<u16> {
    let text = stage.text(conn);
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().expect("a status")).collect()
}

/// What was answered before and while shards are frozen is what other shards, of any number, go on with: cursors from before are good, of topics
/// without messages, too, the next message has the next number, and what was refused is nowhere.
#[test]
fn everything_that_was_answered_is_there() {
    let marks = Watched::begin();
    for (before, after, leaves_out) in [(1, 3, false), (3, 1, true), (3, 2, false), (2, 2, true)] {
        let (mut stage, mut control) = Stage::with_control(before, &limits(), 1024);
        if leaves_out {
            stage.berths.iter_mut().for_each(|(shard, _)| shard.leave_out_numbers());
        }
        let topics: Vec<String> = (0..40).map(|n| format!("t/{n}")).collect();
        let mut cursors = BTreeMap::new();
        for (n, topic) in topics.iter().enumerate().skip(1) {
            for m in 0..n % 7 + 1 {
                assert!(stage.publish(topic, &format!("{topic}-{m}")));
            }
        }
        // One that is read, and was never published to; one that has forgotten everything.
        let reader = stage.upgrade_at(before - 1, 1 << 16, "/topics/t/0?since=live");
        let _other = stage.upgrade_at(0, 1 << 16, "/topics/t/1?since=live");
        let delete = stage.open(4096, b"DELETE /topics/t/1 HTTP/1.1\r\nHost: x\r\n\r\n");
        stage.turns();
        assert!(stage.text(delete).starts_with("HTTP/1.1 2"));
        for topic in &topics {
            cursors.insert(topic.clone(), poll(&mut stage, topic, "earliest"));
        }
        // On its way while they freeze.
        let mut asked = 0;
        let publisher = stage.open_at(0, 1 << 20, post("t/2", "way-0").as_bytes());
        while !stage.net.borrow().client_has_news(publisher) {
            stage.turn();
        }
        for _ in 0..20 {
            asked += 1;
            stage.say(publisher, post("t/2", &format!("way-{asked}")).as_bytes());
        }
        (0..2).for_each(|_| stage.turn_of(0));
        for wish in [|| Wanted::Freeze(true), || Wanted::Settle] {
            (0..before).for_each(|shard| order(&stage, &mut control, shard, wish()));
            for shard in 0..before {
                answer(&mut stage, &mut control, shard, |stage| {
                    asked += 1;
                    stage.say(publisher, post("t/2", &format!("way-{asked}")).as_bytes());
                });
            }
        }
        let (saved, pages) = dump(&mut stage, &mut control, 1024, true, |stage| {
            asked += 1;
            if asked < 200 {
                stage.say(publisher, post("t/2", &format!("way-{asked}")).as_bytes());
            }
        });
        assert!(pages > 2 * before as u64, "{pages}");
        stage.turns();
        let taken = statuses(&mut stage, publisher).into_iter().filter(|status| *status == 200).count();
        assert!(taken > 0, "some were before");
        assert_eq!(stage.text(reader), "");

        let (mut next, restored) = Stage::after(after, &limits(), &saved, Manner { leaves_out, ..LAST });
        assert_eq!((restored.topics, restored.topics_left_out, restored.messages_left_out), (40, 0, 0));
        for (topic, (cursor, messages, _)) in &cursors {
            let (again, remembered, gap) = poll(&mut next, topic, "earliest");
            if topic == "t/2" {
                let way: Vec<String> = (0..taken).map(|n| format!("way-{n}")).collect();
                assert_eq!(remembered[messages.len()..], way, "all that was answered, and nothing else");
                assert_eq!(poll(&mut next, topic, cursor), (again, way, false));
                continue;
            }
            assert_eq!((&again, &remembered, gap), (cursor, messages, false), "{topic}");
            let (_, later, gap) = poll(&mut next, topic, cursor);
            assert_eq!((later.len(), gap), (0, false), "the cursor {cursor} of {topic} is good");
            assert!(next.publish(topic, "next"));
            let (newest, later, gap) = poll(&mut next, topic, cursor);
            assert_eq!((later, gap), (vec!["next".to_owned()], false), "{topic}");
            let number = |cursor: &str| cursor.split_once('-').expect("a number").1.parse::<u64>().expect("a number");
            assert!(number(&newest) > number(cursor) && number(&newest) <= number(cursor) + 3);
            assert!(leaves_out || number(&newest) == number(cursor) + 1);
        }
    }
    marks.reached(&[Mark::Frozen]);
}

/// A page takes several turns where there is much, and messages do not wait for it; what is dumped of each topic is a part of its history without
/// holes, and whoever restores it begins another life of each.
#[test]
fn a_dump_makes_nobody_wait() {
    let marks = Watched::begin();
    const TOPICS: usize = 3000;
    let limits = Limits { history_messages: 100, ..limits() };
    let (mut stage, mut control) = Stage::with_control(2, &limits, 1024);
    let reader = stage.upgrade_at(1, 1 << 20, "/topics/busy?since=live");
    let publisher = stage.open_at(0, 1 << 20, post("busy", "0").as_bytes());
    for n in 0..TOPICS {
        stage.say(publisher, post(&format!("t/{n}"), "x").as_bytes());
        if n % 20 == 0 {
            stage.turns();
        }
    }
    stage.turns();
    assert_eq!(statuses(&mut stage, publisher).len(), TOPICS + 1);
    let mut sent = 0;
    let mut came = 0;
    let (saved, _) = dump(&mut stage, &mut control, 1 << 20, false, |stage| {
        sent += 1;
        stage.say(publisher, post("busy", &sent.to_string()).as_bytes());
        came += usize::from(stage.net.borrow().client_has_news(reader));
        stage.text(reader);
        stage.text(publisher);
    });
    assert!(came > 1, "messages came meanwhile");
    let (mut next, restored) = Stage::after(3, &limits, &saved, Manner { is_last: false, ..LAST });
    assert_eq!((restored.topics, restored.topics_left_out, restored.messages_left_out), (TOPICS as u64 + 1, 0, 0));
    let (_, messages, _) = poll(&mut next, "busy", "earliest");
    let first: usize = messages[0].parse().expect("a number");
    let expected: Vec<String> = (first..first + messages.len()).map(|n| n.to_string()).collect();
    assert_eq!(messages, expected);
    let (cursor, ..) = poll(&mut stage, "busy", "live");
    let (_, again, gap) = poll(&mut next, "busy", &cursor);
    assert!(gap && again == messages, "it is another life: {again:?}");
    marks.reached(&[Mark::DumpedInTurns]);
}

/// Shards that are thawed go on as if nothing had been.
#[test]
fn a_thaw_is_as_before() {
    let marks = Watched::begin();
    let (mut stage, mut control) = Stage::with_control(2, &limits(), 1024);
    assert!(stage.publish("t", "a"));
    let line = stage.upgrade_at(1, 1 << 16, "/ws");
    freeze(&mut stage, &mut control);
    let publisher = stage.open_at(0, 1 << 16, b"");
    stage.turns();
    stage.say_text(line, b"PUB t id=5\nb");
    stage.turns();
    let told = stage.text(line);
    assert!(told.contains("ERR 5 draining "), "{told:?}");
    for shard in 0..2 {
        order(&stage, &mut control, shard, Wanted::Freeze(false));
        assert!(matches!(answer(&mut stage, &mut control, shard, |_| {}), Said::Frozen));
    }
    stage.say(publisher, post("t", "c").as_bytes());
    stage.turns();
    assert_eq!(statuses(&mut stage, publisher), [200]);
    assert_eq!(poll(&mut stage, "t", "earliest").1, ["a", "c"]);
    marks.reached(&[Mark::Thawed]);
}

/// A shard says that it has heard everything when it has, and not before.
#[test]
fn what_is_on_its_way_is_heard_first() {
    let marks = Watched::begin();
    let (mut stage, mut control) = Stage::with_control(2, &limits(), 64);
    // Some of them have their home on the other shard.
    let topics: Vec<String> = (0..20).map(|n| format!("t/{n}")).collect();
    let mut publishers = Vec::new();
    for topic in &topics {
        publishers.push(stage.open_at(0, 1 << 16, post(topic, "x").as_bytes()));
    }
    for _ in 0..20 {
        stage.turn_of(0);
    }
    order(&stage, &mut control, 1, Wanted::Settle);
    stage.turn_of(1);
    assert!(control.receive(1).is_none(), "it has been sent messages");
    assert!(matches!(answer(&mut stage, &mut control, 1, |_| {}), Said::Settled));
    let (saved, _) = dump(&mut stage, &mut control, 1 << 20, true, |_| {});
    let (_, restored) = Stage::after(1, &limits(), &saved, LAST);
    assert_eq!(restored.messages, 20);
    for publisher in publishers {
        assert_eq!(statuses(&mut stage, publisher), [200]);
    }
    marks.reached(&[Mark::SettlesLater]);
}

/// What finds no room is left out, and said; what stands before a hole goes with it, and a topic whose newest message is left out keeps its number.
#[test]
fn what_has_no_room_is_left_out() {
    let marks = Watched::begin();
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 64);
    let large = "x".repeat(900);
    for (topic, sizes) in [("a", [1, 900, 1, 1]), ("b", [1, 1, 1, 900]), ("c", [1, 1, 1, 1])] {
        for size in sizes {
            assert!(stage.publish(topic, &large[..size]));
        }
    }
    let cursors = ["a", "b", "c"].map(|topic| poll(&mut stage, topic, "earliest").0);
    freeze(&mut stage, &mut control);
    let (saved, _) = dump(&mut stage, &mut control, 1 << 20, true, |_| {});
    let small = Limits { message_bytes_max: 500, ..limits() };
    let (mut next, restored) = Stage::after(2, &small, &saved, LAST);
    let expected = Restored { topics: 3, messages: 6, topics_left_out: 0, messages_left_out: 6 };
    assert_eq!(restored, expected);
    for (topic, (cursor, count)) in ["a", "b", "c"].into_iter().zip(cursors.iter().zip([2, 0, 4])) {
        let (newest, messages, _) = poll(&mut next, topic, "earliest");
        assert_eq!((&newest, messages.len()), (cursor, count), "{topic}");
    }
    let memory = Limits { memory_bytes: 1 << 20, ..limits() };
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 64);
    let publisher = stage.open_at(0, 1 << 20, b"");
    for n in 0..2000 {
        stage.say(publisher, post(&format!("t/{n}"), &large).as_bytes());
        stage.turn();
        stage.text(publisher);
    }
    stage.turns();
    freeze(&mut stage, &mut control);
    let (saved, _) = dump(&mut stage, &mut control, 1 << 20, true, |_| {});
    let (mut next, restored) = Stage::after(1, &memory, &saved, LAST);
    assert!(restored.messages > 50 && restored.messages_left_out > 500, "{restored:?}");
    assert_eq!(restored.messages + restored.messages_left_out, 2000, "{restored:?}");
    assert!(next.publish("another", "x"), "and there is room for what comes");
    marks.reached(&[Mark::RestoredBehindAHole]);
}

/// Homes of topics that nobody reads yet and that remember nothing are there for their readers to come back, and go after a while.
#[test]
fn readers_are_awaited_for_a_while() {
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 64);
    let _reader = stage.upgrade_at(0, 1 << 16, "/topics/t?since=live");
    freeze(&mut stage, &mut control);
    let (saved, _) = dump(&mut stage, &mut control, 1 << 20, true, |_| {});
    let (mut next, _) = Stage::after(1, &limits(), &saved, LAST);
    assert_eq!(next.stats().homes, 1);
    for minute in 1..=11 {
        next.pass_ms(60_000);
        // Shards look at homes when there is something to do.
        assert!(next.publish("other", "x"));
        next.pass_ms(12_000);
        let after_s = minute * 72;
        if !(590..=680).contains(&after_s) {
            assert_eq!(next.stats().homes, if after_s < 590 { 2 } else { 1 }, "after {after_s} s");
        }
    }
}
