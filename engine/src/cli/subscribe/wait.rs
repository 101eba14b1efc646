//! How long to wait before the next attempt.

use corecast::shard::COME_BACK;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Shortest and longest wait of our own choice.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// Longest wait that a server may ask for; who is told to come back next year rather comes once more in an hour.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Returns how long to wait before attempt number `attempts` after the first: twice as long each time, up to a limit,
/// and a random half of it less, so that clients that lost one engine do not all come back at once.
pub(super) fn backoff(attempts: u32, random: u64) -> Duration {
    let (least, most) = BACKOFF;
    let whole = least.saturating_mul(1 << attempts.min(16)).min(most);
    whole / 2 + (whole / 2).mul_f64(random as f64 / u64::MAX as f64)
}

/// Reads when to come back from the end of a text of the engine's: `; try again in 7s`.
pub(super) fn in_words(text: &str) -> Option<Duration> {
    let (_, after) = text.rsplit_once(COME_BACK)?;
    after.strip_suffix('s').and_then(seconds)
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| bounded(Duration::from_secs(text.parse().unwrap_or(u64::MAX))))
}

/// Nobody is made to wait for ever.
pub(super) fn bounded(wait: Duration) -> Duration {
    wait.min(RETRY_AFTER_MAX)
}

/// Reads the value of Retry-After (RFC 9110 section 10.2.3), seconds or a date; `None` if it is neither.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let until = |date: Duration| bounded((UNIX_EPOCH + date).duration_since(now).unwrap_or_default());
    seconds(value).or_else(|| date(value).map(until))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` as the time since 1970; the two older forms are no longer sent by anybody.
fn date(value: &str) -> Option<Duration> {
    let words: Vec<&str> = value.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let number = |text: &str, range: std::ops::RangeInclusive<u64>| text.parse().ok().filter(|n| range.contains(n));
    let (day, year) = (number(day, 1..=31)?, number(year, 1970..=9999)?);
    let mut clock = time.split(':').map(|part| number(part, 0..=60));
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    // The year begins in March here, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // Days from the first of March of the year 0 to the first of January 1970.
    let days = days.checked_sub(719_468)?;
    Some(Duration::from_secs(86_400 * days + 3600 * hours + 60 * minutes + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wait doubles up to its limit, and is spread over half of itself.
    #[test]
    fn waits_grow_and_spread() {
        assert_eq!(backoff(0, 0), Duration::from_millis(125));
        assert_eq!(backoff(0, u64::MAX), Duration::from_millis(250));
        assert_eq!(backoff(3, u64::MAX), Duration::from_secs(2));
        for attempts in [10, 100, u32::MAX] {
            assert_eq!(backoff(attempts, u64::MAX), BACKOFF.1);
            assert_eq!(backoff(attempts, 0), BACKOFF.1 / 2);
        }
    }

    /// What the engine says in words is understood, at the end of a text only.
    #[test]
    fn words_are_read() {
        let text = |after| format!("the engine is full{COME_BACK}{after}");
        assert_eq!(in_words(&text("7s")), Some(Duration::from_secs(7)));
        assert_eq!(in_words(&text("99999999999999999999s")), Some(RETRY_AFTER_MAX));
        for other in ["", "s", "7", "-1s", "7s.", "soon"] {
            assert_eq!(in_words(&text(other)), None, "{other}");
        }
        assert_eq!(in_words("too slow"), None);
    }

    /// Seconds and dates are understood, waits that are over are none, and nobody makes us wait for ever.
    #[test]
    fn retry_after_is_read() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("99999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:40 GMT", Some(63)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2096 00:00:00 GMT", Some(3600)),
            ("", None),
            ("soon", None),
            ("-1", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
        ] {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
        let seconds = |text| date(text).unwrap().as_secs();
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
        assert_eq!(seconds("Tue, 29 Feb 2000 12:00:00 GMT"), 951_825_600);
        assert_eq!(seconds("Fri, 31 Dec 2100 23:59:59 GMT"), 4_133_980_799);
    }
}
