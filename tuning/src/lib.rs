//! corecast tuning.
