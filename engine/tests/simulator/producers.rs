//! Numbered messages: once and in order, whatever becomes of connections, over every way to publish; and what it is not.

use corecast::grant::{Ask, Denial};
use corecast::reach::Mark;
use corecast::shard::{Asks, Limits, Refusal};

use crate::authority::grant;
use crate::endings::{text, upgrade};
use crate::marks::Watched;
use crate::rng::Rng;
use crate::stage::Stage;
use crate::table::{Got, Table};

/// Publishes a numbered message over HTTP.
fn post(table: &mut Table, topic: &str, producer: &str, number: u64, lines: &str) -> Got {
    let numbered = format!("Corecast-Producer: {producer}\r\nCorecast-Number: {number}\r\n{lines}");
    table.ask(format!("POST /topics/{topic} HTTP/1.1\r\nHost: h\r\n{numbered}Content-Length: 1\r\n\r\nx"))
}

/// Publishes lines.
fn batch(table: &mut Table, lines: &str) -> Got {
    let len = lines.len();
    let head = "POST /topics HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n";
    table.ask(format!("{head}Content-Length: {len}\r\n\r\n{lines}"))
}

fn line(topic: &str, producer: &str, number: u64) -> String {
    format!("{{\"topic\":\"{topic}\",\"data\":\"x\",\"producer\":\"{producer}\",\"n\":{number}}}\n")
}

/// What a topic remembers.
fn count(table: &mut Table, topic: &str) -> usize {
    table.get(&format!("GET /topics/{topic}?since=earliest"), "").body().matches("\"cursor\"").count()
}

/// The same numbers over a command, a request and a line of a batch: the next one is published, one that was is answered with its cursor, and not
/// published again, any other is refused, and told which is next.
#[test]
fn each_number_once() {
    let marks = Watched::begin();
    let mut table = Table::new(Limits::default());
    let conn = table.connect();
    table.say(conn, upgrade("/ws"));
    let command = |table: &mut Table, words: &str| table.say(conn, text(&format!("PUB a {words}\nx"))).text();
    let first = command(&mut table, "producer=p n=1 id=1");
    let cursor = first.split(' ').next_back().expect("a cursor").to_owned();
    assert!(first.ends_with(&format!("OK 1 {cursor}")), "{first}");
    assert!(command(&mut table, "producer=p n=1 id=1").ends_with(&format!("OK 1 {cursor} repeated")));
    let got = post(&mut table, "a", "p", 1, "");
    assert_eq!(
        (got.statuses(), got.body()),
        (vec![200], format!("{{\"topic\":\"a\",\"cursor\":\"{cursor}\",\"repeated\":true}}"))
    );
    assert_eq!(batch(&mut table, &line("a", "p", 1)).body(), "{\"published\":1,\"repeated\":1}");
    assert_eq!(count(&mut table, "a"), 1);
    let text = "3 is next: the numbers of a producer in a topic grow by one, from 1 on";
    assert_eq!(batch(&mut table, &line("a", "p", 2)).body(), "{\"published\":1}");
    let refused = command(&mut table, "producer=p n=4 id=2");
    assert!(refused.ends_with(&format!("ERR 2 out-of-order {text}")), "{refused}");
    let got = post(&mut table, "a", "p", 4, "");
    assert_eq!((got.statuses(), got.body()), (vec![409], format!("{{\"error\":\"{text}\",\"expected\":3}}")));
    let got = batch(&mut table, &[line("a", "p", 2), line("a", "p", 3), line("a", "p", 5)].concat());
    let row = Refusal::OutOfOrder.row();
    let body = format!("{{\"published\":2,\"repeated\":1,\"error\":\"{}\",\"expected\":4}}", row.text);
    assert_eq!((got.statuses(), got.body()), (vec![409], body));
    assert!(
        command(&mut table, "producer=p n=5")
            .ends_with("ERR - out-of-order 4 is next: the numbers of a producer in a topic grow by one, from 1 on")
    );
    assert_eq!(command(&mut table, "producer=p n=3"), "", "nobody asked");
    // Other names, and other topics, have numbers of their own, and all of them begin with 1.
    assert!(command(&mut table, "producer=q n=2 id=3").contains("ERR 3 out-of-order 1 is next"));
    assert!(!command(&mut table, "producer=q n=1 id=3").contains("repeated"));
    assert_eq!(post(&mut table, "b", "p", 1, "").statuses(), [200]);
    assert_eq!((count(&mut table, "a"), count(&mut table, "b")), (4, 1));
    let stats = *table.shard().stats();
    assert_eq!((stats.producers, stats.repeats, stats.refused_out_of_order, stats.refused), (3, 5, 5, 5));
    marks.reached(&[Mark::Repeated, Mark::OutOfOrder]);
}

