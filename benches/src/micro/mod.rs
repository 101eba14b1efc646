//! Small works whose instructions are counted: one operation of the path of a message each, over and over.
//!
//! A case is a function that prepares its input, checks that the operation gives the right answer, does it so many times,
//! and checks again what the last one left. Only what is between the checks grows with the number of iterations, so the
//! difference between two runs is the operations alone: no markers in the code, no frames of a profiler. `bench` takes it
//! under callgrind (see [`callgrind`](crate::callgrind)); natively a case is a test of itself.
//!
//! Beside a case stands the plainest way to do the same, where there is one.

mod bytes;
mod kernel;
mod messages;
mod patterns;

/// One work.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What one operation is.
    pub operation: &'static str,
    /// How many of `unit` one operation handles.
    pub units: u32,
    /// What an operation's cost is divided by: bytes, or subscribers.
    pub unit: &'static str,
    /// Instructions of one operation as they were recorded: `x86_64` with AVX2, rustc 1.95, glibc 2.36. A LOG row says why
    /// when they change.
    pub recorded: f64,
    /// Operations of the shorter of the two runs.
    pub iterations: u64,
    /// Does it so many times; panics if the answer is wrong.
    pub work: fn(u64),
    /// The plainest way.
    pub baseline: Option<Baseline>,
}

/// What stands beside a case.
#[derive(Clone, Copy, Debug)]
pub struct Baseline {
    /// What it is.
    pub name: &'static str,
    /// Does it so many times.
    pub work: fn(u64),
}

/// Instructions may grow by so much before a case has missed its record: counts are exact on one machine, but another
/// compiler or C library moves them a little.
pub const GROWTH_MAX: f64 = 1.10;

const fn beside(name: &'static str, work: fn(u64)) -> Option<Baseline> {
    Some(Baseline { name, work })
}

/// All cases, in the order of the path of a message.
pub const CASES: &[Case] = &[
    Case {
        name: "parse-head",
        operation: "head of a browser's WebSocket request",
        units: bytes::HEAD.len() as u32,
        unit: "B",
        recorded: 10_049.0,
        iterations: 2_000,
        work: bytes::parse_head,
        baseline: beside("httparse alone", bytes::parse_head_plain),
    },
    Case {
        name: "parse-frame",
        operation: "header of a client's frame",
        units: bytes::FRAME_HEADER_BYTES as u32,
        unit: "B",
        recorded: 207.0,
        iterations: 20_000,
        work: bytes::parse_frame,
        baseline: beside("no checks", bytes::parse_frame_plain),
    },
    Case {
        name: "unmask-512",
        operation: "payload of 512 B",
        units: 512,
        unit: "B",
        recorded: 186.0,
        iterations: 10_000,
        work: bytes::unmask::<512>,
        baseline: beside("byte by byte", bytes::unmask_plain::<512>),
    },
    Case {
        name: "unmask-16k",
        operation: "payload of 16 KiB",
        units: 16_384,
        unit: "B",
        recorded: 4_650.0,
        iterations: 500,
        work: bytes::unmask::<16_384>,
        baseline: beside("byte by byte", bytes::unmask_plain::<16_384>),
    },
    Case {
        name: "utf8-ascii",
        operation: "check of 512 B of ASCII",
        units: 512,
        unit: "B",
        recorded: 169.0,
        iterations: 10_000,
        work: bytes::utf8_ascii,
        baseline: beside("std", bytes::utf8_ascii_plain),
    },
    Case {
        name: "utf8-mixed",
        operation: "check of 512 B of five scripts",
        units: 512,
        unit: "B",
        recorded: 528.0,
        iterations: 5_000,
        work: bytes::utf8_mixed,
        baseline: beside("std", bytes::utf8_mixed_plain),
    },
    Case {
        name: "ring-hop",
        operation: "Deliver of 512 B: encode, push, pop, decode",
        units: 512,
        unit: "B",
        recorded: 873.0,
        iterations: 10_000,
        work: messages::ring_hop,
        baseline: beside("two copies", messages::two_copies),
    },
    Case {
        name: "encode-payload",
        operation: "WebSocket frame of 512 B",
        units: 512,
        unit: "B",
        recorded: 130.0,
        iterations: 20_000,
        work: bytes::encode_payload,
        baseline: beside("a copy", bytes::copy),
    },
    Case {
        name: "encode-line",
        operation: "line protocol, 512 B",
        units: 512,
        unit: "B",
        recorded: 854.0,
        iterations: 10_000,
        work: bytes::encode_line,
        baseline: beside("a copy", bytes::copy),
    },
    Case {
        name: "encode-sse",
        operation: "server-sent event of 512 B",
        units: 512,
        unit: "B",
        recorded: 885.0,
        iterations: 10_000,
        work: bytes::encode_sse,
        baseline: beside("a copy", bytes::copy),
    },
    Case {
        name: "turn-1",
        operation: "512 B, received to sent, 1 subscriber",
        units: 1,
        unit: "subscriber",
        recorded: 10_055.0,
        iterations: 1_000,
        work: messages::turn::<1, 0>,
        baseline: None,
    },
    Case {
        name: "turn-1-rules",
        operation: "the same with 100 rules for topics",
        units: 1,
        unit: "subscriber",
        recorded: 10_188.0,
        iterations: 1_000,
        work: messages::turn::<1, 100>,
        baseline: beside("with 1 rule", messages::turn::<1, 1>),
    },
    Case {
        name: "find-rule",
        operation: "what 100 rules say of a topic",
        units: 100,
        unit: "rule",
        recorded: 247.0,
        iterations: 10_000,
        work: messages::find_rule::<100>,
        baseline: beside("1 rule", messages::find_rule::<1>),
    },
    Case {
        name: "turn-1000",
        operation: "512 B, received to sent, 1,000 subscribers",
        units: 1_000,
        unit: "subscriber",
        recorded: 109_646.0,
        iterations: 100,
        work: messages::turn::<1_000, 0>,
        baseline: beside("1,000 bare orders", messages::bare_orders::<1_000>),
    },
    Case {
        name: "turn-1-pattern",
        operation: "512 B, line protocol, 1 subscriber of a pattern with 10,000 topics",
        units: 1,
        unit: "subscriber",
        recorded: 15_245.0,
        iterations: 1_000,
        work: patterns::pattern::<1>,
        baseline: beside("of one topic", patterns::topic::<1>),
    },
    Case {
        name: "turn-100-pattern",
        operation: "the same, 100 subscribers",
        units: 100,
        unit: "subscriber",
        recorded: 24_266.0,
        iterations: 500,
        work: patterns::pattern::<100>,
        baseline: beside("of one topic", patterns::topic::<100>),
    },
];

impl Case {
    /// Returns the case of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Case> {
        CASES.iter().find(|case| case.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are found, no two cases share one, and each case can be measured and has its record.
    #[test]
    fn cases_are_sound() {
        for case in CASES {
            assert_eq!(CASES.iter().filter(|other| other.name == case.name).count(), 1, "{}", case.name);
            assert_eq!(Case::find(case.name).map(|found| found.name), Some(case.name));
            assert!(case.units > 0 && case.iterations > 0 && case.recorded > 0.0, "{}", case.name);
        }
        assert!(Case::find("nothing").is_none());
    }
}
