//! Grants: what somebody may do, whoever said so; and the questions and verdicts that grants come from.
//!
//! ```text
//!   session ──credential──▶ shard: known? ──question──▶ authority (its own thread): keys, key sets, the hook
//!                              ▲    intern ◀──verdict──    a grant, or why not
//!                              └ every order asks it
//! ```
//!
//! Whatever a credential is (a token, an API key, a client certificate, what the hook answers, a peer of the Unix socket), it gives the
//! same: a [`Grant`]. A connection keeps the number of one. Owns: plain data. Never: a key, a shard, a thread.

mod unix;

use std::net::SocketAddr;

use corecast_protocol::pattern;

pub use unix::UnixGrants;
pub(crate) use unix::number_of;

/// Longest name of a grant, in bytes; longer ones are cut.
pub const NAME_BYTES_MAX: usize = 64;

/// Patterns of a grant in each of its two lists, at most.
pub const PATTERNS_MAX: usize = 64;

/// What somebody wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish to it, or clear it.
    Publish,
    /// Read it: subscribe, poll, fetch its value.
    Subscribe,
}

/// Patterns of topics, sound each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Box<[Box<str>]>);

impl Patterns {
    /// Makes a list of patterns.
    ///
    /// # Errors
    /// One that is none, or that there are more than [`PATTERNS_MAX`].
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Patterns, String> {
        let mut list: Vec<Box<str>> = Vec::new();
        for pattern in patterns {
            pattern::validate(pattern).map_err(|error| format!("`{pattern}`: {error}"))?;
            if list.len() == PATTERNS_MAX {
                return Err(format!("more than {PATTERNS_MAX} patterns"));
            }
            list.push(pattern.into());
        }
        Ok(Patterns(list.into()))
    }

    /// Says whether one of them matches a topic.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.0.iter().any(|pattern| pattern::matches(pattern, topic))
    }

    /// Says whether one of them matches all that a pattern matches.
    #[must_use]
    pub fn cover(&self, pattern: &str) -> bool {
        self.0.iter().any(|own| pattern::covers(own, pattern))
    }

    /// Returns them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| &**pattern)
    }

    /// Returns the bytes of memory that they hold besides themselves.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|pattern| size_of::<Box<str>>() + pattern.len()).sum()
    }
}

/// Limits of who has a grant, 1 or more; `None`: those of the configuration. Those of a subject hold for all its connections together, and
/// mean nothing in a grant that has no subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantLimits {
    /// Connections of its subject at the same time.
    pub connections: Option<u32>,
    /// Subscriptions of a connection.
    pub subscriptions: Option<u32>,
    /// Subscriptions of its subject.
    pub subscriptions_per_subject: Option<u32>,
    /// Messages published in a second by its subject, or by each connection, if it has none.
    pub publish_rate: Option<u32>,
    /// Bytes of these in a second.
    pub publish_bytes: Option<u32>,
    /// Topics made in a second by its subject, or by each connection, if it has none.
    pub topic_rate: Option<u32>,
    /// Bytes a second that each connection is sent.
    pub bandwidth: Option<u32>,
}

impl GrantLimits {
    /// Sets one by its name.
    ///
    /// # Errors
    /// There is none of that name, or 0: who may nothing is given no pattern; and whether 0 is nothing or no limit, everybody would
    /// read as he likes.
    pub fn set(&mut self, name: &str, number: u32) -> Result<(), &'static str> {
        let limit = match name {
            "connections" => &mut self.connections,
            "subscriptions" => &mut self.subscriptions,
            "subscriptions-per-subject" => &mut self.subscriptions_per_subject,
            "publish-rate" => &mut self.publish_rate,
            "publish-bytes" => &mut self.publish_bytes,
            "topic-rate" => &mut self.topic_rate,
            "bandwidth" => &mut self.bandwidth,
            // One that is misspelt would bound nothing.
            _ => {
                return Err("limits are connections, subscriptions, subscriptions-per-subject, publish-rate, \
                            publish-bytes, topic-rate and bandwidth");
            }
        };
        if number == 0 {
            return Err("a limit is 1 or more");
        }
        *limit = Some(number);
        Ok(())
    }

    /// Says whether it limits what is done in a second.
    #[must_use]
    pub fn has_rates(&self) -> bool {
        self.publish_rate.is_some() || self.publish_bytes.is_some() || self.topic_rate.is_some()
    }

    /// Says whether it has some that mean nothing without a subject.
    #[must_use]
    pub fn need_subject(&self) -> bool {
        self.connections.is_some() || self.subscriptions_per_subject.is_some()
    }
}

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is, for people: in lists and logs.
    pub name: Box<str>,
    /// Whose it is, as revocations say it: the `sub` of a token, the name of a key; empty: nobody's.
    pub subject: Box<str>,
    /// The `jti` of its token; empty: it has none.
    pub token_id: Box<str>,
    /// When it was issued, in seconds since 1970; 0: unknown. Revocations of a subject say what was issued before when.
    pub issued_s: u64,
    /// When it ends, in seconds since 1970; `u64::MAX`: never.
    pub expires_s: u64,
    /// What it may publish to.
    pub publish: Patterns,
    /// What it may read.
    pub subscribe: Patterns,
    /// It says nothing of topics, not even that there are none: where the hook is asked about single topics, the hook alone decides.
    pub unlisted: bool,
    /// Its limits.
    pub limits: GrantLimits,
}

