//! The plan of a request that subscribes: its topics, where each starts, and how; read once from its query, then followed.
//!
//! ```text
//!   query   topic=a&topic=b%2Fc&since=0a1b2c3d-7,0a1b2c3d-9&conflate
//!   plan    [ options | start | length | a ] [ options | start | length | b/c ]      a record a topic, in their order
//! ```
//!
//! Where a pattern starts stands behind it, as it was said. A query of 16 KiB with 64 topics takes a while to read; to follow a plan, nothing of it is read again.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::http::query;
use corecast_protocol::line::Pace;
use corecast_protocol::{json, pattern, percent, places, topic};

use crate::shard::pattern::reading::wrong_wish;
use crate::shard::session::reading::{CURSORS_BYTES_MAX, PATTERNS_MAX, TOPICS_MAX};
use crate::shard::session::request::options::{Options, has_view};

/// Bytes of a record before its topic: flags (1), pace (4), kind of start (1), epoch (4), number (8), length of the topic (1).
const RECORD_HEAD: usize = 19;

/// Flags of a record.
const SAYS_CONFLATE: u8 = 1;
const CONFLATE: u8 = 2;
const SAYS_EVERY: u8 = 4;
const SEVERAL: u8 = 8;

/// The longest record.
pub(in crate::shard) const RECORD_BYTES_MAX: u32 =
    (RECORD_HEAD + topic::TOPIC_BYTES_MAX + places::TEXT_BYTES_MAX) as u32;

/// One topic of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Step<'p> {
    /// The topic, checked.
    pub(in crate::shard) topic: &'p str,
    /// Where it starts.
    pub(in crate::shard) since: Since,
    /// The same of a pattern, if the request says it.
    pub(in crate::shard) places: Option<&'p str>,
    /// Whether only the newest message matters; none if the request does not say.
    pub(in crate::shard) conflate: Option<bool>,
    /// At most one message in so many milliseconds, 0: all; none if the request does not say.
    pub(in crate::shard) every_ms: Option<u32>,
    /// It is one of several.
    pub(in crate::shard) several: bool,
    /// Bytes of its record.
    pub(in crate::shard) len: usize,
}

/// Where a request says that its topics start, and what else it asks for.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Request<'r> {
    /// Its topic, if its path names one; checked.
    pub(in crate::shard) path_topic: Option<&'r str>,
    /// Its query.
    pub(in crate::shard) query: &'r str,
    /// `Last-Event-ID`, if it has one.
    pub(in crate::shard) last_event_id: Option<&'r str>,
    /// Its options.
    pub(in crate::shard) options: Options,
}

