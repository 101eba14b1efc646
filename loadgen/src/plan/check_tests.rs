//! Plans that cannot be carried out, and the arithmetic of those that can.

use std::net::SocketAddr;

use super::*;
use crate::plan::{Generic, PORTS_PER_PAIR, Slow};

fn refused(change: impl FnOnce(&mut Plan)) -> String {
    let mut plan = Plan::default();
    change(&mut plan);
    plan.check(20_000).unwrap_err().cause
}

/// The same for the second phase of the default plan, which publishes.
fn phase_refused(change: impl FnOnce(&mut Phase)) -> String {
    refused(|plan| change(&mut plan.phases[1]))
}

/// Each impossible wish about who connects is refused with its own cause; the default plan is fine.
#[test]
fn impossible_connections_are_refused() {
    assert_eq!(Plan::default().check(20_000), Ok(()));
    assert!(refused(|plan| plan.connect.clear()).contains("no server"));
    assert!(refused(|plan| plan.connections = 0).contains("at least 1"));
    assert!(refused(|plan| plan.publishers = 0).contains("at least 1"));
    assert!(refused(|plan| plan.connections = u32::MAX).contains("too many"));
    assert!(refused(|plan| plan.topics = 1001).contains("without a subscriber"));
    assert!(refused(|plan| (plan.topics, plan.topics_each) = (1003, 3)).contains("without a subscriber"));
    assert!(refused(|plan| plan.topics_each = 2).contains("2 of 1 topics"));
    assert!(refused(|plan| plan.topics_each = 0).contains("0 of 1 topics"));
    let several = |plan: &mut Plan| (plan.topics, plan.topics_each, plan.transport) = (4, 3, Transport::Sse);
    assert!(refused(several).contains("one topic, not 3"));
    assert!(refused(|plan| plan.workers = 1001).contains("workers"));
    assert!(refused(|plan| plan.subscribe.clear()).contains("nothing"));
    assert!(refused(|plan| plan.subscribe = vec![Audience::All; 2]).contains("twice"));
    assert!(refused(|plan| plan.patience_seconds = f64::NAN).contains("patience"));
    let both = |plan: &mut Plan| {
        plan.subscribe = vec![Audience::Group, Audience::Own];
        plan.transport = Transport::Raw;
    };
    assert!(refused(both).contains("one topic, not 2"));
    assert!(refused(|plan| plan.slow = Some(Slow::new(1.5, 1))).contains("slow"));
    assert!(refused(|plan| plan.slow = Some(Slow::new(0.5, 0))).contains("never read"));
    assert!(refused(|plan| plan.poll_seconds = 0.0).contains("next poll"));
    let rare = |plan: &mut Plan| (plan.transport, plan.poll_seconds) = (Transport::Poll, 20.0);
    assert!(refused(rare).contains("before the next poll"));
    assert!(refused(|plan| plan.transport = Transport::Generic).contains("how to talk"));
    assert!(refused(|plan| plan.generic = Some(Generic::default())).contains("means nothing"));
    assert!(Plan::default().check(100).unwrap_err().cause.contains("files"));
    let far = |plan: &mut Plan| {
        plan.connect = vec![SocketAddr::from(([10, 0, 0, 1], 80))];
        plan.connections = 28_001;
    };
    assert!(refused(far).contains("run out of ports"));
}

/// Each impossible phase is refused with its own cause, and its place in the plan.
#[test]
fn impossible_phases_are_refused() {
    assert!(refused(|plan| plan.phases.clear()).contains("no phase"));
    assert!(refused(|plan| plan.phases.remove(0).ramp = None).contains("nobody is connected"));
    assert!(refused(|plan| plan.phases.push(Phase::connect())).contains("connected already"));
    assert!(refused(|plan| plan.phases[0].ramp = Some(0)).contains("phase 1, connect: a ramp of 0"));
    assert!(refused(|plan| plan.phases[0].rate = Some(1.0)).contains("rate means nothing in a phase of kind connect"));
    assert!(refused(|plan| plan.phases[1] = Phase::new(Kind::Hold)).contains("never end"));
    assert!(
        refused(|plan| plan.phases[1] = Phase { seconds: Some(1.0), ..Phase::new(Kind::Churn) }).contains("leaves")
    );
    assert!(phase_refused(|phase| phase.rate = Some(f64::NAN)).contains("scheduled"));
    assert!(phase_refused(|phase| phase.rate = Some(-1.0)).contains("phase 2, publish: -1 messages"));
    assert!(phase_refused(|phase| phase.set_load(Load::Closed { in_flight: 0 })).contains("in flight"));
    assert!(phase_refused(|phase| phase.in_flight = Some(1)).contains("open or closed"));
    assert!(phase_refused(|phase| phase.together = Some(0)).contains("together"));
    let lots = |phase: &mut Phase| {
        phase.set_load(Load::Closed { in_flight: 3 });
        phase.together = Some(4);
    };
    assert!(phase_refused(lots).contains("never room"));
    assert!(refused(|plan| plan.phases[0].together = Some(2)).contains("together means nothing"));
    let echoes = |plan: &mut Plan| (plan.transport, plan.phases[1].together) = (Transport::Echo, Some(2));
    assert!(refused(echoes).contains("wait for each other"));
    assert!(phase_refused(|phase| phase.rate = None).contains("publishes nothing"));
    assert!(phase_refused(|phase| phase.seconds = None).contains("never end"));
    assert!(phase_refused(|phase| phase.seconds = Some(-1.0)).contains("seconds"));
    assert!(phase_refused(|phase| phase.warm_up_seconds = Some(10.0)).contains("nothing to measure"));
    assert!(phase_refused(|phase| phase.leaving = Some(1.0)).contains("leaving means nothing"));
    assert!(phase_refused(|phase| phase.bytes = Some(55)).contains("cannot be checked"));
    assert!(phase_refused(|phase| phase.to = Some(Audience::Own)).contains("nobody subscribes to Own"));
    assert!(phase_refused(|phase| phase.rate = Some(1e13)).contains("cannot be numbered"));
    let beside = |phase: &mut Phase| {
        phase.set_load(Load::Closed { in_flight: 1 });
        phase.also = vec![Stream { rate: Some(1.0), ..Stream::default() }];
    };
    assert!(phase_refused(beside).contains("beside others"));
    let slow = |plan: &mut Plan| {
        plan.slow = Some(Slow::new(0.5, 100));
        plan.phases[1].set_load(Load::Closed { in_flight: 1 });
    };
    assert!(refused(slow).contains("away or slow"));
    let raw = |plan: &mut Plan| {
        plan.transport = Transport::Raw;
        plan.phases[1] = Phase { rate: Some(1.0), messages: Some(1), ..Phase::new(Kind::Reconnect) };
    };
    assert!(refused(raw).contains("no cursors"));
    let often = |plan: &mut Plan| plan.phases.extend(vec![Phase::new(Kind::Reconnect); 100]);
    assert!(refused(often).contains("run out of addresses"));
}

