//! libFuzzer around the target `http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coequal_fuzz::run("http", data));
