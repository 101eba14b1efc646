//! A client that polls: long polls, polls, scripts and values, of one topic and of several, each from the cursor that the
//! one before gave. It gives up in the middle now and then, and sends nothing ahead.

use crate::ask::{Ask, Start, Transport};
use crate::client::{Exit, Phase, Scene};
use crate::following::Following;
use crate::line::draw_since;
use crate::net::{ConnId, Net};
use crate::oracle::{Cursor, Oracle};
use crate::raw::escape_url;
use crate::reading::{News, Reading};
use crate::rng::Rng;
use crate::wire::{Answer, Flow, Pace, Wire};

/// So often a client comes back once the faults are over.
const RETURNS_MAX: u32 = 5;

/// Topics of one request at most.
const TOPICS_MAX: usize = 5;

/// A newest payload that was asked for.
#[derive(Debug)]
struct Value {
    topic: String,
    /// The cursor of `If-None-Match`.
    known: Option<Cursor>,
    /// The newest number that was known before.
    floor: Option<Cursor>,
}

#[derive(Debug)]
enum Request {
    Messages(Reading),
    Value(Value),
}

#[derive(Debug)]
pub(crate) struct Poller {
    name: usize,
    wire: Option<Wire>,
    request: Option<Request>,
    following: Option<Following>,
    in_path: bool,
    /// The newest value that was fetched: topic and cursor.
    value: Option<(String, Cursor)>,
    /// The server said that this connection ends.
    closing: bool,
    ended: bool,
    pace: Pace,
    next_us: u64,
    /// Times it was sent away since the faults ended.
    returns: u32,
}