impl Grant {
    /// Makes one that may nothing, and never ends.
    #[must_use]
    pub fn nothing(name: &str) -> Grant {
        Grant {
            name: name.into(),
            subject: Box::default(),
            token_id: Box::default(),
            issued_s: 0,
            expires_s: u64::MAX,
            publish: Patterns::default(),
            subscribe: Patterns::default(),
            unlisted: false,
            limits: GrantLimits::default(),
        }
    }

    /// Says whether its patterns give a right; of a pattern, whether one of them gives it for all that it matches.
    #[must_use]
    pub fn gives(&self, action: Action, topic: &str) -> bool {
        match action {
            Action::Subscribe if pattern::is_pattern(topic) => self.subscribe.cover(topic),
            Action::Publish => self.publish.matches(topic),
            Action::Subscribe => self.subscribe.matches(topic),
        }
    }

    /// Returns the bytes of memory that it holds, all in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let names = self.name.len() + self.subject.len() + self.token_id.len();
        size_of::<Grant>() + names + self.publish.bytes() + self.subscribe.bytes()
    }
}

/// Who may do something with the topics of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Who {
    /// Nobody, whatever a grant says.
    Nobody,
    /// Those whose grant says so.
    #[default]
    Granted,
    /// Whoever has a grant, whatever it says.
    Authenticated,
    /// Anyone.
    Anyone,
}

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A token that a peer has shown.
    Token(Box<str>),
    /// An API key that a peer has shown.
    Key(Box<str>),
    /// The certificate of a client that TLS has verified: its names, as the certificate says them.
    Certificate(Box<str>),
    /// The hook: may this peer connect, and what may it do? Only if the hook is asked for that.
    Connect(Box<Visit>),
    /// The hook: may this one do that?  Only if the hook is asked for that.
    Topic {
        /// Name of its grant.
        name: Box<str>,
        /// Subject of its grant.
        subject: Box<str>,
        /// What it wants to do.
        action: Action,
        /// With which topic.
        topic: Box<str>,
        /// Its address.
        peer: SocketAddr,
    },
}

/// What the hook is told of a peer that connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Its address.
    pub peer: SocketAddr,
    /// Method of its request.
    pub method: Box<str>,
    /// Target of its request: path and query.
    pub target: Box<str>,
    /// Its headers, those that the configuration names, as `name: value` lines.
    pub headers: Box<str>,
}

/// What a shard wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Comes back with the verdict; means nothing to anybody else.
    pub word: u64,
    /// What about.
    pub ask: Ask,
}

/// Why somebody gets no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The credential is not valid; the text says why, without saying anything of it: "the token has expired".
    Invalid(&'static str),
    /// The credential may be valid, and is not allowed that.
    Forbidden(&'static str),
    /// Nobody can say now: the hook or the key set cannot be reached, or too many ask.
    Unavailable(&'static str),
}

/// What the authority says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The question's.
    pub word: u64,
    /// A grant, or why not. To a question about a topic: a grant that gives it, which nobody uses further.
    pub said: Result<Box<Grant>, Denial>,
    /// How long the verdict holds for the same question, in milliseconds; 0: only for this one.
    pub holds_ms: u64,
}

/// What is not to be believed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// A token, by its `jti`.
    Token(Box<str>),
    /// Everything of a subject that was issued before a time, in seconds since 1970.
    Subject(Box<str>, u64),
}
