//! One ring and its connections.
//!
//! Owns: the ring, the outbox, the connections by slot, and the roster that knows them by number. A worker has as many
//! lanes as it needs to hold its connections, because one ring's table is limited. Never: decides what to publish or when
//! to connect; that is the worker's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;

use corecast::io::Dial;
use corecast::io::doorbell::Doorbell;
use corecast::io::driver::{Completion, Driver as _, End, Errno, Interest, Lent, Slot};
use corecast::io::ring::{Ring, RingConfig};

use crate::account::Account;
use crate::client::{Armed, Client, Ears, Purpose, Rules};
use crate::outbox::{self, Outbox};
use crate::plan::{Publish, Waiting};
use crate::process::now_ns;
use crate::roster::{Roster, Standing};
use crate::sealed::Sealed;
use crate::tally::Tally;

/// Receive buffers of a lane. 4 MiB that stay in use, whatever the number of connections.
const BUFFERS: u16 = 2048;
const BUFFER_BYTES: u32 = 2048;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    ring: Ring,
    outbox: Outbox,
    /// TLS, if that is spoken.
    sealed: Option<Sealed>,
    clients: Vec<Option<Client>>,
    completions: Vec<Completion>,
    say: Vec<u8>,
    interest: Interest,
    pub(crate) roster: Roster,
    /// Connections that publish; they live on one lane, and are there before all subscribers.
    publishers: Vec<Option<Slot>>,
    publishers_dialed: bool,
    publishers_named: usize,
    /// Slots that are being closed.
    closing: u32,
    /// Those who read slowly, by the time they go on.
    pauses: BinaryHeap<Reverse<(u64, Slot)>>,
    /// Those who poll, by the time they ask again.
    polls: BinaryHeap<Reverse<(u64, Slot)>>,
    /// While nothing is published, nobody is slow.
    pub(crate) hurry: bool,
    /// Whose bytes filled the last receive buffer.
    filled: Option<Slot>,
}

/// What a lane needs of its worker in a turn.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) account: &'a mut Account,
    pub(crate) tally: &'a Tally,
    pub(crate) echoes_sent: &'a mut u64,
}

impl Lane {
    /// Makes a ring for the connections of a roster, and so many that publish.
    pub(crate) fn new(rules: &Rules, roster: Roster, publishers: u32) -> io::Result<Lane> {
        let slots = roster.count() + publishers;
        let config =
            RingConfig { slots, buffers: BUFFERS, buffer_bytes: BUFFER_BYTES, memory_bytes: outbox::MEMORY_BYTES };
        let mut ring = Ring::new(&config, 0, Doorbell::several(1)?, Vec::new())?;
        ring.enable()?;
        let slots = ring.slots_max();
        Ok(Lane {
            ring,
            outbox: Outbox::new(slots),
            sealed: rules.seal.clone().map(|seal| Sealed::new(seal, slots)),
            clients: (0..slots).map(|_| None).collect(),
            completions: Vec::new(),
            say: Vec::new(),
            interest: match rules.plan.waiting() {
                Waiting::Stream => Interest::Multishot,
                Waiting::Readiness => Interest::Readiness,
            },
            roster,
            publishers: vec![None; publishers as usize],
            publishers_dialed: false,
            publishers_named: 0,
            closing: 0,
            pauses: BinaryHeap::new(),
            polls: BinaryHeap::new(),
            hurry: true,
            filled: None,
        })
    }

    pub(crate) fn publishers_ready(&self) -> bool {
        self.publishers.iter().all(|slot| slot.and_then(|slot| self.client(slot)).is_some_and(Client::ready))
    }

    /// Returns how many bytes of the publishers' the kernel has not taken.
    pub(crate) fn publisher_waiting_bytes(&self) -> usize {
        self.publishers.iter().flatten().map(|slot| self.outbox.waiting_bytes(*slot)).sum()
    }

