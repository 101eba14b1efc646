#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| corecast::authority::claims::fuzz_claims(data));
