//! The keys that a rule may have.
//!
//! Owns: [`RULE_KEYS`], the one table that the reading of a file, `corecast check` and `docs/configuration.md` are made from.

use corecast_protocol::message::KEY_BYTES_MAX;
use corecast_protocol::record;

use super::table::{LAGS, MESSAGE_BYTES_MAX, one_of, small, small_size};
use super::{Kind, units};
use crate::grant::Who;
use crate::shard::{Mode, Terms};

/// One key of a rule.
#[derive(Debug)]
pub struct RuleKey {
    /// Its name; that of a setting, if it stands in for one.
    pub key: &'static str,
    /// An example of a value, as TOML.
    pub example: &'static str,
    /// What holds where no rule says it, if that is no setting.
    pub default: Option<&'static str>,
    /// A sentence.
    pub help: &'static str,
    pub(super) kind: Kind,
    pub(super) set: fn(&mut Terms, &str) -> Result<(), String>,
    pub(super) show: fn(&Terms) -> Option<String>,
}

/// Every key that a rule may have besides its `match`.
pub const RULE_KEYS: &[RuleKey] = &[
    RuleKey {
        key: "history-messages",
        example: "10",
        default: None,
        help: "Messages remembered of each topic; the newest is kept even if this is 0",
        kind: Kind::One,
        set: |t, text| small(text, 0, 1 << 20).map(|v| t.history_messages = Some(v)),
        show: |t| t.history_messages.map(|v| v.to_string()),
    },
    RuleKey {
        key: "history-bytes",
        example: "\"1M\"",
        default: None,
        help: "Bytes remembered of each topic",
        kind: Kind::One,
        set: |t, text| small_size(text, 0, 1 << 30).map(|v| t.history_bytes = Some(v)),
        show: |t| t.history_bytes.map(|v| units::size_text(v.into())),
    },
    RuleKey {
        key: "history-seconds",
        example: "3600",
        default: None,
        help: "Age in seconds up to which messages are remembered",
        kind: Kind::One,
        set: |t, text| small(text, 0, 31_536_000).map(|v| t.history_ms = Some(u64::from(v) * 1000)),
        show: |t| t.history_ms.map(|v| (v / 1000).to_string()),
    },
    RuleKey {
        key: "lag",
        example: "\"close\"",
        default: None,
        help: "What happens to a subscriber that fell behind the frame log: `replay` what is remembered, or `close`",
        kind: Kind::One,
        set: |t, text| one_of(text, LAGS).map(|v| t.lag = Some(v)),
        show: |t| t.lag.map(|v| word(LAGS, v)),
    },
    RuleKey {
        key: "conflate",
        example: "true",
        default: Some("false"),
        help: "Subscriptions that say nothing about `conflate` do: one that is behind is sent the newest message only",
        kind: Kind::Switch,
        set: |t, text| units::switch(text).map(|v| t.conflate = Some(v)),
        show: |t| t.conflate.map(|v| v.to_string()),
    },
    RuleKey {
        key: "every",
        example: "100",
        default: Some("0"),
        help: "Subscriptions that say nothing about `every` get at most one message in so many milliseconds; 0: all",
        kind: Kind::One,
        set: |t, text| small(text, 0, u32::MAX).map(|v| t.every_ms = Some(v)),
        show: |t| t.every_ms.map(|v| v.to_string()),
    },
    RuleKey {
        key: "max-message",
        example: "\"4k\"",
        default: None,
        help: "Largest payload of a message; at most what the setting says",
        kind: Kind::One,
        set: |t, text| small_size(text, 1, MESSAGE_BYTES_MAX).map(|v| t.message_bytes_max = Some(v)),
        show: |t| t.message_bytes_max.map(|v| units::size_text(v.into())),
    },
    RuleKey {
        key: "publish",
        example: "\"granted\"",
        default: Some(UNSAID),
        help: "Who may publish and clear: `nobody`, `granted` (whose grant says so), `authenticated` (who has one), or `anyone`",
        kind: Kind::One,
        set: |t, text| one_of(text, LEVELS).map(|v| t.publish = Some(v)),
        show: |t| t.publish.map(|v| word(LEVELS, v)),
    },
    RuleKey {
        key: "subscribe",
        example: "\"anyone\"",
        default: Some(UNSAID),
        help: "Who may read, in the same words",
        kind: Kind::One,
        set: |t, text| one_of(text, LEVELS).map(|v| t.subscribe = Some(v)),
        show: |t| t.subscribe.map(|v| word(LEVELS, v)),
    },
    RuleKey {
        key: "occupancy",
        example: "true",
        default: Some("false"),
        help: "How many subscriptions a topic has is published to `$sys/occupancy/TOPIC`",
        kind: Kind::Switch,
        set: |t, text| units::switch(text).map(|v| t.occupancy = Some(v)),
        show: |t| t.occupancy.map(|v| v.to_string()),
    },
    RuleKey {
        key: "demand",
        example: "true",
        default: Some("false"),
        help: "Whether anybody reads a topic is told in `$sys/demand`",
        kind: Kind::Switch,
        set: |t, text| units::switch(text).map(|v| t.demand = Some(v)),
        show: |t| t.demand.map(|v| v.to_string()),
    },
    RuleKey {
        key: "presence",
        example: "true",
        default: Some("false"),
        help: "Who reads a topic is told in `$sys/presence/TOPIC`",
        kind: Kind::Switch,
        set: |t, text| units::switch(text).map(|v| t.presence = Some(v)),
        show: |t| t.presence.map(|v| v.to_string()),
    },
    RuleKey {
        key: "record",
        example: "\"command\"",
        default: Some("distinct"),
        help: "What messages are to each other: `distinct`, each for itself; `raw`, the same, and newcomers get what comes; `merge`, each changes \
               members of one JSON object; `command`, each is the value of its key",
        kind: Kind::One,
        set: |t, text| one_of(text, MODES).map(|v| t.mode = Some(v)),
        show: |t| t.mode.map(|v| word(MODES, v)),
    },
    RuleKey {
        key: "key",
        example: "\"symbol\"",
        default: Some(NO_KEY),
        help: "With `record = \"command\"`: the member of the payload, a JSON object, that is the key of a message that says none",
        kind: Kind::One,
        set: |t, text| field(text).map(|v| t.key = Some(v)),
        show: |t| t.key.as_deref().map(str::to_owned),
    },
    RuleKey {
        key: "rows",
        example: "200",
        default: Some("1000"),
        help: "Keys that a topic may have; a message of one more is refused",
        kind: Kind::One,
        set: |t, text| small(text, 1, 1 << 20).map(|v| t.rows = Some(v)),
        show: |t| t.rows.map(|v| v.to_string()),
    },
    RuleKey {
        key: "rows-bytes",
        example: "\"4M\"",
        default: Some("1M"),
        help: "Bytes that the values of all keys of a topic may have; a message beyond them is refused",
        kind: Kind::One,
        set: |t, text| small_size(text, 1024, 1 << 30).map(|v| t.row_bytes = Some(v)),
        show: |t| t.row_bytes.map(|v| units::size_text(v.into())),
    },
    RuleKey {
        key: "rate",
        example: "\"64k\"",
        default: Some("0"),
        help: "Bytes a second that one subscription is sent at most, whatever it asks for; 0: no limit",
        kind: Kind::One,
        set: |t, text| small_size(text, 0, 1 << 30).map(|v| t.rate = Some(v)),
        show: |t| t.rate.map(|v| units::size_text(v.into())),
    },
];

