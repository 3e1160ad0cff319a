//! `firmware_config` under any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| host_tests::fuzz::chips::firmware_config(data));
