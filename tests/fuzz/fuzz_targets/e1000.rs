//! `e1000` under any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| host_tests::fuzz::chips::e1000(data));
