//! `docs/configuration.md`, written from the table. A test holds the file to what stands here.

use super::{Kind, RULE_KEYS, SETTINGS};

/// Returns the text of `docs/configuration.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(HEAD);
    let mut heading = "";
    for setting in SETTINGS {
        if setting.heading != heading {
            heading = setting.heading;
            text += &format!("\n## {heading}\n\n| key | environment | default | reload | |\n|---|---|---|---|---|\n");
        }
        let note = match setting.kind {
            Kind::One => "",
            Kind::Many => " (may be given several times)",
            Kind::Switch => " (the flag alone means `true`)",
        };
        let (key, variable, default, help) = (setting.key, setting.variable(), setting.default, setting.help);
        let reload = if setting.reloads { "yes" } else { "no" };
        text += &format!("| `{key}` | `{variable}` | `{default}` | {reload} | {help}{note}. |\n");
    }
    text += RULES;
    for key in RULE_KEYS {
        let default = match key.default {
            None => "the setting".to_owned(),
            Some("") => "no rule says".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        text += &format!("| `{}` | `{}` | {default} | {}. |\n", key.key, key.example, key.help);
    }
    text
}

const RULES: &str = "
## Rules

The file may say what holds for some topics, in tables of their own behind all settings; how is told in [rules](rules.md). The topics
are those that `match` does: `+` is one segment, `#` the rest. Rules are read again as settings with a yes under \"reload\" are.

| key | as in | without a rule | |
|---|---|---|---|
";

const HEAD: &str = "\
# Configuration

Every setting is a flag of `corecast serve` (`--history-bytes 1M`), a key of a TOML file given with `--config FILE` or
`CORECAST_CONFIG` (`history-bytes = \"1M\"`), and an environment variable (`CORECAST_HISTORY_BYTES=1M`). A flag beats the
environment, the environment beats the file, and the file beats the default. An empty variable counts as not set.

`corecast check` takes the same flags, says everything that is wrong with the configuration, or prints the effective
one, as a TOML file with the origin of every value. With `--topic TOPIC` it says what holds for a topic.

SIGHUP, and `POST /reload` on the admin listener, read all of this again. Settings with a yes under \"reload\" change while the
engine runs; if any other one has another value, nothing changes, and it is named.

* Sizes: a whole number and `k`, `M`, `G` or `T`, powers of 1,024: `64k`, `2G`.
* Times: a whole number and `ms`, `s`, `m` or `h`: `250ms`, `25s`.
* Lists: the flag is repeated, the file has a list (`listen = [\"127.0.0.1:8080\", \"[::1]:8080\"]`), the environment
  separates by commas.

This file is written from the table in `engine/src/config/settings.rs`; after a change there run
`cargo run -- check --document > docs/configuration.md`.
";
