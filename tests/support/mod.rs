//! What the integration tests share: the slow judge ([`dense`]), the simulated server ([`server`]) with its moods ([`style`]), a disk with
//! everything that a caller decides ([`setup`]), and the loop that a client would run ([`drive`]).

// each test crate uses its own part of this
#![allow(dead_code)]

pub(crate) mod dense;
pub(crate) mod drive;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod style;

use proptest::test_runner::Config;

/// So many cases, or what PROPTEST_CASES says: mutation testing wants few. No files of old failures: what failed once becomes a test.
pub(crate) fn config(cases: u32) -> Config {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    Config { cases: wanted.unwrap_or(cases), failure_persistence: None, ..Config::default() }
}
