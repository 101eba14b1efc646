//! What a shard counts. One table makes the fields, their names, and what the admin listener says about them.

/// Makes [`Stats`] from one table: name, help.
macro_rules! stats {
    ($($name:ident: $help:literal,)*) => {
        /// Counters and gauges of one shard.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $(#[doc = $help] pub $name: u64,)*
        }

        impl Stats {
            /// Name and meaning of every field, in the order of [`Stats::values`].
            pub const FIELDS: &[(&str, &str)] = &[$((stringify!($name), $help),)*];
            /// Number of fields.
            pub const COUNT: usize = Self::FIELDS.len();

            /// Returns all values.
            #[must_use]
            pub fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$name,)*]
            }

            /// Makes the statistics of these values.
            #[must_use]
            pub fn of_values(values: [u64; Self::COUNT]) -> Stats {
                let [$($name,)*] = values;
                Stats { $($name,)* }
            }
        }
    };
}

stats! {
    connections: "Open connections.",
    connections_http: "Of these, those that wait for a request, or are in the middle of one.",
    connections_long_poll: "Long polls that wait for a message.",
    connections_websocket: "Raw WebSockets of one topic.",
    connections_line: "WebSockets that speak `corecast.v1`.",
    connections_echo: "WebSockets that get everything back.",
    connections_sse: "Streams of Server-Sent Events.",
    connections_ndjson: "Streams of JSON lines.",
    connections_multipart: "Streams of parts.",
    connections_forever_frame: "Streams of scripts for a frame.",
    connections_closing: "Connections that are about to end.",
    accepted: "Connections accepted since start.",
    refused: "Connections, requests and commands refused: the sum of those below.",
    refused_full: "Refused because there was no memory, no topic or no slot left.",
    refused_too_fast: "Refused because the peer asked for more in a time than it may.",
    refused_too_many: "Refused because the peer had as many subscriptions or connections as it may have.",
    refused_too_large: "Refused because a payload was too large.",
    refused_too_slow: "Subscribers closed because they fell behind (`lag = close`).",
    refused_lost: "Raw WebSockets closed because messages were lost.",
    refused_forbidden: "Refused because the peer, or the page it is, may not.",
    refused_unauthorized: "Refused because the peer has not said who it is.",
    refused_invalid_token: "Refused because a token or key was not valid.",
    refused_unavailable: "Refused because nobody could say in time whether the peer may.",
    refused_expired: "Refused because the peer's permission has expired.",
    refused_moved: "Refused because it is served elsewhere.",
    refused_disconnected: "WebSockets and streams ended because an operator wanted it.",
    refused_overloaded: "Connections refused because turns took too long.",
    refused_changed: "Refused because a condition of the request did not hold.",
    refused_bad_record: "Refused because a payload was no record, and its topic takes nothing else.",
    refused_no_key: "Refused because a message did not say its key, and its topic has keys.",
    refused_not_keyed: "Refused because a message said a key, or changed or deleted something, and its topic has no keys.",
    refused_too_many_rows: "Refused because a topic had as many keys, or bytes of values, as it may have.",
    refused_too_many_views: "Refused because too many different views of a topic were read.",
    refused_out_of_order: "Refused because the number of a producer's message was not the next one.",
    refused_draining: "Refused, or closed, because the engine is shutting down.",
    limited_connections: "Connections refused because there were as many of their address, of their subject or in all as may be.",
    limited_connects: "Connections refused because too many came in a second, of their address or in all.",
    limited_subscriptions: "Subscriptions refused because there were as many of their address, of their subject or in all as may be.",
    limited_publishes: "Publications refused because of too many, or too many bytes, in a second.",
    limited_topics: "Publications and subscriptions refused because of too many new topics in a second.",
    overloads: "Times that newcomers had to wait because turns took too long.",
    overloaded: "Shards on which newcomers wait or are refused, because turns take too long.",
    tls_handshakes: "TLS handshakes that came to their end.",
    tls_resumed: "Of these, those that went on with an earlier session.",
    tls_broken: "Connections that broke before their session was told: failed handshakes, forged records, PROXY headers without sense.",
    violations: "Connections closed because the peer broke a rule.",
    topics: "Topics with a subscriber on this shard.",
    homes: "Topics that have their home on this shard.",
    subscriptions: "Subscriptions.",
    published: "Messages numbered by the homes on this shard.",
    news: "Of these, those that tell of the engine itself (`$sys/stats`, `$sys/shards`, `$sys/events`).",
    occupancies: "Of these, those that tell how many read a topic (`occupancy`).",
    producers: "Producers whose numbers are known.",
    repeats: "Messages of producers that came again, and were not published again.",
    demands: "Messages numbered by the homes that tell what is wanted (`$sys/demand`).",
    presences: "Messages numbered by the homes that tell who reads a topic (`$sys/presence/...`).",
    owed: "Messages times subscriptions: what the subscribers of this shard had coming.",
    delivered: "Messages handed to the kernel or to a connection's queue, in full or (the last one) in part.",
    conflated: "Messages skipped because the subscriber asked for the newest only.",
    filtered: "Messages skipped because they were not of the view that the subscriber asked for.",
    dropped: "Messages that a subscriber lost and was told about.",
    abandoned: "Messages still on their way when the subscription ended.",
    gaps: "Gaps told to subscribers.",
    replays: "Batches of history asked for by this shard.",
    behind: "Times that a shard's ring was full and its messages had to be asked for again.",
    parked: "Times that a connection had to wait for room in a ring.",
    postponed: "Times that a connection had to wait for its turn, because it had much to be done.",
    questions: "Questions asked of the authority: credentials, and topics if the hook is asked about them, that no verdict was known for.",
    grants: "Grants that somebody has, or that a known verdict gives.",
    grant_bytes: "Memory in grants and verdicts.",
    sends: "Sends ordered.",
    sends_short: "Sends that the kernel did not take in full.",
    compressed: "Messages compressed, once per topic, dialect and shard.",
    uncompressed: "Messages left uncompressed because compression had had its share of time.",
    compressed_bytes_before: "Bytes of those messages before compression.",
    compressed_bytes_after: "Bytes of those messages after compression.",
    bytes_received: "Bytes received.",
    bytes_sent: "Bytes handed to the kernel.",
    pool_bytes: "Bytes of block memory in use.",
    pool_bytes_max: "Bytes of block memory there are.",
    pool_log_bytes: "Block memory in frame logs.",
    pool_history_bytes: "Block memory in histories.",
    pool_private_bytes: "Block memory in queues of single connections.",
    pool_inbound_bytes: "Block memory in messages that are still arriving.",
    table_bytes: "Memory in names, topics, subscriptions, homes, and the tables to find them.",
    busy_bytes: "Memory in what busy connections cost besides blocks.",
    scratch_bytes: "Memory in queues and buffers of turns, and in what is kept of blocks.",
    resident_bytes: "Block memory that the kernel has given, in use or not.",
    turns: "Turns taken.",
    turn_us_total: "Microseconds spent in turns that did something.",
    spin_us_total: "Microseconds of CPU time in which the core looked for work before a rest, and found none; at its first shard.",
    long_turns_percent: "How much of the time went into turns longer than `overload-after` lately; of the shard where that is most.",
    turn_us_max: "The longest turn, in microseconds.",
}

impl Stats {
    /// Adds another shard's counters to these (maxima: the larger).
    pub fn add(&mut self, other: &Stats) {
        let turn_us_max = self.turn_us_max.max(other.turn_us_max);
        let long_turns_percent = self.long_turns_percent.max(other.long_turns_percent);
        let mut sum = self.values();
        for (to, value) in sum.iter_mut().zip(other.values()) {
            *to = to.wrapping_add(value);
        }
        *self = Stats::of_values(sum);
        self.turn_us_max = turn_us_max;
        self.long_turns_percent = long_turns_percent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values come out in the order of the names, and sums add up.
    #[test]
    fn table_and_values_agree() {
        let stats = Stats { connections: 1, turn_us_max: 9, ..Stats::default() };
        assert_eq!(Stats::FIELDS[0].0, "connections");
        assert_eq!(stats.values()[0], 1);
        assert_eq!(Stats::of_values(stats.values()), stats);
        let mut sum = stats;
        sum.add(&Stats { connections: 2, turn_us_max: 4, ..Stats::default() });
        assert_eq!((sum.connections, sum.turn_us_max), (3, 9));
    }
}
