//! The sockets that shards will accept from: opened here, or handed over by another process.
//!
//! Owns: which shard has which. Those of one address in the network are one for each shard, and all of them have somebody who accepts: the kernel
//! spreads connections over them, whoever made them. Never: accepts; until [`Bound::begin`], nobody is waited for that the other process does
//! not wait for as well.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net;
use std::path::PathBuf;

use crate::config::Listen;
use crate::handover::{Role, Shared, find};
use crate::io::check::{StartError, fault};
use crate::io::listen::{ListenError, Listener, beside, listen};
use crate::io::unix::{self, SocketFile, UnixAccess};

/// The sockets.
#[derive(Debug, Default)]
pub struct Bound {
    /// Of each shard.
    pub(crate) listeners: Vec<Vec<Listener>>,
    /// With the ports that were chosen for port 0.
    pub(crate) addresses: Vec<Listen>,
    /// Files of paths, which go with this process.
    pub(crate) files: Vec<SocketFile>,
    /// Paths of which the other process has the files still.
    handed_paths: Vec<PathBuf>,
}

impl Bound {
    /// Opens all addresses for so many shards; what was handed over is used, and taken out of the list.
    ///
    /// # Errors
    /// An address cannot be listened on; then none is.
    pub fn open(
        addresses: &[Listen],
        shards: usize,
        access: UnixAccess,
        handed: &mut Vec<Shared>,
    ) -> Result<Bound, StartError> {
        let mut bound = Bound { listeners: (0..shards).map(|_| Vec::new()).collect(), ..Bound::default() };
        for address in addresses {
            let shared = find(handed, Role::Public, address);
            let opened = match address.socket() {
                Some(socket) => in_the_network(socket, shards, shared)?,
                None => bound.path(address, shards, access, shared)?,
            };
            bound.addresses.extend(opened.first().map(|listener| address.bound_to(listener.address())));
            bound.listeners.iter_mut().zip(opened).for_each(|(of_shard, listener)| of_shard.push(listener));
        }
        Ok(bound)
    }

    /// Listens, besides, for connections of this process to itself; returns where.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn listen_inside(&mut self) -> Result<net::SocketAddr, StartError> {
        let opened = unix::listen_inside().and_then(|(socket, address)| {
            let listeners: io::Result<Vec<Listener>> =
                self.listeners.iter().map(|_| Listener::at_path(&socket)).collect();
            Ok((listeners?, address))
        });
        let (listeners, address) = opened.map_err(|error| fault("listen inside of the process", &error))?;
        self.listeners.iter_mut().zip(listeners).for_each(|(of_shard, listener)| of_shard.push(listener));
        Ok(address)
    }

    fn path(
        &mut self,
        address: &Listen,
        shards: usize,
        access: UnixAccess,
        shared: Option<Shared>,
    ) -> Result<Vec<Listener>, StartError> {
        let wrong = |error: io::Error| {
            StartError {
            cause: format!("cannot listen on {address}: {error}"),
            cure: "choose another path with --listen, stop what listens there, or see to it that the folder is there and may be written \
                   to"
            .to_owned(),
        }
        };
        let path = address.path().unwrap_or(std::path::Path::new(""));
        let socket = match shared.and_then(|shared| shared.sockets.into_iter().next()) {
            Some(socket) => {
                self.handed_paths.push(path.to_owned());
                socket
            }
            None => {
                let (socket, file) = unix::listen_at(path, access).map_err(wrong)?;
                self.files.push(file);
                socket
            }
        };
        (0..shards).map(|_| Listener::at_path(&socket)).collect::<Result<_, _>>().map_err(wrong)
    }

    /// Takes up the files that were handed over, and lets those come who could not before.
    pub(crate) fn begin(&mut self) {
        for path in self.handed_paths.drain(..) {
            // If somebody has taken it away, connections that wait are served all the same.
            self.files.extend(SocketFile::handed(&path));
        }
        for listener in self.listeners.iter().flatten().filter(|listener| !listener.is_unix()) {
            if let Err(error) = listener.begin() {
                tracing::error!(address = %listener.address(), %error, "a socket cannot listen");
            }
        }
    }

    /// Returns duplicates of all sockets, for the next process.
    ///
    /// # Errors
    /// Too many files are open.
    pub fn duplicates(&self) -> io::Result<Vec<Shared>> {
        let all = self.addresses.iter().enumerate().map(|(place, address)| {
            let of_address = self.listeners.iter().filter_map(|of_shard| of_shard.get(place));
            // A path has one, of which each shard has a duplicate.
            let count = if address.path().is_some() { 1 } else { usize::MAX };
            let sockets = of_address.take(count).map(|listener| listener.as_fd().try_clone_to_owned());
            let sockets: io::Result<Vec<OwnedFd>> = sockets.collect();
            Ok(Shared { role: Role::Public, address: address.clone(), sockets: sockets? })
        });
        all.collect()
    }
}

/// Listens on an address in the network, once for each shard.
fn in_the_network(address: SocketAddr, shards: usize, shared: Option<Shared>) -> Result<Vec<Listener>, StartError> {
    let wrong = |error: ListenError| StartError {
        cause: error.to_string(),
        cure: "choose another address with --listen, or stop what listens there".to_owned(),
    };
    let Some(shared) = shared else { return listen(address, shards).map_err(wrong) };
    let theirs = shared.sockets.len();
    let Some(more) = shards.checked_sub(theirs) else {
        return Err(StartError {
            cause: format!(
                "the running engine has {theirs} shards, and this one is to have {shards}: nobody would accept from the others' sockets"
            ),
            cure: format!("let it have {theirs} shards or more (--shards), or stop the running one first"),
        });
    };
    let taken = shared.sockets.into_iter().map(Listener::handed).collect::<io::Result<Vec<_>>>();
    let mut listeners = taken.map_err(|error| wrong(ListenError { address, error }))?;
    listeners.extend(beside(address, more).map_err(wrong)?);
    Ok(listeners)
}
