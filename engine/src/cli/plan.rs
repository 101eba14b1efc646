//! `corecast plan`: what a number of connections and messages takes. The arithmetic is the tuning crate's.

use std::fs;
use std::path::PathBuf;

use corecast_tuning::amount;
use corecast_tuning::constants::{Constants, ConstantsFile};
use corecast_tuning::transport::Transport;
use corecast_tuning::wish::Wish;
use corecast_tuning::{Problem, plan};

use super::Outcome;

const AFTER_HELP: &str = "\
Counts grow by 1,000 (10M is ten million), sizes by 1,024 (64k is 65,536 bytes). A rate is for each connection: 20, 0.5, or
1/60, one message in 60 seconds.

What it says is an estimate from measured constants; it prints them with their sources. tuning/capacity.md says how to
read it.";

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Connections, each with one subscription, as in 250k or 10M.
    #[arg(long, value_name = "NUMBER", value_parser = amount::count)]
    connections: u64,
    /// Messages a second to each connection (poll: requests of each).
    #[arg(long, value_name = "RATE", default_value = "1/60", value_parser = amount::rate)]
    rate: f64,
    /// Bytes of a payload, as in 512 or 64k.
    #[arg(long, value_name = "SIZE", default_value = "512", value_parser = amount::size)]
    bytes: u64,
    /// websocket, websocket-line, sse, stream, multipart, forever-frame, long-poll or poll.
    #[arg(long, value_name = "TRANSPORT", default_value = "websocket", value_parser = transport)]
    transport: Transport,
    /// Topics that the connections are spread over evenly.
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = amount::count)]
    topics: u64,
    /// Silence after which a peer is pinged, as the engine's --ping-interval.
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = amount::seconds)]
    ping_interval: f64,
    /// Time until a message is acknowledged.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = amount::seconds)]
    round_trip: f64,
    /// Constants measured on a host, as `corecast-load calibrate --out FILE` writes them; default: those shipped.
    #[arg(long, value_name = "FILE")]
    constants: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

fn transport(text: &str) -> Result<Transport, String> {
    let names = Transport::ALL.map(Transport::name).join(", ");
    let found = Transport::ALL.into_iter().find(|transport| transport.name() == text);
    found.ok_or_else(|| format!("`{text}` is not a transport: expected one of {names}"))
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    say(arguments).unwrap_or_else(super::cannot)
}

fn say(arguments: &Arguments) -> Result<Outcome, Problem> {
    let (constants, origin) = constants(arguments)?;
    let wish = Wish {
        connections: arguments.connections,
        rate: arguments.rate,
        bytes: arguments.bytes,
        transport: arguments.transport,
        topics: arguments.topics,
        ping_s: arguments.ping_interval,
        round_trip_s: arguments.round_trip,
    };
    let plan = plan::plan(&wish, &constants)?;
    Ok(super::say(&match arguments.json {
        true => format!("{:#}\n", plan.json(&constants, &origin)),
        false => plan.text(&constants, &origin),
    }))
}

/// Returns the constants, and where they come from.
fn constants(arguments: &Arguments) -> Result<(Constants, String), Problem> {
    let shipped = Constants::shipped();
    let Some(path) = &arguments.constants else {
        return Ok((shipped, "those shipped, measured on 2 cores, 24 GB, Linux 6.18, loopback".to_owned()));
    };
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        Problem::new(format!("cannot read {name}: {error}"), "make it: corecast-load calibrate --out FILE")
    })?;
    let file = ConstantsFile::read(&text)
        .map_err(|problem| Problem::new(format!("{name}: {}", problem.cause), problem.cure))?;
    let origin = format!("{name}, measured on {}; what it does not have is as shipped", file.host);
    Ok((shipped.with(file.constants), origin))
}
