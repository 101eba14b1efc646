//! The flags, and the plan that they make: a scenario's, a file's or the default one, with every flag that is given put
//! into it.

use std::net::SocketAddr;
use std::path::PathBuf;

use corecast_loadgen::calibrate::Wish;
use corecast_loadgen::{
    Audience, CannotStart, Gaps, Kind, Load, Phase, Plan, Publish, Scenario, Slow, Tls, Transport, Url,
};

/// Connects many subscribers, publishes to them, and checks that every message reaches every one of them, once, whole and
/// in order.
#[derive(Debug, clap::Parser)]
#[command(name = "corecast-load", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// A ready-made plan; without one: connect, then publish to --topics at --rate.
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// A plan of your own, a TOML file.
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    plan: Option<PathBuf>,
    /// Print the plan as TOML, with all flags in it, and do nothing.
    #[arg(long)]
    pub(crate) print_plan: bool,
    /// Server address; give it several times to spread connections over many destination addresses [default:
    /// 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS:PORT")]
    connect: Vec<SocketAddr>,
    /// Speaks TLS with the server, and believes the authorities in this PEM file, or a certificate in it. A connection costs 8 KiB then.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name that the server's certificate is for [default: localhost].
    #[arg(long, value_name = "NAME", requires = "ca")]
    tls_name: Option<String>,
    /// Subscribers (with --echo: echoing connections) [default: 1000].
    #[arg(long)]
    connections: Option<u32>,
    /// What each connection subscribes to; several with the line protocol only.
    #[arg(long, value_enum, value_delimiter = ',')]
    subscribe: Vec<Audience>,
    /// Topics of the audience `group`, spread evenly over the subscribers.
    #[arg(long)]
    topics: Option<u32>,
    /// How many of them each connection has, with the line protocol.
    #[arg(long, value_name = "N")]
    topics_each: Option<u32>,
    /// Names of topics begin with this and a slash [default: a name of this run's own].
    #[arg(long, value_name = "NAME")]
    topic_prefix: Option<String>,
    /// Subscribers that are behind get the newest message only.
    #[arg(long)]
    conflate: bool,
    /// Time from the answer to a poll to the next poll.
    #[arg(long, value_name = "SECONDS")]
    poll_seconds: Option<f64>,
    /// To whom messages are published.
    #[arg(long, value_enum)]
    to: Option<Audience>,
    /// Messages a second over all topics, on a fixed schedule; 0 only holds the connections.
    #[arg(long, value_name = "MESSAGES_PER_SECOND")]
    rate: Option<f64>,
    /// Closed loop instead of --rate: the next message when fewer than this many are under way.
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    in_flight: Option<u32>,
    /// Messages that are due at the same moment, so many at a time.
    #[arg(long, value_name = "N")]
    together: Option<u32>,
    /// Bytes of a payload, at least 56.
    #[arg(long)]
    bytes: Option<usize>,
    /// Seconds of each phase that lasts for a time.
    #[arg(long)]
    seconds: Option<f64>,
    /// Messages of each phase that publishes.
    #[arg(long)]
    messages: Option<u64>,
    /// Messages due in the first seconds are checked, but not measured.
    #[arg(long, value_name = "SECONDS")]
    warm_up: Option<f64>,
    /// New connections a second [default: as fast as possible].
    #[arg(long, value_name = "CONNECTIONS_PER_SECOND")]
    ramp: Option<u32>,
    /// Connections of a worker on their way at a time.
    #[arg(long, value_name = "N")]
    under_way: Option<u32>,
    /// Connections a second that leave, and others come (churn).
    #[arg(long, value_name = "CONNECTIONS_PER_SECOND")]
    leaving: Option<f64>,
    /// Part of the connections that reads slowly, 0 to 1.
    #[arg(long, value_name = "FRACTION")]
    slow: Option<f64>,
    /// Bytes a second that a slow connection reads.
    #[arg(long, value_name = "BYTES_PER_SECOND")]
    slow_bytes: Option<u32>,
    /// Whether the server may skip messages for somebody, if it says so.
    #[arg(long, value_enum)]
    gaps: Option<Gaps>,
    /// Worker threads.
    #[arg(long)]
    workers: Option<u32>,
    /// Cores of the workers, as 1,2,3.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// How to subscribe.
    #[arg(long, value_enum, alias = "protocol")]
    transport: Option<Transport>,
    /// How to publish.
    #[arg(long, value_enum)]
    publish: Option<Publish>,
    /// Connections that publish.
    #[arg(long)]
    publishers: Option<u32>,
    /// Echo round trips on /echo instead of topics; as --transport echo.
    #[arg(long, conflicts_with = "transport")]
    echo: bool,
    /// A message that takes longer counts as late.
    #[arg(long, value_name = "MILLISECONDS")]
    late: Option<u64>,
    /// Without any delivery for so long, what is missing is lost.
    #[arg(long, value_name = "SECONDS")]
    patience: Option<f64>,
    /// The WebSocket of a server that is not the engine, with {topic} and {id}: ws://host:port/path, or wss:// with --ca.
    #[arg(long, conflicts_with = "transport")]
    url: Option<String>,
    /// Subprotocol of that WebSocket.
    #[arg(long, requires = "url")]
    subprotocol: Option<String>,
    /// Said (>text) or waited for (<text) on it before anything else; may be given several times.
    #[arg(long, requires = "url", value_name = ">TEXT|<TEXT", allow_hyphen_values = true)]
    talk: Vec<String>,
    /// Said on it to subscribe, with {topic} and {id}.
    #[arg(long, requires = "url", value_name = "TEXT")]
    subscribe_template: Option<String>,
    /// Heard on it when the subscription stands.
    #[arg(long, requires = "url", value_name = "TEXT")]
    subscribed: Option<String>,
    /// Said on it whenever something is heard, with ^ at a message's start, with $ at its end (^PING$=>PONG); may be given several
    /// times.
    #[arg(long, requires = "url", value_name = "HEARD=>SAID")]
    answer: Vec<String>,
    /// Frames on it are binary.
    #[arg(long, requires = "url")]
    binary: bool,
    /// Where to publish to it: http://host:port/path with {topic} [default: on WebSockets as those of subscribers].
    #[arg(long, requires = "url", value_name = "URL")]
    publish_url: Option<String>,
    /// What is said or posted to publish, with {payload}, {bytes} and {topic}.
    #[arg(long, requires = "url", value_name = "TEXT")]
    publish_template: Option<String>,
    /// A header line of such a POST; may be given several times.
    #[arg(long, requires = "publish_url", value_name = "NAME: VALUE")]
    publish_header: Vec<String>,
    /// Process whose CPU time and memory to report [default: the one that listens at --connect, if it is on this host].
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Also write the report as JSON, `-` to stdout instead of the text.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<String>,
    /// Also write the report as a page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Also write percentiles for HdrHistogram's plotters: FILE gets phase and histogram before its extension.
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
}

