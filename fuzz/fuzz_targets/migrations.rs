//! libFuzzer around the target `migrations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coequal_fuzz::run("migrations", data));
