//! libFuzzer around the target `manifests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coequal_fuzz::run("manifests", data));