/// What else the program does.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Measures what connections and deliveries cost on this host, for `corecast plan`. Takes some minutes.
    Calibrate(CalibrateArguments),
}

/// Flags of `calibrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct CalibrateArguments {
    /// Address of a server on this host that nobody else uses meanwhile; may be given several times.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    connect: Vec<SocketAddr>,
    /// The server's process [default: the one that listens at --connect].
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Connections of most measurements: more than the processor's caches hold.
    #[arg(long, default_value_t = 10_000)]
    connections: u32,
    /// Times that everything is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds in which the server's pings are measured, once: more than it lets pass between two; 0: not at all.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    ping_seconds: f64,
    /// Cores of the load generator, as 1,2,3.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Write the constants to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

impl CalibrateArguments {
    /// Returns what shall be measured.
    pub(crate) fn wish(&self) -> Wish {
        Wish {
            connect: self.connect.clone(),
            server_pid: self.server_pid,
            connections: self.connections,
            rounds: self.rounds,
            ping_seconds: self.ping_seconds,
            cores: self.cores.clone(),
        }
    }
}

/// Puts what was given in the place of what was there.
fn set<T: Clone>(place: &mut T, given: &Option<T>) {
    if let Some(given) = given {
        place.clone_from(given);
    }
}

impl Arguments {
    /// Makes the plan.
    ///
    /// # Errors
    /// Why its file cannot be read, or a flag has nothing to change.
    pub(crate) fn plan(&self) -> Result<Plan, CannotStart> {
        let mut plan = match (self.scenario, &self.plan) {
            (Some(scenario), _) => scenario.plan(),
            (None, Some(path)) => Plan::from_file(path)?,
            (None, None) => Plan::default(),
        };
        self.change_connections(&mut plan);
        if let Some(url) = &self.url {
            self.change_server(&mut plan, url)?;
        }
        for phase in &mut plan.phases {
            self.change_phase(phase);
        }
        if self.to.is_some() && !plan.phases.iter().any(|phase| phase.to == self.to) {
            return Err(CannotStart {
                cause: "--to has nothing to change: the plan publishes nothing".to_owned(),
                cure: "leave it away, or give a --rate".to_owned(),
            });
        }
        Ok(plan)
    }

