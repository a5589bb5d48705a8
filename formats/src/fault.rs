//! Errors of reading and writing lists. Each names the format, so that of two inputs it is plain
//! which one is meant, and the place in it, since the list is a file on somebody's disk and
//! somebody has to look at it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use nbd_extents::{ExtentError, StreamError};
use thiserror::Error;

use crate::Attribute;

/// A place in a text; the line and the byte within it are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineColumn {
    /// The line.
    pub line: u64,
    /// The byte within the line.
    pub column: u64,
}

impl LineColumn {
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    /// The place that follows `bytes`, which start here.
    pub(crate) fn after(self, bytes: &[u8]) -> Self {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        match bytes.iter().rposition(|&byte| byte == b'\n') {
            None => Self { line: self.line, column: self.column + number(bytes.len()) },
            Some(last) => {
                let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
                Self { line: self.line + number(lines), column: number(bytes.len() - last) }
            }
        }
    }
}

impl fmt::Display for LineColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A list that cannot be read.
///
/// ```
/// use nbd_extents::stream::ExtentStream;
/// use nbd_extents_formats::{Fault, Format, ListReadError, ReadOptions};
///
/// let json = br#"[{"start": 0, "length": -1, "dirty": true}]"#;
/// let mut rows = Format::ImageioDirty.read(&json[..], ReadOptions::default());
/// let error = rows.next_extent().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "imageio-dirty, line 1, column 2: \"length\" is not a whole number from 0 to 2^64 - 1"
/// );
/// let ListReadError::List { fault, .. } = error else { unreachable!() };
/// assert!(matches!(fault, Fault::Type { field: "length", .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ListReadError {
    /// The text is not a list of this format.
    #[error("{format}, {at}: {fault}")]
    List {
        /// The name of the format.
        format: &'static str,
        /// The start of the row, or the exact byte where the text is not JSON.
        at: LineColumn,
        /// The fault at that place.
        fault: Fault,
    },
    /// An adapter of the stream has refused an extent.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// A fault of a list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The input has no byte, or only blanks.
    #[error("the input is empty: did the program that should have written it fail?")]
    EmptyInput,
    /// The list has no row, and nobody has said that the disk has size 0.
    #[error("the list is empty, which is right only for a disk whose size is given as 0")]
    EmptyList,
    /// JSON was given to a format that is lines of text.
    #[error("the input is JSON and the format is text: name the JSON format (nbdinfo's end in -json)")]
    NotText,
    /// Lines of text were given to a JSON format.
    #[error("the input is not JSON: name a text format (nbdinfo's do not end in -json), or make it JSON")]
    NotJson,
    /// The text is not JSON, or a row is not a JSON object.
    #[error("{message}")]
    Json {
        /// The parser's words.
        message: String,
    },
    /// A byte that cannot stand here, or the end of the input: then a program or a connection has
    /// broken off.
    #[error(
        "{} where {expected} should be{}",
        shown(*.found), if found.is_none() { ": is it whole?" } else { "" }
    )]
    Unexpected {
        /// The byte; `None` at the end of the input.
        found: Option<u8>,
        /// The values that could stand here.
        expected: &'static str,
    },
    /// A row or a line is longer than this limit in bytes, which no program reaches.
    #[error("a row is longer than {0} bytes")]
    TooLong(usize),
    /// The field of this name is missing, which the format demands.
    #[error("there is no \"{0}\": is the list of this format?")]
    Missing(&'static str),
    /// The field of this name is there twice.
    #[error("\"{0}\" is there twice")]
    Twice(&'static str),
    /// A field has a value of another kind.
    #[error("\"{field}\" is not {expected}")]
    Type {
        /// The field.
        field: &'static str,
        /// The values that it may have.
        expected: &'static str,
    },
    /// Two fields contradict each other: most likely the list is of another format, or of another
    /// context.
    #[error("\"{field}\" and \"{other}\" do not go together in this format: is the list of another one?")]
    Contradiction {
        /// The one field.
        field: &'static str,
        /// The other one.
        other: &'static str,
    },
    /// The list does not name the size of the disk, and the caller has not given it.
    #[error("the list does not name the size of the disk: give it")]
    SizeNeeded,
    /// The list names another size than the caller.
    #[error("the list is about {listed} bytes, and the disk's size was given as {given}")]
    Size {
        /// The size in the list, in bytes.
        listed: u64,
        /// The size that the caller gave, in bytes.
        given: u64,
    },
    /// Ranges are empty or too large, overlap, leave the disk, or leave bytes out where none may be
    /// left out.
    #[error(transparent)]
    Extents(#[from] StreamError),
    /// The reader that the text comes from has failed.
    #[error("the input cannot be read: {message}")]
    Input {
        /// The kind of the reader's error.
        kind: io::ErrorKind,
        /// The reader's error in words.
        message: String,
    },
}

fn shown(byte: Option<u8>) -> String {
    byte.map_or_else(|| "the input ends".to_owned(), |byte| format!("'{}'", byte.escape_ascii()))
}

impl From<ExtentError> for Fault {
    fn from(error: ExtentError) -> Self {
        Self::Extents(error.into())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Input { kind: error.kind(), message: error.to_string() }
    }
}

/// A list that cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListWriteError {
    /// The writer that the text goes to has failed.
    #[error("the list cannot be written: {0}")]
    Output(io::Error),
    /// The extents overlap, or leave bytes out.
    #[error(transparent)]
    Extents(#[from] StreamError),
    /// The format must say something that is not known of a range.
    #[error("{format} must say \"{attribute}\", which is not known of the bytes from {start} on")]
    Unknown {
        /// The name of the format.
        format: &'static str,
        /// The attribute that it must say.
        attribute: Attribute,
        /// The first byte of the range.
        start: u64,
    },
    /// The format cannot say something that is known of a range, and the options allow no loss.
    #[error("{format} cannot say \"{}\", which is known of the bytes from {start} on", names(lost))]
    Lost {
        /// The name of the format.
        format: &'static str,
        /// The attributes that would be lost.
        lost: BTreeSet<Attribute>,
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
    /// The format names the size of the disk, and the options do not give it.
    #[error("{format} names the size of the disk: give it")]
    SizeNeeded {
        /// The name of the format.
        format: &'static str,
    },
}

impl From<io::Error> for ListWriteError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn names(attributes: &BTreeSet<Attribute>) -> String {
    let names: Vec<String> = attributes.iter().map(ToString::to_string).collect();
    names.join(",")
}

/// A stream of extents that cannot be written as a list.
#[derive(Debug, Error)]
pub enum ConvertError<E> {
    /// The stream has failed.
    #[error(transparent)]
    Read(E),
    /// The list cannot be written.
    #[error(transparent)]
    Write(ListWriteError),
}
