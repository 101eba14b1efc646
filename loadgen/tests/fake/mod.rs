//! A server that speaks the line protocol, a thread a connection, and lies in one chosen way.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use corecast_protocol::write::Writer;
use corecast_protocol::ws::decoder::{Decoder, Event, Role};
use corecast_protocol::ws::frame::{self, Opcode};
use corecast_protocol::ws::handshake::{self, accept_key};

/// What the server does wrong. Where a message is meant, it is the fourth of each topic, for every subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    Honest,
    /// A message is not delivered.
    Loses,
    /// A message is delivered twice.
    Repeats,
    /// A message is delivered after the next one.
    Reorders,
    /// A byte of a message changes.
    Corrupts,
    /// A message of another topic is delivered, too.
    Misdelivers,
    /// A message comes 150 ms late.
    Delays,
    /// Instead of a message the subscriber's connection ends.
    HangsUp,
    /// Instead of a message the publisher's connection ends.
    HangsUpOnThePublisher,
    /// After a message the publisher's connection ends, and a little later all others.
    GoesAway,
    /// Instead of a message comes what is no frame.
    TalksNonsense,
    /// Messages are taken, and never delivered.
    Swallows,
    /// A message is not delivered, and that is told.
    TellsOfAGap,
    /// Messages are refused.
    Refuses,
    /// Who comes back is not given what was published meanwhile.
    ForgetsMeanwhile,
    /// Connections are taken, and nothing is ever said.
    NeverAnswers,
    /// The handshake is answered with what is no HTTP.
    AnswersNonsense,
    /// Subscriptions are refused.
    RefusesSubscriptions,
}

/// The number of the message that something happens to.
const NUMBER: u64 = 3;

#[derive(Default)]
struct Topic {
    messages: Vec<Vec<u8>>,
    subscribers: Vec<TcpStream>,
    held: Option<Vec<u8>>,
}

/// All that connections share: topics by name.
type Hub = Arc<Mutex<HashMap<String, Topic>>>;

/// Starts the server; its threads end with the process.
pub(crate) fn start(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hub = Hub::default();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, hub) = (stream.unwrap(), Arc::clone(&hub));
            // A client that goes away in the middle ends its thread only.
            thread::spawn(move || serve(stream, lie, &hub));
        }
    });
    address
}

fn serve(mut stream: TcpStream, lie: Lie, hub: &Hub) -> Option<()> {
    if lie == Lie::NeverAnswers {
        let _ = stream.read_to_end(&mut Vec::new());
        return None;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    if lie == Lie::AnswersNonsense {
        stream.write_all(b"\x00\x01\x02 what?\r\n\r\n").ok()?;
        return None;
    }
    let head = String::from_utf8(head).ok()?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let mut out = [0; 512];
    let mut writer = Writer::new(&mut out);
    handshake::respond(&mut writer, &accept_key(key), Some("corecast.v1"), None);
    let len = writer.finish().unwrap();
    stream.write_all(&out[..len]).ok()?;
    say(&mut stream, b"HI corecast.v1 0000000000000000")?;
    let (mut decoder, mut buffer, mut message) = (Decoder::new(Role::Server), Vec::new(), Vec::new());
    loop {
        let step = decoder.next(&mut buffer, 1 << 20).ok()?;
        let used = step.consumed;
        match step.event {
            Some(Event::Data { data, last, .. }) => {
                message.extend_from_slice(&buffer[data]);
                if last {
                    obey(&std::mem::take(&mut message), &mut stream, lie, hub)?;
                }
            }
            Some(Event::Close { .. }) => return None,
            _ if used == 0 => {
                let mut more = [0; 65536];
                match stream.read(&mut more).ok()? {
                    0 => return None,
                    count => buffer.extend_from_slice(&more[..count]),
                }
            }
            _ => {}
        }
        buffer.drain(..used);
    }
}

fn obey(message: &[u8], stream: &mut TcpStream, lie: Lie, hub: &Hub) -> Option<()> {
    let line_end = message.iter().position(|byte| *byte == b'\n').unwrap_or(message.len());
    let line = std::str::from_utf8(&message[..line_end]).ok()?;
    let mut words = line.split(' ');
    let (verb, name) = (words.next()?, words.next()?.to_owned());
    let mut topics = hub.lock().unwrap();
    match verb {
        "SUB" => {
            let option = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name));
            let (since, token) = (option("since=")?, option("id=")?);
            if lie == Lie::RefusesSubscriptions {
                return say(stream, format!("ERR {token} full no room").as_bytes());
            }
            let topic = topics.entry(name.clone()).or_default();
            say(stream, format!("OK {token} 0000002a-{}", topic.messages.len()).as_bytes())?;
            if let (Some(seq), true) = (since.strip_prefix("0000002a-"), lie != Lie::ForgetsMeanwhile) {
                let from: usize = seq.parse().ok()?;
                for number in from..topic.messages.len() {
                    deliver(stream, &name, number as u64, &topic.messages[number])?;
                }
            }
            topic.subscribers.push(stream.try_clone().ok()?);
        }
        "PUB" => publish(&name, &message[line_end + 1..], stream, lie, &mut topics)?,
        _ => return None,
    }
    Some(())
}

