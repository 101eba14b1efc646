//! Where the cores wait while a node starts: all that can fail is done before anything is listened on.
//!
//! ```text
//!   node                         core
//!    │ thread, ring, shards ──────▶│
//!    │◀──────────── ready, or why not
//!    │ histories, if there are any ▶│ restores
//!    │◀────────────── what came of it
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
use crate::shard::Restored;

/// Pieces of histories that wait for a core.
const PIECES_MAX: usize = 4;

/// What a core is told while it waits.
#[derive(Debug)]
pub(crate) enum Step {
    /// Histories are restored. If it is `true`, epochs and numbers go on.
    Restore(bool),
    /// A piece of a snapshot for the nth of its shards.
    Piece(usize, Vec<u8>),
    /// That was all: it says what came of it.
    Restored,
    /// It may accept from these, those of each of its shards.
    Open(Vec<Vec<Listener>>),
}

/// The core's end.
#[derive(Debug)]
pub(crate) struct Gate {
    ready: Sender<io::Result<()>>,
    steps: Receiver<Step>,
    restored: Sender<Restored>,
    /// Dropped with the core: so the node knows that it is over.
    _over: Sender<()>,
}

/// The node's end.
#[derive(Debug)]
pub(crate) struct GateKeeper {
    ready: Receiver<io::Result<()>>,
    steps: Sender<Step>,
    restored: Receiver<Restored>,
}

/// Makes the gate of one core; `over` is closed when all who have it are gone.
pub(crate) fn gate(over: Sender<()>) -> (GateKeeper, Gate) {
    let (said, ready) = bounded(1);
    let (told, steps) = bounded(PIECES_MAX);
    let (counted, restored) = bounded(1);
    let keeper = GateKeeper { ready, steps: told, restored };
    (keeper, Gate { ready: said, steps, restored: counted, _over: over })
}

impl Gate {
    /// Says that the core is ready, or why it is not; says whether it is to go on.
    pub(crate) fn ready(&self, ready: io::Result<()>) -> bool {
        let fine = ready.is_ok();
        self.ready.send(ready).is_ok() && fine
    }

    /// Waits for what comes next. `None`: it is not to start.
    pub(crate) fn next(&self) -> Option<Step> {
        self.steps.recv().ok()
    }

    /// Says what came of restoring.
    pub(crate) fn restored(&self, restored: Restored) {
        // A node that is gone does not want to know.
        let _ = self.restored.send(restored);
    }
}

impl GateKeeper {
    /// Waits until the core is ready. `None`: it is gone, and its thread says why.
    pub(crate) fn ready(&self) -> Option<io::Result<()>> {
        self.ready.recv().ok()
    }

    /// Tells the core what comes next, when it has done most of what came before; says false if it is gone.
    pub(crate) fn tell(&self, step: Step) -> bool {
        self.steps.send(step).is_ok()
    }

    /// Waits until the core says what came of restoring. `None`: it is gone.
    pub(crate) fn restored(&self) -> Option<Restored> {
        self.restored.recv().ok()
    }
}
