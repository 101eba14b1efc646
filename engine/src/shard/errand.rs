//! The vocabulary of the control plane and the shards: what it wants, what can be asked, and what is said to that.

use std::net::{IpAddr, SocketAddr};

use super::limits::Limits;
use crate::grant::Revocation;
use crate::io::driver::Slot;

/// Rows of an answer at most.
pub const ROWS_MAX: usize = 1000;

/// What the control plane wants.
#[derive(Debug)]
pub struct Errand {
    /// Tells the answer to this one from others.
    pub number: u64,
    /// What is wanted.
    pub wish: Wanted,
}

/// What can be wanted.
#[derive(Debug)]
pub enum Wanted {
    /// These limits hold from now on, as far as they can change while the shard runs.
    Set(Box<Limits>),
    /// So many rows, at most [`ROWS_MAX`].
    Ask(Question, usize),
    /// A message of the engine's own, if anybody reads its topic or it is to be remembered: which is at home on that shard.
    Tell {
        /// The topic.
        topic: &'static str,
        /// Nobody needs to read it: it is for who comes later.
        remembered: bool,
        /// What it says.
        payload: Box<[u8]>,
    },
    /// What is known here of a topic.
    Describe(Box<str>),
    /// What is known of the connection with this number.
    Inspect(Slot),
    /// That these connections end.
    Disconnect(Whom),
    /// Nothing of this is believed any more: connections with such grants end, and verdicts of before are forgotten. Whoever sends it
    /// has made the authority know it before, so that no later verdict says otherwise.
    Revoke(Box<[Revocation]>),
    /// With true, whatever would change a history is refused as `draining` from now on; with false, it is taken again.
    Freeze(bool),
    /// A sign of life.
    Sign,
    /// To be told when all that other shards had sent is heard: if every shard is frozen, histories do not change any more.
    Settle,
    /// Homes from a place on, in at most so many bytes, unless a single message is larger.
    Dump(DumpPlace, usize),
}

/// Where a dump of homes goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpPlace {
    /// The place of a home.
    pub(super) home: usize,
    /// Its epoch, and the number of its last message that is dumped; none: it begins.
    pub(super) after: Option<(u32, u64)>,
}

impl DumpPlace {
    /// Returns the beginning of the home at a place.
    pub(super) fn at(home: usize) -> DumpPlace {
        DumpPlace { home, after: None }
    }

    /// Says whether it is in the middle of a topic.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.after.is_some()
    }
}

/// A piece of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Parts of a snapshot, as [`corecast_protocol::snapshot`] has them.
    pub bytes: Vec<u8>,
    /// Topics that begin in it.
    pub topics: u64,
    /// Messages in it.
    pub messages: u64,
    /// Where the next one begins; none: this is the last.
    pub next: Option<DumpPlace>,
}

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Topics.
    pub topics: u64,
    /// Their messages.
    pub messages: u64,
    /// Topics that there was no room for.
    pub topics_left_out: u64,
    /// Messages that there was no room for, that are too large here, or that stand before such ones.
    pub messages_left_out: u64,
}

impl Restored {
    /// So many messages of those that were counted are left out.
    pub(super) fn lose(&mut self, messages: u64) {
        self.messages -= messages;
        self.messages_left_out += messages;
    }

    /// Adds what another shard has restored.
    pub fn add(&mut self, other: &Restored) {
        self.topics += other.topics;
        self.messages += other.messages;
        self.topics_left_out += other.topics_left_out;
        self.messages_left_out += other.messages_left_out;
    }
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Connections, by slot; of these only some, if that is said.
    Connections(Only),
    /// The topics that have their home here, those first that have most of something.
    Topics(By),
    /// Subscribers that have not been sent everything, those first that miss most messages.
    Slow,
}

/// Which connections are asked for: all, or those of whom all of this is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// They are of this [kind](ConnectionRow::kind).
    pub kind: Option<&'static str>,
    /// Their peer is this.
    pub peer: Option<PeerAddress>,
}

/// An address, with a port or with any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The address.
    pub ip: IpAddr,
    /// The port; none: any.
    pub port: Option<u16>,
}

impl PeerAddress {
    /// Reads one: `10.0.0.7`, `10.0.0.7:40312`, `::1`, `[::1]`, or `[::1]:40312`.
    #[must_use]
    pub fn read(text: &str) -> Option<PeerAddress> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(PeerAddress { ip: address.ip().to_canonical(), port: Some(address.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse::<IpAddr>().ok().map(|ip| PeerAddress { ip: ip.to_canonical(), port: None })
    }

    /// Says whether a peer has it.
    #[must_use]
    pub fn is_of(&self, peer: SocketAddr) -> bool {
        self.ip == peer.ip() && self.port.is_none_or(|port| port == peer.port())
    }
}

/// What most of comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Bytes remembered.
    #[default]
    Bytes,
    /// Messages remembered.
    Messages,
    /// Messages published in a second, lately: only topics of which that is known, and is not 0.
    Rate,
    /// Subscriptions, where they are counted.
    Readers,
}

/// Whose connections end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// That of a slot, in one life of it.
    Slot(Slot, u16),
    /// Those of an address.
    Peer(PeerAddress),
    /// Those of a grant's subject.
    Subject(Box<str>),
}

