//! A key set at a URL: when it is fetched, and what holds meanwhile.
//!
//! Owns: the keys of the last answer, and the times. Touches: neither the network nor a clock; who has both tells it. Rules, each of which
//! somebody had to learn: it is fetched again when the answer's time is over, and when a token names a key that is not in it; but not
//! more often than each [`COOL_DOWN`], whatever tokens say; a name that was not there after a fetch is not looked for again for a while;
//! while the endpoint is down, the keys go on, and that is told once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::settings::without_query;
use super::token::Key;

/// Least time between two fetches that tokens ask for, or after one that failed.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(10);
/// Longest time between two tries while the endpoint is down.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a set holds at least and at most, whatever its answer says.
const HOLDS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));
/// How long it holds if its answer says nothing.
const HOLDS_DEFAULT: Duration = Duration::from_secs(3600);
/// How long a name of a key that was not in the set is remembered.
const UNKNOWN: Duration = Duration::from_secs(60);
/// Names that are remembered so.
const UNKNOWN_MAX: usize = 1024;

/// A key set at a URL.
#[derive(Debug)]
pub(super) struct Remote {
    /// Where.
    pub(super) url: String,
    /// What it had.
    pub(super) keys: Vec<Key>,
    /// It was fetched at least once.
    is_known: bool,
    is_fetching: bool,
    is_down: bool,
    failures: u32,
    /// When it is to be fetched again.
    next: Instant,
    /// When it was fetched last, or tried to.
    last: Option<Instant>,
    /// Names that were not in it, and until when nobody looks again.
    unknown: HashMap<Box<str>, Instant>,
}

/// What a token that no key has signed asks of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// It waits for a fetch.
    Fetch,
    /// Its key may be there, and cannot be looked for now; why.
    Later(&'static str),
    /// Its key is not there.
    Nothing,
}

impl Remote {
    /// Makes one that is to be fetched at once.
    #[must_use]
    pub(super) fn new(url: String, now: Instant) -> Remote {
        Remote {
            url,
            keys: Vec::new(),
            is_known: false,
            is_fetching: false,
            is_down: false,
            failures: 0,
            next: now,
            last: None,
            unknown: HashMap::new(),
        }
    }

    /// Returns when it is to be fetched; never while it is.
    #[must_use]
    pub(super) fn due_at(&self) -> Option<Instant> {
        (!self.is_fetching).then_some(self.next)
    }

    /// Says whether it is being fetched.
    #[must_use]
    pub(super) fn is_fetching(&self) -> bool {
        self.is_fetching
    }

    /// Notes that it is to be fetched again soon, and that nobody waits for an answer.
    pub(super) fn refetch(&mut self, now: Instant) {
        self.is_fetching = false;
        self.next = self.last.map_or(now, |last| last + COOL_DOWN);
    }

