//! The seam between the command line and the engine: the configuration in, a running engine out.

use std::os::unix::net::SocketAddr;

use corecast::admin::guard::Guard;
use corecast::admin::{Drain, Reading, Watched};
use corecast::authority::Desk;
use corecast::bound::Bound;
use corecast::config::{Config, Listen};
use corecast::control::{self, Asker, Hosts};
use corecast::edge::Certificates;
use corecast::handover::Shared;
use corecast::io::check::StartError;
use corecast::log;
use corecast::node::{AuthorityEnd, Node, Settings};
use corecast::observed::Observed;
use corecast::shard::Stats;
use crossbeam_channel::Receiver;
use std::time::Duration;

/// A running engine.
pub(super) struct Engine {
    node: Node,
    observed: Observed,
    /// Where it is reached from inside of the process.
    inside: Option<SocketAddr>,
}

impl Engine {
    /// Starts every shard; nothing is listened on yet.
    pub(super) fn prepare(config: &Config, certificates: Option<&Certificates>) -> Result<Engine, StartError> {
        let node = Node::prepare(&settings(config, certificates))?;
        if node.slots_max() < config.connections {
            tracing::info!(
                each_shard = node.slots_max(),
                all = u64::from(node.slots_max()) * u64::from(config.shards),
                "connections are limited by RLIMIT_NOFILE, per shard; raise it, or use more --shards"
            );
        }
        let observed = Observed::new(node.board().clone(), node.slots_max());
        Ok(Engine { node, observed, inside: None })
    }

    /// Opens the public addresses, or takes them from what was handed over; nobody is let in yet.
    pub(super) fn bind(&mut self, config: &Config, handed: &mut Vec<Shared>) -> Result<Bound, StartError> {
        let mut bound = Bound::open(&config.listen, config.shards as usize, config.unix, handed)?;
        // There is a number for it behind those of all others.
        if !config.admin.is_empty() && config.listen.len() <= usize::from(u8::MAX) {
            self.inside = Some(bound.listen_inside()?);
        }
        Ok(bound)
    }

    /// Returns what can be seen of it.
    pub(super) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Returns where histories that are restored go.
    pub(super) fn node(&mut self) -> &mut Node {
        &mut self.node
    }

    /// Lets everybody in.
    pub(super) fn let_in(&mut self, bound: Bound) {
        self.node.let_in(bound);
    }

    /// Leaves the files of Unix sockets to another process.
    pub(super) fn leave_files(&mut self) {
        self.node.leave_files();
    }

    /// Returns what is closed when every shard has ended.
    pub(super) fn over(&self) -> &Receiver<()> {
        self.node.over()
    }

    /// Ends what was prepared.
    pub(super) fn give_up(self) {
        self.node.give_up();
    }

    /// Returns how many connections a shard has room for.
    pub(super) fn slots_max(&self) -> u32 {
        self.node.slots_max()
    }

    /// Returns the public addresses, with the ports the kernel chose.
    pub(super) fn local_addresses(&self) -> &[Listen] {
        self.node.addresses()
    }

    /// Returns what the admin listener may look at.
    pub(super) fn watched(
        &self,
        hosts: Hosts,
        guard: Guard,
        drain: Drain,
        control: Asker,
        authority: Desk,
        retired: Receiver<()>,
    ) -> Watched {
        let (board, state) = (self.node.board().clone(), self.node.board().clone());
        Watched {
            read: Box::new(move || {
                let mut total = Stats::default();
                let shards: Vec<Stats> = (0..board.shards()).map(|shard| board.read(shard)).collect();
                shards.iter().for_each(|stats| total.add(stats));
                Reading {
                    names: Stats::FIELDS.iter().map(|(name, _)| *name).collect(),
                    shards: shards.iter().map(|stats| stats.values().to_vec()).collect(),
                    total: total.values().to_vec(),
                    process: <[u64; 2]>::from(log::missing()),
                }
            }),
            ready: Box::new(
                move || if state.draining() { Err("the engine is shutting down".to_owned()) } else { Ok(()) },
            ),
            hosts,
            guard,
            drain: Some(drain),
            control: Some(control),
            authority: Some(authority),
            retired: Some(retired),
            observed: Some(self.observed.clone()),
            inside: self.inside.clone(),
        }
    }

    /// Takes the control plane's end of the mesh; there is one.
    pub(super) fn control(&mut self) -> Option<control::End> {
        self.node.control()
    }

    /// Takes the authority's end of the mesh; there is one.
    pub(super) fn authority(&mut self) -> Option<AuthorityEnd> {
        self.node.authority()
    }

    /// Says whether the shards were asked to drain, by us or by one of them that failed.
    pub(super) fn draining(&self) -> bool {
        self.node.board().draining()
    }

    /// Asks every shard to drain, and to tell its connections within that time.
    pub(super) fn stop(&self, within: Duration) {
        self.node.stop(within);
    }

    /// Returns how the shards ended, which they have.
    pub(super) fn join(self) -> Result<(), String> {
        self.node.join().map_err(|error| error.to_string())
    }
}

fn settings(config: &Config, certificates: Option<&Certificates>) -> Settings {
    Settings {
        listen: config.listen.clone(),
        shards: config.shards as usize,
        cores: config.cores.clone(),
        connections: config.connections,
        memory_bytes: config.memory_bytes,
        limits: config.limits(),
        doors: config.doors(certificates),
        unix: config.unix,
        finish_ms: config.shutdown_timeout_ms,
    }
}
