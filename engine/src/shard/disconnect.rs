//! Ending connections because an operator wants it: one, those of an address, or those of a subject.
//!
//! Owns: who is meant, and how far it has come. Touches: the connections, which are told and end as their session has it. Never: keeps
//! anybody out: who is to stay away needs its grant revoked, or a limit. A bounded number is looked at and ended in a turn; who comes
//! meanwhile, in a slot that was passed, stays.

use super::Shard;
use super::errand::{Answer, Disconnecting, Said, Whom};
use super::slot::connection::Life;
use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};

/// Connections looked at, and ended, in one turn.
const LOOKS_PER_TURN: usize = 1024;
const ENDED_PER_TURN: usize = 64;

impl Shard {
    /// Goes on with it; returns the answer, if that was all.
    pub(super) fn disconnect_on<D: Driver>(
        &mut self,
        driver: &mut D,
        mut disconnecting: Box<Disconnecting>,
    ) -> Option<Answer> {
        let Disconnecting { number, whom, next, ended } = &mut *disconnecting;
        let bound = match whom {
            Whom::Slot(slot, _) => self.slots.connections.len().min(*slot as usize + 1),
            _ => self.slots.connections.len(),
        };
        let end = bound.min(*next + LOOKS_PER_TURN);
        let mut left = ENDED_PER_TURN;
        while *next < end && left > 0 {
            let slot = *next as Slot;
            *next += 1;
            if self.is_meant(slot, whom) {
                self.dismiss(driver, slot);
                *ended += 1;
                left -= 1;
            }
        }
        if *next < bound {
            reach(Mark::DisconnectedInTurns);
            self.disconnecting = Some(disconnecting);
            return None;
        }
        Some(Answer { number: *number, said: Said::Disconnected(*ended) })
    }

    fn is_meant(&self, slot: Slot, whom: &Whom) -> bool {
        let connection = &self.slots.connections[slot as usize];
        if connection.life != Life::Open || self.slots.is_closing(slot) {
            return false; // It ends already.
        }
        match whom {
            Whom::Slot(_, generation) => connection.generation == *generation,
            Whom::Peer(peer) => peer.is_of(connection.peer()),
            Whom::Subject(subject) => {
                let interned = self.trust.grants.get(self.grant_of(slot));
                interned.is_some_and(|interned| !subject.is_empty() && interned.grant.subject == *subject)
            }
        }
    }
}
