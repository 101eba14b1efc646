//! What a plan is asked for, and whether it can be meant.

use crate::Problem;
use crate::amount::{grouped, seconds_text};
use crate::needs;
use crate::transport::Transport;

/// Most messages a second for one connection that are believed: above, it is a mistake for the sum over all.
const RATE_MAX: f64 = 100_000.0;

/// Longest round trip that is believed, in seconds.
const ROUND_TRIP_S_MAX: f64 = 10.0;

/// What shall be held and delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Connections, each with one subscription.
    pub connections: u64,
    /// Messages a second to each of them (`poll`: requests a second of each).
    pub rate: f64,
    /// Bytes of a payload.
    pub bytes: u64,
    /// How they are reached.
    pub transport: Transport,
    /// Topics that the connections are spread over, evenly.
    pub topics: u64,
    /// Silence after which a peer is pinged, in seconds.
    pub ping_s: f64,
    /// Time from a packet to its acknowledgement, in seconds.
    pub round_trip_s: f64,
}

impl Default for Wish {
    /// One message of 512 bytes a minute for each, on one topic.
    fn default() -> Wish {
        Wish {
            connections: 1_000_000,
            rate: 1.0 / 60.0,
            bytes: 512,
            transport: Transport::Websocket,
            topics: 1,
            ping_s: needs::PING_SECONDS as f64,
            round_trip_s: 0.1,
        }
    }
}

impl Wish {
    /// Says whether it can be meant at all. Whether one box can do it is the plan's to say.
    ///
    /// # Errors
    /// What cannot be meant, and what could.
    pub fn check(&self) -> Result<(), Problem> {
        let Wish { connections, rate, bytes, topics, ping_s, round_trip_s, .. } = *self;
        if connections == 0 {
            return Err(Problem::new("a plan for no connections", "say --connections, as in 10M"));
        }
        if !(0.0..=RATE_MAX).contains(&rate) {
            return Err(Problem::new(
                format!("{rate} messages a second for each connection"),
                format!(
                    "--rate is that of one connection, at most {}: for all of them, divide by their number",
                    grouped(RATE_MAX as u64)
                ),
            ));
        }
        if bytes > needs::MESSAGE_BYTES_MAX {
            return Err(Problem::new(
                format!("messages of {} bytes", grouped(bytes)),
                "the engine takes at most 16M; put the rest where it can be fetched, and send where that is",
            ));
        }
        if topics == 0 || topics > connections {
            return Err(Problem::new(
                format!("{} topics for {} connections", grouped(topics), grouped(connections)),
                "each connection reads one: say --topics between 1 and --connections",
            ));
        }
        if !(1.0..=3_600.0).contains(&ping_s) {
            return Err(Problem::new(
                format!("a ping each {}", seconds_text(ping_s)),
                "the engine takes a --ping-interval of 1s to 1h",
            ));
        }
        if !(0.0..=ROUND_TRIP_S_MAX).contains(&round_trip_s) {
            return Err(Problem::new(
                format!("a round trip of {}", seconds_text(round_trip_s)),
                "say --round-trip between 0ms and 10s",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cannot be meant is refused, each with what is wrong and what could be meant.
    #[test]
    fn nonsense_is_refused() {
        let good = Wish::default();
        assert_eq!(good.check(), Ok(()));
        for (wish, expected) in [
            (Wish { connections: 0, ..good.clone() }, "no connections"),
            (Wish { rate: -1.0, ..good.clone() }, "-1 messages a second"),
            (Wish { rate: f64::NAN, ..good.clone() }, "NaN messages"),
            (Wish { rate: 1e9, ..good.clone() }, "1000000000 messages"),
            (Wish { bytes: 17 << 20, ..good.clone() }, "17,825,792 bytes"),
            (Wish { topics: 0, ..good.clone() }, "0 topics"),
            (Wish { topics: 1_000_001, ..good.clone() }, "1,000,001 topics for 1,000,000"),
            (Wish { ping_s: 0.5, ..good.clone() }, "a ping each 500 ms"),
            (Wish { ping_s: f64::INFINITY, ..good.clone() }, "a ping each"),
            (Wish { round_trip_s: 60.0, ..good.clone() }, "round trip of 60.0 s"),
        ] {
            let problem = wish.check().expect_err(expected);
            assert!(problem.cause.contains(expected) && !problem.cure.is_empty(), "{expected}: {problem}");
        }
    }
}