    fn change_connections(&self, plan: &mut Plan) {
        if !self.connect.is_empty() {
            plan.connect.clone_from(&self.connect);
        }
        if let Some(ca) = &self.ca {
            let name = self.tls_name.clone().unwrap_or_else(|| "localhost".to_owned());
            plan.tls = Some(Tls { ca: ca.clone(), name });
        }
        if !self.subscribe.is_empty() {
            plan.subscribe.clone_from(&self.subscribe);
        }
        if !self.cores.is_empty() {
            plan.cores.clone_from(&self.cores);
        }
        set(&mut plan.connections, &self.connections);
        set(&mut plan.topics, &self.topics);
        set(&mut plan.topics_each, &self.topics_each);
        set(&mut plan.topic_prefix, &self.topic_prefix);
        set(&mut plan.bytes, &self.bytes);
        set(&mut plan.poll_seconds, &self.poll_seconds);
        set(&mut plan.gaps, &self.gaps);
        set(&mut plan.workers, &self.workers);
        set(&mut plan.transport, &self.transport);
        set(&mut plan.publish, &self.publish);
        set(&mut plan.publishers, &self.publishers);
        set(&mut plan.late_ms, &self.late);
        set(&mut plan.patience_seconds, &self.patience);
        plan.server_pid = self.server_pid.or(plan.server_pid);
        plan.conflate |= self.conflate;
        if self.echo {
            plan.transport = Transport::Echo;
        }
        if let (None, Some(fraction)) = (plan.slow, self.slow) {
            plan.slow = Some(Slow::new(fraction, 1_000));
        }
        if let Some(slow) = &mut plan.slow {
            set(&mut slow.fraction, &self.slow);
            set(&mut slow.bytes_per_second, &self.slow_bytes);
        }
    }

    /// Says how to talk to a server that is not the engine.
    fn change_server(&self, plan: &mut Plan, url: &str) -> Result<(), CannotStart> {
        let plan_is_tls = plan.tls.is_some();
        let Url { address, path, is_tls, .. } = Url::resolve(url)?;
        check_tls(url, is_tls, plan_is_tls)?;
        if self.connect.is_empty() {
            plan.connect = vec![address];
        }
        plan.transport = Transport::Generic;
        let generic = plan.generic.get_or_insert_default();
        generic.path = path;
        generic.talk.extend(self.talk.iter().cloned());
        generic.subprotocol = self.subprotocol.clone().or(generic.subprotocol.take());
        generic.subscribe = self.subscribe_template.clone().or(generic.subscribe.take());
        generic.subscribed = self.subscribed.clone().or(generic.subscribed.take());
        generic.binary |= self.binary;
        generic.publish_headers.extend(self.publish_header.iter().cloned());
        set(&mut generic.publish, &self.publish_template);
        for answer in &self.answer {
            let (heard, said) = answer.split_once("=>").ok_or_else(|| CannotStart {
                cause: format!("--answer {answer} does not say what is answered"),
                cure: r"give --answer 'PING=>PONG\r\n', for example".to_owned(),
            })?;
            generic.answers.push((heard.to_owned(), said.to_owned()));
        }
        if let Some(url) = &self.publish_url {
            let Url { scheme, address, path, is_tls } = Url::resolve(url)?;
            check_tls(url, is_tls, plan_is_tls)?;
            generic.publish_connect = Some(address);
            if scheme == "http" {
                plan.publish = Publish::Http;
                generic.publish_path = path;
            } else {
                plan.publish = Publish::Ws;
            }
        }
        Ok(())
    }

    fn change_phase(&self, phase: &mut Phase) {
        let connects = matches!(phase.kind, Kind::Connect | Kind::Reconnect);
        if connects {
            phase.ramp = self.ramp.or(phase.ramp);
            phase.under_way = self.under_way.or(phase.under_way);
        }
        if phase.kind == Kind::Publish && self.rate == Some(0.0) {
            let seconds = self.seconds.or(phase.seconds).unwrap_or(10.0);
            *phase = Phase { name: phase.name.take(), ..Phase::hold(seconds) };
            return;
        }
        if phase.kind == Kind::Churn {
            phase.leaving = self.leaving.or(phase.leaving);
        }
        match phase.kind {
            Kind::Hold | Kind::Churn => phase.seconds = self.seconds.or(phase.seconds),
            Kind::Publish if self.messages.is_some() => phase.seconds = self.seconds,
            Kind::Publish => phase.seconds = self.seconds.or(phase.seconds),
            Kind::Connect | Kind::Reconnect => {}
        }
        if !phase.publishes() {
            return;
        }
        phase.to = self.to.or(phase.to);
        phase.messages = self.messages.or(phase.messages);
        phase.together = self.together.or(phase.together);
        if let Some(rate) = self.rate {
            phase.set_load(Load::Open { rate });
        }
        if let Some(in_flight) = self.in_flight {
            phase.set_load(Load::Closed { in_flight });
        }
        if phase.kind == Kind::Publish {
            phase.warm_up_seconds = self.warm_up.or(phase.warm_up_seconds);
        }
    }
}

