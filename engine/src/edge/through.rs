//! A driver that has another one: what a shard orders goes through the edge, and so does what the kernel says.

use std::net::SocketAddr;

use corecast_protocol::proxy;

use super::alert::Fault;
use super::front::{Front, Header};
use super::receiving::LEFT_OVER;
use super::{Edge, NONE};
use crate::io::driver::{Completion, Driver, End, Interest, Lent, Slot};
use crate::io::memory::{Memory, Span};
use crate::io::unix::Credentials;

/// The driver of a shard: the edge, and what is behind it.
#[derive(Debug)]
pub struct Through<'a, D> {
    /// What stands before its connections.
    pub edge: &'a mut Edge,
    /// The driver behind it.
    pub driver: &'a mut D,
}

impl<D: Driver> Driver for Through<'_, D> {
    fn now_us(&mut self) -> u64 {
        self.driver.now_us()
    }

    #[inline]
    fn ticks(&self) -> u64 {
        self.driver.ticks()
    }

    #[inline]
    fn memory(&self) -> &Memory {
        self.driver.memory()
    }

    #[inline]
    fn memory_mut(&mut self) -> &mut Memory {
        self.driver.memory_mut()
    }

    fn slots_max(&self) -> u32 {
        self.driver.slots_max()
    }

    fn room(&self) -> usize {
        self.driver.room()
    }

    fn accept(&mut self, listener: u8) {
        self.driver.accept(listener);
    }

    fn hold_accepting(&mut self, held: bool) {
        self.driver.hold_accepting(held);
    }

    fn cancel_accepts(&mut self) {
        self.driver.cancel_accepts();
    }

    fn stop_accepting(&mut self) {
        self.driver.stop_accepting();
    }

    #[inline]
    fn receive(&mut self, slot: Slot, generation: u16, interest: Interest) {
        self.driver.receive(slot, generation, interest);
    }

    fn cancel_receive(&mut self, slot: Slot, generation: u16, interest: Interest) {
        if let Some(Front::Shaking(shaking)) = self.edge.front(slot)
            && let Some(ended) = shaking.ended.take()
        {
            // Nothing is armed any more.
            self.edge.said.push_back(ended);
            return;
        }
        self.driver.cancel_receive(slot, generation, interest);
    }

    #[inline]
    fn send(&mut self, slot: Slot, bytes: Span) {
        if self.edge.place(slot) == NONE {
            self.driver.send(slot, bytes);
        } else {
            self.edge.send(self.driver, slot, &[bytes]);
        }
    }

    #[inline]
    fn send_parts(&mut self, slot: Slot, parts: &[Span]) {
        if self.edge.place(slot) == NONE {
            self.driver.send_parts(slot, parts);
        } else {
            self.edge.send(self.driver, slot, parts);
        }
    }

    fn wait_writable(&mut self, slot: Slot, generation: u16) {
        match self.edge.front(slot) {
            Some(Front::Header(_) | Front::Shaking(_)) => self.edge.waiting.push((slot, generation)),
            // It is told soon that it is broken, and cancels the wait.
            Some(Front::Broken) => self.edge.waiting.push((slot, generation)),
            _ => self.driver.wait_writable(slot, generation),
        }
    }

    fn wait_for_memory(&mut self, slot: Slot, generation: u16) {
        self.driver.wait_for_memory(slot, generation);
    }

    fn cancel_writable(&mut self, slot: Slot, generation: u16) {
        if self.edge.waiting.iter().any(|(waits, _)| *waits == slot) {
            self.edge.let_write(slot);
        } else {
            self.driver.cancel_writable(slot, generation);
        }
    }

    fn keep_lean(&mut self, slot: Slot) {
        self.driver.keep_lean(slot);
    }

    fn finish_sending(&mut self, slot: Slot) {
        if self.edge.place(slot) != NONE {
            self.edge.say_goodbye(self.driver, slot);
        }
        self.driver.finish_sending(slot);
    }

    fn close(&mut self, slot: Slot) {
        match self.edge.front(slot) {
            // Its last word is sealed when it is sent: what stands in the scratch before that may be written over.
            Some(Front::Sealed(sealed)) if !sealed.said_goodbye => self.edge.leaving.push(slot),
            Some(_) => {
                self.edge.forget(slot);
                self.edge.say_no_more(slot);
                self.driver.close(slot);
            }
            None => {
                self.edge.say_no_more(slot);
                self.driver.close(slot);
            }
        }
    }

    fn received(&mut self, slot: Slot, lent: Lent) -> &mut [u8] {
        if self.edge.place(slot) == NONE {
            return if lent == LEFT_OVER { &mut [] } else { self.driver.received(slot, lent) };
        }
        self.edge.open(self.driver, slot, lent);
        &mut self.edge.text
    }

    fn recycle(&mut self, lent: Lent) {
        if lent != LEFT_OVER {
            self.driver.recycle(lent);
        }
    }

    fn submit(&mut self) {
        if self.edge.handshakes.are_queued() {
            self.edge.shake(self.driver);
        }
        self.edge.say_unsaid(self.driver);
        self.edge.leave(self.driver);
        self.driver.submit();
    }

    fn reap(&mut self, into: &mut Vec<Completion>, max: usize) {
        let from = into.len();
        self.driver.reap(into, max);
        if self.edge.guards {
            self.edge.hear(self.driver, into, from);
        }
    }

    fn wake(&mut self, shard: usize) {
        self.driver.wake(shard);
    }

    fn has_more(&self) -> bool {
        let edge = &*self.edge;
        edge.handshakes.are_queued() || !edge.said.is_empty() || !edge.leaving.is_empty() || self.driver.has_more()
    }

    fn due_us(&self) -> Option<u64> {
        (!self.edge.unsaid.is_empty()).then_some(self.edge.unsaid_due_us)
    }

    fn take_credentials(&mut self, slot: Slot) -> Option<Credentials> {
        self.driver.take_credentials(slot)
    }

    fn take_names(&mut self, slot: Slot) -> Option<Box<str>> {
        let before = self.edge.unfinished_of(slot);
        let place = self.edge.place(slot) as usize;
        let Some(Front::Sealed(sealed)) = self.edge.fronts.get_mut(place) else { return None };
        let names = sealed.busy.as_mut()?.names.take();
        sealed.tidy(&mut self.edge.unused);
        self.edge.recount(slot, before);
        names
    }

    fn bytes_beside(&self) -> usize {
        self.edge.unfinished()
    }
}

