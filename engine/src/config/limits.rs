//! The settings that hold an address, a subject, a second and everybody to what may be, and those of the governor.
//!
//! Owns: their rows. They stand behind the others in the table.

use super::table::{Kind, Setting, duration_within, size_within, small};
use super::units;
use crate::mesh::census::COUNT_MAX;

const LIMITS: &str = "Limits";

/// What the census counts up to, of one and of everybody.
const LIMIT_MAX: u32 = COUNT_MAX;
const SUM_MAX: u32 = 1_000_000_000;
/// Above any rate that somebody would want to limit, and far below what nanoseconds can tell apart.
const RATE_MAX: u32 = 10_000_000;

/// Reads a limit or a rate that may be off, which is 0.
fn limit(text: &str, most: u32) -> Result<u32, String> {
    if text == "off" { Ok(0) } else { small(text, 0, most) }
}

fn limit_text(number: u64) -> String {
    if number == 0 { "off".to_owned() } else { number.to_string() }
}

/// Reads bytes in a second, which may be off.
fn bytes_rate(text: &str) -> Result<u64, String> {
    if text == "off" || units::size(text) == Ok(0) { Ok(0) } else { size_within(text, 1 << 10, 1 << 40) }
}

fn bytes_rate_text(bytes: u64) -> String {
    if bytes == 0 { "off".to_owned() } else { units::size_text(bytes) }
}

