//! What the kernel's completions mean to a shard, and what the ring itself does about them.
//!
//! Owns: the reading of tokens and results, and the orders that follow without the shard: the next accept, the connect
//! of a socket that is in the table, the close that waited for a shutdown. Never: calls the kernel, except to make room.

use io_uring::cqueue;

use super::accept::out_of_something;
use super::driver::{Completion, End, Errno, Slot};
use super::entries::close_entry;
use super::ring::{FINISHING_THEN_CLOSE, OPEN, Ring};
use super::token::{Operation, Token};

impl Ring {
    pub(super) fn understand(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let token = Token::from_raw(entry.user_data());
        let (result, slot, generation) = (entry.result(), token.slot(), token.generation());
        match token.operation() {
            Operation::Send => {
                let asked = token.asked();
                let sent = if result < 0 { Err(-result as Errno) } else { Ok(result as u32) };
                (sent != Ok(asked)).then_some(Completion::Unsent { slot, asked, sent })
            }
            Operation::ReceiveMultishot | Operation::ReceiveNext => {
                Some(self.received(token, result, entry.flags(), false))
            }
            Operation::ReceiveOnce => Some(self.received(token, result, entry.flags(), true)),
            Operation::PollReadable => {
                let cancelled = result == -libc::ECANCELED;
                let failed = !cancelled && result & i32::from(libc::POLLERR | libc::POLLHUP) != 0;
                Some(Completion::Readable { slot, generation, cancelled, failed })
            }
            Operation::PollWritable => Some(Completion::Writable { slot, generation }),
            Operation::Accept => self.accepted(token, result, entry.flags()),
            Operation::Install | Operation::Connect => self.connected(token, result),
            Operation::Close | Operation::Discard => {
                assert!(result == 0, "closing slot {slot} failed with error {}", -result);
                self.freed();
                (token.operation() == Operation::Close).then_some(Completion::Closed { slot })
            }
            // A peer that is gone already (ENOTCONN) is found by its receive.
            Operation::Finish => {
                self.finished(slot);
                None
            }
            // ENOENT, EALREADY: what should be cancelled has completed, or is about to.
            Operation::Cancel => None,
            Operation::Timer => {
                self.timer.fired();
                None
            }
            Operation::TimerChange => None,
            Operation::Doorbell => {
                self.timer.rang();
                None
            }
        }
    }

    /// Arms so many accepts at most, as far as there are slots; they are tried at once if somebody `waits`.
    pub(super) fn arm_accepts(&mut self, listener: u8, at_most: usize, waits: bool) {
        if self.held {
            return;
        }
        for _ in 0..at_most {
            if self.slots_promised >= self.slots_max {
                break;
            }
            let Some(entry) = self.accepting[usize::from(listener)].arm(waits) else {
                break;
            };
            self.slots_promised += 1;
            self.push_lazily(&entry);
        }
        let accepting = &mut self.accepting[usize::from(listener)];
        if accepting.active() && accepting.all_idle() && self.slots_promised >= self.slots_max {
            accepting.pause();
            self.said.push_back(Completion::AcceptFailed { listener, errno: libc::ENFILE });
        }
    }

    fn freed(&mut self) {
        self.slots_promised -= 1;
        for listener in 0..self.accepting.len() {
            if self.accepting[listener].active() {
                self.arm_accepts(listener as u8, 1, false);
            }
        }
    }

    fn accepted(&mut self, token: Token, result: i32, flags: u32) -> Option<Completion> {
        let listener = token.generation() as u8;
        let accepting = &mut self.accepting[usize::from(listener)];
        let mut result = result;
        if result >= 0 {
            match accepting.move_in(token.slot(), result) {
                Some(Ok(entry)) => {
                    self.push(&entry);
                    return None;
                }
                Some(Err(_)) => result = -libc::ECONNABORTED,
                None => {}
            }
        }
        let moved = accepting.moved(token.slot());
        let peer = accepting.completed(token.slot());
        if let Some((slot, _)) = moved {
            result = match result {
                0 => -libc::ENFILE,
                1.. => slot,
                failed => failed,
            };
        }
        if result < 0 {
            self.slots_promised -= 1;
            if self.stopped {
                return None;
            }
            if result == -libc::ECANCELED {
                // Unless they are held: then it is armed when they are not any more.
                self.arm_accepts(listener, 1, true);
                return None;
            }
            if out_of_something(-result) {
                let told = self.accepting[usize::from(listener)].pause();
                return told.then_some(Completion::AcceptFailed { listener, errno: -result });
            }
            self.arm_accepts(listener, 1, false);
            return None;
        }
        let slot = result as Slot;
        if self.stopped {
            self.push(&close_entry(slot, Operation::Discard));
            return None;
        }
        self.arm_accepts(listener, 1, cqueue::sock_nonempty(flags));
        self.credentials.extend(moved.map(|(_, credentials)| (slot, credentials)));
        Some(Completion::Accepted { listener, slot, peer })
    }

    fn connected(&mut self, token: Token, result: i32) -> Option<Completion> {
        if token.operation() == Operation::Connect {
            self.dials.done(u32::from(token.generation()));
            return Some(Completion::Connected { slot: token.slot(), errno: -result });
        }
        if result < 1 {
            self.dials.done(token.slot());
            self.slots_promised -= 1;
            return Some(Completion::Connected {
                slot: u32::MAX,
                errno: if result < 0 { -result } else { libc::ENFILE },
            });
        }
        let (_, entry) = self.dials.installed(token.slot());
        self.push(&entry);
        None
    }

    fn received(&mut self, token: Token, result: i32, flags: u32, once: bool) -> Completion {
        let (slot, generation) = (token.slot(), token.generation());
        let buffer = cqueue::buffer_select(flags);
        let more = cqueue::more(flags);
        if result > 0 {
            let id = buffer.expect("a receive with bytes has taken a buffer");
            let lent = self.buffers.lend(id, result as u32);
            return Completion::Received { slot, generation, lent, more };
        }
        if let Some(id) = buffer {
            let lent = self.buffers.lend(id, 0);
            self.buffers.give(lent.id);
        }
        let end = match -result {
            0 => End::Eof,
            libc::EAGAIN if once => End::Again,
            libc::EAGAIN | libc::EINTR => End::Rearm,
            libc::ENOBUFS => {
                self.buffers.ran_out();
                End::NoBuffers
            }
            libc::ECANCELED => End::Cancelled,
            errno => End::Failed(errno),
        };
        Completion::ReceiveEnded { slot, generation, end }
    }

    fn finished(&mut self, slot: Slot) {
        let after = std::mem::replace(&mut self.finishing[slot as usize], OPEN);
        if after == FINISHING_THEN_CLOSE {
            self.push(&close_entry(slot, Operation::Close));
        }
    }
}
