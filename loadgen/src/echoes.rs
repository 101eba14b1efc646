//! The schedule of a worker's echoing connections: which of them sends when.
//!
//! In an open loop message n of the worker is due at a fixed time and goes to its connections in turn. In a closed loop only
//! the first messages are sent from here; each echo that comes back brings the next.

use std::sync::Arc;

use corecast::io::driver::Slot;
use corecast_protocol::ws::frame::Opcode;

use crate::account::Account;
use crate::payload::Stamp;
use crate::plan::{Audience, Load, Phase, Plan, Topic};
use crate::publisher::append_frame;
use crate::tally::Tally;

/// A connection that echoes: its lane, slot and number.
pub(crate) type Echoing = (usize, Slot, u32);

/// See the module.
#[derive(Debug)]
pub(crate) struct Echoes {
    tally: Arc<Tally>,
    load: Load,
    bytes: usize,
    /// Messages sent in this phase, also in reply.
    pub(crate) sent: u64,
    connections: Vec<Echoing>,
    /// Messages that were due so far, and that may be in this phase.
    scheduled: u64,
    messages_max: u64,
    rate: f64,
    start_ns: u64,
    end_ns: u64,
}

impl Echoes {
    pub(crate) fn new(tally: Arc<Tally>) -> Echoes {
        Echoes {
            tally,
            load: Load::Idle,
            bytes: 0,
            sent: 0,
            connections: Vec::new(),
            scheduled: 0,
            messages_max: 0,
            rate: 0.0,
            start_ns: u64::MAX,
            end_ns: u64::MAX,
        }
    }

    /// Begins a phase. Each connection sends at most `each_max` messages in it.
    pub(crate) fn begin(
        &mut self,
        plan: &Plan,
        phase: &Phase,
        start_ns: u64,
        connections: Vec<Echoing>,
        each_max: u64,
    ) {
        let stream = phase.streams().first().copied().unwrap_or_default();
        let count = connections.len() as u64;
        self.load = stream.load();
        self.bytes = plan.bytes_of(&stream);
        self.rate = match self.load {
            Load::Open { rate } => rate * count as f64 / f64::from(plan.connections),
            Load::Closed { .. } | Load::Idle => 0.0,
        };
        (self.sent, self.scheduled) = (0, 0);
        self.messages_max = each_max.saturating_mul(count);
        self.connections = connections;
        self.start_ns = start_ns;
        self.end_ns = phase.seconds.map_or(u64::MAX, |seconds| start_ns.saturating_add((seconds * 1e9) as u64));
    }

    /// Ends the schedule, whatever is left of it.
    pub(crate) fn end(&mut self, now_ns: u64) {
        self.end_ns = self.end_ns.min(now_ns.max(self.start_ns.saturating_add(1)));
    }

    /// Says how many messages ahead of an echo its reply is.
    pub(crate) fn ahead(&self) -> u32 {
        match self.load {
            Load::Closed { in_flight } => in_flight,
            Load::Open { .. } | Load::Idle => 0,
        }
    }

    /// Says whether nothing will be sent any more in this phase.
    pub(crate) fn done(&self, now_ns: u64) -> bool {
        self.load == Load::Idle || now_ns >= self.end_ns || self.sent >= self.messages_max
    }

    /// Returns when the next message is due; `None` if there is none that has a time.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        let open = self.rate > 0.0 && self.scheduled < self.messages_max;
        open.then(|| self.due_ns(self.scheduled))
    }

    fn due_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 / self.rate * 1e9) as u64
    }

    /// Sends what is due.
    pub(crate) fn turn(&mut self, now_ns: u64, account: &mut Account, mut send: impl FnMut(Echoing, &[u8])) {
        if now_ns < self.start_ns {
            return;
        }
        let count = self.connections.len() as u64;
        let due = match self.load {
            Load::Idle => 0,
            Load::Closed { .. } if now_ns >= self.end_ns => 0,
            Load::Closed { in_flight } => u64::from(in_flight) * count,
            Load::Open { .. } => {
                let passed_ns = now_ns.min(self.end_ns - 1) - self.start_ns;
                (passed_ns as f64 / 1e9 * self.rate) as u64 + 1
            }
        };
        let mut out = Vec::new();
        while self.scheduled < due.min(self.messages_max) {
            let echoing = self.connections[(self.scheduled % count) as usize];
            let scheduled_ns = if self.rate > 0.0 { self.due_ns(self.scheduled) } else { now_ns };
            if self.rate > 0.0 {
                account.sent(scheduled_ns, now_ns);
            }
            let topic = Topic { audience: Audience::Own, number: echoing.2 };
            let stamp = Stamp { topic: topic.stamp(), number: self.tally.next(topic), scheduled_ns };
            append_frame(&mut out, Opcode::Text, b"", stamp, self.bytes, b"");
            send(echoing, &out);
            out.clear();
            self.scheduled += 1;
            self.sent += 1;
        }
    }
}
