//! A report to test the outputs with: 2,000 connections in a second, then 2 messages to all of them.

use crate::plan::Plan;
use crate::report::kernel::CacheUse;
use crate::report::{Host, KernelUse, Kind, Pace, PhaseReport, Report, Row, Series, ServerUse, Times};
use crate::witness::Counts;

/// Makes times of `count` values from `from_ns` up in steps.
pub(crate) fn times(count: u64, from_ns: u64, step_ns: u64) -> Times {
    let mut times = Times::default();
    (0..count).for_each(|n| times.record(from_ns + n * step_ns));
    times
}

pub(crate) fn report() -> Report {
    let mut connect = PhaseReport::new("connect", Kind::Connect);
    connect.seconds = 1.0;
    connect.connections_after = 2_000;
    connect.connections_made = 2_000;
    connect.connect_seconds = 1.0;
    connect.connect_time = times(2_000, 100_000, 100);
    connect.series.rows = vec![Row { connections: 2_000, generator_cpu_ns: 5_000_000, ..Row::default() }];
    connect.server = Some(ServerUse {
        pid: 77,
        cpu_ns: 40_000_000,
        resident_bytes_before: Some(1_000_000),
        resident_bytes_after: Some(1_520_000),
        threads: Some(3),
    });
    let cache = |name: &str, objects_after: u64, object_bytes: u64| CacheUse {
        name: name.to_owned(),
        of_connections: true,
        objects_before: 10,
        objects_after,
        bytes_before: 10 * object_bytes,
        bytes_after: objects_after * object_bytes,
    };
    connect.kernel = Some(KernelUse {
        caches: vec![cache("TCP", 4_010, 2_500), cache("filp", 4_010, 180), cache("others", 4_010, 1_200)],
        tcp_sockets_before: 3,
        tcp_sockets_after: 4_003,
        tcp_buffer_bytes_before: 8_192,
        tcp_buffer_bytes_after: 8_192,
    });
    let mut publish = PhaseReport::new("publish", Kind::Publish);
    publish.pace = Pace::Open { messages_per_second: 1.0 };
    publish.start_seconds = 1.2;
    publish.seconds = 2.0;
    publish.connections_before = 2_000;
    publish.connections_after = 2_000;
    publish.payload_bytes = 512;
    publish.published_messages = 2;
    publish.expected_messages = 4_000;
    publish.counts = Counts { delivered: 4_000, ..Counts::default() };
    publish.received_bytes = 4_000 * 530;
    publish.reads = 4_000;
    publish.latency = times(4_000, 200_000, 1_000);
    publish.spread = times(2, 4_000_000, 10);
    publish.complete = times(2, 4_200_000, 10);
    publish.lag = times(2, 20_000, 10);
    publish.worker_cpu_shares = vec![0.25];
    let row = Row {
        published_messages: 1,
        delivered_messages: 2_000,
        connections: 2_000,
        latency_p50_ns: Some(2_000_000),
        latency_p99_ns: Some(4_000_000),
        latency_max_ns: Some(4_200_000),
        generator_cpu_ns: 5_000_000,
        server_cpu_ns: Some(3_000_000),
        server_resident_bytes: Some(1_520_000),
    };
    publish.series = Series { row_seconds: 1, rows: vec![row; 2] };
    publish.server = Some(ServerUse {
        pid: 77,
        cpu_ns: 6_000_000,
        resident_bytes_before: Some(1_520_000),
        resident_bytes_after: Some(1_520_000),
        threads: Some(3),
    });
    Report {
        plan: Plan { connections: 2_000, ..Plan::default() },
        started_unix_seconds: 1_700_000_000,
        host: Host {
            program_version: "0.1.0".to_owned(),
            kernel: "Linux version 6.18.0".to_owned(),
            cpu_model: "A & B <Processor>".to_owned(),
            cores: 2,
            memory_bytes: 24 << 30,
            open_files_max: 20_000,
            loopback_rps_cpus: "0".to_owned(),
            sysctls: [("net.core.somaxconn".to_owned(), "4096".to_owned())].into(),
        },
        phases: vec![connect, publish],
        faults: Vec::new(),
        notes: Vec::new(),
        interrupted: None,
    }
}