/// A number that was refused for want of room, or before it came to its home, is still the next one; those behind it are refused until it comes.
#[test]
fn who_is_refused_keeps_its_number() {
    let marks = Watched::begin();
    let mut table = Table::new(Limits { topics_max: 1, message_bytes_max: 100, ..Limits::default() });
    let conn = table.connect();
    table.say(conn, upgrade("/ws"));
    let topic = table.say(conn, text("SUB a id=s")).text();
    assert!(topic.contains("OK s"), "{topic}");
    let large = "x".repeat(101);
    for (words, code) in [
        ("PUB b producer=p n=1 id=1\nx".to_owned(), "full"),
        ("PUB b producer=p n=2 id=2\nx".to_owned(), "out-of-order 1 is next"),
        (format!("PUB a producer=p n=1 id=3\n{large}"), "too-large"),
        ("PUB a producer=p n=2 id=4\nx".to_owned(), "out-of-order 1 is next"),
    ] {
        let got = table.say(conn, text(&words)).text();
        assert!(got.contains(code), "{words}: {got}");
    }
    assert_eq!(table.shard().stats().producers, 0, "nothing has to be known of who has published nothing");
    assert!(table.say(conn, text("PUB a producer=p n=1 id=5\nx")).text().contains("OK 5 "));
    assert!(table.say(conn, text("PUB a producer=p n=2 id=6\nx")).text().contains("OK 6 "));
    marks.reached(&[Mark::NumberedNotRecorded]);
}

/// Who is not heard of for long is forgotten, and told so; who is heard of is not. Clearing a topic, or another life of it, changes nothing.
#[test]
fn producers_are_known_for_a_while() {
    let marks = Watched::begin();
    let mut table = Table::new(Limits { producer_ms: 10_000, ..Limits::default() });
    let conn = table.connect();
    table.say(conn, upgrade("/ws"));
    for number in 1..=70 {
        let got = table.say(conn, text(&format!("PUB a producer=p n={number} id=1\nx"))).text();
        assert!(got.contains("OK 1 ") && !got.contains("repeated"), "{got}");
    }
    for (number, known) in [(6, false), (7, true), (70, true)] {
        let got = table.say(conn, text(&format!("PUB a producer=p n={number} id=1\nx"))).text();
        assert_eq!((got.contains("repeated"), got.ends_with("OK 1")), (known, !known), "{number}: {got}");
    }
    table.get("DELETE /topics/a", "");
    for _ in 0..4 {
        table.pass_ms(8_000);
        let got = post(&mut table, "a", "p", 70, "");
        assert!(got.body().contains("\"repeated\":true"), "{}", got.body());
    }
    assert_eq!(post(&mut table, "a", "p", 71, "").statuses(), [200]);
    assert!(
        post(&mut table, "a", "p", 70, "").body() == "{\"topic\":\"a\",\"repeated\":true}",
        "a cursor of another life"
    );
    table.pass_ms(11_000);
    // Somebody else comes, and the time of the first one is over.
    assert_eq!(post(&mut table, "a", "q", 1, "").statuses(), [200]);
    let got = post(&mut table, "a", "p", 72, "");
    assert!(got.body().contains("\"expected\":1}"), "{}", got.body());
    assert_eq!(table.shard().stats().producers, 1);
    marks.reached(&[Mark::RepeatedLongAgo, Mark::ProducerForgotten]);
}

