//! Entrances: where a request came in, and who stands behind it.
//!
//! Owns: what a shard knows of the proxies it trusts. A connection's address is that of its client, as far as that is known: of its
//! socket's peer, of whom a PROXY header named, or of whom a trusted proxy named in the newest request. A proxy that keeps a connection
//! sends requests of many clients over it; so the address changes from request to request, and is that of the client of the request that
//! is handled, or was last. A WebSocket or a stream has one client, and its address stays. A request that does not say who asks, or
//! not so that it can be believed, is the proxy's own.
//! Never: believes a peer that is not listed.

use std::net::{IpAddr, SocketAddr};

use corecast_protocol::http::forwarded::asker;
use corecast_protocol::http::head::Request;

use crate::grant::{Grant, Patterns};
use crate::io::driver::Slot;
use crate::io::unix::Credentials;
use crate::shard::Shard;
use crate::shard::limits::Limits;
use crate::shard::slot::connection::{Connection, NO_PROXY};

/// What a page came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// Reads one as an origin has it.
    pub(in crate::shard) fn of(name: &str) -> Option<Scheme> {
        if name.eq_ignore_ascii_case("https") {
            Some(Scheme::Https)
        } else {
            name.eq_ignore_ascii_case("http").then_some(Scheme::Http)
        }
    }

    /// Returns the port that a browser leaves out.
    pub(in crate::shard) const fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entrance {
    /// It was sent on this host: only this host reaches the listener, and no proxy says that it passes on what others sent.
    pub(crate) on_loopback: bool,
    /// The listener's port, if that is known and there is one.
    pub(crate) port: Option<u16>,
    /// What its pages come over, if that is known.
    pub(crate) scheme: Option<Scheme>,
}

/// Proxies that connections came from and that were trusted then: so that a connection keeps two bytes of its own.
#[derive(Debug, Default)]
pub(in crate::shard) struct Proxies(Vec<IpAddr>);

impl Proxies {
    /// Returns the number of a proxy; [`NO_PROXY`] if there have been too many.
    fn number(&mut self, address: IpAddr) -> u16 {
        let known = self.0.iter().position(|one| *one == address);
        let number = known.unwrap_or_else(|| {
            if self.0.len() < usize::from(NO_PROXY) {
                self.0.push(address);
            }
            self.0.len() - 1
        });
        if self.0.get(number) == Some(&address) { number as u16 } else { NO_PROXY }
    }

    fn address(&self, number: u16) -> Option<IpAddr> {
        self.0.get(usize::from(number)).copied()
    }
}

fn is_trusted(limits: &Limits, address: IpAddr) -> bool {
    limits.trusted_proxies.iter().any(|network| network.contains(address))
}

impl Shard {
    /// Takes note of who sent a request, and over what; returns where it came in.
    pub(in crate::shard) fn enter(&mut self, slot: Slot, request: &Request<'_>) -> Entrance {
        let (limits, connection) = (&self.limits, &mut self.slots.connections[slot as usize]);
        let listener = usize::from(connection.listener);
        let is = |list: &[bool]| list.get(listener).copied().unwrap_or(false);
        let mut entrance = Entrance {
            on_loopback: is(&limits.loopback),
            port: limits.ports.get(listener).copied().filter(|port| *port != 0),
            scheme: is(&limits.tls).then_some(Scheme::Https),
        };
        // Nobody is trusted now, and nobody was when this connection began.
        if limits.trusted_proxies.is_empty() && connection.proxy == NO_PROXY {
            return entrance;
        }
        let before = connection.address;
        self.name_client(slot, request, &mut entrance);
        if self.slots.connections[slot as usize].address != before {
            self.is_another(slot, before);
        }
        entrance
    }

