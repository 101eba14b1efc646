//! The sender: what a connection that needs a look is sent next, of its own queue and of its subscriptions, in one send.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::line::GapReason;

use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::pattern::reads::pattern_of;
use crate::shard::refusal::Refusal;
use crate::shard::rules::{LagPolicy, Mode};
use crate::shard::sending::{SEND_BYTES_MAX, send};
use crate::shard::slot::connection::{Connection, Life, Waiting};
use crate::shard::topic::replay::Whereabouts;
use crate::shard::topic::topics::{
    AWAY, BEHIND, CONFLATE, COUNTED, ENOUGH, FALLEN, LOOK, METERED, NEWS, NONE, PACED, REPLAYING, UNRESOLVED,
};

/// Bytes that one send of a connection with several subscriptions gathers: copying them costs less than the sends it saves.
const GATHERED_BYTES_MAX: u32 = 64 << 10;

/// Entries of ended subscriptions among those that wait for their time, before they are looked for.
const PACED_STALE_MAX: usize = 1024;

/// What there is to send to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum News {
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
    /// Sends the next thing a connection has to send; says whether it ordered a send.
    pub(in crate::shard) fn send_next<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        let connection = &self.slots.connections[slot as usize];
        if connection.blocked || connection.life != Life::Open {
            return false;
        }
        if connection.submit == self.sending.submit {
            self.slots.make_ready(slot);
            return false;
        }
        if self.is_held_back(slot) {
            return false;
        }
        // A frame that was begun comes first.
        let connection = &self.slots.connections[slot as usize];
        if connection.partial != NONE {
            self.send_run(driver, slot, connection.partial);
            return true;
        }
        if self.slots.connections[slot as usize].cursor_due {
            self.tell_cursors(driver, slot);
        }
        if self.has_short_queue(slot) {
            // Answers leave with what is new.
            return self.gather(driver, slot);
        }
        if self.send_private(driver, slot) {
            return true;
        }
        if self.slots.is_closing(slot) || self.is_done(slot) {
            self.finish(driver, slot);
            return false;
        }
        let sent = self.send_news(driver, slot);
        if !sent && matches!(self.slots.connections[slot as usize].life, Life::Dead | Life::Closing) {
            return false;
        }
        if !sent && self.is_over(slot) {
            self.end_stream(driver, slot);
            return false;
        }
        if !sent && !self.slots.connections[slot as usize].ready {
            self.settle_down(slot);
            self.look_no_more(slot);
        }
        sent
    }

    /// Says whether what a subscriber with several subscriptions has in its own queue is so little that more may come behind it.
    fn has_short_queue(&self, slot: Slot) -> bool {
        let connection = &self.slots.connections[slot as usize];
        connection.subscriptions > 1
            && connection.is_subscriber()
            && self.slots.actives.get(connection.active as usize).is_some_and(|active| {
                !active.closing && !active.queue.is_empty() && active.queue.len() <= GATHERED_BYTES_MAX / 4
            })
    }

    /// Sends what is in the connection's own queue; says whether there was anything.
    fn send_private<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        let index = self.slots.connections[slot as usize].active;
        if index == NONE {
            return false;
        }
        let active = &mut self.slots.actives[index as usize];
        if active.queue.is_empty() {
            return false;
        }
        let span = active.queue.span();
        active.sending = span.len;
        active.queue.consume(span.len);
        driver.send(slot, span);
        self.stats.sends += 1;
        self.stats.bytes_sent = self.stats.bytes_sent.wrapping_add(u64::from(span.len));
        self.sending.private.push(slot);
        let connection = &mut self.slots.connections[slot as usize];
        connection.submit = self.sending.submit;
        connection.sent_tick = self.clock.tick;
        self.count_sent(slot, span.len);
        true
    }

    /// Sends what is new for a connection, of all its logs as far as one send takes it; says whether there was anything.
    pub(in crate::shard) fn send_subscribed<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        let Connection { first, subscriptions, .. } = self.slots.connections[slot as usize];
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
        let last = self.topics.last_news(self.slots.connections[slot as usize].news);
        self.active(slot);
        let meter = self.meter_of(slot);
        let (metered, piece) = (meter.is_some(), meter.map_or(0, |meter| meter.bandwidth / 8));
        loop {
            let subscription = self.slots.connections[slot as usize].news;
            if subscription == NONE {
                break;
            }
            if metered && self.slots.actives[self.slots.connections[slot as usize].active as usize].queue.len() >= piece
            {
                break;
            }
            if !metered && self.gather_plain(driver, slot, subscription) {
                self.slots.connections[slot as usize].news = self.topics.take_news(subscription, subscription);
                if subscription == last {
                    break;
                }
                continue;
            }
            let news = self.look_for_news(driver, slot, subscription);
            if news == News::Ended {
                return false;
            }
            if news == News::Run {
                match self.gather_run(driver, slot, subscription) {
                    Gathered::Sent => return true,
                    Gathered::Full => break,
                    Gathered::All => {}
                }
            }
            self.slots.connections[slot as usize].news = self.topics.take_news(subscription, subscription);
            if news == News::Later || self.has_more(subscription) {
                self.has_news(slot, subscription);
            }
            if news == News::Newest && !self.jump(driver, slot, subscription) {
                return false;
            }
            if subscription == last {
                break;
            }
        }
        if self.slots.connections[slot as usize].cursor_due {
            self.tell_cursors(driver, slot);
        }
        self.send_private(driver, slot)
    }

    /// Copies all that is new for a subscription into its connection's queue, if it is short and nothing else is to be done: what
    /// most subscriptions want, with as few looks as may be.
    fn gather_plain<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> bool {
        let place = &self.topics.subscriptions[subscription as usize];
        let index = place.log;
        let log = &mut self.topics.logs[index as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        let (from, next) = (subscriber.next, log.chain.next());
        if subscriber.flags & !(LOOK | BEHIND | NEWS) != 0 || from >= next {
            return false;
        }
        let run = log.chain.run(&self.store, driver.memory(), from, 0);
        let connection = &mut self.slots.connections[slot as usize];
        let queue = &mut self.slots.actives[connection.active as usize].queue;
        if run.next < next || queue.len() + run.span.len > GATHERED_BYTES_MAX {
            return false;
        }
        let memory = driver.memory_mut();
        if queue.is_empty() {
            // As much as all its topics may have, at once: growing by and by would copy each byte twice.
            let all = run.span.len.saturating_mul(connection.subscriptions).min(GATHERED_BYTES_MAX);
            let _ = queue.expect(&mut self.store, memory, all);
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
    fn gather_run<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> Gathered {
        let place = &self.topics.subscriptions[subscription as usize];
        let index = place.log;
        let log = &self.topics.logs[index as usize];
        let next = log.subscribers[place.index as usize].next;
        let run = match self.piece_of(slot, subscription) {
            None => log.chain.run(&self.store, driver.memory(), next, 0),
            Some(bytes_max) => log.chain.piece(&self.store, driver.memory(), next, 0, bytes_max),
        };
        let queued = self.slots.active_if_any(slot).map_or(0, |active| active.queue.len());
        let fits = queued + run.span.len <= GATHERED_BYTES_MAX;
        if fits && self.queue_span(driver, slot, run.span) {
            self.pass_run(subscription, run.next);
            self.topics.sent_in_pace(subscription, self.clock.now_ms, run.span.len);
            self.lengthen(slot, index, run.span.len.into());
            self.slots.connections[slot as usize].cursor_due = true;
            Gathered::All
        } else if queued == 0 {
            self.send_run(driver, slot, subscription);
            Gathered::Sent
        } else {
            Gathered::Full
        }
    }

    /// Says whether a subscriber has not been sent all of its log.
    fn has_more(&self, subscription: u32) -> bool {
        let place = &self.topics.subscriptions[subscription as usize];
        let log = &self.topics.logs[place.log as usize];
        let subscriber = &log.subscribers[place.index as usize];
        subscriber.flags & AWAY == 0 && subscriber.next < log.chain.next()
    }

    /// Notes that a subscription is to be looked at when its connection is.
    pub(in crate::shard) fn has_news(&mut self, slot: Slot, subscription: u32) {
        let connection = &mut self.slots.connections[slot as usize];
        if connection.subscriptions > 1 {
            connection.news = self.topics.add_news(connection.news, subscription);
        }
    }

    /// Finds out what there is to send to a subscription, and does what has to be done before.
    fn look_for_news<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> News {
        if self.whereabouts(driver, subscription) == Whereabouts::Ahead {
            return News::None; // Its log has not come as far.
        }
        let place = &self.topics.subscriptions[subscription as usize];
        let index = place.log;
        let log = &self.topics.logs[index as usize];
        let next = log.chain.next();
        let subscriber = log.subscribers[place.index as usize];
        let flags = subscriber.flags;
        if flags & ENOUGH != 0 && (flags & AWAY != 0 || subscriber.next >= place.measure) {
            self.end_stream(driver, slot);
            News::Ended
        } else if flags & UNRESOLVED != 0 {
            News::None // The home was asked.
        } else if flags & REPLAYING != 0 {
            self.want_more(slot, subscription)
        } else if flags & AWAY == 0 && subscriber.next >= next
            || flags & (PACED | METERED) != 0 && self.paces(subscription)
        {
            News::None // It has everything, or its time has not come.
        } else if flags & METERED != 0 && self.is_queue_over(subscription, subscriber.pending(next)) {
            self.drop_oldest(driver, slot, subscription)
        } else if flags & (CONFLATE | PACED) != 0 && subscriber.pending(next) > 1 && self.may_jump(subscription) {
            News::Newest
        } else if flags & AWAY != 0 {
            let topic = self.topics.name(self.topics.logs[index as usize].topic).text;
            if self.limits.lag_of(topic) == LagPolicy::Close {
                reach(Mark::LagClosed);
                self.refuse_connection(driver, slot, Refusal::TooSlow);
                return News::Ended;
            }
            self.lag(subscription);
            self.want_more(slot, subscription)
        } else {
            News::Run
        }
    }

    /// Says whether the newest message can be sent to a subscriber from its log, and how many it skips is known.
    fn may_jump(&self, subscription: u32) -> bool {
        let log = &self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize];
        let flags = self.topics.subscriber(subscription).flags & (AWAY | FALLEN);
        match self.topics.topic(log.topic).mode {
            // The newest of each key counts: the log has to have all that is skipped.
            Mode::Command => flags == 0 && !log.chain.is_empty(),
            _ => flags != AWAY && !log.chain.is_empty(),
        }
    }

    /// Sends a run of a log to one subscriber.
    fn send_run<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) {
        let place = &self.topics.subscriptions[subscription as usize];
        let index = place.log;
        let active = self.slots.connections[slot as usize].active;
        let pongs = self.slots.actives.get(active as usize).is_some_and(|active| active.front.has_pongs());
        let piece = self.piece_of(slot, subscription);
        let log = &mut self.topics.logs[index as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        let chooses = subscriber.flags & (CONFLATE | PACED) != 0;
        let (bytes, next) = if (pongs || chooses) && subscriber.partial() > 0 {
            // Only the rest of what was begun: the pong comes next, or, in its time, what is the newest by then.
            let frame = log.chain.record(&self.store, driver.memory(), subscriber.next);
            let span = frame.part(subscriber.partial(), frame.len - subscriber.partial());
            driver.send(slot, span);
            (span.len, subscriber.next + 1)
        } else if let Some(bytes_max) = piece {
            let (from, skip) = (subscriber.next, subscriber.partial());
            let run = log.chain.piece(&self.store, driver.memory(), from, skip, bytes_max);
            driver.send(slot, run.span);
            (run.span.len, run.next)
        } else {
            let (from, skip) = (subscriber.next, subscriber.partial());
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
        log.partials -= u32::from(subscriber.partial() > 0);
        subscriber.set_partial(0);
        let counted = subscriber.flags & COUNTED != 0;
        let more = next < log.chain.next();
        if !more && subscriber.flags & BEHIND != 0 {
            subscriber.flags &= !BEHIND;
            log.behind -= 1;
            self.release_later(index);
        }
        self.topics.sent_in_pace(subscription, self.clock.now_ms, bytes);
        if counted {
            self.lengthen(slot, index, bytes.into());
        }
        let connection = &mut self.slots.connections[slot as usize];
        connection.submit = self.sending.submit;
        connection.sent_tick = self.clock.tick;
        connection.sender = subscription;
        connection.partial = NONE;
        connection.cursor_due = true;
        if more {
            self.has_news(slot, subscription);
        }
        self.count_sent(slot, bytes);
        self.slots.make_ready(slot);
    }

    /// Says whether a subscriber's next message has to wait; if so, sees to it that it is looked at in time.
    fn paces(&mut self, subscription: u32) -> bool {
        let Some(pace) = self.topics.pace_mut(subscription).filter(|pace| pace.due_ms > self.clock.now_ms) else {
            return false;
        };
        // Messages that come while it waits must not each leave an entry.
        let due_ms = pace.due_ms;
        if pace.waits_for != due_ms {
            pace.waits_for = due_ms;
            self.timers.paced.push(std::cmp::Reverse((due_ms, subscription)));
            self.forget_stale_paces();
        }
        true
    }

    /// Entries of ended subscriptions stay until they are due; when they are most of all, they go at once.
    fn forget_stale_paces(&mut self) {
        let topics = &self.topics;
        if self.timers.paced.len() > 2 * topics.subscriptions.len() + PACED_STALE_MAX {
            let mut entries = std::mem::take(&mut self.timers.paced).into_vec();
            entries.retain(|std::cmp::Reverse((due_ms, subscription))| {
                topics.pace(*subscription).is_some_and(|pace| pace.waits_for == *due_ms)
            });
            // Whoever changes its pace to and fro may have left the same one more than once.
            entries.sort_unstable();
            entries.dedup();
            self.timers.paced = entries.into();
        }
    }

    /// Queues the newest message for a subscriber that wants no other, and tells of those it skips; says false if the connection
    /// goes on otherwise.
    fn jump<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> bool {
        let place = &self.topics.subscriptions[subscription as usize];
        let index = place.log;
        let log = &self.topics.logs[index as usize];
        if self.topics.sides.get(log.side as usize).is_some_and(|side| side.notes) {
            return self.leap(driver, slot, subscription);
        }
        let epoch = self.topics.topic(log.topic).epoch;
        let (to, subscriber) = (log.chain.next() - 1, log.subscribers[place.index as usize]);
        let skipped = subscriber.pending(to);
        let number_before = |position| log.chain.number_before(&self.store, driver.memory(), position);
        let after = if subscriber.flags & AWAY == 0 { number_before(subscriber.next) } else { subscriber.next };
        let before = number_before(to);
        self.topics.subscriber_mut(subscription).come_back(to);
        reach(Mark::Jumped);
        self.stats.conflated = self.stats.conflated.wrapping_add(skipped);
        if self.slots.connections[slot as usize].session.traits().is_told_gaps {
            // The line that tells of it and the message leave in one send: were they two, a fast topic could put a jump
            // between them for ever.
            let (from, to) = (Cursor { epoch, seq: after }, Cursor { epoch, seq: before });
            self.subscription_lost(driver, slot, subscription, from, to, skipped, GapReason::Conflated);
            if !self.slots.connections[slot as usize].is_subscriber() {
                return false;
            }
        }
        let log = &self.topics.logs[index as usize];
        let frame = log.chain.record(&self.store, driver.memory(), to);
        if !self.queue_span(driver, slot, frame) {
            self.shed(driver, slot);
            return false;
        }
        self.pass(subscription);
        self.lengthen(slot, index, frame.len.into());
        self.slots.connections[slot as usize].cursor_due = true;
        self.topics.sent_in_pace(subscription, self.clock.now_ms, frame.len);
        true
    }

    /// Counts the next message of a subscriber as delivered: it stands in the connection's own queue.
    pub(in crate::shard) fn pass(&mut self, subscription: u32) {
        let next = self.topics.subscriber(subscription).next + 1;
        self.pass_run(subscription, next);
    }

    /// Counts the messages of a subscriber before position `next` as delivered: they stand in the connection's own queue.
    pub(in crate::shard) fn pass_run(&mut self, subscription: u32, next: u64) {
        let place = &self.topics.subscriptions[subscription as usize];
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
    pub(in crate::shard) fn want_more(&mut self, slot: Slot, subscription: u32) -> News {
        if self.topics.subscriptions[subscription as usize].serial != 0 {
            return News::None; // Its answer is on its way.
        }
        let busy = self
            .slots
            .active_if_any(slot)
            .is_some_and(|active| active.replays > 0 || !active.queue.is_empty() || active.sending > 0);
        if busy {
            return News::Later;
        }
        if self.ask_for_more(slot, subscription) {
            News::None
        } else {
            let log = self.topics.subscriptions[subscription as usize].log;
            let home = self.topics.topic(self.topics.logs[log as usize].topic).home;
            let home = if pattern_of(home).is_some() { self.home_of_walk(subscription) } else { home as usize };
            self.want(slot, home);
            News::Later
        }
    }

    /// The connection's own queue has drained: what waited for that goes on.
    pub(in crate::shard) fn drained<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Some(active) = self.slots.active_if_any(slot) else { return };
        let waits = active.waiting == Waiting::Drain;
        self.slots.make_ready(slot);
        if waits {
            self.go_on(driver, slot);
        }
    }
}
