//! The publisher: which message is due when, and its bytes.
//!
//! Owns the schedule. In an open loop message n is due at `start + n / rate`, whatever happens, and its latency counts
//! from then. If the publisher itself runs late, that is in the latencies and, by itself, in the lag. In a closed loop a
//! message is due when there is room for it in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use corecast_protocol::http::client::request;
use corecast_protocol::write::Writer;
use corecast_protocol::ws::frame::{self, Opcode};

use crate::account::Account;
use crate::client::Talk;
use crate::payload::{self, Stamp};
use crate::plan::{Audience, Filling, Load, Phase, Plan, Publish, Topic};
use crate::stage::Subscribers;
use crate::tally::Tally;

/// Messages encoded in one turn, so that deliveries are looked at in between.
const TURN_MESSAGES_MAX: u32 = 256;

/// Bytes that may wait for the server before the publisher stops encoding; what is due meanwhile is lag.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Messages of one kind that are published in a phase.
#[derive(Debug)]
struct Flow {
    load: Load,
    target: Audience,
    bytes: usize,
    messages_max: u64,
    /// Messages that are due at the same moment.
    together: u64,
    published: u64,
    start_ns: u64,
    end_ns: u64,
    /// Closed loop: what will have been heard when each message in flight has reached everyone.
    in_flight: VecDeque<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Publisher {
    plan: Plan,
    talk: Option<Talk>,
    host: String,
    tally: Arc<Tally>,
    flows: Vec<Flow>,
    /// Messages published to groups so far: they go to each topic in turn.
    turns: u64,
    random: u64,
    subscribers: Arc<Subscribers>,
    expected: u64,
}

impl Flow {
    /// Returns when the next message is due; `None` if there is none, or it waits for deliveries.
    fn next_due_ns(&self, now_ns: u64) -> Option<u64> {
        if self.published >= self.messages_max {
            return None;
        }
        let begun = self.published % self.together;
        let due_ns = match self.load {
            Load::Idle => return None,
            Load::Open { rate } => self.start_ns + ((self.published - begun) as f64 * 1e9 / rate) as u64,
            // A lot that has begun has room for all of it.
            Load::Closed { in_flight }
                if begun > 0 || self.in_flight.len() as u64 + self.together <= in_flight.into() =>
            {
                now_ns.max(self.start_ns)
            }
            Load::Closed { .. } => return None,
        };
        (due_ns < self.end_ns).then_some(due_ns)
    }

    /// Says whether nothing will be published any more.
    fn done(&self, now_ns: u64) -> bool {
        let waits = matches!(self.load, Load::Closed { .. }) && !self.in_flight.is_empty() && now_ns < self.end_ns;
        self.next_due_ns(now_ns).is_none() && (!waits || self.published >= self.messages_max)
    }
}

impl Publisher {
    pub(crate) fn new(plan: &Plan, tally: Arc<Tally>, seed: u64) -> Publisher {
        Publisher {
            talk: plan.generic.as_ref().map(Talk::new),
            plan: plan.clone(),
            host: plan.publish_address().to_string(),
            tally,
            flows: Vec::new(),
            turns: 0,
            random: seed | 1,
            subscribers: Arc::default(),
            expected: 0,
        }
    }

    /// Begins a phase's schedule. `heard` is what was delivered or told before.
    pub(crate) fn begin(&mut self, phase: &Phase, start_ns: u64, subscribers: Arc<Subscribers>, heard: u64) {
        let end_ns = phase.seconds.map_or(u64::MAX, |seconds| start_ns.saturating_add((seconds * 1e9) as u64));
        let flow = |stream: &crate::plan::Stream| Flow {
            load: stream.load(),
            target: self.plan.target(stream),
            bytes: self.plan.bytes_of(stream),
            messages_max: stream.messages.unwrap_or(u64::MAX),
            together: stream.together.map_or(1, u64::from),
            published: 0,
            start_ns,
            end_ns,
            in_flight: VecDeque::new(),
        };
        self.flows = phase.streams().iter().map(flow).collect();
        self.subscribers = subscribers;
        self.expected = heard;
    }

