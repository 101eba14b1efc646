//! The witness's ears, tested against servers that are made up here.

use corecast_protocol::ws::handshake::{accept_key, encode_key};

use super::*;
use crate::payload::Stamp;
use crate::plan::Load;
use crate::witness::Counts;

struct Worker {
    rules: Rules,
    account: Account,
    say: Vec<u8>,
    echoes_sent: u64,
}

impl Worker {
    fn new(protocol: Protocol) -> Worker {
        let plan = Plan { protocol, bytes: 200, topics: 3, load: Load::Open { rate: 1.0 }, ..Plan::default() };
        let rules = Rules { plan, key: encode_key([7; 16]), echo_ahead: 0, echo_messages_max: 4 };
        Worker { rules, account: Account::new(1, 3, true), say: Vec::new(), echoes_sent: 0 }
    }

    fn hear(&mut self, client: &mut Client, bytes: &[u8]) -> Result<(), Fault> {
        let Worker { rules, account, say, echoes_sent } = self;
        client.hear(&mut bytes.to_vec(), &mut Ears { rules, account, say, now_ns: 9_000_000, echoes_sent })
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
    payload::write(Stamp { topic, number, scheduled_ns: 1_000_000 }, &mut payload);
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
    for protocol in [Protocol::Raw, Protocol::Line] {
        let mut stream = Worker::new(protocol).upgrade();
        if protocol == Protocol::Line {
            stream.extend(text(b"HI corecast.v1 0"));
            stream.extend(text(b"OK 1 0000002a-0"));
        }
        for number in 0..3 {
            stream.extend(if protocol == Protocol::Raw { text(&message(1, number)) } else { line(1, number) });
            stream.extend([0x89, 2, b'h', b'i']);
        }
        for cut in 0..=stream.len() {
            let mut worker = Worker::new(protocol);
            let mut client = Client::new(Purpose::Subscribe(1));
            worker.hear(&mut client, &stream[..cut]).unwrap();
            worker.hear(&mut client, &stream[cut..]).unwrap();
            assert!(client.ready(), "cut at {cut}");
            client.finish(3, &mut worker.account);
            assert_eq!(worker.account.counts, Counts { delivered: 3, late: 3, ..Counts::default() }, "cut at {cut}");
            assert!(worker.account.latency.equivalent(worker.account.latency.max(), 8_000_000));
            assert_eq!(worker.say.windows(8).filter(|eight| eight == b"\x8a\x82\0\0\0\0hi").count(), 3);
            assert!(client.cut.is_none(), "nothing is kept when nothing is cut");
            let subscribes = worker.say.windows(4).any(|four| four == b"SUB ");
            assert_eq!(subscribes, protocol == Protocol::Line);
        }
    }
}

/// Bytes that come one at a time, and messages in fragments, are heard too.
#[test]
fn single_bytes_and_fragments() {
    let mut worker = Worker::new(Protocol::Raw);
    let mut client = Client::new(Purpose::Subscribe(0));
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
    client.finish(2, &mut worker.account);
    assert_eq!(worker.account.counts, Counts { delivered: 2, late: 2, ..Counts::default() });
    assert!(client.cut.is_none());
}

/// Losses, repetitions, exchanges and damage on the wire are each told by name.
#[test]
fn faults_of_the_stream_are_told() {
    let mut worker = Worker::new(Protocol::Raw);
    let mut client = Client::new(Purpose::Subscribe(2));
    let mut stream = worker.upgrade();
    let mut damaged = message(2, 5);
    damaged[150] ^= 1;
    for payload in [message(2, 0), message(2, 3), message(2, 3), message(2, 2), message(1, 4), damaged] {
        stream.extend(text(&payload));
    }
    worker.hear(&mut client, &stream).unwrap();
    client.finish(6, &mut worker.account);
    let counts = Counts { delivered: 3, lost: 3, duplicated: 1, reordered: 1, corrupted: 2, late: 3 };
    assert_eq!(worker.account.counts, counts);
}

/// A wrong answer to the handshake, a refusal, a close and broken frames end the connection with a reason.
#[test]
fn useless_connections_say_why() {
    let fault = |protocol, stream: &dyn Fn(&Worker) -> Vec<u8>| {
        let mut worker = Worker::new(protocol);
        let stream = stream(&worker);
        worker.hear(&mut Client::new(Purpose::Subscribe(0)), &stream).unwrap_err()
    };
    let after = |tail: &'static [u8]| move |worker: &Worker| [&worker.upgrade()[..], tail].concat();
    let refused = |_: &Worker| b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec();
    assert!(fault(Protocol::Raw, &refused).contains("status 403"));
    assert!(fault(Protocol::Raw, &|_| b"SMTP hello\r\n\r\n".to_vec()).contains("not HTTP"));
    let stranger =
        |worker: &Worker| String::from_utf8(worker.upgrade()).unwrap().replace("Accept: ", "Accept: AAAA").into_bytes();
    assert!(fault(Protocol::Raw, &stranger).contains("answer to the handshake is wrong"));
    assert!(fault(Protocol::Raw, &after(b"\x88\x05\x03\xf5bye")).contains("closed with 1013 bye"));
    assert!(fault(Protocol::Raw, &after(b"\x81\x80\0\0\0\0")).contains("broke WebSocket"));
    assert!(fault(Protocol::Line, &after(b"\x81\x11ERR 1 full no room")).contains("said: ERR 1 full"));
}

/// An echoing connection answers each echo with the next message, up to its quota.
#[test]
fn echoes_go_on() {
    let mut worker = Worker::new(Protocol::Raw);
    worker.rules.echo_ahead = 2;
    let mut client = Client::new(Purpose::Echo(9));
    let mut stream = worker.upgrade();
    for number in 0..4 {
        stream.extend(text(&message(9, number)));
    }
    worker.hear(&mut client, &stream).unwrap();
    assert_eq!(worker.account.counts.delivered, 4);
    assert_eq!(worker.echoes_sent, 2, "messages 2 and 3 answer echoes 0 and 1; 4 and 5 are above the quota");
    assert_eq!(worker.say.len(), 2 * (frame::header_len(200, true) + 200));
}

/// A publisher becomes ready with the greeting, and counts what the server refuses.
#[test]
fn publishers_hear_refusals() {
    let mut worker = Worker::new(Protocol::Line);
    let mut client = Client::new(Purpose::Publish);
    let upgrade = worker.upgrade();
    worker.hear(&mut client, &upgrade).unwrap();
    assert!(!client.ready());
    worker.hear(&mut client, &text(b"HI corecast.v1 0")).unwrap();
    assert!(client.ready());
    worker.hear(&mut client, &text(b"ERR - rate slow down")).unwrap();
    let mut post = Client::new(Purpose::Post);
    let replies = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nfull";
    for cut in 0..=replies.len() {
        worker.hear(&mut post, &replies[..cut]).unwrap();
        worker.hear(&mut post, &replies[cut..]).unwrap();
    }
    assert_eq!(worker.account.refused, 1 + replies.len() as u64 + 1);
}

/// A million connections fit: each takes less than 200 bytes with its place in the tables.
#[test]
fn connections_are_small() {
    assert!(size_of::<Option<Client>>() <= 96, "{}", size_of::<Option<Client>>());
}
