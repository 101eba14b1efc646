//! Records: what a message of a topic with values does to which of them, found out where it is published, so that what makes no sense
//! costs its sender.

use corecast_protocol::message::{KEY_BYTES_MAX, Op};
use corecast_protocol::record;

use crate::mesh::Content;
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::rules::Mode;

impl Shard {
    /// Returns what a message says as its topic takes it, its key and what it does among it; that key may have to be found in the payload, and
    /// is written to `room`.
    #[inline]
    pub(in crate::shard) fn as_value<'c>(
        &mut self,
        topic: &str,
        content: Content<'c>,
        op: Option<Op>,
        room: &'c mut [u8; KEY_BYTES_MAX],
    ) -> Result<Content<'c>, Refusal> {
        if !self.limits.rules.have_tables() && content.key.is_empty() && op.is_none() {
            return Ok(content);
        }
        self.as_value_by_rule(topic, content, op, room)
    }

    #[inline(never)]
    fn as_value_by_rule<'c>(
        &mut self,
        topic: &str,
        content: Content<'c>,
        op: Option<Op>,
        room: &'c mut [u8; KEY_BYTES_MAX],
    ) -> Result<Content<'c>, Refusal> {
        let terms = self.limits.rules.of(topic);
        let mode = terms.mode.unwrap_or_default();
        let op = op.unwrap_or(if mode == Mode::Merge { Op::Merge } else { Op::Put });
        let content = Content { op, ..content };
        let whole = content.payload;
        let is_keyless = content.key.is_empty();
        match (mode, terms.key.as_deref()) {
            (Mode::Distinct | Mode::Raw, _) if op == Op::Put && is_keyless => Ok(content),
            (Mode::Distinct | Mode::Raw, _) => Err(Refusal::NotKeyed),
            (Mode::Merge, _) if !is_keyless => Err(Refusal::NotKeyed),
            (Mode::Merge, _) if op == Op::Delete => Ok(content),
            (Mode::Merge, _) => self.is_record(whole).map(|()| content),
            (Mode::Command, _) if !is_keyless && op == Op::Merge => self.is_record(whole).map(|()| content),
            (Mode::Command, _) if !is_keyless => Ok(content),
            (Mode::Command, Some(field)) if !whole.is_empty() => {
                // The rules may not be looked at while this is done.
                let mut name = [0; KEY_BYTES_MAX];
                let name = copied(field, &mut name);
                self.is_record(whole)?;
                let key = record::key(whole, name, room).map_err(|_| Refusal::NoKey)?;
                Ok(Content { key, ..content })
            }
            (Mode::Command, _) => Err(Refusal::NoKey),
        }
    }

    /// Says whether a payload is a record.
    fn is_record(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        self.work.spend_on(4 * payload.len());
        record::check(payload, self.values.scratch()).map_err(|_| Refusal::BadRecord)
    }
}

fn copied<'o>(text: &str, out: &'o mut [u8; KEY_BYTES_MAX]) -> &'o str {
    let out = &mut out[..text.len()];
    out.copy_from_slice(text.as_bytes());
    std::str::from_utf8(out).expect("it is text")
}
