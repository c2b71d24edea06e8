//! libFuzzer around the target `documents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coequal_fuzz::run("documents", data));
