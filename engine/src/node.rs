//! A node: one process's shards, their rings, their threads.
//!
//! Owns: starting and stopping. Never: touches a message.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use corecast_protocol::snapshot::Head;
use crossbeam_channel::{Receiver, bounded};

use crate::bound::Bound;
use crate::config::Listen;
use crate::control;
use crate::core_loop::CoreLoop;
use crate::edge::{Door, Edge, SCRATCH_BYTES};
use crate::gate::{GateKeeper, Step, gate};
use crate::handover::load::{Homes, Sink};
use crate::io::check::{self, StartError};
use crate::io::clock::wall_offset_us;
use crate::io::doorbell::Doorbell;
use crate::io::driver::Driver;
use crate::io::executor::{ShardThread, spawn_shard};
use crate::io::listen::Listener;
use crate::io::memory::Span;
use crate::io::ring::{Ring, RingConfig};
use crate::io::unix::{SocketFile, UnixAccess};
use crate::mesh::{self, Board, Ends, Questions};
use crate::shard::{Limits, Restored, Setup, bookkeeping_bytes};

/// What a node is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to listen on.
    pub listen: Vec<Listen>,
    /// Number of shards, 1 to 256.
    pub shards: usize,
    /// CPUs to pin to, in turn; empty: all that this process may use.
    pub cores: Vec<usize>,
    /// Connections wished for on each shard; the kernel's limits may allow less.
    pub connections: u32,
    /// Block memory of all shards together, in bytes.
    pub memory_bytes: u64,
    /// Limits of each shard; memory and what the kind of each listener says are filled in here.
    pub limits: Limits,
    /// What stands before the connections of each listener, in the order of the addresses.
    pub doors: Vec<Door>,
    /// Who may connect to Unix sockets.
    pub unix: UnixAccess,
    /// Time for all connections to end once the node was asked to stop, in milliseconds.
    pub finish_ms: u64,
}

/// The authority's end of the mesh, and the bells that go with it.
#[derive(Debug)]
pub struct AuthorityEnd {
    /// Its rings.
    pub questions: Questions,
    /// Rung by shards that have asked.
    pub bell: Doorbell,
    /// Of each core: shard `n` hears the one of core `n % cores`.
    pub cores: Vec<Doorbell>,
}

/// Running shards.
#[derive(Debug)]
pub struct Node {
    threads: Vec<ShardThread<()>>,
    /// Of each core: where it waits, until the node listens.
    gates: Vec<GateKeeper>,
    shards: usize,
    addresses: Vec<Listen>,
    hash_key: u64,
    /// Files of Unix sockets, which go with the node.
    files: Vec<SocketFile>,
    board: Arc<Board>,
    doorbells: Vec<Doorbell>,
    control: Option<control::End>,
    authority: Option<AuthorityEnd>,
    slots_max: u32,
    over: Receiver<()>,
}

impl Sink for Node {
    fn begin(&mut self, head: Head) {
        // A core that is gone is told of by the first piece for it, or when it is asked what came of it.
        let _ = self.gates.iter().all(|gate| gate.tell(Step::Restore(head.is_last)));
    }

    fn give(&mut self, shard: usize, piece: Vec<u8>) -> bool {
        let cores = self.gates.len();
        self.gates[shard % cores].tell(Step::Piece(shard / cores, piece))
    }
}

impl Node {
    /// Starts all shards. When this returns, connections are accepted on every address.
    ///
    /// # Errors
    /// Why this host cannot run it, with the cure; nothing is left running then.
    pub fn start(settings: &Settings) -> Result<Node, StartError> {
        let mut node = Node::prepare(settings)?;
        match Bound::open(&settings.listen, node.shards, settings.unix, &mut Vec::new()) {
            Ok(bound) => {
                node.let_in(bound);
                Ok(node)
            }
            Err(error) => {
                node.give_up();
                Err(error)
            }
        }
    }

