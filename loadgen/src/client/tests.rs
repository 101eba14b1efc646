//! The witness's ears, tested against servers that are made up here.

use corecast_protocol::ws::handshake::{accept_key, encode_key};

use super::*;

#[path = "generic_tests.rs"]
mod generic_tests;
use crate::account::Scope;
use crate::plan::{Kind, Phase};
use crate::witness::Counts;

const GROUP: u32 = 1 << 30;

struct Worker {
    rules: Rules,
    account: Account,
    tally: Tally,
    subscriptions: Vec<Subscription>,
    say: Vec<u8>,
    echoes_sent: u64,
}

impl Worker {
    fn new(transport: Transport) -> Worker {
        Worker::of(Plan { transport, topics: 3, ..Plan::default() })
    }

    /// A worker that publishes to nobody; everything was published before.
    fn of(plan: Plan) -> Worker {
        let plan = plan.with_names();
        let tally = Tally::new(&plan);
        let subscriptions = (0..plan.subscriptions()).map(|_| Subscription::default()).collect();
        let rules = Rules::new(plan, encode_key([7; 16]));
        let account = Account::new(Scope { late_ns: 1_000_000, ..Scope::default() });
        Worker { rules, account, tally, subscriptions, say: Vec::new(), echoes_sent: 0 }
    }

    fn client(&self, purpose: Purpose) -> Client {
        Client::new(purpose, self.rules.plan.transport, false)
    }

    fn hear(&mut self, client: &mut Client, bytes: &[u8]) -> Result<(), Fault> {
        let Worker { rules, account, tally, subscriptions, say, echoes_sent } = self;
        let now_ns = 9_000_000;
        client.hear(&mut bytes.to_vec(), &mut Ears { rules, account, tally, subscriptions, say, now_ns, echoes_sent })
    }

    /// Closes the account of the connection's first topic.
    fn settle(&mut self, published: u64) -> Counts {
        self.subscriptions[0].seen.settle(published, &mut self.account.counts);
        self.account.counts
    }

    fn upgrade(&self) -> Vec<u8> {
        let key = std::str::from_utf8(&self.rules.key).unwrap();
        let accept = accept_key(key);
        let mut out = [0; 1000];
        let mut writer = Writer::new(&mut out);
        handshake::respond(&mut writer, &accept, None, None);
        let len = writer.finish().unwrap();
        out[..len].to_vec()
    }
}

fn text(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; frame::header_len(payload.len(), false)];
    frame::write_header(&mut out, true, false, Opcode::Text, payload.len(), None);
    out.extend_from_slice(payload);
    out
}

fn message(topic: u32, number: u64) -> Vec<u8> {
    let mut payload = vec![0; 200];
    payload::write(Stamp { topic: GROUP | topic, number, scheduled_ns: 1_000_000 }, &mut payload);
    payload
}

fn line(topic: u32, number: u64) -> Vec<u8> {
    let mut bytes = format!("MSG load/{topic} 0000002a-{number}\n").into_bytes();
    bytes.extend_from_slice(&message(topic, number));
    text(&bytes)
}

/// A stream that a server could send, cut in two at every byte, is heard the same way each time.
#[test]
fn every_cut_is_heard_alike() {
    for transport in [Transport::Raw, Transport::Line] {
        let mut stream = Worker::new(transport).upgrade();
        if transport == Transport::Line {
            stream.extend(text(b"HI corecast.v1 0"));
            stream.extend(text(b"OK 0 0000002a-0"));
        }
        for number in 0..3 {
            stream.extend(if transport == Transport::Raw { text(&message(1, number)) } else { line(1, number) });
            stream.extend([0x89, 2, b'h', b'i']);
        }
        for cut in 0..=stream.len() {
            let mut worker = Worker::new(transport);
            let mut client = worker.client(Purpose::Subscribe(1));
            worker.hear(&mut client, &stream[..cut]).unwrap();
            worker.hear(&mut client, &stream[cut..]).unwrap();
            assert!(client.ready(), "cut at {cut}");
            assert_eq!(worker.settle(3), Counts { delivered: 3, late: 3, ..Counts::default() }, "cut at {cut}");
            assert!(worker.account.latency.equivalent(worker.account.latency.max(), 8_000_000));
            assert_eq!(worker.say.windows(8).filter(|eight| eight == b"\x8a\x82\0\0\0\0hi").count(), 3);
            assert!(client.cut.is_none(), "nothing is kept when nothing is cut");
            let subscribes = worker.say.windows(4).any(|four| four == b"SUB ");
            assert_eq!(subscribes, transport == Transport::Line);
        }
    }
}

