//! Fuzzes [`tests::fuzz::router`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests::fuzz::router::run(data));
