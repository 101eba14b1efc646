//! The thread of the authority: takes questions of shards, and gives them verdicts.
//!
//! ```text
//!   shards ──questions──▶ desk ──▶ Authority ──▶ desk ──verdicts──▶ shards
//!   control plane ──other settings, revocations──▶ desk ──to be told to all shards──▶ control plane
//! ```
//!
//! Owns: the thread, and the order of what it does. Each shard has its turn with a few questions, so that one that asks without a pause keeps
//! nobody else waiting. A revocation holds here first, then all verdicts from before are given, and only then the control plane tells the
//! shards: so none of them believes one from before afterwards.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::json;

use super::{Authority, Prepared};
use crate::control::{Outcome, Reply};
use crate::grant::{Question, Revocation, Verdict};
use crate::io::check::{StartError, no_thread};
use crate::io::doorbell::Doorbell;
use crate::io::poll::{self, For};
use crate::node::AuthorityEnd;

/// Questions of one shard before another one has its turn: a token takes up to 0.1 ms.
const SLICE: usize = 16;
/// Words of the control plane that wait, at most.
const TOLD_MAX: usize = 64;
/// How long is waited until a control plane with too much to do is told again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long nothing is done when the kernel has no memory for the wait.
const PAUSE: Duration = Duration::from_millis(100);

/// The shards, as the authority sees them.
pub trait Shards: Send {
    /// Returns how many there are.
    fn count(&self) -> usize;
    /// Takes the next question of one.
    fn take(&mut self, from: usize) -> Option<Question>;
    /// Gives one the verdict to a question of its own.
    fn answer(&mut self, to: usize, verdict: Verdict);
}

impl Shards for AuthorityEnd {
    fn count(&self) -> usize {
        self.questions.shards()
    }

    fn take(&mut self, from: usize) -> Option<Question> {
        self.questions.take(from)
    }

    fn answer(&mut self, to: usize, verdict: Verdict) {
        let AuthorityEnd { questions, cores, .. } = self;
        questions.answer(to, verdict, |shard| cores[shard % cores.len()].ring());
    }
}

/// Tells all shards of a revocation; says false, and does nothing, if it cannot now.
pub type Spread = Box<dyn Fn(&Revocation, &Reply) -> bool + Send>;

enum Told {
    Set(Box<Prepared>),
    Spread(Spread),
    Revoke(Revocation, Reply),
    List(Reply),
}

/// What the authority is told things with.
#[derive(Clone)]
pub struct Desk {
    told: Sender<Told>,
    bell: Doorbell,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Desk {
    /// Has it go by other settings and files; says false if it has too much to do.
    pub fn set(&self, prepared: Prepared) -> bool {
        self.tell(Told::Set(Box::new(prepared)))
    }

    /// Says how shards are told of revocations.
    pub fn spread_by(&self, spread: Spread) -> bool {
        self.tell(Told::Spread(spread))
    }

    /// Has it revoke something; says false if it has too much to do.
    pub fn revoke(&self, revocation: Revocation, reply: Reply) -> bool {
        self.tell(Told::Revoke(revocation, reply))
    }

    /// Has it list what is revoked; says false if it has too much to do.
    pub fn list(&self, reply: Reply) -> bool {
        self.tell(Told::List(reply))
    }

    fn tell(&self, told: Told) -> bool {
        let taken = self.told.try_send(told).is_ok();
        self.bell.ring();
        taken
    }
}

/// Starts the thread; it lives as long as the process. The bell is the one that shards ring.
///
/// # Errors
/// The revocations cannot be read, or a thread cannot be started.
pub fn start(prepared: Prepared, shards: Box<dyn Shards>, bell: Doorbell) -> Result<Desk, StartError> {
    let authority = Authority::new(prepared, &bell)?;
    let (told, hears) = bounded(TOLD_MAX);
    let desk = Desk { told, bell: bell.clone() };
    let keeper = Keeper { authority, shards, bell, hears, spread: None, unspread: VecDeque::new() };
    let spawned = thread::Builder::new().name("authority".to_owned()).spawn(move || keeper.run());
    spawned.map_err(|error| no_thread("authority", &error))?;
    Ok(desk)
}

struct Keeper {
    authority: Authority,
    shards: Box<dyn Shards>,
    bell: Doorbell,
    hears: Receiver<Told>,
    spread: Option<Spread>,
    /// Revocations that shards have not been told of.
    unspread: VecDeque<(Revocation, Reply)>,
}

impl Keeper {
    fn run(mut self) {
        let mut is_busy = true;
        loop {
            let now = Instant::now();
            let due = self.authority.due_at().map(|due| due.saturating_duration_since(now));
            let again = (!self.unspread.is_empty()).then_some(AGAIN);
            let patience = if is_busy { Some(Duration::ZERO) } else { due.into_iter().chain(again).min() };
            match poll::wait(&[(self.bell.as_fd(), For::Reading)], patience) {
                Ok(rung) if rung == [true] => self.bell.hear(),
                Ok(_) => {}
                Err(_) => thread::sleep(PAUSE), // The kernel is out of memory.
            }
            is_busy = self.turn();
        }
    }