    /// Notes that it is being fetched.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.is_fetching, self.last) = (true, Some(now));
    }

    /// Says what becomes of a token with a key of this name that is not in the set; `last`: it waited for a fetch already.
    pub(super) fn want(&mut self, kid: Option<&str>, now: Instant, last: bool) -> Want {
        let may_fetch = self.last.is_none_or(|last| now >= last + COOL_DOWN);
        if !self.is_known {
            let why = "the keys that verify tokens cannot be fetched";
            return if last || !(self.is_fetching || may_fetch) { Want::Later(why) } else { self.ask(now) };
        }
        let Some(kid) = kid else { return Want::Nothing };
        if self.unknown.get(kid).is_some_and(|until| now < *until) {
            return Want::Nothing;
        }
        match () {
            // If it is down, nobody knows whether the key is new.
            () if last && self.is_down => Want::Later("the keys that verify tokens cannot be fetched"),
            () if last => {
                self.remember(kid, now);
                Want::Nothing
            }
            () if self.is_fetching || may_fetch => self.ask(now),
            () => Want::Later("the token's key is not known here yet; come back in some seconds"),
        }
    }

    fn ask(&mut self, now: Instant) -> Want {
        if !self.is_fetching {
            self.next = now;
        }
        Want::Fetch
    }

    fn remember(&mut self, kid: &str, now: Instant) {
        if self.unknown.len() >= UNKNOWN_MAX {
            self.unknown.retain(|_, until| now < *until);
        }
        // With too many, the time between two fetches is bound enough.
        if self.unknown.len() < UNKNOWN_MAX {
            self.unknown.insert(kid.into(), now + UNKNOWN);
        }
    }

    /// Takes what a fetch brought: the bytes of a set, and the Cache-Control of its answer; or why there are none.
    pub(super) fn end(&mut self, fetched: Result<(Vec<u8>, Option<String>), String>, now: Instant) {
        self.is_fetching = false;
        let read = fetched.and_then(|(bytes, cache)| {
            // What everybody can fetch is no secret.
            let (keys, left_out) = Key::from_set(&bytes, false)?;
            Ok((keys, left_out, holds(cache.as_deref())))
        });
        match read {
            Ok((keys, left_out, holds)) => {
                if self.is_down || !self.is_known {
                    tracing::info!(
                        url = without_query(&self.url),
                        keys = keys.len(),
                        left_out,
                        "the key set was fetched"
                    );
                }
                (self.keys, self.is_known, self.is_down, self.failures) = (keys, true, false, 0);
                self.next = now + holds;
                let keys = &self.keys;
                self.unknown.retain(|kid, until| now < *until && keys.iter().all(|key| key.kid() != Some(kid)));
            }
            Err(cause) => {
                if !self.is_down {
                    let goes_on =
                        if self.is_known { "the keys that are known go on" } else { "no token of it can be verified" };
                    tracing::warn!(url = without_query(&self.url), cause, "the key set cannot be fetched; {goes_on}");
                }
                self.is_down = true;
                self.next = now + COOL_DOWN.saturating_mul(1 << self.failures.min(3)).min(RETRY_MAX);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }
}

/// Returns how long an answer holds (RFC 9111, section 5.2.2), within bounds: a set that changes each second would be fetched by each
/// token, and one that never does could not be withdrawn.
fn holds(cache_control: Option<&str>) -> Duration {
    let Some(text) = cache_control else { return HOLDS_DEFAULT };
    let mut holds = HOLDS_DEFAULT;
    for directive in text.split(',').map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("max-age") {
            holds = value.trim_matches('"').parse().map_or(HOLDS.0, Duration::from_secs);
        } else if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return HOLDS.0;
        }
    }
    holds.clamp(HOLDS.0, HOLDS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(kid: &str) -> Result<(Vec<u8>, Option<String>), String> {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037, appendix A.2.
        let key = format!("{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"{kid}\",\"x\":\"{x}\"}}]}}");
        Ok((key.into_bytes(), Some("max-age=600".to_owned())))
    }

    fn down() -> Result<(Vec<u8>, Option<String>), String> {
        Err("refused".to_owned())
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Does what the thread does: fetches when it is due, and counts.
    fn fetch(remote: &mut Remote, now: Instant, answer: Result<(Vec<u8>, Option<String>), String>) -> usize {
        if remote.due_at().is_none_or(|due| now < due) {
            return 0;
        }
        remote.begin(now);
        assert_eq!(remote.due_at(), None);
        remote.end(answer, now);
        1
    }

    /// Tokens wait for the first fetch; afterwards names that are not there are answered without one.
    #[test]
    fn the_first_fetch() {
        let now = Instant::now();
        let mut remote = Remote::new("https://a".to_owned(), now);
        assert_eq!(remote.want(Some("a"), now, false), Want::Fetch);
        remote.begin(now);
        assert_eq!(remote.want(None, now, false), Want::Fetch);
        remote.end(set("a"), now);
        assert_eq!(remote.keys[0].kid(), Some("a"));
        assert_eq!(remote.want(None, now, true), Want::Nothing);
        assert_eq!(remote.want(Some("b"), now, true), Want::Nothing);
        assert_eq!(remote.want(Some("b"), now + 30 * SECOND, false), Want::Nothing, "it is remembered");
        assert_eq!(remote.want(Some("b"), now + 61 * SECOND, false), Want::Fetch, "but not for ever");
    }

    /// Tokens that each name another key cause one fetch each ten seconds, and what is remembered of them is bounded.
    #[test]
    fn a_flood_of_names() {
        let start = Instant::now();
        let mut remote = Remote::new("https://a".to_owned(), start);
        let mut fetches = fetch(&mut remote, start, set("a"));
        for number in 0..60_000_u64 {
            let now = start + Duration::from_millis(number);
            let kid = format!("random-{number}");
            if remote.want(Some(&kid), now, false) == Want::Fetch {
                fetches += fetch(&mut remote, now, set("a"));
                assert_eq!(remote.want(Some(&kid), now, true), Want::Nothing);
            }
        }
        assert_eq!(fetches, 6);
        for number in 0..5_000 {
            remote.want(Some(&number.to_string()), start, true);
        }
        assert!(remote.unknown.len() <= UNKNOWN_MAX);
    }

    /// A new key is found as soon as the cool-down allows; who came earlier is told to come back, not that his token is bad.
    #[test]
    fn keys_are_rotated() {
        let start = Instant::now();
        let mut remote = Remote::new("https://a".to_owned(), start);
        fetch(&mut remote, start, set("old"));
        assert!(matches!(remote.want(Some("new"), start + SECOND, false), Want::Later(_)));
        let now = start + COOL_DOWN;
        assert_eq!(remote.want(Some("new"), now, false), Want::Fetch);
        assert_eq!(fetch(&mut remote, now, set("new")), 1);
        assert_eq!(remote.keys[0].kid(), Some("new"));
    }

    /// While the endpoint is down the keys go on, it is asked again now and then, and comes back.
    #[test]
    fn down_and_back() {
        let start = Instant::now();
        let mut remote = Remote::new("https://a".to_owned(), start);
        fetch(&mut remote, start, down());
        assert!(matches!(remote.want(None, start, false), Want::Later(_)), "nothing is known");
        assert_eq!(remote.due_at(), Some(start + COOL_DOWN));
        fetch(&mut remote, start + COOL_DOWN, set("a"));
        let mut now = start + COOL_DOWN + 600 * SECOND;
        assert_eq!(remote.due_at(), Some(now), "max-age");
        for wait in [10, 20, 40, 60, 60] {
            assert_eq!(fetch(&mut remote, now, down()), 1);
            assert!(remote.keys.len() == 1 && remote.is_down);
            assert!(matches!(remote.want(Some("b"), now, true), Want::Later(_)), "it may be new");
            now += wait * SECOND;
            assert_eq!(remote.due_at(), Some(now));
        }
        assert_eq!(fetch(&mut remote, now, set("b")), 1);
        assert!(!remote.is_down && remote.keys[0].kid() == Some("b"));
        assert_eq!(fetch(&mut remote, now + 600 * SECOND, Ok((b"<html>".to_vec(), None))), 1);
        assert!(remote.is_down && remote.keys[0].kid() == Some("b"), "garbage is no set");
    }

    /// How long an answer holds is what it says, within bounds.
    #[test]
    fn answers_hold_for_a_while() {
        for (text, seconds) in [
            (None, 3600),
            (Some("public"), 3600),
            (Some("public, max-age=900"), 900),
            (Some("Max-Age=1"), 60),
            (Some("max-age=99999999"), 86_400),
            (Some("max-age=soon"), 60),
            (Some("max-age=900, no-store"), 60),
        ] {
            assert_eq!(holds(text), Duration::from_secs(seconds), "{text:?}");
        }
    }
}