/// A million loopback connections never put more than 12,000 on one pair of addresses, also when all of them come again.
#[test]
fn ports_do_not_run_out() {
    let connect = (1..=3).map(|last| SocketAddr::from(([127, 0, 0, last], 80))).collect();
    let plan = Plan { connect, connections: 1_000_000, ..Plan::default() };
    assert_eq!(plan.check(20_000), Ok(()));
    let mut pairs = std::collections::HashMap::new();
    for round in 0..2 {
        for index in 0..plan.connections {
            *pairs.entry(plan.route(index, round)).or_insert(0u32) += 1;
        }
    }
    assert!(pairs.values().all(|count| *count <= PORTS_PER_PAIR));
    assert!(pairs.len() <= 2 * 84, "no more pairs than needed: {}", pairs.len());
}

/// Workers' shares add up, and differ by one at most.
#[test]
fn shares_add_up() {
    let plan = Plan { connections: 10, workers: 3, ..Plan::default() };
    assert_eq!([0, 1, 2].map(|worker| plan.share_of(worker)), [4, 3, 3]);
    assert_eq!([0, 1, 2].map(|worker| plan.first_of(worker)), [0, 4, 7]);
}

/// As many read slowly as the fraction says, spread over all connections.
#[test]
fn slow_readers_are_spread() {
    let plan = Plan { slow: Some(Slow::new(0.1, 100)), ..Plan::default() };
    let slow: Vec<u32> = (0..1000).filter(|connection| plan.is_slow(*connection)).collect();
    assert_eq!((slow.len(), slow[0], slow[99]), (100, 9, 999));
    assert!(!(0..1000).any(|connection| Plan::default().is_slow(connection)));
}

/// Topics of different audiences have different names and stamps, and a name tells whose it is.
#[test]
fn topics_are_told_apart() {
    let plan = Plan { topics: 3, ..Plan::default() }.with_names();
    let audiences = [Audience::All, Audience::Group, Audience::Own];
    let topics: Vec<_> = audiences.iter().map(|audience| plan.topic_of(*audience, 7)).collect();
    assert_eq!(topics.iter().map(|topic| topic.number).collect::<Vec<_>>(), [0, 1, 7]);
    for (index, topic) in topics.iter().enumerate() {
        assert_eq!(plan.topic_named(&plan.topic_name(*topic)), Some(*topic));
        assert_eq!(Topic::of_stamp(topic.stamp()), Some(*topic));
        assert!(topics[..index].iter().all(|other| other.stamp() != topic.stamp()));
    }
    assert_eq!(plan.topic_named("news/all"), None);
}

/// A connection with several topics of a group has those with the next numbers, each in its place, and no others; what it
/// has of other audiences stands before and behind them.
#[test]
fn several_topics_of_a_group() {
    let subscribe = vec![Audience::All, Audience::Group, Audience::Own];
    let plan = Plan { topics: 5, topics_each: 3, subscribe, ..Plan::default() };
    assert_eq!((plan.check(20_000), plan.subscriptions()), (Ok(()), 5));
    let topics: Vec<_> = plan.topics_of_connection(8).map(|topic| (topic.audience, topic.number)).collect();
    let group = [3, 4, 0].map(|number| (Audience::Group, number));
    assert_eq!(topics, [&[(Audience::All, 0)], &group[..], &[(Audience::Own, 8)]].concat());
    for number in 0..8 {
        let place = [3, 4, 0].iter().position(|each| *each == number).map(|place| place as u32);
        assert_eq!(plan.place_of(Topic { audience: Audience::Group, number }, 8), place, "topic {number}");
    }
    assert_eq!(plan.place_of(Topic { audience: Audience::Own, number: 8 }, 8), Some(0));
    assert_eq!(plan.place_of(Topic { audience: Audience::Own, number: 7 }, 8), None);
    let one = Plan { topics: 5, ..Plan::default() };
    assert_eq!(one.topics_of_connection(8).collect::<Vec<_>>(), [one.topic_of(Audience::Group, 8)]);
}