fn publish(
    name: &str,
    payload: &[u8],
    stream: &mut TcpStream,
    lie: Lie,
    topics: &mut HashMap<String, Topic>,
) -> Option<()> {
    if lie == Lie::Refuses {
        return say(stream, b"ERR - rate slow down");
    }
    let others: Vec<Vec<u8>> = topics
        .iter()
        .filter(|(other, _)| *other != name)
        .filter_map(|(_, other)| other.messages.last().cloned())
        .collect();
    let topic = topics.entry(name.to_owned()).or_default();
    let number = topic.messages.len() as u64;
    topic.messages.push(payload.to_vec());
    let chosen = number == NUMBER;
    if chosen && lie == Lie::HangsUpOnThePublisher {
        return None;
    }
    if chosen && lie == Lie::Delays {
        thread::sleep(Duration::from_millis(150));
    }
    let held = if number == NUMBER + 1 { topic.held.take() } else { None };
    for subscriber in &mut topic.subscribers {
        // One that is gone is none.
        let _ = match lie {
            Lie::Swallows => Some(()),
            Lie::Loses if chosen => Some(()),
            Lie::Reorders if chosen => {
                topic.held = Some(payload.to_vec());
                Some(())
            }
            Lie::Repeats if chosen => {
                let _ = deliver(subscriber, name, number, payload);
                deliver(subscriber, name, number, payload)
            }
            Lie::Corrupts if chosen => {
                let mut damaged = payload.to_vec();
                *damaged.last_mut().unwrap() ^= 1;
                deliver(subscriber, name, number, &damaged)
            }
            Lie::Misdelivers if chosen => {
                let _ = others.first().map(|other| deliver(subscriber, name, number, other));
                deliver(subscriber, name, number, payload)
            }
            Lie::HangsUp if chosen => subscriber.shutdown(Shutdown::Both).ok(),
            Lie::TalksNonsense if chosen => subscriber.write_all(b"\xff\xff\xff\xff\xff\xff").ok(),
            Lie::TellsOfAGap if chosen => {
                say(subscriber, format!("GAP {name} 0000002a-{number} 0000002a-{} 1 overflow", number + 1).as_bytes())
            }
            _ => deliver(subscriber, name, number, payload),
        };
        if let Some(held) = &held {
            let _ = deliver(subscriber, name, NUMBER, held);
        }
    }
    if chosen && lie == Lie::GoesAway {
        let all: Vec<TcpStream> = topics.values_mut().flat_map(|topic| topic.subscribers.drain(..)).collect();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            // One that is gone is none.
            all.iter().for_each(|subscriber| drop(subscriber.shutdown(Shutdown::Both)));
        });
        return None;
    }
    Some(())
}

fn deliver(stream: &mut TcpStream, name: &str, number: u64, payload: &[u8]) -> Option<()> {
    let line = format!("MSG {name} 0000002a-{}\n", number + 1);
    say(stream, &[line.as_bytes(), payload].concat())
}

fn say(stream: &mut TcpStream, text: &[u8]) -> Option<()> {
    let mut out = vec![0; frame::header_len(text.len(), false)];
    frame::write_header(&mut out, true, false, Opcode::Text, text.len(), None);
    out.extend_from_slice(text);
    stream.write_all(&out).ok()
}
