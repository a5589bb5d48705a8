//! Backups of random disks as sparse streams, and the faults that they meet.

mod disk;
mod faults;
mod streams;

pub use disk::{Disk, SeededNumbers};
pub use faults::{Fault, Faulty};
pub use streams::{Dress, Frame, StreamSet, frames, join, seal};

/// The byte that fills a target before a restore. No disk here is full of it.
pub const OLD: u8 = 0xee;
