//! What an operator asks of a running engine, and has it do: `topics`, `topic`, `connections`, `connection`, `slow`, `disconnect`, `drain` and
//! `reload`. `docs/admin.md` says what is behind each.
//!
//! Owns: how each is asked, and how its answer looks. With `--json` that is what the admin listener says, unchanged.

use std::fmt::Write as _;

use corecast::config;
use corecast::io::check::StartError;
use corecast_protocol::percent;
use corecast_protocol::write::Writer;
use serde_json::{Value, json};

use super::Outcome;
use super::admin::{Admin, Reach};
use super::columns::{Side, age, count, plain, rate, size, table, text};

/// What all of them have.
#[derive(clap::Args)]
struct With {
    /// Prints the JSON of the admin listener instead.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Sort {
    /// Bytes remembered.
    Bytes,
    /// Messages remembered.
    Messages,
    /// Messages published in a second, lately; only topics of which that is known.
    Rate,
    /// Subscriptions, of topics where they are counted.
    Readers,
}

#[derive(clap::Args)]
pub(super) struct Topics {
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// What most of comes first.
    #[arg(long, value_enum, default_value = "bytes")]
    sort: Sort,
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
pub(super) struct Topic {
    /// The topic.
    #[arg(value_name = "TOPIC")]
    topic: String,
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
pub(super) struct Connections {
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Only those of this kind: http, long-poll, websocket, line, echo, sse, ndjson, multipart, forever-frame or closing.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only those of this address, or address and port.
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<String>,
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
pub(super) struct Connection {
    /// The connection, as `corecast connections` writes it.
    #[arg(value_name = "SHARD/SLOT", value_parser = place)]
    place: (u32, u32),
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
pub(super) struct Slow {
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub(super) struct Disconnect {
    /// The connection, as `corecast connections` writes it.
    #[arg(value_name = "SHARD/SLOT", value_parser = place, group = "whom")]
    place: Option<(u32, u32)>,
    /// Only if it is still that one: the number of its slot is used again, and each time with another generation.
    #[arg(long, value_name = "N", requires = "place")]
    generation: Option<u16>,
    /// All connections of this address, or the one of this address and port.
    #[arg(long, value_name = "ADDRESS", group = "whom")]
    peer: Option<String>,
    /// All connections of this subject.
    #[arg(long, value_name = "NAME", group = "whom")]
    subject: Option<String>,
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
pub(super) struct Drain {
    /// How long it may take, as in 30s; by default what the engine's configuration says.
    #[arg(long, value_name = "TIME", value_parser = config::duration_ms)]
    over: Option<u64>,
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
pub(super) struct Reload {
    #[command(flatten)]
    with: With,
}

/// Reads `SHARD/SLOT`.
fn place(text: &str) -> Result<(u32, u32), String> {
    let both = text.split_once('/').and_then(|(shard, slot)| Some((shard.parse().ok()?, slot.parse().ok()?)));
    both.ok_or_else(|| "expected two numbers, as in 0/17".to_owned())
}

/// Percent-encodes a value of a query.
pub(super) fn encoded(value: &str) -> String {
    let mut room = vec![0; 3 * value.len()];
    let mut writer = Writer::new(&mut room);
    percent::encode_path(value, &mut writer);
    let length = writer.finish().expect("an encoded byte takes three at most");
    // What a path leaves as it is, and a query does not.
    String::from_utf8_lossy(&room[..length]).replace('+', "%2B").replace('&', "%26").replace('#', "%23")
}

/// Asks, and prints the answer as JSON or as `show` writes it.
fn print(
    with: &With,
    ask: impl FnOnce(&Admin) -> Result<String, StartError>,
    show: impl FnOnce(&Value) -> String,
) -> Outcome {
    let admin = match Admin::find(&with.reach) {
        Ok(admin) => admin,
        Err(problems) => return Outcome::CannotStart(problems),
    };
    match ask(&admin) {
        Ok(body) if with.json => super::say(&format!("{body}\n")),
        Ok(body) => match serde_json::from_str(&body) {
            Ok(value) => super::say(&show(&value)),
            Err(_) => Outcome::Failed(format!("{} does not answer as an engine would", admin.place)),
        },
        Err(problem) => Outcome::Failed(problem.to_string()),
    }
}

/// Writes lines, or a sentence if there are no rows.
fn lines(lines: Vec<String>, nothing: &str) -> String {
    if lines.len() < 2 { format!("{nothing}\n") } else { lines.join("\n") + "\n" }
}

fn rows(value: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    value.as_array().into_iter().flatten().map(row).collect()
}

pub(super) fn topics(arguments: &Topics) -> Outcome {
    let sort = match arguments.sort {
        Sort::Bytes => "bytes",
        Sort::Messages => "messages",
        Sort::Rate => "rate",
        Sort::Readers => "readers",
    };
    let target = format!("/topics?limit={}&sort={sort}", arguments.limit);
    print(&arguments.with, |admin| admin.get(&target), |value| lines(topic_lines(value), "no topic remembers anything"))
}

/// Writes topics as a table.
pub(super) fn topic_lines(value: &Value) -> Vec<String> {
    let right = |name| (name, Side::Right);
    let head =
        [right("SHARD"), right("MESSAGES"), right("BYTES"), right("RATE/s"), right("READERS"), ("TOPIC", Side::Left)];
    let rows = rows(value, |row| {
        let rate = row["rate"].as_f64().map_or_else(String::new, rate);
        let numbers = [text(&row["shard"]), count(&row["messages"]), size(&row["bytes"]), rate];
        numbers.into_iter().chain([count(&row["readers"]), text(&row["topic"])]).collect()
    });
    table(&head, &rows)
}

pub(super) fn topic(arguments: &Topic) -> Outcome {
    let target = format!("/topic?topic={}", encoded(&arguments.topic));
    print(&arguments.with, |admin| admin.get(&target), topic_text)
}

fn topic_text(value: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        if !text.is_empty() {
            writeln!(out, "{name:<9} {text}").expect("writing to a String cannot fail");
        }
    };
    line("topic", text(&value["topic"]));
    line("home", format!("shard {}", text(&value["shard"])));
    line("epoch", text(&value["epoch"]));
    let first = match value["first"].as_u64() {
        None | Some(0) => String::new(),
        Some(first) => format!(", the oldest that is remembered {first}"),
    };
    line("head", format!("{}{first}", text(&value["head"])));
    line("history", format!("{} messages, {}", count(&value["messages"]), size(&value["bytes"])));
    line("rate", value["rate"].as_f64().map_or_else(String::new, |number| format!("{} messages/s", rate(number))));
    let shards = rows(&value["readers_by_shard"], |row| {
        vec![format!("{} on shard {}", count(&row["readers"]), text(&row["shard"]))]
    });
    let shards = if shards.is_empty() { String::new() } else { format!(" ({})", shards.concat().join(", ")) };
    line("readers", format!("{}{shards}", count(&value["readers"])));
    for (name, term) in value["terms"].as_object().into_iter().flatten() {
        let why = match &term["rule"] {
            Value::String(pattern) => format!("match = \"{}\"", plain(pattern)),
            _ => "no rule".to_owned(),
        };
        let term = format!("{name} = {}", text(&term["value"]));
        writeln!(out, "  {term:<32} # {why}").expect("writing to a String cannot fail");
    }
    out
}

pub(super) fn connections(arguments: &Connections) -> Outcome {
    let mut target = format!("/connections?limit={}", arguments.limit);
    for (name, value) in [("kind", &arguments.kind), ("peer", &arguments.peer)] {
        if let Some(value) = value {
            target += &format!("&{name}={}", encoded(value));
        }
    }
    print(&arguments.with, |admin| admin.get(&target), |value| lines(connection_lines(value), "no such connection"))
}

fn name_of(row: &Value) -> String {
    format!("{}/{}", text(&row["shard"]), text(&row["slot"]))
}

/// Writes connections as a table.
pub(super) fn connection_lines(value: &Value) -> Vec<String> {
    let (left, right) = (|name| (name, Side::Left), |name| (name, Side::Right));
    let head =
        [left("CONN"), left("KIND"), right("SUBS"), right("QUEUED"), right("HEARD"), left("PEER"), left("SUBJECT")];
    let rows = rows(value, |row| {
        let heard = row["heard_seconds_ago"].as_f64().map_or_else(String::new, age);
        let numbers = [count(&row["subscriptions"]), size(&row["queued_bytes"]), heard];
        let names = [text(&row["peer"]), text(&row["subject"])];
        [name_of(row), text(&row["kind"])].into_iter().chain(numbers).chain(names).collect()
    });
    table(&head, &rows)
}

pub(super) fn connection(arguments: &Connection) -> Outcome {
    let (shard, slot) = arguments.place;
    let target = format!("/connection?shard={shard}&slot={slot}");
    print(&arguments.with, |admin| admin.get(&target), connection_text)
}

fn connection_text(value: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        if !text.is_empty() {
            writeln!(out, "{name:<10} {text}").expect("writing to a String cannot fail");
        }
    };
    line("connection", format!("{} (generation {})", name_of(value), text(&value["generation"])));
    line("peer", text(&value["peer"]));
    line("kind", text(&value["kind"]));
    let tls = if value["tls"] == true { ", with TLS" } else { "" };
    line("listener", format!("{}{tls}", text(&value["listener"])));
    line("subject", text(&value["subject"]));
    line("heard", value["heard_seconds_ago"].as_f64().map_or_else(String::new, |time| format!("{} ago", age(time))));
    line("queued", size(&value["queued_bytes"]));
    line("reads", format!("{} topics", count(&value["subscriptions"])));
    let subscribed = rows(&value["subscribed"], |row| {
        let behind = if row["behind"].is_null() { "?".to_owned() } else { count(&row["behind"]) };
        vec![behind, text(&row["topic"])]
    });
    if !subscribed.is_empty() {
        out += &(table(&[("BEHIND", Side::Right), ("TOPIC", Side::Left)], &subscribed).join("\n") + "\n");
    }
    out
}

pub(super) fn slow(arguments: &Slow) -> Outcome {
    let target = format!("/slow?limit={}", arguments.limit);
    let nobody = "nobody is behind";
    print(&arguments.with, |admin| admin.get(&target), |value| lines(slow_lines(value), nobody))
}

/// Writes subscribers that are behind as a table.
pub(super) fn slow_lines(value: &Value) -> Vec<String> {
    let (left, right) = (|name| (name, Side::Left), |name| (name, Side::Right));
    let head = [left("CONN"), right("BEHIND"), right("QUEUED"), left("PEER"), left("TOPIC")];
    let rows = rows(value, |row| {
        let numbers = [count(&row["behind"]), size(&row["queued_bytes"])];
        [name_of(row)].into_iter().chain(numbers).chain([text(&row["peer"]), text(&row["topic"])]).collect()
    });
    table(&head, &rows)
}

pub(super) fn disconnect(arguments: &Disconnect) -> Outcome {
    let ask = |admin: &Admin| {
        let body = match (&arguments.place, &arguments.peer, &arguments.subject) {
            (Some((shard, slot)), ..) => {
                let generation = match arguments.generation {
                    Some(generation) => generation.into(),
                    // Who has it now is meant.
                    None => {
                        let seen = admin.get(&format!("/connection?shard={shard}&slot={slot}"))?;
                        serde_json::from_str::<Value>(&seen).unwrap_or_default()["generation"].take()
                    }
                };
                json!({ "shard": shard, "slot": slot, "generation": generation })
            }
            (None, Some(peer), _) => json!({ "peer": peer }),
            (None, None, subject) => json!({ "subject": subject }),
        };
        admin.post("/disconnect", Some(&body))
    };
    print(&arguments.with, ask, |value| match value["ended"].as_u64() {
        Some(0) => "there is no such connection: nothing was ended\n".to_owned(),
        Some(1) => "ended 1 connection\n".to_owned(),
        _ => format!("ended {} connections\n", count(&value["ended"])),
    })
}

pub(super) fn drain(arguments: &Drain) -> Outcome {
    let body = arguments.over.map(|ms| json!({ "seconds": ms.div_ceil(1000) }));
    let said = |_: &Value| "the engine drains, and ends then\n".to_owned();
    print(&arguments.with, |admin| admin.post("/drain", body.as_ref()), said)
}

pub(super) fn reload(arguments: &Reload) -> Outcome {
    print(
        &arguments.with,
        |admin| admin.post("/reload", None),
        |value| {
            let changed: Vec<String> = value["changed"].as_array().into_iter().flatten().map(text).collect();
            match (changed.as_slice(), &value["reason"]) {
                ([], Value::String(reason)) => format!("nothing has changed: {}\n", plain(reason)),
                ([], _) => "nothing has changed\n".to_owned(),
                (changed, _) => format!("changed: {}\n", changed.join(", ")),
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of the admin listener become tables that fit into 80 columns, the free text last.
    #[test]
    fn lists_become_tables() {
        let topics = json!([
            {"topic": "news", "shard": 1, "messages": 60, "bytes": 61440, "epoch": "5f0c2a91", "head": 1024, "rate": 12.5},
            {"topic": "a\u{1b}b", "shard": 0, "messages": 1000, "bytes": 5, "epoch": "5f0c2a91", "head": 1, "readers": 3},
        ]);
        let expected = [
            "SHARD  MESSAGES     BYTES  RATE/s  READERS  TOPIC",
            "    1        60  60.0 KiB      12           news",
            "    0     1,000       5 B                3  a\\u{1b}b",
        ];
        assert_eq!(topic_lines(&topics), expected);
        let connections = json!([{"shard": 0, "slot": 17, "generation": 1, "peer": "10.0.0.7:40312", "kind": "line",
            "subscriptions": 2, "queued_bytes": 0, "heard_seconds_ago": 3.2, "subject": "anna"}]);
        let expected = [
            "CONN  KIND  SUBS  QUEUED  HEARD  PEER            SUBJECT",
            "0/17  line     2     0 B  3.2 s  10.0.0.7:40312  anna",
        ];
        assert_eq!(connection_lines(&connections), expected);
        let slow =
            json!([{"shard": 0, "slot": 23, "peer": "[::1]:5", "topic": "news", "behind": 412, "queued_bytes": 0}]);
        let expected = ["CONN  BEHIND  QUEUED  PEER     TOPIC", "0/23     412     0 B  [::1]:5  news"];
        assert_eq!(slow_lines(&slow), expected);
        assert_eq!(lines(slow_lines(&json!([])), "nobody"), "nobody\n");
    }

    /// One topic and one connection are written line by line, without what is not known.
    #[test]
    fn one_is_written_in_lines() {
        let topic = json!({"topic": "news", "shard": 1, "messages": 60, "bytes": 61440, "epoch": "5f0c2a91", "head": 1024,
            "first": 965, "readers": 3, "readers_by_shard": [{"shard": 0, "readers": 3}],
            "terms": {"lag": {"value": "close", "rule": "news/#"}, "every": {"value": "0"}}});
        let said = topic_text(&topic);
        for expected in [
            "head      1024, the oldest that is remembered 965\n",
            "readers   3 (3 on shard 0)\n",
            "  lag = close                      # match = \"news/#\"\n",
            "  every = 0                        # no rule\n",
        ] {
            assert!(said.contains(expected), "{expected:?} in {said}");
        }
        assert!(!said.contains("rate"), "{said}");
        let connection = json!({"shard": 0, "slot": 17, "generation": 4, "peer": "10.0.0.7:40312", "kind": "line", "tls": true,
            "listener": "tls://0.0.0.0:443", "subscriptions": 2, "queued_bytes": 0, "heard_seconds_ago": 3.2,
            "subscribed": [{"topic": "a", "behind": 7}, {"topic": "b"}]});
        let said = connection_text(&connection);
        assert!(said.starts_with("connection 0/17 (generation 4)\npeer       10.0.0.7:40312\n"), "{said}");
        assert!(said.contains("tls://0.0.0.0:443, with TLS\n") && said.ends_with("     7  a\n     ?  b\n"), "{said}");
    }

    /// A value is written so that a query has it whole.
    #[test]
    fn values_are_encoded() {
        assert_eq!(encoded("a/b"), "a/b");
        for text in ["a&b=c", "a+b", "a b", "50%", "#", "\u{e9}", "a?b"] {
            let encoded = encoded(text);
            assert!(!encoded.contains(['&', '+', ' ', '#']), "{encoded}");
            let mut room = [0; 64];
            assert_eq!(percent::decode(&encoded, &mut room, true), Ok(text));
        }
    }
}
