//! Producers: who numbers its messages, so that each is published once and in its order, however often it is sent.
//!
//! Owns what a producer may be called, and what its numbers may be: `PUB t producer=p n=7`, the headers `Corecast-Producer` and
//! `Corecast-Number`, the members `producer` and `n` of a line of a batch. What becomes of a number is the home's business.

use crate::message::is_token;
use crate::violation::Violation;
use crate::write::parse_decimal;

/// The largest number of a message: whoever counts on from it does not run over.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// Whose message it is, and which one of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced<'a> {
    /// The name of the producer: 1 to 64 visible ASCII characters.
    pub producer: &'a str,
    /// The number that it gave this message, 1 to [`NUMBER_MAX`].
    pub number: u64,
}

impl<'a> Produced<'a> {
    /// Reads both, as they stand in a header or an option; `None` if neither is there.
    ///
    /// # Errors
    /// [`Violation::BadProducer`], [`Violation::BadNumber`], or [`Violation::HalfNumbered`] if one is there without the other.
    pub fn read(producer: Option<&'a str>, number: Option<&str>) -> Result<Option<Produced<'a>>, Violation> {
        let producer = producer.map(check_producer).transpose()?;
        let number = number.map(|number| parse_number(number.as_bytes())).transpose()?;
        Self::of(producer, number)
    }

    /// Makes one of a name and a number that were checked; `None` of neither.
    ///
    /// # Errors
    /// [`Violation::HalfNumbered`] if one is there without the other.
    pub fn of(producer: Option<&'a str>, number: Option<u64>) -> Result<Option<Produced<'a>>, Violation> {
        match (producer, number) {
            (Some(producer), Some(number)) => Ok(Some(Produced { producer, number })),
            (None, None) => Ok(None),
            _ => Err(Violation::HalfNumbered),
        }
    }
}

/// Checks the name of a producer.
///
/// # Errors
/// [`Violation::BadProducer`].
pub fn check_producer(name: &str) -> Result<&str, Violation> {
    if is_token(name.as_bytes()) { Ok(name) } else { Err(Violation::BadProducer) }
}

/// Reads the number of a message.
///
/// # Errors
/// [`Violation::BadNumber`].
pub fn parse_number(text: &[u8]) -> Result<u64, Violation> {
    parse_decimal(text).filter(|number| (1..=NUMBER_MAX).contains(number)).ok_or(Violation::BadNumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name and a number come together, and each is what it may be.
    #[test]
    fn both_or_neither() {
        let most = "9223372036854775807";
        let long = "p".repeat(64);
        for (producer, number, found) in [
            (None, None, Ok(None)),
            (Some("p"), Some("1"), Ok(Some(Produced { producer: "p", number: 1 }))),
            (Some(&*long), Some(most), Ok(Some(Produced { producer: &long, number: NUMBER_MAX }))),
            (Some("p"), None, Err(Violation::HalfNumbered)),
            (None, Some("1"), Err(Violation::HalfNumbered)),
            (Some(""), Some("1"), Err(Violation::BadProducer)),
            (Some("a b"), Some("1"), Err(Violation::BadProducer)),
            (Some("ü"), Some("1"), Err(Violation::BadProducer)),
            (Some("p"), Some("0"), Err(Violation::BadNumber)),
            (Some("p"), Some(""), Err(Violation::BadNumber)),
            (Some("p"), Some("-1"), Err(Violation::BadNumber)),
            (Some("p"), Some("9223372036854775808"), Err(Violation::BadNumber)),
        ] {
            assert_eq!(Produced::read(producer, number), found, "{producer:?} {number:?}");
        }
        assert_eq!(check_producer(&"p".repeat(65)), Err(Violation::BadProducer));
    }
}