    /// Does what there is to do; says whether there is more.
    fn turn(&mut self) -> bool {
        while let Ok(told) = self.hears.try_recv() {
            match told {
                Told::Set(prepared) => {
                    for revocation in self.authority.set(*prepared) {
                        self.spread_quietly(revocation);
                    }
                }
                Told::Spread(spread) => self.spread = Some(spread),
                Told::Revoke(revocation, reply) => self.revoke(revocation, reply),
                Told::List(reply) => reply.say(Outcome { status: 200, body: self.authority.revoked().to_string() }),
            }
        }
        self.authority.hear();
        let mut is_busy = false;
        for shard in 0..self.shards.count() {
            let mut taken = 0;
            while taken < SLICE
                && let Some(question) = self.shards.take(shard)
            {
                self.authority.ask(shard, question);
                taken += 1;
            }
            is_busy |= taken == SLICE;
            self.give();
        }
        self.give();
        // Only now: what was said before a revocation stands in the rings before shards are told of it.
        if let Some(spread) = &self.spread {
            while let Some((revocation, reply)) = self.unspread.front()
                && spread(revocation, reply)
            {
                self.unspread.pop_front();
            }
        }
        is_busy
    }

    /// Gives all verdicts that there are.
    fn give(&mut self) {
        while let Some((to, verdict)) = self.authority.take() {
            self.shards.answer(to, verdict);
        }
    }

    /// Has all shards told of a revocation, and nobody of what comes of it.
    fn spread_quietly(&mut self, revocation: Revocation) {
        if self.spread.is_some() {
            let (to, _) = bounded(1);
            self.unspread.push_back((revocation, Reply { to, bell: self.bell.clone() }));
        }
    }

    fn revoke(&mut self, revocation: Revocation, reply: Reply) {
        let added = self.authority.revoke(&revocation);
        match &added {
            Ok(entries) => tracing::info!(?revocation, entries, "revoked"),
            Err(cause) => tracing::error!(?revocation, cause, "revoked not at all, or not for long"),
        }
        match added {
            // It holds from now on, whoever is told how; but an operator who reads 200 takes it for safe.
            Err(cause) => {
                reply.say(Outcome { status: 507, body: json!({ "reason": cause }).to_string() });
                self.spread_quietly(revocation);
            }
            Ok(_) if self.spread.is_some() => self.unspread.push_back((revocation, reply)),
            Ok(entries) => reply.say(Outcome { status: 200, body: json!({ "entries": entries }).to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Settings;
    use crate::grant::{Ask, Denial};

    /// Shards that asked so much, and what they were answered.
    struct Asking {
        left: Vec<u64>,
        answered: Sender<(usize, u64)>,
    }

    impl Shards for Asking {
        fn count(&self) -> usize {
            self.left.len()
        }

        fn take(&mut self, from: usize) -> Option<Question> {
            self.left[from] = self.left[from].checked_sub(1)?;
            Some(Question { word: self.left[from], ask: Ask::Key("key".into()) })
        }

        fn answer(&mut self, to: usize, verdict: Verdict) {
            assert!(matches!(verdict.said, Err(Denial::Invalid(_))), "{verdict:?}");
            self.answered.send((to, verdict.word)).unwrap();
        }
    }

    fn keeper(left: Vec<u64>) -> (Keeper, Sender<Told>, Receiver<(usize, u64)>) {
        let (answered, answers) = crossbeam_channel::unbounded();
        let bell = Doorbell::new().unwrap();
        let settings = Settings { token_age_max_s: 60, ..Settings::default() };
        let authority = Authority::new(Prepared::read(&settings).unwrap(), &bell).unwrap();
        let (told, hears) = bounded(TOLD_MAX);
        let shards = Box::new(Asking { left, answered });
        (Keeper { authority, shards, bell, hears, spread: None, unspread: VecDeque::new() }, told, answers)
    }

    /// A shard that asks without a pause has its share, and the others theirs; each question has one verdict, its own.
    #[test]
    fn shards_take_turns() {
        let (mut keeper, _, answers) = keeper(vec![1000, 1, 0, 20]);
        assert!(keeper.turn());
        let shards: Vec<usize> = answers.try_iter().map(|(shard, _)| shard).collect();
        let count = |shard| shards.iter().filter(|one| **one == shard).count();
        assert_eq!([0, 1, 2, 3].map(count), [SLICE, 1, 0, SLICE]);
        while keeper.turn() {}
        let mut rest: Vec<(usize, u64)> = answers.try_iter().collect();
        rest.sort_unstable();
        rest.dedup();
        assert_eq!(rest.len(), 1021 - 2 * SLICE - 1);
    }

    /// Shards are told of a revocation after all verdicts from before it, and again if the control plane has no room.
    #[test]
    fn revocations_come_after_what_was_said() {
        let (mut keeper, told, answers) = keeper(vec![5]);
        let (to, outcome) = bounded(1);
        let reply = Reply { to, bell: Doorbell::new().unwrap() };
        let (said, before) = bounded(9);
        let seen = answers.clone();
        told.send(Told::Spread(Box::new(move |revocation, reply| {
            assert_eq!(*revocation, Revocation::Token("7".into()));
            said.send(seen.len()).unwrap();
            let is_second = said.len() > 1;
            if is_second {
                reply.say(Outcome { status: 200, body: String::new() });
            }
            is_second
        })))
        .unwrap();
        let word = 99;
        keeper.authority.ask(0, Question { word, ask: Ask::Key("key".into()) });
        told.send(Told::Revoke(Revocation::Token("7".into()), reply)).unwrap();
        keeper.turn();
        assert!(outcome.try_recv().is_err() && keeper.unspread.len() == 1);
        keeper.turn();
        assert_eq!(outcome.try_recv().unwrap().status, 200);
        assert!(before.iter().take(2).all(|answered| answered >= 1), "the verdict was there before");
        assert!(keeper.unspread.is_empty() && answers.try_iter().any(|(_, one)| one == word));
        let (to, list) = bounded(1);
        told.send(Told::List(Reply { to, bell: Doorbell::new().unwrap() })).unwrap();
        keeper.turn();
        assert!(list.try_recv().unwrap().body.contains("\"jti\":\"7\""));
    }
}
