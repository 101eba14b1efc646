//! The loop of a core: its shards take turns on one thread, and rest together.
//!
//! Usually a core has one shard. It has several where there are more shards than cores, which makes room: each shard has a
//! table of direct descriptors of its own, and one table is no larger than the limit of open files. Threads that share a
//! core instead would wake each other for every packet (LOG: 400 µs of CPU for a connection of 56 shards on two cores).
//!
//! ```text
//!     for each shard: busy, has mail, its ring stirs, or its time has come?  no ──▶ next
//!           │ yes
//!           ▼
//!        one turn ──▶ busy, or idle until a time
//!     nobody busy? spin a little; all announce their rest; still no mail? ──▶ rest until any of that
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::edge::{Edge, Through};
use crate::gate::{Gate, Step};
use crate::io::clock::{now_us, wall_offset_us};
use crate::io::driver::Driver;
use crate::io::listen::Listener;
use crate::io::rest::{Rest, SPIN_US_MAX, Spin};
use crate::io::ring::Ring;
use crate::mesh::Board;
use crate::shard::{Busy, Restore, Restored, Setup, Shard, Stats};

/// How often a shard writes its statistics to the board, in microseconds.
const BOARD_US: u64 = 250_000;

/// How often a core without a rest makes way for other tasks of its executor, in microseconds.
const WAY_US: u64 = 1_000;

/// One core's shards, their rings, and what they are in common.
pub(crate) struct CoreLoop {
    /// The number of each shard in the node.
    numbers: Vec<usize>,
    shards: Vec<Shard>,
    rings: Vec<Ring>,
    /// What stands between each shard and its ring.
    edges: Vec<Edge>,
    /// Of shards that are to be made on the core's own thread, so that their memory is near it.
    setups: Vec<Setup>,
    spin: Spin,
    board: Arc<Board>,
    finish_ms: u64,
    gate: Gate,
}

/// What is known of a shard between two turns.
#[derive(Clone, Copy)]
struct Standing {
    /// Its last turn found something to do.
    busy: bool,
    /// Its statistics have changed since they were written.
    unwritten: bool,
    board_due_us: u64,
}

impl CoreLoop {
    /// Makes the loop of a core without shards. Connections get `finish_ms` milliseconds to end once the node is asked to stop.
    pub(crate) fn new(board: Arc<Board>, finish_ms: u64, gate: Gate) -> CoreLoop {
        let spin = Spin::new(SPIN_US_MAX);
        CoreLoop {
            numbers: vec![],
            shards: vec![],
            rings: vec![],
            edges: vec![],
            setups: vec![],
            spin,
            board,
            finish_ms,
            gate,
        }
    }

    /// Adds a shard, its ring, and what stands between the two.
    pub(crate) fn add(&mut self, setup: Setup, ring: Ring, edge: Edge) {
        self.edges.push(edge);
        self.numbers.push(setup.index);
        self.setups.push(setup);
        self.rings.push(ring);
    }