impl Edge {
    /// Hears what the kernel says from `from` on, before the shard does.
    fn hear<D: Driver>(&mut self, driver: &mut D, into: &mut Vec<Completion>, from: usize) {
        let mut kept = from;
        for at in from..into.len() {
            if let Some(completion) = self.hear_one(driver, into[at]) {
                into[kept] = completion;
                kept += 1;
            }
        }
        into.truncate(kept);
        self.settle();
        into.extend(self.said.drain(..));
    }

    /// Returns what the shard is told instead, if anything.
    fn hear_one<D: Driver>(&mut self, driver: &mut D, completion: Completion) -> Option<Completion> {
        match completion {
            Completion::Accepted { listener, slot, .. } => self.accepted(listener, slot),
            Completion::Unsent { slot, sent, .. } if self.place(slot) != NONE || self.flights.is_last_word(slot) => {
                let (asked, sent) = self.unsent(driver.memory(), slot, sent)?;
                return Some(Completion::Unsent { slot, asked, sent });
            }
            Completion::Received { slot, generation, lent, more } => match self.front(slot) {
                Some(Front::Sealed(_) | Front::Plain(_)) | None => {}
                Some(front) => {
                    let broken = matches!(front, Front::Broken);
                    if !broken {
                        let mut bytes = self.buffer();
                        bytes.extend_from_slice(driver.received(slot, lent));
                        self.came_first(driver, slot, &bytes);
                        self.give_back(bytes);
                    }
                    driver.recycle(lent);
                    // The shard arms the next receive.
                    let end = End::Rearm;
                    return (!more).then_some(Completion::ReceiveEnded { slot, generation, end });
                }
            },
            // Behind what came before it, which the shard has not been told yet.
            Completion::ReceiveEnded { slot, end: End::Eof, .. } if self.place(slot) != NONE => {
                match self.front(slot) {
                    Some(Front::Shaking(shaking)) if shaking.queued => shaking.ended = Some(completion),
                    _ => self.said.push_back(completion),
                }
                return None;
            }
            _ => {}
        }
        Some(completion)
    }

