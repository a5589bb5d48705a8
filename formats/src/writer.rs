//! Writes a list of any format. That the extents follow each other, and cover the disk, is checked
//! here for all formats alike.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;

use nbd_extents::stream::ExtentStream;
use nbd_extents::{Extent, StreamError};

use crate::spec::{Encode, Spec, check_place};
use crate::{Attribute, Attributes, ConvertError, ListWriteError, WriteOptions};

/// The text that is kept before it is written.
const CHUNK: usize = 1 << 16;

/// A list that is being written.
///
/// Made by [`Format::writer`](crate::Format::writer). It writes 64 KiB at once, so the output needs
/// no buffer. Without [`finish`](Self::finish) the end of the list is missing.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Attributes, Format, WriteOptions};
///
/// let mut text = Vec::new();
/// let mut writer = Format::Extentlist.writer(&mut text, WriteOptions::default());
/// let zero = Attributes { zero: Some(true), ..Attributes::default() };
/// writer.push(&Extent::new(0, 512, zero)?)?;
/// let gap = writer.push(&Extent::new(1024, 512, zero)?);
/// assert!(gap.is_err(), "bytes 512..1024 are left out");
/// writer.finish()?;
/// assert_eq!(text, b"0 512 zero\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "without `finish` or `write_all` the list has no end"]
pub struct ListWriter<W, T = Attributes> {
    encoder: Box<dyn Encode<T>>,
    /// The size that the caller has given.
    size: Option<u64>,
    position: Option<u64>,
    text: Vec<u8>,
    out: W,
}

impl<W: Write, T> ListWriter<W, T> {
    pub(crate) fn new(encoder: Box<dyn Encode<T>>, out: W, options: WriteOptions) -> Self {
        Self { encoder, size: options.size, position: None, text: Vec::new(), out }
    }

    /// Writes the next extent.
    ///
    /// # Errors
    ///
    /// When it does not start where the last one ended, or reaches beyond [`WriteOptions::size`];
    /// when the format cannot say it; when the output fails.
    pub fn push(&mut self, extent: &Extent<T>) -> Result<(), ListWriteError> {
        let start = extent.start();
        let expected = self.position.unwrap_or(start);
        if start > expected {
            return Err(StreamError::Gap { range: expected..start }.into());
        }
        check_place(extent, expected, self.size)?;
        self.encoder.extent(extent, &mut self.text)?;
        self.position = Some(extent.end());
        if self.text.len() >= CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the end of the list, and returns the attributes that it leaves out.
    ///
    /// # Errors
    ///
    /// When the extents end before [`WriteOptions::size`]; when the output fails.
    pub fn finish(mut self) -> Result<BTreeSet<Attribute>, ListWriteError> {
        let position = self.position.unwrap_or(0);
        if let Some(size) = self.size.filter(|&size| position < size) {
            return Err(StreamError::Gap { range: position..size }.into());
        }
        self.encoder.finish(&mut self.text)?;
        self.flush()?;
        self.out.flush()?;
        Ok(self.encoder.lost())
    }

    /// Writes a whole stream and the end of the list, and returns the attributes that it leaves out.
    ///
    /// # Errors
    ///
    /// The first error of the stream, or of the writing. The list has no end then.
    ///
    /// ```
    /// use nbd_extents_formats::{Format, ReadOptions, WriteOptions};
    ///
    /// let table = &b"         0       65536    1  dirty\n"[..];
    /// let rows = Format::NbdinfoDirty.read(table, ReadOptions::default());
    /// let mut json = Vec::new();
    /// let writer = Format::ImageioDirty.writer(&mut json, WriteOptions::default());
    /// let lost = writer.write_all(rows)?;
    /// assert_eq!(json, br#"[{"start": 0, "length": 65536, "dirty": true}]"#);
    /// assert!(lost.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_all<S>(mut self, mut stream: S) -> Result<BTreeSet<Attribute>, ConvertError<S::Error>>
    where
        S: ExtentStream<Status = T>,
    {
        while let Some(extent) = stream.next_extent().map_err(ConvertError::Read)? {
            self.push(&extent).map_err(ConvertError::Write)?;
        }
        self.finish().map_err(ConvertError::Write)
    }

    /// Writes the text that waits, so that the extents pushed until now are in the output.
    ///
    /// The list stays open: only [`finish`](Self::finish) ends it. A program whose extents fail
    /// midway calls this to leave the extents that it found. With [`Loss::Allow`] the last extent
    /// still waits, since the next one may join it.
    ///
    /// # Errors
    ///
    /// When the output fails.
    ///
    /// ```
    /// use nbd_extents::Extent;
    /// use nbd_extents_formats::{Attributes, Format, WriteOptions};
    ///
    /// let mut text = Vec::new();
    /// let mut writer = Format::Extentlist.writer(&mut text, WriteOptions::default());
    /// let zero = Attributes { zero: Some(true), ..Attributes::default() };
    /// writer.push(&Extent::new(0, 512, zero)?)?;
    /// writer.push(&Extent::new(512, 512, Attributes { zero: Some(false), ..zero })?)?;
    /// writer.flush()?;
    /// drop(writer);
    /// assert_eq!(text, b"0 512 zero\n512 512", "the list has no end yet");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&mut self) -> Result<(), ListWriteError> {
        self.out.write_all(&self.text)?;
        self.text.clear();
        Ok(())
    }
}

