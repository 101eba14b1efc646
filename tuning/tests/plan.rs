//! Plans against sums made by hand, and plans that cannot be.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use corecast_tuning::constants::Constants;
use corecast_tuning::plan::{Plan, plan};
use corecast_tuning::transport::Transport;
use corecast_tuning::wish::Wish;

fn made(wish: &Wish) -> Plan {
    plan(wish, &Constants::shipped()).unwrap()
}

/// Says whether two numbers are the same up to a thousandth.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= b.abs() / 1_000.0
}

/// Ten million connections with a message of 512 bytes a minute each, as by hand.
#[test]
fn ten_million() {
    let plan = made(&Wish { connections: 10_000_000, ..Wish::default() });
    // 10,000,000 / 60 x 8.4 µs; two pings fit between two messages: 10,000,000 x 2 / 60 x 14.3 µs.
    assert!(near(plan.work[0].cores(), 1.4) && near(plan.work[1].cores(), 4.766_667), "{:?}", plan.work);
    // 6.167 busy at 60 % are 10.28 cores. 11,000,000 / 1,048,576 are 10.49 tables.
    assert_eq!((plan.cores, plan.shards, plan.slots_per_shard), (11, 11, 1_000_000));
    // 10,000,000 x 8.4 µs / 11 cores, and x 62 µs.
    assert!(near(plan.walk_s, 7.636_364) && near(plan.connect_s, 56.363_636));
    // 2.06 GB, 400 B, 11 x 4 MiB, 11 x 8 MiB, 121 x 256 KiB.
    assert_eq!(plan.user_bytes(), 2_060_000_000 + 400 + 46_137_344 + 92_274_688 + 31_719_424);
    // In flight: 11 cores / 8.4 µs x 0.1 s = 130,952.4 messages of 516 + 1,024 B: a page each.
    assert_eq!(plan.pages, 130_953);
    assert_eq!(plan.kernel_bytes(), 39_360_000_000 + 8 * 4_194_304 + 130_953 * 4_096);
    // Down: 166,667 x (516 + 90) + 333,333 x (2 + 90 + 90) B. Up: 166,667 x 90 + 333,333 x (6 + 90) B.
    assert!(near(plan.network.bytes_down, 161_666_667.0) && near(plan.network.bytes_up, 47_000_000.0));
    assert!(near(plan.network.packets_down, 833_333.0) && near(plan.network.packets_up, 500_000.0));
    assert_eq!((plan.port_gbit, plan.files(), plan.locked_bytes()), (10, 1_000_000, 23 << 20));
    assert_eq!(plan.quiet_ping_s(), Some(61.0));
    let quiet = made(&Wish { ping_s: 61.0, ..plan.wish.clone() });
    assert!(near(quiet.busy(), 1.4) && quiet.quiet_ping_s().is_none(), "{:?}", quiet.work);
}

/// Many topics with a few readers each: publishing and crossing are counted, and so are histories.
#[test]
fn many_topics() {
    let wish = Wish { connections: 100_000, rate: 10.0, bytes: 1_536, topics: 10_000, ..Wish::default() };
    let plan = made(&wish);
    // 8.4 µs and one more KiB at 0.56 µs: 1,000,000 a second are 8.96 cores; no time for pings between messages.
    assert!(near(plan.work[0].cores(), 8.96) && plan.work[1].per_second == 0.0, "{:?}", plan.work);
    // 100,000 published: 2.71 µs and 1.9 µs for the home and each of 9 other shards: 10 readers are on at most 10.
    let publishing = plan.work.last().unwrap();
    assert!(near(publishing.cpu_ns, 2_710.0 + 10.0 * 1_900.0), "{publishing:?}");
    // 11.131 busy are 18.55 cores.
    assert_eq!((plan.cores, plan.shards), (19, 19));
    // 42 records of 1,546 B would be 64,932; the 64 that are kept are cut at 64 KiB: 65,536 B a topic, twice.
    let messages = plan.user.iter().find(|part| part.what.starts_with("messages")).unwrap();
    assert_eq!(messages.bytes, 2 * 10_000 * 65_536);
    assert!(near(plan.walk_s, 10.0 * 8.96e-6 / 19.0));
    // Two segments each way of 1,448 B: 1,540 + 2 x 90 down, one acknowledgement up.
    assert!(near(plan.network.bytes_down, 1_720e6) && near(plan.network.packets_down, 2e6));
    assert!(near(plan.network.packets_up, 1e6));
    // 13.8 Gbit/s: too much for 70 % of 10.
    assert_eq!(plan.port_gbit, 25);
}