/// What a shard says to an order.
#[derive(Debug)]
pub struct Answer {
    /// The order's number.
    pub number: u64,
    /// What it says.
    pub said: Said,
}

/// What can be said.
#[derive(Debug)]
pub enum Said {
    /// The new limits hold; these are the old ones, which are the asker's to free.
    Applied(Box<Limits>),
    /// Connections.
    Connections(Vec<ConnectionRow>),
    /// Topics, in no order.
    Topics(Vec<TopicRow>),
    /// Subscribers, in no order.
    Slow(Vec<SlowRow>),
    /// It was told, or nobody was there to hear it.
    Told,
    /// What is known of a topic.
    Described(Box<Described>),
    /// A connection; none: there is none with that number.
    Inspected(Option<Box<Inspected>>),
    /// So many connections were ended.
    Disconnected(u64),
    /// It holds from now on: so many connections were ended.
    Revoked(u64),
    /// It is so from now on.
    Frozen,
    /// It lives.
    Alive,
    /// It has heard all that it was sent before it was asked.
    Settled,
    /// A piece of a dump.
    Dumped(Page),
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Its number on the shard.
    pub slot: Slot,
    /// Tells it from others that had or will have that number.
    pub generation: u16,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// What it is, one of [`KINDS`](super::KINDS).
    pub kind: &'static str,
    /// Whose its grant is; none: nobody's.
    pub subject: Option<Box<str>>,
    /// How many topics it has subscribed.
    pub subscriptions: u32,
    /// Bytes in its own queue.
    pub queued_bytes: u32,
    /// Milliseconds since something was heard of it.
    pub heard_ms: u64,
}

/// A topic at home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRow {
    /// Its name.
    pub topic: String,
    /// Messages remembered.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Its epoch.
    pub epoch: u32,
    /// Number of its newest message, 0 before the first.
    pub head: u64,
    /// How many subscriptions it has, on all shards; `None`: they are not counted.
    pub readers: Option<u64>,
    /// Thousandths of messages that were published in a second, lately; `None`: that is not known.
    pub rate_milli: Option<u64>,
}

/// A topic as a shard sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Its subscriptions on this shard.
    pub readers: u64,
    /// It has its home here, and is known there: what it is, and the oldest number that is remembered, if any is.
    pub home: Option<(TopicRow, Option<u64>)>,
}

/// A connection, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What lists say of it.
    pub row: ConnectionRow,
    /// Listener that accepted it.
    pub listener: u8,
    /// The port of that, once it is known.
    pub port: Option<u16>,
    /// It speaks TLS.
    pub is_tls: bool,
    /// Its subscriptions, at most [`ROWS_MAX`]: the topic, and how many messages it has not been sent; `None`: where it begins is not
    /// known yet.
    pub subscribed: Vec<(String, Option<u64>)>,
}

/// A subscriber that has not been sent everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowRow {
    /// Number of its connection on the shard.
    pub slot: Slot,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// The topic.
    pub topic: String,
    /// Messages that are there for it.
    pub behind: u64,
    /// Bytes in the connection's own queue.
    pub queued_bytes: u32,
}

/// A question that is being answered.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) number: u64,
    /// The next slot, place among the homes, or frame log.
    pub(super) next: usize,
    /// The next subscriber of that log.
    pub(super) place: usize,
    pub(super) rows_max: usize,
    pub(super) rows: Rows,
}

/// The rows of its answer so far.
#[derive(Debug)]
pub(super) enum Rows {
    Connections(Only, Vec<ConnectionRow>),
    Topics(By, Most<TopicRow>),
    Slow(Most<SlowRow>),
}

/// The rows with the largest keys, of any number of rows.
#[derive(Debug)]
pub(super) struct Most<T> {
    rows: Vec<(u64, T)>,
    /// No key below it is among the largest.
    least: u64,
}

impl<T> Most<T> {
    fn new() -> Most<T> {
        Most { rows: Vec::new(), least: 0 }
    }

