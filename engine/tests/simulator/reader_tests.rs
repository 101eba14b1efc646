//! The readers on trial: a server that says what it should is understood on every transport, however its answers are
//! split; a server that loses, repeats, changes or invents something, or frames it wrongly, is caught on every one.
//!
//! The server is the production encoders around a list of things to say, and no engine.

use std::panic::{AssertUnwindSafe, catch_unwind};

use corecast_protocol::cursor::Cursor as Place;
use corecast_protocol::dialect::{forever_frame, json as object, line, multipart, ndjson, sse};
use corecast_protocol::http::response::{self, Framing, Head};
use corecast_protocol::json;
use corecast_protocol::line::GapReason;
use corecast_protocol::message::{Gap, Message};
use corecast_protocol::write::Writer;

use crate::ask::{Ask, Start, Transport};
use crate::following::Following;
use crate::net::Net;
use crate::oracle::{Cursor, History, Oracle, Sent, Since};
use crate::reading::{News, Reading};
use crate::rng::Rng;
use crate::wire::{Pace, Wire};

const EPOCH: u32 = 0xABCD;
const TOPIC: &str = "a/b é";

fn at(seq: u64) -> Cursor {
    Cursor { epoch: EPOCH, seq }
}

/// A thing that the server says.
#[derive(Clone, Copy, Debug)]
enum Say {
    Message(u64),
    /// The message with this number, with a byte changed.
    Changed(u64),
    /// Messages from the first to the second number are gone; so many; for this reason.
    Gap(u64, u64, u64, GapReason),
    Life,
}

/// A way to ask: the transport, HTTP/1.0, the topic in the query.
type Way = (Transport, bool, bool);

fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for transport in Transport::ALL {
        for http10 in [false, true] {
            for in_query in [false, true] {
                if transport != Transport::Line || !http10 && !in_query {
                    ways.push((transport, http10, in_query));
                }
            }
        }
    }
    ways
}

/// A server with numbered messages `1..=count` of one topic, and the oracle that knows them.
struct Server {
    oracle: Oracle,
    sent: Vec<Sent>,
}

impl Server {
    fn new(count: usize) -> Server {
        Server::with_payloads(7, count)
    }

    fn with_payloads(seed: u64, count: usize) -> Server {
        let mut rng = Rng::new(seed);
        let mut oracle = Oracle::default();
        let sent: Vec<Sent> = (0..count).map(|_| oracle.publish(&mut rng, TOPIC, 0, 90)).collect();
        for sent in &sent {
            oracle.answered(sent.id, at(sent.id as u64 + 1));
        }
        oracle.history = Some(History { messages: 1_000, bytes: 1 << 20, until_us: u64::MAX });
        Server { oracle, sent }
    }

