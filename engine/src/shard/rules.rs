//! Rules: what holds for topics of a pattern, found for one topic by a walk over its segments.
//!
//! ```text
//!   rules    prices/#   prices/+/raw   +/raw              as they are written, from the most specific to the least
//!   places   ─▶ prices ─▶ eur… ─▶ raw                     a place for each set of rules that beginnings of topics have in common:
//!             ╰▶ other ─▶ raw                             from each one step a segment, to one place
//!   terms    a row for each place where a topic may end: of each value what the most specific rule says that says it
//! ```
//!
//! Made once per configuration, and the same for every topic: nothing grows with the topics that peers think of, and a walk costs
//! the same whatever is asked. Patterns that overlap in very many ways would need very many places: they are refused.
//! Owns: plain data. Never: enforces anything, or knows the settings that hold where no rule says anything.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use corecast_protocol::{pattern, topic};

use crate::grant::{Action, Who};

/// Rules at most.
pub const RULES_MAX: usize = 1000;

/// Places and steps at most: some 2 MiB a shard. A thousand rules have a few thousand, unless `+` stands before names in many.
const PLACES_MAX: usize = 1 << 16;

/// The place of the empty beginning, for ordinary topics and for the engine's own, which no `+` or `#` in front matches.
const ROOT: u32 = 0;
const SYSTEM_ROOT: u32 = 1;

/// Topics that are told to be wanted at the same time, at most, unless a rule for that topic says otherwise.
const DEMAND_ROWS_MAX: u32 = 65_536;

/// Names that are told of a topic at the same time, at most, unless a rule for the topic that tells them says otherwise.
const PRESENCE_ROWS_MAX: u32 = 1_000;

/// What happens to a subscriber that falls off the tail of its frame log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LagPolicy {
    /// It is served from the home's history, and told of what is gone.
    #[default]
    Replay,
    /// Its connection is closed.
    Close,
}

/// What the messages of a topic are to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Each stands for itself; the newest is what a newcomer gets.
    #[default]
    Distinct,
    /// Each stands for itself, and a newcomer gets what comes.
    Raw,
    /// Each changes members of one record, which a newcomer gets whole.
    Merge,
    /// Each is the value of its key, which a newcomer gets of all keys.
    Command,
}

impl Mode {
    /// Says whether the home keeps values, each the newest of its key, and no history.
    #[must_use]
    pub fn is_table(self) -> bool {
        matches!(self, Mode::Merge | Mode::Command)
    }
}

/// What holds for a topic, as far as it is said; `None`: what the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Messages kept.
    pub history_messages: Option<u32>,
    /// Payload bytes kept.
    pub history_bytes: Option<u32>,
    /// Age of a message that is still kept, in milliseconds.
    pub history_ms: Option<u64>,
    /// What happens to a subscriber that is too slow.
    pub lag: Option<LagPolicy>,
    /// Of subscriptions that say nothing about it: only the newest message matters.
    pub conflate: Option<bool>,
    /// Of subscriptions that say nothing about it: at most one message per so many milliseconds; 0: all.
    pub every_ms: Option<u32>,
    /// Largest payload in bytes.
    pub message_bytes_max: Option<u32>,
    /// Who may publish.
    pub publish: Option<Who>,
    /// Who may read.
    pub subscribe: Option<Who>,
    /// How many read it is told.
    pub occupancy: Option<bool>,
    /// Whether it is wanted is told.
    pub demand: Option<bool>,
    /// Who reads it is told.
    pub presence: Option<bool>,
    /// What its messages are to each other.
    pub mode: Option<Mode>,
    /// The member of a record that is its key.
    pub key: Option<Box<str>>,
    /// Keys that it may have at most.
    pub rows: Option<u32>,
    /// Bytes that their values may have at most.
    pub row_bytes: Option<u32>,
    /// Bytes a second that a subscription is sent at most.
    pub rate: Option<u32>,
}