    fn accepted(&mut self, listener: u8, slot: Slot) {
        let Some(door) = self.doors.get(usize::from(listener)) else { return };
        if door.proxy {
            self.put(slot, Front::Header(Box::new(Header { listener, bytes: Vec::new() })));
        } else if door.tls.is_some() {
            let front = self.shaking(listener, Vec::new());
            self.put(slot, front);
        }
    }

    /// Bytes came that the shard does not see.
    fn came_first<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) {
        match self.front(slot) {
            Some(Front::Shaking(_)) => self.shake_later(slot, bytes),
            Some(Front::Header(header)) => {
                header.bytes.extend_from_slice(bytes);
                match proxy::parse(&header.bytes) {
                    Ok(None) => {}
                    Ok(Some((said, used))) => {
                        let (listener, source) = (header.listener, said.source);
                        let rest = header.bytes.split_off(used);
                        self.announced(slot, listener, source, rest);
                    }
                    Err(error) => {
                        tracing::debug!(slot, %error, "a connection does not begin as its listener expects");
                        self.break_off(driver, slot, Fault::Header);
                    }
                }
            }
            _ => {}
        }
    }

    /// A proxy has said who its client is, and `rest` behind it.
    fn announced(&mut self, slot: Slot, listener: u8, source: Option<SocketAddr>, rest: Vec<u8>) {
        if let Some(peer) = source {
            self.said.push_back(Completion::Announced { slot, peer });
        }
        let speaks_tls = self.doors.get(usize::from(listener)).is_some_and(|door| door.tls.is_some());
        if speaks_tls {
            let front = self.shaking(listener, Vec::new());
            if let Some(place) = self.front(slot) {
                *place = front;
            }
            self.shake_later(slot, &rest);
            return;
        }
        if rest.is_empty() {
            self.take(slot);
        } else {
            if let Some(place) = self.front(slot) {
                *place = Front::Plain(rest);
            }
            self.said.push_back(Completion::Received { slot, generation: 0, lent: LEFT_OVER, more: true });
        }
        self.let_write(slot);
    }

    /// Closes what is to be closed; each peer is told that nothing more comes, if it can be, so that it knows that it has all of it.
    fn leave<D: Driver>(&mut self, driver: &mut D) {
        for slot in std::mem::take(&mut self.leaving) {
            self.say_goodbye(driver, slot);
            self.flights.last_words += 1;
            self.forget(slot);
            self.say_no_more(slot);
            driver.close(slot);
        }
    }

    /// The shard closes a slot: what it has not been told yet of the connection there would be told of the next one.
    fn say_no_more(&mut self, slot: Slot) {
        let is_of = |said: &Completion| match *said {
            Completion::PeerEnded { slot: of }
            | Completion::Broken { slot: of, .. }
            | Completion::Secured { slot: of, .. }
            | Completion::Announced { slot: of, .. } => of == slot,
            Completion::Received { slot: of, lent, .. } => of == slot && lent == LEFT_OVER,
            // What was armed has ended before, and what was not sent is told before anybody comes.
            _ => false,
        };
        if !self.said.is_empty() {
            self.said.retain(|said| !is_of(said));
        }
    }

    /// The slot is closed: whatever stood before it is over.
    fn forget(&mut self, slot: Slot) {
        self.unfinished_bytes -= self.unfinished_of(slot);
        if let Some(Front::Shaking(shaking)) = self.take(slot)
            && shaking.handshake.is_some()
        {
            self.handshakes.one_less();
        }
        self.waiting.retain(|(waits, _)| *waits != slot);
    }
}
