//! Demand: which of the topics that have their home here are wanted by anybody on any shard, and what was told of it to the home of `$sys/demand`.
//!
//! ```text
//!   first member ──▶ wanted ──at once──▶ told                  while somebody reads $sys/demand, or did just now
//!   last one gone ─▶ not wanted ──after the delay, if still so──▶ told
//! ```
//!
//! Owns: of each topic with the rule that is wanted, or was told to be, its name, and when it is looked at; how far the look at all homes has come; and
//! as the home of `$sys/demand` itself who reads it, and which shards have told all that they want told. Nobody reads it: nothing of this is here.
//! Touches nothing else: [`super::wanting`] tells. Invariants: a topic stands in at most one queue, and `stands` says so; it is here while it is
//! wanted, was told to be, or stands in a queue; what is to be told of it stands in a queue.

use std::collections::VecDeque;

use crate::mesh::{Name, Shards};
use crate::shard::memory::slab::Slab;
use crate::shard::scratch::bytes_of;
use crate::shard::topic::names::{NamePlace, Names};
use crate::shard::topic::places::{Places, half};

/// What found no room at the home of `$sys/demand` is told again after so long, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// How long it is known what is wanted that nobody reads, in milliseconds, and how often it is looked whether anybody does.
pub(in crate::shard) const KEPT_MS: u64 = 10_000;

/// A topic of which somebody wants to know whether it is wanted.
#[derive(Debug)]
struct Wanted {
    hash: u64,
    name: NamePlace,
    /// Some shard has subscribers.
    wanted: bool,
    /// What was told last.
    told: bool,
    /// When it lost the last of them.
    lost_ms: u64,
    /// It stands in a queue.
    stands: bool,
}

/// What the home of `$sys/demand` wants another shard to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) enum Ask {
    /// Nothing.
    #[default]
    Nothing,
    /// To tell all that is wanted there, and from then on what changes.
    Tell,
    /// To tell nothing any more.
    Stop,
}

/// What the home of `$sys/demand` knows of who reads it.
#[derive(Debug, Default)]
pub(in crate::shard) struct Teller {
    /// Somebody reads it, or did just now.
    pub(in crate::shard) is_read: bool,
    /// When it was last asked for.
    pub(in crate::shard) asked_ms: u64,
    /// When it is looked whether anybody still reads it.
    pub(in crate::shard) looks_ms: u64,
    /// What the other shards are still to be asked.
    pub(in crate::shard) asks: Vec<Ask>,
    /// How often it was begun to be read.
    pub(in crate::shard) round: u32,
    /// Shards that have not told all yet.
    pub(in crate::shard) awaited: Shards,
    /// Requests that wait for them: the shard, and the packet.
    pub(in crate::shard) held: Vec<(usize, Box<[u8]>)>,
}

/// What is wanted of topics at home.
#[derive(Debug)]
pub(in crate::shard) struct Demand {
    /// It is to be told.
    pub(in crate::shard) is_told: bool,
    /// Since it was asked for so many times: what is told before is of no use any more.
    pub(in crate::shard) round: u32,
    topics: Slab<Wanted>,
    names: Names,
    by_name: Places,
    /// Topics that are looked at at once, when the delay is over, and once more, with the times.
    soon: VecDeque<(u64, u32)>,
    later: VecDeque<(u64, u32)>,
    again: VecDeque<(u64, u32)>,
    /// The place of the home that is looked at next, if all are to be looked at.
    pub(in crate::shard) look: Option<usize>,
    /// Once all that was found is told, that is to be said.
    pub(in crate::shard) says_all: bool,
    /// As the home of `$sys/demand`.
    pub(in crate::shard) teller: Teller,
}

impl Demand {
    /// Makes one of which nothing is told, among so many shards.
    #[must_use]
    pub(in crate::shard) fn new(shards: usize) -> Demand {
        Demand {
            is_told: false,
            round: 0,
            topics: Slab::new(),
            names: Names::new(),
            by_name: Places::default(),
            soon: VecDeque::new(),
            later: VecDeque::new(),
            again: VecDeque::new(),
            look: None,
            says_all: false,
            teller: Teller { asks: vec![Ask::Nothing; shards], ..Teller::default() },
        }
    }

