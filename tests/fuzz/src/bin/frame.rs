//! Fuzzes [`tests::fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests::fuzz::frame::run(data));
