//! Reading a stream that comes in pieces of any size. Nothing is held but one header or the JSON of the meta frame: payloads are borrowed.

use std::ops::Range;
use std::vec::Vec;

use super::frame::Header;
use super::{FrameKind, HEADER_SIZE, Meta, Place, ReadError, TERM};
use nbd_extents::Extent;

/// Takes the bytes of one stream and hands out what they say. See the [module](super) for an example and for what is refused.
///
/// After an error the stream is over: [`next`](Self::next) gives the same error again.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{Meta, Reader, Writer};
///
/// let (mut writer, mut stream) = Writer::new(&Meta::incremental(1 << 20, 0, "now"))?;
/// stream.extend(writer.zero(0..4096)?.parts().concat());
/// stream.extend(writer.stop()?.parts().concat());
/// let (mut reader, mut input) = (Reader::new(), &stream[..]);
/// while reader.next(&mut input)?.is_some() {}
/// assert_eq!(reader.consumed(), stream.len() as u64);
/// assert!(reader.finish().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    /// How many bytes of the stream have been used.
    at: u64,
    state: State,
    /// The start of a header or of the JSON, while it is not all there.
    partial: Vec<u8>,
    meta: Option<Meta>,
    /// The end of the last frame on the disk.
    position: u64,
    summary: Summary,
    failed: Option<ReadError>,
}

/// What is read next.
#[derive(Clone, Copy, Debug)]
enum State {
    Header,
    Meta { length: usize },
    Payload { offset: u64, left: u64 },
    Terminator { nth: usize },
    Stopped,
}

/// What a stream says next.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{Event, Meta, Reader, Writer};
///
/// let (mut writer, mut stream) = Writer::new(&Meta::incremental(1 << 20, 0, "now"))?;
/// stream.extend(writer.zero(0..4096)?.parts().concat());
/// stream.extend(writer.stop()?.parts().concat());
/// let (mut reader, mut input) = (Reader::new(), &stream[..]);
/// assert!(matches!(reader.next(&mut input)?, Some(Event::Meta(_))));
/// assert_eq!(reader.next(&mut input)?, Some(Event::Zero { range: 0..4096 }));
/// assert_eq!(reader.next(&mut input)?, Some(Event::Stop));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// What the stream is about: always the first.
    Meta(Meta),
    /// A data frame begins; its bytes follow as [`Payload`](Self::Payload).
    Data {
        /// Its bytes on the disk.
        range: Range<u64>,
    },
    /// Bytes of a data frame, in order.
    Payload {
        /// Where they belong on the disk.
        offset: u64,
        /// The bytes; never none.
        bytes: &'a [u8],
    },
    /// These bytes of the disk read as zero, and have to be made so.
    Zero {
        /// The bytes of the disk.
        range: Range<u64>,
    },
    /// The last frame. What is left is to see that nothing follows: [`Reader::finish`].
    Stop,
}

/// What was in a stream.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{Meta, Reader, Writer};
///
/// let (mut writer, mut stream) = Writer::new(&Meta::incremental(1 << 20, 0, "now"))?;
/// stream.extend(writer.zero(0..4096)?.parts().concat());
/// stream.extend(writer.stop()?.parts().concat());
/// let (mut reader, mut input) = (Reader::new(), &stream[..]);
/// while reader.next(&mut input)?.is_some() {}
/// let summary = reader.finish()?;
/// assert_eq!((summary.data, summary.zero, summary.frames), (0, 4096, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Summary {
    /// The length of the stream, in bytes.
    pub length: u64,
    /// Bytes in data frames.
    pub data: u64,
    /// Bytes in zero frames.
    pub zero: u64,
    /// Frames of data and zeroes.
    pub frames: u64,
}

impl Reader {
    /// The most bytes of JSON that a meta frame may have.
    pub const MAX_META: u64 = 1 << 16;

