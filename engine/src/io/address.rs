//! Socket addresses between the kernel's form and Rust's.
//!
//! Owns: the conversion. Touches nothing. Peers of Unix sockets have no address; they are known by one of this host, [`OF_UNIX`].
//!
//! Why the unsafe is sound: `sockaddr_storage` is plain bytes, larger and stricter aligned than the two forms it is
//! read and written as, and zeroed first, so every bit of it is initialised.
#![allow(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The address that peers of Unix sockets are known by: 127.0.0.1, without a port.
pub(super) const OF_UNIX: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Returns the kernel's form of an address, and its length in bytes.
pub(super) fn encode(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero bytes are a valid `sockaddr_storage`.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            let form = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large and aligned enough for any socket address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(form) };
            (storage, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            let form = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: the storage is large and aligned enough for any socket address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(form) };
            (storage, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

/// Returns Rust's form of an address the kernel wrote; the unspecified address if it is of no family we know.
///
/// An IPv4 peer of an IPv6 listener (`::ffff:192.0.2.1`) is returned as the IPv4 address it is, so that limits and
/// logs see one name for one peer.
pub(super) fn decode(storage: &libc::sockaddr_storage) -> SocketAddr {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is large and aligned enough, and initialised.
            let form = unsafe { (&raw const *storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(form.sin_addr.s_addr.to_ne_bytes());
            SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(form.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the storage is large and aligned enough, and initialised.
            let form = unsafe { (&raw const *storage).cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(form.sin6_addr.s6_addr);
            let port = u16::from_be(form.sin6_port);
            match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
                None => SocketAddr::V6(SocketAddrV6::new(ip, port, form.sin6_flowinfo, form.sin6_scope_id)),
            }
        }
        libc::AF_UNIX => OF_UNIX,
        _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address comes back from the kernel's form as it went in, and a mapped one as IPv4.
    #[test]
    fn round_trip() {
        for text in ["127.0.0.1:80", "255.1.2.3:65535", "[::1]:8080", "[fe80::1%7]:1", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(decode(&encode(address).0), address, "{text}");
        }
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:9".parse().unwrap();
        assert_eq!(decode(&encode(mapped).0), "192.0.2.1:9".parse().unwrap());
    }

    /// A peer of a Unix socket is of this host; a family nobody asked for is the unspecified address, not a panic.
    #[test]
    fn unknown_family() {
        let (mut storage, _) = encode("127.0.0.1:80".parse().unwrap());
        storage.ss_family = libc::AF_VSOCK as libc::sa_family_t;
        assert_eq!(decode(&storage), "0.0.0.0:0".parse().unwrap());
        storage.ss_family = libc::AF_UNIX as libc::sa_family_t;
        assert_eq!(decode(&storage), "127.0.0.1:0".parse().unwrap(), "of this host");
    }
}