impl<W: fmt::Debug, T> fmt::Debug for ListWriter<W, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListWriter").field("out", &self.out).finish_non_exhaustive()
    }
}

/// Whether attributes that a format cannot say are refused or left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Loss {
    /// They are an error.
    #[default]
    Refuse,
    /// They are left out, and counted. Neighbours that are the same without them are joined.
    Allow,
}

/// Writes attributes as far as a format can say them.
struct AttributesWriter {
    spec: &'static Spec,
    options: WriteOptions,
    encoder: Box<dyn Encode<Attributes>>,
    lost: BTreeSet<Attribute>,
    /// With loss allowed: the last row, to which the next may be joined.
    last: Option<Extent<Attributes>>,
}

/// Writes a list of attributes in the format.
pub(crate) fn attributes_writer<W: Write>(
    spec: &'static Spec,
    out: W,
    options: WriteOptions,
) -> ListWriter<W> {
    let (encoder, lost) = ((spec.encoder)(options), BTreeSet::new());
    ListWriter::new(Box::new(AttributesWriter { spec, options, encoder, lost, last: None }), out, options)
}

impl Encode<Attributes> for AttributesWriter {
    fn extent(&mut self, extent: &Extent<Attributes>, out: &mut Vec<u8>) -> Result<(), ListWriteError> {
        let (known, start, format) = (extent.status(), extent.start(), self.spec.name);
        let row = self.spec.row(&self.options.assume.fill(known));
        let row = row.map_err(|attribute| ListWriteError::Unknown { format, attribute, start })?;
        let lost = known.lost_in(&row);
        let row = extent.map(|_| row);
        if self.options.loss == Loss::Refuse {
            return match lost.is_empty() {
                true => self.encoder.extent(&row, out),
                false => Err(ListWriteError::Lost { format, lost, start }),
            };
        }
        self.lost.extend(lost);
        let next = match &mut self.last {
            Some(last) => last.absorb(row),
            None => Some(row),
        };
        // the last row stays, grown, until a row comes that cannot be joined to it
        match next.and_then(|next| self.last.replace(next)) {
            Some(whole) => self.encoder.extent(&whole, out),
            None => Ok(()),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ListWriteError> {
        if let Some(last) = self.last.take() {
            self.encoder.extent(&last, out)?;
        }
        self.encoder.finish(out)
    }

    fn lost(&self) -> BTreeSet<Attribute> {
        self.lost.clone()
    }
}
