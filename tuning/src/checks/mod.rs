//! The table of checks. `corecast tune check`, `explain`, `apply` and the table in `kernel.md` are all made from it.

mod card;
mod cpu;
mod process;
mod tcp;

use crate::check::Check;

/// The parts of the table with their headings, in the order they are shown.
pub const PARTS: [(&str, &[Check]); 4] = [
    ("The process and its memory", process::CHECKS),
    ("TCP", tcp::CHECKS),
    ("The network card", card::CHECKS),
    ("The processors", cpu::CHECKS),
];

/// Returns every check, in order.
pub fn all() -> impl Iterator<Item = &'static Check> {
    PARTS.iter().flat_map(|(_, checks)| checks.iter())
}

/// Finds the checks that a name means: the one that is called so, or else those whose last part is.
#[must_use]
pub fn named(name: &str) -> Vec<&'static Check> {
    let same = |a: &str| a.eq_ignore_ascii_case(name);
    let whole: Vec<_> = all().filter(|check| same(check.name)).collect();
    let last = |check: &&Check| check.name.rsplit('.').next().is_some_and(same);
    if whole.is_empty() { all().filter(last).collect() } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row says everything, no two share a name, and no sentence ends twice.
    #[test]
    fn rows_are_complete() {
        for check in all() {
            let Check { name, what, place, rule, why, source, cost, .. } = check;
            for text in [*what, *place, *rule, *source, *cost] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{name}: `{text}`");
            }
            assert!(why.ends_with('.') && why.len() > 60, "{name}: {why}");
            assert!(!why.contains('|') && !rule.contains('|'), "{name}: a table's cell holds no bar");
            assert_eq!(named(name).len(), 1, "{name}");
        }
    }

    /// The last part of a name is enough, in any case of letters; what means nothing finds nothing.
    #[test]
    fn names() {
        assert_eq!(named("SOMAXCONN")[0].name, "net.core.somaxconn");
        assert_eq!(named("net.ipv4.tcp_mem")[0].name, "net.ipv4.tcp_mem");
        assert!(named("tcp").is_empty() && named("").is_empty());
    }
}
