//! Sending: the walk over dirty frame logs, and the sender of connections that need a look.
//!
//! The walk visits a log's subscribers in the order of its array and touches nothing else of a healthy one: the bytes
//! are a run of the log, the descriptor is the slot number in the entry. It is resumable and goes round: a message
//! that arrives meanwhile starts the round anew from where the walk stands, so each subscriber gets all that is new for
//! it in one send. Logs take turns, a slice each, so that a small topic waits for at most one slice of a large one.
//!
//! Whoever is flagged `LOOK` (several subscriptions, bytes of its own to send, a full socket, a pace, a replay) is left
//! to [`Shard::send_next`], which decides what the connection sends next. Both keep the rule: at most one send per
//! connection and submit. A connection with several subscriptions keeps a list of those that have news, so that nobody searches
//! all of them, and gathers what is new in all its topics into one send.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::line::GapReason;
use corecast_protocol::ws::close;

use super::Shard;
use super::limits::LagPolicy;
use super::slot::connection::{Connection, Kind, Waiting};
use super::stats::Stats;
use super::topic::chain::Runs;
use super::topic::news::link_news;
use super::topic::topics::{BEHIND, CONFLATE, COUNTED, ENOUGH, LOOK, NEWS, NONE, PACED, REPLAYING, UNRESOLVED};
use crate::io::driver::{Driver, Slot};

/// Sends of one turn: a turn stays short, and one submit amortises its system call well.
const SENDS_PER_TURN: usize = 512;

/// Bytes of the sends of one turn: copying them into the kernel takes a millisecond.
const BYTES_PER_TURN: u64 = 1 << 20;

/// Bytes of one send of a log, beyond which no further block is begun.
const SEND_BYTES_MAX: u32 = 128 << 10;

/// Sends of one log before the next log's turn: what a small topic waits for at most.
const SENDS_PER_SLICE: usize = 128;

/// Bytes of the sends of one log before the next log's turn.
const BYTES_PER_SLICE: u64 = BYTES_PER_TURN / 4;

/// Visits of one log before the next log's turn; visits without a send are cheap, but not free.
const VISITS_PER_SLICE: usize = 4 * SENDS_PER_SLICE;

/// Bytes that one send of a connection with several subscriptions gathers: copying them costs less than the sends it saves.
const GATHERED_BYTES_MAX: u32 = 64 << 10;

/// Entries of ended subscriptions among those that wait for their time, before they are looked for.
const PACED_STALE_MAX: usize = 1024;

/// What there is to send to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing; it will be noted when there is.
    None,
    /// Nothing yet; it is to be looked at again with its connection.
    Later,
    /// What its log holds from its position on.
    Run,
    /// The newest message, and that others are skipped.
    Newest,
    /// Nothing: its connection ends.
    Ended,
}

/// What became of a run that was to be gathered.
enum Gathered {
    /// All of it is in the connection's queue.
    All,
    /// It was sent by itself.
    Sent,
    /// It is for the next send.
    Full,
}

impl Shard {
    /// Orders sends, a bounded number; says whether there were any.
    pub(super) fn flush<D: Driver>(&mut self, driver: &mut D) -> bool {
        self.submit = self.submit.wrapping_add(1);
        let room = driver.room() / 2;
        let mut budget = SENDS_PER_TURN.min(room);
        let mut worked = false;
        let before = self.stats.bytes_sent;
        let is_full =
            |stats: &Stats, bytes_max: u64| stats.bytes_sent.wrapping_sub(before).cast_signed() > bytes_max as i64;
        // Each connection once: what it still has to send afterwards is for the next submit.
        // Half is the walk's: otherwise enough busy connections would keep every log from being walked.
        let (for_ready, bytes_for_ready) = match self.dirty.is_empty() {
            true => (budget, BYTES_PER_TURN),
            false => (budget.div_ceil(2), BYTES_PER_TURN / 2),
        };
        for _ in 0..self.ready.len().min(for_ready) {
            if is_full(&self.stats, bytes_for_ready) {
                break;
            }
            let Some(slot) = self.ready.pop_front() else { break };
            self.connections[slot as usize].ready = false;
            if self.send_next(driver, slot) {
                budget -= 1;
            }
            worked = true;
        }
        for _ in 0..self.dirty.len() {
            if budget == 0 || is_full(&self.stats, BYTES_PER_TURN) {
                break;
            }
            let Some(log) = self.dirty.pop_front() else { break };
            budget -= self.walk(driver, log, budget.min(SENDS_PER_SLICE));
            worked = true;
        }
        worked
    }

