//! Exchanges: a request that is being received, and its answer that is being put together.
//!
//! A connection has one from the head of a request until its answer stands in the queue, and none between requests: an idle
//! connection that was kept costs what every connection costs.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::message::Op;

use crate::mesh::{Numbered, Standing};
use crate::shard::grant::table::NOBODY;
use crate::shard::memory::buffer::Buffer;
use crate::shard::memory::pool::Owner;
use crate::shard::refusal::Refusal;
use crate::shard::session::request::words::Words;
use crate::shard::topic::chain::Store;
use crate::shard::topic::topics::NONE;

/// A request that is being received or answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Pending {
    /// What its answer depends on.
    pub(in crate::shard) what: Asked,
    /// The connection is kept after the answer.
    pub(in crate::shard) keep_alive: bool,
    /// An answer before the end of its body ends the connection: nobody knows where that would be, or it is far.
    pub(in crate::shard) cut: bool,
    /// What is answered depends on Accept.
    pub(in crate::shard) by_accept: bool,
    /// The page that asks is not welcome.
    pub(in crate::shard) strange: bool,
    /// It may send its user's credentials along.
    pub(in crate::shard) credentials: bool,
    /// The peer speaks HTTP/1.0.
    pub(in crate::shard) http10: bool,
    /// `HEAD`: the answer has no body.
    pub(in crate::shard) head_only: bool,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) enum Asked {
    /// Nothing is pending.
    #[default]
    Nothing,
    /// To publish the body.
    Publish,
    /// To publish the lines of the body.
    Batch,
    /// To clear a topic.
    Clear,
    /// The messages after a cursor.
    Poll,
    /// The newest payload.
    Value,
    /// To subscribe the topics of its plan, and the first messages of them.
    Subscribe,
    /// Nothing: the answer stands, the body is thrown away.
    Discard,
}

/// Progress of an NDJSON batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Batch {
    /// Bytes of the body whose lines were checked; once all are, bytes of records that were sent to their homes.
    pub(in crate::shard) offset: u32,
    /// All lines are checked.
    pub(in crate::shard) checked: bool,
    /// Lines checked, empty ones among them.
    pub(in crate::shard) line: u32,
    /// Bytes of records.
    pub(in crate::shard) packed: u32,
    /// It was asked of all lines whether they may be published.
    pub(in crate::shard) allowed: bool,
    /// Lines sent to their homes.
    pub(in crate::shard) sent: u32,
    /// Those that were refused.
    pub(in crate::shard) refused: u32,
    /// Why the first of these was.
    pub(in crate::shard) why: Option<Refusal>,
    /// Messages in it.
    pub(in crate::shard) messages: u32,
    /// Bytes of their payloads.
    pub(in crate::shard) payload_bytes: u32,
    /// They were taken from what may be published.
    pub(in crate::shard) paid: bool,
    /// Lines that had been published before.
    pub(in crate::shard) repeated: u32,
    /// The number that was next where the first line was refused because of its own; 0: none was.
    pub(in crate::shard) expected: u64,
}

/// How a body arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) enum Body {
    /// There is none, or all of it is here.
    #[default]
    Done,
    /// So many bytes are still to come.
    Sized(u64),
    /// In chunks.
    Chunked(corecast_protocol::http::body::Chunked),
}

/// Longest origin that there can be, in bytes: a host name (253), its port (6), and a scheme, the longest of which that we
/// know is `safari-web-extension://` (23). A longer one is refused.
pub const ORIGIN_BYTES_MAX: usize = 320;

/// A request in progress.
#[derive(Debug)]
pub(in crate::shard) struct Exchange {
    /// How it is answered.
    pub(in crate::shard) pending: Pending,
    /// What has arrived of its body.
    pub(in crate::shard) arriving: Body,
    /// Words of it that its answer needs.
    pub(in crate::shard) words: Words,
    /// Conditions on what is there: the lines of If-Match and If-None-Match, with their names.
    pub(in crate::shard) conditions: Buffer,
    /// What was there when they held; what is done is done only if it still is.
    pub(in crate::shard) expected: Option<Standing>,
    /// What it does to the value of its key, if it says so.
    pub(in crate::shard) op: Option<Op>,
    /// Whose message it is, and which one, if it is numbered.
    pub(in crate::shard) numbered: Option<Numbered>,
    /// What whoever sends it may do.
    pub(in crate::shard) grant: u32,
    /// Its head waits to be read once more, and then it is known already who sends it.
    pub(in crate::shard) known: bool,
    /// Of the topics that it wants to read, the first so many may be read.
    pub(in crate::shard) readable: u8,
    /// Where its messages start.
    pub(in crate::shard) since: Since,
    /// What it will read, if it subscribes; or [`NONE`].
    pub(in crate::shard) reading: u32,
    /// The batch in progress.
    pub(in crate::shard) batch: Batch,
    /// Cursor of the answer that is being put together (`poll`, `value`).
    pub(in crate::shard) cursor: Cursor,
    /// The topic has messages, though it is asked for what is remembered and the answer has none of them.
    pub(in crate::shard) emptied: bool,
    /// Tells the replay that it asked for from earlier ones, whose messages may still come.
    pub(in crate::shard) serial: u32,
    /// Messages of a `poll` that are still to come.
    pub(in crate::shard) poll_left: u32,
}

impl Exchange {
    /// Makes one of which nothing is known yet.
    #[must_use]
    pub(in crate::shard) fn new() -> Exchange {
        Exchange {
            pending: Pending::default(),
            arriving: Body::Done,
            words: Words::new(),
            conditions: Buffer::new(Owner::Inbound),
            expected: None,
            op: None,
            numbered: None,
            grant: NOBODY,
            known: false,
            readable: 0,
            since: Since::Latest,
            reading: NONE,
            batch: Batch::default(),
            cursor: Cursor { epoch: 0, seq: 0 },
            emptied: false,
            serial: 0,
            poll_left: 0,
        }
    }

    /// Returns the memory that it holds, in bytes.
    #[must_use]
    pub(in crate::shard) fn block_bytes(&self) -> u64 {
        u64::from(self.words.block_bytes()) + u64::from(self.conditions.block_bytes())
    }

    /// Gives all of its memory back.
    pub(in crate::shard) fn clear(&mut self, store: &mut Store) {
        self.words.clear(store);
        self.conditions.clear(store);
    }
}
