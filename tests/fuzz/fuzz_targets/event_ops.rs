//! `event_ops` under any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| host_tests::fuzz::xen::event_ops(data));