/// A row of terms with nothing in it.
static NOTHING: Terms = Terms {
    history_messages: None,
    history_bytes: None,
    history_ms: None,
    lag: None,
    conflate: None,
    every_ms: None,
    message_bytes_max: None,
    publish: None,
    subscribe: None,
    occupancy: None,
    demand: None,
    presence: None,
    mode: None,
    key: None,
    rows: None,
    row_bytes: None,
    rate: None,
};

impl Terms {
    /// Takes from less specific ones what these do not say.
    fn inherit(&mut self, other: &Terms) {
        self.history_messages = self.history_messages.or(other.history_messages);
        self.history_bytes = self.history_bytes.or(other.history_bytes);
        self.history_ms = self.history_ms.or(other.history_ms);
        self.lag = self.lag.or(other.lag);
        self.conflate = self.conflate.or(other.conflate);
        self.every_ms = self.every_ms.or(other.every_ms);
        self.message_bytes_max = self.message_bytes_max.or(other.message_bytes_max);
        self.publish = self.publish.or(other.publish);
        self.subscribe = self.subscribe.or(other.subscribe);
        self.occupancy = self.occupancy.or(other.occupancy);
        self.demand = self.demand.or(other.demand);
        self.presence = self.presence.or(other.presence);
        self.mode = self.mode.or(other.mode);
        self.key = self.key.take().or_else(|| other.key.clone());
        self.rows = self.rows.or(other.rows);
        self.row_bytes = self.row_bytes.or(other.row_bytes);
        self.rate = self.rate.or(other.rate);
    }
}

/// A rule as it is written: a pattern, and what it says of topics that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The pattern.
    pub pattern: Box<str>,
    /// What it says.
    pub terms: Terms,
}

/// Where a beginning of a topic has led.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its steps, for segments that rules name here; sorted by these, see [`by_length`].
    first: u32,
    steps: u32,
    /// Where any other segment leads.
    other: u32,
    /// What holds for a topic that ends here.
    terms: u16,
}

/// A step for one segment.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The segment, in the text of all segments.
    at: u32,
    len: u32,
    /// Where it leads.
    to: u32,
}

/// All rules of a configuration, compiled.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// As they are written, the most specific first.
    rules: Vec<Rule>,
    /// None without rules.
    places: Vec<Place>,
    steps: Vec<Step>,
    segments: Vec<u8>,
    /// Of each topic one of these; the first says nothing.
    terms: Vec<Terms>,
    /// The least that a rule says of the largest payload: nothing has to be looked up for smaller ones.
    message_bytes_least: Option<u32>,
    says_who: bool,
    /// Some topics keep values.
    tables: bool,
    /// What holds for the topics that tell how many read others, or which are wanted, as far as there are any.
    own: Vec<Rule>,
    /// There are such topics.
    counts: bool,
    demands: bool,
    presents: bool,
}

impl PartialEq for Rules {
    /// The rest follows from what is written.
    fn eq(&self, other: &Rules) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Rules {}

impl Rules {
    /// Compiles rules, in any order.
    ///
    /// # Errors
    /// What is wrong with them: a pattern that is none, one that stands twice, too many, or too many ways to overlap.
    pub fn new(mut rules: Vec<Rule>) -> Result<Rules, String> {
        if rules.len() > RULES_MAX {
            return Err(format!("{} rules, and there may be {RULES_MAX}", rules.len()));
        }
        for Rule { pattern, .. } in &rules {
            pattern::validate(pattern).map_err(|error| format!("`{pattern}`: {error}"))?;
        }
        rules.sort_by(|a, b| pattern::specificity(&b.pattern, &a.pattern));
        if let Some(twice) = rules.windows(2).find(|pair| pair[0].pattern == pair[1].pattern) {
            return Err(format!("`{}` stands twice", twice[0].pattern));
        }
        if rules.is_empty() {
            return Ok(Rules::default());
        }
        let counts = rules.iter().any(|rule| rule.terms.occupancy == Some(true));
        let demands = rules.iter().any(|rule| rule.terms.demand == Some(true));
        let presents = rules.iter().any(|rule| rule.terms.presence == Some(true));
        let mut all = rules.clone();
        let own = [counts.then(occupancy_rule), demands.then(demand_rule), presents.then(presence_rule)];
        let own: Vec<Rule> = own.into_iter().flatten().collect();
        for own in &own {
            match all.iter_mut().find(|rule| rule.pattern == own.pattern) {
                Some(written) => written.terms.inherit(&own.terms),
                None => all.push(own.clone()),
            }
        }
        all.sort_by(|a, b| pattern::specificity(&b.pattern, &a.pattern));
        Compiler::new(&all).compile().map(|compiled| Rules { rules, own, counts, demands, presents, ..compiled })
    }

