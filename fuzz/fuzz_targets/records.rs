#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| corecast::edge::fuzz_records(data));