impl Poller {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool) -> Poller {
        Poller {
            name,
            wire: None,
            request: None,
            following: None,
            in_path: true,
            value: None,
            closing: false,
            ended: false,
            pace: if calm { Pace::FAST } else { Pace::draw(rng) },
            next_us: 0,
            returns: 0,
        }
    }

    pub(crate) fn has_work(&self, net: &Net, phase: Phase, oracle: &Oracle) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.has_work(net))
            || self.next_due_us(phase, oracle).is_some_and(|due_us| due_us <= net.now_us())
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        self.wire.as_ref().map(|wire| wire.conn)
    }

    pub(crate) fn next_due_us(&self, phase: Phase, oracle: &Oracle) -> Option<u64> {
        let free = self.request.is_none() && !self.closing && !self.ended;
        let wants = phase.is_lively() || (phase == Phase::Settling && free && self.misses(oracle));
        wants.then_some(self.next_us)
    }

    /// Says whether it would poll again.
    fn misses(&self, oracle: &Oracle) -> bool {
        self.returns <= RETURNS_MAX
            && self.following.as_ref().is_some_and(|following| !following.is_complete(oracle, false))
    }

    pub(crate) fn waits_for(&self, phase: Phase, oracle: &Oracle) -> Option<String> {
        let polls_on = phase == Phase::Settling && self.misses(oracle);
        let Some(wire) = &self.wire else {
            return polls_on.then(|| format!("poller {}: to come back", self.name));
        };
        let reason = if wire.has_unwritten() {
            "its bytes to be taken".to_string()
        } else if phase == Phase::Draining || self.closing || self.ended {
            "the server to close".to_string()
        } else {
            match &self.request {
                None if polls_on => "its next turn".to_string(),
                None => return None,
                Some(Request::Messages(reading)) => {
                    let ask = reading.ask();
                    let following = self.following.as_ref().expect("it polls for something");
                    let may_wait = ask.transport == Transport::LongPoll || ask.wait_s.is_some();
                    if may_wait && following.is_complete(oracle, false) {
                        return None;
                    }
                    format!("the answer to {ask:?}: {}", following.describe(oracle))
                }
                Some(Request::Value(value)) => format!("{value:?}"),
            }
        };
        Some(format!("poller {} on connection {}: {reason}", self.name, wire.conn))
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let due = self.next_due_us(scene.phase, scene.oracle).is_some_and(|due_us| due_us <= scene.net.now_us());
        let Some(wire) = &mut self.wire else {
            if due {
                let shard = scene.rng.below(scene.plan.shards);
                self.wire = Some(Wire::open(scene.net, scene.rng, shard, self.pace));
                (self.closing, self.ended) = (false, false);
                self.ask(scene);
            }
            return;
        };
        wire.pace = self.pace;
        let flow = wire.flow(scene.net, scene.rng);
        self.read(scene);
        if flow != Flow::Open {
            self.lose(scene, flow);
        } else if due {
            self.next_us = scene.pause_until_us();
            if self.request.is_none() && !self.closing && !self.ended {
                self.ask(scene);
            } else if scene.phase.is_lively() && scene.rng.chance(40) {
                let exit = if self.ended { Exit::Reset } else { Exit::draw(scene.rng) };
                self.exit(scene, exit);
            }
        }
    }

    /// Sends the next request.
    fn ask(&mut self, scene: &mut Scene<'_>) {
        if scene.phase == Phase::Settling {
            // It only goes on with what it began.
        } else if scene.rng.chance(100) {
            self.ask_value(scene);
            return;
        } else if self.following.is_none() || scene.rng.chance(50) {
            let topics = if scene.rng.chance(350) { scene.topics(TOPICS_MAX) } else { vec![scene.topic()] };
            self.in_path = topics.len() == 1 && scene.rng.chance(700);
            self.following = Some(Following::new(topics, draw_since(scene.rng)));
        }
        let (Some(following), Some(wire)) = (&mut self.following, &mut self.wire) else { return };
        let transport = scene.rng.pick(&[Transport::LongPoll, Transport::LongPoll, Transport::Poll, Transport::Jsonp]);
        let known = following.cursors();
        let mut ask = Ask::new(transport, following.topics.clone(), Start::Since(following.since()));
        ask.in_path = self.in_path;
        ask.http10 = scene.rng.chance(100);
        ask.wait_s = match transport {
            Transport::LongPoll => scene.rng.pick(&[None, Some(0), Some(1), Some(120)]),
            Transport::Jsonp => scene.rng.pick(&[None, None, Some(1), Some(30)]),
            _ => None,
        };
        ask.known = known.filter(|_| transport == Transport::Poll && scene.rng.chance(500));
        if transport == Transport::Jsonp && scene.rng.chance(500) {
            ask.callback = Some("a.b_$");
        }
        following.asked(scene.oracle, &ask);
        scene.say(|| format!("poller {:>2} > {ask:?}", self.name));
        self.request = Some(Request::Messages(Reading::begin(ask, wire, scene.rng)));
    }

    fn ask_value(&mut self, scene: &mut Scene<'_>) {
        let Some(wire) = &mut self.wire else { return };
        let topic = match &self.value {
            Some((topic, _)) if scene.rng.chance(500) => topic.clone(),
            _ => scene.topic(),
        };
        let known = self.value.as_ref().filter(|(other, _)| *other == topic).map(|(_, cursor)| *cursor);
        let condition = known.map_or(String::new(), |known| format!("If-None-Match: \"{known}\"\r\n"));
        let target = format!("/topics/{}?transport=value", escape_url(&topic));
        wire.put(format!("GET {target} HTTP/1.1\r\nHost: sim\r\n{condition}\r\n").as_bytes());
        scene.say(|| format!("poller {:>2} > {target} {known:?}", self.name));
        let floor = scene.oracle.head(&topic);
        self.request = Some(Request::Value(Value { topic, known, floor }));
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let (Some(wire), Some(request)) = (&mut self.wire, &mut self.request) {
            let excused = !scene.plan.calm || scene.phase == Phase::Draining;
            match request {
                Request::Messages(reading) => {
                    let Some(news) = reading.next(wire, scene.rng) else { return };
                    scene.say(|| format!("poller {:>2} < {news:?}", self.name));
                    self.closing |= reading.closing && !matches!(news, News::Item(_));
                    match news {
                        News::Begun => {}
                        News::Item(item) => {
                            let following = self.following.as_mut().expect("it polls for something");
                            following.item(scene.oracle, item);
                        }
                        News::Refused => {
                            assert!(excused, "poller {}: refused without a reason", self.name);
                            self.returns += u32::from(scene.phase == Phase::Settling);
                            self.request = None;
                        }
                        News::Over => self.request = None,
                    }
                }
                Request::Value(value) => {
                    let Some(answer) = wire.take_answer(false) else { return };
                    self.closing |= answer.header("connection") == Some("close");
                    if [408, 429, 503].contains(&answer.status) {
                        assert!(excused, "poller {}: refused without a reason", self.name);
                    } else if let Some(cursor) = value_cursor(scene.oracle, value, &answer) {
                        self.value = Some((value.topic.clone(), cursor));
                    }
                    self.request = None;
                }
            }
        }
    }

    /// The server ended the connection.
    fn lose(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        // Between two requests it may, at any time.
        let excused =
            self.closing || self.ended || self.request.is_none() || !scene.plan.calm || scene.phase == Phase::Draining;
        assert!(excused, "poller {}: {flow:?} before the answer to {:?}", self.name, self.request);
        if let (Flow::Ended, Some(wire), false) = (flow, &self.wire, self.ended) {
            scene.net.client_close(wire.conn);
        }
        self.returns += u32::from(scene.phase == Phase::Settling && self.request.is_some());
        self.forget(scene);
    }

    fn forget(&mut self, scene: &mut Scene<'_>) {
        self.wire = None;
        self.request = None;
        (self.closing, self.ended) = (false, false);
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
}

/// Checks the answer to a request for the newest payload, and returns its cursor if there is one.
fn value_cursor(oracle: &mut Oracle, value: &Value, answer: &Answer) -> Option<Cursor> {
    let Value { topic, known, floor } = value;
    if answer.status == 404 {
        let nothing = floor.is_none_or(|floor| floor.seq == 0) || oracle.may_forget;
        assert!(nothing, "topic {topic} has a message, at {floor:?} or later");
        return None;
    }
    let cursor = Cursor::parse(answer.header("corecast-cursor").expect("a value has a cursor"));
    assert_eq!(answer.header("etag"), Some(format!("\"{cursor}\"").as_str()), "{answer:?}");
    if let Some(floor) = floor.filter(|floor| floor.epoch == cursor.epoch) {
        assert!(cursor.seq >= floor.seq, "topic {topic}: {cursor} is not the newest, {floor} was there before");
    }
    match answer.status {
        200 => {
            let text = std::str::from_utf8(&answer.body).is_ok();
            let kind = answer.header("content-type").expect("a Content-Type");
            assert_eq!(kind.starts_with("text/plain"), text, "topic {topic} at {cursor}");
            assert_ne!(Some(cursor), *known, "nothing is new");
            oracle.saw_value(topic, cursor, &answer.body);
        }
        304 => assert_eq!(Some(cursor), *known, "topic {topic}"),
        other => panic!("{other} for a value"),
    }
    Some(cursor)
}
