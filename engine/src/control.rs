//! The control plane: a thread that exchanges orders and answers with the shards, and reads the configuration again.
//!
//! ```text
//!   SIGHUP, admin listener ──demand──▶ control ──order──▶ each shard
//!                          ◀─outcome──         ◀─answer──
//! ```
//!
//! Owns: the control plane's end of the mesh, and the configuration that holds. Touches: the configuration file. Never: makes
//! anybody wait. A shard answers when it can; who asks is told of a shard that does not within [`PATIENCE`]; what it says later is
//! thrown away. Demands that find a shard owing too many answers wait for their turn, and no longer than that either.

mod page;
mod reload;
mod tls;
mod watchdog;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::admin::guard::Guard;
use crate::authority::Desk;
use crate::config::Config;
use crate::grant::Revocation;
use crate::io::check::{StartError, no_thread};
use crate::io::doorbell::Doorbell;
use crate::io::poll::{self, For};
use crate::log;
use crate::mesh::Control;
use crate::observed::Observed;
use crate::observed::news::{EVENTS, News};
use crate::shard::{DumpPlace, Errand, Page, Question, Said, Wanted, Whom, home_shard};
use crate::supervisor::{State, Supervisor};
pub use tls::Tls;
use watchdog::Watchdog;

/// Time that the shards have to answer, and that a demand waits until it can be made. A turn takes milliseconds at worst; a second is
/// a shard that stands still.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Demands that wait at the same time; the admin listener has no more peers.
const DEMANDS_MAX: usize = 64;
/// How long nothing is done when the kernel has no memory for the wait.
const PAUSE: Duration = Duration::from_millis(100);

/// The names this host may be asked for by, as the setting `allowed-hosts` has them: a reload may change them.
pub type Hosts = Arc<RwLock<Vec<String>>>;

/// What can be demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// To read the configuration again.
    Reload,
    /// To ask the shards, for so many rows.
    Look(Question, usize),
    /// To say what is known of a topic.
    Describe(Box<str>),
    /// To say what is known of the connection of a shard that has this number.
    Inspect(usize, u32),
    /// That connections end; of one shard, or of all.
    Disconnect(Option<usize>, Whom),
    /// To tell the shards of what the authority does not believe any more.
    Revoke(Revocation),
    /// That histories change no more, or change again.
    Freeze(bool),
    /// A sign of life of all shards.
    Sign,
    /// That all shards have heard what they were sent before.
    Settle,
    /// A page of what a shard remembers, from a place on, of so many bytes.
    Dump(usize, DumpPlace, usize, Pages),
}

/// Where a page goes; there is room for it. Nothing comes, and the other end sees it closed, if the shard does not answer in time.
#[derive(Clone, Debug)]
pub struct Pages(pub Sender<Page>);

impl PartialEq for Pages {
    fn eq(&self, other: &Pages) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl Eq for Pages {}

/// What became of a demand: a status of HTTP, and JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status.
    pub status: u16,
    /// The JSON.
    pub body: String,
}

/// Where an outcome goes.
#[derive(Clone, Debug)]
pub struct Reply {
    /// There is room for it.
    pub to: Sender<Outcome>,
    /// Is rung when it is there.
    pub bell: Doorbell,
}

impl Reply {
    /// Says it; who asked may be gone.
    pub fn say(&self, outcome: Outcome) {
        let _ = self.to.try_send(outcome);
        self.bell.ring();
    }
}

type Asked = (Demand, Option<Reply>);

/// What demands are made with.
#[derive(Clone, Debug)]
pub struct Asker {
    asked: Sender<Asked>,
    bell: Doorbell,
}

impl Asker {
    /// Makes a demand; says false if there are too many. Never waits. What became of a reload is logged in any case.
    pub fn ask(&self, demand: Demand, reply: Option<Reply>) -> bool {
        let taken = self.asked.try_send((demand, reply)).is_ok();
        self.bell.ring();
        taken
    }
}

/// The end of the control plane, and the bells that go with it.
#[derive(Debug)]
pub struct End {
    /// Its rings.
    pub control: Control,
    /// Rung by shards that have answered.
    pub bell: Doorbell,
    /// Of each core: shard `n` hears the one of core `n % cores`.
    pub cores: Vec<Doorbell>,
    /// Key of the topic hash: it says where a topic has its home.
    pub hash_key: u64,
}