    /// Starts all that can fail for want of something: threads, rings, memory. Nothing is listened on yet.
    ///
    /// # Errors
    /// Why this host cannot run it, with the cure; nothing is left running then.
    pub fn prepare(settings: &Settings) -> Result<Node, StartError> {
        let Settings { shards, connections, .. } = *settings;
        crate::io::memory::keep_large_pieces_apart();
        check::raise_file_limit().map_err(|error| check::fault("raise the limit of open files", &error))?;
        let facts = check::gather(shards as u32, 0).map_err(|error| check::fault("look at this host", &error))?;
        check::judge(&facts)?;
        let cores = match settings.cores.as_slice() {
            [] => core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect(),
            cores => cores.to_vec(),
        };
        let mut limits = settings.limits.clone();
        limits.memory_bytes = settings.memory_bytes / shards as u64;
        limits.loopback = settings.listen.iter().map(Listen::is_local).collect();
        limits.tls = settings.listen.iter().map(Listen::is_tls).collect();
        limits.announced = settings.doors.iter().map(|door| door.proxy).collect();
        // It stands behind all others, if there is one.
        limits.inside = u8::try_from(settings.listen.len()).ok().map(|listener| (listener, std::process::id()));
        check_bookkeeping(limits.memory_bytes, shards)?;

        // Shard `n` is one of core `n % core_count`, as for the mesh, and hears the core's doorbell.
        let core_count = shards.min(cores.len().max(1));
        let bells = Doorbell::several(core_count).map_err(|error| check::fault("make doorbells", &error))?;
        let control_bell = Doorbell::new().map_err(|error| check::fault("make doorbells", &error))?;
        let authority_bell = Doorbell::new().map_err(|error| check::fault("make doorbells", &error))?;
        // Behind those of the shards stand those of the control plane and of the authority, as for the mesh.
        let doorbells = bells.iter().cycle().take(shards).chain([&control_bell, &authority_bell]);
        let doorbells: Vec<Doorbell> = doorbells.cloned().collect();
        // Behind what the pool has: where records are sealed, touched only if any are.
        let scratch = Span { start: limits.memory_bytes, len: SCRATCH_BYTES };
        let memory_bytes = limits.memory_bytes + u64::from(SCRATCH_BYTES);
        let config = RingConfig {
            slots: connections,
            memory_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX),
            ..RingConfig::shared_by(shards.div_ceil(core_count))
        };
        let mut rings = Vec::new();
        for shard in 0..shards {
            let ring = Ring::new(&config, shard, doorbells.clone(), Vec::new());
            rings.push(ring.map_err(|error| check::fault("make an io_uring", &error))?);
        }
        let slots_max = rings.first().map_or(0, Ring::slots_max);

