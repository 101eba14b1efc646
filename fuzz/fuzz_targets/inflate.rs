#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| corecast::shard::fuzz_inflate(data));
