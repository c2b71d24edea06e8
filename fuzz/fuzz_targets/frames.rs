//! libFuzzer around the target `frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coequal_fuzz::run("frames", data));