    /// Sends what each publishing connection has to send, and empties it.
    pub(crate) fn publish(&mut self, out: &mut [Vec<u8>]) {
        for (publisher, bytes) in out.iter_mut().enumerate() {
            if let (Some(slot), false) = (self.publishers[publisher], bytes.is_empty()) {
                self.send(slot, bytes);
            }
            bytes.clear();
        }
    }

    /// Sends bytes on any connection.
    pub(crate) fn send(&mut self, slot: Slot, bytes: &[u8]) {
        let bytes = match &mut self.sealed {
            None => bytes,
            Some(sealed) => sealed.seal(slot, bytes),
        };
        if !bytes.is_empty() {
            self.outbox.send(&mut self.ring, slot, bytes);
        }
    }

    /// Begins connections, at most `at_most`, when they come for the `round`th time; returns how many.
    ///
    /// # Errors
    /// What would fail for every further connection too: no ports, no files.
    pub(crate) fn dial(&mut self, rules: &Rules, at_most: u32, round: u32) -> io::Result<u32> {
        if !self.publishers_ready() {
            if !std::mem::replace(&mut self.publishers_dialed, true) {
                for _ in 0..self.publishers.len() {
                    self.ring.connect(rules.plan.publish_address(), None)?;
                }
            }
            // Their connections must be told from the subscribers', so they are waited for.
            return Ok(0);
        }
        let mut begun = 0;
        while begun < at_most
            && let Some(number) = self.roster.next_to_dial()
        {
            let (to, from) = rules.plan.route(number, round);
            let receive_buffer = rules.plan.slow.filter(|_| rules.plan.is_slow(number)).map(|slow| slow.receive_buffer);
            match self.ring.dial(&Dial { to, from, receive_buffer }) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The slots of those who left come back soon.
                Err(error) if error.raw_os_error() == Some(libc::ENFILE) && self.closing > 0 => break,
                Err(error) => return Err(error),
            }
            self.roster.dialed(now_ns());
            begun += 1;
        }
        Ok(begun)
    }

    /// Drops every connection of a subscriber at once; all of them come back.
    pub(crate) fn drop_all(&mut self) {
        // The last to come first: the kernel finds what is armed in lists that begin with the newest.
        for number in self.roster.numbers().rev() {
            self.drop_connection(number);
        }
    }

    /// Lets one leave and another come in its place, if it is there.
    pub(crate) fn replace(&mut self, number: u32, account: &mut Account) -> bool {
        if self.roster.standing(number) != Standing::Ready {
            return false;
        }
        self.drop_connection(number);
        self.roster.replace(number, account);
        true
    }

    /// Counts those as failed who are not there when the phase is over, and ends what they have.
    pub(crate) fn give_up_pending(&mut self, account: &mut Account) {
        for number in self.roster.numbers() {
            let slot = match self.roster.standing(number) {
                Standing::Ready | Standing::Failed | Standing::Gone => continue,
                Standing::Waiting | Standing::Dialing | Standing::Leaving => None,
                Standing::Joining => self.roster.leave(number),
            };
            self.roster.fail(number);
            account.failed += 1;
            account.fault(|| "a connection was not there when the phase was over".to_owned());
            if let Some(slot) = slot {
                self.end(slot);
            }
        }
        self.roster.dial_no_more();
    }

    fn drop_connection(&mut self, number: u32) {
        if let Some(slot) = self.roster.leave(number) {
            self.end(slot);
        }
    }

    /// Hears what there is to hear; returns whether there was anything.
    pub(crate) fn hear(&mut self, around: &mut Surroundings<'_>) -> bool {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.reap(&mut completions, usize::MAX / 2);
        if completions.is_empty() {
            self.completions = completions;
            return false;
        }
        // All of it was there by now; what this worker then takes to look at it is not the server's.
        let now_ns = now_ns();
        // First what was not sent: an answer to something received below must come after it.
        for completion in &completions {
            if let Completion::Unsent { slot, sent, .. } = *completion
                && self.client(slot).is_some_and(|client| !client.ends)
            {
                self.outbox.unsent(&mut self.ring, slot, sent);
            }
        }
        for completion in completions.drain(..) {
            self.understand(completion, now_ns, around);
        }
        self.completions = completions;
        true
    }

    /// Lets those go on whose time has come; returns when the next is due.
    pub(crate) fn resume(&mut self, rules: &Rules, now_ns: u64) -> Option<u64> {
        let (read_ns, poll_ns) = (self.read_on(now_ns), self.poll_on(rules, now_ns));
        read_ns.into_iter().chain(poll_ns).min()
    }

    fn poll_on(&mut self, rules: &Rules, now_ns: u64) -> Option<u64> {
        while let Some(Reverse((due_ns, slot))) = self.polls.peek().copied() {
            if due_ns > now_ns {
                return Some(due_ns);
            }
            self.polls.pop();
            // A slot may have another tenant by now, who then asks a little early.
            if let Some(client) = self.clients[slot as usize].as_mut().filter(|client| client.pauses())
                && let Purpose::Subscribe(number) = client.purpose()
            {
                client.ask(rules, &self.roster.subscriptions(number)[0], &mut self.say);
                self.say_on(slot);
            }
        }
        None
    }

    fn read_on(&mut self, now_ns: u64) -> Option<u64> {
        while let Some(Reverse((due_ns, slot))) = self.pauses.peek().copied() {
            if due_ns > now_ns && !self.hurry {
                return Some(due_ns);
            }
            self.pauses.pop();
            // A slot may have another tenant by now, who is not paused.
            if self.client(slot).is_some_and(|client| client.armed == Armed::Nothing && !client.ends) {
                self.arm(slot, Armed::Readiness);
            }
        }
        None
    }

    /// Hands everything to the kernel.
    pub(crate) fn submit(&mut self) {
        self.outbox.flush(&mut self.ring);
        self.ring.submit();
        self.outbox.turned();
    }

    pub(crate) fn has_ready(&self) -> bool {
        self.outbox.has_ready()
    }

    /// Waits until the kernel has something to say, or some time has passed.
    pub(crate) fn wait(&mut self, us_max: u64) {
        let until_us = self.ring.now_us() + us_max;
        self.ring.wait(Some(until_us));
    }

    fn client(&self, slot: Slot) -> Option<&Client> {
        self.clients.get(slot as usize)?.as_ref()
    }

    fn understand(&mut self, completion: Completion, now_ns: u64, around: &mut Surroundings<'_>) {
        match completion {
            Completion::Connected { slot, errno } => self.connected(slot, errno, around),
            Completion::Received { slot, lent, more, .. } => self.received(slot, lent, more, now_ns, around),
            Completion::ReceiveEnded { slot, end, .. } => self.receive_ended(slot, end, around),
            Completion::Readable { slot, .. } => {
                let ends = self.disarmed(slot);
                if ends {
                    self.end(slot);
                } else {
                    self.arm(slot, Armed::Once);
                }
            }
            Completion::Writable { slot, .. } => self.outbox.writable(slot),
            Completion::Closed { .. } => self.closing -= 1,
            Completion::Unsent { .. } => {}
            Completion::Accepted { .. } | Completion::AcceptFailed { .. } => {
                unreachable!("a load generator has no listener")
            }
            Completion::Secured { .. }
            | Completion::Announced { .. }
            | Completion::PeerEnded { .. }
            | Completion::Broken { .. } => unreachable!("nothing stands before its ring"),
        }
    }

    fn received(&mut self, slot: Slot, lent: Lent, more: bool, now_ns: u64, around: &mut Surroundings<'_>) {
        let client = self.clients[slot as usize].as_mut().expect("only who is connected receives");
        if !more {
            client.armed = Armed::Nothing;
        }
        if client.ends {
            self.ring.recycle(lent);
            return self.end(slot);
        }
        let (was_ready, was_pausing) = (client.ready(), client.pauses());
        let purpose = client.purpose();
        let subscriptions = match purpose {
            Purpose::Subscribe(number) => self.roster.subscriptions(number),
            Purpose::Publish(_) | Purpose::Post(_) => &mut [],
        };
        let mut ears = Ears {
            rules: around.rules,
            account: around.account,
            tally: around.tally,
            subscriptions,
            say: &mut self.say,
            now_ns,
            echoes_sent: around.echoes_sent,
        };
        ears.account.received_bytes += u64::from(lent.len);
        // A read that fills its buffer goes on in the next.
        ears.account.reads += u64::from(self.filled != Some(slot));
        self.filled = (lent.len == BUFFER_BYTES).then_some(slot);
        let bytes = self.ring.received(0, lent);
        let result = match &mut self.sealed {
            None => client.hear(bytes, &mut ears),
            Some(sealed) => match sealed.open(slot, bytes) {
                Ok(()) if sealed.text.is_empty() => Ok(()),
                opened => opened.and_then(|()| client.hear(&mut sealed.text, &mut ears)),
            },
        };
        let (became_ready, slow) = (!was_ready && client.ready(), client.slow);
        let pauses = !was_pausing && client.pauses();
        self.ring.recycle(lent);
        if let Some(sealed) = self.sealed.as_ref().filter(|sealed| !sealed.wire.is_empty()) {
            self.outbox.send(&mut self.ring, slot, &sealed.wire);
        }
        if let (true, Purpose::Subscribe(number)) = (became_ready, purpose) {
            self.roster.joined(number, around.account, now_ns);
        }
        self.say_on(slot);
        if let Err(fault) = result {
            return self.fail(slot, around.account, fault);
        }
        if pauses {
            self.polls.push(Reverse((now_ns + (around.rules.plan.poll_seconds * 1e9) as u64, slot)));
        }
        match around.rules.plan.slow {
            _ if more => {}
            Some(rate) if slow && !self.hurry => {
                let pause_ns = u64::from(lent.len) * 1_000_000_000 / u64::from(rate.bytes_per_second);
                self.pauses.push(Reverse((now_ns + pause_ns, slot)));
            }
            _ => self.arm_usual(slot),
        }
    }

    fn connected(&mut self, slot: Slot, errno: Errno, around: &mut Surroundings<'_>) {
        let rules = around.rules;
        let (purpose, to, waited_for) = self.next_purpose(slot, rules);
        if !waited_for {
            if slot != u32::MAX {
                self.close(slot);
            }
            return;
        }
        let slow = matches!(purpose, Purpose::Subscribe(number) if rules.plan.is_slow(number));
        if errno != 0 {
            let fault = format!("cannot connect to {to}: {}", io::Error::from_raw_os_error(errno));
            self.count_failure(purpose, around.account, fault);
            if slot != u32::MAX {
                self.close(slot);
            }
            return;
        }
        let mut client = Client::new(purpose, rules.plan.transport, slow);
        let subscriptions = match purpose {
            Purpose::Subscribe(number) => self.roster.subscriptions(number),
            Purpose::Publish(_) | Purpose::Post(_) => &mut [],
        };
        client.greet(rules, &to.to_string(), subscriptions, &mut self.say);
        self.clients[slot as usize] = Some(client);
        if let Some(sealed) = &mut self.sealed {
            sealed.begin(slot);
            // A connection that only posts says nothing before.
            self.send(slot, &[]);
        }
        self.arm_usual(slot);
        self.say_on(slot);
    }

    /// Returns what the connection that stands now is for: connections get their numbers in the order they come.
    fn next_purpose(&mut self, slot: Slot, rules: &Rules) -> (Purpose, SocketAddr, bool) {
        let publisher = self.publishers_named;
        if publisher < self.publishers.len() {
            self.publishers[publisher] = Some(slot);
            self.publishers_named += 1;
            let purpose = match rules.plan.publish {
                Publish::Ws => Purpose::Publish(publisher as u32),
                Publish::Http => Purpose::Post(publisher as u32),
            };
            return (purpose, rules.plan.publish_address(), true);
        }
        let (number, waited_for) = self.roster.connected(slot);
        (Purpose::Subscribe(number), rules.plan.route(number, 0).0, waited_for)
    }

    fn receive_ended(&mut self, slot: Slot, end: End, around: &mut Surroundings<'_>) {
        if self.disarmed(slot) {
            return self.end(slot);
        }
        match end {
            End::Again | End::NoBuffers | End::Rearm | End::Cancelled => self.arm_usual(slot),
            End::Eof => self.fail(slot, around.account, "the server ended the connection".to_owned()),
            End::Failed(errno) => {
                let fault = format!("the connection broke: {}", io::Error::from_raw_os_error(errno));
                self.fail(slot, around.account, fault);
            }
        }
    }

    fn arm_usual(&mut self, slot: Slot) {
        let slow = self.client(slot).is_some_and(|client| client.slow);
        let stream = self.interest == Interest::Multishot && !slow;
        self.arm(slot, if stream { Armed::Stream } else { Armed::Readiness });
    }

    fn arm(&mut self, slot: Slot, armed: Armed) {
        let client = self.clients[slot as usize].as_mut().expect("only who is connected receives");
        client.armed = armed;
        let interest = match armed {
            Armed::Nothing => return,
            Armed::Stream => Interest::Multishot,
            Armed::Readiness => Interest::Readiness,
            Armed::Once => Interest::Once,
        };
        self.ring.receive(slot, 0, interest);
    }

    /// Takes note that nothing is armed any more; returns whether the connection is to end.
    fn disarmed(&mut self, slot: Slot) -> bool {
        let client = self.clients[slot as usize].as_mut().expect("only who is connected receives");
        client.armed = Armed::Nothing;
        client.ends
    }

    /// Counts a connection as failed. What it has seen stays on its account.
    fn fail(&mut self, slot: Slot, account: &mut Account, fault: String) {
        let purpose = self.client(slot).expect("only who is connected can fail").purpose();
        self.count_failure(purpose, account, fault);
        self.end(slot);
    }

    fn count_failure(&mut self, purpose: Purpose, account: &mut Account, fault: String) {
        match purpose {
            Purpose::Subscribe(number) => self.roster.fail(number),
            Purpose::Publish(_) | Purpose::Post(_) => account.publisher_lost = true,
        }
        account.failed += 1;
        account.fault(|| fault);
    }

    /// Ends a connection: at once if nothing is armed on it, or else as soon as that is cancelled. What still comes is
    /// thrown away.
    fn end(&mut self, slot: Slot) {
        let client = self.clients[slot as usize].as_mut().expect("only who is connected can end");
        let first = !std::mem::replace(&mut client.ends, true);
        let (armed, purpose) = (client.armed, client.purpose());
        if first {
            self.outbox.forget(&mut self.ring, slot);
        }
        match armed {
            Armed::Nothing => {
                self.clients[slot as usize] = None;
                if let Some(sealed) = &mut self.sealed {
                    sealed.end(slot);
                }
                self.close(slot);
                if let Purpose::Subscribe(number) = purpose
                    && self.roster.standing(number) == Standing::Leaving
                {
                    self.roster.left(number);
                }
            }
            Armed::Stream if first => self.ring.cancel_receive(slot, 0, Interest::Multishot),
            Armed::Readiness if first => self.ring.cancel_receive(slot, 0, Interest::Readiness),
            Armed::Stream | Armed::Readiness | Armed::Once => {}
        }
    }

    /// Sends what a connection has to say.
    fn say_on(&mut self, slot: Slot) {
        if !self.say.is_empty() {
            let mut say = std::mem::take(&mut self.say);
            self.send(slot, &say);
            say.clear();
            self.say = say;
        }
    }

    fn close(&mut self, slot: Slot) {
        self.ring.close(slot);
        self.closing += 1;
    }
}
