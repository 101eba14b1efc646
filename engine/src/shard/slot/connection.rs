//! Connections: what every connection costs, and what only a busy one does.
//!
//! A [`Connection`] is small, because there are millions; it lives as long as its socket. An [`Active`] is large, and is
//! there only while something is unfinished: a head or message half received, bytes of its own to send, an answer
//! awaited. Invariant: a connection without an `Active` has nothing of its own to send.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use corecast_protocol::ws::decoder::{Decoder, Role};

use crate::io::driver::{Interest, Slot};
use crate::shard::crossing::Way;
use crate::shard::dialect::{Coding, Dialect, Shape};
use crate::shard::grant::table::NOBODY;
use crate::shard::memory::buffer::Buffer;
use crate::shard::memory::pool::Owner;
use crate::shard::session::kinds::Kind;
use crate::shard::session::traits::Session;
use crate::shard::slot::front::Front;
use crate::shard::topic::chain::Store;
use crate::shard::topic::topics::NONE;

/// How far a connection has come in its life; what it says meanwhile is its session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Life {
    /// The slot is not in use.
    Free,
    /// It stands: its session says what it may do.
    Open,
    /// We said our last word; what still comes is thrown away until the peer closes.
    Lingering,
    /// To be closed as soon as the kernel names it no more.
    Dead,
    /// The close was ordered.
    Closing,
}

/// That the socket's peer is no trusted proxy, or has not said who its client is.
pub(in crate::shard) const NO_PROXY: u16 = u16::MAX;

/// For whom something is counted across shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct For {
    /// For all together.
    pub(in crate::shard) all: bool,
    /// For its address.
    pub(in crate::shard) address: bool,
    /// For the subject of its own grant.
    pub(in crate::shard) subject: bool,
}

/// How a connection is counted across shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Counted {
    /// It is held to what holds for its address.
    pub(in crate::shard) held: bool,
    /// Its address had as many connections as it may have when it became its own.
    pub(in crate::shard) full: bool,
    /// It is one of the connections.
    pub(in crate::shard) connection: For,
    /// Its subscriptions are some of those, each of them.
    pub(in crate::shard) subscriptions: For,
}

/// What every connection costs.
#[derive(Debug)]
pub(in crate::shard) struct Connection {
    /// Tells one life of the slot from the next.
    pub(in crate::shard) generation: u16,
    /// How far it has come in its life.
    pub(in crate::shard) life: Life,
    /// What its bytes mean, as long as it is open.
    pub(in crate::shard) session: Session,
    /// What it is counted as.
    pub(in crate::shard) kind: Kind,
    /// The receive, or wait for readability, that is armed.
    pub(in crate::shard) armed: Option<Interest>,
    /// The armed receive was cancelled.
    pub(in crate::shard) cancelling: bool,
    /// A wait for room is armed: the kernel's buffer is full, or it has no memory just now.
    pub(in crate::shard) blocked: bool,
    /// No such wait is armed, but sending is tried again after a while: the peer has ended its direction, and that ends every wait
    /// at once.
    pub(in crate::shard) retries: bool,
    /// How long that takes: twice as long each time that nothing was taken.
    pub(in crate::shard) retry_shift: u8,
    /// It stands in the queue of connections with something to send.
    pub(in crate::shard) ready: bool,
    /// A ping was sent, and nothing was heard since.
    pub(in crate::shard) pinged: bool,
    /// The peer closed its direction.
    pub(in crate::shard) ended: bool,
    /// It stands among those that want to ask a home for more.
    pub(in crate::shard) wanting: bool,
    /// It was seen to do so while it was not read: bytes may still come before that.
    pub(in crate::shard) ends: bool,
    /// Receives since the timer last looked; many make it worth a multishot receive.
    pub(in crate::shard) reads: u8,
    /// Listener that accepted it.
    pub(in crate::shard) listener: u8,
    /// Which of the trusted proxies its socket's peer is, once that has said who its client is.
    pub(in crate::shard) proxy: u16,
    /// The client's port; 0 if a proxy did not say it.
    pub(in crate::shard) port: u16,
    /// The client's address, IPv4 as IPv4-mapped: of its socket's peer, or of whom a trusted proxy named last.
    pub(in crate::shard) address: [u8; 16],
    /// Tick when something was last heard.
    pub(in crate::shard) heard_tick: u32,
    /// Tick when something was last sent to it, otherwise than by the walk.
    pub(in crate::shard) sent_tick: u32,
    /// Number of the submit that has a send of this connection.
    pub(in crate::shard) submit: u32,
    /// First subscription, or [`NONE`].
    pub(in crate::shard) first: u32,
    /// Number of subscriptions.
    pub(in crate::shard) subscriptions: u32,
    /// Subscription whose frame was sent in part, or [`NONE`].
    pub(in crate::shard) partial: u32,
    /// Subscription that sent last, if there are several.
    pub(in crate::shard) sender: u32,
    /// First of its subscriptions that have news, if there are several, or [`NONE`].
    pub(in crate::shard) news: u32,
    /// Its `Active`, or [`NONE`].
    pub(in crate::shard) active: u32,
    /// Dialect of its subscriptions.
    pub(in crate::shard) dialect: Dialect,
    /// Messages were sent since the combined cursor was told.
    pub(in crate::shard) cursor_due: bool,
    /// What it was given, or 0: that of its peer's certificate, or of what it has shown as a WebSocket or a stream. A request that
    /// shows something keeps that for itself.
    pub(in crate::shard) grant: u32,
    /// When its stream or its newest request began, 0 before the first; of a WebSocket, the message that its peer is in the middle
    /// of sending, 0 if that is none.
    pub(in crate::shard) opened_tick: u32,
    /// What of it is counted, across shards.
    pub(in crate::shard) counted: Counted,
    /// Where it is in the stream of frames.
    pub(in crate::shard) decoder: Decoder,
}

