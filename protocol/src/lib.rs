//! Bytes to meaning and back, for corecast.
#![no_std]
#![forbid(unsafe_code)]