    /// Walks on over a log's subscribers; returns the sends ordered, at most `sends_max`.
    fn walk<D: Driver>(&mut self, driver: &mut D, index: u32, sends_max: usize) -> usize {
        let log = &mut self.topics.logs[index as usize];
        if log.topic == NONE {
            // Its last subscriber left while it stood in the queue.
            log.queued = false;
            if !log.releasing {
                self.topics.logs.remove(index as usize);
            }
            return 0;
        }
        let memberships = &mut self.topics.memberships;
        let (first, next) = (log.chain.first(), log.chain.next());
        let mut sends = 0;
        let mut visits = 0;
        let mut delivered = 0;
        let mut bytes = 0;
        let mut known: Option<(u64, Runs)> = None;
        while log.pending > 0 && sends < sends_max && visits < VISITS_PER_SLICE && bytes < BYTES_PER_SLICE {
            let place = log.walk as usize;
            log.walk += 1;
            if log.walk as usize == log.subscribers.len() {
                log.walk = 0;
            }
            log.pending -= 1;
            visits += 1;
            let subscriber = &mut log.subscribers[place];
            if subscriber.next >= next {
                continue;
            }
            if subscriber.flags & LOOK != 0 || subscriber.next < first {
                // Too slow without being blocked: the log went on faster than the walk came round.
                let noted = subscriber.flags & NEWS != 0;
                subscriber.flags |= LOOK;
                if subscriber.flags & (BEHIND | UNRESOLVED | REPLAYING) == 0 {
                    subscriber.flags |= BEHIND;
                    log.behind += 1;
                }
                let connection = &mut self.connections[subscriber.slot as usize];
                if connection.subscriptions > 1 && !noted {
                    subscriber.flags |= NEWS;
                    connection.news = link_news(memberships, connection.news, subscriber.membership);
                }
                if !connection.blocked && !std::mem::replace(&mut connection.ready, true) {
                    self.ready.push_back(subscriber.slot);
                }
                continue;
            }
            let runs = match &known {
                Some((seq, runs)) if *seq == subscriber.next => runs,
                _ => {
                    let runs = log.chain.runs(&self.store, driver.memory(), subscriber.next, 0, SEND_BYTES_MAX);
                    &known.insert((subscriber.next, runs)).1
                }
            };
            send(driver, subscriber.slot, runs);
            delivered += runs.next - subscriber.next;
            bytes += u64::from(runs.bytes);
            subscriber.next = runs.next;
            log.again |= runs.next < next;
            sends += 1;
        }
        self.stats.delivered = self.stats.delivered.wrapping_add(delivered);
        self.stats.bytes_sent = self.stats.bytes_sent.wrapping_add(bytes);
        self.stats.sends += sends as u64;
        if log.pending == 0 && std::mem::take(&mut log.again) {
            log.pending = log.subscribers.len() as u32;
        }
        if log.pending > 0 {
            self.dirty.push_back(index);
        } else {
            log.queued = false;
            self.release_later(index);
        }
        sends
    }

    /// Notes a log that may be idle: after the submit, its blocks go back to the pool if it is.
    pub(super) fn release_later(&mut self, index: u32) {
        let log = &mut self.topics.logs[index as usize];
        if log.pending == 0 && log.behind == 0 && !std::mem::replace(&mut log.releasing, true) {
            self.releasing.push(index);
        }
    }