/// All connections speak TLS, or none.
fn check_tls(url: &str, url_is_tls: bool, plan_is_tls: bool) -> Result<(), CannotStart> {
    match (url_is_tls, plan_is_tls) {
        (true, false) => Err(CannotStart {
            cause: format!("nobody says whose certificate is believed at {url}"),
            cure: "give --ca FILE, and --tls-name NAME unless it is for localhost".to_owned(),
        }),
        (false, true) => Err(CannotStart {
            cause: format!("{url} is without TLS, and --ca is given"),
            cure: "give wss:// and https://, or leave --ca away".to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn plan(line: &str) -> Plan {
        let words = ["corecast-load"].into_iter().chain(line.split_whitespace());
        let plan = Arguments::try_parse_from(words).unwrap().plan().unwrap();
        assert_eq!(plan.check(20_000), Ok(()), "{line}");
        plan
    }

    /// Without a scenario the flags make a plan of two phases.
    #[test]
    fn flags_alone() {
        let plan = plan("--connections 50 --topics 5 --rate 100 --messages 9 --protocol raw --ramp 20");
        assert_eq!((plan.connections, plan.topics, plan.transport), (50, 5, Transport::Raw));
        let publish = Phase { messages: Some(9), ..Phase::publish(Load::Open { rate: 100.0 }) };
        assert_eq!(plan.phases, [Phase { ramp: Some(20), ..Phase::connect() }, publish]);
    }

    /// A rate of 0 only holds the connections, and echoing is a transport.
    #[test]
    fn holding_and_echoing() {
        assert_eq!(plan("--rate 0 --seconds 3").phases[1], Phase::hold(3.0));
        assert_eq!(plan("--echo --in-flight 2").transport, Transport::Echo);
        assert_eq!(plan("--in-flight 2").phases[1].in_flight, Some(2));
    }

    /// Flags override what a scenario says, in every phase that they mean something in.
    #[test]
    fn flags_override_scenarios() {
        let plan = plan("reconnect-storm --connections 9 --rate 7 --ramp 3 --subscribe all,own --to own");
        assert_eq!(plan.subscribe, [Audience::All, Audience::Own]);
        assert_eq!(
            plan.phases.iter().map(|phase| phase.rate).collect::<Vec<_>>(),
            [None, Some(7.0), Some(7.0), Some(7.0)]
        );
        assert_eq!(plan.phases.iter().map(|phase| phase.ramp).collect::<Vec<_>>(), [Some(3), None, Some(3), None]);
        assert!(plan.phases[1..].iter().all(|phase| phase.to == Some(Audience::Own)));
        let slow = super::tests::plan("slow-readers --slow 0.5 --slow-bytes 77").slow.unwrap();
        assert_eq!((slow.fraction, slow.bytes_per_second), (0.5, 77));
    }

    /// Another server is described by flags.
    #[test]
    fn other_servers() {
        let words = [
            "corecast-load",
            "--url=ws://127.0.0.1:9222/nats",
            "--talk=<INFO",
            r"--talk=>CONNECT {}\r\nPING\r\n",
            "--talk=<PONG",
            r"--subscribe-template=SUB {topic} {id}\r\nPING\r\n",
            "--subscribed=PONG",
            r"--answer=PING=>PONG\r\n",
            r"--publish-template=PUB {topic} {bytes}\r\n{payload}\r\n",
        ];
        let plan = Arguments::try_parse_from(words).unwrap().plan().unwrap();
        assert_eq!(plan.check(20_000), Ok(()));
        assert_eq!((plan.connect[0].port(), plan.transport, plan.publish), (9222, Transport::Generic, Publish::Ws));
        let generic = plan.generic.unwrap();
        assert_eq!((generic.path.as_str(), generic.talk.len(), generic.answers.len()), ("/nats", 3, 1));
        let words =
            ["corecast-load", "--url=ws://127.0.0.1:80/sub/{topic}", "--publish-url=http://127.0.0.1:81/pub/{topic}"];
        let plan = Arguments::try_parse_from(words).unwrap().plan().unwrap();
        assert_eq!((plan.check(20_000), plan.publish, plan.publish_address().port()), (Ok(()), Publish::Http, 81));
    }

    /// A flag that has nothing to change is refused, and so is a file beside a scenario.
    #[test]
    fn contradictions_are_refused() {
        let refused = |line: &str| {
            let words = ["corecast-load"].into_iter().chain(line.split_whitespace());
            Arguments::try_parse_from(words).map_or(true, |arguments| arguments.plan().is_err())
        };
        assert!(refused("idle --to all") && refused("idle --plan x.toml") && refused("--rate 1 --in-flight 1"));
        assert!(refused("--plan /nowhere/x.toml") && refused("party"));
        assert!(!refused("idle"));
    }
}
