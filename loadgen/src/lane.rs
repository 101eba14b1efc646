//! One ring and its connections.
//!
//! Owns: the ring, the outbox, the connections by slot. A worker has as many lanes as it needs to hold its connections,
//! because one ring's table is limited. Never: decides what to publish or when; that is the worker's.

use std::io;
use std::net::SocketAddr;

use corecast::io::doorbell::Doorbell;
use corecast::io::driver::{Completion, Driver as _, End, Errno, Interest, Slot};
use corecast::io::ring::{Ring, RingConfig};

use crate::account::Account;
use crate::client::{Client, Ears, Purpose, Rules};
use crate::outbox::{self, Outbox};
use crate::plan::Waiting;
use crate::process::now_ns;

/// Connections of a lane that may be on their way at a time: well below the accept queue of a default host (4,096).
const UNDER_WAY_MAX: u32 = 256;

/// Receive buffers of a lane. 4 MiB that stay in use, whatever the number of connections.
const BUFFERS: u16 = 2048;
const BUFFER_BYTES: u32 = 2048;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    ring: Ring,
    outbox: Outbox,
    clients: Vec<Option<Client>>,
    completions: Vec<Completion>,
    say: Vec<u8>,
    interest: Interest,
    /// The publisher of the run lives on one lane, and is connected before all subscribers.
    publisher: Option<Purpose>,
    publisher_dialed: bool,
    publisher_slot: Option<Slot>,
    /// Number of the lane's first subscriber, and how many there are.
    first: u32,
    count: u32,
    dialed: u32,
    named: u32,
    ready: u32,
    failed: u32,
}

/// What a lane needs of its worker in a turn.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) account: &'a mut Account,
    pub(crate) echoes_sent: &'a mut u64,
}

impl Lane {
    pub(crate) fn new(rules: &Rules, slots: u32, first: u32, count: u32) -> io::Result<Lane> {
        let config =
            RingConfig { slots, buffers: BUFFERS, buffer_bytes: BUFFER_BYTES, memory_bytes: outbox::MEMORY_BYTES };
        let mut ring = Ring::new(&config, 0, Doorbell::several(1)?, Vec::new())?;
        ring.enable()?;
        let slots = ring.slots_max();
        Ok(Lane {
            ring,
            outbox: Outbox::new(slots),
            clients: (0..slots).map(|_| None).collect(),
            completions: Vec::new(),
            say: Vec::new(),
            interest: match rules.plan.waiting() {
                Waiting::Stream => Interest::Stream,
                Waiting::Readiness => Interest::Readiness,
            },
            publisher: None,
            publisher_dialed: false,
            publisher_slot: None,
            first,
            count,
            dialed: 0,
            named: 0,
            ready: 0,
            failed: 0,
        })
    }

    /// Makes this lane connect the publisher first.
    pub(crate) fn host_publisher(&mut self, purpose: Purpose) {
        self.publisher = Some(purpose);
    }

    /// Returns how many subscribers are ready, and how many will never be.
    pub(crate) fn progress(&self) -> (u32, u32) {
        (self.ready, self.failed)
    }

    pub(crate) fn publisher_ready(&self) -> bool {
        let client = self.publisher_slot.and_then(|slot| self.clients.get(slot as usize)?.as_ref());
        client.is_some_and(Client::ready)
    }

    /// Returns how many bytes of the publisher's the kernel has not taken.
    pub(crate) fn publisher_waiting_bytes(&self) -> usize {
        self.publisher_slot.map_or(0, |slot| self.outbox.waiting_bytes(slot))
    }

    /// Sends bytes on the publisher's connection.
    pub(crate) fn publish(&mut self, bytes: &[u8]) {
        if let (Some(slot), true) = (self.publisher_slot, self.publisher_ready()) {
            self.outbox.send(&mut self.ring, slot, bytes);
        }
    }

    /// Sends bytes on any connection.
    pub(crate) fn send(&mut self, slot: Slot, bytes: &[u8]) {
        self.outbox.send(&mut self.ring, slot, bytes);
    }

    /// Goes through the subscribers that are ready.
    pub(crate) fn subscribers(&self) -> impl Iterator<Item = (Slot, &Client)> {
        let subscribers = self.clients.iter().zip(0..).filter_map(|(client, slot)| Some((slot, client.as_ref()?)));
        subscribers.filter(|(_, client)| matches!(client.purpose(), Purpose::Subscribe(_) | Purpose::Echo(_)))
    }

    /// Begins connections, at most `at_most`; returns how many.
    ///
    /// # Errors
    /// What would fail for every further connection too: no ports, no files, a full table.
    pub(crate) fn dial(&mut self, rules: &Rules, at_most: u32) -> io::Result<u32> {
        if self.publisher.is_some() && !self.publisher_ready() {
            if !std::mem::replace(&mut self.publisher_dialed, true) {
                self.ring.connect(rules.plan.connect[0], None)?;
            }
            // Its connection must be told from the subscribers', so it is waited for.
            return Ok(0);
        }
        let mut begun = 0;
        while begun < at_most && self.dialed < self.count && self.dialed - self.ready - self.failed < UNDER_WAY_MAX {
            let (to, from) = rules.plan.route(self.first + self.dialed);
            match self.ring.connect(to, from) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            self.dialed += 1;
            begun += 1;
        }
        Ok(begun)
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
            if let Completion::Unsent { slot, sent, .. } = *completion {
                self.outbox.unsent(&mut self.ring, slot, sent);
            }
        }
        for completion in completions.drain(..) {
            self.understand(completion, now_ns, around);
        }
        self.completions = completions;
        true
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

