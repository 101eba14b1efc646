//! Options of a request, as its query says them: read and checked in one place, whatever the transport.
//!
//! Strict: a value that makes no sense is told. Options that nobody knows are passed over, and so are those that mean nothing to
//! the transport, once their value makes sense.

use corecast_protocol::http::query;
use corecast_protocol::line::{Pace, View};
use corecast_protocol::percent;
use corecast_protocol::record::FIELDS_BYTES_MAX;
use corecast_protocol::selector::SELECTOR_BYTES_MAX;

/// Longest value of an option: no number that is understood has more digits.
const VALUE_BYTES_MAX: usize = 20;

/// What a query asks for, besides its topics and where they start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Options {
    /// Whether only the newest message matters; none if it does not say.
    pub(in crate::shard) conflate: Option<bool>,
    /// At most one message in so many milliseconds, 0: all; none if it does not say.
    pub(in crate::shard) every_ms: Option<u32>,
    /// The data of a server-sent event is an object that says everything.
    pub(in crate::shard) enveloped: bool,
    /// How long a long poll waits, in seconds.
    pub(in crate::shard) wait_s: Option<u32>,
    /// How fast it wants its messages.
    pub(in crate::shard) pace: Pace,
    /// How many bytes a second its connection is sent; none if it does not say.
    pub(in crate::shard) bandwidth: Option<u32>,
}

impl Options {
    /// Reads the options of a query; says what is wrong with the first that is.
    pub(in crate::shard) fn read(query: &str) -> Result<Options, &'static str> {
        let every = number(query, "every").ok_or("every is not a number of milliseconds")?;
        let every_ms = every.map(u32::try_from).transpose();
        let enveloped = switch(query, "enveloped");
        let wait = number(query, "wait").ok_or("wait is not a number of seconds")?;
        let pace = Pace {
            batch_ms: small(query, "batch").ok_or("batch is not a number of milliseconds")?,
            rate: small(query, "rate").ok_or("rate is not a number of bytes a second")?,
            queue: small(query, "queue").ok_or("queue is not a number of messages")?,
        };
        Ok(Options {
            pace,
            bandwidth: small(query, "bandwidth").ok_or("bandwidth is not a number of bytes a second")?,
            conflate: switch(query, "conflate").ok_or("conflate is 1 (or true) or 0 (or false)")?,
            every_ms: every_ms.map_err(|_| "every is more than 4294967295 milliseconds")?,
            enveloped: enveloped.ok_or("enveloped is 1 (or true) or 0 (or false)")?.unwrap_or(false),
            // Too long is as long as may be.
            wait_s: wait.map(|wait| u32::try_from(wait).unwrap_or(u32::MAX)),
        })
    }
}

/// Room for what a query says of a view, decoded.
#[derive(Debug)]
pub(in crate::shard) struct ViewRoom {
    fields: [u8; FIELDS_BYTES_MAX],
    selector: [u8; SELECTOR_BYTES_MAX],
}

impl ViewRoom {
    /// Makes room.
    #[must_use]
    pub(in crate::shard) fn new() -> ViewRoom {
        ViewRoom { fields: [0; FIELDS_BYTES_MAX], selector: [0; SELECTOR_BYTES_MAX] }
    }

    /// Reads which view a query wants; says what is wrong with it.
    pub(in crate::shard) fn read<'r>(&'r mut self, query: &str) -> Result<View<'r>, &'static str> {
        let delta = switch(query, "delta").ok_or("delta is 1 (or true) or 0 (or false)")?.unwrap_or(false);
        let decoded = |name, room: &'r mut [u8], wrong| match query::value(query, name) {
            None => Ok(None),
            Some(value) => percent::decode(value, room, true).map(Some).map_err(|_| wrong),
        };
        let fields = decoded("fields", &mut self.fields, "fields is too long, or not percent-encoded as it should be")?;
        let selector =
            decoded("where", &mut self.selector, "where is too long, or not percent-encoded as it should be")?;
        Ok(View { fields, selector, delta })
    }
}

