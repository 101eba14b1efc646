//! The operator of a world: questions and reloads in mid-traffic, over a control plane that now and then reads no answer for long.
//!
//! Owns: the control plane's end of the mesh, and a source of chance of its own, so that what it does moves nobody else's.
//! Never: orders what a client could take for a fault. Histories are never made shorter than they were at the start, as the oracle
//! counts on them; in a calm world nobody is closed for being slow.

use corecast::grant::Revocation;
use corecast::mesh;
use corecast::shard::{Errand, LagPolicy, Limits, Question, ROWS_MAX, Rule, Rules, Terms, Wanted};

use crate::net::SharedNet;
use crate::rng::Rng;

/// So many orders lie between two looks at the answers of one that is attentive, of one that is slow, and of one that stalls for good.
const READS: [u64; 5] = [7, 7, 7, 400, u64::MAX];

#[derive(Debug)]
pub(crate) struct Operator {
    control: mesh::Control,
    rng: Rng,
    /// What all shards began with.
    limits: Limits,
    calm: bool,
    reads_after: u64,
    /// Draws which topics are counted, if any are in this world.
    counts: Option<Rng>,
}

impl Operator {
    pub(crate) fn new(control: mesh::Control, seed: u64, limits: Limits, calm: bool) -> Operator {
        let counts = limits.rules.count_any().then(|| Rng::new(seed.rotate_left(49)));
        let mut rng = Rng::new(!seed);
        let reads_after = rng.pick(&READS);
        Operator { control, rng, limits, calm, reads_after, counts }
    }

    /// Gives the next shard an order, the one of so many, and looks at the answers if it is time.
    pub(crate) fn act(&mut self, turn: u64, net: &SharedNet) {
        let shards = self.control.shards();
        let wish = match turn / shards as u64 % 4 {
            0 => Wanted::Set(Box::new(self.other_limits())),
            1 => Wanted::Ask(Question::Connections, 10),
            2 => Wanted::Ask(Question::Topics, ROWS_MAX),
            // Nobody has it; but whoever waits for a verdict meanwhile has to ask again.
            _ if self.limits.asks.tokens => Wanted::Revoke([Revocation::Token("another".into())].into()),
            _ => Wanted::Ask(Question::Slow, 3),
        };
        let order = Errand { number: turn, wish };
        // It may owe too many answers.
        let _ = self.control.send(turn as usize % shards, order, |shard| net.borrow_mut().ring_doorbell(shard));
        if turn.is_multiple_of(self.reads_after) {
            (0..shards).for_each(|shard| while self.control.receive(shard).is_some() {});
        }
    }

    /// Draws limits that may follow those of the start.
    fn other_limits(&mut self) -> Limits {
        let (rng, start) = (&mut self.rng, &self.limits);
        let mut limits = Limits {
            history_messages: start.history_messages.saturating_mul(rng.pick(&[1, 1, 3])),
            history_bytes: start.history_bytes.saturating_mul(rng.pick(&[1, 1, 3])),
            subscriptions_max: start.subscriptions_max * rng.pick(&[1, 2]),
            topics_max: start.topics_max.saturating_mul(rng.pick(&[1, 2])),
            compress_from: rng.pick(&[start.compress_from, None, Some(1), Some(200)]),
            ping_ms: rng.pick(&[start.ping_ms, start.ping_ms / 2]),
            ..start.clone()
        };
        if !self.calm {
            limits.log_bytes_max = rng.pick(&[start.log_bytes_max, 1_000, 256 << 10]);
            limits.lag = rng.pick(&[start.lag, start.lag, LagPolicy::Close, LagPolicy::Replay]);
        }
        limits.rules = draw_rules(rng, start, self.calm, self.counts.as_mut());
        limits
    }
}

/// Draws rules that may follow the limits of the start: some for topics that there are, some for none.
fn draw_rules(rng: &mut Rng, start: &Limits, calm: bool, mut counts: Option<&mut Rng>) -> Rules {
    let mut rules: Vec<Rule> = Vec::new();
    for _ in 0..rng.below(5) {
        let pattern = rng.pick(&["#", "+", "+/+", "t/+", "t/#", "t/1", "hot", "a/b", "other/#", "+/1"]);
        if rules.iter().any(|rule| *rule.pattern == *pattern) {
            continue;
        }
        let terms = Terms {
            history_messages: rng.pick(&[
                None,
                Some(start.history_messages),
                Some(start.history_messages.saturating_mul(2)),
            ]),
            history_bytes: rng.pick(&[None, Some(start.history_bytes.saturating_mul(2))]),
            history_ms: rng.pick(&[None, Some(start.history_ms), Some(start.history_ms * 2)]),
            lag: if calm { None } else { rng.pick(&[None, Some(LagPolicy::Close), Some(LagPolicy::Replay)]) },
            message_bytes_max: rng.pick(&[None, Some(start.message_bytes_max)]),
            conflate: rng.pick(&[None, Some(false)]),
            every_ms: rng.pick(&[None, Some(0)]),
            publish: None,
            subscribe: None,
            occupancy: counts.as_mut().and_then(|rng| rng.pick(&[None, Some(true), Some(true), Some(false)])),
        };
        rules.push(Rule { pattern: pattern.into(), terms });
    }
    if counts.is_some() {
        rules.retain(|rule| &*rule.pattern != "#");
        rules.push(Rule { pattern: "#".into(), terms: Terms { occupancy: Some(true), ..Terms::default() } });
    }
    Rules::new(rules).expect("no pattern stands twice")
}