const MODES: &[(&str, Mode)] =
    &[("distinct", Mode::Distinct), ("raw", Mode::Raw), ("merge", Mode::Merge), ("command", Mode::Command)];

/// Reads the name of a member, or a path to one.
fn field(text: &str) -> Result<Box<str>, String> {
    match record::Fields::parse(text) {
        Ok(_) if text.contains(',') => Err(format!("`{text}` are several members, and a key is one")),
        Ok(_) if text.len() <= KEY_BYTES_MAX => Ok(text.into()),
        Ok(_) => Err(format!("it is longer than {KEY_BYTES_MAX} bytes")),
        Err(error) => Err(error.to_string()),
    }
}

/// What stands for a value that only a rule can give, and what holds without.
pub(super) const UNSAID: &str = "";
/// What holds where no rule names the member that is the key.
pub(super) const NO_KEY: &str = "none, messages say their key";
pub(super) const NO_RULE: &str = "no rule; whose grant says so, or anyone where a listener is open";

const LEVELS: &[(&str, Who)] = &[
    ("nobody", Who::Nobody),
    ("granted", Who::Granted),
    ("authenticated", Who::Authenticated),
    ("anyone", Who::Anyone),
];

fn word<T: PartialEq + Copy>(words: &[(&str, T)], value: T) -> String {
    words.iter().find(|(_, of)| *of == value).map_or_else(String::new, |(word, _)| (*word).to_owned())
}

impl RuleKey {
    /// Writes a value as TOML.
    pub(super) fn toml(&self, text: &str) -> String {
        let bare = self.kind == Kind::Switch || text.bytes().all(|byte| byte.is_ascii_digit());
        if bare { text.to_owned() } else { format!("\"{text}\"") }
    }
}
