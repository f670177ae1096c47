//! Whatever a peer says instead of a greeting, neither node nor client panics or waits for ever.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| commute_zeromq::fuzzing::greeting(bytes));