    fn understand(&mut self, completion: Completion, now_ns: u64, around: &mut Surroundings<'_>) {
        match completion {
            Completion::Connected { slot, errno } => self.connected(slot, errno, around),
            Completion::Received { slot, lent, more, .. } => {
                let Some(client) = self.clients[slot as usize].as_mut().filter(|client| !client.failed) else {
                    self.ring.recycle(lent);
                    if !more {
                        self.end(slot);
                    }
                    return;
                };
                let was_ready = client.ready();
                let mut ears = Ears {
                    rules: around.rules,
                    account: around.account,
                    say: &mut self.say,
                    now_ns,
                    echoes_sent: around.echoes_sent,
                };
                let bytes = self.ring.received(lent);
                ears.account.received_bytes += bytes.len() as u64;
                let result = client.hear(bytes, &mut ears);
                self.ring.recycle(lent);
                let became_ready = !was_ready && client.ready();
                if became_ready && matches!(client.purpose(), Purpose::Subscribe(_) | Purpose::Echo(_)) {
                    self.ready += 1;
                }
                if !self.say.is_empty() {
                    self.outbox.send(&mut self.ring, slot, &self.say);
                    self.say.clear();
                }
                match result {
                    Ok(()) if more => {}
                    Ok(()) => self.ring.receive(slot, 0, self.interest),
                    Err(fault) => {
                        self.fail(slot, around.account, fault);
                        if more {
                            self.ring.cancel_receive(slot, 0, Interest::Stream);
                        } else {
                            self.end(slot);
                        }
                    }
                }
            }
            Completion::ReceiveEnded { slot, end, .. } => self.receive_ended(slot, end, around.account),
            Completion::Readable { slot, .. } => self.ring.receive(slot, 0, Interest::Once),
            Completion::Writable { slot, .. } => self.outbox.writable(slot),
            Completion::Unsent { .. } | Completion::Closed { .. } => {}
            Completion::Accepted { .. } | Completion::AcceptFailed { .. } => {
                unreachable!("a load generator has no listener")
            }
        }
    }

    fn connected(&mut self, slot: Slot, errno: Errno, around: &mut Surroundings<'_>) {
        let rules = around.rules;
        let (purpose, to) = self.next_purpose(slot, rules);
        if errno != 0 {
            if matches!(purpose, Purpose::Subscribe(_) | Purpose::Echo(_)) {
                self.failed += 1;
                around.account.failed += 1;
            }
            around.account.fault(|| format!("cannot connect to {to}: {}", io::Error::from_raw_os_error(errno)));
            if slot != u32::MAX {
                self.ring.close(slot);
            }
            return;
        }
        let client = Client::new(purpose);
        client.greet(rules, &to.to_string(), &mut self.say);
        self.clients[slot as usize] = Some(client);
        self.ring.receive(slot, 0, self.interest);
        self.outbox.send(&mut self.ring, slot, &self.say);
        self.say.clear();
    }

    /// Returns what the connection that stands now is for: connections get their numbers in the order they come.
    fn next_purpose(&mut self, slot: Slot, rules: &Rules) -> (Purpose, SocketAddr) {
        if let (Some(purpose), None) = (self.publisher, self.publisher_slot) {
            self.publisher_slot = Some(slot);
            return (purpose, rules.plan.connect[0]);
        }
        let index = self.first + self.named;
        self.named += 1;
        let purpose =
            if rules.plan.echo { Purpose::Echo(index) } else { Purpose::Subscribe(index % rules.plan.topics) };
        (purpose, rules.plan.route(index).0)
    }

    fn receive_ended(&mut self, slot: Slot, end: End, account: &mut Account) {
        let alive = self.clients[slot as usize].as_ref().is_some_and(|client| !client.failed);
        match end {
            End::Again | End::NoBuffers | End::Rearm if alive => self.ring.receive(slot, 0, self.interest),
            End::Eof if alive => self.fail(slot, account, "the server ended the connection".to_owned()),
            End::Failed(errno) if alive => {
                self.fail(slot, account, format!("the connection broke: {}", io::Error::from_raw_os_error(errno)));
            }
            _ => {}
        }
        if self.clients[slot as usize].as_ref().is_none_or(|client| client.failed) {
            self.end(slot);
        }
    }

    /// Counts a connection as failed. What it has seen stays on its account.
    fn fail(&mut self, slot: Slot, account: &mut Account, fault: String) {
        let client = self.clients[slot as usize].as_mut().expect("only what is connected can fail");
        if matches!(client.purpose(), Purpose::Subscribe(_) | Purpose::Echo(_)) {
            self.failed += 1;
            self.ready -= u32::from(client.ready());
        }
        account.failed += 1;
        client.failed = true;
        account.fault(|| fault);
        self.outbox.forget(slot);
    }

    /// Ends a failed connection once nothing receives on it any more. Its slot is kept for its account: no other
    /// connection needs it, as the table was sized for all of them.
    fn end(&mut self, slot: Slot) {
        self.ring.finish_sending(slot);
    }
}
