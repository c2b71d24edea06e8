//! libFuzzer around the target `tokens`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coequal_fuzz::run("tokens", data));