    /// A reader at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            at: 0,
            state: State::Header,
            partial: Vec::new(),
            meta: None,
            position: 0,
            summary: Summary { length: 0, data: 0, zero: 0, frames: 0 },
            failed: None,
        }
    }

    /// What the stream is about, once that has been read.
    #[must_use]
    pub const fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }

    /// How many bytes of the stream have been used.
    #[must_use]
    pub const fn consumed(&self) -> u64 {
        self.at
    }

    /// What was in the stream so far.
    #[must_use]
    pub const fn summary(&self) -> Summary {
        Summary { length: self.at, ..self.summary }
    }

    /// The next event in `input`, which is moved on over what was used. `None` when all of it is used and more is needed.
    ///
    /// # Errors
    ///
    /// [`ReadError`] says what is wrong, and at which byte of the stream.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, ReadError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let event = self.advance(input);
        if let Err(error) = &event {
            self.failed = Some(error.clone());
        }
        event
    }

    /// The end of the input: was the stream whole?
    ///
    /// # Errors
    ///
    /// [`ReadError::Truncated`] when the stop frame has not been seen; the reader's error when there was one.
    pub fn finish(self) -> Result<Summary, ReadError> {
        let place = match self.state {
            State::Stopped => Place::BetweenFrames,
            State::Header if self.partial.is_empty() => Place::BetweenFrames,
            State::Header => Place::Header,
            State::Meta { .. } => Place::Meta,
            State::Payload { .. } => Place::Payload,
            State::Terminator { .. } => Place::Terminator,
        };
        match (self.failed, self.state) {
            (Some(error), _) => Err(error),
            (None, State::Stopped) => Ok(Summary { length: self.at, ..self.summary }),
            (None, _) => Err(ReadError::Truncated { at: self.at, place }),
        }
    }

    fn advance<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, ReadError> {
        while !input.is_empty() {
            let event = match self.state {
                State::Header => self.header(input)?,
                State::Meta { length } => self.json(input, length)?,
                State::Payload { offset, left } => Some(self.payload(input, offset, left)),
                State::Terminator { nth } => self.terminator(input, nth)?,
                State::Stopped => return Err(ReadError::Trailing { at: self.at }),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn header<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, ReadError> {
        if !self.collect(input, HEADER_SIZE) {
            return Ok(None);
        }
        let at = self.at - HEADER_SIZE as u64;
        let header = self.partial.first_chunk().and_then(Header::decode).ok_or(ReadError::Header { at })?;
        self.partial.clear();
        match (header.kind, &self.meta) {
            (FrameKind::Meta, None) => self.begin_meta(&header, at).map(|()| None),
            (FrameKind::Data | FrameKind::Zero, Some(meta)) => {
                let (size, full, most) = (meta.virtual_size, !meta.incremental, meta.data_size);
                let extent = self.place(&header, at, size, full)?;
                self.begin_frame(&header, extent, at, most).map(Some)
            }
            (FrameKind::Stop, Some(meta)) => {
                if header.start != 0 || header.length != 0 {
                    return Err(ReadError::Header { at });
                }
                if !meta.incremental {
                    check_gap(self.position, meta.virtual_size, at)?;
                }
                self.state = State::Stopped;
                Ok(Some(Event::Stop))
            }
            (kind, _) => Err(ReadError::OutOfPlace { at, kind }),
        }
    }

    fn begin_meta(&mut self, header: &Header, at: u64) -> Result<(), ReadError> {
        let &Header { start, length, .. } = header;
        if start != 0 || length == 0 {
            return Err(ReadError::Header { at });
        }
        if length > Self::MAX_META {
            return Err(ReadError::MetaTooLarge { at, length });
        }
        let length = usize::try_from(length).map_err(|_| ReadError::MetaTooLarge { at, length })?;
        self.state = State::Meta { length };
        Ok(())
    }

    /// Where on the disk a frame is, if it may come next.
    fn place(&self, header: &Header, at: u64, size: u64, full: bool) -> Result<Range<u64>, ReadError> {
        let &Header { kind, start, length } = header;
        if length == 0 {
            return Err(ReadError::Empty { at, kind, start });
        }
        let range = match Extent::new(start, length, ()) {
            Ok(extent) if extent.end() <= size => extent.range(),
            _ => return Err(ReadError::PastEnd { at, start, length, size }),
        };
        if start < self.position {
            return Err(ReadError::Overlap { at, start, expected: self.position });
        }
        if full {
            check_gap(self.position, start, at)?;
        }
        Ok(range)
    }

    /// `most` bytes of data may be in the whole stream.
    fn begin_frame<'a>(
        &mut self,
        header: &Header,
        range: Range<u64>,
        at: u64,
        most: u64,
    ) -> Result<Event<'a>, ReadError> {
        // sums of what does not overlap, and so no larger than the disk
        let event = if header.kind == FrameKind::Data {
            self.summary.data += header.length;
            if self.summary.data > most {
                return Err(ReadError::TooMuchData { at, expected: most });
            }
            self.state = State::Payload { offset: header.start, left: header.length };
            Event::Data { range: range.clone() }
        } else {
            self.summary.zero += header.length;
            Event::Zero { range: range.clone() }
        };
        self.summary.frames += 1;
        self.position = range.end;
        Ok(event)
    }

    fn json<'a>(&mut self, input: &mut &'a [u8], length: usize) -> Result<Option<Event<'a>>, ReadError> {
        if !self.collect(input, length) {
            return Ok(None);
        }
        let at = self.at - length as u64;
        let meta = Meta::from_json(&self.partial).map_err(|error| ReadError::Meta { at, error })?;
        self.partial = Vec::with_capacity(HEADER_SIZE);
        self.meta = Some(meta.clone());
        self.state = State::Terminator { nth: 0 };
        Ok(Some(Event::Meta(meta)))
    }

    fn payload<'a>(&mut self, input: &mut &'a [u8], offset: u64, left: u64) -> Event<'a> {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let bytes = self.take(input, count);
        let used = bytes.len() as u64;
        self.state = if used < left {
            State::Payload { offset: offset + used, left: left - used }
        } else {
            State::Terminator { nth: 0 }
        };
        Event::Payload { offset, bytes }
    }

    fn terminator<'a>(&mut self, input: &mut &'a [u8], nth: usize) -> Result<Option<Event<'a>>, ReadError> {
        if input.first() != TERM.get(nth) {
            return Err(ReadError::Terminator { at: self.at });
        }
        self.take(input, 1);
        self.state = if nth + 1 < TERM.len() { State::Terminator { nth: nth + 1 } } else { State::Header };
        Ok(None)
    }

    /// Adds to what is held until it is `whole` bytes: true when it is.
    fn collect(&mut self, input: &mut &[u8], whole: usize) -> bool {
        let count = (whole - self.partial.len()).min(input.len());
        let bytes = self.take(input, count);
        self.partial.extend_from_slice(bytes);
        self.partial.len() == whole
    }

    fn take<'a>(&mut self, input: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (bytes, rest) = input.split_at_checked(count).unwrap_or((*input, &[]));
        *input = rest;
        self.at += bytes.len() as u64;
        bytes
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

/// A full stream has to go on where it was.
fn check_gap(position: u64, next: u64, at: u64) -> Result<(), ReadError> {
    if position < next {
        return Err(ReadError::Gap { at, range: position..next });
    }
    Ok(())
}
