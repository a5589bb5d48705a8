//! The forms in which other programs write extents, disks and backups down. Each is sans-I/O, to the byte where the other program's form is fixed.
//!
//! Lists of extents are read by a [`Decode`] and written by an [`Encode`]. Neither does I/O and neither holds a list: bytes go in, in pieces of any
//! size, and extents come out one by one. [`read`] makes a stream of a reader, [`write`](write()) puts one into a writer.
//!
//! ```
//! use nbd_extents_formats::{imageio, nbdinfo};
//! use nbd_extents::stream::ExtentStream;
//! use nbd_extents::Dirtiness;
//!
//! let table = b"         0       65536    1  dirty\n     65536      983040    0  clean\n";
//! let dirty = nbd_extents_formats::read(nbdinfo::TextReader::<Dirtiness>::new(), &table[..]);
//!
//! // nbdinfo's map of a bitmap does not know what reads as zero, and the row says so
//! let rows = dirty.map_status(|dirty| imageio::Dirty { dirty: dirty.is_dirty(), zero: None });
//! let mut json = String::new();
//! nbd_extents_formats::write(rows, &mut imageio::DirtyWriter::new(), &mut json)?;
//! assert_eq!(
//!     json,
//!     r#"[{"start": 0, "length": 65536, "dirty": true}, {"start": 65536, "length": 983040, "dirty": false}]"#
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which format says what
//!
//! | format | who writes it | dirty | zero | hole | layer | more |
//! |---|---|---|---|---|---|---|
//! | [`imageio`], zero | ovirt-imageio, CloudStack | | yes | | absent or not, or unknown | |
//! | [`imageio`], dirty | ovirt-imageio, CloudStack; our `extents --json` | yes | yes, or unknown | | | |
//! | [`nbdinfo`] of `base:allocation` | libnbd's nbdinfo, text and JSON | | yes | yes | | |
//! | [`nbdinfo`] of a dirty bitmap | the same | yes | | | | |
//! | [`nbdinfo`] of `qemu:allocation-depth` | the same | | | | which | |
//! | [`qemu_img`] | `qemu-img map --output=json` | | yes | yes | which, or unknown | compressed, host offset |
//! | [`qemu_img`] of a dirty bitmap | the same with `x-dirty-bitmap` | yes, inverted | | | | |
//! | [`kubevirt`], full | KubeVirt's export server | | yes | yes | | |
//! | [`kubevirt`], incremental | the same | yes | yes | | | |
//! | [`csi`], delta | Kubernetes CSI drivers, by way of their sidecar | yes | | | | |
//! | [`csi`], allocated | the same | | as the caller says | | absent or not | |
//! | [`extentlist`] | people, for nbdkit's filter | | yes | yes | | |
//! | [`qcow2reader`] | go-qcow2reader | | yes | | absent or not | compressed |
//! | [`actions`] | our `extents --actions --json` | | | | | what to do |
//! | [`sparse_stream`] | ovirt-imageio | | | | | a whole backup, with its data |
//!
//! Each module shows a sample and says what has to be known about it. What a row says is typed, and what a format leaves open is an `Option` or a
//! choice of the caller: nothing is guessed. Above all: a hole is not zero unless it is said to be, and nothing that is not said to be clean is clean.
//!
//! # From one into another
//!
//! Every row becomes [`Facts`] and is made from them ([`Row`]). [`FromFacts`] writes facts and refuses what would be lost, unless that is
//! [allowed](Loss::Allow), and what is not known, unless it is safe to [assume](Assume). The enum `Format` has all formats under their names . The example `convert` is that with a command line:
//!
//! ```text
//! $ nbdinfo --map=qemu:dirty-bitmap:b0 --json nbd://host/disk | convert --from nbdinfo-dirty-json --to imageio-dirty
//! ```
//!
//! # What is wrong with an input
//!
//! Is said with its line and byte ([`ReadError`]): broken JSON (RFC 8259, strictly), a field that is missing or there twice, a number that is not a whole one below
//! 2^64, ranges that overlap or leave bytes out, and the list of another format, as far as a format can tell. Fields that are not known are passed over.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![warn(clippy::cast_possible_truncation)]
#![doc(test(attr(deny(warnings))))]

pub mod actions;
mod convert;
mod cover;
pub mod csi;
mod digits;
mod error;
pub mod extentlist;
mod facts;
pub mod imageio;
mod io;
mod json;
pub mod kubevirt;
mod lines;
mod list;
pub mod nbdinfo;
pub mod qcow2reader;
pub mod qemu_img;
mod record;
mod registry;
pub mod sparse_stream;
mod stream;

use std::fmt;