/// Bytes that come one at a time, and messages in fragments, are heard too.
#[test]
fn single_bytes_and_fragments() {
    let mut worker = Worker::new(Transport::Raw);
    let mut client = worker.client(Purpose::Subscribe(0));
    let payload = message(0, 0);
    let mut stream = worker.upgrade();
    stream.extend([0x01, 100]);
    stream.extend_from_slice(&payload[..100]);
    stream.extend([0x89, 0, 0x80, 100]);
    stream.extend_from_slice(&payload[100..]);
    stream.extend(text(&message(0, 1)));
    for byte in stream {
        worker.hear(&mut client, &[byte]).unwrap();
    }
    assert_eq!(worker.settle(2), Counts { delivered: 2, late: 2, ..Counts::default() });
    assert!(client.cut.is_none());
}

/// Losses, repetitions, exchanges and damage on the wire are each told by name.
#[test]
fn faults_of_the_stream_are_told() {
    let mut worker = Worker::new(Transport::Raw);
    let mut client = worker.client(Purpose::Subscribe(2));
    let mut stream = worker.upgrade();
    let mut damaged = message(2, 5);
    damaged[150] ^= 1;
    for payload in [message(2, 0), message(2, 3), message(2, 3), message(2, 2), message(1, 4), damaged] {
        stream.extend(text(&payload));
    }
    worker.hear(&mut client, &stream).unwrap();
    let counts =
        Counts { delivered: 3, lost: 3, duplicated: 1, reordered: 1, corrupted: 2, late: 3, ..Counts::default() };
    assert_eq!(worker.settle(6), counts);
}

/// A wrong answer to the handshake, a refusal, a close and broken frames end the connection with a reason.
#[test]
fn useless_connections_say_why() {
    let fault = |transport, stream: &dyn Fn(&Worker) -> Vec<u8>| {
        let mut worker = Worker::new(transport);
        let stream = stream(&worker);
        let mut client = worker.client(Purpose::Subscribe(0));
        worker.hear(&mut client, &stream).unwrap_err()
    };
    let after = |tail: &'static [u8]| move |worker: &Worker| [&worker.upgrade()[..], tail].concat();
    let refused = |_: &Worker| b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec();
    assert!(fault(Transport::Raw, &refused).contains("status 403"));
    assert!(fault(Transport::Raw, &|_| b"SMTP hello\r\n\r\n".to_vec()).contains("not HTTP"));
    let stranger =
        |worker: &Worker| String::from_utf8(worker.upgrade()).unwrap().replace("Accept: ", "Accept: AAAA").into_bytes();
    assert!(fault(Transport::Raw, &stranger).contains("answer to the handshake is wrong"));
    assert!(fault(Transport::Raw, &after(b"\x88\x05\x03\xf5bye")).contains("closed with 1013 bye"));
    assert!(fault(Transport::Raw, &after(b"\x81\x80\0\0\0\0")).contains("broke WebSocket"));
    assert!(fault(Transport::Line, &after(b"\x81\x11ERR 1 full no room")).contains("said: ERR 1 full"));
}

/// An echoing connection answers each echo with the next message, up to its quota, and each is counted.
#[test]
fn echoes_go_on() {
    let mut worker = Worker::new(Transport::Echo);
    (worker.rules.echo_ahead, worker.rules.echo_numbers_max) = (2, 4);
    let mut client = worker.client(Purpose::Subscribe(9));
    let mut stream = worker.upgrade();
    for number in 0..4 {
        let mut payload = vec![0; 200];
        payload::write(Stamp { topic: (2 << 30) | 9, number, scheduled_ns: 1_000_000 }, &mut payload);
        stream.extend(text(&payload));
    }
    worker.hear(&mut client, &stream).unwrap();
    assert_eq!(worker.account.counts.delivered, 4);
    assert_eq!(worker.echoes_sent, 2, "messages 2 and 3 answer echoes 0 and 1; 4 and 5 are above the quota");
    assert_eq!(worker.tally.published_to(Audience::Own), 2);
    assert_eq!(worker.say.len(), 2 * (frame::header_len(200, true) + 200));
}

