//! The fuzz bodies of the engine, over their corpora and deterministic mutations of them, on stable.

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

/// Whatever claims say, what comes of them holds its bounds, and no subject widens a pattern.
#[test]
fn claims() {
    runner::run("claims", corecast::authority::claims::fuzz_claims);
}