/// Reads the configuration again from where it came from.
pub type ReadAgain = Box<dyn Fn() -> Result<Config, Vec<StartError>> + Send>;

/// What holds now, and where it is read again.
pub struct Sources {
    /// The configuration of the start.
    pub config: Config,
    /// None: there is no configuration file, and nothing could have changed.
    pub read_again: Option<ReadAgain>,
    /// Where the names are that the admin listener goes by.
    pub hosts: Hosts,
    /// Who may ask the admin listener.
    pub guard: Guard,
    /// The certificates that are shown, if any are.
    pub tls: Option<Tls>,
    /// Who goes by keys and rows that are read again.
    pub authority: Option<Desk>,
    /// What is told of the engine in topics of its own, and held to what is configured; none: nothing.
    pub observed: Option<Observed>,
    /// Who is told of reloads, and that all shards live, if it wants a sign of that within so long.
    pub supervisor: (Supervisor, Option<Duration>),
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Starts the thread; it lives as long as the process.
///
/// # Errors
/// The thread cannot be started.
pub fn start(end: End, sources: Sources) -> Result<Asker, StartError> {
    let (asked, demands) = bounded(DEMANDS_MAX);
    let asker = Asker { asked, bell: end.bell.clone() };
    let plane = Plane::new(end, sources, demands);
    plane.observe();
    let spawned = thread::Builder::new().name("control".to_owned()).spawn(move || plane.run());
    spawned.map_err(|error| no_thread("control", &error))?;
    Ok(asker)
}

/// A demand that the shards have not answered yet.
#[derive(Debug)]
struct Task {
    demand: Demand,
    reply: Option<Reply>,
    deadline: Instant,
    /// Of its orders; 0 before they are given.
    number: u64,
    /// Shards that have not answered.
    owed: BTreeSet<usize>,
    /// What the others said, with their numbers.
    said: Vec<(usize, Said)>,
    /// What a reload changed.
    changed: Vec<&'static str>,
}

struct Plane {
    end: End,
    sources: Sources,
    demands: Receiver<Asked>,
    /// Demands whose orders are not given yet.
    waiting: VecDeque<Task>,
    open: Vec<Task>,
    /// Of the newest order.
    number: u64,
    news: Option<News>,
    watchdog: Watchdog,
}

impl Plane {
    fn new(end: End, sources: Sources, demands: Receiver<Asked>) -> Plane {
        let news = sources.observed.clone().map(News::new);
        let (supervisor, interval) = sources.supervisor.clone();
        let watchdog = Watchdog::new(supervisor, interval, Instant::now());
        Plane { end, sources, demands, waiting: VecDeque::new(), open: Vec::new(), number: 0, news, watchdog }
    }

    /// Holds what is observed to what is configured.
    fn observe(&self) {
        if let Some(observed) = &self.sources.observed {
            observed.hold_to(&self.sources.config, self.sources.tls.as_ref().map(Tls::expires_s));
        }
    }

    /// Has the homes of the engine's own topics publish what there is to tell; a shard that owes too many answers is not asked to.
    fn tell(&mut self, now: Instant, wall: SystemTime) {
        let Some(news) = self.news.as_mut().filter(|_| self.sources.config.system_topics) else { return };
        let End { control, cores, hash_key, .. } = &mut self.end;
        for (topic, text) in news.told(now, wall) {
            self.number += 1;
            let wish = Wanted::Tell { topic, remembered: topic == EVENTS, payload: text.into_bytes().into() };
            let shard = home_shard(*hash_key, control.shards(), topic);
            let wake = |shard: usize| cores[shard % cores.len()].ring();
            // There is more in a second.
            let _ = control.send(shard, Errand { number: self.number, wish }, wake);
        }
    }

