//! Reading a stream that comes in pieces of any size.
//!
//! The reader holds one header or the JSON of the meta frame, and borrows payloads. Every byte
//! before the stop frame goes through the checksum, in the order of the stream, as it is taken off
//! the input.

use std::ops::Range;

use nbd_extents::chain::Checksum;

use super::checksum::Hasher;
use super::frame::Header;
use super::sequence::Sequence;
use super::{FrameError, FrameFault, FrameKind, FramePart, HEADER_SIZE, Meta, TERM};

/// Takes the bytes of one stream and hands out its frames.
///
/// The [module](super) has an example and names the streams that are refused. After an error the
/// stream is over: [`next`](Self::next) gives the same error again.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Meta, Reader, Writer};
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
    /// The bytes of the stream that have been taken.
    at: u64,
    /// The frame that is read next or just now.
    frame: u64,
    state: State,
    /// The start of a header or of the JSON, while it is not all there.
    partial: Vec<u8>,
    /// The meta frame and the frames after it.
    sequence: Option<Sequence>,
    /// `None` once the meta frame has named no checksum.
    hasher: Option<Hasher>,
    failed: Option<FrameError>,
}

/// The part of the stream that comes next.
#[derive(Clone, Copy, Debug)]
enum State {
    Header,
    Meta { length: usize },
    Payload { offset: u64, left: u64 },
    Terminator { nth: usize },
    Stopped,
}

/// The next part of a stream.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Event, Meta, Reader, Writer};
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
    /// The meta frame: always the first event.
    Meta(Meta),
    /// A data frame begins; its bytes follow as [`Payload`](Self::Payload).
    Data {
        /// Its bytes on the disk.
        range: Range<u64>,
    },
    /// Bytes of a data frame, in order.
    Payload {
        /// Their offset on the disk.
        offset: u64,
        /// The bytes; never none.
        bytes: &'a [u8],
    },
    /// These bytes of the disk read as zero, and must be zeroed.
    Zero {
        /// The bytes of the disk.
        range: Range<u64>,
    },
    /// The last frame. [`Reader::finish`] then sees that nothing follows.
    Stop,
}

/// The figures of a stream.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Meta, Reader, Writer};
///
/// let (mut writer, mut stream) = Writer::new(&Meta::incremental(1 << 20, 0, "now"))?;
/// stream.extend(writer.zero(0..4096)?.parts().concat());
/// stream.extend(writer.stop()?.parts().concat());
/// let (mut reader, mut input) = (Reader::new(), &stream[..]);
/// while reader.next(&mut input)?.is_some() {}
/// let summary = reader.finish()?;
/// assert_eq!((summary.data, summary.zero, summary.frames), (0, 4096, 1));
/// assert!(summary.checksum.is_some());
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
    /// The checksum in the stop frame, which has been compared with the stream's bytes; `None`
    /// until then, and for a stream that has none.
    pub checksum: Option<Checksum>,
}