/// The rows.
pub(super) const ROWS: &[Setting] = &[
    Setting {
        heading: LIMITS,
        key: "max-connections",
        value: "N",
        default: "off",
        help: "Connections of all shards together at the same time, or `off`; `connections` is what one shard has room for",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, SUM_MAX).map(|v| c.quotas.connections_in_all = v),
        show: |c| limit_text(c.quotas.connections_in_all.into()),
    },
    Setting {
        heading: LIMITS,
        key: "max-connections-per-address",
        value: "N",
        default: "16384",
        help: "Connections of one address at the same time, or `off`; addresses are IPv4 addresses and /64 networks of IPv6",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, LIMIT_MAX).map(|v| c.quotas.connections_per_address = v),
        show: |c| limit_text(c.quotas.connections_per_address.into()),
    },
    Setting {
        heading: LIMITS,
        key: "max-connections-per-subject",
        value: "N",
        default: "off",
        help: "Connections at the same time of one subject whose grant does not say it, or `off`; plain requests do not count",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, LIMIT_MAX).map(|v| c.quotas.connections_per_subject = v),
        show: |c| limit_text(c.quotas.connections_per_subject.into()),
    },
    Setting {
        heading: LIMITS,
        key: "max-subscriptions-per-address",
        value: "N",
        default: "off",
        help: "Subscriptions of the connections of one address, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, LIMIT_MAX).map(|v| c.quotas.subscriptions_per_address = v),
        show: |c| limit_text(c.quotas.subscriptions_per_address.into()),
    },
    Setting {
        heading: LIMITS,
        key: "max-subscriptions-per-subject",
        value: "N",
        default: "off",
        help: "Subscriptions of the connections of one subject whose grant does not say it, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, LIMIT_MAX).map(|v| c.quotas.subscriptions_per_subject = v),
        show: |c| limit_text(c.quotas.subscriptions_per_subject.into()),
    },
    Setting {
        heading: LIMITS,
        key: "max-subscriptions-in-all",
        value: "N",
        default: "off",
        help: "Subscriptions of all connections together, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, SUM_MAX).map(|v| c.quotas.subscriptions_in_all = v),
        show: |c| limit_text(c.quotas.subscriptions_in_all.into()),
    },
    Setting {
        heading: LIMITS,
        key: "connect-rate",
        value: "N",
        default: "off",
        help: "Connections accepted in a second, of all addresses together, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.connects = v),
        show: |c| limit_text(c.quotas.connects.into()),
    },
    Setting {
        heading: LIMITS,
        key: "connect-rate-per-address",
        value: "N",
        default: "1000",
        help: "Connections accepted in a second of one address, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.connects_per_address = v),
        show: |c| limit_text(c.quotas.connects_per_address.into()),
    },
    Setting {
        heading: LIMITS,
        key: "publish-rate",
        value: "N",
        default: "off",
        help: "Messages published in a second by one connection, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.publishes = v),
        show: |c| limit_text(c.quotas.publishes.into()),
    },
    Setting {
        heading: LIMITS,
        key: "publish-rate-per-address",
        value: "N",
        default: "off",
        help: "Messages published in a second by the connections of one address, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.publishes_per_address = v),
        show: |c| limit_text(c.quotas.publishes_per_address.into()),
    },
    Setting {
        heading: LIMITS,
        key: "publish-rate-per-subject",
        value: "N",
        default: "off",
        help: "Messages published in a second by the connections of one subject whose grant does not say it, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.publishes_per_subject = v),
        show: |c| limit_text(c.quotas.publishes_per_subject.into()),
    },
    Setting {
        heading: LIMITS,
        key: "publish-rate-in-all",
        value: "N",
        default: "off",
        help: "Messages published in a second by all connections together, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.publishes_in_all = v),
        show: |c| limit_text(c.quotas.publishes_in_all.into()),
    },
    Setting {
        heading: LIMITS,
        key: "publish-bytes",
        value: "SIZE",
        default: "off",
        help: "Payload bytes published in a second by one connection, or `off`; a larger message is taken, and paid for afterwards",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| bytes_rate(text).map(|v| c.quotas.bytes = v),
        show: |c| bytes_rate_text(c.quotas.bytes),
    },
    Setting {
        heading: LIMITS,
        key: "publish-bytes-per-address",
        value: "SIZE",
        default: "off",
        help: "Payload bytes published in a second by the connections of one address, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| bytes_rate(text).map(|v| c.quotas.bytes_per_address = v),
        show: |c| bytes_rate_text(c.quotas.bytes_per_address),
    },
    Setting {
        heading: LIMITS,
        key: "publish-bytes-per-subject",
        value: "SIZE",
        default: "off",
        help: "Payload bytes published in a second by the connections of one subject whose grant does not say it, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| bytes_rate(text).map(|v| c.quotas.bytes_per_subject = v),
        show: |c| bytes_rate_text(c.quotas.bytes_per_subject),
    },
    Setting {
        heading: LIMITS,
        key: "publish-bytes-in-all",
        value: "SIZE",
        default: "off",
        help: "Payload bytes published in a second by all connections together, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| bytes_rate(text).map(|v| c.quotas.bytes_in_all = v),
        show: |c| bytes_rate_text(c.quotas.bytes_in_all),
    },
    Setting {
        heading: LIMITS,
        key: "topic-rate",
        value: "N",
        default: "off",
        help: "Topics that one connection may make in a second, by publishing or subscribing to a name that its shard has not met lately, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.topics = v),
        show: |c| limit_text(c.quotas.topics.into()),
    },
    Setting {
        heading: LIMITS,
        key: "topic-rate-per-address",
        value: "N",
        default: "off",
        help: "The same for the connections of one address, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.topics_per_address = v),
        show: |c| limit_text(c.quotas.topics_per_address.into()),
    },
    Setting {
        heading: LIMITS,
        key: "topic-rate-per-subject",
        value: "N",
        default: "off",
        help: "The same for the connections of one subject whose grant does not say it, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.topics_per_subject = v),
        show: |c| limit_text(c.quotas.topics_per_subject.into()),
    },
    Setting {
        heading: LIMITS,
        key: "topic-rate-in-all",
        value: "N",
        default: "off",
        help: "The same for all connections together, or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| limit(text, RATE_MAX).map(|v| c.quotas.topics_in_all = v),
        show: |c| limit_text(c.quotas.topics_in_all.into()),
    },
    Setting {
        heading: LIMITS,
        key: "limit-loopback",
        value: "BOOL",
        default: "false",
        help: "Holds loopback addresses to what holds for one address, too",
        kind: Kind::Switch,
        reloads: true,
        set: |c, text, _| units::switch(text).map(|v| c.quotas.loopback = v),
        show: |c| c.quotas.loopback.to_string(),
    },
    Setting {
        heading: LIMITS,
        key: "gone-after",
        value: "TIME",
        default: "5s",
        help: "How long a topic that has lost its last reader is told to be wanted still, and a name whose last connection has gone to be there, so that a reload is not told",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 0, 3_600_000).map(|v| c.gone_after_ms = v),
        show: |c| units::duration_text(c.gone_after_ms),
    },
    Setting {
        heading: LIMITS,
        key: "overload-after",
        value: "TIME",
        default: "20ms",
        help: "New connections wait, and later are told when to come back, while most of a shard's time goes into turns longer than this; or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| {
            let ms = if text == "off" { Ok(0) } else { duration_within(text, 1, 60_000) };
            ms.map(|v| c.overload_ms = v)
        },
        show: |c| if c.overload_ms == 0 { "off".to_owned() } else { units::duration_text(c.overload_ms) },
    },
];
