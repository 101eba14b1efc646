//! Networks: an address and how much of it counts, as in `10.0.0.0/8`.
//!
//! Owns: how one is written, and what is in it. An IPv4 address in the form of IPv6 is the IPv4 address that it is.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its first address.
    first: IpAddr,
    /// How many bits its addresses have in common.
    bits: u8,
}

impl Network {
    /// Reads a network, or an address, which is one of its own. None if it is neither, or if bits are set behind those that count:
    /// that would not be what was meant.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().ok()?;
        let first = written.to_canonical();
        // Of an IPv4 address in the form of IPv6 the first 96 bits are its form.
        let form_bits = if written.is_ipv6() && first.is_ipv4() { 96 } else { 0 };
        let bits_max: u8 = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse::<u8>().ok()?.checked_sub(form_bits)?
            }
            Some(_) => return None,
            None => bits_max,
        };
        let network = Self { first, bits };
        (bits <= bits_max && network.start_of(first) == first).then_some(network)
    }

    /// Says whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && self.start_of(address) == self.first
    }

    /// Takes off an address what does not count.
    fn start_of(&self, address: IpAddr) -> IpAddr {
        let bits = u32::from(self.bits);
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits_max = if self.first.is_ipv4() { 32 } else { 128 };
        if self.bits == bits_max { write!(f, "{}", self.first) } else { write!(f, "{}/{}", self.first, self.bits) }
    }
}

#[cfg(test)]
mod tests {
    use super::Network;
    use std::string::ToString as _;

    /// Networks hold the addresses that begin as they do, and are shown as they are read.
    #[test]
    fn what_is_in_a_network() {
        for (text, shown, inside, outside) in [
            ("10.0.0.0/8", "10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7/32", "192.0.2.7", "::ffff:192.0.2.7", "::192.0.2.7"),
            ("0.0.0.0/0", "0.0.0.0/0", "255.1.2.3", "::1"),
            ("128.0.0.0/1", "128.0.0.0/1", "200.0.0.1", "127.0.0.1"),
            ("::/0", "::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/32", "2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("fe80::/10", "fe80::/10", "febf::1", "fec0::1"),
            ("::1", "::1", "::1", "::2"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8", "10.1.1.1", "11.0.0.0"),
        ] {
            let network = Network::parse(text).expect(text);
            assert_eq!(network.to_string(), shown);
            assert_eq!(Network::parse(shown), Some(network));
            assert!(network.contains(inside.parse().expect(inside)), "{inside} in {text}");
            assert!(!network.contains(outside.parse().expect(outside)), "{outside} in {text}");
        }
    }

    /// What is no network is refused, also where more is said than counts.
    #[test]
    fn no_networks() {
        for text in [
            "",
            "/",
            "/8",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.1/8",
            "::/129",
            "::1/127",
            "[::1]",
            "::ffff:10.0.0.0/8",
            "localhost",
            "10.0.0.0/256",
            " 10.0.0.1",
            "fe80::1%lo",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
