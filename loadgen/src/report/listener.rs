//! Which process of this host listens at an address: sockets from `/proc/net/tcp`, their owners from `/proc/*/fd`.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`, net/tcp_states.h).
const LISTENING: &str = "0A";

/// Returns the one process that listens at these addresses.
///
/// # Errors
/// Why none can be told, for people.
pub(crate) fn process(proc: &Path, connect: &[SocketAddr]) -> Result<u32, String> {
    let local: Vec<&SocketAddr> = connect.iter().filter(|address| is_local(address.ip())).collect();
    let Some(first) = local.first() else {
        return Err("it is not on this host".to_owned());
    };
    let inodes = listeners(proc, &local).map_err(|error| format!("cannot read /proc/net/tcp: {error}"))?;
    if inodes.is_empty() {
        return Err(format!("nobody listens at {first}"));
    }
    let (owners, forbidden) =
        owners(proc, &inodes).map_err(|error| format!("cannot read {}: {error}", proc.display()))?;
    let owners: Vec<u32> = owners.into_iter().collect();
    match owners[..] {
        [pid] => Ok(pid),
        [] if forbidden => {
            Err(format!("whose {first} is may not be seen; give --server-pid, or run as its user or root"))
        }
        [] => Err(format!("no process of this host has {first} open; give --server-pid")),
        _ => Err(format!("the processes {owners:?} share {first}; give --server-pid of one")),
    }
}

/// An address is this host's if a socket can be bound to it.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Returns the inodes of the sockets that listen at any of these addresses.
fn listeners(proc: &Path, addresses: &[&SocketAddr]) -> io::Result<BTreeSet<u64>> {
    let four = std::fs::read_to_string(proc.join("net/tcp"))?;
    // A kernel without IPv6 has no such file.
    let six = std::fs::read_to_string(proc.join("net/tcp6")).unwrap_or_default();
    let mut inodes = BTreeSet::new();
    for line in four.lines().skip(1).chain(six.lines().skip(1)) {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        let [_, at, _, LISTENING, .., inode] = fields[..] else {
            continue;
        };
        if let (Some(at), Ok(inode)) = (address(at), inode.parse())
            && addresses.iter().any(|wanted| hears(at, **wanted))
        {
            inodes.insert(inode);
        }
    }
    Ok(inodes)
}

/// Says whether a socket that listens at an address hears who connects to another one.
fn hears(listens: SocketAddr, wanted: SocketAddr) -> bool {
    let any = match listens.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && wanted.is_ipv4(),
        // Sockets for both families are the default of Linux.
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    listens.port() == wanted.port() && (any || listens.ip().to_canonical() == wanted.ip().to_canonical())
}

/// Reads an address of `/proc/net/tcp`: words of 32 bits as the machine has them, in hex, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Returns the processes that have one of these sockets open, and whether some could not be looked at.
fn owners(proc: &Path, inodes: &BTreeSet<u64>) -> io::Result<(BTreeSet<u32>, bool)> {
    let (mut owners, mut forbidden) = (BTreeSet::new(), false);
    for process in std::fs::read_dir(proc)? {
        let process = process?;
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let files = match std::fs::read_dir(process.path().join("fd")) {
            Ok(files) => files,
            Err(error) => {
                // A process may have ended meanwhile.
                forbidden |= error.kind() == io::ErrorKind::PermissionDenied;
                continue;
            }
        };
        for file in files.flatten() {
            let target = std::fs::read_link(file.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
            if inode.and_then(|inode| inode.parse().ok()).is_some_and(|inode: u64| inodes.contains(&inode)) {
                owners.insert(pid);
            }
        }
    }
    Ok((owners, forbidden))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::watch::FakeProc;

    fn tree() -> FakeProc {
        let proc = FakeProc::new();
        let word = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let row = |ip: String, port: u16, state: &str, inode: u64| {
            format!(
                "   0: {ip}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"
            )
        };
        let four = [
            row(word([127, 0, 0, 1]), 8080, "0A", 100),
            row(word([127, 0, 0, 1]), 8081, "01", 101),
            row(word([0, 0, 0, 0]), 8082, "0A", 102),
        ];
        proc.put("net/tcp", &format!("  sl  local_address ...\n{}", four.concat()));
        let any = word([0; 4]).repeat(4);
        proc.put("net/tcp6", &format!("  sl  local_address ...\n{}", row(any, 8083, "0A", 103)));
        proc.link("10/fd/3", "socket:[100]");
        proc.link("10/fd/4", "/dev/null");
        proc.link("11/fd/3", "socket:[101]");
        proc.link("12/fd/3", "socket:[102]");
        proc.link("13/fd/3", "socket:[102]");
        proc.link("14/fd/7", "socket:[103]");
        proc.put("version", "Linux");
        proc
    }

    /// Whoever listens is found, at its own address and at all addresses; a mere connection does not count.
    #[test]
    fn listeners_are_found() {
        let proc = tree();
        let find = |address: &str| process(proc.path(), &[address.parse().unwrap()]);
        assert_eq!(find("127.0.0.1:8080"), Ok(10));
        assert!(find("127.0.0.2:8080").unwrap_err().contains("nobody listens at 127.0.0.2:8080"));
        assert!(find("127.0.0.1:8081").unwrap_err().contains("nobody listens"));
        assert!(find("127.0.0.9:8082").unwrap_err().contains("[12, 13] share"));
        assert_eq!(find("127.0.0.9:8083"), Ok(14));
        assert_eq!(find("[::1]:8083"), Ok(14));
        assert!(find("192.0.2.1:8080").unwrap_err().contains("not on this host"));
    }

    /// A socket that nobody is seen to have is said to be so.
    #[test]
    fn unseen_owners_are_told() {
        let proc = tree();
        std::fs::remove_file(proc.path().join("10/fd/3")).unwrap();
        let told = process(proc.path(), &["127.0.0.1:8080".parse().unwrap()]).unwrap_err();
        assert!(told.contains("no process") && told.contains("--server-pid"), "{told}");
    }
}
