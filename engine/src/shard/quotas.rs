//! Quotas: what a connection, an address, a subject and all of them together may have and do, asked of the census of the whole process.
//!
//! ```text
//!   accepted, announced ─▶ admit: connections a second, of all and of its address; connections of these
//!   order    ─▶ meter: messages and bytes published in a second, topics made, of the connection, its address, its subject, all
//!   given a grant, subscribe ─▶ counts: connections and subscriptions
//! ```
//!
//! An address is an IPv4 address, or the first 64 bits of an IPv6 address: who has one of these has all of them. Who comes over loopback
//! is not held to what holds for an address, unless the configuration says so: a proxy, or a test, is many behind one. A subject is that
//! of a grant; what that says itself holds instead of the configuration.
//!
//! Owns: nothing; what is counted of a connection stands with it. Touches: the census. Never: runs where
//! nothing is limited, but for a branch.

mod counts;

use std::hash::Hasher;
use std::net::Ipv6Addr;

use siphasher::sip::SipHasher13;

use super::Shard;
use super::limits::{Limits, Quotas};
use super::refusal::Refusal;
use crate::grant::GrantLimits;
use crate::io::driver::Slot;
use crate::mesh::{Census, Key, Name};
use crate::reach::{Mark, reach};

/// What becomes of a connection that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It stays.
    Taken,
    /// It is told why not, and when to come back.
    Refused(Refusal),
    /// The same, but too many of its address were told so in the last second: to tell would cost more than to take.
    CutOff(Refusal),
}

/// What is counted, or has a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Connections,
    Subscriptions,
    Connects,
    /// When those come back that were refused for connecting too fast.
    Appointments,
    /// Refusals that are told.
    Told,
    Publishes,
    Bytes,
    Topics,
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Everybody,
    Address([u8; 16]),
    Connection(u32, Slot, u16),
    Subject(u64),
}

/// What a second of somebody allows, and what is to be taken of it.
#[derive(Clone, Copy, Debug)]
struct Meter {
    what: What,
    whose: Whose,
    cost: u64,
    per_second: u64,
}

/// What a second allows, each; 0: whatever comes.
#[derive(Clone, Copy, Debug)]
struct Rates {
    connection: u64,
    address: u64,
    subject: u64,
    all: u64,
}

/// Refusals of an address that are told in a second, at least.
const TOLD_MIN: u32 = 100;

/// Later than this nobody is asked to come back for having come too fast, in nanoseconds.
const APPOINTMENT_NS_MAX: u64 = 120_000_000_000;

impl Shard {
    /// Decides what becomes of a connection that has come, and counts it.
    pub(super) fn admit(&mut self, slot: Slot) -> Admission {
        let quotas = self.limits.quotas;
        let address = self.slots.connections[slot as usize].address;
        self.hold(slot);
        let whose = Whose::Address(address_of(address));
        let meters = [
            Meter { what: What::Connects, whose: Whose::Everybody, cost: 1, per_second: quotas.connects.into() },
            Meter {
                what: What::Connects,
                whose,
                cost: 1,
                per_second: self.of_address(slot, quotas.connects_per_address).into(),
            },
        ];
        if let Err((meter, _)) = self.spend_at(meters) {
            self.stats.limited_connects += 1;
            reach(Mark::ConnectsTooFast);
            let later_ns = self.appoint(meter);
            return match meter.whose {
                Whose::Address(_) => self.refuse_of_address(whose, later_ns, Refusal::TooFast),
                _ => {
                    self.comes_back_in_ns(later_ns);
                    Admission::Refused(Refusal::TooFast)
                }
            };
        }
        match self.count_connection(slot) {
            Ok(()) => Admission::Taken,
            Err(Whose::Everybody) => Admission::Refused(Refusal::Full),
            Err(_) => self.refuse_of_address(whose, 0, Refusal::TooMany),
        }
    }

    /// Looks whether a connection is held to what holds for its address. A trusted proxy is not: it names others.
    fn hold(&mut self, slot: Slot) {
        let connection = &mut self.slots.connections[slot as usize];
        let Limits { quotas, trusted_proxies, .. } = &self.limits;
        let local = is_local(connection.address) && !quotas.loopback;
        let address = Ipv6Addr::from(connection.address).to_canonical();
        connection.counted.held = !local && !trusted_proxies.iter().any(|network| network.contains(address));
    }

