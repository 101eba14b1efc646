//! The fuzz body of what the engine decompresses, over its corpus and deterministic mutations of it, on stable.

#[path = "../../fuzz/runner.rs"]
mod runner;

/// What claims to be a compressed message becomes no larger than allowed, and what is compressed comes out again.
#[test]
fn inflate() {
    runner::run("inflate", corecast::shard::fuzz_inflate);
}

/// Whatever comes as TLS records is opened or refused within its bounds; what is sealed is opened again, and a forgery is not.
#[test]
fn records() {
    runner::run("records", corecast::edge::fuzz_records);
}
