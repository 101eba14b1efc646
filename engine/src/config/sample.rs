//! A configuration file to begin with: every setting as a comment, at its default, written from the table.

use std::fmt::Write as _;

use super::SETTINGS;

/// Longest line of what is said of a setting.
const COLUMNS_MAX: usize = 100;

/// Returns the text of a configuration file in which nothing is set: a setting is a line `#key = value`.
#[must_use]
pub fn sample() -> String {
    let mut text = String::from(HEAD);
    let mut heading = "";
    for setting in SETTINGS {
        if setting.heading != heading {
            heading = setting.heading;
            let _ = write!(text, "\n# {heading}\n# {}\n", "-".repeat(heading.chars().count()));
        }
        let when = if setting.reloads { "" } else { " (Read at start only.)" };
        let _ = write!(
            text,
            "\n{}#{} = {}\n",
            remark(&format!("{}.{when}", setting.help)),
            setting.key,
            setting.toml_default()
        );
    }
    text + RULES
}

/// Writes a text as lines of a comment.
fn remark(text: &str) -> String {
    let mut lines = String::from("#");
    let mut columns = 1;
    for word in text.split_whitespace() {
        let wide = word.chars().count();
        if columns + 1 + wide > COLUMNS_MAX {
            lines += "\n#";
            columns = 1;
        }
        lines += " ";
        lines += word;
        columns += 1 + wide;
    }
    lines + "\n"
}

const HEAD: &str = "\
# The configuration of corecast. Lines that begin with # set nothing: what they show is the default.
# After a change:
#
#   corecast check --config FILE     says what is wrong, or what holds and why
#   systemctl reload corecast        has it read again, without a connection ending
#
# What is marked as read at start only takes a restart. Every setting is also a flag and an environment
# variable, which stand above this file; see docs/configuration.md.
";

const RULES: &str = r##"
# What holds for some topics
# --------------------------
# Rules stand behind all settings; the topics are those that `match` does: `+` is one segment, `#` the
# rest. See docs/rules.md.
#
#[[topics]]
#match = "prices/#"
#history-messages = 1
#conflate = true
"##;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Flags, Host, Origin};

    fn load(text: &str) -> config::Loaded {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("corecast.toml");
        std::fs::write(&file, text).expect("a file");
        let flags = Flags { file: Some(file), ..Flags::default() };
        let host = Host { cores: vec![0, 1], memory_bytes: 8 << 30 };
        config::load(&flags, std::iter::empty(), &host).expect("it loads")
    }

    /// As it is, the file sets nothing.
    #[test]
    fn it_sets_nothing() {
        let loaded = load(&sample());
        assert!(loaded.origins.iter().all(|origin| *origin == Origin::Default));
    }

    /// With every line made a setting, the file sets all of them, and the configuration is that of no file.
    #[test]
    fn what_it_shows_is_the_default() {
        let is_setting = |line: &str| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ");
        let text = sample();
        let (settings, _) = text.split_once("\n#[[topics]]").expect("rules stand behind all settings");
        let set: String =
            settings.lines().filter(|line| is_setting(line)).map(|line| format!("{}\n", &line[1..])).collect();
        let loaded = load(&set);
        assert!(loaded.origins.iter().all(|origin| matches!(origin, Origin::File(..))), "{set}");
        assert_eq!(loaded.config, load("").config);
        assert_eq!(loaded.config.check(), Ok(()));
    }

    /// Its rule is one that loads, too.
    #[test]
    fn its_rule_is_one() {
        let (_, rule) = RULES.split_once("#\n#").expect("the rule is the last");
        let loaded = load(&rule.replace("\n#", "\n"));
        assert_eq!(loaded.rules.len(), 1);
    }
}
