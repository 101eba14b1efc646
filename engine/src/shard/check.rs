//! The invariants, checked: the simulator does it after every turn, tests when they please.
//!
//! The numbers are those of ARCHITECTURE.md.

use super::Shard;
use super::dialect::view::ALL;
use super::grant::table::NOBODY;
use super::slot::connection::{Active, Connection, Life, Waiting};
use super::topic::home::Home;
use super::topic::topics::{
    AWAY, BEHIND, CONFLATE, ENOUGH, FALLEN, FEW, LOOK, METERED, NEWS, NONE, PACED, REPLAYING, Subscription, Topic,
    UNRESOLVED,
};
use crate::io::driver::Slot;
use crate::mesh::Shards;

impl Shard {
    /// Checks the invariants that hold between turns.
    ///
    /// # Panics
    /// With the number of the first invariant that does not hold.
    pub fn check(&mut self) {
        self.check_subscriptions();
        self.check_connections();
        self.check_accounting();
        let mut crowded = Shards::default();
        (0..self.crossings.links.shards())
            .filter(|shard| self.crossings.is_crowded(*shard))
            .for_each(|shard| crowded.insert(shard));
        assert_eq!(self.crossings.crowded, crowded, "who waits for room is known");
        let pool = &self.store.pool;
        assert!(pool.used_total() <= pool.bytes_max(), "invariant 10: memory below budget");
        self.check_ledger();
        self.check_views();
        self.check_grants();
        self.check_readers();
        self.producers.check();
        self.reads.check();
        self.journal.check();
        self.demand.check();
        self.attendance.check();
        self.presence.check();
    }

    /// Who is counted is as the rules say, and what has changed will be told.
    fn check_readers(&self) {
        self.occupancy.check();
        let mut recounts = 0;
        let looked_at = self.recounts.look.unwrap_or(usize::MAX);
        for index in (0..self.topics.bound() as u32).filter(|index| self.topics.is_there(*index)) {
            let topic = self.topics.topic(index);
            recounts += usize::from(topic.recounts);
            let name = self.topics.name(index).text;
            let as_said = topic.counted == self.limits.rules.count(name) || index as usize >= looked_at;
            assert!(as_said, "invariant 19: {name} is counted as the rules say");
        }
        // Topics that were left are told of by their Leave, and may still stand there.
        assert!(recounts <= self.recounts.len(), "invariant 19: {recounts} homes are to be told of topics");
    }

    /// Returns how much is left of asking the authority: open questions, those in line, those who wait, and certificates that nobody
    /// was asked about. For checks.
    #[doc(hidden)]
    #[must_use]
    pub fn asks_still(&self) -> [usize; 4] {
        let waits = |active: &Active| matches!(active.waiting, Waiting::Verdict(_));
        let waiting = self.slots.actives.iter().filter(|(_, active)| waits(active)).count();
        [self.trust.asking.questions(), self.trust.asking.in_line(), waiting, self.trust.shown.len()]
    }

    /// A grant is there for exactly those who use it.
    fn check_grants(&self) {
        let connections = self.slots.connections.iter().map(|connection| connection.grant);
        let exchanges = self.exchanges.iter().map(|(_, exchange)| exchange.grant);
        let readings = self.readings.iter().map(|(_, reading)| reading.grant);
        let users = connections.chain(exchanges).chain(readings).chain(self.trust.known_grants());
        let grants = &self.trust.grants;
        let mut counts = vec![0; grants.bound() as usize];
        for number in users.filter(|number| *number != NOBODY) {
            assert!(grants.get(number).is_some(), "invariant 16: somebody uses grant {number}, which is not there");
            counts[number as usize] += 1;
        }
        for (number, users) in counts.iter().enumerate().skip(1) {
            assert_eq!(grants.users_of(number as u32), *users, "invariant 16: users of grant {number} are counted");
        }
        for (_, active) in self.slots.actives.iter() {
            if let Waiting::Verdict(due) = active.waiting {
                let waiter = (active.slot, self.slots.connections[active.slot as usize].generation);
                let known = self.trust.asking.has_deadline(waiter, due);
                assert!(known, "invariant 17: {waiter:?} waits for a verdict, and nobody knows until when");
            }
        }
        for connection in &self.slots.connections {
            let counted = connection.counted.connection.subject || connection.counted.subscriptions.subject;
            let subject = self.trust.grants.get(connection.grant).map(|interned| &*interned.grant.subject);
            assert!(
                !counted || subject.is_some_and(|subject| !subject.is_empty()),
                "invariant 16: counted for a subject"
            );
        }
    }