impl Reader {
    /// The most bytes of JSON that a meta frame may have.
    pub const MAX_META: u64 = 1 << 16;

    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            at: 0,
            frame: 0,
            state: State::Header,
            partial: Vec::new(),
            sequence: None,
            hasher: Some(Hasher::new()),
            failed: None,
        }
    }

    /// The meta frame, once it has been read.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        self.sequence.as_ref().map(|sequence| &sequence.meta)
    }

    /// The number of bytes of the stream that have been taken.
    #[must_use]
    pub const fn consumed(&self) -> u64 {
        self.at
    }

    /// The figures of the frames that have begun.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let summary = self.sequence.as_ref().map(|sequence| sequence.summary);
        Summary { length: self.at, ..summary.unwrap_or_default() }
    }

    /// The next event in `input`, which is moved on over the bytes taken.
    ///
    /// `None` when all of the input has been taken and more is needed.
    ///
    /// # Errors
    ///
    /// [`FrameError`] names the fault, its frame, and its byte in the stream.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let event = self.advance(input);
        if let Err(error) = &event {
            self.failed = Some(error.clone());
        }
        event
    }

    /// Says that the input has ended, and gives the figures of a stream that is whole.
    ///
    /// # Errors
    ///
    /// [`FrameFault::Truncated`] when there was no stop frame; the reader's error when there was
    /// one.
    pub fn finish(self) -> Result<Summary, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let part = match self.state {
            State::Stopped => return Ok(self.summary()),
            State::Header if self.partial.is_empty() => FramePart::Between,
            State::Header => FramePart::Header,
            State::Meta { .. } => FramePart::Meta,
            State::Payload { .. } => FramePart::Payload,
            State::Terminator { .. } => FramePart::Terminator,
        };
        Err(self.fault(self.at, FrameFault::Truncated { part }))
    }

    fn fault(&self, at: u64, fault: FrameFault) -> FrameError {
        FrameError { frame: self.frame, at, fault }
    }

    fn advance<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, FrameError> {
        while !input.is_empty() {
            let event = match self.state {
                State::Header => self.header(input)?,
                State::Meta { length } => self.json(input, length)?,
                State::Payload { offset, left } => Some(self.payload(input, offset, left)),
                State::Terminator { nth } => self.terminator(input, nth)?,
                State::Stopped => return Err(self.fault(self.at, FrameFault::Trailing)),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn header<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, FrameError> {
        if !self.collect(input, HEADER_SIZE) {
            return Ok(None);
        }
        let at = self.at - HEADER_SIZE as u64;
        let header = self.partial.first_chunk().and_then(Header::decode);
        let header = header.ok_or_else(|| self.fault(at, FrameFault::Header))?;
        // the stop frame holds the checksum, and is not part of it
        if let (Some(hasher), true) = (&mut self.hasher, header.kind != FrameKind::Stop) {
            hasher.update(&self.partial);
        }
        self.partial.clear();
        let event = match (header.kind, &mut self.sequence) {
            (FrameKind::Meta, None) => self.begin_meta(header).map(|()| None),
            (FrameKind::Data, Some(sequence)) => sequence.push(header).map(|range| {
                self.state = State::Payload { offset: header.start, left: header.length };
                Some(Event::Data { range })
            }),
            (FrameKind::Zero, Some(sequence)) => sequence.push(header).map(|range| {
                self.frame += 1;
                Some(Event::Zero { range })
            }),
            (FrameKind::Stop, Some(sequence)) => {
                let computed = self.hasher.as_ref().map(Hasher::checksum);
                sequence.check_end().and_then(|()| compare(header.checksum(), computed)).map(|()| {
                    sequence.summary.checksum = computed;
                    self.state = State::Stopped;
                    self.frame += 1;
                    Some(Event::Stop)
                })
            }
            (kind, _) => Err(FrameFault::OutOfPlace { kind }),
        };
        event.map_err(|fault| self.fault(at, fault))
    }

    fn begin_meta(&mut self, header: Header) -> Result<(), FrameFault> {
        let Header { start, length, .. } = header;
        if start != 0 || length == 0 {
            return Err(FrameFault::Header);
        }
        let too_large = FrameFault::MetaTooLarge { length };
        let length = usize::try_from(length).ok().filter(|_| length <= Self::MAX_META).ok_or(too_large)?;
        self.state = State::Meta { length };
        Ok(())
    }

    fn json<'a>(&mut self, input: &mut &'a [u8], length: usize) -> Result<Option<Event<'a>>, FrameError> {
        if !self.collect(input, length) {
            return Ok(None);
        }
        let at = self.at - length as u64;
        let meta = Meta::from_json(&self.partial).map_err(|error| self.fault(at, FrameFault::Meta(error)))?;
        match &mut self.hasher {
            Some(hasher) if meta.checksum.is_some() => hasher.update(&self.partial),
            _ => self.hasher = None,
        }
        self.partial = Vec::with_capacity(HEADER_SIZE);
        self.sequence = Some(Sequence::new(meta.clone()));
        self.state = State::Terminator { nth: 0 };
        Ok(Some(Event::Meta(meta)))
    }

    fn payload<'a>(&mut self, input: &mut &'a [u8], offset: u64, left: u64) -> Event<'a> {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let bytes = self.take(input, count);
        self.hash(bytes);
        let used = bytes.len() as u64;
        self.state = if used < left {
            State::Payload { offset: offset + used, left: left - used }
        } else {
            State::Terminator { nth: 0 }
        };
        Event::Payload { offset, bytes }
    }

    fn terminator<'a>(&mut self, input: &mut &'a [u8], nth: usize) -> Result<Option<Event<'a>>, FrameError> {
        if input.first() != TERM.get(nth) {
            return Err(self.fault(self.at, FrameFault::Terminator));
        }
        let byte = self.take(input, 1);
        self.hash(byte);
        self.state = if nth + 1 < TERM.len() {
            State::Terminator { nth: nth + 1 }
        } else {
            self.frame += 1;
            State::Header
        };
        Ok(None)
    }

    fn hash(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }

    /// Adds to the bytes that are held until they are `whole`; true when they are.
    fn collect(&mut self, input: &mut &[u8], whole: usize) -> bool {
        let count = (whole - self.partial.len()).min(input.len());
        let bytes = self.take(input, count);
        self.partial.extend_from_slice(bytes);
        self.partial.len() == whole
    }

    fn take<'a>(&mut self, input: &mut &'a [u8], count: usize) -> &'a [u8] {
        debug_assert!(count <= input.len(), "the caller takes no more than there is");
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

/// Compares the checksum that the stop frame states with that of the bytes, if the meta frame says
/// that there is one.
fn compare(stated: Option<Checksum>, computed: Option<Checksum>) -> Result<(), FrameFault> {
    match (stated, computed) {
        (Some(_), None) => Err(FrameFault::Header),
        (None, Some(_)) => Err(FrameFault::NoChecksum),
        (Some(stated), Some(computed)) if stated != computed => {
            Err(FrameFault::Checksum { stated, computed })
        }
        _ => Ok(()),
    }
}
