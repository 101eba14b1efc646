//! One connection of the load generator: from the first byte of the handshake to the last message.
//!
//! Owns: where in the protocol the connection is. What its number has seen of its topics is lent to it, and stays when the
//! connection ends. Touches no socket: it is given bytes, and says what to send. There may be a million of these, so it
//! is small ([`Client`] is held below 64 bytes by a test): bytes are kept only while a frame or a message is cut in two.

mod generic;
mod http;
mod line;
mod post;
mod websocket;

use corecast_protocol::write::Writer;
use corecast_protocol::ws::decoder::{Decoder, Role};
use corecast_protocol::ws::frame::{self, Opcode};
use corecast_protocol::ws::handshake;

pub(crate) use self::generic::Talk;
use self::http::Exchange;
use crate::account::Account;
use crate::payload::{self, Stamp};
use crate::plan::{Audience, Plan, Topic, Transport};
use crate::publisher::append_frame;
use crate::sealed::Seal;
use crate::subscription::Subscription;
use crate::tally::Tally;

/// Longest answer to a handshake or a POST, in bytes.
const HEAD_BYTES_MAX: usize = 8192;

/// Bytes that the line protocol may add to a payload: command, topic, cursor.
const LINE_BYTES_MAX: usize = 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Subscriber (or echoing connection) number so-and-so.
    Subscribe(u32),
    /// Publishes over a WebSocket.
    Publish(u32),
    /// Publishes with POST.
    Post(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for the answer to the handshake.
    Upgrading,
    /// Waits for so many subscriptions to be confirmed, or for the server's greeting.
    Joining(u16),
    Ready,
}

/// What the ring does for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    Nothing,
    /// A multishot receive.
    Stream,
    /// A wait for bytes.
    Readiness,
    /// One receive, that is done in no time.
    Once,
}

/// What all connections of a worker have in common.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) plan: Plan,
    /// How connections are sealed, if they are.
    pub(crate) seal: Option<Seal>,
    /// A run's connections share one key: what it proves, that the server speaks WebSocket, it proves each time.
    pub(crate) key: [u8; 24],
    /// Echoes are answered with the next message, `0` messages ahead of it: not at all.
    pub(crate) echo_ahead: u32,
    /// Number of the first message that an echoing connection does not send in this phase.
    pub(crate) echo_numbers_max: u64,
    pub(crate) payload_bytes_max: usize,
    /// Somebody will come back: each message's cursor is kept.
    keep_cursors: bool,
    /// How to talk to a server that is not the engine.
    talk: Option<Talk>,
    /// What requests name as their host.
    host: String,
    /// Which of a connection's subscriptions is the first to an audience, by audience.
    index: [Option<u16>; 3],
}

impl Rules {
    pub(crate) fn new(plan: Plan, key: [u8; 24]) -> Rules {
        let place = |audience| {
            let at = plan.audiences().iter().position(|each| *each == audience)?;
            Some(plan.audiences()[..at].iter().map(|before| plan.topics_each_of(*before) as u16).sum())
        };
        Rules {
            index: [Audience::All, Audience::Group, Audience::Own].map(place),
            key,
            seal: None,
            echo_ahead: 0,
            echo_numbers_max: 0,
            payload_bytes_max: plan.bytes_max(),
            keep_cursors: plan.reconnects(),
            talk: plan.generic.as_ref().map(Talk::new),
            host: plan.connect[0].to_string(),
            plan,
        }
    }
}

impl Rules {
    /// Returns which subscription of connection number `own` is the one to a topic.
    #[inline]
    fn subscription_of(&self, topic: Topic, own: u32) -> Option<usize> {
        let first = usize::from(self.index[topic.audience as usize]?);
        Some(first + self.plan.place_of(topic, own)? as usize)
    }
}

/// What a connection speaks.
#[derive(Debug)]
enum Wire {
    WebSocket(Decoder),
    Http(Exchange),
}

