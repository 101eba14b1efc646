//! Handing over: histories with their epochs, and listening sockets, go to a file or to the next process.
//!
//! ```text
//!   the next one                          the one that runs (thread `handover`)
//!    prepares threads, rings, memory
//!    wish, version ─────────────────────▶ same user or root? same version? nobody else is served?
//!    ◀───────────── sockets (SCM_RIGHTS)  duplicates: both have the same queue of those who wait
//!    takes those that it is to listen on,
//!    opens the others
//!    ready ─────────────────────────────▶ freeze: what would change a history is refused, nobody is accepted
//!                                         settle: what was on its way is numbered
//!    ◀──────────────────────── snapshot   dump: pages of all shards
//!    each topic to its home; checksum fits
//!    have all ──────────────────────────▶ it is decided here, by one write:
//!    ◀─────────────────────────── yours
//!    accepts                              its files and the admin listener are the other one's; drains
//! ```
//!
//! If anything goes wrong before "yours" is written, the one that runs thaws and goes on, and says why in its log; the other one ends with a clear
//! error, before it has accepted anybody. Afterwards the one that ran drains, whatever becomes of the other one. Never may both number messages.
//!
//! A snapshot in a file is the same conversation without sockets. One that is taken while the engine goes on is of each topic at a moment of its
//! own, and there may be messages behind it that somebody has seen: so each topic begins a new life when it is restored. With the *last* one the
//! engine ends, as if another process had taken over: epochs and numbers go on. It is renamed when it is taken up, as it is the last word only once.
//!
//! Owns: the thread that hands over, the words between processes ([`words`]), a snapshot's way out ([`save`]) and in ([`load`]). Touches:
//! shards through the control plane before it listens, through the gates ([`crate::gate`]). Never: runs on a shard.

pub mod give;
pub mod load;
pub mod save;
pub mod take;
mod words;

use std::os::fd::OwnedFd;

use crate::config::Listen;

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Clients.
    Public,
    /// Operators.
    Admin,
    /// The next process.
    Handover,
}

/// The listening sockets of one address.
#[derive(Debug)]
pub struct Shared {
    /// What it is for.
    pub role: Role,
    /// The address.
    pub address: Listen,
    /// One for each shard, or one.
    pub sockets: Vec<OwnedFd>,
}

/// Takes the sockets of an address out of those that were handed over, if they are among them; whether it speaks TLS is the taker's business.
#[must_use]
pub fn find(handed: &mut Vec<Shared>, role: Role, address: &Listen) -> Option<Shared> {
    let is_it = |shared: &Shared| {
        let same = match address.socket() {
            Some(socket) => shared.address.socket() == Some(socket),
            None => shared.address == *address,
        };
        shared.role == role && same
    };
    handed.iter().position(is_it).map(|place| handed.swap_remove(place))
}