fn returning() -> Plan {
    Plan {
        subscribe: vec![Audience::All, Audience::Own],
        phases: vec![Phase::connect(), Phase::new(Kind::Reconnect)],
        ..Plan::default()
    }
}

fn payload_of(topic: u32, number: u64) -> Vec<u8> {
    let mut payload = vec![0; 64];
    payload::write(Stamp { topic, number, scheduled_ns: 1_000_000 }, &mut payload);
    payload
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A connection with several topics is ready when all of them are confirmed; when it comes back it asks for what follows
/// the last message of each, or the confirmation where there was none.
#[test]
fn several_topics_and_cursors() {
    let mut worker = Worker::of(returning());
    let mut client = worker.client(Purpose::Subscribe(5));
    let upgrade = [worker.upgrade(), text(b"HI corecast.v1 0")].concat();
    worker.hear(&mut client, &upgrade).unwrap();
    let asked = said(&worker.say);
    assert!(asked.contains("/all since=live id=0") && asked.contains("/own/5 since=live id=1"), "{asked}");
    worker.hear(&mut client, &text(b"OK 1 000000aa-0")).unwrap();
    assert!(!client.ready());
    worker.hear(&mut client, &text(b"OK 0 000000bb-7")).unwrap();
    assert!(client.ready());
    for (topic, number, cursor) in [(0, 0, "000000bb-8"), (0, 1, "000000bb-9")] {
        let message = [format!("MSG load/x/all {cursor}\n").as_bytes(), &payload_of(topic, number)].concat();
        worker.hear(&mut client, &text(&message)).unwrap();
    }
    worker.say.clear();
    let mut again = worker.client(Purpose::Subscribe(5));
    worker.hear(&mut again, &upgrade).unwrap();
    let asked = said(&worker.say);
    assert!(asked.contains("/all since=000000bb-9 id=0"), "{asked}");
    assert!(asked.contains("/own/5 since=000000aa-0 id=1"), "{asked}");
    worker.hear(&mut again, &text(b"OK 0 000000bb-b")).unwrap_err();
    assert_eq!(worker.account.counts, Counts { delivered: 2, late: 2, ..Counts::default() });
}

/// A gap that is told is no silent loss: it is counted by itself, the subscriber goes on behind it, and what is missing
/// besides is still lost.
#[test]
fn told_gaps_are_not_lost() {
    let mut worker = Worker::of(returning());
    let mut client = worker.client(Purpose::Subscribe(5));
    let prefix = worker.rules.plan.topic_prefix.clone();
    let own = (2 << 30) | 5;
    let message = |number: u64| {
        let line = format!("MSG {prefix}/own/5 000000aa-{}\n", number + 1);
        text(&[line.as_bytes(), &payload_of(own, number)].concat())
    };
    let gap = format!("GAP {prefix}/own/5 000000aa-1 000000aa-4 3 overflow");
    let stream = [
        worker.upgrade(),
        text(b"HI corecast.v1 0"),
        text(b"OK 0 000000bb-0"),
        text(b"OK 1 000000aa-0"),
        message(0),
        text(gap.as_bytes()),
        message(4),
        message(6),
    ];
    worker.hear(&mut client, &stream.concat()).unwrap();
    worker.subscriptions[1].seen.settle(7, &mut worker.account.counts);
    let counts = Counts { delivered: 3, told: 3, lost: 1, late: 3, ..Counts::default() };
    assert_eq!((worker.account.counts, worker.account.gaps_told), (counts, 1));
    let strange = worker.hear(&mut client, &text(b"GAP news 000000aa-1 000000aa-4 3 overflow"));
    assert!(strange.unwrap_err().contains("another's topic"));
}

/// Who comes in the middle may miss nothing that is published after it was confirmed, and nothing before.
#[test]
fn latecomers_miss_nothing_afterwards() {
    let mut worker = Worker::new(Transport::Raw);
    let topic = worker.rules.plan.topic_of(Audience::Group, 2);
    for _ in 0..10 {
        worker.tally.next(topic);
    }
    let mut client = worker.client(Purpose::Subscribe(2));
    let stream = [worker.upgrade(), text(&message(2, 9)), text(&message(2, 11))].concat();
    worker.hear(&mut client, &stream).unwrap();
    let counts = Counts { delivered: 2, lost: 1, late: 2, ..Counts::default() };
    assert_eq!(worker.settle(12), counts);
}

/// A publisher becomes ready with the greeting, and counts what the server refuses.
#[test]
fn publishers_hear_refusals() {
    let mut worker = Worker::new(Transport::Line);
    let mut client = worker.client(Purpose::Publish(0));
    let upgrade = worker.upgrade();
    worker.hear(&mut client, &upgrade).unwrap();
    assert!(!client.ready());
    worker.hear(&mut client, &text(b"HI corecast.v1 0")).unwrap();
    assert!(client.ready());
    worker.hear(&mut client, &text(b"ERR - rate slow down")).unwrap();
    let mut post = worker.client(Purpose::Post(0));
    let replies = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nfull\
        HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    for cut in 0..=replies.len() {
        worker.hear(&mut post, &replies[..cut]).unwrap();
        worker.hear(&mut post, &replies[cut..]).unwrap();
    }
    assert_eq!(worker.account.refused, 1 + replies.len() as u64 + 1);
}

/// A million connections fit: with two topics each takes less than 150 bytes, with its place in the tables.
#[test]
fn connections_are_small() {
    assert!(size_of::<Option<Client>>() <= 64, "{}", size_of::<Option<Client>>());
    assert!(size_of::<Subscription>() <= 32, "{}", size_of::<Subscription>());
}

fn sized(status: &str, cursor: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nCorecast-Cursor: {cursor}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn item(number: u64) -> String {
    let data = String::from_utf8(message(1, number)).unwrap();
    format!(r#"{{"topic":"load/1","cursor":"0000002a-{}","data":"{data}"}}"#, number + 1)
}

fn event(number: u64) -> String {
    let data = String::from_utf8(message(1, number)).unwrap();
    let event = format!("id: 0000002a-{}\ndata: {data}\n\n", number + 1);
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// An event stream is begun where a poll said the topic stands, and is heard alike wherever it is cut; its gaps are told,
/// signs of life mean nothing, and one that ends is asked for again from its last event.
#[test]
fn event_streams_are_heard() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let gap = r#"{"topic":"load/1","from":"0000002a-2","to":"0000002a-4","count":2,"reason":"overflow"}"#;
    let gap = format!("event: corecast-gap\nid: 0000002a-4\ndata: {gap}\n\n");
    let gap = format!("{:x}\r\n{gap}\r\n", gap.len());
    let stream = [head, &event(0), "3\r\n:\n\n\r\n", &event(1), &gap, &event(4), "0\r\n\r\n"].concat();
    for cut in 0..=stream.len() {
        let mut worker = Worker::new(Transport::Sse);
        let mut client = worker.client(Purpose::Subscribe(1));
        let Worker { rules, subscriptions, say, .. } = &mut worker;
        client.greet(rules, "host", subscriptions, say);
        assert!(said(&worker.say).contains("transport=poll&since=live "));
        worker.say.clear();
        worker.hear(&mut client, &sized("200 OK", "0000002a-0", "[]")).unwrap();
        assert!(said(&worker.say).contains("/1?transport=sse&since=0000002a-0 ") && !client.ready());
        worker.say.clear();
        worker.hear(&mut client, &stream.as_bytes()[..cut]).unwrap();
        worker.hear(&mut client, &stream.as_bytes()[cut..]).unwrap();
        assert!(client.ready() && client.cut.is_none(), "cut at {cut}");
        assert!(said(&worker.say).contains("transport=sse&since=0000002a-5 "), "cut at {cut}");
        let counts = Counts { delivered: 3, late: 3, told: 2, ..Counts::default() };
        assert_eq!((worker.settle(5), worker.account.gaps_told), (counts, 1), "cut at {cut}");
    }
}

/// An event stream that is refused in its midst is a fault, in the words of the server, as a closed WebSocket is.
#[test]
fn refused_event_streams_are_faults() {
    let event = "event: corecast-refused\ndata: {\"name\":\"full\",\"text\":\"no room\"}\n\n";
    let event = format!("{:x}\r\n{event}\r\n", event.len());
    let mut worker = Worker::new(Transport::Sse);
    let mut client = worker.client(Purpose::Subscribe(1));
    let Worker { rules, subscriptions, say, .. } = &mut worker;
    client.greet(rules, "host", subscriptions, say);
    worker.hear(&mut client, &sized("200 OK", "0000002a-0", "[]")).unwrap();
    let stream = ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &event, "0\r\n\r\n"].concat();
    let fault = worker.hear(&mut client, stream.as_bytes()).unwrap_err();
    assert!(fault.contains("refused the stream: {\"name\":\"full\""), "{fault}");
    assert_eq!(worker.account.gaps_told, 0);
}

/// Long polls follow each other from cursor to cursor, answered or not, wherever they are cut.
#[test]
fn long_polls_are_heard() {
    let answers = [
        sized("200 OK", "0000002a-0", "[]"),
        sized("200 OK", "0000002a-2", &format!("[{},{}]", item(0), item(1))),
        b"HTTP/1.1 204 No Content\r\nCorecast-Cursor: 0000002a-2\r\n\r\n".to_vec(),
        sized(
            "200 OK",
            "0000002a-5",
            &format!(
                r#"[{{"gap":{{"topic":"load/1","from":"0000002a-2","to":"0000002a-4","count":2,"reason":"expired"}}}},{}]"#,
                item(4)
            ),
        ),
    ];
    let stream = answers.concat();
    for cut in 0..=stream.len() {
        let mut worker = Worker::new(Transport::LongPoll);
        let mut client = worker.client(Purpose::Subscribe(1));
        let Worker { rules, subscriptions, say, .. } = &mut worker;
        client.greet(rules, "host", subscriptions, say);
        worker.hear(&mut client, &stream[..cut]).unwrap();
        worker.hear(&mut client, &stream[cut..]).unwrap();
        let asked = said(&worker.say);
        let asked: Vec<&str> = asked.lines().filter_map(|line| line.split("transport=").nth(1)).collect();
        let since = |cursor: &str| format!("long-poll&since=0000002a-{cursor} HTTP/1.1");
        assert_eq!(asked, ["poll&since=live HTTP/1.1", &since("0"), &since("2"), &since("2"), &since("5")]);
        let counts = Counts { delivered: 3, late: 3, told: 2, ..Counts::default() };
        assert_eq!((worker.settle(5), client.ready()), (counts, true), "cut at {cut}");
    }
}

/// A poll pauses when it is answered, and goes on from its cursor when it is told to.
#[test]
fn polls_pause() {
    let mut worker = Worker::new(Transport::Poll);
    let mut client = worker.client(Purpose::Subscribe(1));
    let Worker { rules, subscriptions, say, .. } = &mut worker;
    client.greet(rules, "host", subscriptions, say);
    assert!(!client.pauses());
    worker.say.clear();
    worker.hear(&mut client, &sized("200 OK", "0000002a-7", "[]")).unwrap();
    assert!(client.pauses() && worker.say.is_empty());
    let Worker { rules, subscriptions, say, .. } = &mut worker;
    client.ask(rules, &subscriptions[0], say);
    assert!(!client.pauses() && said(&worker.say).contains("transport=poll&since=0000002a-7 "));
}

/// Answers that are no answers to a poll or a stream end the connection with a reason, and damage is noticed.
#[test]
fn useless_answers_say_why() {
    let fault = |transport: Transport, stream: &[Vec<u8>]| {
        let mut worker = Worker::new(transport);
        let mut client = worker.client(Purpose::Subscribe(1));
        let Worker { rules, subscriptions, say, .. } = &mut worker;
        client.greet(rules, "host", subscriptions, say);
        let result = worker.hear(&mut client, &stream.concat());
        (result.err().unwrap_or_default(), worker.account.counts.corrupted)
    };
    let first = || sized("200 OK", "0000002a-0", "[]");
    assert!(fault(Transport::Poll, &[sized("503 Full", "0000002a-0", "no room")]).0.contains("503 to a poll: no room"));
    assert!(
        fault(Transport::Poll, &[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()]).0.contains("no cursor")
    );
    assert!(fault(Transport::Poll, &[sized("200 OK", "0000002a-0", "{}")]).0.contains("answer to a poll is wrong"));
    assert!(fault(Transport::Poll, &[b"SSH-2.0\r\n\r\n".to_vec()]).0.contains("not HTTP"));
    assert!(fault(Transport::Sse, &[first(), sized("404 Not", "0000002a-0", "")]).0.contains("404 to a stream"));
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    assert!(fault(Transport::Sse, &[first(), head.clone(), b"zz\r\n".to_vec()]).0.contains("not chunked"));
    let damaged = event(0).replace("data: 4", "data: 5");
    assert_eq!(fault(Transport::Sse, &[first(), head, damaged.into_bytes()]), (String::new(), 1));
}
