//! Numbered messages, from who publishes them to their home: each once, and in its producer's order.
//!
//! ```text
//!   shard of the publisher                          home
//!   name, who says it, topic ─hash─▶ PublishOnce ─▶ producers: next? ─▶ number, record, relay ─▶ Published
//!                                                             repeat ──────────────────────────▶ Repeated
//!                                                             neither ─────────────────────────▶ Refused
//! ```
//!
//! A message that is refused here, or before it comes here, does not use up its number. What is on its way to a home keeps its order, so that of
//! messages that follow one another the first that is refused lets none behind it pass.

use corecast_protocol::producer::Produced;

use crate::io::driver::{Driver, Slot};
use crate::mesh::{Asker, Content, Name, Numbered, Packet, Reason, Ticket};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::topic::producers::{Found, Share, hash_of};

impl Shard {
    /// Says of a numbered message of a connection whose it is, in a way that nobody else's can be: who has another subject is another
    /// producer, whatever it calls itself. Those who show nothing are all one.
    #[cold]
    pub(in crate::shard) fn numbered(&self, slot: Slot, topic: &str, produced: Produced<'_>) -> Numbered {
        let Produced { producer, number } = produced;
        let owner = match self.trust.grants.get(self.grant_of(slot)).map(|interned| &interned.grant) {
            None => hash_of(self.producers.key, &[]),
            Some(grant) if grant.subject.is_empty() => hash_of(self.producers.key, &[b"name", grant.name.as_bytes()]),
            Some(grant) => hash_of(self.producers.key, &[b"subject", grant.subject.as_bytes()]),
        };
        let producer = hash_of(self.producers.key, &[&owner.to_le_bytes(), topic.as_bytes(), producer.as_bytes()]);
        Numbered { producer, owner: owner as u64, number }
    }

    /// As a home: publishes a numbered message, if its number is the next one.
    pub(in crate::shard) fn number_once<D: Driver>(
        &mut self,
        driver: &mut D,
        asker: usize,
        topic: Name<'_>,
        ticket: Ticket<'_>,
        (numbered, content): (Numbered, Content<'_>),
    ) {
        let share = Share {
            most: self.limits.producers_max,
            keeps_ms: self.limits.producer_ms,
            has_room: self.producers.used_bytes() < self.store.pool.tables_max() / 8,
        };
        let refused = match self.producers.find(topic.hash, numbered, share, self.clock.now_ms) {
            Found::Next(index) => match self.record_and_relay(driver, topic, content) {
                Ok((epoch, seq)) => {
                    self.producers.published(index, epoch, seq);
                    if ticket.asker != Asker::Nobody {
                        self.tell_shard(asker, &Packet::Published { ticket, epoch, seq });
                    }
                    return;
                }
                Err(reason) => {
                    reach(Mark::NumberedNotRecorded);
                    self.producers.withdrawn(index);
                    reason
                }
            },
            Found::Repeated(cursor) => {
                reach(if cursor.is_some() { Mark::Repeated } else { Mark::RepeatedLongAgo });
                self.stats.repeats += 1;
                if ticket.asker != Asker::Nobody {
                    let (epoch, seq) = cursor.unwrap_or_default();
                    self.tell_shard(asker, &Packet::Repeated { ticket, epoch, seq });
                }
                return;
            }
            Found::Expected(number) => {
                reach(Mark::OutOfOrder);
                Reason::OutOfOrder(number)
            }
            Found::TooMany => {
                reach(Mark::ProducersFull);
                Reason::TooManyProducers
            }
        };
        self.tell_shard(asker, &Packet::Refused { ticket, reason: refused });
    }
}