/// Why a connection is of no more use.
pub(crate) type Fault = String;

/// Bytes of a frame or message whose rest has not come yet.
#[derive(Debug, Default)]
struct Cut {
    raw: Vec<u8>,
    message: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    wire: Wire,
    cut: Option<Box<Cut>>,
    purpose: Purpose,
    state: State,
    pub(crate) armed: Armed,
    /// Ends: what still comes is thrown away.
    pub(crate) ends: bool,
    /// Reads slowly, and is not in the latencies.
    pub(crate) slow: bool,
}

/// Where a connection writes what it has to say and what it has seen.
#[derive(Debug)]
pub(crate) struct Ears<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) account: &'a mut Account,
    pub(crate) tally: &'a Tally,
    /// The connection's subscriptions, in the order of the plan's audiences; none if it publishes.
    pub(crate) subscriptions: &'a mut [Subscription],
    /// Bytes to send, appended.
    pub(crate) say: &'a mut Vec<u8>,
    /// When the bytes were there.
    pub(crate) now_ns: u64,
    /// Messages sent by echoing connections, in reply.
    pub(crate) echoes_sent: &'a mut u64,
}

impl Client {
    pub(crate) fn new(purpose: Purpose, transport: Transport, slow: bool) -> Client {
        let http = match purpose {
            Purpose::Subscribe(_) => matches!(transport, Transport::Sse | Transport::LongPoll | Transport::Poll),
            Purpose::Publish(_) => false,
            Purpose::Post(_) => true,
        };
        Client {
            wire: if http { Wire::Http(Exchange::new()) } else { Wire::WebSocket(Decoder::new(Role::Client)) },
            cut: None,
            purpose,
            state: if matches!(purpose, Purpose::Post(_)) { State::Ready } else { State::Upgrading },
            armed: Armed::Nothing,
            ends: false,
            slow,
        }
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub(crate) fn ready(&self) -> bool {
        self.state == State::Ready && !self.ends
    }

    /// Appends the first bytes that this connection sends.
    pub(crate) fn greet(&mut self, rules: &Rules, host: &str, subscriptions: &[Subscription], say: &mut Vec<u8>) {
        let plan = &rules.plan;
        let subscribed = plan.subscribe[0];
        let (target, subprotocol) = match (self.purpose, plan.transport) {
            (Purpose::Post(_), _) => return,
            (Purpose::Publish(_) | Purpose::Subscribe(_), Transport::Generic) => {
                let Some(talk) = &rules.talk else {
                    return;
                };
                let topic = match self.purpose {
                    Purpose::Subscribe(own) => plan.topic_name(plan.topic_of(subscribed, own)),
                    _ => String::new(),
                };
                (self.generic_path(&topic, talk), talk.subprotocol.as_deref())
            }
            (Purpose::Subscribe(_), Transport::Echo) => ("/echo".to_owned(), None),
            (Purpose::Subscribe(own), Transport::Raw) => {
                let topic = plan.topic_name(plan.topic_of(subscribed, own));
                let conflate = if plan.conflate { "&conflate" } else { "" };
                (format!("/topics/{topic}?since=live{conflate}"), None)
            }
            (Purpose::Publish(_), _) | (Purpose::Subscribe(_), Transport::Line) => {
                ("/ws".to_owned(), Some(handshake::CORECAST_V1))
            }
            (Purpose::Subscribe(_), Transport::Sse | Transport::LongPoll | Transport::Poll) => {
                return self.ask(rules, &subscriptions[0], say);
            }
        };
        write_head(say, |writer| handshake::client_request(writer, host, &target, &rules.key, subprotocol));
    }

    /// Takes bytes of the server's.
    ///
    /// # Errors
    /// What the server did that makes this connection useless.
    pub(crate) fn hear(&mut self, bytes: &mut [u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        let mut raw = self.cut.as_mut().map(|cut| std::mem::take(&mut cut.raw)).unwrap_or_default();
        if raw.is_empty() {
            let used = self.take(bytes, ears)?;
            raw.extend_from_slice(&bytes[used..]);
        } else {
            raw.extend_from_slice(bytes);
            let used = self.take(&mut raw, ears)?;
            raw.drain(..used);
        }
        if !raw.is_empty() {
            self.cut.get_or_insert_default().raw = raw;
        }
        self.cut.take_if(|cut| cut.raw.is_empty() && cut.message.is_empty());
        Ok(())
    }

    /// Takes as many bytes as make sense by themselves, and returns how many.
    fn take(&mut self, bytes: &mut [u8], ears: &mut Ears<'_>) -> Result<usize, Fault> {
        match (self.purpose, &self.wire) {
            (Purpose::Post(_), _) => post::take(bytes, ears),
            (_, Wire::WebSocket(_)) => self.take_frames(bytes, ears),
            (_, Wire::Http(_)) => self.take_http(bytes, ears),
        }
    }

    /// Begins a subscription, unless it goes on where it was: from now on it may miss nothing.
    fn subscribed(&self, index: usize, ears: &mut Ears<'_>) {
        let Purpose::Subscribe(own) = self.purpose else {
            return;
        };
        if ears.subscriptions[index].begun() {
            return;
        }
        let topic =
            ears.rules.plan.topics_of_connection(own).nth(index).expect("there is a topic for each subscription");
        ears.subscriptions[index] = Subscription::fresh(ears.tally.published(topic));
    }

    /// Takes a payload; returns which subscription it belongs to, if it is what it should be.
    #[inline]
    fn delivery(&mut self, payload: &[u8], ears: &mut Ears<'_>) -> Option<usize> {
        let Purpose::Subscribe(own) = self.purpose else {
            return None;
        };
        let mine = payload::read(payload).and_then(|stamp| Some((stamp, topic_of(stamp, own, ears.rules)?)));
        let Some((stamp, (topic, index))) = mine else {
            ears.account.counts.corrupted += 1;
            return None;
        };
        if ears.subscriptions[index].seen.note(stamp.number, &mut ears.account.counts) {
            if !self.slow {
                ears.account.delivered(topic, stamp, ears.now_ns);
            }
            let next = stamp.number + u64::from(ears.rules.echo_ahead);
            if ears.rules.echo_ahead > 0 && next < ears.rules.echo_numbers_max {
                ears.tally.next(topic);
                let stamp = Stamp { number: next, scheduled_ns: ears.now_ns, ..stamp };
                append_frame(ears.say, Opcode::Text, b"", stamp, payload.len(), b"");
                *ears.echoes_sent += 1;
            }
        }
        Some(index)
    }
}

/// Returns which topic of connection number `own` a stamp names, and which of its subscriptions that is.
#[inline]
fn topic_of(stamp: Stamp, own: u32, rules: &Rules) -> Option<(Topic, usize)> {
    let topic = Topic::of_stamp(stamp.topic)?;
    Some((topic, rules.subscription_of(topic, own)?))
}

fn write_head(say: &mut Vec<u8>, write: impl FnOnce(&mut Writer<'_>)) {
    let mut out = [0; HEAD_BYTES_MAX];
    let mut writer = Writer::new(&mut out);
    write(&mut writer);
    let len = writer.finish().expect("target and host are far shorter than the longest head");
    say.extend_from_slice(&out[..len]);
}

/// Appends a short frame. Its mask may be zero: the server cannot tell, and no cache is to be protected on the way.
fn append_control(opcode: Opcode, data: &[u8], say: &mut Vec<u8>) {
    let mut out = [0; frame::HEADER_BYTES_MAX];
    let len = frame::write_header(&mut out, true, false, opcode, data.len(), Some([0; 4]));
    say.extend_from_slice(&out[..len]);
    say.extend_from_slice(data);
}

#[cfg(test)]
mod tests;
