//! Handshakes in turn: a bounded time of each turn, those that were begun before those that were not.

use std::collections::VecDeque;

use super::Edge;
use super::alert::Fault;
use super::front::{Front, Sealed, Shaking, Unfinished};
use super::handshake::{Handshake, Step};
use super::receiving::LEFT_OVER;
use super::record;
use super::sending::SAID_BYTES_MAX;
use crate::io::driver::{Completion, Driver, Slot};

/// Handshakes that wait for their peers, at most; some 5 KB each. At 5,000 a second, an honest peer has most of a second.
pub(super) const UNDER_WAY_MAX: usize = 4096;

/// How long a turn works at handshakes, in microseconds: three of them or four. Messages wait no longer for a storm.
const TURN_US: u64 = 400;

/// Bytes that come before a handshake is begun, at most.
const WAITING_BYTES_MAX: usize = 32 << 10;

/// That somebody speaks no TLS is said this often at most, in microseconds.
const PLAIN_WARN_US: u64 = 10_000_000;

/// What somebody is told who speaks HTTP to a port that speaks TLS.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 59\r\nConnection: close\r\n\r\n\
this port speaks TLS: use https:// or wss:// in the address";

/// The handshakes of a shard.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// Those that can go on: begun, and not begun.
    begun: VecDeque<Slot>,
    new: VecDeque<Slot>,
    /// Those that were begun, by when, with their serials; some are over.
    under_way: VecDeque<(Slot, u32)>,
    /// How many of these are not over.
    count: usize,
    serial: u32,
    /// What one has to send.
    out: Vec<u8>,
}

impl Handshakes {
    pub(super) fn bytes(&self) -> usize {
        // What rustls takes for one that waits for its peer.
        self.count * 5_000
    }

    pub(super) fn are_queued(&self) -> bool {
        !self.begun.is_empty() || !self.new.is_empty()
    }

    /// One that was begun is over.
    pub(super) fn one_less(&mut self) {
        self.count -= 1;
    }
}

impl Edge {
    /// Makes a front for a connection whose next bytes are a handshake.
    pub(super) fn shaking(&mut self, listener: u8, bytes: Vec<u8>) -> Front {
        self.handshakes.serial = self.handshakes.serial.wrapping_add(1);
        let serial = self.handshakes.serial;
        Front::Shaking(Box::new(Shaking {
            listener,
            serial,
            queued: false,
            bytes,
            handshake: None,
            began_us: 0,
            unsaid: Vec::new(),
            ended: None,
        }))
    }

    /// Bytes of a handshake came: it goes on when its turn has come.
    pub(super) fn shake_later(&mut self, slot: Slot, bytes: &[u8]) {
        let Some(Front::Shaking(shaking)) = self.front(slot) else { return };
        let begun = shaking.handshake.is_some();
        let waiting = match &mut shaking.handshake {
            Some(handshake) => &mut handshake.waiting,
            None => &mut shaking.bytes,
        };
        waiting.extend_from_slice(bytes);
        let much = waiting.len() > WAITING_BYTES_MAX;
        // The first is begun when its first record is here: until then it costs its bytes.
        let ready = begun || much || !matches!(record::frame(waiting, None), Ok(None));
        if ready && !std::mem::replace(&mut shaking.queued, true) {
            let queue = if begun { &mut self.handshakes.begun } else { &mut self.handshakes.new };
            queue.push_back(slot);
        }
    }

    /// Goes on with handshakes for as long as a turn has for them.
    pub(super) fn shake<D: Driver>(&mut self, driver: &mut D) {
        let start_us = driver.now_us();
        while self.flights.room() >= SAID_BYTES_MAX {
            let Some(slot) = self.handshakes.begun.pop_front().or_else(|| self.handshakes.new.pop_front()) else {
                break;
            };
            self.shake_one(driver, slot);
            if driver.now_us().saturating_sub(start_us) >= TURN_US {
                break;
            }
        }
    }