    /// What is said to be held by tables is at least what all that stands in them takes.
    fn check_ledger(&self) {
        let besides = self.besides();
        let names: usize = self.topics.heads().map(|(name, _)| name.len()).sum();
        let homes: usize = self.homes.heads(&self.store).map(|(name, ..)| name.len()).sum();
        let logs: usize =
            self.topics.logs.iter().map(|(_, log)| size_of_val(log) + log.subscribers.bytes() as usize).sum();
        let subscriptions = self.topics.subscriptions.len() * size_of::<Subscription>();
        let entries = self.topics.len() * size_of::<Topic>() + self.homes.len() * size_of::<Home>();
        let least = (names + homes + logs + subscriptions + entries) as u64;
        assert!(besides.tables >= least, "invariant 10: tables hold {} bytes, {least} at least", besides.tables);
        assert!(
            besides.busy >= (self.slots.actives.len() * size_of::<Active>()) as u64,
            "invariant 10: busy connections"
        );
        self.homes.check_costs();
        self.homes.check_terms(&self.limits.rules);
    }

    fn check_views(&self) {
        let of_logs = self.topics.sides.iter().filter(|(_, side)| side.view != ALL).count();
        let of_readings = self.readings.iter().filter(|(_, reading)| reading.view != ALL).count();
        let (views, users) = self.topics.views.count();
        assert_eq!(users as usize, of_logs + of_readings, "invariant 23: users of views");
        assert!(views <= users as usize, "invariant 23: views that nobody uses");
    }

    fn check_subscriptions(&self) {
        for (index, log) in self.topics.logs.iter() {
            if log.topic == NONE {
                assert!(log.subscribers.is_empty() && (log.queued || log.releasing), "invariant 3: a forgotten log");
                continue;
            }
            assert!(!log.subscribers.is_empty(), "invariant 3: a log exists while somebody reads it");
            let (mut behind, mut unresolved, mut partials) = (0, 0, 0);
            for (place, subscriber) in log.subscribers.iter().enumerate() {
                let subscription = &self.topics.subscriptions[subscriber.subscription as usize];
                assert_eq!(
                    (subscription.log, subscription.index, subscription.slot),
                    (index as u32, place as u32, subscriber.slot),
                    "invariant 3: subscription and subscriber point at each other"
                );
                behind += u32::from(subscriber.flags & BEHIND != 0);
                unresolved += u32::from(subscriber.flags & UNRESOLVED != 0);
                let connection = &self.slots.connections[subscriber.slot as usize];
                // Those that end with many subscriptions end them bit by bit.
                let departs = matches!(connection.life, Life::Lingering | Life::Dead);
                let subscribes = connection.life == Life::Open || departs;
                assert!(subscribes, "invariant 3: only living connections subscribe");
                let needs_look = connection.subscriptions > 1
                    || connection.active != NONE
                    || connection.blocked
                    || connection.partial != NONE
                    || departs;
                let away = subscriber.flags & AWAY != 0;
                assert!(
                    !needs_look && !away || subscriber.flags & LOOK != 0,
                    "invariant 5: the walk must not send to it"
                );
                let stands = (log.chain.first()..=log.chain.next()).contains(&subscriber.next);
                assert!(away || stands, "invariant 15: a position is held, or the end: {subscriber:?}");
                let reason = subscriber.flags & (UNRESOLVED | REPLAYING | FALLEN) == 0;
                assert!(away || reason, "invariant 15: who is served otherwise has no position: {subscriber:?}");
                if subscriber.partial() > 0 {
                    partials += 1;
                    assert_eq!(
                        connection.partial, subscriber.subscription,
                        "invariant 5: one frame is begun at a time"
                    );
                }
            }
            let counts = (log.behind, log.unresolved, log.partials);
            assert_eq!((behind, unresolved, partials), counts, "invariant 3: counts of a log");
            assert!(log.pending == 0 || log.queued, "invariant 3: a walk under way stands in the queue");
        }
    }

