//! An HTTP client: publishes, batches, clears, polls and reads values on kept-alive, pipelined connections.

use std::collections::{BTreeMap, VecDeque};

use crate::base64::{base64, unbase64};
use crate::client::{Exit, Phase, Scene};
use crate::net::{ConnId, Net};
use crate::oracle::{Cursor, PayloadId, Since, Told, Watch};
use crate::raw::escape_url;
use crate::rng::Rng;
use crate::wire::{Answer, Flow, Pace, Wire};

#[derive(Debug)]
enum Asked {
    Publish(String, PayloadId),
    Batch(Vec<PayloadId>),
    Clear,
    /// A poll of this topic, unless it is still at this cursor.
    Poll(String, Option<Cursor>),
    Value(String),
    /// A request that must be answered with this status.
    Wrong(u16),
}

#[derive(Debug)]
pub(crate) struct HttpClient {
    name: usize,
    wire: Option<Wire>,
    ended: bool,
    closing: bool,
    pace: Pace,
    asked: VecDeque<Asked>,
    /// Polls of one topic after another continue from their cursor: nothing may be lost between them.
    polls: BTreeMap<String, Watch>,
    next_us: u64,
    clears: bool,
}

impl HttpClient {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool, clears: bool) -> HttpClient {
        HttpClient {
            name,
            wire: None,
            ended: false,
            closing: false,
            pace: if calm { Pace::FAST } else { Pace::draw(rng) },
            asked: VecDeque::new(),
            polls: BTreeMap::new(),
            next_us: 0,
            clears,
        }
    }

    pub(crate) fn has_work(&self, net: &Net, phase: Phase) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.has_work(net))
            || self.next_due_us(phase).is_some_and(|due_us| due_us <= net.now_us())
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        self.wire.as_ref().map(|wire| wire.conn)
    }

    pub(crate) fn next_due_us(&self, phase: Phase) -> Option<u64> {
        phase.is_lively().then_some(self.next_us)
    }

    pub(crate) fn waits_for(&self, phase: Phase) -> Option<String> {
        let wire = self.wire.as_ref()?;
        let waits = !self.asked.is_empty() || phase == Phase::Draining || self.ended || self.closing;
        waits.then(|| format!("HTTP client {} on connection {}: answers to {:?}", self.name, wire.conn, self.asked))
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let Some(wire) = &mut self.wire else {
            if scene.phase.is_lively() && self.next_us <= scene.net.now_us() {
                let shard = scene.rng.below(scene.plan.shards);
                self.wire = Some(Wire::open(scene.net, scene.rng, shard, self.pace));
                self.ended = false;
                self.closing = false;
            }
            return;
        };
        wire.pace = self.pace;
        let flow = wire.flow(scene.net, scene.rng);
        self.read(scene);
        if flow != Flow::Open {
            // An idle connection may be closed at any time; with a request on its way it may not.
            let excused = self.closing
                || self.ended
                || self.asked.is_empty()
                || !scene.plan.calm
                || scene.phase == Phase::Draining;
            assert!(excused, "HTTP client {}: {flow:?} before the answers to {:?}", self.name, self.asked);
            if let (Flow::Ended, Some(wire), false) = (flow, &self.wire, self.ended) {
                scene.net.client_close(wire.conn);
            }
            self.forget(scene);
        } else if scene.phase.is_lively() && self.next_us <= scene.net.now_us() {
            self.next_us = scene.pause_until_us();
            let stuffed = self.wire.as_ref().is_some_and(Wire::is_stuffed);
            if !stuffed && !self.closing && !self.ended {
                self.act(scene);
            } else if scene.rng.chance(20) {
                self.exit(scene, Exit::Reset);
            }
        }
    }

    fn forget(&mut self, scene: &mut Scene<'_>) {
        self.wire = None;
        self.asked.clear();
        self.next_us = scene.pause_until_us();
    }

    pub(crate) fn exit(&mut self, scene: &mut Scene<'_>, exit: Exit) {
        let Some(wire) = &mut self.wire else { return };
        if exit.leave(wire, scene) {
            self.forget(scene);
        } else {
            self.ended = true;
        }
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let Some(wire) = &mut self.wire {
            let Some(answer) = wire.take_answer(false) else {
                return;
            };
            if scene.plan.trace {
                eprintln!(
                    "{:>12} http {:>2} < {} ({} bytes)",
                    scene.net.now_us(),
                    self.name,
                    answer.status,
                    answer.body.len()
                );
            }
            if answer.status == 100 {
                continue;
            }
            if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                self.closing = true;
            }
            let Some(asked) = self.asked.pop_front() else {
                // A head that took too long, or a server that is full or going away, may be told so.
                assert!(!scene.plan.calm || scene.phase == Phase::Draining, "an answer to nothing: {answer:?}");
                assert!([408, 503].contains(&answer.status), "an answer to nothing: {answer:?}");
                continue;
            };
            self.answered(scene, asked, &answer);
        }
    }

    fn answered(&mut self, scene: &mut Scene<'_>, asked: Asked, answer: &Answer) {
        if [408, 503].contains(&answer.status) {
            assert!(
                !scene.plan.calm || scene.phase == Phase::Draining,
                "{asked:?} refused without a reason: {answer:?}"
            );
            match asked {
                Asked::Publish(_, id) if answer.status == 503 => scene.oracle.refused(id),
                Asked::Poll(topic, _) => {
                    // Asked again from the same place.
                    self.polls.remove(&topic);
                }
                _ => {}
            }
            return;
        }
        match asked {
            Asked::Publish(topic, id) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                let text = std::str::from_utf8(&answer.body).expect("JSON is UTF-8");
                let json: serde_json::Value = serde_json::from_str(text).expect("the answer is JSON");
                assert_eq!(json["topic"], topic.as_str());
                scene.oracle.answered(id, Cursor::parse(json["cursor"].as_str().expect("a cursor")));
            }
            Asked::Batch(ids) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("the answer is JSON");
                assert_eq!(json["published"], ids.len());
            }
            Asked::Clear => assert!([200, 204].contains(&answer.status), "{answer:?}"),
            Asked::Poll(topic, Some(known)) if answer.status == 304 => {
                assert!(answer.body.is_empty(), "{answer:?}");
                assert_eq!(answer.header("corecast-cursor"), Some(known.to_string().as_str()), "{topic}");
            }
            Asked::Poll(topic, _) => self.polled(scene, &topic, answer),
            Asked::Value(topic) => match answer.status {
                200 => {
                    let id = scene.oracle.identify(&topic, &answer.body);
                    assert!(answer.header("etag").is_some(), "{answer:?}");
                    let text = std::str::from_utf8(&answer.body).is_ok();
                    let kind = answer.header("content-type").expect("a Content-Type");
                    assert_eq!(kind.starts_with("text/plain"), text, "{}", scene.oracle.describe(id));
                }
                404 => {}
                other => panic!("{other} for a value"),
            },
            Asked::Wrong(status) => assert_eq!(answer.status, status, "{answer:?}"),
        }
    }

    fn polled(&mut self, scene: &mut Scene<'_>, topic: &str, answer: &Answer) {
        assert_eq!(answer.status, 200, "{answer:?}");
        let Some(watch) = self.polls.get_mut(topic) else {
            return;
        };
        let next = Cursor::parse(answer.header("corecast-cursor").expect("a poll's answer names the next cursor"));
        let objects: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).expect("the answer is an array");
        for object in &objects {
            if let Some(gap) = object.get("gap") {
                let word = |name: &str| gap[name].as_str().unwrap_or_else(|| panic!("{name} of {gap}")).to_string();
                let (topic, from, to, reason) = (word("topic"), word("from"), word("to"), word("reason"));
                let count = gap["count"].as_u64().expect("a count");
                watch.gap(scene.oracle, Told { topic: &topic, from: &from, to: &to, count, reason: &reason });
                continue;
            }
            assert_eq!(object["topic"], topic);
            let data = object["data"].as_str().expect("data is a string");
            let bytes = match object.get("encoding") {
                Some(encoding) => {
                    assert_eq!(encoding, "base64");
                    unbase64(data)
                }
                None => data.as_bytes().to_vec(),
            };
            let event = object.get("event").map(|event| event.as_str().expect("an event is a string"));
            let cursor = Cursor::parse(object["cursor"].as_str().expect("a cursor"));
            watch.message(scene.oracle, cursor, event, &bytes);
        }
        watch.polled_up_to(scene.oracle, next);
    }

    fn put(&mut self, scene: &mut Scene<'_>, asked: Asked, head: &str, body: Option<&[u8]>) {
        let Some(wire) = &mut self.wire else { return };
        if scene.plan.trace {
            eprintln!("{:>12} http {:>2} > {}", scene.net.now_us(), self.name, head.lines().next().unwrap_or_default());
        }
        wire.put(head.as_bytes());
        wire.put(b"Host: sim\r\n");
        match body {
            None => wire.put(b"\r\n"),
            Some(body) if scene.rng.chance(600) => {
                wire.put(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                wire.put(body);
            }
            Some(body) => {
                wire.put(b"Transfer-Encoding: chunked\r\n\r\n");
                let mut rest = body;
                while !rest.is_empty() {
                    let (chunk, later) = rest.split_at(scene.rng.skewed(rest.len()));
                    wire.put(format!("{:x}\r\n", chunk.len()).as_bytes());
                    wire.put(chunk);
                    wire.put(b"\r\n");
                    rest = later;
                }
                wire.put(b"0\r\n\r\n");
            }
        }
        self.asked.push_back(asked);
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        if self.asked.len() > 8 {
            return;
        }
        let topic = scene.topic();
        let url = escape_url(&topic);
        let conn = self.wire.as_ref().expect("only an open client acts").conn;
        match scene.rng.below(100) {
            0..40 if scene.phase != Phase::Busy => {}
            0..40 => {
                let burst = if scene.rng.chance(200) { scene.rng.skewed(8) } else { 1 };
                for _ in 0..burst {
                    let len = scene.payload_len();
                    let sent = scene.oracle.publish(scene.rng, &topic, conn, len);
                    let event = sent.event.map_or(String::new(), |event| format!("Corecast-Event: {event}\r\n"));
                    let head = format!("POST /topics/{url} HTTP/1.1\r\n{event}");
                    self.put(scene, Asked::Publish(topic.clone(), sent.id), &head, Some(&sent.bytes));
                }
            }
            40..50 if scene.phase != Phase::Busy => {}
            40..50 => self.batch(scene, conn),
            50..52 if self.clears => {
                self.put(scene, Asked::Clear, &format!("DELETE /topics/{url} HTTP/1.1\r\n"), None);
            }
            52..75 => {
                // One poll of a topic at a time: the next one's cursor is in this one's answer.
                if self.asked.iter().any(|asked| matches!(asked, Asked::Poll(other, _) if *other == topic)) {
                    return;
                }
                let since = match self.polls.get(&topic).and_then(Watch::last) {
                    Some(last) if scene.rng.chance(900) => Since::After(last),
                    _ => scene.rng.pick(&[Since::Latest, Since::Live, Since::Earliest, Since::Last(3)]),
                };
                let mut watch = Watch::new(&topic, since);
                watch.asked(scene.oracle);
                self.polls.insert(topic.clone(), watch);
                let known = match since {
                    Since::After(last) if scene.rng.chance(300) => Some(last),
                    _ => None,
                };
                let condition = known.map_or(String::new(), |known| format!("If-None-Match: \"{known}\"\r\n"));
                let head = format!("GET /topics/{url}?transport=poll&since={since} HTTP/1.1\r\n{condition}");
                self.put(scene, Asked::Poll(topic, known), &head, None);
            }
            75..85 => {
                let head = format!("GET /topics/{url}?transport=value HTTP/1.1\r\n");
                self.put(scene, Asked::Value(topic), &head, None);
            }
            85..88 => {
                let bad = scene.rng.pick(&["a//b", "%2e%2", "$sys/x", "a%00b", "a/+/b"]);
                self.put(scene, Asked::Wrong(400), &format!("POST /topics/{bad} HTTP/1.1\r\n"), Some(b"x"));
            }
            88..90 => {
                let exit = Exit::draw(scene.rng);
                self.exit(scene, exit);
            }
            _ => {}
        }
    }

    fn batch(&mut self, scene: &mut Scene<'_>, conn: usize) {
        let mut body = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..scene.rng.skewed(6) {
            let topic = scene.topic();
            let len = scene.rng.skewed(scene.plan.message_bytes_max.min(300));
            let sent = scene.oracle.publish(scene.rng, &topic, conn, len);
            let mut object = serde_json::json!({ "topic": topic });
            match std::str::from_utf8(&sent.bytes) {
                Ok(text) => object["data"] = text.into(),
                Err(_) => {
                    object["data"] = base64(&sent.bytes).into();
                    object["encoding"] = "base64".into();
                }
            }
            if let Some(event) = sent.event {
                object["event"] = event.into();
            }
            body.extend_from_slice(object.to_string().as_bytes());
            body.push(b'\n');
            ids.push(sent.id);
        }
        let head = "POST /topics HTTP/1.1\r\nContent-Type: application/x-ndjson\r\n";
        self.put(scene, Asked::Batch(ids), head, Some(&body));
    }
}