/// Reads and checks the plan of a request; says whether it asks in the way of several topics.
pub(in crate::shard) fn read(request: &Request<'_>, out: &mut Vec<u8>) -> Result<bool, &'static str> {
    out.clear();
    let named = topics(request.query).count();
    let count = named + usize::from(request.path_topic.is_some());
    if count == 0 {
        return Err("name a topic in the path, /topics/{topic}, or in the query, ?topic=a&topic=b");
    }
    if count > TOPICS_MAX {
        return Err("too many topics; 64 fit into one request");
    }
    // Each place of the list is looked for once: they stand in the order of the topics.
    let mut room = [0; CURSORS_BYTES_MAX];
    let from = start(request, &mut room)?;
    let is_cursor = |text: &str| places::are_meant(text) || Cursor::parse(text).is_ok();
    let list = from.filter(|list| count > 1 && (list.contains(',') || is_cursor(list)));
    if list.is_some_and(|list| list.split(',').count() != count) {
        return Err("since does not have a cursor for each topic");
    }
    let mut cursors = list.map(|list| list.split(','));
    let mut patterns = 0;
    let mut put = |topic: &str, out: &mut Vec<u8>| {
        let named = cursors.as_mut().map_or(from, Iterator::next);
        let places = named.filter(|named| places::are_meant(named));
        let since = match (named, places) {
            (_, Some(places)) => places::parse(places).map(|_| Since::Live),
            (Some(named), None) => Since::parse(named),
            (None, None) => Ok(Since::default()),
        };
        let since = since.map_err(|violation| violation.text())?;
        let Options { conflate, every_ms, pace, .. } = request.options;
        // That is of the places.
        let said = Some(since).filter(|_| places.is_none());
        let whole = !has_view(request.query) && pace == Pace::default();
        if let Some(text) = wrong_wish(topic, said, places.is_some(), conflate, every_ms, whole) {
            return Err(text);
        }
        patterns += usize::from(pattern::is_pattern(topic));
        if patterns > PATTERNS_MAX {
            return Err("too many patterns; 4 fit into one request");
        }
        // One topic can be written in several ways.
        if steps(out).any(|step| step.topic == topic) {
            return Err("the same topic is named twice");
        }
        put_record(out, topic, (since, places), request.options, count);
        Ok(())
    };
    if let Some(topic) = request.path_topic {
        put(topic, out)?;
    }
    for encoded in topics(request.query) {
        let mut room = [0; topic::TOPIC_BYTES_MAX];
        let topic = percent::decode(encoded, &mut room, true).map_err(|violation| violation.text())?;
        topic::validate_readable(topic).map_err(|error| error.text())?;
        put(topic, out)?;
    }
    if let Some(callback) = query::value(request.query, "callback") {
        let mut name = [0; 64];
        if !percent::decode(callback, &mut name, true).is_ok_and(json::valid_callback) {
            return Err("a callback is 1 to 64 of A-Z a-z 0-9 _ $ . and starts with no digit or dot");
        }
    }
    // A pattern has one cursor for many topics.
    Ok(request.path_topic.is_none_or(pattern::is_pattern) || count > 1)
}

/// Returns the first topic of a plan; none if it is empty.
pub(in crate::shard) fn first(plan: &[u8]) -> Option<Step<'_>> {
    let (head, rest) = plan.split_at_checked(RECORD_HEAD)?;
    let (flags, number) = (head[0], u64::from_le_bytes(head[10..18].try_into().expect("eight bytes")));
    let four = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let since = match head[5] {
        0 => Since::Latest,
        1 => Since::Live,
        2 => Since::Earliest,
        3 => Since::Last(number as u32),
        5 => Since::Live,
        _ => Since::After(Cursor { epoch: four(6), seq: number }),
    };
    let (topic, rest) = rest.split_at(usize::from(head[18]));
    let topic = std::str::from_utf8(topic).expect("only checked topics are kept");
    let places = (head[5] == 5).then(|| std::str::from_utf8(&rest[..number as usize]).expect("places are text"));
    let len = RECORD_HEAD + topic.len() + places.map_or(0, str::len);
    let conflate = (flags & SAYS_CONFLATE != 0).then_some(flags & CONFLATE != 0);
    let every_ms = (flags & SAYS_EVERY != 0).then_some(four(1));
    Some(Step { topic, since, places, conflate, every_ms, several: flags & SEVERAL != 0, len })
}

/// Goes through the topics of a plan.
pub(in crate::shard) fn steps(plan: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let mut rest = plan;
    std::iter::from_fn(move || {
        let step = first(rest)?;
        rest = &rest[step.len..];
        Some(step)
    })
}

/// Returns the number of topics of a plan.
pub(in crate::shard) fn count(plan: &[u8]) -> usize {
    steps(plan).count()
}

