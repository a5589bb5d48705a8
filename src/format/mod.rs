//! The forms in which other programs write extents, disks and backups down. Each is sans-I/O, to the byte where the other program's form is fixed.

#[cfg(feature = "alloc")]
pub mod sparse_stream;
