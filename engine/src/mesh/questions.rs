//! The authority's end of the mesh: a pair of rings with each shard, questions one way and verdicts the other.
//!
//! ```text
//!   shard ──questions (1,024)──▶ authority      bell: `driver.wake(shards + 1)`, the number behind the control plane's
//!         ◀──verdicts (1,024)──                 mail: the flag that orders of the control plane leave, too
//! ```
//!
//! Questions and verdicts hold text of their own, and are given by value: a question is asked once for a credential that nobody has
//! shown lately, and is dear whatever happens to it. What a turn pays for the authority is nothing: the one load and branch that look
//! for orders look for verdicts as well.
//!
//! Invariant: each question has one verdict, and at most [`OWED_MAX`] verdicts of a shard are owed or unread: so a verdict always has
//! room, and neither a shard that stands still nor an authority that is slow makes anybody wait, or anything grow.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::Links;
use super::bells::Bells;
use crate::grant::{Question, Verdict};

/// Questions of a shard whose verdict it has not read, at most: a thousand clients that come at once with a token each.
pub const OWED_MAX: usize = 1024;

/// A shard's end.
#[derive(Debug)]
pub(super) struct Mouth {
    questions: Producer<Question>,
    verdicts: Consumer<Verdict>,
    /// Verdicts that are owed, or not read.
    owed: usize,
    /// Something was asked since the bell was last rung.
    asked: bool,
}

/// What the authority has of one shard.
#[derive(Debug)]
struct Wire {
    questions: Consumer<Question>,
    verdicts: Producer<Verdict>,
}

/// The authority's ends.
#[derive(Debug)]
pub struct Questions {
    wires: Vec<Wire>,
    bells: Arc<Bells>,
}

impl Questions {
    /// Makes the rings between the authority and so many shards.
    pub(super) fn to(shards: usize, bells: &Arc<Bells>) -> (Questions, Vec<Mouth>) {
        let pair = |_| {
            let (asked, questions) = RingBuffer::new(OWED_MAX);
            let (verdicts, heard) = RingBuffer::new(OWED_MAX);
            (Wire { questions, verdicts }, Mouth { questions: asked, verdicts: heard, owed: 0, asked: false })
        };
        let (wires, mouths) = (0..shards).map(pair).unzip();
        (Questions { wires, bells: bells.clone() }, mouths)
    }

    /// Returns how many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.wires.len()
    }

    /// Takes the next question of a shard, in the order in which they were asked.
    pub fn take(&mut self, from: usize) -> Option<Question> {
        self.wires[from].questions.pop().ok()
    }

    /// Gives a shard the verdict to a question of its own, in any order, and calls `wake` if its core rests.
    ///
    /// # Panics
    /// If it is given more verdicts than it has asked questions.
    pub fn answer(&mut self, to: usize, verdict: Verdict, wake: impl FnOnce(usize)) {
        let pushed = self.wires[to].verdicts.push(verdict);
        assert!(pushed.is_ok(), "no more verdicts than questions, and there is room for one of each");
        self.bells.leave_order(to, wake);
    }
}

impl Links {
    /// Says whether the authority may be asked something: it does not owe as many verdicts as may be.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        self.mouth.owed < OWED_MAX
    }

    /// Asks the authority something; says false, and does nothing, if it owes too many verdicts. Its bell is rung by [`Links::bells`].
    #[must_use]
    pub fn ask(&mut self, question: Question) -> bool {
        let asked = self.may_ask() && self.mouth.questions.push(question).is_ok();
        self.mouth.owed += usize::from(asked);
        self.mouth.asked |= asked;
        asked
    }

    /// Says whether something was asked since this was last called.
    pub(super) fn has_asked(&mut self) -> bool {
        std::mem::take(&mut self.mouth.asked)
    }

    /// Takes the next verdict.
    pub fn next_verdict(&mut self) -> Option<Verdict> {
        let verdict = self.mouth.verdicts.pop().ok()?;
        self.mouth.owed -= 1;
        Some(verdict)
    }

    /// Says whether there is a further verdict.
    #[must_use]
    pub fn has_next_verdict(&self) -> bool {
        !self.mouth.verdicts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ends, join_all};
    use super::*;
    use crate::grant::{Ask, Denial};

    fn question(word: u64) -> Question {
        Question { word, ask: Ask::Key("key".into()) }
    }

    fn verdict(word: u64) -> Verdict {
        Verdict { word, said: Err(Denial::Invalid("unknown")), holds_ms: 0 }
    }

    /// A question rings the authority's bell, once a turn; a verdict wakes a core that rests, and keeps one awake that is about to.
    #[test]
    fn nobody_sleeps_over_a_question() {
        let Ends { mut links, mut questions, .. } = join_all(2, 2, 4096);
        let mut woken = Vec::new();
        assert!(links[1].ask(question(1)) && links[1].ask(question(2)));
        links[1].bells(|end| woken.push(end));
        links[1].bells(|end| woken.push(end));
        assert_eq!(woken, [3], "behind two shards and the control plane");
        assert!(links[1].announce_rest());
        let words: Vec<u64> = std::iter::from_fn(|| questions.take(1)).map(|question| question.word).collect();
        assert_eq!(words, [1, 2]);
        woken.clear();
        questions.answer(1, verdict(2), |shard| woken.push(shard));
        questions.answer(1, verdict(1), |shard| woken.push(shard));
        assert_eq!(woken, [1]);
        assert!(links[1].has_orders() && !links[1].announce_rest() && !links[0].has_mail());
        links[1].take_orders();
        let words: Vec<u64> = std::iter::from_fn(|| links[1].next_verdict()).map(|verdict| verdict.word).collect();
        assert_eq!(words, [2, 1]);
        assert!(!links[1].has_mail() && !links[1].has_next_verdict());
    }

    /// An authority that does not answer, or whose verdicts are not read, is asked so many questions and no more; it is asked again
    /// when they are read.
    #[test]
    fn nothing_grows() {
        let Ends { mut links, mut questions, .. } = join_all(1, 1, 4096);
        let asked = |links: &mut Links| (0..3000).filter(|word| links.ask(question(*word))).count();
        assert_eq!(asked(&mut links[0]), OWED_MAX);
        while let Some(question) = questions.take(0) {
            questions.answer(0, verdict(question.word), |_| {});
        }
        assert_eq!(asked(&mut links[0]), 0, "the verdicts were not read");
        let words: Vec<u64> = std::iter::from_fn(|| links[0].next_verdict()).map(|verdict| verdict.word).collect();
        assert_eq!(words, (0..OWED_MAX as u64).collect::<Vec<_>>());
        assert_eq!(asked(&mut links[0]), OWED_MAX);
    }
}
