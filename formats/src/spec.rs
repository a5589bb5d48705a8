//! The parts of a format: its name, the attributes that its rows can say, its reader and its writer.

use std::collections::BTreeSet;
use std::io::Read;

use nbd_extents::{Extent, MAX_END, StreamError};

use crate::input::Input;
use crate::row::row;
use crate::{Attribute, Attributes, Fault, ImageLayer, ListWriteError, ReadOptions, WriteOptions};

/// A format whose rows say attributes.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// The attributes that each row says.
    pub(crate) must: &'static [Attribute],
    /// The attributes that a row may say as well.
    pub(crate) may: &'static [Attribute],
    /// How it says which layer holds the bytes.
    pub(crate) layer: fn(ImageLayer) -> Option<ImageLayer>,
    pub(crate) decoder: fn(ReadOptions) -> Decoder<Attributes>,
    pub(crate) encoder: fn(WriteOptions) -> Box<dyn Encode<Attributes>>,
}

impl Spec {
    /// The known attributes that a row of this format can state. Fails with the first attribute that
    /// the format demands and that is not known.
    pub(crate) fn row(&self, known: &Attributes) -> Result<Attributes, Attribute> {
        use Attribute::{Compressed, Dirty, Hole, HostOffset, Layer, Searched, Zero};
        let says = |attribute| self.must.contains(&attribute) || self.may.contains(&attribute);
        let row = Attributes {
            zero: known.zero.filter(|_| says(Zero)),
            hole: known.hole && says(Hole),
            dirty: known.dirty.filter(|_| says(Dirty)),
            layer: known.layer.filter(|_| says(Layer)).and_then(self.layer),
            searched: known.searched.filter(|_| says(Searched)),
            compressed: known.compressed.filter(|_| says(Compressed)),
            host_offset: known.host_offset.filter(|_| says(HostOffset)),
        };
        // of bytes that no layer holds qemu states the number of images searched, not a layer
        let layer_is_said = row.layer.or(row.searched.map(|_| ImageLayer::Absent)).is_some();
        let said = |&&attribute: &&Attribute| attribute == Layer && layer_is_said || row.knows(attribute);
        match self.must.iter().find(|attribute| !said(attribute)) {
            Some(&missing) => Err(missing),
            None => Ok(row),
        }
    }
}

/// The text of an empty list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Syntax {
    /// JSON with at least a bracket.
    Json,
    /// JSON objects, or none.
    JsonLines,
    /// Lines, or none.
    Lines,
}

/// The next part of a list.
pub(crate) enum Step<T> {
    /// The start, the length and the status of the next range.
    Row(u64, u64, T),
    /// The end of the list, and the size of the disk if the list has said it.
    End(Option<u64>),
}

/// The text of a list, whatever it is read from.
pub(crate) type Text<'a> = Input<dyn Read + 'a>;

/// Takes the next row from a text. It looks at the rows alone: their order is checked by the
/// reader.
type Next<T> = Box<dyn FnMut(&mut Text<'_>) -> Result<Step<T>, Fault> + Send>;

/// Takes a list apart.
pub(crate) struct Decoder<T> {
    pub(crate) syntax: Syntax,
    /// The status of ranges that are not listed; `None` where every range must be.
    pub(crate) unlisted: Option<T>,
    pub(crate) next: Next<T>,
}

impl<T> Decoder<T> {
    pub(crate) fn new(
        syntax: Syntax,
        unlisted: Option<T>,
        next: impl FnMut(&mut Text<'_>) -> Result<Step<T>, Fault> + Send + 'static,
    ) -> Self {
        Self { syntax, unlisted, next: Box::new(next) }
    }
}

/// Puts a list together. The order of the extents has been checked.
pub(crate) trait Encode<T>: Send {
    fn extent(&mut self, extent: &Extent<T>, out: &mut Vec<u8>) -> Result<(), ListWriteError>;
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ListWriteError>;

    /// The attributes that had to be left out.
    fn lost(&self) -> BTreeSet<Attribute> {
        BTreeSet::new()
    }
}

/// Refuses an extent that begins before byte `expected`, or ends beyond the disk.
pub(crate) fn check_place<T>(
    extent: &Extent<T>,
    expected: u64,
    size: Option<u64>,
) -> Result<(), StreamError> {
    let (start, size) = (extent.start(), size.unwrap_or(MAX_END));
    if start < expected {
        return Err(StreamError::Overlap { start, expected });
    }
    if extent.end() > size {
        return Err(StreamError::OutOfRange { extent: extent.range(), range: 0..size });
    }
    Ok(())
}

/// The punctuation of a list.
pub(crate) struct Style {
    /// The text before the first row.
    pub(crate) open: &'static str,
    /// The text between rows.
    pub(crate) between: &'static str,
    /// The text after the last row.
    pub(crate) close: &'static str,
    /// The text of a list without rows.
    pub(crate) empty: &'static str,
    /// Whether the first row must start at byte 0.
    pub(crate) from_zero: bool,
}

impl Style {
    /// An array as Python's `json.dumps` writes it, on one line without an end.
    pub(crate) const PYTHON: Self =
        Self { open: "[", between: ", ", close: "]", empty: "[]", from_zero: false };
    /// A line a row.
    pub(crate) const LINES: Self = Self { open: "", between: "\n", close: "\n", empty: "", from_zero: false };
}

/// Writes rows that do not depend on their neighbours, and the punctuation between them.
pub(crate) struct Rows<T> {
    style: Style,
    begun: bool,
    write: fn(&T, u64, u64, &mut Vec<u8>),
}

/// A writer of rows, each written by `write` from its status, its start and its length.
pub(crate) fn rows<T: 'static>(style: Style, write: fn(&T, u64, u64, &mut Vec<u8>)) -> Box<dyn Encode<T>> {
    Box::new(Rows { style, begun: false, write })
}

impl<T> Encode<T> for Rows<T> {
    fn extent(&mut self, extent: &Extent<T>, out: &mut Vec<u8>) -> Result<(), ListWriteError> {
        let start = extent.start();
        if self.style.from_zero && !self.begun && start > 0 {
            return Err(StreamError::Gap { range: 0..start }.into());
        }
        let before = if self.begun { self.style.between } else { self.style.open };
        self.begun = true;
        row!(out, before);
        (self.write)(extent.status(), start, extent.length(), out);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ListWriteError> {
        row!(out, if self.begun { self.style.close } else { self.style.empty });
        Ok(())
    }
}