fn put_record(out: &mut Vec<u8>, topic: &str, (since, places): (Since, Option<&str>), options: Options, count: usize) {
    let (kind, epoch, number) = match since {
        _ if places.is_some() => (5, 0, places.map_or(0, str::len) as u64),
        Since::Latest => (0, 0, 0),
        Since::Live => (1, 0, 0),
        Since::Earliest => (2, 0, 0),
        Since::Last(n) => (3, 0, u64::from(n)),
        Since::After(cursor) => (4, cursor.epoch, cursor.seq),
    };
    let flag = |flag: u8, on: bool| if on { flag } else { 0 };
    let conflate = flag(SAYS_CONFLATE, options.conflate.is_some()) | flag(CONFLATE, options.conflate == Some(true));
    out.push(conflate | flag(SAYS_EVERY, options.every_ms.is_some()) | flag(SEVERAL, count > 1));
    out.extend_from_slice(&options.every_ms.unwrap_or(0).to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.push(topic.len() as u8);
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(places.unwrap_or_default().as_bytes());
}

/// Returns what a request says of where its topics start. The header wins, and then the query's word for it: a browser that comes
/// back sends it, and knows nothing of the query's age.
fn start<'r>(request: &Request<'r>, room: &'r mut [u8; CURSORS_BYTES_MAX]) -> Result<Option<&'r str>, &'static str> {
    if let Some(last) = request.last_event_id.filter(|last| !last.is_empty()) {
        return Ok(Some(last));
    }
    let last = query::pairs(request.query).filter(|(name, value)| *name == "last_event_id" && !value.is_empty()).last();
    match last.map(|(_, value)| value).or_else(|| query::value(request.query, "since")) {
        Some(text) => percent::decode(text, room, true).map(Some).map_err(|violation| violation.text()),
        None => Ok(None),
    }
}

/// Goes through the topics of a query, still encoded.
fn topics(query: &str) -> impl Iterator<Item = &str> {
    query::pairs(query).filter(|(name, _)| *name == "topic").map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        query: &str,
        path_topic: Option<&str>,
        last_event_id: Option<&str>,
    ) -> Result<(bool, Vec<u8>), &'static str> {
        let mut out = vec![1, 2, 3];
        let options = Options::read(query).expect("sound options");
        let several = read(&Request { path_topic, query, last_event_id, options }, &mut out)?;
        Ok((several, out))
    }

    /// Topics come out as they were named, in their order, each with its own start.
    #[test]
    fn plans_are_read() {
        let (several, bytes) = plan("topic=a&topic=b%2Fc&since=0000000a-7,0000000b-9&every=5", None, None).unwrap();
        let cursor = |epoch, seq| Since::After(Cursor { epoch, seq });
        let found: Vec<_> = steps(&bytes).map(|step| (step.topic, step.since, step.every_ms, step.several)).collect();
        assert!(several);
        assert_eq!(found, [("a", cursor(10, 7), Some(5), true), ("b/c", cursor(11, 9), Some(5), true)]);

        for (query, path, header, since, conflate, every_ms) in [
            ("", Some("t"), None, Since::Latest, None, None),
            ("since=-3&conflate", Some("t"), None, Since::Last(3), Some(true), None),
            ("since=live", Some("t"), Some("0000000a-1"), cursor(10, 1), None, None),
            ("since=live&last_event_id=0000000a-2", Some("t"), Some(""), cursor(10, 2), None, None),
            (
                "since=earliest&last_event_id=&conflate=0&every=0",
                Some("t"),
                None,
                Since::Earliest,
                Some(false),
                Some(0),
            ),
        ] {
            let (several, bytes) = plan(query, path, header).unwrap();
            let step = first(&bytes).unwrap();
            assert!(!several && step.len == bytes.len(), "{query}");
            assert_eq!((step.topic, step.since, step.several), ("t", since, false), "{query}");
            assert_eq!((step.conflate, step.every_ms), (conflate, every_ms), "{query}");
        }
        assert!(plan("topic=t", None, None).unwrap().0, "one topic, in the way of several");
        assert_eq!(first(&[]), None);
    }

    /// What is wrong with a plan is told.
    #[test]
    fn nonsense_is_told() {
        let many = "topic=a&".repeat(65);
        for (query, path, says) in [
            ("", None, "name a topic"),
            (many.as_str(), None, "too many topics"),
            ("topic=a&topic=%61", None, "named twice"),
            ("topic=t", Some("t"), "named twice"),
            ("topic=a&topic=b&since=0000000a-7", None, "a cursor for each"),
            ("topic=a&topic=b&since=0000000a-7,0000000a-8,0000000a-9", None, "a cursor for each"),
            ("topic=a&callback=1x", None, "a callback is"),
        ] {
            let told = plan(query, path, None).unwrap_err();
            assert!(told.contains(says), "{query}: {told}");
        }
        assert!(plan("topic=a%", None, None).is_err() && plan("topic=a&since=x", None, None).is_err());
    }
}