    fn check_connections(&self) {
        let mut subscriptions = 0;
        let mut entered = 0;
        let mut open = 0;
        for (slot, connection) in self.slots.connections.iter().enumerate() {
            let mut count = 0;
            let (mut previous, mut subscription) = (NONE, connection.first);
            while subscription != NONE {
                let place = &self.topics.subscriptions[subscription as usize];
                assert_eq!(place.slot as usize, slot, "invariant 3: a subscription belongs to its connection");
                assert_eq!(place.previous, previous, "invariant 3: a connection's subscriptions are linked both ways");
                let many = connection.subscriptions > FEW;
                assert_eq!(
                    self.topics.is_entered(subscription),
                    many,
                    "invariant 3: many subscriptions stand in the table"
                );
                (previous, subscription) = (subscription, place.next);
                count += 1;
            }
            assert_eq!(count, connection.subscriptions, "invariant 3: subscriptions of a connection");
            self.check_news(connection);
            entered += if count > FEW { count as usize } else { 0 };
            subscriptions += count;
            open += u64::from(connection.life != Life::Free);
            if connection.active != NONE {
                let active = &self.slots.actives[connection.active as usize];
                assert_eq!(active.slot as usize, slot, "invariant 1: a slot is its own");
            }
            if matches!(connection.life, Life::Free | Life::Closing) {
                assert!(connection.armed.is_none() && !connection.blocked, "invariant 6: closed while armed");
            }
        }
        assert_eq!(
            subscriptions as usize,
            self.topics.subscriptions.len(),
            "invariant 3: every subscription is linked"
        );
        assert_eq!(entered, self.topics.entered(), "invariant 3: nothing else stands in the table of subscriptions");
        assert_eq!(open, self.stats.connections, "invariant 1: connections are counted");
        for slot in 0..self.slots.connections.len() {
            let slot = slot as Slot;
            assert_eq!(self.slots.connections[slot as usize].kind, self.kind_of(slot), "invariant 1: as what they are");
        }
        let busy = self.slots.connections.iter().filter(|connection| connection.active != NONE).count();
        assert_eq!(busy, self.slots.actives.len(), "invariant 1: every busy state belongs to a connection");
    }

    /// A connection with several subscriptions has noted all of them that it could send something of.
    fn check_news(&self, connection: &Connection) {
        let mut noted = 0;
        let mut subscription = connection.first;
        while subscription != NONE {
            let place = &self.topics.subscriptions[subscription as usize];
            let log = &self.topics.logs[place.log as usize];
            let subscriber = &log.subscribers[place.index as usize];
            noted += u32::from(subscriber.flags & NEWS != 0);
            let waits = match subscriber.flags {
                flags if flags & UNRESOLVED != 0 => true,
                flags if flags & REPLAYING != 0 => place.serial != 0,
                _ if log.pending > 0 => true,
                flags if flags & (AWAY | FALLEN) == AWAY => subscriber.next >= log.chain.last(&self.store),
                flags if flags & AWAY == 0 && subscriber.next >= log.chain.next() => true,
                _ => self.topics.pace(subscription).is_some_and(|pace| pace.waits_for == pace.due_ms),
            };
            let sent_else = !connection.is_subscriber() || connection.partial == subscription;
            assert!(
                connection.subscriptions == 1 || waits || sent_else || subscriber.flags & NEWS != 0,
                "invariant 13: news are noted: {subscriber:?}"
            );
            subscription = place.next;
        }
        assert_eq!(noted, self.topics.count_news(connection.news), "invariant 13: noted news stand in the list");
    }

    /// Returns how many messages subscribers still have coming; visits all of them.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let mut pending = 0u64;
        for (_, log) in self.topics.logs.iter() {
            for subscriber in log.subscribers.iter() {
                if subscriber.flags & UNRESOLVED == 0 {
                    pending += subscriber.pending(log.chain.next());
                }
            }
        }
        pending
    }

    /// What subscribers had coming is what they got, skipped, lost, left behind, or still have coming.
    fn check_accounting(&mut self) {
        let pending = self.pending();
        let stats = &self.stats;
        let spent = [stats.delivered, stats.conflated, stats.filtered, stats.dropped, stats.abandoned, pending];
        let spent = spent.iter().fold(0u64, |sum, part| sum.wrapping_add(*part));
        assert_eq!(
            stats.owed, spent,
            "invariant 4: owed = delivered + conflated + filtered + dropped + abandoned + pending"
        );
    }
}

/// How far a shard is with a topic: what the simulator compares.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The topic.
    pub topic: &'a str,
    /// This shard is its home; otherwise it has subscribers of it.
    pub at_home: bool,
    /// Epoch and number of the newest message here; `None` while the home has not answered the Join.
    pub newest: Option<(u32, u64)>,
}

/// Where a subscriber stands in its frame log.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The log, and the life of its topic.
    pub log: u32,
    /// See `log`.
    pub life: u32,
    /// Position of the message that the log gets next.
    pub log_next: u64,
    /// Subscribers of the log.
    pub readers: u32,
    /// The subscription.
    pub subscription: u32,
    /// Its connection.
    pub slot: Slot,
    /// Subscriptions of the connection.
    pub subscriptions: u32,
    /// Position of the message that the subscriber is sent next, or a number if it is served otherwise.
    pub next: u64,
    /// Nothing but its turn keeps the subscriber from what is new in the log.
    pub free: bool,
    /// Connections in the line of those that need a look, if it stands there.
    pub line: u64,
}