pub use convert::{AsFacts, EncodeFacts, FromFacts, Loss};
pub use error::{Fault, Position, ReadError, WriteError};
pub use facts::{Assume, Fact, FactSet, Facts, Layer, Row};
pub use io::{IoInput, IoText};
pub use list::{ListReader, ListWriter};
pub use registry::{Format, ReadOptions, UnknownFormat, WriteOptions};
pub use stream::{Extents, Input, InputError, OutputError, read, write};

use nbd_extents::Extent;

/// Reads a format: bytes in, in pieces of any size, extents out.
///
/// ```
/// use nbd_extents_formats::{Decode, extentlist};
///
/// let mut reader = extentlist::Reader::new(1024);
/// let mut piece = &b"0 512\n512 51"[..];
/// assert!(reader.next(&mut piece)?.is_some_and(|extent| extent.range() == (0..512)));
/// assert_eq!(reader.next(&mut piece)?, None);
/// assert!(piece.is_empty(), "the line that is cut is kept by the reader");
/// let mut piece = &b"2 zero\n"[..];
/// assert!(reader.next(&mut piece)?.is_some_and(|extent| extent.range() == (512..1024)));
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
pub trait Decode {
    /// What the format says of a range.
    type Row;

    /// The next extent; takes the bytes that it reads off the front of `input`, and all of them when it returns `None`: then it needs more.
    ///
    /// # Errors
    ///
    /// What is wrong with the input, and where. The reader is over then, and what it returns afterwards is unspecified.
    ///
    /// ```
    /// use nbd_extents_formats::{Decode, imageio};
    ///
    /// let mut input = &br#"[{"start": 0, "length": 0, "dirty": true}]"#[..];
    /// let error = imageio::DirtyReader::new().next(&mut input).unwrap_err();
    /// assert_eq!((error.at.line, error.at.byte), (1, 1), "where the row begins");
    /// ```
    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Extent<Self::Row>>, ReadError>;

    /// Says that the input has ended. Returns what was still to come, an extent a call, and then `None`.
    ///
    /// # Errors
    ///
    /// When the input has ended too early.
    ///
    /// ```
    /// use nbd_extents_formats::{Decode, imageio};
    ///
    /// let mut reader = imageio::DirtyReader::new();
    /// assert!(reader.next(&mut &br#"[{"start": 0, "length": 512, "dirty": false}"#[..])?.is_some());
    /// assert!(reader.end().is_err(), "the list is not closed: a connection has broken");
    /// # Ok::<(), nbd_extents_formats::ReadError>(())
    /// ```
    fn end(&mut self) -> Result<Option<Extent<Self::Row>>, ReadError>;
}
impl<D: Decode + ?Sized> Decode for Box<D> {
    type Row = D::Row;

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Extent<D::Row>>, ReadError> {
        (**self).next(input)
    }

    fn end(&mut self) -> Result<Option<Extent<D::Row>>, ReadError> {
        (**self).end()
    }
}

/// Writes a format: extents in, text out.
///
/// ```
/// use nbd_extents_formats::{Encode, WriteError, imageio};
/// use nbd_extents::Extent;
///
/// let row = imageio::Zero { zero: true, hole: None };
/// let mut out = String::new();
/// let mut writer = imageio::ZeroWriter::new();
/// writer.extent(&Extent::new(0, 512, row)?, &mut out)?;
/// let gap = writer.extent(&Extent::new(1024, 512, row)?, &mut out);
/// assert!(matches!(gap, Err(WriteError::Extents(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Encode {
    /// What the format says of a range.
    type Row;

    /// Writes the next extent.
    ///
    /// # Errors
    ///
    /// [`WriteError::Extents`] when it does not start where the last one ended; when the format cannot say it, or `out` fails.
    ///
    /// ```
    /// use nbd_extents_formats::{Encode, extentlist};
    /// use nbd_extents::{Allocation, Extent};
    ///
    /// let mut out = String::new();
    /// extentlist::Writer::new().extent(&Extent::new(0, 512, Allocation::from_flags(2))?, &mut out)?;
    /// assert_eq!(out, "0 512 zero\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn extent(&mut self, extent: &Extent<Self::Row>, out: &mut dyn fmt::Write) -> Result<(), WriteError>;

    /// Ends the text. Without it no parser takes the text for a whole one (but for the formats that are just lines).
    ///
    /// # Errors
    ///
    /// When the format demands more extents, or `out` fails.
    ///
    /// ```
    /// use nbd_extents_formats::{Encode, qemu_img};
    ///
    /// let mut out = String::new();
    /// qemu_img::Writer::new().finish(&mut out)?;
    /// assert!(out.starts_with(r#"[{ "start": 0, "length": 0, "#), "as qemu-img prints an empty disk");
    /// # Ok::<(), nbd_extents_formats::WriteError>(())
    /// ```
    fn finish(&mut self, out: &mut dyn fmt::Write) -> Result<(), WriteError>;
}