    /// Writes an answer that says all this; `last` is where it leaves the reader.
    fn answer(&self, ask: &Ask, says: &[Say], last: u64) -> Vec<u8> {
        let streams = ask.transport.streams();
        let cursor = at(last).to_string();
        let mut body: Vec<u8> = Vec::new();
        if streams {
            self.stream(ask, says, last, &mut body);
        } else if ask.transport == Transport::Line {
            return self.lines(says);
        } else {
            let objects: Vec<String> = says.iter().filter_map(|say| self.object(*say)).collect();
            body.extend_from_slice(format!("[{}]", objects.join(",")).as_bytes());
            if ask.transport == Transport::Jsonp {
                let text =
                    String::from_utf8(body).expect("JSON is text").replace('<', "\\u003c").replace('>', "\\u003e");
                let text = text.replace('&', "\\u0026").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
                body = format!("/**/{}({text});", ask.callback()).into_bytes();
            }
        }
        let content_type = match ask.transport {
            Transport::Sse => sse::CONTENT_TYPE,
            Transport::Ndjson => ndjson::CONTENT_TYPE,
            Transport::Multipart => multipart::CONTENT_TYPE,
            Transport::ForeverFrame => forever_frame::CONTENT_TYPE,
            Transport::Jsonp => "application/javascript; charset=utf-8",
            _ => "application/json",
        };
        let empty = ask.transport == Transport::LongPoll && body == b"[]";
        let tag = format!("\"{cursor}\"");
        let extra = [("Corecast-Cursor", cursor.as_str()), ("ETag", tag.as_str())];
        let head = Head {
            date: None,
            upgrade: None,
            status: if empty { 204 } else { 200 },
            content_type: (!empty).then_some(content_type),
            framing: match () {
                () if streams => Framing::Chunked,
                () if empty => Framing::Empty,
                () => Framing::Sized(body.len() as u64),
            },
            http10: ask.http10,
            keep_alive: !ask.http10,
            extra: if streams { &[] } else { &extra },
        };
        let mut bytes = written(|w| {
            response::head(w, &head);
        });
        if !empty {
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    fn stream(&self, ask: &Ask, says: &[Say], last: u64, body: &mut Vec<u8>) {
        let mut piece = |write: &dyn Fn(&mut Writer<'_>)| {
            let mut out = vec![0; 8_192];
            let len = response::piece(&mut out, !ask.http10, write).expect("there is room");
            body.extend_from_slice(&out[..len]);
        };
        let shared = ask.is_shared();
        piece(&|w| match ask.transport {
            Transport::Sse => {
                sse::retry(w, 3_000);
                sse::padding(w, 2_048);
            }
            Transport::Multipart => w.put(multipart::PROLOGUE),
            Transport::ForeverFrame => forever_frame::prologue(w, ask.callback()),
            _ => w.put(ndjson::HEARTBEAT),
        });
        for say in says {
            if let Some((payload, event)) = self.content(*say) {
                let message = message(*say, &payload, event.as_deref());
                let mut out = vec![0; 4_096];
                let len = match ask.transport {
                    Transport::Sse if shared => sse::encode_without_id(&message, &mut out),
                    Transport::Sse => sse::encode(&message, &mut out),
                    Transport::Multipart => multipart::encode(&message, &mut out),
                    Transport::ForeverFrame => forever_frame::encode(&message, &mut out),
                    _ => ndjson::encode(&message, &mut out),
                };
                piece(&|w| w.put(&out[..len]));
            } else if let Some(gap) = gap(*say) {
                piece(&|w| match ask.transport {
                    Transport::Sse if shared => sse::gap_without_id(w, &gap),
                    Transport::Sse => sse::gap(w, &gap),
                    Transport::Multipart => multipart::gap(w, &gap),
                    Transport::ForeverFrame => forever_frame::gap(w, &gap),
                    _ => ndjson::gap(w, &gap),
                });
            } else {
                piece(&|w| {
                    w.put(match ask.transport {
                        Transport::Sse => sse::HEARTBEAT,
                        Transport::Multipart => multipart::HEARTBEAT,
                        _ => ndjson::HEARTBEAT,
                    });
                });
            }
        }
        match ask.transport {
            Transport::Sse if shared => piece(&|w| sse::id_only(w, &at(last).to_string())),
            Transport::Multipart => piece(&|w| w.put(multipart::END)),
            _ => {}
        }
        if !ask.http10 {
            body.extend_from_slice(response::LAST_CHUNK);
        }
    }

    fn object(&self, say: Say) -> Option<String> {
        if let Some(gap) = gap(say) {
            let inside = String::from_utf8(written(|w| json::gap(w, &gap))).expect("JSON is text");
            return Some(format!("{{\"gap\":{inside}}}"));
        }
        let (payload, event) = self.content(say)?;
        let message = message(say, &payload, event.as_deref());
        let mut out = vec![0; 4_096];
        let len = object::encode(&message, &mut out);
        Some(String::from_utf8(out[..len].to_vec()).expect("JSON is text"))
    }

    fn lines(&self, says: &[Say]) -> Vec<u8> {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            .to_vec();
        let mut frame = |write: &dyn Fn(&mut Writer<'_>)| {
            let mut out = vec![0; 4_096];
            let len = line::text_frame(&mut out, write).expect("there is room");
            bytes.extend_from_slice(&out[..len]);
        };
        frame(&|w| w.text("HI corecast.v1 0123456789abcdef"));
        let head = at(self.sent.len() as u64).to_string();
        frame(&|w| w.text(&format!("OK s {head}")));
        for say in says {
            if let Some((payload, event)) = self.content(*say) {
                let mut out = vec![0; 4_096];
                let len = line::encode(&message(*say, &payload, event.as_deref()), &mut out);
                bytes.extend_from_slice(&out[..len]);
            } else if let Some(gap) = gap(*say) {
                let mut out = vec![0; 4_096];
                let len = line::text_frame(&mut out, |w| {
                    line::gap(w, gap.topic, gap.from, gap.to, gap.count, gap.reason);
                });
                bytes.extend_from_slice(&out[..len.expect("there is room")]);
            }
        }
        bytes
    }

    fn content(&self, say: Say) -> Option<(Vec<u8>, Option<String>)> {
        let (Say::Message(seq) | Say::Changed(seq)) = say else { return None };
        let sent = &self.sent[seq as usize - 1];
        let mut payload = sent.bytes.clone();
        if matches!(say, Say::Changed(_)) {
            payload.extend_from_slice(b"?");
        }
        Some((payload, sent.event.clone()))
    }

    /// Lets a reader that asks in this way, from where it stands, hear these bytes; says whether the answer ended in order.
    fn hear(&mut self, following: &mut Following, ask: Ask, bytes: &[u8]) -> bool {
        let mut rng = Rng::new(1);
        let mut net = Net::new(1);
        let mut wire = Wire::open(&mut net, &mut rng, 0, Pace::FAST);
        following.asked(&self.oracle, &ask);
        let mut reading = Reading::begin(ask, &mut wire, &mut rng);
        // In two pieces, so that what is not whole yet has to wait.
        let cut = rng.below(bytes.len() + 1);
        for piece in [&bytes[..cut], &bytes[cut..]] {
            wire.bytes.extend_from_slice(piece);
            while let Some(news) = reading.next(&mut wire, &mut rng) {
                match news {
                    News::Item(item) => following.item(&mut self.oracle, item),
                    News::Refused => panic!("nothing was refused"),
                    News::Begun | News::Over => {}
                }
            }
        }
        following.parted(&mut self.oracle);
        reading.is_over() || reading.ends_in_order(&wire)
    }
}

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = vec![0; 8_192];
    let mut w = Writer::new(&mut out);
    write(&mut w);
    let len = w.finish().expect("there is room");
    out.truncate(len);
    out
}

fn message<'a>(say: Say, payload: &'a [u8], event: Option<&'a str>) -> Message<'a> {
    let (Say::Message(seq) | Say::Changed(seq)) = say else { panic!("{say:?} is no message") };
    let text = std::str::from_utf8(payload).is_ok();
    Message { topic: TOPIC, cursor: Place { epoch: EPOCH, seq }, event, payload, text, ..Default::default() }
}

fn gap(say: Say) -> Option<Gap<'static>> {
    let Say::Gap(from, to, count, reason) = say else { return None };
    let place = |seq| Place { epoch: EPOCH, seq };
    Some(Gap { topic: TOPIC, from: place(from), to: place(to), count, reason, of: "" })
}

