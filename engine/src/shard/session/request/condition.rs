//! Conditions: If-Match and If-None-Match (RFC 9110 section 13).
//!
//! A condition on a poll is held against the answer, once the home has said where that ends. One on a publication or a clearing has
//! to hold when it is done, and only the home knows what is there then: it is asked what there is, the condition is held against
//! that, and the home does it only if nothing has changed meanwhile.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::http::etag::{self, Current};
use corecast_protocol::http::field::Field;
use corecast_protocol::http::head::Request;
use corecast_protocol::write::Writer;

use crate::io::driver::{Driver, Slot};
use crate::mesh::Standing;
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::session::request::exchange::Exchange;

/// Behind the cursor in the entity tag of an answer without a message, where there were some that are forgotten: it is not the answer
/// that ended there with them.
pub(in crate::shard) const EMPTIED: &str = "-emptied";

/// Longest entity tag of an answer about one topic, without its quotes.
pub(in crate::shard) const TAG_BYTES_MAX: usize = corecast_protocol::cursor::TEXT_BYTES_MAX + EMPTIED.len();

/// Which condition does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Broken {
    /// If-Match: it is not what the client thinks it is.
    Match,
    /// If-None-Match: the client has it already.
    NoneMatch,
}

impl Shard {
    /// Keeps the conditions of a request that has just begun until there is something to hold them against; says false if there is no memory.
    #[must_use]
    pub(in crate::shard) fn keep_conditions<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
    ) -> bool {
        let store = &mut self.store;
        let active = &self.slots.actives[self.slots.connections[slot as usize].active as usize];
        let conditions = &mut self.exchanges[active.state as usize].conditions;
        let headers = &request.headers;
        let mut keep = |name: &str, field: Field<'_>| {
            field.values().all(|value| {
                [name.as_bytes(), b": ", value, b"\r\n"]
                    .into_iter()
                    .all(|part| conditions.push(store, driver.memory_mut(), part))
            })
        };
        keep("if-match", headers.if_match) && keep("if-none-match", headers.if_none_match)
    }

    /// Finds the condition of the connection's request that does not hold, the first in the order of section 13.2.2.
    pub(in crate::shard) fn broken_condition<D: Driver>(
        &self,
        driver: &D,
        slot: Slot,
        current: Current<'_>,
    ) -> Option<Broken> {
        let conditions = &self.exchange_if_any(slot)?.conditions;
        if conditions.is_empty() {
            return None;
        }
        let lines = driver.memory().bytes(conditions.span());
        if !etag::if_match(Field::within("if-match", lines), current) {
            Some(Broken::Match)
        } else if !etag::if_none_match(Field::within("if-none-match", lines), current) {
            Some(Broken::NoneMatch)
        } else {
            None
        }
    }

    /// The home has said what a topic is whose publication or clearing depends on it.
    pub(in crate::shard) fn condition_resolves<D: Driver>(&mut self, driver: &mut D, slot: Slot, standing: Standing) {
        let mut tag = [0; TAG_BYTES_MAX];
        let cursor = Cursor { epoch: standing.epoch, seq: standing.head };
        let tag = tag_of(cursor, !standing.remembers && standing.head > 0, &mut tag);
        let broken = self.broken_condition(driver, slot, Current { tag: tag.as_bytes(), exists: standing.remembers });
        self.exchange(slot).poll_left = 0;
        if broken.is_some() {
            self.active(slot).complete = false;
            self.refuse_request(driver, slot, Refusal::Changed, false);
            self.request_ends_and_goes_on(driver, slot);
        } else {
            self.exchange(slot).expected = Some(standing);
            self.go_on(driver, slot);
        }
    }
}

impl Exchange {
    /// Says whether what the request does depends on what is there, and that is not known yet.
    #[must_use]
    pub(in crate::shard) fn awaits_condition(&self) -> bool {
        !self.conditions.is_empty() && self.expected.is_none()
    }
}

/// Says whether a start asks for what is remembered, so that an answer may lack what an earlier one had.
#[must_use]
pub(in crate::shard) fn asks_for_the_remembered(since: Since) -> bool {
    matches!(since, Since::Latest | Since::Earliest | Since::Last(1..))
}

/// Writes the entity tag, without its quotes, of an answer that ends at `cursor`.
pub(in crate::shard) fn tag_of(cursor: Cursor, emptied: bool, out: &mut [u8; TAG_BYTES_MAX]) -> &str {
    let mut w = Writer::new(out);
    cursor.write(&mut w);
    if emptied {
        w.text(EMPTIED);
    }
    let len = w.finish().expect("room for the longest tag was made");
    std::str::from_utf8(&out[..len]).expect("a tag is ASCII")
}
