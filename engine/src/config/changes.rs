//! In what two configurations differ.

use super::{Config, SETTINGS, Setting};

/// Returns the settings that have another value in `new`, in the order of the table.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<&'static Setting> {
    SETTINGS.iter().filter(|setting| (setting.show)(old) != (setting.show)(new)).collect()
}