    /// Sends the next thing a connection has to send; says whether it ordered a send.
    pub(super) fn send_next<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        let connection = &self.connections[slot as usize];
        if connection.blocked || matches!(connection.kind, Kind::Free | Kind::Dead | Kind::Closing | Kind::Lingering) {
            return false;
        }
        if connection.submit == self.submit {
            self.make_ready(slot);
            return false;
        }
        // A frame that was begun comes first.
        if connection.partial != NONE {
            self.send_run(driver, slot, connection.partial);
            return true;
        }
        if self.connections[slot as usize].cursor_due {
            self.tell_cursors(driver, slot);
        }
        if self.has_short_queue(slot) {
            // Answers leave with what is new.
            return self.gather(driver, slot);
        }
        if self.send_private(driver, slot) {
            return true;
        }
        if self.is_closing(slot) || self.is_done(slot) {
            self.finish(driver, slot);
            return false;
        }
        let sent = match self.connections[slot as usize].kind {
            Kind::Http => {
                self.collect(driver, slot);
                false
            }
            _ => self.send_subscribed(driver, slot),
        };
        if !sent && matches!(self.connections[slot as usize].kind, Kind::Dead | Kind::Closing) {
            return false;
        }
        if !sent && self.is_over(slot) {
            self.end_stream(driver, slot);
            return false;
        }
        if !sent && !self.connections[slot as usize].ready {
            self.settle_down(slot);
            self.look_no_more(slot);
        }
        sent
    }

    /// Says whether what a subscriber with several subscriptions has in its own queue is so little that more may come behind it.
    fn has_short_queue(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot as usize];
        connection.subscriptions > 1
            && connection.is_subscriber()
            && self.actives.get(connection.active as usize).is_some_and(|active| {
                !active.closing && !active.queue.is_empty() && active.queue.len() <= GATHERED_BYTES_MAX / 4
            })
    }

    /// Sends what is in the connection's own queue; says whether there was anything.
    fn send_private<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        let index = self.connections[slot as usize].active;
        if index == NONE {
            return false;
        }
        let active = &mut self.actives[index as usize];
        if active.queue.is_empty() {
            return false;
        }
        let span = active.queue.span();
        active.sending = span.len;
        active.queue.consume(span.len);
        driver.send(slot, span);
        self.stats.sends += 1;
        self.stats.bytes_sent = self.stats.bytes_sent.wrapping_add(u64::from(span.len));
        self.sent_private.push(slot);
        let connection = &mut self.connections[slot as usize];
        connection.submit = self.submit;
        connection.sent_tick = self.tick;
        true
    }

    /// Sends what is new for a connection, of all its logs as far as one send takes it; says whether there was anything.
    fn send_subscribed<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        let Connection { first, subscriptions, .. } = self.connections[slot as usize];
        if first != NONE && self.topics.subscriber(first).flags & COUNTED != 0 {
            // Now, not when it was counted: the kernel may not have taken it.
            self.end_if_long(slot);
        }
        match subscriptions {
            0 => false,
            1 => match self.look_for_news(driver, slot, first) {
                News::Run => {
                    self.send_run(driver, slot, first);
                    true
                }
                News::Newest => self.jump(driver, slot, first) && self.send_private(driver, slot),
                News::None | News::Later | News::Ended => false,
            },
            _ => self.gather(driver, slot),
        }
    }

    /// Gathers what is new for a connection with several subscriptions, and sends it; says whether there was anything.
    ///
    /// What is short is copied into the connection's own queue, so that it leaves in one send; what is long is sent from its log.
    fn gather<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        let last = self.topics.last_news(self.connections[slot as usize].news);
        self.active(slot);
        loop {
            let membership = self.connections[slot as usize].news;
            if membership == NONE {
                break;
            }
            if self.gather_plain(driver, slot, membership) {
                self.connections[slot as usize].news = self.topics.take_news(membership, membership);
                if membership == last {
                    break;
                }
                continue;
            }
            let news = self.look_for_news(driver, slot, membership);
            if news == News::Ended {
                return false;
            }
            if news == News::Run {
                match self.gather_run(driver, slot, membership) {
                    Gathered::Sent => return true,
                    Gathered::Full => break,
                    Gathered::All => {}
                }
            }
            self.connections[slot as usize].news = self.topics.take_news(membership, membership);
            if news == News::Later || self.has_more(membership) {
                self.has_news(slot, membership);
            }
            if news == News::Newest && !self.jump(driver, slot, membership) {
                return false;
            }
            if membership == last {
                break;
            }
        }
        if self.connections[slot as usize].cursor_due {
            self.tell_cursors(driver, slot);
        }
        self.send_private(driver, slot)
    }

    /// Copies all that is new for a subscription into its connection's queue, if it is short and nothing else is to be done: what
    /// most subscriptions want, with as few looks as may be.
    fn gather_plain<D: Driver>(&mut self, driver: &mut D, slot: Slot, membership: u32) -> bool {
        let place = &self.topics.memberships[membership as usize];
        let index = place.log;
        let log = &mut self.topics.logs[index as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        let (from, next) = (subscriber.next, log.chain.next());
        if subscriber.flags & !(LOOK | BEHIND | NEWS) != 0 || from < log.chain.first() || from >= next {
            return false;
        }
        let run = log.chain.run(&self.store, driver.memory(), from, 0);
        let connection = &mut self.connections[slot as usize];
        let queue = &mut self.actives[connection.active as usize].queue;
        if run.next < next || queue.len() + run.span.len > GATHERED_BYTES_MAX {
            return false;
        }
        let memory = driver.memory_mut();
        if queue.is_empty() {
            // As much as all its topics may have, at once: growing by and by would copy each byte twice.
            let all = run.span.len.saturating_mul(connection.subscriptions).min(GATHERED_BYTES_MAX);
            queue.expect(&mut self.store, memory, all);
        }
        let Some(to) = queue.reserve(&mut self.store, memory, run.span.len) else { return false };
        memory.copy(run.span, to, run.span.len);
        connection.cursor_due = true;
        subscriber.next = next;
        self.stats.delivered = self.stats.delivered.wrapping_add(next - from);
        let behind = subscriber.flags & BEHIND != 0;
        subscriber.flags &= !BEHIND;
        log.behind -= u32::from(behind);
        if log.dialect.shape.is_stream() {
            self.lengthen(slot, index, run.span.len.into());
        }
        if behind {
            self.release_later(index);
        }
        true
    }

    /// Takes what is new for one of several subscriptions of a connection.
    fn gather_run<D: Driver>(&mut self, driver: &mut D, slot: Slot, membership: u32) -> Gathered {
        let place = &self.topics.memberships[membership as usize];
        let index = place.log;
        let log = &self.topics.logs[index as usize];
        let next = log.subscribers[place.index as usize].next;
        let run = log.chain.run(&self.store, driver.memory(), next, 0);
        let queued = self.active_if_any(slot).map_or(0, |active| active.queue.len());
        let fits = queued + run.span.len <= GATHERED_BYTES_MAX;
        if fits && self.queue_span(driver, slot, run.span) {
            self.pass_run(membership, run.next);
            self.topics.sent_in_pace(membership, self.now_ms);
            self.lengthen(slot, index, run.span.len.into());
            self.connections[slot as usize].cursor_due = true;
            Gathered::All
        } else if queued == 0 {
            self.send_run(driver, slot, membership);
            Gathered::Sent
        } else {
            Gathered::Full
        }
    }

    /// Says whether a subscriber has not been sent all of its log.
    fn has_more(&self, membership: u32) -> bool {
        let place = &self.topics.memberships[membership as usize];
        let log = &self.topics.logs[place.log as usize];
        let subscriber = &log.subscribers[place.index as usize];
        subscriber.flags & (UNRESOLVED | REPLAYING) == 0 && subscriber.next < log.chain.next()
    }

    /// Notes that a subscription is to be looked at when its connection is.
    pub(super) fn has_news(&mut self, slot: Slot, membership: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.subscriptions > 1 {
            connection.news = self.topics.add_news(connection.news, membership);
        }
    }

    /// Finds out what there is to send to a subscription, and does what has to be done before.
    fn look_for_news<D: Driver>(&mut self, driver: &mut D, slot: Slot, membership: u32) -> News {
        let place = &self.topics.memberships[membership as usize];
        let log = &self.topics.logs[place.log as usize];
        let (first, next) = (log.chain.first(), log.chain.next());
        let subscriber = log.subscribers[place.index as usize];
        let flags = subscriber.flags;
        if flags & ENOUGH != 0 && subscriber.next >= place.measure {
            self.end_stream(driver, slot);
            News::Ended
        } else if flags & UNRESOLVED != 0 {
            News::None // The home was asked.
        } else if flags & REPLAYING != 0 {
            self.want_more(slot, membership)
        } else if subscriber.next >= next || flags & PACED != 0 && self.paces(membership) {
            News::None // It has everything, or its time has not come.
        } else if flags & (CONFLATE | PACED) != 0 && next - subscriber.next > 1 && first < next {
            News::Newest
        } else if subscriber.next < first {
            if self.limits.lag == LagPolicy::Close {
                self.end_subscriber(driver, slot, close::TRY_AGAIN, "too slow");
                return News::Ended;
            }
            self.lag(membership);
            self.want_more(slot, membership)
        } else {
            News::Run
        }
    }

    /// Sends a run of a log to one subscriber.
    fn send_run<D: Driver>(&mut self, driver: &mut D, slot: Slot, membership: u32) {
        let place = &self.topics.memberships[membership as usize];
        let index = place.log;
        let active = self.connections[slot as usize].active;
        let log = &mut self.topics.logs[index as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        let pongs = self.actives.get(active as usize).is_some_and(|active| active.front.has_pongs());
        let (bytes, next) = if pongs && subscriber.partial > 0 {
            // Only the rest of what was begun: the pong comes next.
            let frame = log.chain.record(&self.store, driver.memory(), subscriber.next);
            let span = frame.part(subscriber.partial, frame.len - subscriber.partial);
            driver.send(slot, span);
            (span.len, subscriber.next + 1)
        } else {
            let (from, skip) = (subscriber.next, subscriber.partial);
            let runs = log.chain.runs(&self.store, driver.memory(), from, skip, SEND_BYTES_MAX);
            send(driver, slot, &runs);
            (runs.bytes, runs.next)
        };
        self.stats.delivered = self.stats.delivered.wrapping_add(next - subscriber.next);
        self.stats.bytes_sent = self.stats.bytes_sent.wrapping_add(u64::from(bytes));
        self.stats.sends += 1;
        subscriber.next = next;
        // The walk of this very flush must not send to it again.
        subscriber.flags |= LOOK;
        log.partials -= u32::from(subscriber.partial > 0);
        subscriber.partial = 0;
        let counted = subscriber.flags & COUNTED != 0;
        let more = next < log.chain.next();
        if !more && subscriber.flags & BEHIND != 0 {
            subscriber.flags &= !BEHIND;
            log.behind -= 1;
            self.release_later(index);
        }
        self.topics.sent_in_pace(membership, self.now_ms);
        if counted {
            self.lengthen(slot, index, bytes.into());
        }
        let connection = &mut self.connections[slot as usize];
        connection.submit = self.submit;
        connection.sent_tick = self.tick;
        connection.sender = membership;
        connection.partial = NONE;
        connection.cursor_due = true;
        if more {
            self.has_news(slot, membership);
        }
        self.make_ready(slot);
    }

    /// Says whether a subscriber's next message has to wait; if so, sees to it that it is looked at in time.
    fn paces(&mut self, membership: u32) -> bool {
        let Some(pace) = self.topics.pace_mut(membership).filter(|pace| pace.due_ms > self.now_ms) else {
            return false;
        };
        // Messages that come while it waits must not each leave an entry.
        let due_ms = pace.due_ms;
        if pace.waits_for != due_ms {
            pace.waits_for = due_ms;
            self.paced.push(std::cmp::Reverse((due_ms, membership)));
            self.forget_stale_paces();
        }
        true
    }

    /// Entries of ended subscriptions stay until they are due; when they are most of all, they go at once.
    fn forget_stale_paces(&mut self) {
        let topics = &self.topics;
        if self.paced.len() > 2 * topics.memberships.len() + PACED_STALE_MAX {
            let mut entries = std::mem::take(&mut self.paced).into_vec();
            entries.retain(|std::cmp::Reverse((due_ms, membership))| {
                topics.pace(*membership).is_some_and(|pace| pace.waits_for == *due_ms)
            });
            // Whoever changes its pace to and fro may have left the same one more than once.
            entries.sort_unstable();
            entries.dedup();
            self.paced = entries.into();
        }
    }

    /// Queues the newest message for a subscriber that wants no other, and tells of those it skips; says false if the connection
    /// goes on otherwise.
    fn jump<D: Driver>(&mut self, driver: &mut D, slot: Slot, membership: u32) -> bool {
        let place = &self.topics.memberships[membership as usize];
        let index = place.log;
        let log = &self.topics.logs[index as usize];
        let epoch = self.topics.topic(log.topic).epoch;
        let to = log.chain.next() - 1;
        let subscriber = self.topics.subscriber_mut(membership);
        let from = std::mem::replace(&mut subscriber.next, to);
        self.stats.conflated = self.stats.conflated.wrapping_add(to - from);
        if self.connections[slot as usize].kind != Kind::Payload {
            // The line that tells of it and the message leave in one send: were they two, a fast topic could put a jump
            // between them for ever.
            let (before, last) = (Cursor { epoch, seq: from - 1 }, Cursor { epoch, seq: to - 1 });
            self.tell_gap(driver, slot, membership, before, last, to - from, GapReason::Conflated);
            if !self.connections[slot as usize].is_subscriber() {
                return false;
            }
        }
        let log = &self.topics.logs[index as usize];
        let frame = log.chain.record(&self.store, driver.memory(), to);
        if !self.queue_span(driver, slot, frame) {
            self.shed(driver, slot);
            return false;
        }
        self.pass(membership);
        self.lengthen(slot, index, frame.len.into());
        self.connections[slot as usize].cursor_due = true;
        self.topics.sent_in_pace(membership, self.now_ms);
        true
    }

    /// Counts the next message of a subscriber as delivered: it stands in the connection's own queue.
    pub(super) fn pass(&mut self, membership: u32) {
        let next = self.topics.subscriber(membership).next + 1;
        self.pass_run(membership, next);
    }

    /// Counts the messages of a subscriber before number `next` as delivered: they stand in the connection's own queue.
    fn pass_run(&mut self, membership: u32, next: u64) {
        let place = &self.topics.memberships[membership as usize];
        let index = place.log;
        let log = &mut self.topics.logs[index as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        self.stats.delivered = self.stats.delivered.wrapping_add(next - subscriber.next);
        subscriber.next = next;
        if next == log.chain.next() && subscriber.flags & BEHIND != 0 {
            subscriber.flags &= !BEHIND;
            log.behind -= 1;
            self.release_later(index);
        }
    }

    /// Asks for more of a replay, if nothing of an earlier one is on its way or waits to be sent; says when to look again.
    pub(super) fn want_more(&mut self, slot: Slot, membership: u32) -> News {
        if self.topics.memberships[membership as usize].serial != 0 {
            return News::None; // Its answer is on its way.
        }
        let busy = self
            .active_if_any(slot)
            .is_some_and(|active| active.replays > 0 || !active.queue.is_empty() || active.sending > 0);
        if busy {
            return News::Later;
        }
        if self.ask_for_more(slot, membership) {
            News::None
        } else {
            let log = self.topics.memberships[membership as usize].log;
            let home = self.topics.topic(self.topics.logs[log as usize].topic).home;
            self.want(slot, home as usize);
            News::Later
        }
    }

    /// The connection's own queue has drained: what waited for that goes on.
    pub(super) fn drained<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Some(active) = self.active_if_any(slot) else { return };
        let waits = active.waiting == Waiting::Drain;
        self.make_ready(slot);
        if waits {
            self.go_on(driver, slot);
        }
    }
}

/// Orders a send of all these runs.
fn send<D: Driver>(driver: &mut D, slot: Slot, runs: &Runs) {
    match runs.parts() {
        [one] => driver.send(slot, *one),
        several => driver.send_parts(slot, several),
    }
}