    /// Returns them as they are written, the most specific first.
    #[must_use]
    pub fn written(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns them and the engine's own, the most specific first; of two with one pattern the written one.
    #[must_use]
    pub fn with_own(&self) -> Vec<&Rule> {
        let mut all: Vec<&Rule> = self.rules.iter().chain(&self.own).collect();
        all.sort_by(|a, b| pattern::specificity(&b.pattern, &a.pattern));
        all
    }

    /// Says whether readers of any topic are counted.
    #[must_use]
    pub fn count_any(&self) -> bool {
        self.counts
    }

    /// Says whether it is told of any topic whether it is wanted.
    #[must_use]
    pub fn demand_any(&self) -> bool {
        self.demands
    }

    /// Says whether it is told of a topic whether it is wanted; of the engine's own it is not.
    #[must_use]
    pub fn demand(&self, topic: &str) -> bool {
        self.demands && topic::can_be_occupied(topic) && self.of(topic).demand == Some(true)
    }

    /// Says whether readers of a topic are counted, and their number is told.
    #[must_use]
    pub fn count(&self, topic: &str) -> bool {
        self.count_any() && topic::can_be_occupied(topic) && self.of(topic).occupancy == Some(true)
    }

    /// Says whether it is told of any topic who reads it.
    #[must_use]
    pub fn presence_any(&self) -> bool {
        self.presents
    }

    /// Says whether it is told of a topic who reads it.
    #[must_use]
    pub fn presence(&self, topic: &str) -> bool {
        self.presents && topic::can_be_occupied(topic) && self.of(topic).presence == Some(true)
    }

    /// Finds what holds for a topic: a number that means the same for as long as these rules do.
    #[must_use]
    pub fn index_of(&self, topic: &str) -> u16 {
        if self.places.is_empty() {
            return 0;
        }
        let mut rest = topic.as_bytes();
        let mut at = if rest.first() == Some(&b'$') { SYSTEM_ROOT } else { ROOT };
        loop {
            let Place { first, steps, other, terms } = self.places[at as usize];
            if steps == 0 && other == at {
                return terms; // Whatever comes leads here again.
            }
            let len = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let segment = &rest[..len];
            let steps = &self.steps[first as usize..(first + steps) as usize];
            at = match steps.binary_search_by(|step| by_length(self.segment(step), segment)) {
                Ok(step) => steps[step].to,
                Err(_) => other,
            };
            match rest.get(len + 1..) {
                Some(behind) => rest = behind,
                None => return self.places[at as usize].terms,
            }
        }
    }

    /// Returns the terms that have a number.
    #[must_use]
    pub fn terms(&self, index: u16) -> &Terms {
        self.terms.get(usize::from(index)).unwrap_or(&NOTHING)
    }

    /// Returns what holds for a topic.
    #[must_use]
    pub fn of(&self, topic: &str) -> &Terms {
        self.terms(self.index_of(topic))
    }

    /// Says whether any topics keep values.
    #[must_use]
    pub fn have_tables(&self) -> bool {
        self.tables
    }

    /// Returns what the messages of a topic are to each other.
    #[must_use]
    pub fn mode_of(&self, topic: &str) -> Mode {
        if self.tables { self.of(topic).mode.unwrap_or_default() } else { Mode::Distinct }
    }

    /// Says whether any rule says who may do something.
    #[must_use]
    pub fn say_who(&self) -> bool {
        self.says_who
    }

    /// Says whether any rule lets somebody do something of whom nothing is known.
    #[must_use]
    pub fn let_anyone(&self) -> bool {
        self.rules.iter().any(|rule| [rule.terms.publish, rule.terms.subscribe].contains(&Some(Who::Anyone)))
    }

    /// Says who may do something with a topic; `None`: no rule says.
    #[must_use]
    pub fn who(&self, action: Action, topic: &str) -> Option<Who> {
        let terms = self.of(topic);
        match action {
            Action::Publish => terms.publish,
            Action::Subscribe => terms.subscribe,
        }
    }

    /// Says who may do something with the topics that a pattern matches: each that one of them may have, `None` if of some no rule says.
    pub fn who_of_all(&self, action: Action, pattern: &str) -> impl Iterator<Item = Option<Who>> {
        let of = move |rule: &Rule| match action {
            Action::Publish => rule.terms.publish,
            Action::Subscribe => rule.terms.subscribe,
        };
        let said = self.rules.iter().filter_map(move |rule| Some((&*rule.pattern, of(rule)?)));
        let said = said.filter(move |(own, _)| pattern::overlap(own, pattern));
        let covered = said.clone().any(|(own, _)| pattern::covers(own, pattern));
        said.map(|(_, who)| Some(who)).chain((!covered).then_some(None))
    }

    /// Says whether a rule makes a payload of so many bytes too large for a topic.
    #[must_use]
    pub fn is_too_large(&self, topic: &str, bytes: usize) -> bool {
        let may_be = self.message_bytes_least.is_some_and(|least| bytes > least as usize);
        may_be && self.of(topic).message_bytes_max.is_some_and(|most| bytes > most as usize)
    }

    fn segment(&self, step: &Step) -> &[u8] {
        &self.segments[step.at as usize..(step.at + step.len) as usize]
    }
}

/// What holds for topics that tell how many read others, as far as nobody writes anything else: only the newest number matters.
fn occupancy_rule() -> Rule {
    let terms = Terms { history_messages: Some(1), conflate: Some(true), ..Terms::default() };
    Rule { pattern: format!("{}#", topic::OCCUPANCY_PREFIX).into(), terms }
}

/// What holds for the topic that tells which are wanted, as far as nobody writes anything else: a key for each of them.
fn demand_rule() -> Rule {
    let terms = Terms { mode: Some(Mode::Command), rows: Some(DEMAND_ROWS_MAX), ..Terms::default() };
    Rule { pattern: topic::DEMAND.into(), terms }
}

/// What holds for the topics that tell who reads others, as far as nobody writes anything else: a key for each name.
fn presence_rule() -> Rule {
    let terms = Terms { mode: Some(Mode::Command), rows: Some(PRESENCE_ROWS_MAX), ..Terms::default() };
    Rule { pattern: format!("{}#", topic::PRESENCE_PREFIX).into(), terms }
}

/// Orders segments: most that are different have different lengths, and that is soon seen.
fn by_length(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// What the rules say of beginnings of topics: a tree by the segments of their patterns.
#[derive(Debug, Default)]
struct Node<'r> {
    names: BTreeMap<&'r str, usize>,
    /// Where `+` leads.
    one: Option<usize>,
    /// The rule that ends here.
    here: Option<usize>,
    /// The rule that has a `#` next.
    rest: Option<usize>,
}

/// What a place stands for: nodes that a beginning has reached, and rules that match whatever follows.
type Reached = (BTreeSet<usize>, BTreeSet<usize>);

#[derive(Debug)]
struct Compiler<'r> {
    rules: &'r [Rule],
    nodes: Vec<Node<'r>>,
    known: HashMap<Reached, u32>,
    reached: Vec<Reached>,
    rows: HashMap<Terms, u16>,
    made: Rules,
}

impl<'r> Compiler<'r> {
    fn new(rules: &'r [Rule]) -> Compiler<'r> {
        let mut nodes = vec![Node::default()];
        for (number, rule) in rules.iter().enumerate() {
            let mut at = 0;
            let mut ends = true;
            for segment in rule.pattern.split('/') {
                let new = nodes.len();
                let node = &mut nodes[at];
                at = match segment {
                    "#" => {
                        node.rest = Some(number);
                        ends = false;
                        at
                    }
                    "+" => *node.one.get_or_insert(new),
                    name => *node.names.entry(name).or_insert(new),
                };
                if at == new {
                    nodes.push(Node::default());
                }
            }
            if ends {
                nodes[at].here = Some(number);
            }
        }
        Compiler { rules, nodes, known: HashMap::new(), reached: vec![], rows: HashMap::new(), made: Rules::default() }
    }

    fn compile(mut self) -> Result<Rules, String> {
        self.row(Terms::default())?;
        let root = BTreeSet::from([0]);
        let rest = self.nodes[0].rest.into_iter().collect();
        // The engine's own topics have a root that is never come back to.
        self.reached = vec![(root.clone(), rest), (root, BTreeSet::new())];
        self.known.insert(self.reached[0].clone(), ROOT);
        let mut place = 0;
        while let Some((nodes, rests)) = self.reached.get(place).cloned() {
            let system = place == SYSTEM_ROOT as usize;
            let names: BTreeSet<&'r str> =
                nodes.iter().flat_map(|node| self.nodes[*node].names.keys().copied()).collect();
            let mut names: Vec<&'r str> = names.into_iter().collect();
            names.sort_by(|a, b| by_length(a.as_bytes(), b.as_bytes()));
            let first = self.made.steps.len();
            for name in &names {
                let to = self.step(&nodes, &rests, Some(name), !system);
                let at = self.made.segments.len();
                self.made.segments.extend(name.as_bytes());
                self.made.steps.push(Step { at: at as u32, len: name.len() as u32, to });
            }
            let other = self.step(&nodes, &rests, None, !system);
            let here = nodes.iter().filter_map(|node| self.nodes[*node].here);
            let mut terms = Terms::default();
            // The most specific has the lowest number.
            for number in rests.iter().copied().chain(here).collect::<BTreeSet<_>>() {
                terms.inherit(&self.rules[number].terms);
            }
            let terms = self.row(terms)?;
            self.made.places.push(Place { first: first as u32, steps: names.len() as u32, other, terms });
            if self.reached.len() + self.made.steps.len() > PLACES_MAX {
                return Err("the patterns overlap in too many ways; write fewer that have a + before a name".to_owned());
            }
            place += 1;
        }
        self.made.says_who = self.rules.iter().any(|rule| (rule.terms.publish, rule.terms.subscribe) != (None, None));
        self.made.tables = self.rules.iter().any(|rule| rule.terms.mode.is_some_and(Mode::is_table));
        self.made.message_bytes_least = self.rules.iter().filter_map(|rule| rule.terms.message_bytes_max).min();
        Ok(self.made)
    }

    /// Returns the place that a segment leads to: one of the names here, or any other one.
    fn step(&mut self, nodes: &BTreeSet<usize>, rests: &BTreeSet<usize>, name: Option<&str>, wild: bool) -> u32 {
        let mut to: Reached = (BTreeSet::new(), rests.clone());
        for node in nodes {
            let node = &self.nodes[*node];
            let named = name.and_then(|name| node.names.get(name).copied());
            for next in named.into_iter().chain(node.one.filter(|_| wild)) {
                to.0.insert(next);
                to.1.extend(self.nodes[next].rest);
            }
        }
        match self.known.entry(to) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let place = self.reached.len() as u32;
                self.reached.push(new.key().clone());
                *new.insert(place)
            }
        }
    }

