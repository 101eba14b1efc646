//! The PROXY protocol: what a proxy says, before the first byte of its client, of who the client is.
//!
//! Owns: both versions of the header (haproxy, `doc/proxy-protocol.txt`): a line of text, and a block of bytes with a list of fields
//! behind it. Touches: the bytes in front. Never: believes anybody; whether a peer may say such a thing is the listener's to know, and
//! on a listener that expects it every connection has to begin with it.
//!
//! ```text
//!   1:  PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n        at most 107 bytes
//!   2:  \r\n\r\n\0\r\nQUIT\n  21  11  00 0C   addresses   fields          at most 16 + 4,096 bytes
//!       signature             │   │   └ length of all that follows
//!                             │   └ family and transport
//!                             └ version and command
//! ```

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of the first version in bytes, with its line end.
pub const LINE_BYTES_MAX: usize = 107;

/// What stands before the addresses of the second version, in bytes.
pub const BLOCK_HEAD_BYTES: usize = 16;

/// Most bytes behind that: proxies may add fields (a certificate's names, notes of a cloud), and 536 are what they can rely on.
pub const BLOCK_BYTES_MAX: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const LINE_START: &[u8] = b"PROXY ";

/// Bytes of two addresses with their ports, or of two paths.
const INET: usize = 12;
const INET6: usize = 36;
const UNIX: usize = 216;

/// Field of the second version that says which host the client has asked for (`PP2_TYPE_AUTHORITY`): its SNI.
const AUTHORITY: u8 = 0x02;

/// What a proxy said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header<'b> {
    /// The client. `None`: the connection is the proxy's own (a check of its health), or it has no address of the network to tell: the
    /// peer that the kernel knows stays the peer.
    pub source: Option<SocketAddr>,
    /// Where the client has connected to.
    pub destination: Option<SocketAddr>,
    /// The host that the client has asked for, if that was told.
    pub authority: Option<&'b str>,
}

/// What can be wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyError {
    /// The connection begins with something else.
    Missing,
    /// The line has no end within [`LINE_BYTES_MAX`].
    LineTooLong,
    /// The line is not made as it should be: its words, an address, a port, or its end.
    BadLine,
    /// The block is of another version than the second.
    BadVersion,
    /// The command is neither LOCAL nor PROXY.
    BadCommand,
    /// The family or the transport is one that nobody defined, or not that of a connection.
    BadFamily,
    /// The block is longer than [`BLOCK_BYTES_MAX`].
    BlockTooLong,
    /// The block has no room for the addresses that it announces.
    BlockTooShort,
    /// A field of the block goes beyond its end.
    BadField,
}

