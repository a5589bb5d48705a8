//! What can be wrong with a file of another program, and where. Every error of a reader carries a position, since the file is on somebody's
//! disk and somebody has to look at it.

use std::fmt;

use thiserror::Error;

use super::facts::{Fact, FactSet};
use nbd_extents::StreamError;

/// A place in an input: the byte, counted from 0, and its line, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The byte, counted from 0 at the start of the input.
    pub byte: u64,
    /// The line that holds it, counted from 1.
    pub line: u64,
}

impl Position {
    /// The start of an input.
    pub(super) const START: Self = Self { byte: 0, line: 1 };

    /// Steps over one byte.
    pub(super) const fn step(&mut self, byte: u8) {
        self.byte += 1;
        self.line += (byte == b'\n') as u64;
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (byte {})", self.line, self.byte)
    }
}

/// An input that is not what its format demands: what is wrong, and where.
///
/// ```
/// use nbd_extents_formats::{Decode, Fault, imageio};
///
/// let mut reader = imageio::DirtyReader::new();
/// let error = reader.next(&mut &b"[{\"start\": 0,\n  \"length\": -1}]"[..]).unwrap_err();
/// assert_eq!(error.at.line, 1, "the object begins there");
/// assert_eq!(error.to_string(), "line 1 (byte 1): \"length\" is not a whole number from 0 to 2^64 - 1");
/// assert!(matches!(error.fault, Fault::Type { field: "length", .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{at}: {fault}")]
pub struct ReadError {
    /// Where: the offending byte, or the start of the object or line that is wrong as a whole.
    pub at: Position,
    /// What.
    #[source]
    pub fault: Fault,
}

/// What is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// A byte that cannot stand here.
    #[error("{} where {expected} should be", Byte(*found))]
    Unexpected {
        /// The byte.
        found: u8,
        /// What could stand here.
        expected: &'static str,
    },
    /// The input ends too early.
    #[error("the input ends where {expected} should be")]
    Ended {
        /// What should have followed.
        expected: &'static str,
    },
    /// Text that is not UTF-8, or half of a surrogate pair.
    #[error("the text is not Unicode")]
    NotUnicode,
    /// Arrays and objects within each other, deeper than any of the formats goes.
    #[error("arrays and objects are more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: u8,
    },
    /// A field that the format demands is not there.
    #[error("there is no \"{field}\"")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field is there twice.
    #[error("\"{field}\" is there twice")]
    Twice {
        /// The field.
        field: &'static str,
    },
    /// A field has a value of another kind.
    #[error("\"{field}\" is not {expected}")]
    Type {
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Two fields contradict each other: most likely the input is of another format, or of another context.
    #[error("\"{field}\" and \"{other}\" do not go together in this format")]
    Contradiction {
        /// The one field.
        field: &'static str,
        /// The other one.
        other: &'static str,
    },
    /// The ranges are empty or too large, overlap, or leave bytes out where none may be left out.
    #[error(transparent)]
    Extents(#[from] StreamError),
}

impl Fault {
    pub(super) const fn at(self, at: Position) -> ReadError {
        ReadError { at, fault: self }
    }
}

/// A byte in words.
struct Byte(u8);

impl fmt::Display for Byte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b'\n' => f.write_str("the end of the line"),
            byte @ b' '..=b'~' => write!(f, "'{}'", char::from(byte)),
            byte => write!(f, "the byte {byte:#04x}"),
        }
    }
}

/// Extents that cannot be written in a format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// What the text was written to has failed.
    #[error("the text cannot be written")]
    Sink(#[from] fmt::Error),
    /// The extents overlap, or leave bytes out where the format has no way to leave them out.
    #[error(transparent)]
    Extents(#[from] StreamError),
    /// The format demands something that is not known of a range.
    #[error("the format must say \"{fact}\", which is not known of the bytes from {start} on")]
    Unknown {
        /// What has to be said.
        fact: Fact,
        /// The first byte of the range.
        start: u64,
    },
    /// The format has no way to say something that is known of a range.
    #[error("the format cannot say \"{lost}\", which is known of the bytes from {start} on")]
    Lost {
        /// What would be lost.
        lost: FactSet,
        /// The first byte of the range.
        start: u64,
    },
    /// A range is not made of the whole blocks that the format lists.
    #[error("the range of {length} bytes at byte {start} is not made of whole blocks of {block} bytes")]
    Ragged {
        /// The first byte of the range.
        start: u64,
        /// Its length, in bytes.
        length: u64,
        /// The size of a block, in bytes.
        block: u64,
    },
    /// A format needs an option that was not given.
    #[error("the format needs {option}")]
    Option {
        /// What has to be given.
        option: &'static str,
    },
}
