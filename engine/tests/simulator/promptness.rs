//! How soon a shard hears of what a home has numbered: the promise that no peer can keep it waiting, counted in rounds.
//!
//! A round of two shards is a turn of each, however often the other one had a turn meanwhile: who gets no turns, or rests
//! because it was not woken, is another matter. Owns: per topic how far its home is and how far each shard with subscribers
//! is, since when it is behind. All of it comes from `Shard::heads`, after every turn.

use std::collections::{HashMap, VecDeque};

use corecast::shard::Shard;

/// What may take how long, in rounds of the shard and the home.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// From the Join until the home's answer is heard.
    pub(crate) joined: u64,
    /// From the numbering of a message until it has come, or the home has told that it is gone; or, if `by_progress`, between
    /// two such messages of a topic that is behind.
    pub(crate) heard: u64,
    pub(crate) by_progress: bool,
}

/// Epoch and number.
type Newest = (u32, u64);

#[derive(Debug, Default)]
struct Member {
    newest: Option<Newest>,
    /// When it was made, in rounds.
    since: u64,
    /// Numbers that are still to come, and in which round they were given.
    marks: VecDeque<(u64, u64)>,
    /// When the last of what came did.
    moved: u64,
    /// The turn of its shard in which it was seen last.
    seen: u64,
}

#[derive(Debug)]
pub(crate) struct Promptness {
    bounds: Bounds,
    /// Of every topic: its home, and how far that is.
    homes: HashMap<String, (usize, Newest)>,
    /// Of every shard: its topics.
    members: Vec<HashMap<String, Member>>,
    /// Of every home and shard: rounds, and who had its turn in the present one.
    rounds: Vec<Vec<Round>>,
    turns: Vec<u64>,
    /// The longest that anything took.
    pub(crate) longest: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Round {
    count: u64,
    home: bool,
    member: bool,
}

impl Promptness {
    pub(crate) fn new(shards: usize, bounds: Bounds) -> Promptness {
        Promptness {
            bounds,
            homes: HashMap::new(),
            members: (0..shards).map(|_| HashMap::new()).collect(),
            rounds: vec![vec![Round::default(); shards]; shards],
            turns: vec![0; shards],
            longest: 0,
        }
    }

    /// Returns the shard that is the home of a topic, once it was seen there.
    pub(crate) fn home_of(&self, topic: &str) -> Option<usize> {
        self.homes.get(topic).map(|(home, _)| *home)
    }

    /// A shard has taken a turn: panics if something has taken too long.
    pub(crate) fn turned(&mut self, index: usize, shard: &Shard) {
        self.turns[index] += 1;
        for other in 0..self.rounds.len() {
            self.rounds[index][other].home = true;
            self.rounds[other][index].member = true;
            for (home, member) in [(index, other), (other, index)] {
                let round = &mut self.rounds[home][member];
                if round.home && round.member {
                    *round = Round { count: round.count + 1, ..Round::default() };
                }
            }
        }
        shard.heads(|head| {
            if head.at_home {
                self.numbered(index, head.topic, head.newest.expect("a home knows its own"));
            } else {
                self.heard(index, head.topic, head.newest);
            }
        });
        let turn = self.turns[index];
        self.members[index].retain(|_, member| member.seen == turn);
    }

    fn numbered(&mut self, home: usize, topic: &str, newest: Newest) {
        let before = match self.homes.get_mut(topic) {
            Some(known) => std::mem::replace(known, (home, newest)).1,
            None => {
                self.homes.insert(topic.to_string(), (home, newest));
                (newest.0, 0)
            }
        };
        if before == newest {
            return;
        }
        for (shard, members) in self.members.iter_mut().enumerate() {
            if let Some(member) = members.get_mut(topic) {
                let round = self.rounds[home][shard].count;
                if member.marks.is_empty() {
                    member.moved = round;
                }
                member.marks.push_back((newest.1, round));
            }
        }
    }

    fn heard(&mut self, shard: usize, topic: &str, newest: Option<Newest>) {
        let turn = self.turns[shard];
        let Some((home, of_home)) = self.homes.get(topic).copied() else {
            // Its Join has not been heard, and nobody knows by whom it will be.
            return;
        };
        if !self.members[shard].contains_key(topic) {
            self.members[shard].insert(topic.to_string(), Member::default());
        }
        let member = self.members[shard].get_mut(topic).expect("it was made if need be");
        let began = member.seen == 0 || newest.is_none() && member.newest.is_some();
        member.seen = turn;
        let round = self.rounds[home][shard].count;
        if began {
            *member = Member { since: round, moved: round, seen: turn, ..Member::default() };
        }
        if newest.is_some() && member.newest != newest {
            member.moved = round;
        }
        member.newest = newest;
        let (since, bound, what) = match newest {
            None => (member.since, self.bounds.joined, "its Join is not answered".to_string()),
            Some((epoch, _)) if epoch != of_home.0 => return member.marks.clear(),
            Some((_, seq)) => {
                while member.marks.front().is_some_and(|mark| mark.0 <= seq) {
                    member.marks.pop_front();
                }
                let Some((next, numbered)) = member.marks.front().copied() else { return };
                let since = if self.bounds.by_progress { numbered.max(member.moved) } else { numbered };
                (
                    since,
                    self.bounds.heard,
                    format!("it stands at {seq}, and {next} was numbered, {of_home:?} is the newest"),
                )
            }
        };
        let took = round - since;
        self.longest = self.longest.max(took);
        assert!(took <= bound, "shard {shard} waits for shard {home}, topic {topic:?}: {took} rounds, and {what}");
    }
}
