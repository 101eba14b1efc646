//! What things cost, as measured: the numbers a plan is made of, each with where it comes from.
//!
//! Owns: the constants that are shipped, and the file that `corecast-load calibrate --out FILE` writes to replace those it
//! can measure on a host. The file is JSON:
//!
//! ```json
//! {
//!   "format": "corecast-constants",
//!   "version": 1,
//!   "host": "2 cores (AMD EPYC), 24 GB, Linux 6.18",
//!   "constants": {
//!     "cpu_ns_per_delivery_websocket": { "value": 6100.0, "source": "calibrate, 1,000,000 subscribers, 512 bytes" }
//!   }
//! }
//! ```
//!
//! A constant that is not in the file keeps its shipped value. One that nobody knows is an error: it is misspelt, or the file
//! is for another version.

use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::transport::Transport;

/// What `format` says in a file.
pub const FORMAT: &str = "corecast-constants";

/// The version of the file that this source reads and writes.
pub const VERSION: u32 = 1;

/// Largest value of a constant: a second in nanoseconds, or a GB. What is larger was not measured, it is a mistake.
const VALUE_MAX: f64 = 1e9;

/// A number and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The number, in the unit of its name.
    pub value: f64,
    /// Where it comes from: a measurement, or how it was estimated.
    pub source: String,
}

impl Measured {
    /// Makes one.
    #[must_use]
    pub fn new(value: f64, source: impl Into<String>) -> Measured {
        Measured { value, source: source.into() }
    }
}