    fn run(mut self) {
        loop {
            let tasks = self.open.iter().chain(&self.waiting);
            let watch = self.sources.tls.as_ref().map(Tls::next_look);
            let news = self.news.as_ref().filter(|_| self.sources.config.system_topics).map(News::due);
            let ours = tasks.map(|task| task.deadline).chain(watch);
            let deadline = ours.chain(news).chain(self.watchdog.next_look()).min();
            let patience = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match poll::wait(&[(self.end.bell.as_fd(), For::Reading)], patience) {
                Ok(rung) => {
                    if rung == [true] {
                        self.end.bell.hear();
                    }
                }
                Err(_) => thread::sleep(PAUSE), // The kernel is out of memory.
            }
            self.turn(Instant::now());
            self.tell(Instant::now(), SystemTime::now());
            if let Some(tls) = &mut self.sources.tls {
                tls.watch(Instant::now(), SystemTime::now());
            }
        }
    }

    /// Does what there is to do.
    fn turn(&mut self, now: Instant) {
        while let Ok((demand, reply)) = self.demands.try_recv() {
            self.waiting.push_back(Task::new(demand, reply, now));
        }
        if self.watchdog.asks(now) {
            self.waiting.push_back(Task::new(Demand::Sign, None, now));
        }
        for shard in 0..self.end.control.shards() {
            while let Some(answer) = self.end.control.receive(shard) {
                // That of a demand that is over is thrown away.
                if let Some(task) = self.open.iter_mut().find(|task| task.number == answer.number) {
                    task.owed.remove(&shard);
                    task.said.push((shard, answer.said));
                }
            }
        }
        let is_over = |task: &mut Task| task.owed.is_empty() || now >= task.deadline;
        for task in self.open.extract_if(.., is_over).collect::<Vec<_>>() {
            self.finish(task);
        }
        while self.waiting.front().is_some_and(|task| self.may_begin(task)) {
            let Some(task) = self.waiting.pop_front() else { break };
            self.begin(task, now);
        }
        while let Some(mut task) = self.waiting.pop_front_if(|task| now >= task.deadline) {
            task.owed.extend(self.without_room());
            self.finish(task);
        }
    }

    fn without_room(&self) -> impl Iterator<Item = usize> {
        (0..self.end.control.shards()).filter(|shard| !self.end.control.has_room(*shard))
    }

    /// Says whether every shard can be given an order; one reload comes after the other.
    fn may_begin(&self, task: &Task) -> bool {
        let reloads = task.demand == Demand::Reload && self.open.iter().any(|task| task.demand == Demand::Reload);
        !reloads && self.without_room().next().is_none()
    }

    fn begin(&mut self, mut task: Task, now: Instant) {
        task.deadline = now + PATIENCE;
        match task.demand.clone() {
            Demand::Look(question, rows_max) => self.order(&mut task, || Wanted::Ask(question, rows_max)),
            Demand::Describe(topic) => self.order(&mut task, || Wanted::Describe(topic.clone())),
            Demand::Inspect(shard, _) | Demand::Disconnect(Some(shard), _) if shard >= self.end.control.shards() => {
                return reply(task.reply, page::no_shard(self.end.control.shards()));
            }
            Demand::Inspect(shard, slot) => self.order_some(&mut task, shard..shard + 1, || Wanted::Inspect(slot)),
            Demand::Disconnect(shard, whom) => {
                let shards = shard.map_or(0..self.end.control.shards(), |shard| shard..shard + 1);
                self.order_some(&mut task, shards, || Wanted::Disconnect(whom.clone()));
            }
            Demand::Revoke(revocation) => self.order(&mut task, || Wanted::Revoke(Box::new([revocation.clone()]))),
            Demand::Freeze(frozen) => self.order(&mut task, || Wanted::Freeze(frozen)),
            Demand::Sign => self.order(&mut task, || Wanted::Sign),
            Demand::Settle => self.order(&mut task, || Wanted::Settle),
            Demand::Dump(shard, from, bytes_max, _) => {
                self.order_some(&mut task, shard..shard + 1, || Wanted::Dump(from, bytes_max));
            }
            Demand::Reload => match self.read_again() {
                Err(outcome) => {
                    self.reloaded(&outcome);
                    return reply(task.reply, outcome);
                }
                Ok(reload::Found { config, changed, serving, tokens }) => {
                    if let (Some(tls), Some(serving)) = (&mut self.sources.tls, serving) {
                        tls.replace(serving);
                    }
                    let limits = config.limits();
                    self.sources.hosts.write().unwrap_or_else(PoisonError::into_inner).clone_from(&config.hosts);
                    self.sources.guard.set(tokens);
                    log::set_level(config.log_level);
                    self.sources.config = config;
                    self.observe();
                    task.changed = changed;
                    self.order(&mut task, || Wanted::Set(Box::new(limits.clone())));
                }
            },
        }
        self.open.push(task);
    }

