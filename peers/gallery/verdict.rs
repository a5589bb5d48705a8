//! The end of a client's run, and the verdict about it.

use core::fmt;
use core::ops::Range;
use core::time::Duration;

use crate::disk::{KnownDisk, Treatment};

/// The time that a client has; one that needs longer is said to hang.
pub const LIMIT: Duration = Duration::from_secs(10);

/// The answer of a client about a server's disk.
#[derive(Clone, Debug)]
pub enum PeerAnswer {
    Actions(Vec<(Range<u64>, Treatment)>),
    /// The bytes of a copy.
    Data(Vec<u8>),
    Refuses(String),
    Hangs,
    Crashes(String),
    /// It does not do this at all.
    NotDone,
}

/// The content of a cell of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// An error, where an answer would have been possible.
    GivesUp,
    /// An error, where no answer was.
    Refuses,
    /// Bytes that a backup would lack, or have wrong.
    Loses(u64),
    /// It answers although no answer is right; nothing is lost this time.
    Believes,
    Hangs,
    Crashes,
    NotDone,
}

impl Verdict {
    pub fn new(answer: &PeerAnswer, disk: &KnownDisk, answerable: bool) -> Self {
        let lost = match answer {
            PeerAnswer::Actions(actions) => disk.lost(actions),
            PeerAnswer::Data(data) => wrong_bytes(data, disk),
            PeerAnswer::Refuses(_) if answerable => return Self::GivesUp,
            PeerAnswer::Refuses(_) => return Self::Refuses,
            PeerAnswer::Hangs => return Self::Hangs,
            PeerAnswer::Crashes(_) => return Self::Crashes,
            PeerAnswer::NotDone => return Self::NotDone,
        };
        match lost {
            0 if answerable => Self::Right,
            0 => Self::Believes,
            bytes => Self::Loses(bytes),
        }
    }

    /// True for a right answer, and for an error where none is possible.
    pub fn survives(&self) -> bool {
        matches!(self, Self::Right | Self::Refuses)
    }
}

fn wrong_bytes(data: &[u8], disk: &KnownDisk) -> u64 {
    let truth = disk.data(0..disk.size());
    let missing = truth.len().abs_diff(data.len());
    let wrong = truth.iter().zip(data).filter(|(truth, copied)| truth != copied).count();
    (missing + wrong) as u64
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str("right"),
            Self::GivesUp => f.write_str("gives up"),
            Self::Refuses => f.write_str("refuses"),
            Self::Loses(bytes) if *bytes >= 1 << 30 => write!(f, "LOSES {} GiB", bytes >> 30),
            Self::Loses(bytes) => write!(f, "LOSES {} KiB", bytes >> 10),
            Self::Believes => f.write_str("believes it"),
            Self::Hangs => f.write_str("HANGS"),
            Self::Crashes => f.write_str("CRASHES"),
            Self::NotDone => f.write_str("-"),
        }
    }
}