macro_rules! constants {
    ($($(#[doc = $help:literal])+ $name:ident = $value:literal from $source:literal,)+) => {
        /// Every constant, with its value.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Constants {
            $($(#[doc = $help])+ pub $name: Measured,)+
            /// CPU time per delivery over a transport other than WebSocket, as far as it was measured on the host.
            pub cpu_ns_per_delivery: Vec<(Transport, Measured)>,
        }

        /// Those constants that were measured on a host.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Calibrated {
            $(
                $(#[doc = $help])+
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $name: Option<Measured>,
            )+
            /// As `cpu_ns_per_delivery_websocket`, over the other transports, by the name each has in `--transport`.
            #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
            pub cpu_ns_per_delivery: std::collections::BTreeMap<Transport, Measured>,
        }

        impl Constants {
            /// Returns the constants that are shipped: upper ends of what `benches/LOG.md` and `docs/transports.md` say.
            #[must_use]
            pub fn shipped() -> Constants {
                Constants { $($name: Measured::new($value, $source),)+ cpu_ns_per_delivery: Vec::new() }
            }

            /// Returns them with those in place that were measured on a host.
            #[must_use]
            pub fn with(mut self, calibrated: Calibrated) -> Constants {
                $(if let Some(measured) = calibrated.$name { self.$name = measured; })+
                self.cpu_ns_per_delivery = calibrated.cpu_ns_per_delivery.into_iter().collect();
                self
            }

            /// Returns all of them by name, those of other transports left out.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, &Measured)> {
                vec![$((stringify!($name), &self.$name),)+]
            }
        }

        impl Calibrated {
            fn all(&self) -> impl Iterator<Item = (&'static str, &Measured)> {
                let own = [$((stringify!($name), self.$name.as_ref()),)+];
                let own = own.into_iter().filter_map(|(name, measured)| Some((name, measured?)));
                own.chain(self.cpu_ns_per_delivery.values().map(|measured| ("cpu_ns_per_delivery", measured)))
            }
        }
    };
}

constants! {
    /// CPU time of the engine per message of 512 bytes and subscriber, one message at a time to very many of them.
    cpu_ns_per_delivery_websocket = 8_400.0 from
        "benches/LOG.md 1d60afe: one message to 100,000 on loopback, the receiving side's TCP included",
    /// CPU time that each KiB beyond 512 bytes adds to a delivery.
    cpu_ns_per_delivered_kib = 560.0 from
        "benches/LOG.md 686d8dd burst-256: 0.28 µs for 512 bytes, nearly all of it bytes",
    /// CPU time to take in one message and to number it.
    cpu_ns_per_publish = 2_710.0 from "benches/LOG.md 686d8dd: many-topics 8.54 µs less fanout-cold 5.83 µs",
    /// CPU time to hand one message to one other shard.
    cpu_ns_per_crossing = 1_900.0 from "benches/LOG.md da3b171 cross-shard",
    /// CPU time for a ping and its pong.
    cpu_ns_per_ping = 14_300.0 from
        "benches/LOG.md 2026-11-28 pings: 1.70 deliveries of the same run, of 8.40 µs",
    /// CPU time for a new connection: accept, handshake, subscription.
    cpu_ns_per_connect = 62_000.0 from
        "benches/LOG.md 1d60afe: 100,000 connections on loopback, both ends' TCP on busy cores (19.7 µs alone, 686d8dd)",
    /// Memory of the engine for an idle connection with one subscription.
    user_bytes_per_connection = 206.0 from "benches/LOG.md 686d8dd idle",
    /// Memory of the engine for a waiting long poll.
    user_bytes_per_waiting_poll = 985.0 from "benches/LOG.md e528cf2",
    /// Memory of the engine for a topic, at home and where it is read, without its messages.
    user_bytes_per_topic = 400.0 from "estimate: sizes of the structures, and a name of 32 bytes",
    /// Kernel memory for the TCP state of a connection.
    kernel_bytes_per_tcp_sock = 2_368.0 from "benches/LOG.md 2026-11-28 slabs, Linux 6.18",
    /// Kernel memory for the inode of its socket.
    kernel_bytes_per_inode = 832.0 from "benches/LOG.md 2026-11-28 slabs, Linux 6.18",
    /// Kernel memory for its file.
    kernel_bytes_per_file = 192.0 from "benches/LOG.md 2026-11-28 slabs, Linux 6.18",
    /// Kernel memory for its directory entry.
    kernel_bytes_per_dentry = 192.0 from "benches/LOG.md 2026-11-28 slabs, Linux 6.18",
    /// Kernel memory for its direct descriptor.
    kernel_bytes_per_descriptor = 40.0 from "benches/LOG.md 2026-11-28 slabs, and 8 bytes of the table",
    /// Kernel memory for the labels of a security module.
    kernel_bytes_per_labels = 56.0 from "benches/LOG.md 2026-11-28 slabs; none without such a module",
    /// Kernel memory for the poll that waits for its bytes.
    kernel_bytes_per_poll = 256.0 from "benches/LOG.md 2026-11-28 slabs; 864 while a multishot receive stands in its place",
}

impl Constants {
    /// Returns the kernel's memory for one idle connection, in bytes.
    #[must_use]
    pub fn kernel_bytes_per_connection(&self) -> f64 {
        let of_kernel = |(name, _): &(&str, &Measured)| name.starts_with("kernel_bytes_");
        self.named().into_iter().filter(of_kernel).map(|(_, measured)| measured.value).sum()
    }

    /// Returns the CPU time of a delivery of 512 bytes over a transport: measured there, or scaled from WebSocket.
    #[must_use]
    pub fn delivery(&self, transport: Transport) -> Measured {
        let websocket = &self.cpu_ns_per_delivery_websocket;
        match self.cpu_ns_per_delivery.iter().find(|(measured, _)| *measured == transport) {
            Some((_, measured)) => measured.clone(),
            None if transport == Transport::Websocket => websocket.clone(),
            None => {
                let ratio = transport.cost();
                let source = format!("{ratio} x WebSocket (docs/transports.md); {}", websocket.source);
                Measured::new(websocket.value * ratio, source)
            }
        }
    }
}

/// The file of constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConstantsFile {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The host that was measured, for people.
    pub host: String,
    /// What was measured.
    pub constants: Calibrated,
}

/// What every version of the file has: looked at first, so that a newer one is not taken for a broken one.
#[derive(Deserialize)]
struct Stamp {
    format: String,
    version: u32,
}

impl ConstantsFile {
    /// Makes a file of what was measured on a host.
    #[must_use]
    pub fn new(host: impl Into<String>, constants: Calibrated) -> ConstantsFile {
        ConstantsFile { format: FORMAT.to_owned(), version: VERSION, host: host.into(), constants }
    }

    /// Returns the text of the file.
    ///
    /// # Panics
    /// Never: such a value is always JSON.
    #[must_use]
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("strings and numbers are JSON");
        text + "\n"
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<ConstantsFile, Problem> {
        let again = "make it anew: corecast-load calibrate --out FILE";
        let bad = |error: serde_json::Error| Problem::new(format!("it is no file of constants: {error}"), again);
        let stamp: Stamp = serde_json::from_str(text).map_err(bad)?;
        if stamp.format != FORMAT {
            return Err(Problem::new(format!("its format is `{}`, not `{FORMAT}`", stamp.format), again));
        }
        if stamp.version != VERSION {
            return Err(Problem::new(format!("its version is {}, and only {VERSION} is known", stamp.version), again));
        }
        let file: ConstantsFile = serde_json::from_str(text).map_err(bad)?;
        for (name, Measured { value, .. }) in file.constants.all() {
            // Also refuses what is not a number at all.
            if !(*value > 0.0 && *value <= VALUE_MAX) {
                return Err(Problem::new(format!("{name} is {value}, which nothing costs"), again));
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every shipped constant has a unit in its name, a value that can be, and says where it comes from.
    #[test]
    fn shipped_constants_are_complete() {
        let constants = Constants::shipped();
        for (name, Measured { value, source }) in constants.named() {
            assert!(name.contains("_ns_per_") || name.contains("_bytes_per_"), "{name}");
            assert!(*value > 0.0 && *value <= VALUE_MAX, "{name} {value}");
            assert!(source.starts_with("estimate") || source.contains("benches/LOG.md"), "{name}: {source}");
        }
        assert_eq!(constants.kernel_bytes_per_connection(), 3_936.0);
    }

    /// A file is read back as it was written; what it has replaces what is shipped, and other transports follow.
    #[test]
    fn a_file_replaces_what_it_has() {
        let mut calibrated =
            Calibrated { cpu_ns_per_delivery_websocket: Some(Measured::new(5_000.0, "here")), ..Calibrated::default() };
        calibrated.cpu_ns_per_delivery.insert(Transport::Sse, Measured::new(6_000.0, "here too"));
        let file = ConstantsFile::new("a host", calibrated);
        assert_eq!(ConstantsFile::read(&file.text()), Ok(file.clone()));
        let constants = Constants::shipped().with(file.constants);
        assert_eq!(constants.delivery(Transport::Websocket).value, 5_000.0);
        assert_eq!(constants.delivery(Transport::Sse), Measured::new(6_000.0, "here too"));
        assert_eq!(constants.delivery(Transport::LongPoll).value, 5_000.0 * Transport::LongPoll.cost());
        assert_eq!(constants.cpu_ns_per_publish, Constants::shipped().cpu_ns_per_publish);
    }

    /// What is no such file, is of another version, misspelt or impossible is refused with the reason.
    #[test]
    fn bad_files_are_refused() {
        let with = |version: &str, constants: &str| {
            let text = r#"{"format": "corecast-constants", "version": V, "host": "h", "constants": {C}}"#;
            text.replace('V', version).replace("{C}", constants)
        };
        assert!(ConstantsFile::read(&with("1", "{}")).is_ok());
        for (text, expected) in [
            (String::new(), "no file of constants"),
            ("{}".to_owned(), "no file of constants"),
            (r#"{"format": "x", "version": 1}"#.to_owned(), "its format is `x`"),
            (with("2", r#"{"cpu_of_the_future": 1}"#), "its version is 2"),
            (with("1", r#"{"cpu_ns_per_publsh": {"value": 1, "source": ""}}"#), "cpu_ns_per_publsh"),
            (with("1", r#"{"cpu_ns_per_publish": 7}"#), "no file of constants"),
            (with("1", r#"{"cpu_ns_per_publish": {"value": -7, "source": ""}}"#), "cpu_ns_per_publish is -7"),
            (with("1", r#"{"cpu_ns_per_publish": {"value": 1e300, "source": ""}}"#), "which nothing costs"),
            (with("1", r#"{"cpu_ns_per_delivery": {"pigeon": {"value": 1, "source": ""}}}"#), "pigeon"),
        ] {
            let problem = ConstantsFile::read(&text).expect_err(expected);
            assert!(problem.cause.contains(expected), "{expected}: {problem}");
        }
    }
}
