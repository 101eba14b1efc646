//! Every reason why a plan cannot be carried out, found before the first connection.

use super::{
    Audience, CannotStart, Gaps, Kind, Load, Phase, Plan, Publish, ROUNDS_MAX, SPARE_FILES, Stream, Topic, Transport,
};
use crate::payload::{NUMBERS_MAX, PAYLOAD_BYTES_MAX, STAMP_BYTES};

/// Most connections from one source to one destination address elsewhere: nearly all ports of the default range.
const PORTS_PER_PAIR_MAX: u32 = 28_000;

/// Most topics of a connection: the engine's default limit of subscriptions.
const TOPICS_EACH_MAX: u32 = 1024;

/// Longest time between two polls: the engine closes a connection on which nothing was asked for a minute.
const POLL_SECONDS_MAX: f64 = 50.0;

/// What is wrong, and what would help.
type Wrong = Result<(), CannotStart>;

fn wrong(cause: impl Into<String>, cure: &str) -> Wrong {
    Err(CannotStart::new(cause, cure))
}

fn positive(number: f64) -> bool {
    number.is_finite() && number > 0.0
}

impl Plan {
    /// Checks the plan against itself and against this host's limit of open files.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, file_limit: u32) -> Wrong {
        if self.connect.is_empty() {
            return wrong("there is no server to connect to", "give --connect ADDRESS:PORT");
        }
        if self.connections == 0 || self.topics == 0 || self.workers == 0 || self.publishers == 0 {
            return wrong(
                "connections, topics, publishers and workers must be at least 1",
                "give each of them a positive number",
            );
        }
        if self.connections > Topic::NUMBERS_MAX {
            return wrong(format!("{} connections are too many", self.connections), "give at most 1073741824");
        }
        if self.workers > self.connections {
            return wrong(
                format!("{} workers for {} connections", self.workers, self.connections),
                "give at most as many --workers as --connections",
            );
        }
        self.check_subscriptions()?;
        self.check_slow()?;
        match (&self.generic, self.transport == Transport::Generic) {
            (Some(generic), true) => generic.check(self.publish == Publish::Http)?,
            (None, true) => return wrong("nobody says how to talk to the server", "give --url, or a table generic"),
            (Some(_), false) => {
                return wrong("the table generic means nothing with this transport", "give transport = \"generic\"");
            }
            (None, false) => {}
        }
        if !(self.patience_seconds.is_finite() && self.patience_seconds >= 0.0) {
            return wrong("patience must be a number of seconds, 0 or more", "give --patience 5, for example");
        }
        if !(positive(self.poll_seconds) && self.poll_seconds <= POLL_SECONDS_MAX) {
            return wrong(
                format!("the server does not wait {} s for the next poll", self.poll_seconds),
                "give poll-seconds above 0, and 50 at most",
            );
        }
        if self.transport == Transport::Poll && self.poll_seconds >= self.patience_seconds {
            return wrong(
                "what is missing would be lost before the next poll asks for it",
                "give more --patience, or a shorter --poll-seconds",
            );
        }
        self.check_phases()?;
        if file_limit < SPARE_FILES * 2 {
            return wrong(format!("only {file_limit} files may be open"), "raise the limit: ulimit -n 20000");
        }
        self.check_ports()
    }

    fn check_subscriptions(&self) -> Wrong {
        if self.subscribe.is_empty() {
            return wrong("connections subscribe to nothing", "give --subscribe all, group or own");
        }
        for (index, audience) in self.subscribe.iter().enumerate() {
            if self.subscribe[..index].contains(audience) {
                return wrong(format!("{audience:?} is subscribed to twice"), "name each audience once");
            }
        }
        if !(1..=self.topics.min(TOPICS_EACH_MAX)).contains(&self.topics_each) {
            return wrong(
                format!("a connection cannot have {} of {} topics", self.topics_each, self.topics),
                "give --topics-each from 1 to the number of --topics, and 1024 at most",
            );
        }
        if self.subscriptions() > 1 && self.transport != Transport::Line {
            return wrong(
                format!("a connection of transport {:?} has one topic, not {}", self.transport, self.subscriptions()),
                "use --transport line, or give one --subscribe, and no --topics-each",
            );
        }
        if self.topics > self.connections + (self.topics_each - 1) && self.audiences().contains(&Audience::Group) {
            return wrong(
                format!(
                    "{} topics for {} connections leave topics without a subscriber",
                    self.topics, self.connections
                ),
                "give at most as many --topics as --connections",
            );
        }
        Ok(())
    }

    fn check_slow(&self) -> Wrong {
        let Some(slow) = self.slow else {
            return Ok(());
        };
        if !(positive(slow.fraction) && slow.fraction <= 1.0) {
            return wrong(format!("a fraction of {} cannot be slow", slow.fraction), "give a fraction from 0 to 1");
        }
        if slow.bytes_per_second == 0 || slow.receive_buffer == 0 {
            return wrong(
                "slow readers that never read cannot be checked",
                "give positive bytes-per-second and receive-buffer",
            );
        }
        if self.echo() {
            return wrong("echoing connections do not read slowly", "leave slow readers away");
        }
        Ok(())
    }

    fn check_phases(&self) -> Wrong {
        let Some(first) = self.phases.first() else {
            return wrong("there is no phase", "begin with a phase of kind connect");
        };
        if first.kind != Kind::Connect {
            return wrong(
                format!("the first phase is of kind {}, and nobody is connected", first.kind.name()),
                "begin with a phase of kind connect",
            );
        }
        if self.phases[1..].iter().any(|phase| phase.kind == Kind::Connect) {
            return wrong("everyone is connected already", "have one phase of kind connect, the first");
        }
        let rounds = self.phases.iter().filter(|phase| phase.kind == Kind::Reconnect).count();
        if rounds >= ROUNDS_MAX as usize {
            return wrong(format!("{rounds} times reconnecting run out of addresses"), "reconnect at most 99 times");
        }
        let mut messages = 0.0;
        for (number, phase) in self.phases.iter().enumerate() {
            self.check_phase(phase).map_err(|CannotStart { cause, cure }| CannotStart {
                cause: format!("phase {}, {}: {cause}", number + 1, phase.name()),
                cure,
            })?;
            messages += phase.streams().iter().map(|stream| messages_of(phase, stream)).sum::<f64>();
        }
        if messages > NUMBERS_MAX as f64 {
            return wrong(format!("{messages} messages cannot be numbered"), "publish less, or for a shorter time");
        }
        Ok(())
    }

    fn check_phase(&self, phase: &Phase) -> Wrong {
        check_keys(phase)?;
        if phase.ramp == Some(0) || phase.under_way == Some(0) {
            return wrong("a ramp of 0 never connects", "leave ramp away to connect as fast as possible");
        }
        if phase.seconds.is_some_and(|seconds| !(seconds.is_finite() && seconds >= 0.0)) {
            return wrong("seconds must be a number, 0 or more", "give --seconds 10, for example");
        }
        let streams = phase.streams();
        if phase.kind == Kind::Publish && streams.is_empty() {
            return wrong("it publishes nothing", "give --rate or --in-flight");
        }
        if matches!(phase.kind, Kind::Hold | Kind::Churn) && phase.seconds.is_none() {
            return wrong("it would never end", "give --seconds");
        }
        if phase.kind == Kind::Churn && !phase.leaving.is_some_and(positive) {
            return wrong("nobody leaves", "give leaving, the connections a second that leave and come");
        }
        let warm_up = phase.warm_up_seconds.unwrap_or(0.0);
        if !(warm_up.is_finite() && warm_up >= 0.0)
            || phase.seconds.is_some_and(|seconds| warm_up > 0.0 && warm_up >= seconds)
        {
            return wrong(format!("a warm-up of {warm_up} s leaves nothing to measure"), "warm up for a shorter time");
        }
        for stream in &streams {
            self.check_stream(phase, stream)?;
        }
        let closed = streams.iter().any(|stream| matches!(stream.load(), Load::Closed { .. }));
        if closed && streams.len() > 1 {
            return wrong("a closed loop cannot run beside others", "give a rate to each stream");
        }
        if closed && (phase.moves() || self.slow.is_some()) {
            return wrong(
                "a closed loop waits for everybody, and somebody is away or slow",
                "give a rate instead of in-flight",
            );
        }
        if self.echo() && (phase.kind == Kind::Churn || streams.len() > 1 || streams.iter().any(|s| s.to.is_some())) {
            return wrong("echoing connections publish to themselves only", "leave to, also and churn away");
        }
        let cursors = !matches!(self.transport, Transport::Raw | Transport::Generic | Transport::Echo);
        if phase.kind == Kind::Reconnect && !streams.is_empty() && !cursors {
            return wrong(
                format!("transport {:?} has no cursors, so what is published meanwhile is lost", self.transport),
                "publish nothing in this phase, or use another transport",
            );
        }
        Ok(())
    }

    fn check_stream(&self, phase: &Phase, stream: &Stream) -> Wrong {
        if stream.rate.is_some() && stream.in_flight.is_some() {
            return wrong("a loop is open or closed", "give --rate or --in-flight, not both");
        }
        match stream.load() {
            Load::Open { rate } if !positive(rate) => {
                return wrong(format!("{rate} messages a second cannot be scheduled"), "give a positive --rate");
            }
            Load::Closed { in_flight: 0 } => {
                return wrong("nothing in flight publishes nothing", "give --in-flight 1 or more");
            }
            Load::Closed { in_flight } if in_flight < stream.together.unwrap_or(1) => {
                return wrong(
                    "there is never room in flight for so many together",
                    "give --in-flight as many, or more",
                );
            }
            _ => {}
        }
        if stream.together == Some(0) {
            return wrong("no messages together publish nothing", "leave together away, or give 1 or more");
        }
        if self.echo() && stream.together.is_some() {
            return wrong("echoing connections do not wait for each other", "leave together away");
        }
        let bytes = self.bytes_of(stream);
        if !(STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(&bytes) {
            return wrong(
                format!("a payload of {bytes} bytes cannot be checked"),
                "give --bytes from 56 (what the check needs) to 1048576",
            );
        }
        if stream.messages.is_none() && phase.seconds.is_none() {
            return wrong("it would never end", "give --seconds or --messages");
        }
        let target = self.target(stream);
        if !self.audiences().contains(&target) {
            return wrong(
                format!("nobody subscribes to {target:?}, and messages are published to it"),
                "add it to --subscribe",
            );
        }
        Ok(())
    }

    fn all_loopback(&self) -> bool {
        self.connect.iter().all(|address| address.ip().is_loopback())
    }

    fn check_ports(&self) -> Wrong {
        let pairs = self.connect.iter().filter(|address| !address.ip().is_loopback()).count() as u64;
        let most = pairs * u64::from(PORTS_PER_PAIR_MAX);
        if !self.all_loopback() && u64::from(self.connections) > most {
            return wrong(
                format!(
                    "{} connections from one address to {pairs} server address(es) run out of ports at {most}",
                    self.connections
                ),
                "give --connect several times, with more addresses of the server",
            );
        }
        Ok(())
    }

    /// Says whether what the server said of skipped messages is a failure.
    #[must_use]
    pub fn refuses_gaps(&self) -> bool {
        self.gaps == Gaps::Refused
    }
}