        let board = Arc::new(Board::new(shards));
        let hash_key = random_seed()?;
        let ring_bytes = limits.ring_bytes(shards.div_ceil(core_count));
        let (alive, over) = bounded(0);
        let (gates, mut loops): (Vec<_>, Vec<_>) = (0..core_count)
            .map(|_| {
                let (keeper, gate) = gate(alive.clone());
                (keeper, CoreLoop::new(board.clone(), settings.finish_ms, gate))
            })
            .unzip();
        drop(alive);
        let Ends { links, control, questions } = mesh::join_all(shards, core_count, ring_bytes);
        for (index, (ring, links)) in rings.into_iter().zip(links).enumerate() {
            let setup = Setup {
                index,
                limits: limits.clone(),
                links,
                seed: random_seed()?,
                slots_max,
                hash_key,
                wall_offset_us: wall_offset_us(),
            };
            let mut edge = Edge::new(scratch);
            edge.stands_before(settings.doors.clone());
            loops[index % core_count].add(setup, ring, edge);
        }
        let mut node = Node {
            threads: Vec::new(),
            gates,
            shards,
            addresses: Vec::new(),
            hash_key,
            files: Vec::new(),
            board,
            control: Some(control::End { control, bell: control_bell, cores: bells.clone(), hash_key }),
            authority: Some(AuthorityEnd { questions, bell: authority_bell, cores: bells.clone() }),
            doorbells: bells,
            slots_max,
            over,
        };
        for (index, core_loop) in loops.into_iter().enumerate() {
            let name = if shards > core_count { format!("core-{index}") } else { format!("shard-{index}") };
            match spawn_shard(&name, cores.get(index).copied(), move || core_loop.run()) {
                Ok(thread) => node.threads.push(thread),
                Err(error) => {
                    node.give_up();
                    return Err(error);
                }
            }
        }
        // All of them at once: each makes its memory on its own thread.
        let why_not = node.gates.iter().find_map(|gate| match gate.ready() {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(Some(check::fault("start a shard", &error))),
            None => Some(None),
        });
        match why_not {
            None => Ok(node),
            Some(said) => {
                let ends = node.give_up();
                let unknown = || check::fault("start a shard", &io::Error::other("its thread ended"));
                Err(said.or_else(|| ends.into_iter().find_map(Result::err)).unwrap_or_else(unknown))
            }
        }
    }

    /// Returns where each topic has its home, for who restores histories.
    #[must_use]
    pub fn homes(&self) -> Homes {
        Homes { hash_key: self.hash_key, shards: self.shards }
    }

    /// Ends a restoring; returns what came of it. `None`: a core is gone.
    pub fn restored(&mut self) -> Option<Restored> {
        let mut sum = Restored::default();
        for gate in &self.gates {
            if !gate.tell(Step::Restored) {
                return None;
            }
        }
        for gate in &self.gates {
            sum.add(&gate.restored()?);
        }
        Some(sum)
    }

    /// Lets the shards accept.
    pub fn let_in(&mut self, mut bound: Bound) {
        bound.begin();
        let Bound { listeners, addresses, files, .. } = bound;
        self.addresses = addresses;
        self.files = files;
        let mut of_cores: Vec<Vec<Vec<Listener>>> = self.gates.iter().map(|_| Vec::new()).collect();
        for (shard, listeners) in listeners.into_iter().enumerate() {
            let core = shard % of_cores.len();
            of_cores[core].push(listeners);
        }
        for (gate, listeners) in self.gates.drain(..).zip(of_cores) {
            // A core that is gone since has said why.
            let _ = gate.tell(Step::Open(listeners));
        }
    }

    /// Leaves the files of Unix sockets where they are: they are another process's now.
    pub fn leave_files(&mut self) {
        self.files.drain(..).for_each(SocketFile::leave);
    }

    /// Sends home what was started, and waits for it; returns how the threads ended.
    pub fn give_up(mut self) -> Vec<Result<(), StartError>> {
        // A core that waits for its gate sees it gone; one that has passed hears of the end.
        self.gates.clear();
        self.stop(Duration::ZERO);
        self.threads.into_iter().map(ShardThread::join).collect()
    }

    /// Returns what is closed when the last shard has finished: nothing is ever sent on it.
    #[must_use]
    pub fn over(&self) -> &Receiver<()> {
        &self.over
    }

    /// Returns the addresses listened on, with the ports that were chosen for port 0.
    #[must_use]
    pub fn addresses(&self) -> &[Listen] {
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

    /// Takes the control plane's end of the mesh; there is one.
    pub fn control(&mut self) -> Option<control::End> {
        self.control.take()
    }

    /// Takes the authority's end of the mesh; there is one.
    pub fn authority(&mut self) -> Option<AuthorityEnd> {
        self.authority.take()
    }

    /// Asks all shards to close their connections, evenly within that time, and to finish.
    pub fn stop(&self, within: Duration) {
        self.board.drain(within);
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

/// Looks whether there is memory for what the pools keep of their memory, so much for each shard. It is reserved at once, touched only where it is
/// used, and a thread that does not get it would take the process with it.
///
/// # Errors
/// There is not; how much it would be, and the cure.
pub fn check_bookkeeping(memory_bytes: u64, shards: usize) -> Result<(), StartError> {
    let mut reserved: Vec<Vec<u8>> = Vec::new();
    for bytes in (0..shards).flat_map(|_| bookkeeping_bytes(memory_bytes)) {
        let mut one = Vec::new();
        if usize::try_from(bytes).ok().and_then(|bytes| one.try_reserve_exact(bytes).ok()).is_none() {
            let all = bookkeeping_bytes(memory_bytes).iter().sum::<u64>() * shards as u64;
            return Err(StartError {
                cause: format!("there is no memory for {} MiB of bookkeeping that --memory takes", all >> 20),
                cure: "ask for less with --memory, or allow the process more (ulimit -v, vm.overcommit_memory)"
                    .to_owned(),
            });
        }
        reserved.push(one);
    }
    std::hint::black_box(&reserved);
    Ok(())
}

/// Draws a seed that no peer can know.
fn random_seed() -> Result<u64, StartError> {
    crate::io::random::draw().map_err(|error| check::fault("draw random numbers", &error))
}