/// However many names somebody invents, a topic has no more than it may, and somebody who was known stays known; who finds no room is told so.
#[test]
fn names_without_end() {
    let marks = Watched::begin();
    let mut table = Table::new(Limits { producers_max: 20, ..Limits::default() });
    assert_eq!(post(&mut table, "a", "innocent", 1, "").statuses(), [200]);
    let (mut taken, mut refused) = (0, 0);
    for n in 0..50 {
        let lines: String = (0..100).map(|m| line("a", &format!("{n}-{m}"), 1)).collect();
        let got = batch(&mut table, &lines);
        let published = got.body().split([':', ',', '}']).nth(1).and_then(|count| count.parse::<u64>().ok());
        taken += published.expect("a count");
        refused += u64::from(got.statuses() == [429]);
    }
    assert_eq!((taken, refused), (9, 50), "half of the topic's, as all who show nothing are one");
    let got = post(&mut table, "a", "new", 1, "");
    assert_eq!((got.statuses(), got.body().contains("as many producers as it may")), (vec![429], true));
    assert_eq!(got.header("Retry-After").len(), 1);
    assert_eq!(post(&mut table, "a", "innocent", 2, "").statuses(), [200]);
    assert!(post(&mut table, "a", "innocent", 1, "").body().contains("repeated"));
    assert_eq!(post(&mut table, "b", "new", 1, "").statuses(), [200], "another topic has room");
    assert_eq!(table.shard().stats().producers, 11);
    marks.reached(&[Mark::ProducersFull]);
}

/// A name is that of who has it: what another subject publishes under the same one has numbers of its own, and takes nobody's.
#[test]
fn names_are_of_their_owners() {
    let asks = Asks { tokens: true, ..Asks::default() };
    let says = |ask: &Ask, _: u64| match ask {
        Ask::Token(name) => Ok(corecast::grant::Grant { subject: name.clone(), ..grant(name, &["#"], &["#"]) }),
        _ => Err(Denial::Invalid("no")),
    };
    let mut table = Table::with_authority(Limits { asks, open: vec![true], ..Limits::default() }, Box::new(says));
    for lines in ["Authorization: Bearer anna\r\n", "Authorization: Bearer bert\r\n", ""] {
        for (number, status) in [(2, 409), (1, 200), (2, 200), (4, 409)] {
            let got = post(&mut table, "a", "same", number, lines);
            assert_eq!((got.statuses(), got.body().contains("repeated")), (vec![status], false), "{lines} {number}");
        }
    }
    assert!(post(&mut table, "a", "same", 2, "Authorization: Bearer anna\r\n").body().contains("repeated"));
    assert_eq!(count(&mut table, "a"), 6);
}

/// What is no number, no name, or half of both is told so, and so is what cannot be both.
#[test]
fn nonsense_is_named() {
    let mut table = Table::new(Limits::default());
    let head = "POST /topics/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n";
    let (name, number, half) = (
        "a producer is 1 to 64 visible ASCII characters",
        "the number of a producer's message is 1 to 9223372036854775807",
        "a producer and the number of its message come together",
    );
    for (lines, why) in [
        ("Corecast-Producer: p\r\n", half),
        ("Corecast-Number: 1\r\n", half),
        ("Corecast-Producer: a b\r\nCorecast-Number: 1\r\n", name),
        ("Corecast-Producer: p\r\nCorecast-Number: 0\r\n", number),
        ("Corecast-Producer: p\r\nCorecast-Number: one\r\n", number),
        (
            "Corecast-Producer: p\r\nCorecast-Number: 1\r\nIf-None-Match: *\r\n",
            "a message has a number or a condition, not both",
        ),
    ] {
        let got = table.ask(format!("{head}{lines}\r\nx"));
        assert_eq!((got.statuses(), got.body()), (vec![400], format!("{{\"error\":\"{why}\"}}")), "{lines}");
    }
    let head = "POST /topics HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\nContent-Length: 0\r\n";
    let got = table.ask(format!("{head}Corecast-Producer: p\r\nCorecast-Number: 1\r\n\r\n"));
    assert!(got.statuses() == [400] && got.body().contains("the lines of a batch have"), "{}", got.text());
    let got = batch(&mut table, &[line("a", "p", 1), line("a", "", 1)].concat());
    assert_eq!(got.body(), format!("{{\"error\":\"line 2: {name} at byte 36\"}}"));
    assert_eq!(count(&mut table, "a"), 0);
}