impl ProxyError {
    /// Says in English what was wrong.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Missing => "the connection does not begin with a PROXY header, which this listener expects",
            Self::LineTooLong => "the PROXY line is too long",
            Self::BadLine => "the PROXY line is malformed",
            Self::BadVersion => "the PROXY header has a version that nobody knows",
            Self::BadCommand => "the PROXY header has a command that nobody knows",
            Self::BadFamily => "the PROXY header has an address family that is none of a connection",
            Self::BlockTooLong => "the PROXY header is too long",
            Self::BlockTooShort => "the PROXY header is too short for its addresses",
            Self::BadField => "a field of the PROXY header goes beyond its end",
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for ProxyError {}

/// Reads the header in front of a connection's bytes; returns it and its length. `Ok(None)`: more bytes are needed, at most
/// [`BLOCK_HEAD_BYTES`] and [`BLOCK_BYTES_MAX`] in all.
///
/// # Errors
/// What is wrong with it, as soon as that can be seen.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header<'_>, usize)>, ProxyError> {
    let begins = |start: &[u8]| {
        let length = bytes.len().min(start.len());
        bytes[..length] == start[..length]
    };
    if begins(LINE_START) {
        parse_line(bytes)
    } else if begins(SIGNATURE) {
        parse_block(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

fn parse_line(bytes: &[u8]) -> Result<Option<(Header<'_>, usize)>, ProxyError> {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let whole = line.len() == LINE_BYTES_MAX;
    let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if whole { Err(ProxyError::LineTooLong) } else { Ok(None) };
    };
    match line.get(end + 1) {
        _ if line[end] == b'\n' => return Err(ProxyError::BadLine),
        Some(b'\n') => {}
        Some(_) => return Err(ProxyError::BadLine),
        None => return if whole { Err(ProxyError::LineTooLong) } else { Ok(None) },
    }
    let words = line.get(LINE_START.len()..end).ok_or(ProxyError::BadLine)?;
    let header = if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        Header::default() // Whatever follows is to be ignored.
    } else {
        addresses(words).ok_or(ProxyError::BadLine)?
    };
    Ok(Some((header, end + 2)))
}

/// Reads the words behind `PROXY`.
fn addresses<'b>(words: &[u8]) -> Option<Header<'b>> {
    let mut words = core::str::from_utf8(words).ok()?.split(' ');
    let family = words.next()?;
    let mut address = || -> Option<IpAddr> {
        let text = words.next()?;
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || words.next().and_then(port_of);
    let (source_port, destination_port) = (port()?, port()?);
    words.next().is_none().then(|| Header {
        source: Some(SocketAddr::new(source.to_canonical(), source_port)),
        destination: Some(SocketAddr::new(destination.to_canonical(), destination_port)),
        authority: None,
    })
}

/// Reads a port as the first version writes it: decimal, without leading zeros.
fn port_of(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn parse_block(bytes: &[u8]) -> Result<Option<(Header<'_>, usize)>, ProxyError> {
    let Some(&version) = bytes.get(SIGNATURE.len()) else { return Ok(None) };
    if version >> 4 != 2 {
        return Err(ProxyError::BadVersion);
    }
    let is_local = match version & 15 {
        0 => true,
        1 => false,
        _ => return Err(ProxyError::BadCommand),
    };
    let Some(&family) = bytes.get(SIGNATURE.len() + 1) else { return Ok(None) };
    let address_bytes = match family {
        // Of a check of its health the proxy may say any family: it is ignored.
        _ if is_local => 0,
        0x00 => 0,
        0x11 => INET,
        0x21 => INET6,
        0x31 => UNIX,
        _ => return Err(ProxyError::BadFamily),
    };
    let Some(length) = bytes.get(SIGNATURE.len() + 2..BLOCK_HEAD_BYTES) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length > BLOCK_BYTES_MAX {
        return Err(ProxyError::BlockTooLong);
    }
    if length < address_bytes {
        return Err(ProxyError::BlockTooShort);
    }
    let Some(block) = bytes.get(BLOCK_HEAD_BYTES..BLOCK_HEAD_BYTES + length) else { return Ok(None) };
    let mut header = Header::default();
    if !is_local {
        let (addresses, fields) = block.split_at(address_bytes);
        // A path of the proxy's host, or nothing, is no address of the network.
        if matches!(address_bytes, INET | INET6) {
            (header.source, header.destination) = (address_at(addresses, 0), address_at(addresses, 1));
        }
        header.authority = authority(fields)?;
    }
    Ok(Some((header, BLOCK_HEAD_BYTES + length)))
}

/// Reads the first or second of two addresses of the same family, with two ports behind them.
fn address_at(addresses: &[u8], which: usize) -> Option<SocketAddr> {
    let bytes = (addresses.len() - 4) / 2;
    let ip = &addresses[which * bytes..(which + 1) * bytes];
    let ip = match <[u8; 4]>::try_from(ip) {
        Ok(octets) => IpAddr::V4(Ipv4Addr::from(octets)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
    };
    let port = &addresses[2 * bytes + 2 * which..];
    Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes([port[0], port[1]])))
}

/// Walks the fields, and returns the one that names a host; one that is no text is as good as none.
fn authority(mut fields: &[u8]) -> Result<Option<&str>, ProxyError> {
    let mut found = None;
    while let [kind, high, low, rest @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, behind) = rest.split_at_checked(length).ok_or(ProxyError::BadField)?;
        if *kind == AUTHORITY {
            found = core::str::from_utf8(value).ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        fields = behind;
    }
    if fields.is_empty() { Ok(found) } else { Err(ProxyError::BadField) }
}
