//! Lines about refusals: who is refused what, and what it is about, as often as [`notices`](crate::shard::notices) lets it be told.

use crate::io::driver::Slot;
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::topic::topics::NONE;

impl Shard {
    /// Tells of a refusal; `topic` is what it is about, if that is known, and empty otherwise.
    #[inline]
    pub(in crate::shard) fn notice(&mut self, slot: Slot, refusal: Refusal, topic: &str, text: &str) {
        if let Some(left_out) = self.notices.may_tell(refusal, self.clock.now_us) {
            self.write_notice(slot, refusal, topic, text, left_out);
        }
    }

    /// Writes one that may be told.
    #[cold]
    pub(in crate::shard) fn write_notice(&self, slot: Slot, refusal: Refusal, topic: &str, text: &str, left_out: u64) {
        let connection = &self.slots.connections[slot as usize];
        let only = if topic.is_empty() && connection.subscriptions == 1 { connection.first } else { NONE };
        let topic = match self.topics.subscriptions.get(only as usize) {
            Some(subscription) => self.topics.name(self.topics.logs[subscription.log as usize].topic).text,
            None => topic,
        };
        let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
        let (name, peer, kind) = (refusal.row().name, connection.peer(), self.kind_of(slot).name());
        let (user, topic) = (some(self.user_of(slot)), some(topic));
        let left_out = Some(left_out).filter(|count| *count > 0);
        tracing::info!(shard = self.index, name, %peer, user, kind, topic, text, left_out, "refused");
    }

    /// Says of what was refused that nothing was said of, if it is time to.
    pub(in crate::shard) fn tell_left_out(&mut self) {
        while let Some((refusal, left_out)) = self.notices.overdue(self.clock.now_us) {
            tracing::info!(shard = self.index, name = refusal.row().name, left_out, "refused, and not told one by one");
        }
    }
}
