//! The publisher: which message is due when, and its bytes.
//!
//! Owns the schedule. In an open loop message n is due at `start + n / rate`, whatever happens, and its latency counts
//! from then. If the publisher itself runs late, that is in the latencies and, by itself, in the lag. In a closed loop a
//! message is due when there is room for it in flight.

use std::collections::VecDeque;

use corecast_protocol::write::Writer;
use corecast_protocol::ws::frame::{self, Opcode};
use hdrhistogram::Histogram;

use crate::account::histogram;
use crate::payload::{self, Stamp};
use crate::plan::{Load, Plan, Publish};

/// Messages encoded in one turn, so that deliveries are looked at in between.
const TURN_MESSAGES_MAX: u32 = 256;

/// Bytes that may wait for the server before the publisher stops encoding; what is due meanwhile is lag.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Publisher {
    load: Load,
    publish: Publish,
    bytes: usize,
    host: String,
    topics: Vec<String>,
    messages_max: u64,
    start_ns: u64,
    end_ns: u64,
    /// Messages published so far: the number of the next one over all topics.
    published: u64,
    /// Subscribers of each topic.
    audience: Vec<u32>,
    /// Deliveries that will have been made when each message in flight has reached everyone.
    in_flight: VecDeque<u64>,
    expected: u64,
    /// How late messages were encoded, in nanoseconds.
    pub(crate) lag: Histogram<u64>,
}

impl Publisher {
    pub(crate) fn new(plan: &Plan) -> Publisher {
        Publisher {
            load: plan.load,
            publish: plan.publish,
            bytes: plan.bytes,
            host: plan.connect[0].to_string(),
            topics: (0..plan.topics).map(|topic| plan.topic_name(topic)).collect(),
            messages_max: plan.messages.unwrap_or(u64::MAX),
            start_ns: u64::MAX,
            end_ns: u64::MAX,
            published: 0,
            audience: Vec::new(),
            in_flight: VecDeque::new(),
            expected: 0,
            lag: histogram(),
        }
    }

    /// Starts the schedule.
    pub(crate) fn start(&mut self, start_ns: u64, seconds: Option<f64>, audience: &[u32]) {
        self.start_ns = start_ns;
        self.end_ns = seconds.map_or(u64::MAX, |seconds| start_ns.saturating_add((seconds * 1e9) as u64));
        self.audience = audience.to_vec();
    }

    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// Returns when the next message is due; `None` if there is none, or it waits for deliveries.
    pub(crate) fn next_due_ns(&self, now_ns: u64) -> Option<u64> {
        if self.start_ns == u64::MAX || self.published >= self.messages_max {
            return None;
        }
        let due_ns = match self.load {
            Load::Idle => return None,
            Load::Open { rate } => self.start_ns + (self.published as f64 * 1e9 / rate) as u64,
            Load::Closed { in_flight } if self.in_flight.len() < in_flight as usize => now_ns.max(self.start_ns),
            Load::Closed { .. } => return None,
        };
        (due_ns < self.end_ns).then_some(due_ns)
    }

    /// Says whether nothing will be published any more.
    pub(crate) fn done(&self, now_ns: u64) -> bool {
        let waits = matches!(self.load, Load::Closed { .. }) && !self.in_flight.is_empty() && now_ns < self.end_ns;
        self.start_ns != u64::MAX
            && self.next_due_ns(now_ns).is_none()
            && (!waits || self.published >= self.messages_max)
            && (!matches!(self.load, Load::Idle) || now_ns >= self.end_ns)
    }

    /// Appends the bytes of all that is due; `delivered` counts deliveries so far, `waiting_bytes` what is not sent yet.
    pub(crate) fn turn(&mut self, now_ns: u64, delivered: u64, waiting_bytes: usize, out: &mut Vec<u8>) {
        while self.in_flight.front().is_some_and(|expected| *expected <= delivered) {
            self.in_flight.pop_front();
        }
        for _ in 0..TURN_MESSAGES_MAX {
            let Some(due_ns) = self.next_due_ns(now_ns) else {
                return;
            };
            if due_ns > now_ns || waiting_bytes + out.len() > WAITING_BYTES_MAX {
                return;
            }
            let topic = (self.published % self.topics.len() as u64) as usize;
            let number = self.published / self.topics.len() as u64;
            let stamp = Stamp { topic: topic as u32, number, scheduled_ns: due_ns };
            self.append(topic, stamp, out);
            self.lag.saturating_record(now_ns - due_ns);
            self.published += 1;
            if matches!(self.load, Load::Closed { .. }) {
                self.expected += u64::from(self.audience[topic]);
                self.in_flight.push_back(self.expected);
            }
        }
    }

