//! What the engine tells of itself: to whoever reads it, to nobody who may not, and kept only if it is for those who come later.

use corecast::mesh::Control;
use corecast::shard::{By, Errand, Limits, Question, Said, Wanted};

use crate::net::ConnId;
use crate::stage::{Stage, post};

const STATS: &str = "$sys/stats";
const EVENTS: &str = "$sys/events";

/// Has the only shard tell something, and returns the topics that it remembers then.
fn tell(stage: &mut Stage, control: &mut Control, topic: &'static str, text: &str) -> Vec<String> {
    let remembered = topic == EVENTS;
    let told = Wanted::Tell { topic, remembered, payload: text.as_bytes().into() };
    let asked = Wanted::Ask(Question::Topics(By::Bytes), 10);
    for (number, wish) in [told, asked].into_iter().enumerate() {
        assert!(control.send(0, Errand { number: number as u64, wish }, |shard| {
            stage.net.borrow_mut().ring_doorbell(shard);
        }));
    }
    stage.turns();
    assert!(matches!(control.receive(0).expect("an answer").said, Said::Told));
    let Said::Topics(rows) = control.receive(0).expect("an answer").said else { panic!("topics were asked for") };
    rows.into_iter().map(|row| row.topic).collect()
}

fn ask(stage: &mut Stage, target: &str) -> String {
    let conn: ConnId = stage.open(1 << 16, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    stage.turns();
    stage.text(conn)
}

/// Figures are told to those who read them and forgotten when nobody does; events wait for whoever comes. Neither is counted as published by
/// anybody.
#[test]
fn what_nobody_reads_is_not_kept() {
    let limits = Limits { loopback: vec![true], ..Limits::default() };
    let (mut stage, mut control) = Stage::with_control(1, &limits, 64);
    assert!(tell(&mut stage, &mut control, STATS, "one").is_empty());
    assert_eq!(stage.stats().news, 0);
    let reader = stage.upgrade_at(0, 1 << 16, &format!("/topics/{STATS}"));
    stage.turns();
    stage.text(reader);
    assert_eq!(tell(&mut stage, &mut control, STATS, "two"), [STATS]);
    assert!(stage.text(reader).contains("two"));
    stage.net.borrow_mut().client_close(reader);
    stage.turns();
    assert!(tell(&mut stage, &mut control, STATS, "three").is_empty());
    assert_eq!(tell(&mut stage, &mut control, EVENTS, "four"), [EVENTS]);
    let later = ask(&mut stage, &format!("/topics/{EVENTS}?transport=value"));
    assert!(later.ends_with("four"), "{later}");
    assert_eq!((stage.stats().news, stage.stats().published), (2, 2));
}

/// A stranger reads nothing of it, however open the rest is to him; whoever is on this host does. Nobody publishes there.
#[test]
fn strangers_are_told_nothing() {
    for (loopback, status) in [(true, "200"), (false, "401")] {
        let limits = Limits { loopback: vec![loopback], insecure: true, ..Limits::default() };
        let (mut stage, mut control) = Stage::with_control(1, &limits, 64);
        tell(&mut stage, &mut control, EVENTS, "something");
        for target in [
            format!("/topics/{EVENTS}?transport=value"),
            format!("/topics?topic={EVENTS}&transport=poll&since=earliest"),
        ] {
            let answer = ask(&mut stage, &target);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{loopback} {target}: {answer}");
            assert_eq!(answer.contains("something"), loopback, "{answer}");
        }
        assert!(stage.publish("news", "x"), "the rest is open to everybody");
        let conn = stage.open(1 << 16, post(EVENTS, "mine").as_bytes());
        stage.turns();
        let answer = stage.text(conn);
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}
