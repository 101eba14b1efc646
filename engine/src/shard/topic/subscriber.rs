//! A subscriber: where a subscription stands in its frame log, in 24 bytes of the log's array.
//!
//! It has a position in the log, or, while the log cannot serve it, the number of the last message that it has. Never both, and
//! what its `next` means is a flag: the array is walked for each message, and must stay small.

/// The subscriber must be looked at: the walk leaves it to [`crate::shard::Shard`]'s sender.
pub(in crate::shard) const LOOK: u32 = 1;
/// It is counted in its log's `behind`.
pub(in crate::shard) const BEHIND: u32 = 2;
/// It wants the newest message only.
pub(in crate::shard) const CONFLATE: u32 = 4;
/// It wants at most one message per interval.
pub(in crate::shard) const PACED: u32 = 8;
/// Where it starts is not known yet; the home was asked.
pub(in crate::shard) const UNRESOLVED: u32 = 16;
/// It is served from the home's history, not from the log.
pub(in crate::shard) const REPLAYING: u32 = 32;
/// Its stream is long enough, and ends once everything before position `measure` was sent.
pub(in crate::shard) const ENOUGH: u32 = 64;
/// It is served by the sender only, and what its stream was sent is counted.
pub(in crate::shard) const COUNTED: u32 = 128;

/// Its subscription stands among those of its connection that have news.
pub(in crate::shard) const NEWS: u32 = 256;
/// It has no position in its log: `next` is the number of the last message that it has, or is told that it lost. It is `UNRESOLVED`,
/// `REPLAYING`, or `FALLEN`; or its replay brought it further than its log is, and it takes its position when the log has come
/// as far.
pub(in crate::shard) const AWAY: u32 = 512;
/// It fell off the tail of its log, and was not looked at since.
pub(in crate::shard) const FALLEN: u32 = 1024;
/// It wants all messages, and in a time or a number that it says: together, so many bytes a second, or so many waiting.
pub(in crate::shard) const METERED: u32 = 2048;

/// A subscriber's place in a frame log.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Subscriber {
    /// Position of the next message to send; or a number, see [`AWAY`].
    pub(in crate::shard) next: u64,
    /// The connection.
    pub(in crate::shard) slot: u32,
    /// Its subscription.
    pub(in crate::shard) subscription: u32,
    /// With a position: bytes of that frame that were sent already. Without: the low half of the position that it would have if the
    /// log went back so far, which is what it still has coming before the log's end.
    part: u32,
    /// `LOOK`, ...
    pub(in crate::shard) flags: u32,
}

impl Subscriber {
    /// Makes one that stands at a position.
    #[must_use]
    pub(in crate::shard) fn at(position: u64, slot: u32, subscription: u32, flags: u32) -> Subscriber {
        Subscriber { next: position, slot, subscription, part: 0, flags }
    }

    /// Returns how many bytes of the next frame were sent already.
    #[must_use]
    pub(in crate::shard) fn partial(&self) -> u32 {
        if self.flags & AWAY == 0 { self.part } else { 0 }
    }

    /// So many bytes of the next frame, which has a position, were sent already.
    pub(in crate::shard) fn set_partial(&mut self, bytes: u32) {
        debug_assert_eq!(self.flags & AWAY, 0, "a frame is begun where it stands");
        self.part = bytes;
    }

    /// Returns how many messages it has coming, where the log ends before position `end`; of one without a position, as its home
    /// counted them.
    #[must_use]
    pub(in crate::shard) fn pending(&self, end: u64) -> u64 {
        if self.flags & AWAY == 0 { end - self.next } else { u64::from((end as u32).wrapping_sub(self.part)) }
    }

    /// It has no position from now on, but all up to a number; so many messages are to come before the log's end.
    pub(in crate::shard) fn go_away(&mut self, number: u64, pending: u64, end: u64) {
        self.flags |= AWAY | LOOK;
        (self.next, self.part) = (number, (end as u32).wrapping_sub(pending as u32));
    }

    /// It is sent a message with this number otherwise than from the log.
    pub(in crate::shard) fn pass_away(&mut self, number: u64) {
        debug_assert!(self.flags & AWAY != 0 && number > self.next, "numbers grow");
        (self.next, self.part) = (number, self.part.wrapping_add(1));
    }

    /// It goes on from a position.
    pub(in crate::shard) fn come_back(&mut self, position: u64) {
        self.flags &= !(AWAY | FALLEN);
        (self.next, self.part) = (position, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a subscriber has coming is the same before and after it loses its position, grows with the log, and shrinks with what it
    /// is sent otherwise, wherever the log is.
    #[test]
    fn what_is_coming_outlives_a_position() {
        for end in [10, u64::from(u32::MAX) + 3, u64::MAX - 9] {
            let mut subscriber = Subscriber::at(end - 7, 1, 2, 0);
            subscriber.set_partial(5);
            assert_eq!((subscriber.pending(end), subscriber.partial()), (7, 5));
            subscriber.set_partial(0);
            subscriber.go_away(99, subscriber.pending(end), end);
            assert_eq!((subscriber.pending(end), subscriber.partial(), subscriber.next), (7, 0, 99));
            subscriber.pass_away(105);
            assert_eq!((subscriber.pending(end + 4), subscriber.next), (10, 105));
            subscriber.come_back(end + 1);
            assert_eq!((subscriber.pending(end + 4), subscriber.partial()), (3, 0));
        }
    }
}