    fn append(&self, topic: usize, stamp: Stamp, out: &mut Vec<u8>) {
        let name = &self.topics[topic];
        match self.publish {
            Publish::Ws => append_frame(out, format!("PUB {name}\n").as_bytes(), stamp, self.bytes),
            Publish::Http => {
                let mut head = [0; 1024];
                let mut writer = Writer::new(&mut head);
                let target = format!("/topics/{name}");
                let length = Some(self.bytes);
                corecast_protocol::http::client::request(&mut writer, "POST", &target, &self.host, &[], length);
                let head_len = writer.finish().expect("topic and host are far shorter than the head's room");
                out.extend_from_slice(&head[..head_len]);
                let start = out.len();
                out.resize(start + self.bytes, 0);
                payload::write(stamp, &mut out[start..]);
            }
        }
    }
}

/// Appends a masked text frame: a line, then a stamped payload.
pub(crate) fn append_frame(out: &mut Vec<u8>, line: &[u8], stamp: Stamp, bytes: usize) {
    // Cheap, but different from message to message, so that servers do unmask.
    let mask = (stamp.number as u32).wrapping_mul(0x9e37_79b9).wrapping_add(0x5bd1_e995).to_le_bytes();
    let len = line.len() + bytes;
    let start = out.len() + frame::header_len(len, true);
    out.resize(start + len, 0);
    let header = start - frame::header_len(len, true);
    frame::write_header(&mut out[header..], true, false, Opcode::Text, len, Some(mask));
    out[start..start + line.len()].copy_from_slice(line);
    payload::write(stamp, &mut out[start + line.len()..]);
    frame::unmask(&mut out[start..], mask, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn publisher(plan: Plan) -> Publisher {
        let mut publisher = Publisher::new(&plan);
        publisher.start(SECOND, plan.seconds, &vec![2; plan.topics as usize]);
        publisher
    }

    /// In an open loop a publisher that was held up catches up, and stamps every message with the time it was due.
    #[test]
    fn open_loop_keeps_its_schedule() {
        let load = Load::Open { rate: 10.0 };
        let mut publisher = publisher(Plan { load, seconds: Some(1.0), topics: 2, bytes: 56, ..Plan::default() });
        let mut out = Vec::new();
        publisher.turn(SECOND - 1, 0, 0, &mut out);
        assert_eq!((out.len(), publisher.next_due_ns(0)), (0, Some(SECOND)));
        publisher.turn(SECOND, 0, 0, &mut out);
        assert_eq!(publisher.published(), 1);
        publisher.turn(SECOND * 3 / 2, 0, 0, &mut out);
        assert_eq!(publisher.published(), 6, "the four that were missed and the one that is due");
        assert!(publisher.lag.equivalent(publisher.lag.max(), 400_000_000));
        publisher.turn(SECOND * 9, 0, 0, &mut out);
        assert_eq!(publisher.published(), 10, "nothing is due after the end");
        assert!(publisher.done(SECOND * 9));
        let mut at = 0;
        for number in 0..10u64 {
            let frame = &mut out[at..];
            let len = usize::from(frame[1] & 127);
            let mask = [frame[2], frame[3], frame[4], frame[5]];
            frame::unmask(&mut frame[6..6 + len], mask, 0);
            let payload = &frame[6 + len - 56..6 + len];
            let stamp = payload::read(payload, 56).unwrap();
            assert_eq!((u64::from(stamp.topic), stamp.number), (number % 2, number / 2));
            assert_eq!(stamp.scheduled_ns, SECOND + number * SECOND / 10);
            at += 6 + len;
        }
        assert_eq!(at, out.len());
    }

    /// In a closed loop a message waits until an earlier one has reached all of its topic's subscribers.
    #[test]
    fn closed_loop_waits_for_deliveries() {
        let load = Load::Closed { in_flight: 2 };
        let mut publisher = publisher(Plan { load, seconds: None, messages: Some(4), ..Plan::default() });
        let mut out = Vec::new();
        for (delivered, published) in [(0, 2), (1, 2), (2, 3), (3, 3), (4, 4), (8, 4)] {
            publisher.turn(SECOND, delivered, 0, &mut out);
            assert_eq!(publisher.published(), published, "after {delivered} deliveries");
        }
        assert!(publisher.done(SECOND));
    }

    /// A server that does not read stops the publisher from encoding, and the rest becomes lag.
    #[test]
    fn bytes_that_wait_are_bounded() {
        let load = Load::Open { rate: 1e6 };
        let mut publisher = publisher(Plan { load, ..Plan::default() });
        let mut out = Vec::new();
        publisher.turn(SECOND * 2, 0, WAITING_BYTES_MAX + 1, &mut out);
        assert_eq!((publisher.published(), out.len()), (0, 0));
    }
}
