//! Listening: one address for all shards, and for nobody else.
#![allow(clippy::unwrap_used)] // clippy knows the test functions only, not what they share

use std::net::{SocketAddr, TcpListener, TcpStream};

use corecast::io::listen::{listen, until_free};

/// All shards listen on one free port, and the kernel spreads connections over them.
#[test]
fn shards_share_a_port() {
    let listeners = listen("127.0.0.1:0".parse().unwrap(), 3).unwrap();
    let addresses: Vec<SocketAddr> = listeners.iter().map(|listener| listener.address()).collect();
    assert_ne!(addresses[0].port(), 0);
    assert_eq!(addresses, [addresses[0]; 3]);
    TcpStream::connect(addresses[0]).unwrap();
    // Given back and taken again at once: SO_REUSEADDR.
    drop(listeners);
    assert_eq!(listen(addresses[0], 2).unwrap().len(), 2);
}

/// A port that another socket listens on is refused with advice, although it may be shared as far as the kernel is
/// concerned: otherwise half of the connections would go elsewhere.
#[test]
fn taken_port() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listen(other.local_addr().unwrap(), 2).unwrap_err();
    assert_eq!(taken.error.raw_os_error(), Some(libc::EADDRINUSE));
    let sharing = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let text = listen(sharing[0].address(), 1).unwrap_err().to_string();
    assert!(text.contains(&sharing[0].address().to_string()) && text.contains("ss -ltnp"), "{text}");
}

/// An address of another host is refused with the reason.
#[test]
fn foreign_address() {
    let text = listen("192.0.2.1:8080".parse().unwrap(), 1).unwrap_err().to_string();
    assert!(text.contains("192.0.2.1:8080") && text.contains("no interface"), "{text}");
}

/// A port that becomes free a moment later is waited for: after a SIGKILL the kernel takes a while to free it.
#[test]
fn a_port_that_becomes_free() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let mut attempts = 0;
    let mut other = Some(other);
    let bound = until_free(|| {
        attempts += 1;
        let result = TcpListener::bind(address);
        // Only now: the first attempt has found the port taken.
        other = None;
        result
    });
    assert_eq!(bound.unwrap().local_addr().unwrap(), address);
    assert_eq!(attempts, 2);
    // What is wrong otherwise is told at once.
    let refused = until_free(|| -> std::io::Result<()> { Err(std::io::ErrorKind::AddrNotAvailable.into()) });
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::AddrNotAvailable);
}