    /// Returns what will have been heard when all that was published has reached everyone.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Ends the schedule, whatever is left of it.
    pub(crate) fn end(&mut self) {
        self.flows.clear();
    }

    /// Returns when the next message is due; `None` if there is none, or it waits for deliveries.
    pub(crate) fn next_due_ns(&self, now_ns: u64) -> Option<u64> {
        self.flows.iter().filter_map(|flow| flow.next_due_ns(now_ns)).min()
    }

    /// Says whether nothing will be published any more in this phase.
    pub(crate) fn done(&self, now_ns: u64) -> bool {
        self.flows.iter().all(|flow| flow.done(now_ns))
    }

    /// Appends the bytes of all that is due to what the publishing connections send; `heard` counts deliveries so far,
    /// `waiting_bytes` what is not sent yet.
    pub(crate) fn turn(
        &mut self,
        now_ns: u64,
        heard: u64,
        waiting_bytes: usize,
        out: &mut [Vec<u8>],
        account: &mut Account,
    ) {
        for flow in &mut self.flows {
            while flow.in_flight.front().is_some_and(|expected| *expected <= heard) {
                flow.in_flight.pop_front();
            }
        }
        let mut bytes = waiting_bytes;
        for _ in 0..TURN_MESSAGES_MAX {
            let due =
                self.flows.iter().enumerate().filter_map(|(index, flow)| Some((flow.next_due_ns(now_ns)?, index)));
            let Some((due_ns, index)) = due.min() else {
                return;
            };
            if due_ns > now_ns || bytes > WAITING_BYTES_MAX {
                return;
            }
            let topic = self.choose(self.flows[index].target);
            let stamp = Stamp { topic: topic.stamp(), number: self.tally.next(topic), scheduled_ns: due_ns };
            let out = &mut out[topic.number as usize % self.plan.publishers as usize];
            let before = out.len();
            self.append(topic, stamp, self.flows[index].bytes, out);
            bytes += out.len() - before;
            account.sent(due_ns, now_ns);
            let counts = &self.subscribers.counts[topic.audience as usize];
            self.expected += u64::from(counts.get(topic.number as usize).copied().unwrap_or(0));
            let flow = &mut self.flows[index];
            flow.published += 1;
            if matches!(flow.load, Load::Closed { .. }) {
                flow.in_flight.push_back(self.expected);
            }
        }
    }

    fn choose(&mut self, audience: Audience) -> Topic {
        let number = match audience {
            Audience::All => 0,
            Audience::Group => {
                self.turns += 1;
                ((self.turns - 1) % u64::from(self.plan.topics)) as u32
            }
            Audience::Own => {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                ((u128::from(self.random) * u128::from(self.plan.connections)) >> 64) as u32
            }
        };
        Topic { audience, number }
    }

    fn append(&self, topic: Topic, stamp: Stamp, bytes: usize, out: &mut Vec<u8>) {
        let name = self.plan.topic_name(topic);
        let Some(talk) = &self.talk else {
            return match self.plan.publish {
                Publish::Ws => append_frame(out, Opcode::Text, format!("PUB {name}\n").as_bytes(), stamp, bytes, b""),
                Publish::Http => self.post(&format!("/topics/{name}"), b"", stamp, bytes, b"", out),
            };
        };
        let filling = Filling { topic: &name, id: topic.number, bytes };
        let template = &talk.script.publish;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        template.before(&filling, &mut before);
        template.after(&filling, &mut after);
        match self.plan.publish {
            Publish::Ws => append_frame(out, talk.opcode(template), &before, stamp, bytes, &after),
            Publish::Http => {
                let mut path = Vec::new();
                talk.script.publish_path.before(&filling, &mut path);
                self.post(&String::from_utf8_lossy(&path), &before, stamp, bytes, &after, out);
            }
        }
    }