    /// Keeps a row, if it may be among the `max` with the largest keys; it is made only then.
    pub(super) fn keep(&mut self, key: u64, max: usize, row: impl FnOnce() -> T) {
        if key < self.least {
            return;
        }
        self.rows.push((key, row()));
        // Twice as many before the smaller half goes: a comparison or two a row.
        if self.rows.len() >= 2 * max {
            self.cut(max);
            self.least = self.rows.iter().map(|(key, _)| *key).min().unwrap_or(0);
        }
    }

    fn cut(&mut self, max: usize) {
        if self.rows.len() > max {
            self.rows.select_nth_unstable_by_key(max, |(key, _)| std::cmp::Reverse(*key));
            self.rows.truncate(max);
        }
    }

    fn into_rows(mut self, max: usize) -> Vec<T> {
        self.cut(max);
        self.rows.into_iter().map(|(_, row)| row).collect()
    }
}

impl Look {
    /// Makes one that begins.
    pub(super) fn new(number: u64, question: Question, rows_max: usize) -> Box<Look> {
        let rows = match question {
            Question::Connections(only) => Rows::Connections(only, Vec::new()),
            Question::Topics(by) => Rows::Topics(by, Most::new()),
            Question::Slow => Rows::Slow(Most::new()),
        };
        Box::new(Look { number, next: 0, place: 0, rows_max: rows_max.clamp(1, ROWS_MAX), rows })
    }

    /// Makes its answer.
    pub(super) fn into_answer(self) -> Answer {
        let said = match self.rows {
            Rows::Connections(_, rows) => Said::Connections(rows),
            Rows::Topics(_, rows) => Said::Topics(rows.into_rows(self.rows_max)),
            Rows::Slow(rows) => Said::Slow(rows.into_rows(self.rows_max)),
        };
        Answer { number: self.number, said }
    }
}

/// A revocation that is being carried out.
#[derive(Debug)]
pub(super) struct Revoking {
    /// The errand's number.
    pub(super) number: u64,
    pub(super) revocations: Box<[Revocation]>,
    /// The next grant, and then the next slot.
    pub(super) next_grant: u32,
    pub(super) next_slot: usize,
    /// A grant was meant.
    pub(super) any: bool,
    /// Connections that were ended.
    pub(super) ended: u64,
}

impl Revoking {
    /// Makes one that begins.
    pub(super) fn new(number: u64, revocations: Box<[Revocation]>) -> Revoking {
        Revoking { number, revocations, next_grant: 0, next_slot: 0, any: false, ended: 0 }
    }
}

/// Connections that are being ended.
#[derive(Debug)]
pub(super) struct Disconnecting {
    /// The errand's number.
    pub(super) number: u64,
    pub(super) whom: Whom,
    /// The next slot.
    pub(super) next: usize,
    /// Connections that were ended.
    pub(super) ended: u64,
}

/// A dump of a page that is being made.
#[derive(Debug)]
pub(super) struct Dumping {
    /// The errand's number.
    pub(super) number: u64,
    pub(super) place: DumpPlace,
    pub(super) bytes_max: usize,
    pub(super) page: Page,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address is read with and without a port, IPv4 in any clothes, and is that of who has it.
    #[test]
    fn peers_are_read() {
        let peer = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (text, has, has_not) in [
            ("10.0.0.7", "10.0.0.7:1", "10.0.0.8:1"),
            ("10.0.0.7:40312", "10.0.0.7:40312", "10.0.0.7:1"),
            ("::ffff:10.0.0.7", "10.0.0.7:1", "[::1]:1"),
            ("::1", "[::1]:9", "127.0.0.1:9"),
            ("[::1]", "[::1]:9", "[::2]:9"),
            ("[::1]:9", "[::1]:9", "[::1]:8"),
        ] {
            let read = PeerAddress::read(text).unwrap();
            assert!(read.is_of(peer(has)) && !read.is_of(peer(has_not)), "{text}");
        }
        for text in ["", "localhost", "10.0.0", "10.0.0.7:", "10.0.0.7:99999", "[10.0.0.7", "::1:x"] {
            assert_eq!(PeerAddress::read(text), None, "{text}");
        }
    }

    /// Of very many rows those with the largest keys are kept, and no more than twice as many at any time.
    #[test]
    fn the_most_are_kept() {
        let mut most = Most::new();
        for n in 0..10_000_u64 {
            // Each key below 10,000 once, in a wild order.
            let key = n * 7919 % 10_000;
            most.keep(key, 10, || key);
            assert!(most.rows.len() < 20);
        }
        let mut rows = most.into_rows(10);
        rows.sort_unstable();
        assert_eq!(rows, (9990..10_000).collect::<Vec<_>>());
        let mut few = Most::new();
        few.keep(1, 10, || "one");
        assert_eq!(few.into_rows(10), ["one"]);
    }
}
