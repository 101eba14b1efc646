//! Dumping: homes as parts of a snapshot, a page at a time.
//!
//! Owns: where a dump goes on. Touches: reads homes, changes nothing. Homes stand in the order of their places, each at a moment of its own: one
//! that comes behind the dump is missing, and one that is forgotten and made again may stand there twice, the last time as it is. Of a topic
//! that forgets what was still to be dumped, the rest is there, and whoever restores it sees the hole.

use corecast_protocol::snapshot::{
    MESSAGE_HEAD_BYTES, Message, TOPIC_HEAD_BYTES, Topic, key_len, message_head, topic_head,
};

use corecast_protocol::topic::is_of_now;

use super::Homes;
use crate::io::memory::Memory;
use crate::shard::errand::{DumpPlace, Page};
use crate::shard::topic::chain::Store;
use crate::shard::topic::record::{self, RECORD_HEAD};

/// How far a look at homes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Came {
    /// To the last home.
    Over,
    /// Here: the page is full.
    Full(DumpPlace),
    /// Here: it has had its looks.
    Later(DumpPlace),
}

impl Homes {
    /// Writes homes from a place on to a page, which has at most `bytes_max` bytes unless a single message is larger; looks at no more than
    /// `looks` homes and messages. The time of day is `offset_ms` later than the driver's clock.
    pub(in crate::shard) fn dump(
        &self,
        (store, memory): (&Store, &Memory),
        mut place: DumpPlace,
        page: &mut Page,
        bytes_max: usize,
        mut looks: usize,
        offset_ms: u64,
    ) -> Came {
        while place.home < self.homes.bound() {
            let Some(home) = self.homes.get(place.home) else {
                place = DumpPlace::at(place.home + 1);
                looks -= 1;
                if looks == 0 {
                    return Came::Later(place);
                }
                continue;
            };
            let name = self.names.text(home.name);
            if is_of_now(name) {
                place = DumpPlace::at(place.home + 1);
                continue;
            }
            // Another home may stand there by now, or the same one in another life.
            let after = place.after.filter(|(epoch, _)| *epoch == home.epoch).map(|(_, number)| number);
            let next = home.history.next();
            let first = match after {
                Some(number) if number >= home.history.before() => home.history.position_after(store, memory, number),
                _ => home.history.first(),
            };
            let least = match first < next {
                true => home.content_len(store, memory, first) + MESSAGE_HEAD_BYTES,
                false => 0,
            };
            if !page.bytes.is_empty() && page.bytes.len() + TOPIC_HEAD_BYTES + name.len() + least > bytes_max {
                return Came::Full(place);
            }
            let goes_on = after.is_some();
            let topic = Topic { name, epoch: home.epoch, head: home.head(store), goes_on };
            page.bytes.extend_from_slice(&topic_head(&topic));
            page.bytes.extend_from_slice(name.as_bytes());
            page.topics += u64::from(!goes_on);
            looks -= 1;
            let mut last = after.unwrap_or(0);
            for position in first..next {
                let record = memory.bytes(home.history.record(store, memory, position));
                if home.table != super::NONE && record::is_replaced(record) {
                    continue;
                }
                let here = DumpPlace { home: place.home, after: Some((home.epoch, last)) };
                let full = page.bytes.len() + MESSAGE_HEAD_BYTES + record.len() - RECORD_HEAD > bytes_max;
                if full && position > first {
                    return Came::Full(here);
                }
                if looks == 0 {
                    return Came::Later(here);
                }
                looks -= 1;
                let (content, number) = (record::read(record), home.history.number(store, memory, position));
                let message = Message {
                    number,
                    time_ms: record::time_in(record).saturating_add(offset_ms),
                    event: content.event,
                    payload: content.payload,
                    text: content.text,
                    key: content.key,
                    op: content.op,
                };
                page.bytes.extend_from_slice(&message_head(&message));
                page.bytes.extend_from_slice(content.event.as_bytes());
                page.bytes.extend(key_len(&message));
                page.bytes.extend_from_slice(content.key.as_bytes());
                page.bytes.extend_from_slice(content.payload);
                page.messages += 1;
                last = number;
            }
            place = DumpPlace::at(place.home + 1);
            if looks == 0 {
                return Came::Later(place);
            }
        }
        Came::Over
    }
}
