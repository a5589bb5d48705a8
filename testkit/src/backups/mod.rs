//! Backups of random disks as sparse streams, and what goes wrong with them.

mod disk;
mod faults;
mod streams;

pub use disk::{Disk, Numbers};
pub use faults::{Fault, Faulty};
pub use streams::{Dress, Frame, Set, frames, join, seal};

/// What a target holds before a restore: a byte that no disk here is full of.
pub const OLD: u8 = 0xee;
