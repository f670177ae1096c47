//! Whatever bytes a peer sends, the node's decoder neither panics nor keeps more than its limits.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| commute_zeromq::fuzzing::frames(bytes));
