//! What waits for room in the ring to another shard, and whose turn it is.
//!
//! Nothing waits for a ring, and no queue grows without bound, but what does not fit has to come back. Everything between this
//! shard and one other (or itself) that does is a [`Crossing`]; this shard is an asker in one half of it, a home in the other.
//!
//! A ring is shared by lanes, so that none of them starves another, whatever peers ask for:
//!
//! ```text
//!   told     answers, Joined, Behind, requests to catch up: short     may take all of the ring
//!   short    Publish, Deliver, and what catches up with them          leave an eighth
//!   long     the same, of messages that take much of the ring         leave a quarter
//!   bulk     replays that a peer asked for: polls, starts, laggards   leave half (a quarter, if one message is that large)
//! ```
//!
//! What waits is served in turn, within a lane first come, first served, but the newest message does not wait behind histories. Bulk that found no room for [`PATIENCE_TURNS`] holds
//! back the live lane for one batch, so that it is not starved either; what was held back is caught up with.
//!
//! Invariant 12: a shard that reads its ring is told of a live message within a bounded number of turns.

use std::collections::VecDeque;

use super::scratch::bytes_of;
use crate::io::driver::Slot;
use crate::mesh::packet::PREFIX_BYTES_MAX;
use crate::mesh::{Asker, Links, Packet, Shards, Start};
use crate::reach::{Mark, reach};

/// Most bytes of what a subscription says to a home: that it joins, that it wants to hear of what was before, and where it starts; a topic each.
const SUBSCRIBE_BYTES_MAX: usize = 1024;

/// Answers of one lane that a home may owe a shard at once. More would let a full ring grow a queue without bound.
pub(super) const ASKED_MAX: u32 = 4096;

/// What a packet that waits takes, about, in bytes: a name, a token and some fields.
const REQUEST_BYTES: usize = 128;

/// Turns that the replays owed to a shard may find no room for, before they hold back what is live.
const PATIENCE_TURNS: u32 = 16;

/// What a packet is to a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Messages as they are published.
    Short,
    /// Those that take much of a ring: who has a short one does not wait for theirs.
    Long,
    /// Messages of before.
    Bulk,
}

impl Lane {
    /// All of them.
    pub(super) const ALL: [Lane; 3] = [Lane::Short, Lane::Long, Lane::Bulk];

    /// Returns the lane of a message that takes at most so many bytes of a ring of `ring_bytes`.
    pub(super) fn of(bytes: usize, ring_bytes: usize) -> Lane {
        if bytes > ring_bytes / 32 { Lane::Long } else { Lane::Short }
    }

    /// Returns the place of its answers among those that are counted: whether they bring histories.
    pub(super) fn answers(self) -> usize {
        usize::from(self == Lane::Bulk)
    }
}

/// How much a replay may bring: what is short does not wait behind what is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// What a shard missed; on the live lane.
    Missed,
    /// The newest message, or none.
    Newest,
    /// As much as there is.
    Much,
}

impl Size {
    /// How many there are.
    pub(super) const COUNT: usize = 3;

    /// So many replays of each size are served in turn.
    pub(super) const IN_TURN: [u32; Size::COUNT] = [1, 16, 1];

    /// Returns the size of the answer to a request.
    pub(super) fn of(request: &Packet<'_>) -> Size {
        match request {
            Packet::Replay { ticket, .. } if ticket.asker == Asker::Topic => Size::Missed,
            Packet::Pattern(packet) if packet.ticket().is_some_and(|ticket| ticket.asker == Asker::Topic) => {
                Size::Missed
            }
            Packet::Replay { from: Start::Latest | Start::Live, .. } => Size::Newest,
            _ => Size::Much,
        }
    }
}

/// Where something has to wait for room: the lane of the ring to a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The home.
    pub(super) home: u32,
    /// The lane.
    pub(super) lane: Lane,
}

impl Way {
    /// Returns the way to a home on a lane.
    pub(super) fn to(home: usize, lane: Lane) -> Way {
        Way { home: home as u32, lane }
    }
}

/// What is owed to a shard, and was not told at once.
#[derive(Debug)]
pub(super) enum Owed {
    /// This packet.
    Packet(Box<[u8]>),
    /// That it has joined the home with this index, as number and generation; where the home stands is told when it is told.
    Joined(u32, u32, u32),
    /// The same of a pattern.
    JoinedPattern(u32, u32, u32),
}

/// What waits between this shard and one other.
#[derive(Debug, Default)]
pub(super) struct Crossing {
    /// As an asker, by lane: connections whose command did not fit.
    pub(super) parked: [VecDeque<(Slot, u16)>; Lane::ALL.len()],
    /// As an asker, of messages and of histories: answers that are still owed to us, bounded by [`ASKED_MAX`].
    pub(super) asked: [u32; 2],
    /// As an asker: connections that lag and could not ask for more yet.
    pub(super) wanting: VecDeque<(Slot, u16)>,
    /// As an asker: topics that are behind and could not ask yet.
    pub(super) catching: VecDeque<(u32, u32)>,
    /// As a home: what is told first.
    pub(super) owed: VecDeque<Owed>,
    /// As a home: topics with a message that did not fit, of which the shard has to be told.
    pub(super) behind: VecDeque<u32>,
    /// The same of patterns.
    pub(super) behind_patterns: VecDeque<u32>,
    /// As a home, by their size: requests for replays.
    pub(super) replays: [VecDeque<Box<[u8]>>; Size::COUNT],
    /// As a home, by their size: turns for which they found no room.
    pub(super) waited: [u32; Size::COUNT],
}