/// How many read a topic, as this shard knows it: what the simulator compares.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Readers<'a> {
    /// So many here, of those that are counted.
    Here(&'a str, u32),
    /// At home: so many on all shards; what was told of that, and whether anybody wants to know.
    AtHome(&'a str, u64, Option<u64>, bool),
}

impl Shard {
    /// Tells of every topic that is counted how many read it.
    #[doc(hidden)]
    pub fn readers(&self, mut tell: impl FnMut(Readers<'_>)) {
        for index in (0..self.topics.bound() as u32).filter(|index| self.topics.is_there(*index)) {
            if self.topics.topic(index).counted {
                tell(Readers::Here(self.topics.name(index).text, self.topics.readers(index)));
            }
        }
        self.occupancy
            .each()
            .for_each(|(topic, readers, told, watched)| tell(Readers::AtHome(topic, readers, told, watched)));
    }

    /// Tells of every subscriber where it stands.
    #[doc(hidden)]
    pub fn standings(&self, mut tell: impl FnMut(Standing)) {
        for (index, log) in self.topics.logs.iter().filter(|(_, log)| log.topic != NONE) {
            let life = self.topics.topic(log.topic).generation;
            for subscriber in log.subscribers.iter() {
                let connection = &self.slots.connections[subscriber.slot as usize];
                let own =
                    self.slots.actives.get(connection.active as usize).is_some_and(|active| !active.queue.is_empty());
                let free = subscriber.flags & (CONFLATE | PACED | METERED | AWAY | ENOUGH) == 0
                    && connection.is_subscriber()
                    && !(connection.blocked || own || self.slots.is_closing(subscriber.slot));
                tell(Standing {
                    log: index as u32,
                    life,
                    log_next: log.chain.next(),
                    readers: log.subscribers.len() as u32,
                    subscription: subscriber.subscription,
                    slot: subscriber.slot,
                    subscriptions: connection.subscriptions,
                    next: subscriber.next,
                    free,
                    line: if connection.ready { self.slots.ready.len() as u64 } else { 0 },
                });
            }
        }
    }

    /// Tells of every topic that has its home or subscribers here how far this shard is with it.
    #[doc(hidden)]
    pub fn heads(&self, mut tell: impl FnMut(Head<'_>)) {
        for (topic, epoch, seq) in self.homes.heads(&self.store) {
            tell(Head { topic, at_home: true, newest: Some((epoch, seq)) });
        }
        for (topic, newest) in self.topics.heads() {
            tell(Head { topic, at_home: false, newest });
        }
    }

    /// Describes every connection with something unfinished: for whoever wonders why it does not go on.
    #[must_use]
    pub fn unfinished(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (shard, crossing) in
            self.crossings.all.iter().enumerate().filter(|(shard, _)| self.crossings.is_crowded(*shard))
        {
            all.push(format!("to shard {shard}: {crossing:?}, room {}", self.crossings.links.room(shard)));
        }
        self.topics.each_catching(|topic| all.push(format!("catches up: {topic}")));
        for (slot, connection) in self.slots.connections.iter().enumerate() {
            let mut subscription = connection.first;
            while subscription != NONE {
                let subscriber = self.topics.subscriber(subscription);
                let log = &self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize];
                let (first, next) = (log.chain.first(), log.chain.next());
                if subscriber.next != next || subscriber.flags & AWAY != 0 {
                    all.push(format!(
                        "log {first}..{next}, pending {}, queued {}: {subscriber:?}, {:?}, of {} in {}, ready {}",
                        log.pending,
                        log.queued,
                        self.topics.pace(subscription),
                        connection.subscriptions,
                        self.topics.count_news(connection.news),
                        connection.ready,
                    ));
                }
                subscription = self.topics.subscriptions[subscription as usize].next;
            }
            let Connection { life, session, armed, blocked, ready, subscriptions, partial, .. } = *connection;
            if life != Life::Free {
                all.push(format!(
                    "slot {slot} {life:?} {session:?} armed {armed:?} cancelling {} ended {} reads {}",
                    connection.cancelling, connection.ended, connection.reads
                ));
            }
            let Some(active) = self.slots.actives.get(connection.active as usize) else { continue };
            all.push(format!(
                "slot {slot}, {life:?} {session:?}, armed {armed:?}, blocked {blocked}, ready {ready}, subscriptions \
                 {subscriptions}, partial {partial}: waiting {:?}, complete {}, pending {:?}, queue {}, sending {}, \
                 carry {}, body {}, owed {}, closing {}, {:?}",
                active.waiting,
                active.complete,
                self.asks_for(slot as Slot),
                active.queue.len(),
                active.sending,
                active.carry.len(),
                active.body.len(),
                active.owed,
                active.closing,
                active.replays
            ));
        }
        all
    }
}
