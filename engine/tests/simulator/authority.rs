//! An authority that is as slow, and says what, a scene or a world wants.
//!
//! Owns: its end of the mesh, and the verdicts that it still owes. Never: knows a connection; it sees questions, as the real one does.

use std::cell::Cell;
use std::collections::VecDeque;

use corecast::grant::{Ask, Denial, Grant, Patterns, Question, Verdict};
use corecast::mesh::Questions;

use crate::net::SharedNet;

/// What it says to a question, when it is asked at a time in seconds.
pub(crate) type Says = Box<dyn Fn(&Ask, u64) -> Result<Grant, Denial>>;

pub(crate) struct Authority {
    questions: Questions,
    net: SharedNet,
    says: Says,
    /// How long it thinks about a question, in microseconds; `u64::MAX`: it never answers.
    pub(crate) thinks_us: u64,
    /// How long its verdicts hold.
    pub(crate) holds_ms: u64,
    owed: VecDeque<(u64, usize, Verdict)>,
    /// Questions that it was asked.
    pub(crate) asked: u64,
}

impl Authority {
    pub(crate) fn new(questions: Questions, net: SharedNet, says: Says) -> Authority {
        Authority { questions, net, says, thinks_us: 0, holds_ms: 60_000, owed: VecDeque::new(), asked: 0 }
    }

    /// Hears what it is asked, and says what it has thought about for long enough; says whether there was anything.
    pub(crate) fn act(&mut self) -> bool {
        let before = (self.asked, self.owed.len());
        let now_us = self.net.borrow().now_us();
        for shard in 0..self.questions.shards() {
            while let Some(Question { word, ask }) = self.questions.take(shard) {
                self.asked += 1;
                let said = (self.says)(&ask, now_us / 1_000_000).map(Box::new);
                let verdict = Verdict { word, said, holds_ms: self.holds_ms };
                self.owed.push_back((now_us.saturating_add(self.thinks_us), shard, verdict));
            }
        }
        // What it knows sooner it says sooner.
        while let Some(at) = self.owed.iter().position(|(due_us, ..)| *due_us <= now_us) {
            let Some((_, shard, verdict)) = self.owed.remove(at) else { break };
            self.questions.answer(shard, verdict, |shard| self.net.borrow_mut().ring_doorbell(shard));
        }
        (self.asked, self.owed.len()) != before
    }

    /// Returns when it has something to say next.
    pub(crate) fn due_us(&self) -> Option<u64> {
        self.owed.iter().map(|(due_us, ..)| *due_us).filter(|due_us| *due_us != u64::MAX).min()
    }

    /// Thinks about what it was asked no longer than until now.
    pub(crate) fn hurry(&mut self) {
        self.thinks_us = 0;
        self.owed.iter_mut().for_each(|(due_us, ..)| *due_us = 0);
    }
}

thread_local! {
    /// Requests that clients of this world have sent, if they show tokens.
    static SHOWN: Cell<Option<u64>> = const { Cell::new(None) };
    /// All of these show one.
    static ALWAYS: Cell<bool> = const { Cell::new(false) };
}

/// Tokens that there are in a world.
const TOKENS: u64 = 5;

/// Line of a request behind which a token is shown.
const HOST: &str = "Host: sim\r\n";

/// From now on clients of this thread show tokens, always or now and then, or do not.
pub(crate) fn clients_show_tokens(show: bool, always: bool) {
    SHOWN.set(show.then_some(0));
    ALWAYS.set(always);
}

/// Returns what a client says, with a token if it is a request and clients show some; one of three requests shows none, unless all do.
pub(crate) fn with_token(bytes: &[u8]) -> Option<Vec<u8>> {
    let shown = SHOWN.get()?;
    let at = bytes.windows(HOST.len()).position(|window| window == HOST.as_bytes())? + HOST.len();
    SHOWN.set(Some(shown + 1));
    if shown.is_multiple_of(3) && !ALWAYS.get() {
        return None;
    }
    let line = format!("Authorization: Bearer world-{}\r\n", shown % TOKENS);
    Some([&bytes[..at], line.as_bytes(), &bytes[at..]].concat())
}

/// Makes a grant for somebody who may publish and read what these patterns match.
pub(crate) fn grant(subject: &str, publish: &[&str], subscribe: &[&str]) -> Grant {
    Grant {
        subject: subject.into(),
        publish: Patterns::new(publish.iter().copied()).expect("sound patterns"),
        subscribe: Patterns::new(subscribe.iter().copied()).expect("sound patterns"),
        ..Grant::nothing(subject)
    }
}

/// Makes the grant of those who may everything, always.
pub(crate) fn resident() -> Grant {
    grant("world", &["#"], &["#"])
}
