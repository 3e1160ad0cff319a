//! `rtl8139` under any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| host_tests::fuzz::chips::rtl8139(data));
