//! Where the cores wait while a node starts: all that can fail is done before anything is listened on.
//!
//! ```text
//!   node                         core
//!    │ thread, ring, shards ──────▶│
//!    │◀──────────── ready, or why not
//!    │ listens                     │
//!    │ its listeners ─────────────▶│ accepts
//!    │                             ▼
//!    │◀──────────────────────── over
//! ```
//!
//! Owns: the channels between the two. Who drops its end has given up: the other goes home.

use std::io;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::io::listen::Listener;

/// The core's end.
#[derive(Debug)]
pub(crate) struct Gate {
    ready: Sender<io::Result<()>>,
    listeners: Receiver<Vec<Vec<Listener>>>,
    /// Dropped with the core: so the node knows that it is over.
    _over: Sender<()>,
}

/// The node's end.
#[derive(Debug)]
pub(crate) struct GateKeeper {
    ready: Receiver<io::Result<()>>,
    listeners: Sender<Vec<Vec<Listener>>>,
}

/// Makes the gate of one core; `over` is closed when all who have it are gone.
pub(crate) fn gate(over: Sender<()>) -> (GateKeeper, Gate) {
    let (said, ready) = bounded(1);
    let (given, listeners) = bounded(1);
    (GateKeeper { ready, listeners: given }, Gate { ready: said, listeners, _over: over })
}

impl Gate {
    /// Says that the core is ready, or why it is not, and waits for the listeners of each of its shards. `None`: it is not to
    /// start.
    pub(crate) fn pass(&self, ready: io::Result<()>) -> Option<Vec<Vec<Listener>>> {
        let fine = ready.is_ok();
        self.ready.send(ready).ok()?;
        if fine { self.listeners.recv().ok() } else { None }
    }
}

impl GateKeeper {
    /// Waits until the core is ready. `None`: it is gone, and its thread says why.
    pub(crate) fn ready(&self) -> Option<io::Result<()>> {
        self.ready.recv().ok()
    }

    /// Lets the core accept from these, those of each of its shards.
    pub(crate) fn open(&self, listeners: Vec<Vec<Listener>>) {
        // A core that is gone since has said why.
        let _ = self.listeners.send(listeners);
    }
}
