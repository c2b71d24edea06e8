//! libFuzzer around the target `stores`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coequal_fuzz::run("stores", data));
