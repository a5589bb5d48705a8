//! Shared by the differential fuzzer and the gallery of faults: libnbd in a process of its own, and the
//! words for a client's account of a session.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "names that say it all; the rest has its comment")]
#![allow(
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "no caller outside of this package"
)]

pub mod libnbd;
pub mod outcome;

/// Names of contexts, in the order in which clients ask for them.
pub const CONTEXTS: [&str; 2] = ["base:allocation", "qemu:dirty-bitmap:b0"];

/// One request of a client, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Status { offset: u64, length: u64 },
    Read { offset: u64, length: u64 },
    Flush,
}