    fn post(&self, target: &str, before: &[u8], stamp: Stamp, bytes: usize, after: &[u8], out: &mut Vec<u8>) {
        let headers = self.plan.generic.iter().flat_map(|generic| &generic.publish_headers);
        let headers: Vec<_> = headers.filter_map(|line| line.split_once(':')).collect();
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name.trim(), value.trim())).collect();
        let mut head = [0; 4096];
        let mut writer = Writer::new(&mut head);
        let body_len = before.len() + bytes + after.len();
        request(&mut writer, "POST", target, &self.host, &headers, Some(body_len));
        let head_len = writer.finish().expect("what a plan says is far shorter than the head's room");
        out.extend_from_slice(&head[..head_len]);
        out.extend_from_slice(before);
        let start = out.len();
        out.resize(start + bytes, 0);
        payload::write(stamp, &mut out[start..]);
        out.extend_from_slice(after);
    }
}

/// Appends a masked frame: a stamped payload, and what stands before and behind it.
pub(crate) fn append_frame(out: &mut Vec<u8>, opcode: Opcode, before: &[u8], stamp: Stamp, bytes: usize, after: &[u8]) {
    // Cheap, but different from message to message, so that servers do unmask.
    let mask = (stamp.number as u32).wrapping_mul(0x9e37_79b9).wrapping_add(0x5bd1_e995).to_le_bytes();
    let len = before.len() + bytes + after.len();
    let start = out.len() + frame::header_len(len, true);
    out.resize(start + len, 0);
    let header = start - frame::header_len(len, true);
    frame::write_header(&mut out[header..], true, false, opcode, len, Some(mask));
    let payload = start + before.len();
    out[start..payload].copy_from_slice(before);
    payload::write(stamp, &mut out[payload..payload + bytes]);
    out[payload + bytes..].copy_from_slice(after);
    frame::unmask(&mut out[start..], mask, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Scope;
    use crate::plan::Stream;

    const SECOND: u64 = 1_000_000_000;

    struct Bench {
        publisher: Publisher,
        tally: Arc<Tally>,
        account: Account,
        out: Vec<Vec<u8>>,
    }

    impl Bench {
        fn new(plan: &Plan) -> Bench {
            let tally = Arc::new(Tally::new(plan));
            let mut publisher = Publisher::new(plan, Arc::clone(&tally), 7);
            let counts = [Audience::All, Audience::Group, Audience::Own];
            let counts = counts.map(|audience| vec![2; plan.topics_of(audience) as usize]);
            publisher.begin(&plan.phases[1], SECOND, Arc::new(Subscribers { counts }), 100);
            let out = vec![Vec::new(); plan.publishers as usize];
            Bench { publisher, tally, account: Account::new(Scope::default()), out }
        }

        fn turn(&mut self, now_ns: u64, heard: u64) -> u64 {
            self.publisher.turn(now_ns, heard, 0, &mut self.out, &mut self.account);
            self.account.published
        }

        /// Takes what was written, as stamps.
        fn stamps(&mut self, connection: usize, bytes: usize) -> Vec<Stamp> {
            let (mut out, mut at, mut stamps) = (std::mem::take(&mut self.out[connection]), 0, Vec::new());
            while at < out.len() {
                let frame = &mut out[at..];
                let len = usize::from(frame[1] & 127);
                assert!(len < 126, "short frames only");
                let mask = [frame[2], frame[3], frame[4], frame[5]];
                frame::unmask(&mut frame[6..6 + len], mask, 0);
                stamps.push(payload::read(&frame[6 + len - bytes..6 + len]).unwrap());
                at += 6 + len;
            }
            stamps
        }
    }

    fn plan(phase: Phase) -> Plan {
        Plan { bytes: 56, phases: Plan::connect_then(phase), ..Plan::default() }
    }

    fn open(rate: f64) -> Phase {
        Phase { seconds: Some(1.0), ..Phase::publish(Load::Open { rate }) }
    }

    /// In an open loop a publisher that was held up catches up, and stamps every message with the time it was due.
    #[test]
    fn open_loop_keeps_its_schedule() {
        let mut bench = Bench::new(&Plan { topics: 2, ..plan(open(10.0)) });
        assert_eq!(bench.turn(SECOND - 1, 0), 0);
        assert_eq!(bench.publisher.next_due_ns(0), Some(SECOND));
        assert_eq!(bench.turn(SECOND, 0), 1);
        assert_eq!(bench.turn(SECOND * 3 / 2, 0), 6, "the four that were missed and the one that is due");
        assert!(bench.account.lag.equivalent(bench.account.lag.max(), 400_000_000));
        assert_eq!(bench.turn(SECOND * 9, 0), 10, "nothing is due after the end");
        assert!(bench.publisher.done(SECOND * 9));
        assert_eq!(bench.publisher.expected(), 100 + 10 * 2, "two subscribers each, behind what was heard before");
        let stamps = bench.stamps(0, 56);
        assert_eq!(stamps.len(), 10);
        for (number, stamp) in (0..).zip(stamps) {
            let topic = Topic { audience: Audience::Group, number: number as u32 % 2 };
            assert_eq!((stamp.topic, stamp.number), (topic.stamp(), number / 2));
            assert_eq!(stamp.scheduled_ns, SECOND + number * SECOND / 10);
        }
        assert_eq!(bench.tally.published_to(Audience::Group), 10);
    }

    /// In a closed loop a message waits until an earlier one has reached all of its topic's subscribers; what was heard
    /// before the phase does not count.
    #[test]
    fn closed_loop_waits_for_deliveries() {
        let phase = Phase { messages: Some(4), ..Phase::publish(Load::Closed { in_flight: 2 }) };
        let mut bench = Bench::new(&plan(phase));
        for (heard, published) in [(100, 2), (101, 2), (102, 3), (103, 3), (104, 4), (108, 4)] {
            assert_eq!(bench.turn(SECOND, heard), published, "after {heard} deliveries");
        }
        assert!(bench.publisher.done(SECOND));
    }

    /// Messages that are due together come at the same moment: in an open loop by the schedule, in a closed one when there is
    /// room for all of them.
    #[test]
    fn messages_come_together() {
        let mut bench = Bench::new(&Plan { topics: 4, ..plan(Phase { together: Some(4), ..open(8.0) }) });
        for (now_ns, published) in [(SECOND, 4), (SECOND * 3 / 2 - 1, 4), (SECOND * 3 / 2, 8), (SECOND * 9, 8)] {
            assert_eq!(bench.turn(now_ns, 0), published, "at {now_ns}");
        }
        let times: Vec<u64> = bench.stamps(0, 56).iter().map(|stamp| stamp.scheduled_ns).collect();
        assert_eq!(times, [[SECOND; 4], [SECOND * 3 / 2; 4]].concat());
        let together = Phase { messages: Some(10), together: Some(3), ..Phase::publish(Load::Closed { in_flight: 4 }) };
        let mut bench = Bench::new(&plan(together));
        for (heard, published) in [(100, 3), (103, 3), (104, 6), (109, 6), (110, 9), (116, 10)] {
            assert_eq!(bench.turn(SECOND, heard), published, "after {heard} deliveries");
        }
    }

    /// A server that does not read stops the publisher from encoding, and the rest becomes lag.
    #[test]
    fn bytes_that_wait_are_bounded() {
        let mut bench = Bench::new(&plan(open(1e6)));
        bench.publisher.turn(SECOND * 2, 0, WAITING_BYTES_MAX + 1, &mut bench.out, &mut bench.account);
        assert_eq!((bench.account.published, bench.out[0].len()), (0, 0));
    }

    /// Several streams keep their own schedules, each to its own audience; every single connection gets its turn by
    /// chance; topics keep to their publishing connection.
    #[test]
    fn streams_run_side_by_side() {
        let mut phase = open(10.0);
        phase.to = Some(Audience::All);
        phase.also = vec![Stream { to: Some(Audience::Own), rate: Some(100.0), bytes: Some(60), ..Stream::default() }];
        let subscribe = vec![Audience::All, Audience::Own];
        let mut bench = Bench::new(&Plan { subscribe, connections: 5, publishers: 2, ..plan(phase) });
        assert_eq!(bench.turn(SECOND * 3, 0), 110);
        assert_eq!(bench.tally.published_to(Audience::All), 10);
        let each = |number| bench.tally.published(Topic { audience: Audience::Own, number });
        let counts: Vec<u64> = (0..5).map(each).collect();
        assert!(counts.iter().sum::<u64>() == 100 && counts.iter().all(|count| *count >= 8), "{counts:?}");
        let stamps = bench.stamps(1, 60);
        assert_eq!(stamps.len() as u64, counts[1] + counts[3]);
    }
}
