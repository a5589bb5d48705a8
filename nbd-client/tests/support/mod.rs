//! Support of the live tests: images and servers made on the spot, and a slow model to compare with.
//!
//! A test makes an image from a [`image::Recipe`], lends it to a [`server::Server`], learns the truth with a
//! [`model::Model`] (which asks about one small block at a time and shares no code with the crates under
//! test), runs the example `extents` with [`run::extents`] and compares the two, extent for extent.
#![allow(dead_code, reason = "each test binary uses its own part of the support")]

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod command;
pub(crate) mod image;
pub(crate) mod model;
pub(crate) mod naive;
pub(crate) mod random;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod tools;
pub(crate) mod watchdog;
