//! Readers as streams of extents, and streams into writers: no format is ever held in memory as a whole.

use std::convert::Infallible;
use std::fmt;

use thiserror::Error;

use super::error::{ReadError, WriteError};
use super::{Decode, Encode};
use nbd_extents::Extent;
use nbd_extents::StreamError;
use nbd_extents::stream::ExtentStream;

/// Where a reader's bytes come from: a slice, or with the feature `std` anything that is `BufRead`.
pub trait Input {
    /// How it fails.
    type Error;

    /// The next bytes, as many as are at hand; none at the end.
    ///
    /// # Errors
    ///
    /// When there may be more bytes that cannot be had.
    fn bytes(&mut self) -> Result<&[u8], Self::Error>;

    /// Steps over the first `count` of them.
    fn consume(&mut self, count: usize);
}

impl Input for &[u8] {
    type Error = Infallible;

    fn bytes(&mut self) -> Result<&[u8], Infallible> {
        Ok(self)
    }

    fn consume(&mut self, count: usize) {
        *self = self.get(count..).unwrap_or_default();
    }
}

/// Why the extents of an input cannot be read: it cannot be had, or is not what its format demands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InputError<E> {
    /// The input fails.
    #[error("the input cannot be read: {0}")]
    Input(E),
    /// What it says is wrong.
    #[error(transparent)]
    Format(#[from] ReadError),
    /// An adapter of the stream has found something wrong.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// The extents of an input: see [`read`].
#[derive(Clone, Debug)]
pub struct Extents<D, I> {
    decoder: D,
    input: I,
    ended: bool,
}

/// The extents of an input, read while they are asked for. Memory is the reader's and the input's buffer, however long the input is.
///
/// ```
/// use nbd_extents_formats::{imageio};
/// use nbd_extents::stream::ExtentStream;
///
/// let json = br#"[{"start": 0, "length": 512, "dirty": true}]"#;
/// let extents = nbd_extents_formats::read(imageio::DirtyReader::new(), &json[..]).collect_vec()?;
/// assert!(extents[0].status().dirty && !extents[0].status().is_zero());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read<D: Decode, I: Input>(decoder: D, input: I) -> Extents<D, I> {
    Extents { decoder, input, ended: false }
}

impl<D: Decode, I: Input> ExtentStream for Extents<D, I> {
    type Status = D::Row;
    type Error = InputError<I::Error>;

    fn next_extent(&mut self) -> Result<Option<Extent<D::Row>>, Self::Error> {
        while !self.ended {
            let bytes = self.input.bytes().map_err(InputError::Input)?;
            self.ended = bytes.is_empty();
            let mut left = bytes;
            let extent = self.decoder.next(&mut left)?;
            let taken = bytes.len() - left.len();
            self.input.consume(taken);
            if extent.is_some() {
                self.ended = false;
                return Ok(extent);
            }
        }
        Ok(self.decoder.end()?)
    }
}

/// Why a stream cannot be written: it fails, or the format has no way to say it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OutputError<E> {
    /// The stream fails.
    #[error(transparent)]
    Stream(E),
    /// The writer fails.
    #[error(transparent)]
    Format(WriteError),
}

impl<E> From<E> for OutputError<E> {
    fn from(error: E) -> Self {
        Self::Stream(error)
    }
}

/// Writes a whole stream. After an error the text is not complete, and for most formats no parser takes it for a whole one.
///
/// ```
/// use nbd_extents_formats::{nbdinfo};
/// use nbd_extents::stream::from_iter;
/// use nbd_extents::{Dirtiness, Extent};
///
/// let mut out = String::new();
/// let disk = from_iter([Extent::new(0, 65536, Dirtiness::DIRTY)?]);
/// nbd_extents_formats::write(disk, &mut nbdinfo::TextWriter::new(), &mut out)?;
/// assert_eq!(out, "         0       65536    1  dirty\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// The first error of the stream or the writer.
pub fn write<S, E>(stream: S, encoder: &mut E, out: &mut dyn fmt::Write) -> Result<(), OutputError<S::Error>>
where
    S: ExtentStream,
    E: Encode<Row = S::Status> + ?Sized,
{
    stream.try_for_each(|extent| encoder.extent(&extent, out).map_err(OutputError::Format))?;
    encoder.finish(out).map_err(OutputError::Format)
}