    /// Takes what so many messages with so many bytes cost from what may be published; or says why not, and when.
    pub(super) fn meter_messages(&mut self, slot: Slot, messages: u64, bytes: u64) -> Result<(), Refusal> {
        let quotas = &self.limits.quotas;
        let rates = Rates {
            connection: quotas.publishes.into(),
            address: quotas.publishes_per_address.into(),
            subject: quotas.publishes_per_subject.into(),
            all: quotas.publishes_in_all.into(),
        };
        let [a, b, c, d] = self.meters(slot, What::Publishes, messages, rates, |own| own.publish_rate);
        let rates = Rates {
            connection: quotas.bytes,
            address: quotas.bytes_per_address,
            subject: quotas.bytes_per_subject,
            all: quotas.bytes_in_all,
        };
        let [e, f, g, h] = self.meters(slot, What::Bytes, bytes, rates, |own| own.publish_bytes);
        self.spend_at([a, b, c, d, e, f, g, h]).map_err(|(_, wait_ns)| {
            self.stats.limited_publishes += 1;
            self.too_fast(wait_ns)
        })
    }

    /// Returns the meters of what a connection does. A rate that its grant says is that of its subject, or of the connection if it has
    /// none, and holds instead of what the settings say of the two.
    fn meters(
        &self,
        slot: Slot,
        what: What,
        cost: u64,
        rates: Rates,
        own: impl Fn(&GrantLimits) -> Option<u32>,
    ) -> [Meter; 4] {
        let number = self.grant_of(slot);
        let (subject, own) = match self.trust.grants.get(number) {
            Some(interned) => (self.subject(number), own(&interned.grant.limits).map(u64::from)),
            None => (None, None),
        };
        let (of_connection, of_subject) = match (subject, own) {
            (Some(_), Some(own)) => (0, own),
            (Some(_), None) => (rates.connection, rates.subject),
            (None, own) => (own.unwrap_or(rates.connection), 0),
        };
        let held = self.slots.connections[slot as usize].counted.held;
        let of_address = if held { rates.address } else { 0 };
        [
            Meter { what, whose: self.whose_connection(slot), cost, per_second: of_connection },
            Meter { what, whose: self.whose_address(slot), cost, per_second: of_address },
            Meter { what, whose: subject.unwrap_or(Whose::Everybody), cost, per_second: of_subject },
            Meter { what, whose: Whose::Everybody, cost, per_second: rates.all },
        ]
    }

    /// Says whether what a connection does is metered: by the settings, or because its grant says a rate.
    pub(super) fn is_metered(&self, slot: Slot) -> bool {
        let own = || self.trust.grants.get(self.grant_of(slot));
        self.metered || !self.trust.grants.is_empty() && own().is_some_and(|interned| interned.grant.limits.has_rates())
    }

    /// Takes a topic from those that may be made, if it is new here: no reader on this shard, no home, and not named here lately.
    pub(super) fn meter_topic(&mut self, slot: Slot, topic: Name<'_>) -> Result<(), Refusal> {
        let Quotas { topics, topics_per_address, topics_per_subject, topics_in_all, .. } = self.limits.quotas;
        let rates = Rates {
            connection: topics.into(),
            address: topics_per_address.into(),
            subject: topics_per_subject.into(),
            all: topics_in_all.into(),
        };
        let meters = self.meters(slot, What::Topics, 1, rates, |own| own.topic_rate);
        if meters.iter().all(|meter| meter.per_second == 0) || self.recent.knows(topic.hash) {
            return Ok(());
        }
        if self.topics.find(topic).is_some() || self.homes.find(topic).is_some() {
            return Ok(());
        }
        self.spend_at(meters).map_err(|(_, wait_ns)| {
            self.stats.limited_topics += 1;
            self.too_fast(wait_ns)
        })?;
        self.recent.learn(topic.hash);
        Ok(())
    }

    fn too_fast(&mut self, wait_ns: u64) -> Refusal {
        reach(Mark::PublishesTooFast);
        self.comes_back_in_ns(wait_ns);
        Refusal::TooFast
    }

    /// Refuses one more of an address that has done what it may, and with words only as often as that costs us little.
    fn refuse_of_address(&mut self, whose: Whose, later_ns: u64, refusal: Refusal) -> Admission {
        let told = u64::from(self.limits.quotas.connects_per_address.max(TOLD_MIN));
        if self.spend_at([Meter { what: What::Told, whose, cost: 1, per_second: told }]).is_err() {
            return Admission::CutOff(refusal);
        }
        if later_ns > 0 {
            self.comes_back_in_ns(later_ns);
        }
        Admission::Refused(refusal)
    }