    /// Runs from when its gate opens until all its shards have finished. To be called on the core's thread, inside its executor.
    pub(crate) async fn run(mut self) {
        self.shards.extend(self.setups.drain(..).map(Shard::new));
        let ready = self.rings.iter_mut().try_for_each(Ring::enable).and_then(|()| Rest::new(&self.rings[0]));
        let mut rest = match ready {
            Ok(rest) => rest,
            Err(error) => {
                self.gate.ready(Err(error));
                return;
            }
        };
        if !self.gate.ready(Ok(())) {
            return;
        }
        let Some(listeners) = self.until_open() else { return };
        for ((shard, ring), listeners) in self.shards.iter_mut().zip(&mut self.rings).zip(listeners) {
            shard.listens_on(listeners.iter().map(Listener::address));
            if let Err(error) = ring.listen_on(listeners) {
                tracing::error!(shards = ?self.numbers, %error, "the shards of a core cannot start");
                self.board.drain(Duration::ZERO);
                return;
            }
        }
        for ring in &mut self.rings {
            (0..ring.listeners()).for_each(|listener| ring.accept(listener as u8));
        }
        let mut standings = vec![Standing { busy: true, unwritten: true, board_due_us: 0 }; self.shards.len()];
        // When an idle shard wants its next turn.
        let mut until_us = vec![None; self.shards.len()];
        let mut stop_at_us = None;
        // When the core, if it is not alone and has no rest, next makes way for its executor's other tasks.
        let mut way_us = 0;
        loop {
            let now_us = now_us();
            if stop_at_us.is_none()
                && let Some(within_ms) = self.board.drains_within_ms()
            {
                stop_at_us = Some(now_us + self.finish_ms * 1000);
                for ((shard, driver), edge) in self.shards.iter_mut().zip(&mut self.rings).zip(&mut self.edges) {
                    shard.drain(&mut Through { edge, driver }, within_ms.min(self.finish_ms) * 1000);
                }
                standings.iter_mut().for_each(|standing| standing.busy = true);
            }
            for index in 0..self.shards.len() {
                self.turn(index, now_us, &mut standings[index], &mut until_us[index]);
            }
            if stop_at_us.is_some_and(|at_us| now_us >= at_us || self.shards.iter().all(Shard::finished)) {
                (0..self.shards.len()).for_each(|index| self.write(index));
                return;
            }
            if standings.iter().any(|standing| standing.busy) {
                self.spin.found(now_us);
                if way_us < now_us {
                    way_us = now_us + WAY_US;
                    rest.make_way(&self.rings[0]).await;
                }
                continue;
            }
            if self.spin.again(now_us) {
                continue;
            }
            if self.shards.iter_mut().all(Shard::announce_rest) {
                // The board is brought up to date once more when things have become quiet.
                for (index, standing) in standings.iter_mut().enumerate() {
                    if std::mem::take(&mut standing.unwritten) {
                        self.write(index);
                    }
                }
                if let Some(stop_at_us) = stop_at_us {
                    let first = until_us[0].get_or_insert(stop_at_us);
                    *first = stop_at_us.min(*first);
                }
                rest.rest(&mut self.rings, &until_us).await;
            }
            self.shards[0].woke();
        }
    }

    /// Restores what comes until the gate opens; returns the listeners of each shard. `None`: it is not to start.
    fn until_open(&mut self) -> Option<Vec<Vec<Listener>>> {
        let mut restores: Vec<Restore> = Vec::new();
        loop {
            match self.gate.next()? {
                Step::Restore(exact) => restores = self.shards.iter().map(|_| Restore::new(exact)).collect(),
                Step::Piece(nth, piece) => {
                    let mut through = Through { edge: &mut self.edges[nth], driver: &mut self.rings[nth] };
                    self.shards[nth].restore(&mut through, &mut restores[nth], &piece);
                }
                Step::Restored => {
                    let mut sum = Restored::default();
                    for (shard, restore) in self.shards.iter_mut().zip(restores.drain(..)) {
                        sum.add(&shard.restored(restore));
                    }
                    self.gate.restored(sum);
                }
                Step::Open(listeners) => return Some(listeners),
            }
        }
    }

    /// Gives a shard a turn, if there is anything in it for it.
    fn turn(&mut self, index: usize, now_us: u64, standing: &mut Standing, until_us: &mut Option<u64>) {
        let alone = self.shards.len() == 1;
        let (shard, ring, edge) = (&mut self.shards[index], &mut self.rings[index], &mut self.edges[index]);
        if !standing.busy && !shard.has_mail() && until_us.is_none_or(|at_us| at_us > now_us) && !ring.stirs() {
            return;
        }
        match shard.turn(&mut Through { edge, driver: ring }) {
            Busy::Yes => standing.busy = true,
            Busy::RestUntil(at_us) => {
                standing.busy = false;
                if !alone {
                    // The others may keep the core from the rest that would do so.
                    ring.hand_over();
                }
                *until_us = at_us;
            }
        }
        standing.unwritten = true;
        if now_us >= standing.board_due_us {
            standing.unwritten = false;
            standing.board_due_us = now_us + BOARD_US;
            self.shards[index].set_wall_clock(wall_offset_us());
            self.write(index);
        }
    }

    /// Writes a shard's statistics to the board; the time that the core has spun stands with its first shard.
    fn write(&mut self, index: usize) {
        let spin_us_total = if index == 0 { self.spin.total_us() } else { 0 };
        let stats = Stats { spin_us_total, ..*self.shards[index].stats() };
        self.board.write(self.numbers[index], &stats);
        self.board.write_timings(self.numbers[index], self.shards[index].timings());
    }
}