/// Each transport pays its own way: streams their heartbeats and returns, long polls their requests, polls nothing idle.
#[test]
fn transports() {
    let of = |transport| made(&Wish { rate: 0.0, transport, ..Wish::default() });
    let names =
        |plan: &Plan| plan.work.iter().map(|work| (work.what, work.per_second.round() as u64)).collect::<Vec<_>>();
    let publishing = ("publishing, and crossing to other shards", 0);
    let nothing = ("deliveries", 0);
    assert_eq!(names(&of(Transport::Websocket)), [nothing, ("pings and their answers", 40_000), publishing]);
    let streams = [nothing, ("heartbeats", 40_000), ("streams that end and come back", 556), publishing];
    assert_eq!(names(&of(Transport::Sse)), streams);
    assert_eq!(names(&of(Transport::LongPoll)), [nothing, ("empty answers", 40_000), publishing]);
    assert_eq!(names(&of(Transport::Poll)), [nothing, publishing]);
    let polls = of(Transport::LongPoll);
    assert!(near(polls.work[1].cpu_ns, 8_400.0 * Transport::LongPoll.cost()));
    assert_eq!(polls.user[0].bytes, 985_000_000);
    // A stream that gets 16 MiB a second is long after 4 s, long before it is old.
    let long =
        Wish { rate: 1.0, bytes: (16 << 20) - 53, connections: 100, transport: Transport::Stream, ..Wish::default() };
    assert!(near(made(&long).work[2].per_second, 25.0));
    // Heartbeats come whatever flows; pings do not.
    let busy = |transport| made(&Wish { rate: 1.0, connections: 10_000, transport, ..Wish::default() });
    assert_eq!(busy(Transport::Sse).work[1].per_second, 400.0);
    assert_eq!(busy(Transport::Websocket).work[1].per_second, 0.0);
}

/// One connection is planned as well as many: at least a core, a shard, and the files the process itself needs.
#[test]
fn one_connection() {
    let plan = made(&Wish { connections: 1, bytes: 0, round_trip_s: 0.0, ..Wish::default() });
    assert_eq!((plan.cores, plan.shards, plan.files(), plan.port_gbit), (1, 1, 80, 1));
    let text = plan.text(&Constants::shipped(), "shipped");
    assert!(text.contains("1 connection over websocket") && text.contains("constants: shipped"), "{text}");
}

/// What no single engine can do is told with what it would take, and what to do instead.
#[test]
fn impossible_plans() {
    let wish = Wish::default();
    for (wish, expected, cure) in [
        (
            Wish { connections: 1_000_000_000, ..wish.clone() },
            "1,000,000,000 connections need 1,050 shards",
            "several boxes",
        ),
        (Wish { connections: u64::MAX, ..wish.clone() }, "18,446,744,073,709,551,615 connections", "several boxes"),
        (Wish { rate: 1_000.0, ..wish.clone() }, "cores", "boxes or more"),
        (Wish { rate: 1.0, bytes: 16 << 20, connections: 5_000, ..wish.clone() }, "Gbit/s", "smaller messages"),
        (Wish { connections: 0, ..wish.clone() }, "no connections", "--connections"),
    ] {
        let problem = plan(&wish, &Constants::shipped()).expect_err(expected);
        assert!(problem.cause.contains(expected), "{expected}: {problem}");
        assert!(problem.cure.contains(cure), "{cure}: {problem}");
    }
}

/// The largest wish that is refused by no single rule ends in a plan or a problem, never in a panic.
#[test]
fn no_wish_panics() {
    for connections in [1, 7, 1_048_576, 100_000_000, 244_000_000] {
        for rate in [0.0, 1e-12, 1.0 / 60.0, 1.0, 100_000.0] {
            for bytes in [0, 125, 65_536, 16 << 20] {
                for transport in Transport::ALL {
                    for topics in [1, connections] {
                        let wish = Wish { connections, rate, bytes, transport, topics, ..Wish::default() };
                        match plan(&wish, &Constants::shipped()) {
                            Ok(plan) => {
                                assert!(plan.cores >= 1 && plan.shards >= plan.cores && plan.shards <= 256);
                                assert!(!plan.text(&Constants::shipped(), "").is_empty());
                                assert!(plan.json(&Constants::shipped(), "")["cores"].is_u64());
                            }
                            Err(problem) => assert!(!problem.cure.is_empty()),
                        }
                    }
                }
            }
        }
    }
}