    fn row(&mut self, terms: Terms) -> Result<u16, String> {
        if let Some(row) = self.rows.get(&terms) {
            return Ok(*row);
        }
        let row = u16::try_from(self.made.terms.len()).map_err(|_| "the rules give too many different terms")?;
        self.rows.insert(terms.clone(), row);
        self.made.terms.push(terms);
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, terms: Terms) -> Rule {
        Rule { pattern: pattern.into(), terms }
    }

    fn messages(pattern: &str, count: u32) -> Rule {
        rule(pattern, Terms { history_messages: Some(count), ..Terms::default() })
    }

    /// Readers are counted where the most specific rule that says so wants it, never those of the engine's own topics; the topics that tell
    /// their number hold the newest only, unless a rule says otherwise.
    #[test]
    fn readers_are_counted_by_rule() {
        let counted = |pattern, occupancy| rule(pattern, Terms { occupancy: Some(occupancy), ..Terms::default() });
        let rules = Rules::new(vec![counted("#", true), counted("a/+", false), counted("$sys/#", true)]).unwrap();
        for (topic, expected) in
            [("a", true), ("a/b", false), ("a/b/c", true), ("$sys/x", false), ("$sys/occupancy/a", false)]
        {
            assert_eq!(rules.count(topic), expected, "{topic}");
        }
        assert!(rules.count(&"x".repeat(240)) && !rules.count(&"x".repeat(241)));
        let newest = Terms { history_messages: Some(1), conflate: Some(true), ..Terms::default() };
        assert_eq!(*rules.of("$sys/occupancy/a/b"), Terms { occupancy: Some(true), ..newest.clone() });
        assert_eq!((rules.written().len(), rules.with_own().len()), (3, 4));
        let other = Rules::new(vec![counted("#", true), messages("$sys/occupancy/#", 5)]).unwrap();
        assert_eq!(*other.of("$sys/occupancy/a"), Terms { history_messages: Some(5), ..newest });
        let none = Rules::new(vec![counted("#", false)]).unwrap();
        assert!(!none.count_any() && !none.count("a") && *none.of("$sys/occupancy/a") == Terms::default());
    }

