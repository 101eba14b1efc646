//! What several scenarios say of their servers: the rows of the table that are alike.

use crate::scenario::{Beside, Claim, Figure};
use crate::server::{Cores, Kind};
use crate::verdict::Bound;

pub(crate) const ENGINE: Kind = Kind::Engine { shards: 1, cores: Cores::Server };
pub(crate) const TWO_SHARDS: Kind = Kind::Engine { shards: 2, cores: Cores::Server };
pub(crate) const TWO_CORES: Kind = Kind::Engine { shards: 2, cores: Cores::Both };

/// What the engine's cost of a delivery must hold.
pub(crate) const fn delivery(beside: Beside, bound: Bound) -> Claim {
    Claim { figure: Figure::CpuPerDelivery, of: ENGINE, beside, bound }
}

/// What a figure of the engine must hold beside the plain epoll server.
pub(crate) const fn beside_epoll(figure: Figure, bound: Bound) -> Claim {
    Claim { figure, of: ENGINE, beside: Beside::Server(Kind::EpollFanout), bound }
}

/// What the engine's cost of a connection must hold.
pub(crate) const fn connection(beside: Beside, bound: Bound) -> Claim {
    Claim { figure: Figure::CpuPerConnection, of: ENGINE, beside, bound }
}

/// What is told of messages to single connections, on two shards and on one.
pub(crate) const UNICAST: &[Claim] = &[
    unicast_claim(Figure::CpuPerMessage, Bound::Told),
    unicast_claim(Figure::LatencyMedian, Bound::Told),
    beside_epoll(Figure::CpuPerMessage, Bound::Told),
    beside_epoll(Figure::LatencyMedian, Bound::Told),
];

/// The same where a core has enough to do that it seldom rests.
pub(crate) const UNICAST_BUSY: &[Claim] = &[
    unicast_claim(Figure::CpuPerMessage, Bound::AtMost(30.0)),
    unicast_claim(Figure::LatencyMedian, Bound::Told),
    beside_epoll(Figure::CpuPerMessage, Bound::Told),
    beside_epoll(Figure::LatencyMedian, Bound::Told),
];

/// What a message to a single connection must hold on two shards, each on a core.
const fn unicast_claim(figure: Figure, bound: Bound) -> Claim {
    Claim { figure, of: TWO_CORES, beside: Beside::Server(Kind::EpollFanout), bound }
}

/// What is left out of that.
pub(crate) const SPIN: Claim =
    Claim { figure: Figure::SpinPerConnection, of: ENGINE, beside: Beside::Nothing, bound: Bound::Told };