impl Connection {
    /// Makes a slot that is not in use.
    #[must_use]
    pub(in crate::shard) fn free() -> Connection {
        Connection {
            generation: 0,
            life: Life::Free,
            session: Session::default(),
            kind: Kind::Nobody,
            armed: None,
            cancelling: false,
            blocked: false,
            retries: false,
            retry_shift: 0,
            ready: false,
            pinged: false,
            ended: false,
            wanting: false,
            ends: false,
            reads: 0,
            listener: 0,
            proxy: NO_PROXY,
            port: 0,
            address: [0; 16],
            heard_tick: 0,
            sent_tick: 0,
            submit: 0,
            first: NONE,
            subscriptions: 0,
            partial: NONE,
            sender: NONE,
            news: NONE,
            active: NONE,
            dialect: Dialect::new(Shape::Payload, Coding::Plain),
            cursor_due: false,
            grant: NOBODY,
            opened_tick: 0,
            counted: Counted::default(),
            decoder: Decoder::new(Role::Server),
        }
    }

    /// Starts a new life of the slot.
    pub(in crate::shard) fn open(&mut self, session: Session, listener: u8, peer: SocketAddr, tick: u32) {
        let generation = self.generation.wrapping_add(1);
        *self = Connection { generation, life: Life::Open, session, listener, heard_tick: tick, ..Connection::free() };
        self.set_peer(peer);
    }

    /// Says who the peer is.
    pub(in crate::shard) fn set_peer(&mut self, peer: SocketAddr) {
        self.port = peer.port();
        self.address = match peer.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
    }

    /// Returns the peer's address.
    #[must_use]
    pub(in crate::shard) fn peer(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.address).to_canonical(), self.port)
    }

    /// Says whether it is a WebSocket or a stream in use.
    #[must_use]
    pub(in crate::shard) fn is_subscriber(&self) -> bool {
        self.life == Life::Open && self.session.traits().subscribes
    }

    /// Says whether it is open, and this is its session.
    #[must_use]
    pub(in crate::shard) fn is(&self, session: Session) -> bool {
        self.life == Life::Open && self.session == session
    }
}

/// Why a connection does not go on with what it received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) enum Waiting {
    /// It does.
    #[default]
    No,
    /// The ring to a shard has no room.
    Room(Way),
    /// An answer of a home has to come first.
    Answer,
    /// Its own queue has to drain first.
    Drain,
    /// Others have their turn first.
    Turn,
    /// Somebody else has to say whether it may; until this time (milliseconds of the driver's clock, the low 32 bits).
    Verdict(u32),
}

/// What a peer has to read of an answer to be waited for, in bytes a millisecond: a thousandth of what a slow telephone does is less.
const READ_BYTES_A_MS_MIN: u64 = 1;

