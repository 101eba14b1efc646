//! A node: one process's shards, their rings, their threads.
//!
//! Owns: starting and stopping. Never: touches a message.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::io::check::{self, StartError};
use crate::io::doorbell::Doorbell;
use crate::io::driver::Driver;
use crate::io::executor::{ShardThread, spawn_shard};
use crate::io::listen::{Listener, listen};
use crate::io::rest::{Rest, SPIN_US_MAX, Spin};
use crate::io::ring::{Ring, RingConfig, now_us};
use crate::mesh::{self, Board};
use crate::shard::{Busy, Limits, Setup, Shard};

/// What a node is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Number of shards, 1 to 256.
    pub shards: usize,
    /// CPUs to pin to, in turn; empty: all that this process may use.
    pub cores: Vec<usize>,
    /// Connections wished for on each shard; the kernel's limits may allow less.
    pub connections: u32,
    /// Block memory of all shards together, in bytes.
    pub memory_bytes: u64,
    /// Limits of each shard; memory and loopback flags are filled in here.
    pub limits: Limits,
    /// Time for all connections to end once the node was asked to stop, in milliseconds.
    pub drain_ms: u64,
}

/// Running shards.
#[derive(Debug)]
pub struct Node {
    threads: Vec<ShardThread<()>>,
    addresses: Vec<SocketAddr>,
    board: Arc<Board>,
    doorbells: Vec<Doorbell>,
    slots_max: u32,
}

/// How often a shard writes its statistics to the board, in microseconds.
const BOARD_US: u64 = 250_000;

impl Node {
    /// Starts all shards. When this returns, connections are accepted on every address.
    ///
    /// # Errors
    /// Why this host cannot run it, with the cure; nothing is left running then.
    pub fn start(settings: &Settings) -> Result<Node, StartError> {
        let Settings { shards, connections, .. } = *settings;
        check::raise_file_limit().map_err(|error| check::fault("raise the limit of open files", &error))?;
        let facts = check::gather(shards as u32, 0).map_err(|error| check::fault("look at this host", &error))?;
        check::judge(&facts)?;
        let cores = match settings.cores.as_slice() {
            [] => core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect(),
            cores => cores.to_vec(),
        };
        let mut limits = settings.limits.clone();
        limits.memory_bytes = settings.memory_bytes / shards as u64;
        limits.loopback = settings.listen.iter().map(|address| address.ip().is_loopback()).collect();

        let mut addresses = Vec::new();
        let mut listeners: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
        for address in &settings.listen {
            let bound = listen(*address, shards).map_err(|error| StartError {
                cause: error.to_string(),
                cure: "choose another address with --listen, or stop what listens there".to_owned(),
            })?;
            addresses.extend(bound.first().map(Listener::address));
            for (shard, listener) in bound.into_iter().enumerate() {
                listeners[shard].push(listener);
            }
        }
        let doorbells = Doorbell::several(shards).map_err(|error| check::fault("make doorbells", &error))?;
        let config = RingConfig {
            slots: connections,
            memory_bytes: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            ..RingConfig::default()
        };
        let mut rings = Vec::new();
        for (shard, listeners) in listeners.into_iter().enumerate() {
            let ring = Ring::new(&config, shard, doorbells.clone(), listeners);
            rings.push(ring.map_err(|error| check::fault("make an io_uring", &error))?);
        }
        let slots_max = rings.first().map_or(0, Ring::slots_max);

        let board = Arc::new(Board::new(shards));
        let hash_key = random_seed()?;
        let spin_us = if shards > cores.len().max(1) { 0 } else { SPIN_US_MAX };
        let mut node = Node { threads: Vec::new(), addresses, board, doorbells, slots_max };
        for (index, (ring, links)) in rings.into_iter().zip(mesh::join(shards, limits.ring_bytes())).enumerate() {
            let setup = Setup { index, limits: limits.clone(), links, seed: random_seed()?, slots_max, hash_key };
            let run = Run { setup, ring, board: node.board.clone(), spin_us, drain_ms: settings.drain_ms };
            let core = cores.get(index % cores.len().max(1)).copied();
            match spawn_shard(&format!("shard-{index}"), core, move || run.to_the_end()) {
                Ok(thread) => node.threads.push(thread),
                Err(error) => {
                    node.stop();
                    for thread in node.threads {
                        let _ = thread.join();
                    }
                    return Err(error);
                }
            }
        }
        Ok(node)
    }

    /// Returns the addresses listened on, with the ports that were chosen for port 0.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns how many connections each shard can hold: what was asked for, as far as the kernel's limits allow.
    #[must_use]
    pub fn slots_max(&self) -> u32 {
        self.slots_max
    }

    /// Returns the statistics board.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Asks all shards to stop accepting, to close their connections, and to finish.
    pub fn stop(&self) {
        self.board.drain();
        self.doorbells.iter().for_each(Doorbell::ring);
    }

    /// Waits until all shards have finished.
    ///
    /// # Errors
    /// Why a shard could not run.
    pub fn join(self) -> Result<(), StartError> {
        self.threads.into_iter().map(ShardThread::join).fold(Ok(()), |all, one| all.and(one))
    }
}

/// One shard's life on its thread.
struct Run {
    setup: Setup,
    ring: Ring,
    board: Arc<Board>,
    spin_us: u32,
    drain_ms: u64,
}

impl Run {
    fn to_the_end(self) -> impl Future<Output = ()> {
        async move {
            let Run { setup, mut ring, board, spin_us, drain_ms } = self;
            let index = setup.index;
            let listeners = setup.limits.loopback.len();
            let mut shard = Shard::new(setup);
            let ready = ring.enable().and_then(|()| Rest::new(&ring));
            let mut rest = match ready {
                Ok(rest) => rest,
                Err(error) => {
                    tracing::error!(shard = index, %error, "the shard cannot start");
                    board.drain();
                    return;
                }
            };
            (0..listeners).for_each(|listener| ring.accept(listener as u8));
            let mut spin = Spin::new(spin_us);
            let mut board_due_us = 0;
            let mut stop_at_us = None;
            loop {
                let busy = shard.turn(&mut ring);
                let now_us = now_us();
                if now_us >= board_due_us {
                    board.write(index, shard.stats());
                    board_due_us = now_us + BOARD_US;
                }
                if board.draining() {
                    let stop_at_us = *stop_at_us.get_or_insert_with(|| {
                        shard.drain(&mut ring);
                        now_us + drain_ms * 1000
                    });
                    if shard.finished() || now_us >= stop_at_us {
                        board.write(index, shard.stats());
                        return;
                    }
                }
                match busy {
                    Busy::Yes => {
                        spin.found(now_us);
                        glommio::executor().yield_if_needed().await;
                    }
                    Busy::RestUntil(until_us) => {
                        if spin.again(now_us) || !shard.announce_rest() {
                            continue;
                        }
                        // The board is brought up to date once more when things have become quiet.
                        board.write(index, shard.stats());
                        let until_us = match stop_at_us {
                            Some(stop_at_us) => Some(until_us.map_or(stop_at_us, |until_us| until_us.min(stop_at_us))),
                            None => until_us,
                        };
                        rest.rest(&mut ring, until_us).await;
                        shard.woke();
                    }
                }
            }
        }
    }
}

/// Draws a seed that no peer can know.
fn random_seed() -> Result<u64, StartError> {
    crate::io::random::draw().map_err(|error| check::fault("draw random numbers", &error))
}
