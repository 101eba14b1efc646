//! Ready-made plans. Flags override what they say.

use super::{Audience, Gaps, Kind, Load, Phase, Plan, Slow, Stream, Transport};

/// A ready-made plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Connections are held for a minute.
    Idle,
    /// One topic for everybody, ten messages a second.
    FanOut,
    /// A hundred topics, spread over the connections.
    ManyTopics,
    /// A topic for each connection; every message goes to a random one.
    Unicast,
    /// Broadcasts, groups and single connections at the same time.
    Mixed,
    /// Every connection gets its own messages back (`corecast serve --echo`).
    Echo,
    /// Everyone connects at the same moment, and then a message proves that each of them is there.
    ConnectionStorm,
    /// Everyone is dropped at once and comes back, while messages go on; nothing may be missing.
    ReconnectStorm,
    /// A tenth of the connections reads a thousand bytes a second.
    SlowReaders,
    /// A hundred connections a second leave and come.
    Churn,
    /// As many messages as the server takes; subscribers that cannot follow are told so.
    PublishFlood,
}

impl Scenario {
    /// Returns its plan.
    #[must_use]
    pub fn plan(self) -> Plan {
        let open = |rate| Phase { seconds: Some(10.0), ..Phase::publish(Load::Open { rate }) };
        let base = Plan { subscribe: vec![Audience::All], ..Plan::default() };
        match self {
            Scenario::Idle => Plan { phases: Plan::connect_then(Phase::hold(60.0)), ..base },
            Scenario::FanOut => Plan { phases: Plan::connect_then(open(10.0)), ..base },
            Scenario::ManyTopics => Plan {
                subscribe: vec![Audience::Group],
                topics: 100,
                phases: Plan::connect_then(open(1_000.0)),
                ..base
            },
            Scenario::Unicast => {
                Plan { subscribe: vec![Audience::Own], phases: Plan::connect_then(open(1_000.0)), ..base }
            }
            Scenario::Mixed => {
                let also = |to, rate| Stream { to: Some(to), rate: Some(rate), ..Stream::default() };
                let mut phase = open(1.0);
                phase.also = vec![also(Audience::Group, 50.0), also(Audience::Own, 500.0)];
                Plan {
                    subscribe: vec![Audience::All, Audience::Group, Audience::Own],
                    topics: 50,
                    phases: Plan::connect_then(phase),
                    ..base
                }
            }
            Scenario::Echo => Plan {
                transport: Transport::Echo,
                bytes: 64,
                connections: 100,
                phases: Plan::connect_then(open(10_000.0)),
                ..base
            },
            Scenario::ConnectionStorm => {
                let connect = Phase { under_way: Some(4_000), ..Phase::connect() };
                let proof = Phase { messages: Some(1), ..Phase::publish(Load::Closed { in_flight: 1 }) };
                Plan { phases: vec![connect, proof], ..base }
            }
            Scenario::ReconnectStorm => {
                let before = Phase { seconds: Some(2.0), ..open(10.0) };
                let back = Phase {
                    under_way: Some(4_000),
                    rate: Some(10.0),
                    messages: Some(20),
                    ..Phase::new(Kind::Reconnect)
                };
                Plan { phases: vec![Phase::connect(), before.clone(), back, before], ..base }
            }
            Scenario::SlowReaders => Plan {
                slow: Some(Slow::new(0.1, 1_000)),
                gaps: Gaps::Allowed,
                phases: Plan::connect_then(open(20.0)),
                ..base
            },
            Scenario::Churn => {
                let churn =
                    Phase { leaving: Some(100.0), seconds: Some(10.0), rate: Some(10.0), ..Phase::new(Kind::Churn) };
                Plan { phases: Plan::connect_then(churn), ..base }
            }
            Scenario::PublishFlood => Plan {
                connections: 10,
                subscribe: vec![Audience::Group],
                topics: 10,
                publishers: 4,
                gaps: Gaps::Allowed,
                phases: Plan::connect_then(Phase {
                    seconds: Some(10.0),
                    ..Phase::publish(Load::Closed { in_flight: 1_000 })
                }),
                ..base
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every ready-made plan can be run as it is.
    #[test]
    fn scenarios_are_sound() {
        for scenario in <Scenario as clap::ValueEnum>::value_variants() {
            assert_eq!(scenario.plan().check(20_000), Ok(()), "{scenario:?}");
        }
    }
}
