//! In what two configurations differ.

use super::rules::TOPICS;
use super::{Config, SETTINGS};

/// A part of the configuration that has another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key in the file.
    pub key: &'static str,
    /// It can change while the engine runs.
    pub reloads: bool,
}

/// Returns what has another value in `new`: settings in the order of the table, and the rules as a whole.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let settings = SETTINGS.iter().filter(|setting| (setting.show)(old) != (setting.show)(new));
    let settings = settings.map(|setting| Change { key: setting.key, reloads: setting.reloads });
    let rules = (old.rules != new.rules).then_some(Change { key: TOPICS, reloads: true });
    settings.chain(rules).collect()
}
