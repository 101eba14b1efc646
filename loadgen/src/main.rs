//! `corecast-load`: the load generator's command line.
//!
//! Exit status: 0 fine, 1 something was lost or failed while running, 2 wrong usage or cannot start.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser as _;
use corecast_loadgen::{CannotStart, Load, Plan, Protocol, Publish, Report, run};

/// Connects many WebSocket subscribers, publishes to them, and checks that every message reaches every one of them,
/// once, whole and in order.
#[derive(Debug, clap::Parser)]
#[command(name = "corecast-load", version)]
struct Arguments {
    /// Server address; give it several times to spread connections over many destination addresses.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    connect: Vec<SocketAddr>,
    /// Subscribers (with --echo: echoing connections).
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Topics, spread evenly over the subscribers.
    #[arg(long, default_value_t = 1)]
    topics: u32,
    /// Messages a second over all topics, on a fixed schedule; 0 only holds the connections.
    #[arg(long, value_name = "MESSAGES_PER_SECOND", default_value_t = 10.0)]
    rate: f64,
    /// Closed loop instead of --rate: the next message when fewer than this many are under way.
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    in_flight: Option<u32>,
    /// Bytes of a payload, at least 56.
    #[arg(long, default_value_t = 512)]
    bytes: usize,
    /// Seconds of publishing [default: 10, without --messages].
    #[arg(long)]
    seconds: Option<f64>,
    /// Messages to publish.
    #[arg(long)]
    messages: Option<u64>,
    /// New connections a second [default: as fast as possible].
    #[arg(long, value_name = "CONNECTIONS_PER_SECOND")]
    ramp: Option<u32>,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    workers: u32,
    /// Cores of the workers, as 1,2,3.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// How to subscribe.
    #[arg(long, value_enum, default_value_t = Protocol::Line)]
    protocol: Protocol,
    /// How to publish.
    #[arg(long, value_enum, default_value_t = Publish::Ws)]
    publish: Publish,
    /// Echo round trips on /echo instead of topics.
    #[arg(long)]
    echo: bool,
    /// A message that takes longer counts as late.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000)]
    late: u64,
    /// Without any delivery for so long, what is missing is lost.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    patience: f64,
    /// Process whose CPU time to report.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Also write the report as JSON, `-` to stdout instead of the text.
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
}

impl Arguments {
    fn plan(self) -> Plan {
        let load = match self.in_flight {
            Some(in_flight) => Load::Closed { in_flight },
            None if self.rate == 0.0 => Load::Idle,
            None => Load::Open { rate: self.rate },
        };
        Plan {
            connect: self.connect,
            connections: self.connections,
            topics: self.topics,
            load,
            messages: self.messages,
            seconds: self.seconds.or_else(|| self.messages.is_none().then_some(10.0)),
            bytes: self.bytes,
            ramp: self.ramp,
            workers: self.workers,
            cores: self.cores,
            protocol: self.protocol,
            publish: self.publish,
            echo: self.echo,
            late_ms: self.late,
            patience_s: self.patience.max(0.0),
            server_pid: self.server_pid,
            ..Plan::default()
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json.clone();
    match run(&arguments.plan(), &mut || {}) {
        Ok(report) => match print(&report, json.as_deref()) {
            Ok(()) if report.fine() => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("corecast-load: cannot write the report: {error}");
                ExitCode::FAILURE
            }
        },
        Err(CannotStart { cause, cure }) => {
            eprintln!("corecast-load: {cause}\n  cure: {cure}");
            ExitCode::from(2)
        }
    }
}

fn print(report: &Report, json: Option<&str>) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match json {
        Some("-") => return write!(stdout, "{}", report.to_json()),
        Some(path) => std::fs::write(path, report.to_json())?,
        None => {}
    }
    writeln!(stdout, "{report}")
}
