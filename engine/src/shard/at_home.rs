//! What a home does: number, record, relay; answer joins and replays; and what it does when a ring is full.
//!
//! Nothing waits here. A message that does not fit into a member's ring sets one bit; an answer that does not fit is
//! kept, and askers bound how many answers can be owed to them ([`super::ASKED_MAX`]).

use super::Shard;
use super::home::{Member, Resolved};
use crate::io::driver::Driver;
use crate::mesh::{Content, Lost, Name, Packet, Purpose, Reason, Start, Ticket};

/// Bytes of messages in one batch of a replay, unless a single message is larger.
const BATCH_BYTES: usize = 64 << 10;

/// Bytes of a [`Packet::Message`] besides its token, event name and payload, rounded up.
const MESSAGE_FIELDS: usize = 64;

/// Refusals that nobody counts are dropped beyond this many: their publisher did not ask for answers.
const BACKLOG_MAX: usize = 16 << 10;

/// What is owed to another shard and did not fit into its ring.
#[derive(Debug)]
pub(super) enum Owed {
    /// This packet.
    Packet(Box<[u8]>),
    /// The answer to this request.
    Replay(Box<[u8]>),
}

impl Shard {
    pub(super) fn number<D: Driver>(
        &mut self,
        driver: &mut D,
        asker: usize,
        topic: Name<'_>,
        ticket: Ticket<'_>,
        content: Content<'_>,
    ) {
        let memory = driver.memory_mut();
        let recorded = self.homes.find_or_make(topic, &mut self.store, &self.limits).and_then(|index| {
            let seq = self.homes.record(index, content, &mut self.store, memory, &self.limits, self.now_ms);
            if seq.is_none() {
                self.homes.remove_if_idle(index);
            }
            Some((index, seq?))
        });
        let Some((index, seq)) = recorded else {
            self.tell_shard(asker, &Packet::Refused { ticket, reason: Reason::Full });
            return;
        };
        self.stats.published += 1;
        let Some(home) = self.homes.home_mut(index) else { return };
        let epoch = home.epoch;
        for member in home.members.iter_mut().filter(|member| !member.behind) {
            let Member { shard, id, generation, .. } = *member;
            let shard = shard as usize;
            let deliver = Packet::Deliver { id, generation, seq, content };
            // What is owed goes first: a message must not overtake the answer to its Join.
            if !self.backlog[shard].is_empty() || !self.links.send(shard, &deliver) {
                member.behind = true;
                self.stats.behind += 1;
                self.behind[shard].push_back(index);
                self.crowded.insert(shard);
            }
        }
        if ticket.purpose != Purpose::Silent {
            self.tell_shard(asker, &Packet::Published { ticket, epoch, seq });
        }
    }

    pub(super) fn clear(&mut self, asker: usize, topic: Name<'_>, ticket: Ticket<'_>) {
        let (epoch, seq) = match self.homes.find(topic) {
            Some(index) => self.homes.clear(index, &mut self.store),
            None => (0, 0),
        };
        self.tell_shard(asker, &Packet::Published { ticket, epoch, seq });
    }

    pub(super) fn member_joins(&mut self, shard: usize, topic: Name<'_>, id: u32, generation: u32) {
        let index = match self.homes.find_or_make(topic, &mut self.store, &self.limits) {
            Some(index) => index,
            // Subscribing must not fail half-way: the bound is exceeded by at most what the shards' own bounds allow.
            None => self.homes.make(topic),
        };
        let Some(home) = self.homes.home_mut(index) else { return };
        home.members.push(Member { shard: shard as u32, id, generation, behind: false });
        let (epoch, head) = (home.epoch, home.head());
        self.tell_shard(shard, &Packet::Joined { id, generation, epoch, head });
    }

    pub(super) fn member_leaves(&mut self, shard: usize, topic: Name<'_>, id: u32, generation: u32) {
        let Some(index) = self.homes.find(topic) else { return };
        let Some(home) = self.homes.home_mut(index) else { return };
        home.members
            .retain(|member| member.shard as usize != shard || member.id != id || member.generation != generation);
        self.homes.remove_if_idle(index);
    }

    /// Answers a replay now, or later if the asker's ring has no room.
    pub(super) fn replay<D: Driver>(&mut self, driver: &mut D, asker: usize, request: &Packet<'_>) {
        if !self.backlog[asker].is_empty() || !self.try_replay(driver, asker, request) {
            self.backlog[asker].push_back(Owed::Replay(request.to_bytes()));
            self.crowded.insert(asker);
        }
    }

