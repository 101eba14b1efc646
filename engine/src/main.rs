//! The command line of corecast.
fn main() {}
