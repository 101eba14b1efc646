//! Queries: `a=1&b=2`.
//!
//! Owns the splitting only. Names and values stay as they are; [`percent::decode`](crate::percent::decode) reads a value,
//! with `plus_is_space`.

/// Goes through the pairs of a query, still encoded; a name without `=` has an empty value, empty pairs are skipped.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Finds the first value of `name`, still encoded.
pub fn value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    pairs(query).find(|(found, _)| *found == name).map(|(_, value)| value)
}