/// Asks in this way from where the reader stands.
fn ask((transport, http10, in_query): Way, following: &mut Following) -> Ask {
    let mut ask = Ask::new(transport, following.topics.clone(), Start::Since(following.since()));
    (ask.http10, ask.in_path) = (http10, !in_query);
    ask
}

fn reader() -> Following {
    Following::new(vec![TOPIC.to_string()], Since::After(at(0)))
}

/// Runs what must fail, and returns why it did.
fn caught(what: impl FnOnce()) -> Option<String> {
    let error = catch_unwind(AssertUnwindSafe(what)).err()?;
    let text = error.downcast_ref::<String>().cloned();
    Some(text.or_else(|| error.downcast_ref::<&str>().map(|text| (*text).to_string())).unwrap_or_default())
}

/// On every transport, what a server says that is right is understood to its end.
#[test]
fn the_truth_is_understood() {
    for way in ways() {
        let mut server = Server::new(40);
        let mut following = reader();
        let mut says: Vec<Say> = (1..=20).map(Say::Message).collect();
        says.insert(7, Say::Life);
        let request = ask(way, &mut following);
        let says: Vec<Say> = if request.transport.streams() {
            says
        } else {
            says.into_iter().filter(|say| !matches!(say, Say::Life)).collect()
        };
        let bytes = server.answer(&request, &says, 20);
        let ended = server.hear(&mut following, request, &bytes);
        assert!(ended || way.0 == Transport::Line, "{way:?} ended in order");
        assert_eq!(following.cursors(), Some(at(20).to_string()), "{way:?}");
        assert!(!following.is_complete(&server.oracle, false), "{way:?}: twenty are missing");
    }
}