    /// Returns the bytes of memory that it holds besides queues.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.topics.bytes() + self.names.bytes() + self.by_name.bytes()
    }

    /// Returns how many of these bytes are of what there is.
    #[must_use]
    pub(in crate::shard) fn used_bytes(&self) -> u64 {
        self.topics.used_bytes() + self.names.used_bytes() + self.by_name.bytes()
    }

    /// Returns the bytes of memory that its queues hold.
    #[must_use]
    pub(in crate::shard) fn queue_bytes(&self) -> usize {
        let held: usize = self.teller.held.iter().map(|(_, packet)| packet.len() + 32).sum();
        [&self.soon, &self.later, &self.again].into_iter().map(bytes_of).sum::<usize>() + held
    }

    /// Returns the name of a topic.
    #[must_use]
    pub(in crate::shard) fn name(&self, index: u32) -> &str {
        self.names.text(self.topics[index as usize].name)
    }

    /// Begins to tell, of all topics anew: nobody knows anything.
    pub(in crate::shard) fn begin(&mut self, round: u32) {
        self.stop();
        (self.is_told, self.round, self.look) = (true, round, Some(0));
    }

    /// Forgets all of it.
    pub(in crate::shard) fn stop(&mut self) {
        let shards = self.teller.asks.len();
        let teller = std::mem::take(&mut self.teller);
        *self = Demand { teller, ..Demand::new(shards) };
    }

    /// A topic has subscribers, or none any more.
    pub(in crate::shard) fn change(&mut self, name: Name<'_>, wanted: bool, delay_ms: u64, now_ms: u64) {
        let same = |index: u32| {
            let topic = &self.topics[index as usize];
            topic.hash == name.hash && self.names.is(topic.name, name.text)
        };
        let found = self.by_name.find(half(name.hash), same);
        let index = match found {
            Some(index) => index,
            None if !wanted => return,
            None => {
                let name_place = self.names.keep(name.text);
                let topic =
                    Wanted { hash: name.hash, name: name_place, wanted, told: false, lost_ms: now_ms, stands: false };
                let index = u32::try_from(self.topics.insert(topic)).expect("fewer topics than 2^32");
                self.by_name.insert(half(name.hash), index);
                index
            }
        };
        let topic = &mut self.topics[index as usize];
        topic.wanted = wanted;
        if !wanted {
            topic.lost_ms = now_ms;
        }
        if topic.stands {
            return; // It is looked at as it is then.
        }
        if topic.wanted == topic.told {
            return self.forget_if_idle(index);
        }
        topic.stands = true;
        match wanted {
            true => self.soon.push_back((now_ms, index)),
            false => self.later.push_back((now_ms + delay_ms, index)),
        }
    }

    /// What was told of a topic found no room: it is told again.
    pub(in crate::shard) fn untold(&mut self, name: Name<'_>, now_ms: u64) {
        let same = |index: u32| {
            let topic = &self.topics[index as usize];
            topic.hash == name.hash && self.names.is(topic.name, name.text)
        };
        let Some(index) = self.by_name.find(half(name.hash), same) else { return };
        let topic = &mut self.topics[index as usize];
        topic.told = !topic.wanted;
        if !std::mem::replace(&mut topic.stands, true) {
            self.again.push_back((now_ms + AGAIN_MS, index));
        }
    }

    /// Returns when something is due, in milliseconds.
    #[must_use]
    pub(in crate::shard) fn due_ms(&self) -> Option<u64> {
        let queues = [&self.soon, &self.later, &self.again];
        let due = queues.into_iter().filter_map(|queue| queue.front()).map(|(due, _)| *due).min();
        let looks = self.teller.is_read.then_some(self.teller.looks_ms);
        [due, looks].into_iter().flatten().min()
    }

    /// Says whether something is to be done now.
    #[must_use]
    #[inline]
    pub(in crate::shard) fn is_due(&self, now_ms: u64) -> bool {
        (self.is_told || self.teller.is_read || self.asks_anybody()) && self.has_work(now_ms)
    }

    fn has_work(&self, now_ms: u64) -> bool {
        self.waits() || self.due_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    fn asks_anybody(&self) -> bool {
        self.teller.asks.iter().any(|ask| *ask != Ask::Nothing)
    }

    /// Says whether there is something to do for which a shard may have to wait until others have made room.
    #[must_use]
    pub(in crate::shard) fn waits(&self) -> bool {
        self.look.is_some() || self.says_all || !self.soon.is_empty() || self.asks_anybody()
    }

    /// Takes the next topic that is to be looked at; whether it is wanted is to be [told](Demand::was_told) if that is another thing than was.
    pub(in crate::shard) fn take_due(&mut self, delay_ms: u64, now_ms: u64) -> Option<(u32, Option<bool>)> {
        let is_due = |due: &mut (u64, u32)| due.0 <= now_ms;
        let (_, index) = self
            .soon
            .pop_front_if(is_due)
            .or_else(|| self.later.pop_front_if(is_due))
            .or_else(|| self.again.pop_front_if(is_due))?;
        let topic = &mut self.topics[index as usize];
        topic.stands = false;
        if !topic.wanted && topic.told && topic.lost_ms + delay_ms > now_ms {
            // It was wanted meanwhile, and lost again.
            topic.stands = true;
            self.later.push_back((topic.lost_ms + delay_ms, index));
            return Some((index, None));
        }
        let news = (topic.wanted != topic.told).then_some(topic.wanted);
        if news.is_none() {
            self.forget_if_idle(index);
        }
        Some((index, news))
    }

    /// It was told whether a topic is wanted.
    pub(in crate::shard) fn was_told(&mut self, index: u32, wanted: bool) {
        self.topics[index as usize].told = wanted;
        self.forget_if_idle(index);
    }

    /// There is no room to tell it: it is looked at again before others.
    pub(in crate::shard) fn put_back(&mut self, index: u32, now_ms: u64) {
        self.topics[index as usize].stands = true;
        self.soon.push_front((now_ms, index));
    }

    /// Says whether all that was found to be wanted is told.
    #[must_use]
    pub(in crate::shard) fn is_all_told(&self) -> bool {
        self.look.is_none() && self.soon.is_empty()
    }

    fn forget_if_idle(&mut self, index: u32) {
        let topic = &self.topics[index as usize];
        if !(topic.wanted || topic.told || topic.stands) {
            let topic = self.topics.remove(index as usize);
            self.names.forget(topic.name);
            self.by_name.remove(half(topic.hash), index);
        }
    }

    /// Checks what it says of itself.
    ///
    /// # Panics
    /// If something does not hold.
    pub(in crate::shard) fn check(&self) {
        let mut stand = 0;
        for (_, topic) in self.topics.iter() {
            assert!(
                topic.wanted || topic.told || topic.stands,
                "invariant 25: a topic is known while there is a reason"
            );
            assert!(
                topic.stands || topic.wanted == topic.told,
                "invariant 25: what has changed is told in the end: {topic:?}"
            );
            stand += usize::from(topic.stands);
        }
        let queued = self.soon.len() + self.later.len() + self.again.len();
        assert_eq!(stand, queued, "invariant 25: who stands in a queue says so");
        assert!(self.is_told || self.topics.len() == 0, "invariant 25: nothing is known that nobody wants to know");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::shard::random::random;

    const DELAY_MS: u64 = 5_000;

    /// Whatever comes and goes, and whatever finds no room: what was told is what is so in the end, what lasts shorter than the delay is not
    /// told to be over, and nothing is left of what nobody wants.
    #[test]
    fn what_was_told_is_so_in_the_end() {
        let names: Vec<String> = (0..20).map(|n| format!("t/{n}")).collect();
        let name = |n: usize| Name { hash: n as u64 * 77, text: &names[n] };
        let mut seed = 3;
        let mut draw = |below: u64| random(&mut seed) % below;
        let (mut now_ms, mut demand) = (1_000, Demand::new(1));
        demand.begin(1);
        demand.look = None;
        let mut wanted = vec![false; names.len()];
        let mut lost = vec![0; names.len()];
        let mut told: BTreeMap<String, bool> = BTreeMap::new();
        for step in 0..20_000 {
            now_ms += draw(40);
            let quiet = step > 19_000;
            if !quiet {
                let n = draw(20) as usize;
                wanted[n] = !wanted[n];
                lost[n] = now_ms;
                demand.change(name(n), wanted[n], DELAY_MS, now_ms);
            }
            for _ in 0..draw(4) {
                let Some((index, Some(news))) = demand.take_due(DELAY_MS, now_ms) else { continue };
                let text = demand.name(index).to_owned();
                let n = names.iter().position(|name| *name == text).unwrap();
                assert_eq!(news, wanted[n], "only what is so is told");
                assert!(news || lost[n] + DELAY_MS <= now_ms, "{text} was lost just now");
                match draw(10) {
                    0 => demand.put_back(index, now_ms),
                    1 => {
                        // It comes too late to be heard.
                        demand.was_told(index, news);
                        demand.untold(name(n), now_ms);
                    }
                    _ => {
                        demand.was_told(index, news);
                        told.insert(text, news);
                    }
                }
            }
            demand.check();
        }
        for _ in 0..100 {
            now_ms += 10_000;
            while let Some((index, news)) = demand.take_due(DELAY_MS, now_ms) {
                if let Some(news) = news {
                    told.insert(demand.name(index).to_owned(), news);
                    demand.was_told(index, news);
                }
            }
        }
        for (n, name) in names.iter().enumerate() {
            assert_eq!(told.get(name).copied().unwrap_or(false), wanted[n], "{name}");
        }
        assert_eq!(demand.topics.len(), wanted.iter().filter(|wanted| **wanted).count());
        demand.stop();
        assert_eq!((demand.topics.len(), demand.due_ms()), (0, None));
    }
}
