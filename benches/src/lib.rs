//! corecast benches.
