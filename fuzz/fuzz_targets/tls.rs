#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| nbd_extents_fuzz_bodies::tls::tls(data));
