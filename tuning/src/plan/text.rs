//! A plan for people.

use super::{BUSY_MAX, PINGS, Part, Plan, WIRE_BYTES, Work};
use crate::amount::{bytes_text, digits, grouped, seconds_text};
use crate::constants::Constants;
use crate::needs;

/// Width of the first column.
const WIDTH: usize = 48;

impl Plan {
    /// Returns the plan for people. `origin` says where the constants come from.
    #[must_use]
    pub fn text(&self, constants: &Constants, origin: &str) -> String {
        let wish = &self.wish;
        let often = match wish.rate {
            0.0 => "no messages".to_owned(),
            rate if rate < 1.0 => {
                format!("a message of {} bytes each {}", grouped(wish.bytes), seconds_text(1.0 / rate))
            }
            rate => format!("{} messages of {} bytes a second", digits(rate), grouped(wish.bytes)),
        };
        let mut text = format!(
            "{} over {}, {often} to each, {}\n",
            counted(wish.connections, "connection"),
            wish.transport.name(),
            counted(wish.topics, "topic")
        );
        self.cores_into(&mut text);
        parts_into(&mut text, "memory of the process", &self.user, self.user_bytes());
        parts_into(&mut text, "memory of the kernel", &self.kernel, self.kernel_bytes());
        self.network_into(&mut text);
        self.limits_into(&mut text);
        text += &format!("\nconstants: {origin}\n");
        let delivery = constants.delivery(wish.transport);
        let used = constants.named().into_iter().chain([("a delivery over this transport", &delivery)]);
        for (name, measured) in used {
            text += &line(name, &format!("{:>10}  {}", digits(measured.value), measured.source));
        }
        text
    }

    fn cores_into(&self, text: &mut String) {
        *text += "\ncores\n";
        for work in &self.work {
            let each = seconds_text(work.cpu_ns / 1e9);
            let often = digits(work.per_second);
            *text += &line(work.what, &format!("{:>10.2}  {often}/s x {each}", work.cores()));
        }
        if let Some(ping_s) = self.quiet_ping_s() {
            let saved = self.work.iter().find(|work| work.what == PINGS).map_or(0.0, Work::cores);
            let saved = format!(
                "{saved:>10.2}  saved with --ping-interval {ping_s:.0}s and a longer --dead-after: messages show life, too"
            );
            *text += &line("", &saved);
        }
        *text += &line("busy", &format!("{:>10.2}", self.busy()));
        *text += &line("cores", &format!("{:>10}  at most {:.0} % busy", self.cores, BUSY_MAX * 100.0));
        let why = match self.shards > self.cores {
            true => "more than cores: their tables end at 1,048,576, and a tenth stays free".to_owned(),
            false => format!("one per core, {} connections each", grouped(self.wish.connections / self.shards)),
        };
        *text += &line("shards", &format!("{:>10}  {why}", self.shards));
        let walk = seconds_text(self.walk_s);
        *text += &line(
            "one message to a whole topic takes",
            &format!("{walk:>10}  first to last, on {}", counted(self.cores, "core")),
        );
        let connect = seconds_text(self.connect_s);
        *text += &line("all connect again in", &format!("{connect:>10}  if nothing else is done meanwhile"));
    }

    fn network_into(&self, text: &mut String) {
        let network = &self.network;
        *text += "\nnetwork\n";
        for (what, bytes, packets) in [
            ("to the clients", network.bytes_down, network.packets_down),
            ("from the clients", network.bytes_up, network.packets_up),
        ] {
            let mbit = digits(bytes * 8.0 / 1e6);
            *text += &line(what, &format!("{mbit:>10} Mbit/s, {} packets/s", digits(packets)));
        }
        let busiest = network.bits() / (self.port_gbit as f64 * 1e9) * 100.0;
        *text += &line("port", &format!("{:>10} Gbit/s, {busiest:.0} % of it", self.port_gbit));
        let queues = self.shards.min(self.cores.max(1));
        let each = digits((network.packets_down + network.packets_up) / queues as f64);
        *text += &line("receive queues, one per core", &format!("{queues:>10}  {each} packets/s each, both ways"));
        *text +=
            &format!("  ({WIRE_BYTES} bytes on the wire around each segment: Ethernet, IPv4, TCP with timestamps)\n");
    }

    fn limits_into(&self, text: &mut String) {
        *text += "\nlimits (`corecast tune check` says whether a host has them)\n";
        let Plan { wish, shards, .. } = self;
        let mut limit = |name: &str, value: String| *text += &line(name, &value);
        limit("--shards", format!("{shards:>10}"));
        limit("RLIMIT_NOFILE (LimitNOFILE=)", format!("{:>10}", grouped(self.files())));
        let locked = self.locked_bytes() >> 20;
        limit("RLIMIT_MEMLOCK (LimitMEMLOCK=)", format!("{locked:>9}M"));
        limit("fs.file-max", format!("{:>10}", grouped(wish.connections + 100_000)));
        limit("net.ipv4.tcp_mem, third number, at least", format!("{:>10} pages", grouped(self.pages)));
        if wish.bytes > needs::MESSAGE_BYTES_DEFAULT {
            limit("--max-message", format!("{:>10} bytes; --log-bytes follows", grouped(wish.bytes)));
        }
    }
}

fn parts_into(text: &mut String, heading: &str, parts: &[Part], all: u64) {
    *text += &format!("\n{heading}\n");
    for part in parts {
        *text += &line(part.what, &format!("{:>10}", bytes_text(part.bytes)));
    }
    *text += &line("together", &format!("{:>10}", bytes_text(all)));
}

fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

fn line(name: &str, value: &str) -> String {
    format!("  {name:<WIDTH$} {value}\n")
}
