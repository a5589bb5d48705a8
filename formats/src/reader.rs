//! Reads a list of any format as a stream of extents. Their order, and that they cover the disk, is
//! checked here for all formats alike.

use std::fmt;
use std::hash::Hash;
use std::io::Read;
use std::ops::Range;

use nbd_extents::map::ExtentMap;
use nbd_extents::stream::ExtentSource;
use nbd_extents::{Extent, MAX_END, StreamError};

use crate::input::Input;
use crate::spec::{Decoder, Step, Syntax, check_place};
use crate::{Attributes, Fault, ListReadError, ReadOptions};

/// The rows of a list, read while they are asked for: a stream of extents.
///
/// Made by [`Format::read`](crate::Format::read). It reads up to 64 KiB at once, so the input needs
/// no buffer, and holds no more, however long the list is. A row of more than 1 MiB is refused.
///
/// Each extent starts where the one before it ends: bytes that a format leaves out (nbdkit's and
/// CSI's lists do) have extents too. Where [`ReadOptions::size`] is given, the extents cover the
/// disk.
///
/// ```
/// use nbd_extents::stream::ExtentStream;
/// use nbd_extents_formats::{Format, ReadOptions};
///
/// let table = "         0       65536    1  dirty\n     65536      983040    0  clean\n";
/// let rows = Format::NbdinfoDirty.read(table.as_bytes(), ReadOptions::default());
/// let mut dirty = 0;
/// rows.for_each(|extent| {
///     if extent.status().dirty == Some(true) {
///         dirty += extent.length();
///     }
/// })?;
/// assert_eq!(dirty, 65536);
/// # Ok::<(), nbd_extents_formats::ListReadError>(())
/// ```
#[must_use = "a list is read while its rows are asked for"]
pub struct ListReader<R, T = Attributes> {
    format: &'static str,
    decoder: Decoder<T>,
    /// The size that the caller has given.
    size: Option<u64>,
    /// The start of the first extent.
    start: u64,
    /// The start that the next extent must have; `None` if it may start anywhere.
    position: Option<u64>,
    /// The extent that follows a gap.
    pending: Option<Extent<T>>,
    state: State,
    input: Input<R>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Before,
    Within,
    After,
}

impl<R: Read, T: Copy> ListReader<R, T> {
    pub(crate) fn new(format: &'static str, decoder: Decoder<T>, input: R, options: ReadOptions) -> Self {
        let start = options.starting_offset;
        let fixed = options.size.is_some() || decoder.unlisted.is_some();
        Self {
            format,
            decoder,
            size: options.size,
            start,
            position: fixed.then_some(start),
            pending: None,
            state: State::Before,
            input: Input::new(input),
        }
    }

    /// Reads all rows into a map, in which equal neighbours are one.
    ///
    /// # Errors
    ///
    /// The first fault of the list.
    ///
    /// ```
    /// use nbd_extents_formats::{Format, ReadOptions};
    ///
    /// let table = &b"0 512 1 dirty\n512 512 1 dirty\n"[..];
    /// let map = Format::NbdinfoDirty.read(table, ReadOptions::default()).into_map()?;
    /// assert_eq!((map.run_count(), map.range()), (1, 0..1024));
    /// # Ok::<(), nbd_extents_formats::ListReadError>(())
    /// ```
    pub fn into_map(mut self) -> Result<ExtentMap<T>, ListReadError>
    where
        T: Eq + Hash,
    {
        let map = ExtentMap::within(&mut self, 0..MAX_END)?;
        Ok(map.slice(self.start..self.position.unwrap_or(self.start)).to_map())
    }

    fn step(&mut self) -> Result<Option<Extent<T>>, Fault> {
        if let Some(extent) = self.pending.take() {
            return Ok(Some(extent));
        }
        if self.state == State::Before {
            self.state = if self.begin()? { State::Within } else { State::After };
        }
        if self.state == State::After {
            return Ok(None);
        }
        match (self.decoder.next)(&mut self.input)? {
            Step::Row(start, length, status) => self.place(Extent::new(start, length, status)?).map(Some),
            Step::End(listed) => {
                self.state = State::After;
                self.rest(listed)
            }
        }
    }

    /// Looks at the start of the text; `false` when it is empty and may be.
    fn begin(&mut self) -> Result<bool, Fault> {
        // of the formats that leave ranges out, CSI's name the size of the disk
        let lines = self.decoder.syntax == Syntax::Lines;
        if lines && self.decoder.unlisted.is_some() && self.size.is_none() {
            return Err(Fault::SizeNeeded);
        }
        match (self.input.peek()?, self.decoder.syntax) {
            // of a disk without a byte, a program that prints lines prints nothing
            (None, Syntax::Lines | Syntax::JsonLines) if self.size == Some(0) => Ok(false),
            (None, _) => Err(Fault::EmptyInput),
            (Some(b'[' | b'{'), Syntax::Lines) => Err(Fault::NotText),
            (Some(b'[' | b'{'), _) | (Some(_), Syntax::Lines) => Ok(true),
            (Some(_), _) => Err(Fault::NotJson),
        }
    }

    /// Takes the next extent of the list; returns it, or the gap before it.
    fn place(&mut self, extent: Extent<T>) -> Result<Extent<T>, Fault> {
        let start = extent.start();
        let expected = *self.position.get_or_insert_with(|| {
            self.start = start;
            start
        });
        check_place(&extent, expected, self.size)?;
        self.position = Some(extent.end());
        if start == expected {
            return Ok(extent);
        }
        self.pending = Some(extent);
        self.gap(expected..start)
    }

    /// The extent of a gap, in a format that may have gaps.
    fn gap(&self, range: Range<u64>) -> Result<Extent<T>, Fault> {
        match self.decoder.unlisted {
            Some(row) => Ok(Extent::from_range(range, row)?),
            None => Err(StreamError::Gap { range }.into()),
        }
    }

    /// The gap between the last row and the end of the disk, whose size the list gives, or the caller.
    fn rest(&mut self, listed: Option<u64>) -> Result<Option<Extent<T>>, Fault> {
        if let (Some(listed), Some(given)) = (listed, self.size)
            && listed != given
        {
            return Err(Fault::Size { listed, given });
        }
        // such a format has a row for each byte, so a list without a row is no list of this disk
        let all_are_listed = self.decoder.unlisted.is_none();
        let position = self.position.ok_or(Fault::EmptyList)?;
        match listed.or(self.size) {
            Some(size) if position < size && position == self.start && all_are_listed => {
                Err(Fault::EmptyList)
            }
            Some(size) if position < size => {
                self.position = Some(size);
                self.gap(position..size).map(Some)
            }
            None if !all_are_listed => Err(Fault::SizeNeeded),
            _ => Ok(None),
        }
    }
}

impl<R: Read, T: Copy> ExtentSource for ListReader<R, T> {
    type Status = T;
    type Error = ListReadError;

    fn pull(&mut self) -> Result<Option<Extent<T>>, ListReadError> {
        self.step().map_err(|fault| {
            self.state = State::After;
            ListReadError::List { format: self.format, at: self.input.place(), fault }
        })
    }
}

impl<R, T> fmt::Debug for ListReader<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListReader").field("format", &self.format).finish_non_exhaustive()
    }
}
