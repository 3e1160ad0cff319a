//! Kernels for PVH under any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| host_tests::fuzz::pvh_kernel(data));