/// Says whether a query wants anything else than everything, whole.
pub(in crate::shard) fn has_view(query: &str) -> bool {
    ["fields", "where", "delta"].iter().any(|name| query::value(query, name).is_some())
}

/// Reads a switch, if there is one; its name alone means yes. None if the value makes no sense.
fn switch(query: &str, name: &str) -> Option<Option<bool>> {
    let Some(value) = query::value(query, name) else { return Some(None) };
    match percent::decode(value, &mut [0; VALUE_BYTES_MAX], true) {
        Ok("" | "1" | "true") => Some(Some(true)),
        Ok("0" | "false") => Some(Some(false)),
        _ => None,
    }
}

/// Reads a number below 2^32, if there is one. None if the value makes no sense, or is larger.
fn small(query: &str, name: &str) -> Option<Option<u32>> {
    number(query, name)?.map_or(Some(None), |number| u32::try_from(number).ok().map(Some))
}

/// Reads a whole number, if there is one, as large as it may be. None if the value makes no sense.
fn number(query: &str, name: &str) -> Option<Option<u64>> {
    let Some(value) = query::value(query, name) else { return Some(None) };
    let mut room = [0; VALUE_BYTES_MAX];
    let digits = percent::decode(value, &mut room, true).ok()?;
    let sound = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| Some(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every option is read, also percent-encoded; what is not there is off, and what nobody knows is passed over.
    #[test]
    fn options_are_read() {
        let none = Options::default();
        for (query, expected) in [
            ("", none),
            ("conflate", Options { conflate: Some(true), ..none }),
            ("conflate=", Options { conflate: Some(true), ..none }),
            ("conflate=1", Options { conflate: Some(true), ..none }),
            ("conflate=true", Options { conflate: Some(true), ..none }),
            ("conflate=0&every=7", Options { conflate: Some(false), every_ms: Some(7), ..none }),
            ("every=%37%30", Options { every_ms: Some(70), ..none }),
            ("every=4294967295", Options { every_ms: Some(u32::MAX), ..none }),
            ("every=0", Options { every_ms: Some(0), ..none }),
            ("enveloped=1", Options { enveloped: true, ..none }),
            ("enveloped=true&x=y", Options { enveloped: true, ..none }),
            ("enveloped=false", none),
            ("wait=0", Options { wait_s: Some(0), ..none }),
            ("bandwidth=64000", Options { bandwidth: Some(64_000), ..none }),
            (
                "batch=5&rate=%38000&queue=7",
                Options { pace: Pace { batch_ms: Some(5), rate: Some(8000), queue: Some(7) }, ..none },
            ),
            ("wait=99999999999999999999", Options { wait_s: Some(u32::MAX), ..none }),
            ("since=live&conflated=2&Every=x", none),
        ] {
            assert_eq!(Options::read(query), Ok(expected), "{query}");
        }
    }

    /// A value that makes no sense is told with the option's name.
    #[test]
    fn nonsense_is_told() {
        for query in [
            "conflate=2",
            "conflate=yes",
            "conflate=TRUE",
            "conflate=%",
            "enveloped=2",
            "enveloped=on",
            "enveloped=1%00",
            "every=",
            "every",
            "every=-1",
            "every=+1",
            "every=1.5",
            "every=1s",
            "every=4294967296",
            "every=99999999999999999999999",
            "every=%zz",
            "wait=x",
            "wait=-1",
            "wait=1e3",
            "batch=x",
            "rate=-1",
            "rate=4294967296",
            "queue=1.5",
            "bandwidth=fast",
        ] {
            let error = Options::read(query).expect_err(query);
            let name = query.split('=').next().unwrap_or_default();
            assert!(error.starts_with(name), "{query}: {error}");
        }
    }
}
