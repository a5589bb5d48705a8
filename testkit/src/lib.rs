//! Support of the tests that need a real server, or one that misbehaves: what the client's tests
//! and the program's have in common.
//!
//! A test makes an image from a [`image::Recipe`], lends it to a [`server::Server`] and learns the
//! truth with a [`model::Model`], which asks about one small block at a time and shares no code
//! with the crates under test.

#![forbid(unsafe_code)]
#![cfg(unix)]
#![allow(missing_docs, reason = "names that say it all; the rest has its comment")]
#![allow(
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    clippy::should_implement_trait,
    reason = "a test that cannot go on panics, and no caller outside the workspace needs the attributes"
)]

pub mod backups;
pub mod behaviour;
pub mod clients;
pub mod command;
pub mod dropping;
pub mod endings;
pub mod image;
pub mod memory_disk;
pub mod model;
pub mod naive;
pub mod peer;
pub mod pki;
pub mod pools;
pub mod random;
pub mod relay;
pub mod scripted;
pub mod server;
pub mod tools;
pub mod watchdog;
