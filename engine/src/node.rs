//! A node: one process's shards, their rings, their threads.
//!
//! Owns: starting and stopping. Never: touches a message.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::core_loop::CoreLoop;
use crate::io::check::{self, StartError};
use crate::io::doorbell::Doorbell;
use crate::io::driver::Driver;
use crate::io::executor::{ShardThread, spawn_shard};
use crate::io::listen::{Listener, listen};
use crate::io::ring::{Ring, RingConfig};
use crate::mesh::{self, Board};
use crate::shard::{Limits, Setup};

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
        // Shard `n` is one of core `n % core_count`, as for the mesh, and hears the core's doorbell.
        let core_count = shards.min(cores.len().max(1));
        let bells = Doorbell::several(core_count).map_err(|error| check::fault("make doorbells", &error))?;
        let doorbells: Vec<Doorbell> = bells.iter().cycle().take(shards).cloned().collect();
        let config = RingConfig {
            slots: connections,
            memory_bytes: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            ..RingConfig::shared_by(shards.div_ceil(core_count))
        };
        let mut rings = Vec::new();
        for (shard, listeners) in listeners.into_iter().enumerate() {
            let ring = Ring::new(&config, shard, doorbells.clone(), listeners);
            rings.push(ring.map_err(|error| check::fault("make an io_uring", &error))?);
        }
        let slots_max = rings.first().map_or(0, Ring::slots_max);

        let board = Arc::new(Board::new(shards));
        let hash_key = random_seed()?;
        let ring_bytes = limits.ring_bytes(shards.div_ceil(core_count));
        let mut loops: Vec<CoreLoop> =
            (0..core_count).map(|_| CoreLoop::new(board.clone(), settings.drain_ms)).collect();
        for (index, (ring, links)) in rings.into_iter().zip(mesh::join(shards, core_count, ring_bytes)).enumerate() {
            let setup = Setup { index, limits: limits.clone(), links, seed: random_seed()?, slots_max, hash_key };
            loops[index % core_count].add(setup, ring);
        }
        let mut node = Node { threads: Vec::new(), addresses, board, doorbells: bells, slots_max };
        for (index, core_loop) in loops.into_iter().enumerate() {
            let name = if shards > core_count { format!("core-{index}") } else { format!("shard-{index}") };
            match spawn_shard(&name, cores.get(index).copied(), move || core_loop.run()) {
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
        // All of them, whatever one of them says.
        let ends: Vec<_> = self.threads.into_iter().map(ShardThread::join).collect();
        ends.into_iter().collect()
    }
}

/// Draws a seed that no peer can know.
fn random_seed() -> Result<u64, StartError> {
    crate::io::random::draw().map_err(|error| check::fault("draw random numbers", &error))
}
