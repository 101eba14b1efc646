//! Fronts: what stands before one connection.

use super::handshake::Handshake;
use super::record::Keys;
use crate::io::driver::Completion;

/// What stands before a connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are sealed, and each as long as its connection")]
pub(super) enum Front {
    /// What came of a PROXY header.
    Header(Box<Header>),
    /// A TLS handshake.
    Shaking(Box<Shaking>),
    /// Records.
    Sealed(Sealed),
    /// Nothing any more; this came with the header, and was not fetched yet.
    Plain(Vec<u8>),
    /// It broke: nothing that comes is believed, and nothing is sent.
    Broken,
}

/// A PROXY header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) listener: u8,
    pub(super) bytes: Vec<u8>,
}

/// A handshake, begun or not.
#[derive(Debug)]
pub(super) struct Shaking {
    pub(super) listener: u8,
    /// Tells it from others in the list of those that were begun.
    pub(super) serial: u32,
    /// It stands in the queue of those that can go on.
    pub(super) queued: bool,
    /// What came before it was begun.
    pub(super) bytes: Vec<u8>,
    pub(super) handshake: Option<Handshake>,
    /// When that was begun, on the driver's clock in microseconds.
    pub(super) began_us: u64,
    /// What the kernel did not take.
    pub(super) unsaid: Vec<u8>,
    /// That the peer has ended its direction, behind bytes that have not had their turn: the shard is told then.
    pub(super) ended: Option<Completion>,
}

/// A connection that speaks TLS: all that is kept of it while it is idle.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) keys: Keys,
    /// Its send of the present submit, or [`super::NONE`].
    pub(super) flight: u32,
    /// One byte of what the shard sends next was sealed already, with a record whose rest is kept.
    pub(super) held: bool,
    /// The peer wants to see new keys of ours before anything else.
    pub(super) owes_update: bool,
    /// The peer has said that it sends no more.
    pub(super) ended: bool,
    /// We have said so.
    pub(super) said_goodbye: bool,
    /// What is unfinished, if anything.
    pub(super) busy: Option<Box<Unfinished>>,
}

/// What is unfinished.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// The beginning of a record that came.
    pub(super) carry: Vec<u8>,
    /// The rest of a record that was sent.
    pub(super) kept: Vec<u8>,
    /// Names of the client's certificate, until the shard asks.
    pub(super) names: Option<Box<str>>,
}

impl Unfinished {
    pub(super) fn is_over(&self) -> bool {
        self.carry.is_empty() && self.kept.is_empty() && self.names.is_none()
    }
}

impl Sealed {
    /// Returns the bytes that are kept for what is unfinished.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| size_of::<Unfinished>() + busy.carry.capacity() + busy.kept.capacity())
    }

    pub(super) fn new(keys: Keys) -> Sealed {
        Sealed {
            keys,
            flight: super::NONE,
            held: false,
            owes_update: false,
            ended: false,
            said_goodbye: false,
            busy: None,
        }
    }

    /// Returns what is unfinished, made of one that nobody uses if there is any.
    pub(super) fn unfinished(&mut self, unused: &mut super::Unused) -> &mut Unfinished {
        self.busy.get_or_insert_with(|| unused.pop().unwrap_or_default())
    }

    /// Forgets what is unfinished, if nothing is.
    pub(super) fn tidy(&mut self, unused: &mut super::Unused) {
        if let Some(busy) = self.busy.take_if(|busy| busy.is_over())
            && unused.len() < super::SPARE_MAX
        {
            unused.push(busy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle TLS connection costs here, besides four bytes of its slot, and besides what a plain one costs.
    #[test]
    fn an_idle_front_is_small() {
        assert!(size_of::<Front>() <= 240, "{}", size_of::<Front>());
    }
}
