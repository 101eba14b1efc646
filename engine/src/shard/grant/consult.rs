//! Consulting: whether the hook says, too, that whoever has a grant may do something with a topic.
//!
//! What it said lately is known, for the same grant, action, topic and address; what is not is asked, and the order waits, as a credential
//! does that nobody knows. What holds is what it says when something is ordered: nobody who reads is looked at again when that ends.
//! Owns: what is asked, and what it is known by. Never: is asked itself where rules or a grant say no already.

use super::asking::About;
use super::known::Known;
use super::recognize::refusal_of;
use crate::grant::{Action, Ask};
use crate::io::driver::Slot;
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::slot::wait::MayNot;

/// The kind of these questions, beside those of credentials.
const TOPIC: u8 = 18;

impl Shard {
    /// Finds out whether whoever has the grant that a connection orders by may do something with a topic.
    pub(in crate::shard) fn consult(&mut self, slot: Slot, action: Action, topic: &str) -> Result<(), MayNot> {
        let Some(key) = self.topic_key(slot, action, topic) else {
            return Err(MayNot::AtAll(Refusal::Unauthorized));
        };
        match self.trust.find_topic(key, self.clock.now_ms) {
            Some(Known::Denied(denial)) => Err(MayNot::AtAll(refusal_of(denial).0)),
            Some(_) => Ok(()),
            None if self.is_late(slot) => Err(MayNot::AtAll(Refusal::Unavailable)),
            None => {
                reach(Mark::OrderAwaitsVerdict);
                let ask = self.topic_question(slot, action, topic);
                Err(MayNot::Yet(self.ask_authority(slot, key, About::Topic, || ask)))
            }
        }
    }

    /// Has the hook asked about a topic that a connection will order something with soon, so that it does not wait for one verdict after
    /// another; says false if there is no room for that.
    pub(in crate::shard) fn consult_ahead(&mut self, slot: Slot, action: Action, topic: &str) -> bool {
        let Some(key) = self.topic_key(slot, action, topic) else { return true };
        if self.trust.find_topic(key, self.clock.now_ms).is_some() || self.trust.asking.waiters(key).is_some() {
            return true;
        }
        if !self.trust.asking.has_share_ahead() || !self.may_ask(About::Topic) {
            return false;
        }
        reach(Mark::AskedAhead);
        let ask = self.topic_question(slot, action, topic);
        self.open_question(key, About::Topic, None, ask);
        true
    }

    /// Returns what a question is known by; none if nobody is there to be asked about.
    fn topic_key(&self, slot: Slot, action: Action, topic: &str) -> Option<u128> {
        let serial = self.trust.grants.get(self.grant_of(slot))?.serial.to_le_bytes();
        let address = self.slots.connections[slot as usize].address;
        let parts = [&serial[..], &address[..], &[action as u8][..], topic.as_bytes()];
        Some(self.trust.key_of_bytes(TOPIC, parts.into_iter()))
    }

    fn topic_question(&self, slot: Slot, action: Action, topic: &str) -> Ask {
        let (name, subject) = match self.trust.grants.get(self.grant_of(slot)) {
            Some(interned) => (interned.grant.name.clone(), interned.grant.subject.clone()),
            None => Default::default(),
        };
        let peer = self.slots.connections[slot as usize].peer();
        Ask::Topic { name, subject, action, topic: topic.into(), peer }
    }
}
