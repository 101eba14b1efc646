//! Taking grants back: what the control plane says is not to be believed any more.
//!
//! ```text
//!   errand ─▶ grants that are meant are marked ─▶ connections that have one end, with the reason ─▶ answer
//!             a bounded number of both a turn
//! ```
//!
//! A mark is enough for everything else: orders of whoever has the grant are refused, verdicts that give it are forgotten when they are
//! looked for, and an equal grant that comes later is another one. Questions that are open grow stale: what they give may be of before.

use crate::grant::Revocation;
use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::errand::{Answer, Revoking, Said};
use crate::shard::refusal::Refusal;

/// Grants compared with revocations in one turn, about; connections looked at, and connections ended.
const COMPARED_PER_TURN: usize = 8192;
const LOOKS_PER_TURN: usize = 1024;
const ENDED_PER_TURN: usize = 64;

/// What is told to those whose grant is taken back.
pub(in crate::shard) const REVOKED: &str = "the permission was revoked";

impl Shard {
    /// Begins to take grants back.
    pub(in crate::shard) fn begin_revoking(&mut self, number: u64, revocations: Box<[Revocation]>) -> Box<Revoking> {
        self.trust.asking.grow_stale();
        Box::new(Revoking::new(number, revocations))
    }

    /// Goes on with it; returns the answer, if that was all.
    pub(in crate::shard) fn revoke_on<D: Driver>(
        &mut self,
        driver: &mut D,
        mut revoking: Box<Revoking>,
    ) -> Option<Answer> {
        let Revoking { revocations, next_grant, next_slot, any, ended, .. } = &mut *revoking;
        let bound = self.trust.grants.bound();
        let share = (COMPARED_PER_TURN / revocations.len().max(1)).max(1) as u32;
        let end = bound.min(next_grant.saturating_add(share));
        while *next_grant < end {
            *any |= self.trust.grants.revoke(*next_grant, revocations);
            *next_grant += 1;
        }
        if *next_grant < bound {
            self.revoking = Some(revoking);
            return None;
        }
        let mut left = ENDED_PER_TURN;
        let end = if *any { self.slots.connections.len().min(*next_slot + LOOKS_PER_TURN) } else { *next_slot };
        while *next_slot < end && left > 0 {
            let slot = *next_slot as Slot;
            *next_slot += 1;
            // Who was told already, by the revocation before this one, is on the way out.
            if self.right_is_taken_back(slot) && !self.slots.is_closing(slot) {
                reach(Mark::GrantRevoked);
                self.refuse_connection_because(driver, slot, Refusal::Expired, REVOKED);
                *ended += 1;
                left -= 1;
            }
        }
        if *any && *next_slot < self.slots.connections.len() {
            reach(Mark::RevokedInTurns);
            self.revoking = Some(revoking);
            return None;
        }
        Some(Answer { number: revoking.number, said: Said::Revoked(revoking.ended) })
    }
}