    /// Each value comes from the most specific rule that says it; the rest from less specific ones, and then from nowhere.
    #[test]
    fn values_are_inherited_one_by_one() {
        let rules = Rules::new(vec![
            rule("#", Terms { publish: Some(Who::Nobody), ..Terms::default() }),
            rule("prices/#", Terms { history_messages: Some(10), lag: Some(LagPolicy::Close), ..Terms::default() }),
            rule("prices/eur", Terms { lag: Some(LagPolicy::Replay), ..Terms::default() }),
            rule("prices/+", Terms { subscribe: Some(Who::Anyone), ..Terms::default() }),
        ])
        .unwrap();
        let eur = rules.of("prices/eur");
        assert_eq!((eur.history_messages, eur.lag), (Some(10), Some(LagPolicy::Replay)));
        assert_eq!((eur.publish, eur.subscribe, eur.conflate), (Some(Who::Nobody), Some(Who::Anyone), None));
        assert_eq!(rules.who(Action::Publish, "news"), Some(Who::Nobody));
        assert_eq!(rules.who(Action::Subscribe, "news"), None);
        assert_eq!(rules.of("prices").lag, Some(LagPolicy::Close));
        assert_eq!(*rules.of("$sys/x"), Terms::default(), "the engine's own topics are nobody's by chance");
        assert_eq!(*Rules::default().of("prices"), Terms::default());
        let without = Rules::new(vec![messages("a", 1)]).unwrap();
        assert!(rules.say_who() && !without.say_who() && !Rules::default().say_who());
        assert!(rules.let_anyone() && !without.let_anyone());
    }