/// On every transport, a message that is lost, repeated, out of order, changed or late is caught, and so is a gap that
/// counts wrong, begins elsewhere, was not asked for, or has no reason.
#[test]
fn lies_are_caught() {
    use Say::{Changed, Message as M};
    let expired = GapReason::Expired;
    let lies: [(&str, &[Say]); 10] = [
        ("a message lost", &[M(1), M(2), M(4), M(5)]),
        ("the first message lost", &[M(2), M(3), M(4), M(5)]),
        ("a message twice", &[M(1), M(2), M(2), M(3), M(4), M(5)]),
        ("two messages in the wrong order", &[M(1), M(3), M(2), M(4), M(5)]),
        ("a changed message", &[M(1), M(2), Changed(3), M(4), M(5)]),
        ("a gap that counts wrong", &[M(1), Say::Gap(1, 3, 1, GapReason::Conflated), M(4), M(5)]),
        ("a gap that begins too late", &[M(1), Say::Gap(2, 3, 1, GapReason::Conflated), M(4), M(5)]),
        ("a gap that nobody asked for", &[M(1), Say::Gap(1, 3, 2, GapReason::Conflated), M(4), M(5)]),
        ("a gap although the history holds it all", &[M(1), Say::Gap(1, 3, 2, expired), M(4), M(5)]),
        ("a new epoch of its own accord", &[Say::Gap(0, 3, 3, GapReason::Epoch), M(4), M(5)]),
    ];
    for way in ways() {
        for (lie, says) in lies {
            let mut server = Server::new(5);
            let mut following = reader();
            following.conflates = lie.starts_with("a gap that counts") || lie.starts_with("a gap that begins");
            let request = ask(way, &mut following);
            let bytes = server.answer(&request, says, 5);
            let why = caught(|| {
                server.hear(&mut following, request, &bytes);
            });
            let why = why.unwrap_or_else(|| panic!("{way:?}: {lie} was not caught"));
            let known = [
                "that nobody told",
                "again or out of order",
                "two cursors",
                "nobody published",
                "was changed",
                "the count of a gap",
                "a gap begins after",
                "nobody asked for the newest",
                "the history holds it",
                "of its own accord",
            ];
            assert!(known.iter().any(|reason| why.contains(reason)), "{way:?}: {lie} was caught as {why:?}");
        }
    }
}

/// A cursor that goes on behind messages that never came is caught: on polls, and on event streams of several topics.
#[test]
fn a_cursor_that_runs_ahead_is_caught() {
    for way @ (transport, _, in_query) in ways() {
        let says_where = Transport::POLLS.contains(&transport) || transport == Transport::Sse && in_query;
        if !says_where {
            continue;
        }
        for says in [&[Say::Message(1), Say::Message(2)][..], &[]] {
            let mut server = Server::new(5);
            let mut following = reader();
            let request = ask(way, &mut following);
            let bytes = server.answer(&request, says, 3);
            let why = caught(|| {
                server.hear(&mut following, request, &bytes);
            });
            let known = ["the cursor is that of the last", "nothing came, and"];
            let known = why.as_ref().is_some_and(|why| known.iter().any(|reason| why.contains(reason)));
            assert!(known, "{way:?}, {says:?}: {why:?}");
        }
    }
}

/// Two topics on one event stream: messages without cursors are placed by the block that follows them, also if nobody knew
/// where they began; a message of one of them that is missing is caught.
#[test]
fn a_combined_cursor_places_what_came_before_it() {
    for (lost, since) in [(false, Since::Earliest), (true, Since::Earliest), (false, Since::Latest)] {
        let mut rng = Rng::new(3);
        let mut oracle = Oracle::default();
        let topics = ["t", "u"].map(str::to_string);
        let sent: Vec<(usize, Sent)> =
            (0..10).map(|n| (n % 2, oracle.publish(&mut rng, &topics[n % 2], 0, 40))).collect();
        let mut following = Following::new(topics.to_vec(), since);
        following.asked(&oracle, &Ask::new(Transport::Sse, topics.to_vec(), Start::Since(since.to_string())));
        let why = caught(|| {
            for (n, (topic, sent)) in sent.iter().enumerate().filter(|(n, _)| !(lost && *n == 4)) {
                oracle.answered(sent.id, at(n as u64 / 2 + 1));
                let message = crate::item::Message {
                    topic: Some(topics[*topic].clone()),
                    cursor: None,
                    event: sent.event.clone(),
                    bytes: sent.bytes.clone(),
                    loss: crate::item::Loss::Nothing,
                };
                following.item(&mut oracle, crate::item::Item::Message(message));
            }
            following.item(&mut oracle, crate::item::Item::Cursors(format!("{0},{0}", at(5))));
        });
        assert_eq!(why.is_some(), lost, "{why:?}");
        if !lost {
            assert_eq!(following.last_event_id(), Some(format!("{0},{0}", at(5))));
            assert!(following.is_complete(&oracle, true));
        }
    }
}

/// How the server of a journey is wrong at a change of transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slip {
    None,
    /// It starts one message too late.
    Late,
    /// It starts with the message that the reader has already.
    Early,
}

