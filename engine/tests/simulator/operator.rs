//! The operator of a world: questions and reloads in mid-traffic, over a control plane that now and then reads no answer for long.
//!
//! Owns: the control plane's end of the mesh, and a source of chance of its own, so that what it does moves nobody else's.
//! Never: orders what a client could take for a fault. Histories are never made shorter than they were at the start, as the oracle
//! counts on them; in a calm world nobody is closed for being slow.

use corecast::grant::{Revocation, Who};
use corecast::mesh;
use corecast::shard::{By, Errand, LagPolicy, Limits, Only, Question, ROWS_MAX, Rule, Rules, Said, Terms, Wanted};

use crate::net::SharedNet;
use crate::regime::SharedRegime;
use crate::rng::Rng;

/// So many orders lie between two looks at the answers of one that is attentive, of one that is slow, and of one that stalls for good.
const READS: [u64; 5] = [7, 7, 7, 400, u64::MAX];

/// Errands with which something is taken back have numbers from here on.
const REVOCATIONS: u64 = 1 << 32;

/// Of so many orders one is followed by something that is taken back.
const ORDERS_A_REVOCATION: usize = 8;

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
    /// Who may what, if not everybody may everything.
    regime: Option<SharedRegime>,
}

impl Operator {
    pub(crate) fn new(
        control: mesh::Control,
        seed: u64,
        limits: Limits,
        calm: bool,
        regime: Option<SharedRegime>,
    ) -> Operator {
        let counts = limits.rules.count_any().then(|| Rng::new(seed.rotate_left(49)));
        let mut rng = Rng::new(!seed);
        let mut reads_after = rng.pick(&READS);
        if regime.is_some() && reads_after == u64::MAX {
            // Nothing could be taken back any more.
            reads_after = 1;
        }
        Operator { control, rng, limits, calm, reads_after, counts, regime }
    }

    /// Gives the next shard an order, the one of so many, and looks at the answers if it is time.
    pub(crate) fn act(&mut self, turn: u64, net: &SharedNet) {
        let shards = self.control.shards();
        let wish = match turn / shards as u64 % 4 {
            0 => Wanted::Set(Box::new(self.other_limits())),
            1 => Wanted::Ask(Question::Connections(Only::default()), 10),
            2 => Wanted::Ask(Question::Topics(By::Bytes), ROWS_MAX),
            // Nobody has it; but whoever waits for a verdict meanwhile has to ask again.
            _ if self.limits.asks.tokens => Wanted::Revoke([Revocation::Token("another".into())].into()),
            _ => Wanted::Ask(Question::Slow, 3),
        };
        let rules = if let Wanted::Set(limits) = &wish { Some(limits.rules.clone()) } else { None };
        let order = Errand { number: turn, wish };
        let to = turn as usize % shards;
        // It may owe too many answers.
        let sent = self.control.send(to, order, |shard| net.borrow_mut().ring_doorbell(shard));
        if let (Some(regime), Some(rules), true) = (&self.regime, rules, sent) {
            regime.borrow_mut().ruled(to, turn, rules);
        }
        if turn.is_multiple_of(self.reads_after) {
            (0..shards).for_each(|shard| self.read(shard));
        }
        self.revoke(net);
    }

    /// Reads a shard's answers.
    fn read(&mut self, shard: usize) {
        while let Some(answer) = self.control.receive(shard) {
            let Some(regime) = &self.regime else { continue };
            match answer.said {
                Said::Applied(_) => regime.borrow_mut().rules_hold(shard, answer.number),
                Said::Revoked(_) if answer.number >= REVOCATIONS => {
                    regime.borrow_mut().revocation_is_done(shard, (answer.number - REVOCATIONS) as usize);
                }
                _ => {}
            }
        }
    }

    /// Takes something back, now and then; the authority knows it at once, and each shard when it is told.
    fn revoke(&mut self, net: &SharedNet) {
        let Some(regime) = self.regime.clone() else { return };
        let mut regime = regime.borrow_mut();
        if self.rng.below(ORDERS_A_REVOCATION) == 0 {
            regime.revoke(&mut self.rng);
        }
        for shard in 0..self.control.shards() {
            while let Some((number, what)) = regime.untold(shard) {
                let order = Errand { number: REVOCATIONS + number as u64, wish: Wanted::Revoke([what].into()) };
                if !self.control.send(shard, order, |shard| net.borrow_mut().ring_doorbell(shard)) {
                    break;
                }
                regime.told(shard, number);
            }
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
        limits.rules = draw_rules(rng, start, self.calm, self.regime.is_some(), self.counts.as_mut());
        limits
    }
}

/// Draws rules that may follow the limits of the start: some for topics that there are, some for none.
/// With `levels`, they say who may what; but everybody may what whoever has a grant for everything does in worlds.
fn draw_rules(rng: &mut Rng, start: &Limits, calm: bool, levels: bool, mut counts: Option<&mut Rng>) -> Rules {
    let mut rules: Vec<Rule> = Vec::new();
    for _ in 0..rng.below(5) {
        let own = levels && rng.chance(500);
        let pattern = if own {
            rng.pick(&["s", "s/#", "s/+", "s/1", "s/2/x"])
        } else {
            rng.pick(&["#", "+", "+/+", "t/+", "t/#", "t/1", "hot", "a/b", "other/#", "+/1"])
        };
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
            publish: draw_level(rng, levels, own),
            subscribe: draw_level(rng, levels, own),
            occupancy: counts.as_mut().and_then(|rng| rng.pick(&[None, Some(true), Some(true), Some(false)])),
            ..Terms::default()
        };
        rules.push(Rule { pattern: pattern.into(), terms });
    }
    if counts.is_some() {
        rules.retain(|rule| &*rule.pattern != "#");
        rules.push(Rule { pattern: "#".into(), terms: Terms { occupancy: Some(true), ..Terms::default() } });
    }
    Rules::new(rules).expect("no pattern stands twice")
}

/// Draws who may do something, if rules say so; what is the strangers' `own` may be nobody's.
fn draw_level(rng: &mut Rng, levels: bool, own: bool) -> Option<Who> {
    let nobody = if own { Who::Nobody } else { Who::Granted };
    if levels {
        rng.pick(&[None, None, Some(Who::Granted), Some(Who::Authenticated), Some(Who::Anyone), Some(nobody)])
    } else {
        None
    }
}
