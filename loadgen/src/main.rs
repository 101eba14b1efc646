//! `corecast-load`: the load generator's command line.
//!
//! Exit status: 0 fine, 1 something was lost or failed while running, 2 wrong usage or cannot start.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
    /// Also write the report as a page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also write percentiles for HdrHistogram's plotters: FILE gets the phase and what was timed before its extension.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
}

/// Where the report goes besides the terminal.
struct Outputs {
    json: Option<String>,
    html: Option<PathBuf>,
    hgrm: Option<PathBuf>,
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
    let mut arguments = Arguments::parse();
    let (json, html, hgrm) = (arguments.json.take(), arguments.html.take(), arguments.hgrm.take());
    match run(&arguments.plan(), &mut || {}) {
        Ok(report) => match print(&report, &Outputs { json, html, hgrm }) {
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

fn print(report: &Report, outputs: &Outputs) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    // What is on the terminal is there even if a file cannot be written.
    match outputs.json.as_deref() {
        Some("-") => write!(stdout, "{}", report.to_json())?,
        _ => writeln!(stdout, "{report}")?,
    }
    if let Some(path) = outputs.json.as_deref().filter(|path| *path != "-") {
        write(path.as_ref(), &report.to_json())?;
    }
    if let Some(path) = &outputs.html {
        write(path, &report.to_html())?;
    }
    for (path, text) in outputs.hgrm.iter().flat_map(|path| report.hgrm_files(path)) {
        write(&path, &text)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
