//! Patterns and topics: matching against a naive matcher, and the order of patterns against what they match.

use core::cmp::Ordering;

use super::bounded;
use crate::pattern::{self, matches, overlap, specificity, validate};
use crate::places;
use crate::topic::validate_subscribe;

/// Two patterns and a topic, a line each.
pub fn pattern(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(bounded(data)) else {
        return;
    };
    text.split('\n').for_each(round_trip);
    let mut lines = text.split('\n');
    let (a, b, topic) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    for topic in [a, b, topic] {
        if validate_subscribe(topic).is_ok() {
            assert_eq!(validate(topic), Ok(()), "every topic is a pattern");
            assert!(matches(topic, topic));
        }
    }
    if validate(a).is_err() || validate(b).is_err() {
        return;
    }
    let order = specificity(a, b);
    assert_eq!(specificity(b, a), order.reverse());
    assert_eq!(order == Ordering::Equal, a == b);
    assert_eq!(pattern::covers(a, b), covers(a, b));
    assert_eq!(overlap(a, b), overlap(b, a));
    if covers(a, b) {
        assert!(overlap(a, b), "no pattern matches nothing");
    }
    if a != b && covers(a, b) {
        assert_eq!(order, Ordering::Less, "what matches more is less specific");
    }
    if validate_subscribe(topic).is_err() {
        return;
    }
    for pattern in [a, b] {
        assert_eq!(matches(pattern, topic), naive(pattern, topic));
    }
    if matches(a, topic) && matches(b, topic) {
        assert!(overlap(a, b));
    }
    if covers(a, b) && matches(b, topic) {
        assert!(matches(a, topic));
    }
}

/// Places that are read are written as they were, but for the case of their life.
fn round_trip(text: &str) {
    let Ok((life, parts)) = places::parse(text) else { return };
    let mut out = [0; places::TEXT_BYTES_MAX];
    let written = places::write(&mut out, life, parts).expect("it was not longer");
    assert!(written.eq_ignore_ascii_case(text));
}

/// Splits off the first segment; nothing is left behind the last one.
fn first(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)))
}

/// Says whether a pattern matches a topic, as the manual says it.
fn naive(pattern: &str, topic: &str) -> bool {
    fn rest(pattern: Option<&str>, topic: Option<&str>) -> bool {
        match (pattern.map(first), topic.map(first)) {
            (None, None) => true,
            (Some(("#", None)), _) => true,
            (Some((wanted, wanted_rest)), Some((there, there_rest))) => {
                (wanted == "+" || wanted == there) && rest(wanted_rest, there_rest)
            }
            _ => false,
        }
    }
    let wild = matches!(first(pattern).0, "+" | "#");
    !(wild && topic.starts_with('$')) && rest(Some(pattern), Some(topic))
}

/// Says whether one pattern matches all that another does, as far as that can be seen segment by segment.
fn covers(all: &str, some: &str) -> bool {
    fn rest(all: Option<&str>, some: Option<&str>) -> bool {
        match (all.map(first), some.map(first)) {
            (None, None) | (Some(("#", None)), _) => true,
            (Some((_, _)), Some(("#", None))) => false,
            (Some((wide, wide_rest)), Some((narrow, narrow_rest))) => {
                (wide == "+" || wide == narrow) && rest(wide_rest, narrow_rest)
            }
            _ => false,
        }
    }
    let wild = matches!(first(all).0, "+" | "#");
    !(wild && some.starts_with('$')) && rest(Some(all), Some(some))
}
