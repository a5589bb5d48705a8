#![no_main]
// The C interface is a library for C, which Rust cannot link: its source is a module here.
#[path = "../../capi/src/lib.rs"]
mod capi;

libfuzzer_sys::fuzz_target!(|data: &[u8]| capi::calls::calls(data));
