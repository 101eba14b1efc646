//! The rows of the table of settings about what is written on stderr.

use tracing::level_filters::LevelFilter;

use super::table::{Kind, Setting, one_of};
use super::{LogFormat, units};
use crate::shard::AccessLog;

const LOGS: &str = "Logs";

const ACCESS_LOGS: &[(&str, AccessLog)] =
    &[("off", AccessLog::Off), ("sampled", AccessLog::Sampled), ("all", AccessLog::All)];

const LEVELS: &[(&str, LevelFilter)] = &[
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The rows.
pub(super) const ROWS: &[Setting] = &[
    Setting {
        heading: LOGS,
        key: "log-format",
        value: "FORMAT",
        default: "human",
        help: "How log lines on stderr look: `human` or `json`",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| {
            one_of(text, &[("human", LogFormat::Human), ("json", LogFormat::Json)]).map(|v| c.log_format = v)
        },
        show: |c| if c.log_format == LogFormat::Human { "human" } else { "json" }.to_owned(),
    },
    Setting {
        heading: LOGS,
        key: "log-level",
        value: "LEVEL",
        default: "info",
        help: "Least important level that is logged: off, error, warn, info, debug or trace",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| one_of(text, LEVELS).map(|v| c.log_level = v),
        show: |c| c.log_level.to_string(),
    },
    Setting {
        heading: LOGS,
        key: "system-topics",
        value: "BOOL",
        default: "true",
        help: "Tells every second how the engine is doing, in `$sys/stats` and `$sys/shards`, and what happens in `$sys/events`; the \
               dashboard reads that",
        kind: Kind::Switch,
        reloads: true,
        set: |c, text, _| units::switch(text).map(|v| c.system_topics = v),
        show: |c| c.system_topics.to_string(),
    },
    Setting {
        heading: LOGS,
        key: "access-log",
        value: "WHAT",
        default: "off",
        help: "Lines about requests that are answered, and about WebSockets and streams that begin and end: `off`, `sampled` (at most 100 a \
               second and shard, each with how many it stands for) or `all`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| one_of(text, ACCESS_LOGS).map(|v| c.access_log = v),
        show: |c| {
            let name = ACCESS_LOGS.iter().find(|(_, log)| *log == c.access_log).map_or("off", |(name, _)| name);
            name.to_owned()
        },
    },
];