impl Crossing {
    fn is_empty(&self) -> bool {
        self.parked.iter().all(VecDeque::is_empty)
            && self.wanting.is_empty()
            && self.catching.is_empty()
            && self.owed.is_empty()
            && self.behind.is_empty()
            && self.behind_patterns.is_empty()
            && self.replays.iter().all(VecDeque::is_empty)
    }

    /// Returns the bytes of memory that what waits holds.
    pub(super) fn bytes(&self) -> usize {
        let parked: usize = self.parked.iter().map(bytes_of).sum();
        let replays: usize = self.replays.iter().map(|queue| bytes_of(queue) + queue.len() * REQUEST_BYTES).sum();
        let short = bytes_of(&self.wanting)
            + bytes_of(&self.catching)
            + bytes_of(&self.behind)
            + bytes_of(&self.behind_patterns);
        parked + replays + short + bytes_of(&self.owed) + self.owed.len() * REQUEST_BYTES
    }

    /// Says whether the live lane is held back, because what was asked for has waited for long.
    pub(super) fn is_impatient(&self) -> bool {
        self.waited.iter().any(|waited| *waited > PATIENCE_TURNS)
    }

    /// Returns the size of the replays that have waited for so long that the others have to wait for them.
    pub(super) fn impatient(&self) -> Option<usize> {
        let longest = (0..Size::COUNT).max_by_key(|size| self.waited[*size])?;
        (self.waited[longest] > PATIENCE_TURNS).then_some(longest)
    }
}

/// All that waits for room, and the rings.
#[derive(Debug)]
pub(super) struct Crossings {
    /// This shard's ends of the rings.
    pub(super) links: Links,
    /// By shard.
    pub(super) all: Vec<Crossing>,
    /// The shards whose crossing has something.
    pub(super) crowded: Shards,
    /// Shards whose ring still has packets, which were left to be fair to the other phases of the turn.
    pub(super) unheard: Shards,
    /// The shard that is heard first in the next turn: a ring that took all the time goes last.
    pub(super) hear_from: usize,
    /// The lane whose waiting connections are let go on just now.
    pub(super) unparking: Option<Way>,
}

impl Crossings {
    /// Makes one in which nothing waits.
    #[must_use]
    pub(super) fn new(links: Links) -> Crossings {
        Crossings {
            all: (0..links.shards()).map(|_| Crossing::default()).collect(),
            crowded: Shards::default(),
            unheard: Shards::default(),
            hear_from: 0,
            unparking: None,
            links,
        }
    }

    /// Says whether something waits for room in the ring to a shard.
    pub(super) fn is_crowded(&self, shard: usize) -> bool {
        !self.all[shard].is_empty()
    }

    /// Returns the bytes that the live lane may put into the ring to a shard now.
    pub(super) fn room_live(&self, shard: usize) -> usize {
        if self.all[shard].is_impatient() {
            reach(Mark::HistoriesFirst);
            return 0;
        }
        let (room, ring) = (self.links.room(shard), self.links.ring_bytes());
        // An empty ring is anybody's: the smallest hold little more than two packets.
        if room == ring { room } else { room.saturating_sub(ring / 8) }
    }

    /// Says whether a lane has room for a packet of at most so many bytes that asks a home for something, and its turn has come.
    pub(super) fn has_room(&self, way: Way, bytes: usize, answers: u32) -> bool {
        let home = way.home as usize;
        let crossing = &self.all[home];
        // Who comes now comes after those that wait; but who waited is let go on by [`Shard::unpark`].
        let first = crossing.parked[way.lane as usize].is_empty() || self.unparking == Some(way);
        let room = match way.lane {
            Lane::Long if self.links.room(home) < self.links.ring_bytes() => {
                self.room_live(home).saturating_sub(self.links.ring_bytes() / 8)
            }
            _ => self.room_live(home),
        };
        first && crossing.asked[way.lane.answers()] + answers <= ASKED_MAX && bytes <= room
    }

    /// Says whether a subscription can be asked for at a home, which takes two packets; where it has to wait if not.
    pub(super) fn may_subscribe(&self, home: usize) -> Result<(), Way> {
        let bulk = Way::to(home, Lane::Bulk);
        let bytes = SUBSCRIBE_BYTES_MAX;
        // One queue is enough to wait in: that of the lane that its last packet takes.
        let joins = self.all[home].asked[Lane::Short.answers()] < ASKED_MAX;
        if joins && self.has_room(bulk, bytes, 1) { Ok(()) } else { Err(bulk) }
    }

    /// Counts an answer that a home owes us from now on.
    pub(super) fn asked(&mut self, way: Way) {
        self.all[way.home as usize].asked[way.lane.answers()] += 1;
    }

    /// A home has answered.
    pub(super) fn answered(&mut self, home: usize, lane: Lane) {
        self.all[home].asked[lane.answers()] -= 1;
    }

    /// Says whether a connection that lags can ask a home for more. It comes back by [`Shard::want`], so nobody is before it.
    pub(super) fn may_ask_for_more(&self, home: usize) -> bool {
        let crossing = &self.all[home];
        crossing.asked[Lane::Bulk.answers()] < ASKED_MAX
            && self.links.room(home) >= self.links.ring_bytes() / 8 + PREFIX_BYTES_MAX
    }
}