    /// The walk finds what looking at each rule would, for any rules and any topic.
    #[test]
    fn like_looking_at_each() {
        let mut seed = 7_u64;
        let mut roll = |sides: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % sides
        };
        let (mut matched, mut several) = (0, 0);
        for _ in 0..400 {
            let mut written: Vec<Rule> = Vec::new();
            for number in 0..roll(12) {
                let count = 1 + roll(4);
                let mut segments: Vec<&str> = (0..count).map(|_| ["a", "b", "ab", "+", "+"][roll(5)]).collect();
                match roll(8) {
                    0 => segments = vec!["$sys", segments[0]],
                    1 | 2 => segments.push("#"),
                    3 => segments = vec!["#"],
                    _ => {}
                }
                let pattern = segments.join("/");
                if written.iter().any(|rule| *rule.pattern == *pattern) {
                    continue;
                }
                let said = |said: bool| said.then_some(number as u32);
                let terms = Terms {
                    history_messages: said(roll(2) == 0),
                    history_bytes: said(roll(2) == 0),
                    every_ms: said(roll(3) == 0),
                    message_bytes_max: said(roll(3) == 0),
                    ..Terms::default()
                };
                written.push(rule(&pattern, terms));
            }
            let rules = Rules::new(written.clone()).unwrap();
            written.sort_by(|a, b| pattern::specificity(&b.pattern, &a.pattern));
            assert_eq!(rules.written(), written);
            for _ in 0..60 {
                let count = 1 + roll(5);
                let segments: Vec<&str> = (0..count).map(|_| ["a", "b", "ab", "abc"][roll(4)]).collect();
                let topic = if roll(9) == 0 { format!("$sys/{}", segments[0]) } else { segments.join("/") };
                let mut expected = Terms::default();
                let matching = written.iter().filter(|rule| pattern::matches(&rule.pattern, &topic));
                matching.clone().for_each(|rule| expected.inherit(&rule.terms));
                matched += 1;
                several += usize::from(matching.count() > 2);
                assert_eq!(*rules.of(&topic), expected, "{topic} by {written:#?}");
                let most = expected.message_bytes_max.unwrap_or(u32::MAX) as usize;
                assert!(!rules.is_too_large(&topic, most) && (most > 99 || rules.is_too_large(&topic, most + 1)));
            }
        }
        assert!(matched > 10_000 && several > 1_000, "{several} of {matched}: the test is too tame");
    }

    /// A thousand rules as people write them take few places; such as overlap in all ways are refused, and in time.
    #[test]
    fn places_are_bounded() {
        let many = (0..999).map(|n| messages(&format!("customers/c{n}/#"), n)).chain([messages("+/+/private", 1)]);
        let rules = Rules::new(many.collect()).unwrap();
        assert!(rules.places.len() < 5_000, "{}", rules.places.len());
        assert_eq!(rules.of("customers/c998/x").history_messages, Some(998));
        assert_eq!(rules.of("customers/other/private").history_messages, Some(1));
        let tangled = |depth: usize| {
            let one = |at: usize| (0..depth).map(|n| if n == at { "x" } else { "+" }).collect::<Vec<_>>().join("/");
            Rules::new((0..depth).map(|at| messages(&one(at), at as u32)).collect())
        };
        assert!(tangled(10).is_ok());
        let error = tangled(20).unwrap_err();
        assert!(error.contains("overlap"), "{error}");
    }

    /// What makes no sense is refused: a pattern that is none, one that stands twice, and too many of them.
    #[test]
    fn nonsense_is_refused() {
        for (rules, expected) in [
            (vec![messages("a//b", 1)], "empty segment"),
            (vec![messages("a/+", 1), messages("b", 2), messages("a/+", 3)], "`a/+` stands twice"),
            ((0..=RULES_MAX).map(|n| messages(&n.to_string(), 1)).collect(), "1001 rules"),
        ] {
            let error = Rules::new(rules).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