/// Refuses keys that mean nothing in a phase of this kind: a plan shall not say what does not happen.
fn check_keys(phase: &Phase) -> Wrong {
    let connects = matches!(phase.kind, Kind::Connect | Kind::Reconnect);
    let publishes = matches!(phase.kind, Kind::Publish | Kind::Reconnect | Kind::Churn);
    let keys = [
        ("ramp", phase.ramp.is_some(), connects),
        ("under-way", phase.under_way.is_some(), connects),
        ("leaving", phase.leaving.is_some(), phase.kind == Kind::Churn),
        ("seconds", phase.seconds.is_some(), phase.kind != Kind::Connect),
        ("warm-up-seconds", phase.warm_up_seconds.is_some(), phase.kind == Kind::Publish),
        ("to", phase.to.is_some(), publishes),
        ("rate", phase.rate.is_some(), publishes),
        ("in-flight", phase.in_flight.is_some(), publishes),
        ("messages", phase.messages.is_some(), publishes),
        ("together", phase.together.is_some(), publishes),
        ("bytes", phase.bytes.is_some(), publishes),
        ("also", !phase.also.is_empty(), publishes),
    ];
    match keys.iter().find(|(_, said, means)| *said && !means) {
        Some((key, ..)) => {
            wrong(format!("{key} means nothing in a phase of kind {}", phase.kind.name()), "leave it away")
        }
        None => Ok(()),
    }
}

/// Returns how many messages a stream may publish at most, as far as it is known; a closed loop is as fast as it is.
fn messages_of(phase: &Phase, stream: &Stream) -> f64 {
    let scheduled = match stream.load() {
        Load::Open { rate } => phase.seconds.map_or(f64::INFINITY, |seconds| rate * seconds),
        Load::Closed { .. } | Load::Idle => 0.0,
    };
    stream.messages.map_or(scheduled, |messages| scheduled.min(messages as f64))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
