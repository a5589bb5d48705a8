//! The C interface of nbd-extents: `libnbd_extents.so` and `libnbd_extents.a`.
//!
//! Its documentation is the header, `include/nbd_extents.h`; a test holds the two against each other.
//! A file here has the functions of one kind of object, and each function is one call into `border`,
//! which checks pointers, stops panics and keeps the messages of errors.
//!
//! The functions are `unsafe` for one common reason, which each `# Safety` section refers to as "the
//! header": pointers are NULL or valid for the stated count, objects are alive, and one thread at a time
//! uses an object.

#![allow(non_camel_case_types, reason = "the types have the names that C knows them by")]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![warn(clippy::cast_possible_truncation)]

mod border;
#[cfg(any(test, fuzzing))]
pub mod calls;
pub mod layout;
pub mod library;
pub mod map;
pub mod options;
pub mod plan;
pub mod policy;
mod status;
pub mod survey;
#[cfg(test)]
mod tests;