/// Producers whose connections are cut at any byte, and who send again what was not answered, over another shard and another way: what stands
/// in the topic is all of theirs, each once, in the order of their numbers; whatever the shards have read by then of connections that are gone.
#[test]
fn cut_at_any_time() {
    const MESSAGES: u64 = 40;
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let limits = Limits { history_messages: 1_000, history_bytes: 1 << 20, ..Limits::default() };
        let mut stage = Stage::new(3, &limits);
        // Of each: up to which number it was told, and its connection.
        let mut told = [0; 4];
        let mut cuts = 0;
        while told.iter().any(|told| *told < MESSAGES) {
            let who = rng.below(told.len());
            if told[who] == MESSAGES {
                continue;
            }
            let shard = rng.below(3);
            let numbers = told[who] + 1..=(told[who] + 1 + rng.below(10) as u64).min(MESSAGES);
            let (says, is_line) = match rng.below(3) {
                0 => {
                    let commands = numbers.map(|n| text(&format!("PUB t producer=p{who} n={n} id={n}\n{who}/{n};")));
                    ([upgrade("/ws").into_bytes(), commands.collect::<Vec<_>>().concat()].concat(), true)
                }
                1 => {
                    let head = |n| format!("Corecast-Producer: p{who}\r\nCorecast-Number: {n}\r\n");
                    let body = |n| format!("{who}/{n};");
                    let request = |n| {
                        format!(
                            "POST /topics/t HTTP/1.1\r\nHost: h\r\n{}Content-Length: {}\r\n\r\n{}",
                            head(n),
                            body(n).len(),
                            body(n)
                        )
                    };
                    (numbers.map(request).collect::<String>().into_bytes(), false)
                }
                _ => {
                    let line =
                        |n| format!("{{\"topic\":\"t\",\"data\":\"{who}/{n};\",\"n\":{n},\"producer\":\"p{who}\"}}\n");
                    let lines: String = numbers.map(line).collect();
                    let head = "POST /topics HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n";
                    (format!("{head}Content-Length: {}\r\n\r\n{lines}", lines.len()).into_bytes(), false)
                }
            };
            // All of it, or it is cut somewhere.
            let cut = if rng.chance(500) { rng.below(says.len() + 1) } else { says.len() };
            let conn = stage.open_at(shard, 1 << 16, &says[..cut]);
            for _ in 0..rng.skewed(60) {
                stage.turn_of(rng.below(3));
            }
            let heard = stage.text(conn);
            let answers = if is_line {
                heard.matches("OK ").count() as u64
            } else if heard.contains("{\"published\":") {
                let count = heard.split("\"published\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
                count.and_then(|count| count.parse().ok()).expect("a count")
            } else {
                heard.matches("HTTP/1.1 200").count() as u64
            };
            assert!(!heard.contains("ERR") && !heard.contains("409"), "{heard}");
            told[who] += answers;
            cuts += u64::from(cut < says.len());
            match rng.below(3) {
                0 => stage.net.borrow_mut().client_close(conn),
                purge => stage.net.borrow_mut().client_reset(conn, purge == 1),
            }
        }
        stage.turns();
        let conn = stage.open(1 << 20, b"GET /topics/t?since=earliest HTTP/1.1\r\nHost: h\r\n\r\n");
        stage.turns();
        let history = stage.text(conn);
        let found: Vec<(usize, u64)> = history
            .split("\"data\":\"")
            .skip(1)
            .map(|rest| rest.split_once(';').expect("a message").0.split_once('/').expect("a message"))
            .map(|(who, n)| (who.parse().expect("a number"), n.parse().expect("a number")))
            .collect();
        for who in 0..told.len() {
            let numbers: Vec<u64> = found.iter().filter(|(of, _)| *of == who).map(|(_, n)| *n).collect();
            assert_eq!(numbers, (1..=MESSAGES).collect::<Vec<_>>(), "seed {seed}, producer {who}, {cuts} cuts");
        }
    }
}