    fn shake_one<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let place = self.place(slot) as usize;
        // It may have ended meanwhile, and another may have come in its place.
        let Some(Front::Shaking(shaking)) = self.fronts.get_mut(place) else { return };
        if !std::mem::take(&mut shaking.queued) {
            return;
        }
        let handshake = match &mut shaking.handshake {
            Some(handshake) => handshake,
            none => {
                let tls = self.doors.get(usize::from(shaking.listener)).and_then(|door| door.tls.as_ref());
                let Some(mut handshake) = tls.and_then(|tls| Handshake::begin(&tls.config())) else {
                    return self.break_off(driver, slot, Fault::Handshake);
                };
                handshake.waiting = std::mem::take(&mut shaking.bytes);
                self.handshakes.under_way.push_back((slot, shaking.serial));
                self.handshakes.count += 1;
                shaking.began_us = driver.now_us();
                none.insert(handshake)
            }
        };
        let began_us = shaking.began_us;
        let mut ended = shaking.ended.take();
        let mut out = std::mem::take(&mut self.handshakes.out);
        out.clear();
        let step = handshake.go_on(&mut out);
        let is_plain = matches!(step, Err(Fault::NotTls)) && is_http(&handshake.waiting);
        if is_plain {
            out.clear();
            out.extend_from_slice(PLAIN_ANSWER);
        }
        match step {
            Ok(Step::Waits) => {
                self.say(driver, slot, &out);
                self.end_oldest(driver);
            }
            Ok(Step::Over(over)) => {
                let mut sealed = Sealed::new(over.keys);
                let rest = !over.rest.is_empty();
                let mut unfinished = Unfinished { carry: over.rest, kept: Vec::new(), names: over.names };
                if let Front::Shaking(shaking) = &mut self.fronts[place]
                    && !shaking.unsaid.is_empty()
                {
                    unfinished.kept = std::mem::take(&mut shaking.unsaid);
                    unfinished.kept.append(&mut out);
                }
                if !unfinished.is_over() {
                    sealed.busy = Some(Box::new(unfinished));
                }
                self.fronts[place] = Front::Sealed(sealed);
                self.recount(slot, 0);
                self.say(driver, slot, &out);
                self.handshakes.one_less();
                let took_us = u32::try_from(driver.now_us().saturating_sub(began_us)).unwrap_or(u32::MAX);
                self.said.push_back(Completion::Secured { slot, resumed: over.resumed, took_us });
                if rest {
                    self.said.push_back(Completion::Received { slot, generation: 0, lent: LEFT_OVER, more: true });
                }
                self.let_write(slot);
            }
            Err(fault) => {
                self.said.extend(ended.take());
                self.say(driver, slot, &out);
                if is_plain {
                    self.warn_of_plain(driver.now_us());
                }
                self.give_up(driver, slot, fault);
            }
        }
        self.handshakes.out = out;
        self.said.extend(ended);
    }

    /// A handshake that was begun ends here.
    fn give_up<D: Driver>(&mut self, driver: &mut D, slot: Slot, fault: Fault) {
        self.handshakes.one_less();
        self.break_off(driver, slot, fault);
    }

    /// If too many are under way, the oldest ends.
    fn end_oldest<D: Driver>(&mut self, driver: &mut D) {
        while self.handshakes.count > UNDER_WAY_MAX || self.handshakes.under_way.len() > 2 * UNDER_WAY_MAX {
            let Some((slot, serial)) = self.handshakes.under_way.pop_front() else { return };
            let crowded = self.handshakes.count > UNDER_WAY_MAX;
            let Some(Front::Shaking(shaking)) = self.front(slot) else { continue };
            if shaking.serial != serial {
                continue;
            }
            if crowded {
                self.give_up(driver, slot, Fault::Crowded);
            } else {
                self.handshakes.under_way.push_back((slot, serial));
                return;
            }
        }
    }

    /// Whoever waited for room of a connection that could not send yet is told that it can.
    pub(super) fn let_write(&mut self, slot: Slot) {
        if let Some(at) = self.waiting.iter().position(|(waits, _)| *waits == slot) {
            let (slot, generation) = self.waiting.swap_remove(at);
            self.said.push_back(Completion::Writable { slot, generation });
        }
    }

    fn warn_of_plain(&mut self, now_us: u64) {
        if now_us >= self.plain_warn_us {
            self.plain_warn_us = now_us + PLAIN_WARN_US;
            tracing::warn!("a client speaks plain HTTP to a port that speaks TLS");
        }
    }
}

/// Says whether bytes look like the beginning of a request: an upper-case word.
fn is_http(bytes: &[u8]) -> bool {
    bytes.len() >= 3 && bytes[..3].iter().all(u8::is_ascii_uppercase)
}