/// What any busy connection costs on top; what its session is in the middle of is kept by the session, in its own [`Active::state`].
#[derive(Debug)]
pub(in crate::shard) struct Active {
    /// The connection.
    pub(in crate::shard) slot: Slot,
    /// Bytes for this connection only.
    pub(in crate::shard) queue: Buffer,
    /// Bytes of the queue that the present submit sends.
    pub(in crate::shard) sending: u32,
    /// What comes before a new pong there, if it is a WebSocket's.
    pub(in crate::shard) front: Front,
    /// Bytes received but not understood yet.
    pub(in crate::shard) carry: Buffer,
    /// The message or body that is being received; or that of an answer that is put together.
    pub(in crate::shard) body: Buffer,
    /// Bytes of the queue that the kernel took since the timer last looked, of sends that were not done in full.
    pub(in crate::shard) taken: u32,
    /// Why nothing is handled now.
    pub(in crate::shard) waiting: Waiting,
    /// Replays on their way to its subscriptions.
    pub(in crate::shard) replays: u32,
    /// Orders of its session whose outcome is on its way.
    pub(in crate::shard) owed: u32,
    /// Where its session keeps what it is in the middle of, or [`NONE`].
    pub(in crate::shard) state: u32,
    /// The body is text.
    pub(in crate::shard) text: bool,
    /// A whole message stands in `body` and waits to be handled.
    pub(in crate::shard) complete: bool,
    /// What is carried over is the beginning of something that has its time.
    pub(in crate::shard) heading: bool,
    /// When the queue has drained, our direction ends.
    pub(in crate::shard) closing: bool,
}

impl Active {
    /// Makes the state of a connection that has become busy.
    #[must_use]
    pub(in crate::shard) fn new(slot: Slot) -> Active {
        Active {
            slot,
            queue: Buffer::new(Owner::Private),
            sending: 0,
            front: Front::default(),
            carry: Buffer::new(Owner::Inbound),
            body: Buffer::new(Owner::Inbound),
            taken: 0,
            waiting: Waiting::No,
            replays: 0,
            owed: 0,
            state: NONE,
            text: false,
            complete: false,
            heading: false,
            closing: false,
        }
    }

    /// Returns the memory that holds what is arriving, in bytes.
    #[must_use]
    pub(in crate::shard) fn inbound_bytes(&self) -> u64 {
        u64::from(self.carry.block_bytes()) + u64::from(self.body.block_bytes())
    }

    /// What comes into the body from now on is an answer that is put together: it waits to be sent, and takes nothing from the share of
    /// what is arriving.
    pub(in crate::shard) fn begin_answer(&mut self, store: &mut Store) {
        self.body.clear(store);
        self.body = Buffer::new(Owner::Private);
    }

    /// The answer is in the queue.
    pub(in crate::shard) fn end_answer(&mut self, store: &mut Store) {
        self.body.clear(store);
        self.body = Buffer::new(Owner::Inbound);
    }

    /// Gives all of its memory back.
    pub(in crate::shard) fn clear(&mut self, store: &mut Store) {
        for buffer in [&mut self.queue, &mut self.carry, &mut self.body] {
            buffer.clear(store);
        }
    }

    /// Says whether what a WebSocket sent waits to be handled, or to be answered.
    #[must_use]
    pub(in crate::shard) fn is_at_work(&self) -> bool {
        self.waiting != Waiting::No
            || self.complete
            || self.owed > 0
            || self.replays > 0
            || !self.queue.is_empty()
            || self.sending > 0
    }

    /// Says whether the peer has read on since this was last asked, `ms` milliseconds ago: then what is sent to it is not cut off,
    /// however long it is. At less than [`READ_BYTES_A_MS_MIN`] it would only hold our memory.
    pub(in crate::shard) fn is_read_in(&mut self, ms: u64) -> bool {
        u64::from(std::mem::take(&mut self.taken)) >= ms * READ_BYTES_A_MS_MIN
    }

    /// Says whether what it carries is the beginning of something: it waits for nothing but more bytes.
    pub(in crate::shard) fn carries_part(&self) -> bool {
        self.waiting == Waiting::No && !self.carry.is_empty()
    }

    /// Says whether nothing is unfinished, so that this state can be forgotten.
    #[must_use]
    pub(in crate::shard) fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.sending == 0
            && self.carry.is_empty()
            && self.body.is_empty()
            && !self.complete
            && self.waiting == Waiting::No
            && self.replays == 0
            && self.owed == 0
            && self.state == NONE
            && !self.closing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::topic::topics::{Subscriber, Subscription};

    /// What every idle connection with one subscription costs here, well below the 256 bytes it may cost in all.
    #[test]
    fn an_idle_connection_is_small() {
        let sizes = [size_of::<Connection>(), size_of::<Subscriber>(), size_of::<Subscription>()];
        assert!(sizes[0] <= 112 && sizes[1] == 24 && sizes[2] <= 48, "{sizes:?}");
        assert!(sizes.iter().sum::<usize>() <= 184, "{sizes:?}");
    }
}
