//! The shared parts of the integration tests: the slow model ([`dense`]), the simulated server
//! ([`server`]) with its variations ([`style`]), a disk with all choices of the caller ([`setup`]),
//! and the loop of a client ([`drive`]).

// each test crate uses its own part of this
#![allow(dead_code)]

pub(crate) mod dense;
pub(crate) mod drive;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod style;

use proptest::test_runner::Config;

/// The number of cases, or the value of PROPTEST_CASES: mutation testing wants few. No files of old
/// failures: a failure becomes a test.
pub(crate) fn config(cases: u32) -> Config {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    Config { cases: wanted.unwrap_or(cases), failure_persistence: None, ..Config::default() }
}
