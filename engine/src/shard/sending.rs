//! What a turn sends: logs to be walked, and what is settled after the submit.

use std::collections::VecDeque;

use crate::io::driver::Slot;

/// What is to be sent, and what was.
#[derive(Debug)]
pub(super) struct Sending {
    /// Logs with a walk under way.
    pub(super) dirty: VecDeque<u32>,
    /// Logs that may give their blocks back after this submit.
    pub(super) releasing: Vec<u32>,
    /// Connections whose queue is sent by this submit.
    pub(super) private: Vec<Slot>,
    /// Connections that lost part of a frame for want of memory: they end before anything more is sent.
    pub(super) condemned: Vec<(Slot, u16)>,
    /// Number of the submit being prepared.
    pub(super) submit: u32,
}

impl Default for Sending {
    fn default() -> Sending {
        Sending { dirty: VecDeque::new(), releasing: Vec::new(), private: Vec::new(), condemned: Vec::new(), submit: 1 }
    }
}
