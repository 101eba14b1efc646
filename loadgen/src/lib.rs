//! corecast loadgen.