    /// Returns in how many nanoseconds one who has come too fast may come back: those who are refused in a row come back in a row.
    fn appoint(&mut self, meter: Meter) -> u64 {
        let key = self.key(What::Appointments, meter.whose);
        let now_ns = self.clock.now_us * 1000;
        // A bucket holds a second's worth before one has to wait.
        let wait_ns = 1_000_000_000 + self.census().wait_ns(key, 1, meter.per_second, now_ns);
        if wait_ns > APPOINTMENT_NS_MAX {
            return APPOINTMENT_NS_MAX / 2
                + super::random::random(&mut self.comes_back_random) % (APPOINTMENT_NS_MAX / 2);
        }
        self.census().charge(key, 1, meter.per_second, now_ns);
        wait_ns
    }

    /// Pays at all meters, if all of them have enough; or says which has the longest to wait for, and how long.
    fn spend_at<const N: usize>(&self, meters: [Meter; N]) -> Result<(), (Meter, u64)> {
        let now_ns = self.clock.now_us * 1000;
        let keys = meters
            .map(|meter| if meter.per_second == 0 { Key::Everybody(0) } else { self.key(meter.what, meter.whose) });
        let limited = || meters.iter().zip(keys).filter(|(meter, _)| meter.per_second > 0);
        let waits =
            limited().map(|(meter, key)| (*meter, self.census().wait_ns(key, meter.cost, meter.per_second, now_ns)));
        if let Some(longest) = waits.filter(|(_, wait_ns)| *wait_ns > 0).max_by_key(|(_, wait_ns)| *wait_ns) {
            return Err(longest);
        }
        for (meter, key) in limited() {
            self.census().charge(key, meter.cost, meter.per_second, now_ns);
        }
        Ok(())
    }

    /// Returns a limit of an address, as far as it holds for this connection.
    fn of_address(&self, slot: Slot, limit: u32) -> u32 {
        if self.slots.connections[slot as usize].counted.held { limit } else { 0 }
    }

    fn whose_address(&self, slot: Slot) -> Whose {
        Whose::Address(address_of(self.slots.connections[slot as usize].address))
    }

    fn whose_connection(&self, slot: Slot) -> Whose {
        Whose::Connection(self.index, slot, self.slots.connections[slot as usize].generation)
    }

    /// Returns the subject of a grant, if it has one.
    fn subject(&self, grant: u32) -> Option<Whose> {
        let grant = &self.trust.grants.get(grant)?.grant;
        (!grant.subject.is_empty()).then(|| Whose::Subject(self.hash(&grant.subject)))
    }

    /// Returns where the census counts something, which no peer can know.
    fn key(&self, what: What, whose: Whose) -> Key {
        if whose == Whose::Everybody {
            return Key::Everybody(what as u8);
        }
        let mut hasher = SipHasher13::new_with_keys(!self.hash_key, self.hash_key.rotate_left(32));
        hasher.write_u8(what as u8);
        match whose {
            Whose::Everybody => {}
            Whose::Address(address) => hasher.write(&address),
            Whose::Subject(hash) => hasher.write_u64(hash),
            Whose::Connection(shard, slot, generation) => {
                hasher.write_u64(u64::from(shard) << 32 | u64::from(slot));
                hasher.write_u16(generation);
            }
        }
        Key::One(hasher.finish())
    }

    fn census(&self) -> &Census {
        self.crossings.links.census()
    }
}

/// Says whether somebody comes from this host: over loopback, or a socket with a path, which has no address.
fn is_local(address: [u8; 16]) -> bool {
    let address = Ipv6Addr::from(address).to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Returns what of an address is counted together.
fn address_of(address: [u8; 16]) -> [u8; 16] {
    if Ipv6Addr::from(address).to_ipv4_mapped().is_some() {
        return address;
    }
    let mut network = [0; 16];
    network[..8].copy_from_slice(&address[..8]);
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IPv4 addresses are counted one by one, of IPv6 addresses the network that somebody has.
    #[test]
    fn networks_are_counted() {
        let of = |text: &str| {
            let octets = match text.parse().expect("an address") {
                std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                std::net::IpAddr::V6(address) => address.octets(),
            };
            (address_of(octets), is_local(octets))
        };
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert!(of("127.1.2.3").1 && of("::1").1 && of("::ffff:127.0.0.1").1 && of("0.0.0.0").1 && !of("128.0.0.1").1);
    }
}
