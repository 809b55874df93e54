//! See `operations::messages`.
#![no_main]

#[path = "../operations.rs"]
#[allow(dead_code, reason = "each target uses one of its functions")]
mod operations;

libfuzzer_sys::fuzz_target!(|input: &[u8]| operations::messages(input));