    fn read_again(&self) -> Result<reload::Found, Outcome> {
        self.sources.supervisor.0.tell(State::Reloading);
        reload::read(&self.sources)
    }

    /// The supervisor is told what came of a reload.
    fn reloaded(&self, outcome: &Outcome) {
        let status = match outcome.status {
            200 => "serves; the configuration was read again",
            504 => "serves; the configuration was loaded, but a shard stands still",
            _ => "serves; the configuration was not loaded, the log says why",
        };
        self.sources.supervisor.0.tell(State::Ready(status));
    }

    /// Gives every shard an order; there is room for it.
    fn order(&mut self, task: &mut Task, wish: impl Fn() -> Wanted) {
        self.order_some(task, 0..self.end.control.shards(), wish);
    }

    fn order_some(&mut self, task: &mut Task, shards: Range<usize>, wish: impl Fn() -> Wanted) {
        self.number += 1;
        task.number = self.number;
        let End { control, cores, .. } = &mut self.end;
        for shard in shards {
            let order = Errand { number: task.number, wish: wish() };
            let sent = control.send(shard, order, |shard| cores[shard % cores.len()].ring());
            debug_assert!(sent, "it was looked whether there is room");
            task.owed.insert(shard);
        }
    }
}

impl Task {
    fn new(demand: Demand, reply: Option<Reply>, now: Instant) -> Task {
        let deadline = now + PATIENCE;
        Task { demand, reply, deadline, number: 0, owed: BTreeSet::new(), said: vec![], changed: vec![] }
    }
}

impl Plane {
    /// Says what became of a demand whose orders are answered, or whose time is over.
    fn finish(&mut self, task: Task) {
        let Task { demand, reply: to, number, owed, said, changed, .. } = task;
        let late: Vec<usize> = owed.into_iter().collect();
        if demand == Demand::Sign {
            self.watchdog.answered(&late);
            return;
        }
        let outcome = match demand {
            Demand::Sign => return,
            _ if number == 0 => {
                tracing::warn!(?demand, ?late, "nothing was asked of the shards: these stand still");
                if demand == Demand::Reload {
                    self.sources.supervisor.0.tell(State::Reloading);
                    self.reloaded(&page::late(&late));
                }
                page::late(&late)
            }
            Demand::Reload => {
                let outcome = reload::outcome(&changed, &late);
                self.reloaded(&outcome);
                outcome
            }
            Demand::Look(question, rows_max) if late.is_empty() => page::rows(question, said, rows_max),
            Demand::Describe(topic) if late.is_empty() => page::topic(&topic, said, &self.sources.config),
            Demand::Inspect(..) if late.is_empty() => page::connection(said, &self.sources.config),
            Demand::Disconnect(..) => page::disconnected(&said, &late),
            Demand::Revoke(_) => page::revoked(&said, &late),
            Demand::Dump(.., pages) => {
                for (_, said) in said {
                    if let Said::Dumped(page) = said {
                        let _ = pages.0.try_send(page);
                    }
                }
                return;
            }
            Demand::Freeze(_) | Demand::Settle if late.is_empty() => page::done(),
            Demand::Look(..) | Demand::Describe(_) | Demand::Inspect(..) | Demand::Freeze(_) | Demand::Settle => {
                page::late(&late)
            }
        };
        reply(to, outcome);
    }
}

fn reply(to: Option<Reply>, outcome: Outcome) {
    if let Some(reply) = to {
        reply.say(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;
    use crate::mesh::{Links, join_with_control};
    use crate::shard::{Answer, By};
    use std::os::unix::net::UnixDatagram;

    fn plane(shards: usize, read_again: Option<ReadAgain>) -> (Asker, Plane, Vec<Links>) {
        let config = Config::default_on(&Host { cores: vec![0], memory_bytes: 1 << 30 });
        let (links, control) = join_with_control(shards, 1, 4096);
        let (asked, demands) = bounded(DEMANDS_MAX);
        let bell = Doorbell::new().unwrap();
        let end = End { control, bell: bell.clone(), cores: Doorbell::several(1).unwrap(), hash_key: 0 };
        let sources = Sources {
            config,
            read_again,
            hosts: Hosts::default(),
            guard: Guard::default(),
            tls: None,
            authority: None,
            observed: None,
            supervisor: Default::default(),
        };
        let plane = Plane::new(end, sources, demands);
        (Asker { asked, bell }, plane, links)
    }

    fn demand(asker: &Asker, demand: Demand) -> Receiver<Outcome> {
        let (to, outcome) = bounded(1);
        assert!(asker.ask(demand, Some(Reply { to, bell: Doorbell::new().unwrap() })));
        outcome
    }

    /// Answers a shard's next order as if there were nothing.
    fn answer(links: &mut Links) {
        let order = links.next_order().unwrap();
        let said = match order.wish {
            Wanted::Set(limits) => Said::Applied(limits),
            Wanted::Ask(Question::Connections(_), _) => Said::Connections(Vec::new()),
            Wanted::Ask(Question::Topics(_), _) => Said::Topics(Vec::new()),
            Wanted::Ask(Question::Slow, _) => Said::Slow(Vec::new()),
            Wanted::Tell { .. } => Said::Told,
            Wanted::Describe(_) => Said::Described(Box::default()),
            Wanted::Inspect(_) => Said::Inspected(None),
            Wanted::Disconnect(_) => Said::Disconnected(1),
            Wanted::Revoke(_) => Said::Revoked(0),
            Wanted::Freeze(_) => Said::Frozen,
            Wanted::Sign => Said::Alive,
            Wanted::Settle => Said::Settled,
            Wanted::Dump(..) => Said::Dumped(Page::default()),
        };
        links.answer(Answer { number: order.number, said });
    }

    /// A question is answered when all shards have; one that does not answer is named when its time is over, and what it says later
    /// is no answer to anything else.
    #[test]
    fn a_shard_that_stands_still_is_named() {
        let (asker, mut plane, mut links) = plane(3, None);
        let now = Instant::now();
        let first = demand(&asker, Demand::Look(Question::Topics(By::Bytes), 10));
        plane.turn(now);
        links.iter_mut().for_each(answer);
        plane.turn(now);
        assert_eq!(first.try_recv().unwrap(), Outcome { status: 200, body: "[]".to_owned() });

        let second = demand(&asker, Demand::Look(Question::Slow, 10));
        plane.turn(now);
        answer(&mut links[0]);
        answer(&mut links[2]);
        plane.turn(now);
        assert!(second.try_recv().is_err(), "one is missing");
        plane.turn(now + PATIENCE);
        let outcome = second.try_recv().unwrap();
        assert_eq!(outcome.status, 504);
        assert!(outcome.body.contains("\"late\":[1]"), "{outcome:?}");

        let third = demand(&asker, Demand::Look(Question::Topics(By::Bytes), 10));
        plane.turn(now);
        answer(&mut links[0]);
        answer(&mut links[2]);
        answer(&mut links[1]); // The second question.
        plane.turn(now);
        assert!(third.try_recv().is_err());
        answer(&mut links[1]);
        plane.turn(now);
        assert_eq!(third.try_recv().unwrap().status, 200);
    }

    /// Questions to shards that never answer wait in line, are told so in time, and are given up without a trace.
    #[test]
    fn nothing_piles_up() {
        let (asker, mut plane, mut links) = plane(2, None);
        let mut now = Instant::now();
        for round in 0..5 {
            let outcomes: Vec<_> = (0..20).map(|_| demand(&asker, Demand::Look(Question::Slow, 10))).collect();
            plane.turn(now);
            now += PATIENCE;
            plane.turn(now);
            for outcome in outcomes {
                assert_eq!(outcome.try_recv().unwrap().status, 504, "round {round}");
            }
            assert!(plane.open.is_empty() && plane.waiting.is_empty());
        }
        // They answer all they were asked, and are asked again.
        for links in &mut links {
            while links.has_next_order() {
                answer(links);
            }
        }
        let outcome = demand(&asker, Demand::Look(Question::Slow, 10));
        plane.turn(now);
        links.iter_mut().for_each(answer);
        plane.turn(now);
        assert_eq!(outcome.try_recv().unwrap().status, 200);
    }

    /// A reload that no shard could be told of has changed nothing, and is not said to have.
    #[test]
    fn a_reload_waits_in_line_too() {
        let config = Config::default_on(&Host { cores: vec![0], memory_bytes: 1 << 30 });
        let new = Config { history_messages: 7, ..config.clone() };
        let (asker, mut plane, _links) = plane(1, Some(Box::new(move || Ok(new.clone()))));
        let now = Instant::now();
        let questions: Vec<_> = (0..9).map(|_| demand(&asker, Demand::Look(Question::Slow, 10))).collect();
        let reload = demand(&asker, Demand::Reload);
        plane.turn(now);
        plane.turn(now + PATIENCE);
        assert!(questions.iter().all(|outcome| outcome.try_recv().unwrap().status == 504));
        let outcome = reload.try_recv().unwrap();
        assert!(outcome.status == 504 && !outcome.body.contains("changed"), "{outcome:?}");
        assert_eq!(plane.sources.config, config);
    }

    /// A reload is done when all shards hold to it; the next one waits for that, and is read only then.
    #[test]
    fn reloads_come_one_after_the_other() {
        let config = Config::default_on(&Host { cores: vec![0], memory_bytes: 1 << 30 });
        let (read, reads) = bounded(9);
        let read_again: ReadAgain = Box::new(move || {
            read.send(()).unwrap();
            Ok(Config { history_messages: 7, hosts: vec!["a".to_owned()], ..config.clone() })
        });
        let (asker, mut plane, mut links) = plane(2, Some(read_again));
        let hosts = plane.sources.hosts.clone();
        let (first, second) = (demand(&asker, Demand::Reload), demand(&asker, Demand::Reload));
        let now = Instant::now();
        plane.turn(now);
        assert_eq!(reads.len(), 1);
        let Wanted::Set(limits) = links[0].next_order().unwrap().wish else { panic!("limits") };
        assert_eq!(limits.history_messages, 7);
        links[0].answer(Answer { number: 1, said: Said::Applied(limits) });
        plane.turn(now);
        assert!(first.try_recv().is_err(), "the other one has not");
        answer(&mut links[1]);
        plane.turn(now);
        let outcome = first.try_recv().unwrap();
        assert_eq!(outcome.status, 200);
        assert!(outcome.body.contains("\"changed\":[\"allowed-hosts\",\"history-messages\"]"), "{outcome:?}");
        assert_eq!(*hosts.read().unwrap(), ["a"]);
        assert_eq!(reads.len(), 2);
        assert_eq!(second.try_recv().unwrap(), Outcome { status: 200, body: "{\"changed\":[]}".to_owned() });
    }

    /// A sign of life is given when all shards have given one, and none while one stands still; it goes on when that does. While the engine ends,
    /// nothing is asked of shards that may have ended.
    #[test]
    fn signs_of_life() {
        let (asker, mut plane, mut links) = plane(2, None);
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let supervisor = Supervisor::of(ours);
        let mut now = Instant::now();
        plane.watchdog = Watchdog::new(supervisor.clone(), Some(Duration::from_secs(10)), now);
        let heard = || {
            let mut bytes = [0; 64];
            theirs.recv(&mut bytes).is_ok_and(|len| &bytes[..len] == b"WATCHDOG=1")
        };
        plane.turn(now);
        assert!(!links[0].has_next_order() && !heard(), "not yet");
        for stands_still in [false, true, false] {
            now += Duration::from_secs(5);
            plane.turn(now);
            answer(&mut links[0]);
            plane.turn(now);
            assert!(!heard(), "one is missing");
            if stands_still {
                now += PATIENCE;
                plane.turn(now);
                assert!(!heard(), "it stands still");
            }
            answer(&mut links[1]);
            plane.turn(now);
            assert_eq!(heard(), !stands_still);
        }
        supervisor.tell(State::Stopping("it drains"));
        let _ = theirs.recv(&mut [0; 64]);
        now += Duration::from_secs(5);
        plane.turn(now);
        assert!(heard() && !links[0].has_next_order());
        drop(asker);
    }
}