/// Splits a run of messages into requests of random transports, each cut off at a random byte.
fn journey(seed: u64, slip: Slip) {
    let mut rng = Rng::new(seed);
    let mut server = Server::new(30);
    let mut following = reader();
    let mut requests = 0;
    while following.cursors() != Some(at(30).to_string()) {
        requests += 1;
        assert!(requests < 10_000, "every request but those cut off at once brings something");
        let way = rng.pick(&ways());
        let from = following.cursors().map_or(0, |cursor| Cursor::parse(&cursor).seq);
        let first = match slip {
            Slip::Late if from > 0 => from + 2,
            Slip::Early if from > 0 => from,
            _ => from + 1,
        };
        let last = (first + rng.below(8) as u64).min(30);
        let says: Vec<Say> = (first..=last).map(Say::Message).collect();
        let request = ask(way, &mut following);
        let mut bytes = server.answer(&request, &says, last);
        if rng.chance(500) {
            bytes.truncate(rng.below(bytes.len() + 1));
        }
        server.hear(&mut following, request, &bytes);
    }
}

/// For any split of a run of messages into requests, transports and cuts, a reader has them all, once and in order; a
/// server that starts one too late or too early at some change is caught.
#[test]
fn journeys() {
    for seed in 0..60 {
        journey(seed, Slip::None);
        for slip in [Slip::Late, Slip::Early] {
            let why = caught(|| journey(seed, slip));
            assert!(why.is_some(), "seed {seed}: {slip:?} was not caught");
        }
    }
}

/// Replaces the first `from` in an answer; it must be there.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let place = bytes.windows(from.len()).position(|window| window == from);
    let place = place.unwrap_or_else(|| panic!("{:?} is there to be replaced", String::from_utf8_lossy(from)));
    [&bytes[..place], to, &bytes[place + from.len()..]].concat()
}

/// Answers that are framed wrongly are caught: chunks, boundaries, lengths, ends, heads, scripts that HTML could read.
#[test]
fn wrong_frames_are_caught() {
    let bad: [(Transport, &str, &[u8], &[u8]); 16] = [
        (Transport::Ndjson, "a chunk whose size has a zero before it", b"\r\n1\r\n\n", b"\r\n01\r\n\n"),
        (Transport::Ndjson, "a chunk with an extension", b"\r\n1\r\n\n", b"\r\n1;a=b\r\n\n"),
        (Transport::Ndjson, "a chunk that is longer than it says", b"\r\n1\r\n\n\r\n", b"\r\n1\r\n\n\n\r\n"),
        (Transport::Ndjson, "a line in two chunks", b"1\r\n\n\r\n", b"1\r\n\n\r\n2\r\n{\"\r\n"),
        (Transport::Ndjson, "bytes after the last chunk", b"0\r\n\r\n", b"0\r\n\r\n\n"),
        (Transport::Ndjson, "a byte before an object", b"\n{\"topic\"", b" {\"topic\""),
        (Transport::Sse, "a field that is not known", b"\nid: ", b"\nix: "),
        (Transport::Sse, "an event without data", b"\ndata: #0", b"\nevent: #0"),
        (Transport::Multipart, "a part that is longer than it says", b"Content-Length: 9", b"Content-Length: 8"),
        (Transport::Multipart, "no closing boundary", b"b06--", b"b06"),
        (Transport::ForeverFrame, "a script in a script", b"\\u003c/script", b"</script     "),
        (Transport::Jsonp, "a script in a script", b"\\u003c/script", b"</script     "),
        (Transport::Jsonp, "another function", b"/**/callback(", b"/**/cellback("),
        (Transport::Poll, "a tag that is not the cursor", b"ETag: \"0000abcd-9", b"ETag: \"0000abcd-8"),
        (Transport::Poll, "a member nobody knows", b"\"data\":", b"\"date\":"),
        (Transport::Sse, "a type that browsers may guess", b"X-Content-Type-Options: nosniff\r\n", b""),
    ];
    for (transport, what, from, to) in bad {
        // The first payload is text, and some payload holds what would end a script.
        let text = |server: &Server| std::str::from_utf8(&server.sent[0].bytes).is_ok();
        let trap =
            |server: &Server| server.sent.iter().any(|sent| sent.bytes.windows(8).any(|some| some == b"</script"));
        let mut servers = (0..100).map(|seed| Server::with_payloads(seed, 9));
        let mut server = servers.find(|server| text(server) && trap(server)).expect("one of so many has both");
        let mut following = reader();
        // Without chunks around it, so that nothing else is wrong.
        let request = ask((transport, transport != Transport::Ndjson, false), &mut following);
        let says: Vec<Say> = (1..=9).map(Say::Message).collect();
        let bytes = patched(&server.answer(&request, &says, 9), from, to);
        let why = caught(|| {
            server.hear(&mut following, request, &bytes);
        });
        assert!(why.is_some(), "{transport:?}: {what} was not caught");
    }
}