    /// Takes note of the client that a trusted proxy names.
    fn name_client(&mut self, slot: Slot, request: &Request<'_>, entrance: &mut Entrance) {
        let (limits, connection) = (&self.limits, &mut self.slots.connections[slot as usize]);
        let proxy = self.proxies.address(connection.proxy);
        let peer = proxy.unwrap_or_else(|| connection.peer().ip());
        if !is_trusted(limits, peer) {
            forget_client(connection, proxy);
            return;
        }
        let asker = asker(&request.headers, limits.forwarded_header, |address| is_trusted(limits, address));
        if let Some(https) = asker.https {
            entrance.scheme = Some(if https { Scheme::Https } else { Scheme::Http });
        }
        let Some(client) = asker.address else {
            forget_client(connection, proxy);
            return;
        };
        if connection.proxy == NO_PROXY {
            connection.proxy = self.proxies.number(peer);
        }
        if connection.proxy != NO_PROXY {
            connection.set_peer(client);
            entrance.on_loopback &= client.ip().is_loopback();
        }
    }

    /// Gives a connection of a Unix socket what the kernel's word for who is at its other end gives it; says false if that has as many
    /// connections as it may.
    #[must_use]
    pub(in crate::shard) fn give_to_peer(&mut self, slot: Slot, credentials: Credentials) -> bool {
        let grant = match self.limits.inside {
            Some((_, pid)) if self.is_inside(slot) => (credentials.pid == pid).then(operator),
            _ => self.limits.unix_grants.grant(credentials),
        };
        let Some(grant) = grant else { return !self.is_inside(slot) };
        let number = self.trust.grants.intern(grant);
        self.give(slot, number)
    }

    /// Says whether a connection is of the process itself, which passes on what an operator asks of the admin listener.
    #[must_use]
    pub(in crate::shard) fn is_inside(&self, slot: Slot) -> bool {
        let listener = self.slots.connections[slot as usize].listener;
        self.limits.inside.is_some_and(|(inside, _)| inside == listener)
    }

    /// Says whether a connection is of this host, as far as that is known.
    #[must_use]
    pub(in crate::shard) fn is_of_this_host(&self, slot: Slot) -> bool {
        let connection = &self.slots.connections[slot as usize];
        let local = self.limits.loopback.get(usize::from(connection.listener)).copied().unwrap_or(false);
        local && (connection.proxy == NO_PROXY || connection.peer().ip().is_loopback())
    }

    /// Says whether what no rule and no grant says is allowed to a connection: the listener is open, and its client is of this host if it
    /// is open for that.
    #[must_use]
    pub(in crate::shard) fn is_open_to(&self, slot: Slot) -> bool {
        let connection = &self.slots.connections[slot as usize];
        let listener = usize::from(connection.listener);
        let is = |list: &[bool]| list.get(listener).copied().unwrap_or(false);
        let from_elsewhere = connection.proxy != NO_PROXY && !connection.peer().ip().is_loopback();
        is(&self.limits.open) && (self.limits.insecure || !is(&self.limits.loopback) || !from_elsewhere)
    }
}

/// What an operator may do here: read everything.
fn operator() -> Grant {
    let subscribe = Patterns::new(["#", "$sys/#"]).expect("these are patterns");
    Grant { subscribe, ..Grant::nothing("operator") }
}

/// A request of a proxied connection is the proxy's own.
fn forget_client(connection: &mut Connection, proxy: Option<IpAddr>) {
    if let Some(address) = proxy {
        // Its port is not kept.
        connection.set_peer(SocketAddr::new(address, 0));
        connection.proxy = NO_PROXY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proxies keep their numbers, and one too many has none.
    #[test]
    fn proxies_are_numbered() {
        let mut proxies = Proxies::default();
        let address = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        for n in 0..NO_PROXY {
            assert_eq!(proxies.number(address(n)), n);
        }
        assert_eq!(proxies.number(address(NO_PROXY)), NO_PROXY);
        assert_eq!(proxies.address(NO_PROXY), None);
        assert_eq!((proxies.number(address(7)), proxies.address(7)), (7, Some(address(7))));
    }
}
