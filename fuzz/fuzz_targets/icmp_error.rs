#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sim::fuzz::icmp_error(data));
