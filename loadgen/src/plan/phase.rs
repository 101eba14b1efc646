//! The phases of a plan: what happens, one after another, over the same connections.
//!
//! A phase is one flat table, whatever its kind, so that a file's mistakes are told with their place; which keys make
//! sense for which kind is for `check` to say.

use serde::{Deserialize, Serialize};

/// What a phase does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Everyone connects and subscribes.
    Connect,
    /// Connections are held, and nothing happens.
    Hold,
    /// Messages are published.
    Publish,
    /// Everyone is dropped at once, and comes back where it was.
    Reconnect,
    /// Connections leave and others come in their place.
    Churn,
}

impl Kind {
    /// Returns the word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Connect => "connect",
            Kind::Hold => "hold",
            Kind::Publish => "publish",
            Kind::Reconnect => "reconnect",
            Kind::Churn => "churn",
        }
    }
}

/// Topics that a connection subscribes to, and that messages are published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    /// One topic for everybody: a message to it is a broadcast.
    All,
    /// One of the plan's topics: connection i has number i modulo how many there are. Messages go to each in turn.
    Group,
    /// A topic of the connection's own. Messages go to a random connection.
    Own,
}

/// How messages are driven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Nothing is published.
    Idle,
    /// Messages are due by a fixed schedule, whatever happens: latency counts from when a message was due.
    Open {
        /// Messages a second (echo: over all connections).
        rate: f64,
    },
    /// The next message is sent when an earlier one has reached everyone: good for cost, blind to queues.
    Closed {
        /// Messages under way at a time (echo: per connection).
        in_flight: u32,
    },
}

/// Messages that are published in a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Stream {
    /// To whom; by default to what the plan subscribes to first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Audience>,
    /// Open loop: messages a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Closed loop: messages under way at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Ends after so many messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Messages that are due at the same moment, one after another without a pause; by default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub together: Option<u32>,
    /// Bytes of a payload, instead of the plan's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

impl Stream {
    /// Returns how it is driven; both a rate and a number in flight is refused before.
    #[must_use]
    pub fn load(&self) -> Load {
        match (self.rate, self.in_flight) {
            (_, Some(in_flight)) => Load::Closed { in_flight },
            (Some(rate), None) => Load::Open { rate },
            (None, None) => Load::Idle,
        }
    }
}

/// One phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Phase {
    /// What it is called in the report; by default its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does.
    pub kind: Kind,
    /// Most new connections a second (connect, reconnect); by default as fast as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<u32>,
    /// Connections of a worker that may be on their way at a time (connect, reconnect).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_way: Option<u32>,
    /// Connections that leave and come in a second (churn).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<f64>,
    /// How long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Messages due in the first seconds are checked, but not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_seconds: Option<f64>,
    /// To whom messages are published; by default to what the plan subscribes to first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Audience>,
    /// Open loop: messages a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Closed loop: messages under way at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Ends publishing after so many messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Messages that are due at the same moment; with in-flight, so many follow when there is room for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<u32>,
    /// Bytes of a payload, instead of the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// What else is published at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Stream>,
}

impl Phase {
    /// Makes a phase of a kind, with nothing else said.
    #[must_use]
    pub fn new(kind: Kind) -> Phase {
        Phase {
            name: None,
            kind,
            ramp: None,
            under_way: None,
            leaving: None,
            seconds: None,
            warm_up_seconds: None,
            to: None,
            rate: None,
            in_flight: None,
            messages: None,
            together: None,
            bytes: None,
            also: Vec::new(),
        }
    }

    /// Makes a phase that connects as fast as it goes.
    #[must_use]
    pub fn connect() -> Phase {
        Phase::new(Kind::Connect)
    }

    /// Makes a phase that holds connections for some seconds.
    #[must_use]
    pub fn hold(seconds: f64) -> Phase {
        Phase { seconds: Some(seconds), ..Phase::new(Kind::Hold) }
    }

    /// Makes a phase that publishes; give it an end.
    #[must_use]
    pub fn publish(load: Load) -> Phase {
        let mut phase = Phase::new(Kind::Publish);
        phase.set_load(load);
        phase
    }

    /// Changes how the messages are driven.
    pub fn set_load(&mut self, load: Load) {
        (self.rate, self.in_flight) = match load {
            Load::Idle => (None, None),
            Load::Open { rate } => (Some(rate), None),
            Load::Closed { in_flight } => (None, Some(in_flight)),
        };
    }

    /// Returns what it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.kind.name())
    }

    /// Returns everything that is published in it.
    #[must_use]
    pub fn streams(&self) -> Vec<Stream> {
        let Phase { to, rate, in_flight, messages, together, bytes, .. } = *self;
        let own = Stream { to, rate, in_flight, messages, together, bytes };
        [own].into_iter().chain(self.also.iter().copied()).filter(|stream| stream.load() != Load::Idle).collect()
    }

    /// Says whether it publishes anything.
    #[must_use]
    pub fn publishes(&self) -> bool {
        !self.streams().is_empty()
    }

    /// Says whether connections come or go in it.
    #[must_use]
    pub fn moves(&self) -> bool {
        matches!(self.kind, Kind::Connect | Kind::Reconnect | Kind::Churn)
    }
}
