//! Raw WebSockets: each message is a payload, of the topic in the path of the handshake.

use corecast_protocol::message::Gap;
use corecast_protocol::topic::is_system;

use crate::io::driver::{Driver, Slot};
use crate::mesh::{Asker, Content, Reason};
use crate::shard::Shard;
use crate::shard::carrier::websocket::is_utf8;
use crate::shard::refusal::Refusal;
use crate::shard::session::order::Order;
use crate::shard::slot::wait::{Outcome, Told};
use crate::shard::topic::topics::{CONFLATE, NONE};

/// Why nobody publishes there.
const SYSTEM_TOPIC: &str = "topics that start with $ belong to the engine";

impl Shard {
    /// Publishes a payload.
    pub(in crate::shard) fn publish_payload<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        text: bool,
        bytes: &[u8],
    ) -> Outcome {
        let subscription = self.slots.connections[slot as usize].first;
        if subscription == NONE {
            return Outcome::Done;
        }
        let log = &self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize];
        let mut topic = [0; 255];
        let name = self.topics.name(log.topic).text.as_bytes();
        let topic = &mut topic[..name.len()];
        topic.copy_from_slice(name);
        let topic = std::str::from_utf8(topic).expect("topics are text");
        let text = text || is_utf8(bytes);
        let content = Content { event: "", payload: bytes, text, at_us: 0, ..Default::default() };
        let asker = Asker::Nobody;
        let order = Order::Publish { topic, content, op: None, expected: None, numbered: None, asker, token: "" };
        match self.order(slot, order) {
            Outcome::Refused(Refusal::Forbidden) if is_system(topic) => {
                self.refuse_connection_because(driver, slot, Refusal::Forbidden, SYSTEM_TOPIC);
                Outcome::Done
            }
            Outcome::Refused(refusal) => {
                self.refuse_connection(driver, slot, refusal);
                Outcome::Done
            }
            outcome => outcome,
        }
    }

    /// A home has refused a payload: the one way to tell is to end it.
    pub(in crate::shard) fn payload_is_done<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        outcome: Result<Told, Reason>,
    ) {
        if let Err(reason) = outcome {
            self.refuse_connection(driver, slot, reason.into());
        }
    }

    /// A raw WebSocket carries payloads only: the one way to tell of a gap is to end it, with the reason. Who wants the newest only is
    /// not told of what was passed over.
    pub(in crate::shard) fn gap_in_payloads<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        subscription: u32,
        gap: &Gap<'_>,
    ) {
        if self.topics.subscriber(subscription).flags & CONFLATE == 0 && gap.count > 0 {
            self.refuse_connection(driver, slot, Refusal::Lost);
        }
    }
}