    fn try_replay<D: Driver>(&mut self, driver: &mut D, asker: usize, request: &Packet<'_>) -> bool {
        let Packet::Replay { topic, ticket, from, generation } = *request else {
            unreachable!("only replays are answered here")
        };
        let room = self.links.room(asker);
        let Some(index) = self.homes.find(topic) else {
            let own = self.homes.epoch_of(topic);
            let lost = match from {
                Start::After { epoch, seq } if epoch != 0 && (epoch != own || seq > 0) => {
                    Some(Lost { after_epoch: epoch, after_seq: seq, count: 0, epoch_changed: true })
                }
                _ => None,
            };
            let nothing = Packet::Replayed { ticket, epoch: own, head: 0, first: 1, count: 0, lost };
            return self.links.send(asker, &nothing);
        };
        let memory = driver.memory();
        let Some(home) = self.homes.home_mut(index) else { return true };
        home.forget_old(&mut self.store, memory, &self.limits, self.now_ms);
        let (epoch, head) = (home.epoch, home.head());
        let resolved = home.resolve(from);
        // How many fit: all of them must, because the asker is told their number first.
        let overhead = Packet::bytes_max(ticket.token.len());
        let mut bytes = overhead;
        let mut count = 0;
        while resolved.first + u64::from(count) <= head {
            let len = home.content_len(&self.store, memory, resolved.first + u64::from(count));
            let next = bytes + len + ticket.token.len() + MESSAGE_FIELDS;
            if next > room || (count > 0 && next > BATCH_BYTES) {
                break;
            }
            bytes = next;
            count += 1;
        }
        if room < overhead || (count == 0 && resolved.first <= head) {
            return false;
        }
        let Resolved { first, lost } = resolved;
        let mut sent = self.links.send(asker, &Packet::Replayed { ticket, epoch, head, first, count, lost });
        for seq in first..first + u64::from(count) {
            let content = home.content(&self.store, memory, seq);
            sent &= self.links.send(asker, &Packet::Message { ticket, seq, content });
        }
        assert!(sent, "the batch was measured against the ring's room");
        if ticket.purpose == Purpose::CatchUp && first + u64::from(count) > head {
            for member in &mut home.members {
                if member.shard as usize == asker && member.id == ticket.detail && member.generation == generation {
                    member.behind = false;
                }
            }
        }
        true
    }

    /// Tells an asker something now, or later if its ring has no room.
    fn tell_shard(&mut self, asker: usize, packet: &Packet<'_>) {
        if self.backlog[asker].is_empty() && self.links.send(asker, packet) {
            return;
        }
        let uncounted = matches!(packet, Packet::Refused { ticket, .. } if ticket.purpose == Purpose::Silent);
        if !uncounted || self.backlog[asker].len() < BACKLOG_MAX {
            self.backlog[asker].push_back(Owed::Packet(packet.to_bytes()));
            self.crowded.insert(asker);
        }
    }

    /// Pays what is owed to a shard, as far as its ring has room; says whether anything was done.
    pub(super) fn pay<D: Driver>(&mut self, driver: &mut D, shard: usize) -> bool {
        let mut worked = false;
        while let Some(owed) = self.backlog[shard].pop_front() {
            let paid = match &owed {
                Owed::Packet(bytes) => self.links.send_encoded(shard, bytes),
                Owed::Replay(bytes) => {
                    let request = Packet::decode(bytes).expect("it was encoded here");
                    self.try_replay(driver, shard, &request)
                }
            };
            if !paid {
                self.backlog[shard].push_front(owed);
                return worked;
            }
            worked = true;
        }
        // Half a ring of room first: otherwise the shard asks, gets one message, and is behind again.
        while !self.behind[shard].is_empty() && self.links.room(shard) >= self.links.ring_bytes() / 2 {
            let Some(index) = self.behind[shard].pop_front() else { break };
            let Some(home) = self.homes.home_mut(index) else { continue };
            for member in &home.members {
                if member.shard as usize == shard && member.behind {
                    let told = self.links.send(shard, &Packet::Behind { id: member.id, generation: member.generation });
                    assert!(told, "half a ring holds it");
                }
            }
            worked = true;
        }
        worked
    }
}
