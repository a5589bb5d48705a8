//! Whole streams from anything that can be read: their frames as extents, their ends, their events.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;

use nbd_extents::chain::Checksum;
use nbd_extents::map::ExtentMap;
use nbd_extents::stream::{ExtentSource, ExtentStream};
use nbd_extents::{Action, Extent, StreamError};
use thiserror::Error;

use super::frame::Header;
use super::{Event, FrameError, FrameFault, FrameKind, HEADER_SIZE, Meta, Reader, Summary};

/// The bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// A stream that cannot be used: it cannot be read, or is not sound.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Contents, ContentsError};
///
/// let error = Contents::read(&b"meta"[..]).unwrap_err();
/// assert!(matches!(error, ContentsError::Frame(_)));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ContentsError {
    /// The input fails.
    #[error("the stream cannot be read")]
    Input(#[from] io::Error),
    /// A frame is not sound.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The last bytes of a stream are not a stop frame. The frames between its ends were not read.
    #[error("the stream of {length} bytes ends before its stop frame: it is not whole")]
    NoStop {
        /// The length of the stream, in bytes.
        length: u64,
    },
    /// The stop frame does not fit the meta frame. The frames between them were not read.
    #[error("the last frame of a stream of {length} bytes: {fault}")]
    Stop {
        /// The length of the stream, in bytes.
        length: u64,
        /// The fault.
        fault: FrameFault,
    },
    /// The frames are not a list of extents.
    #[error(transparent)]
    Extents(#[from] StreamError),
}

/// Reads a stream to its end, and gives each of its events to `consumer`.
///
/// # Errors
///
/// The first error of the input, the stream or the consumer. Events before it have been consumed.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{ContentsError, Event, Meta, Writer, read};
///
/// let (mut writer, mut stream) = Writer::new(&Meta::full(4096, 0, "now"))?;
/// stream.extend(writer.zero(0..4096)?.parts().concat());
/// stream.extend(writer.stop()?.parts().concat());
/// let mut zeroes = Vec::new();
/// let summary = read(&stream[..], |event| {
///     if let Event::Zero { range } = event {
///         zeroes.push(range);
///     }
///     Ok::<(), ContentsError>(())
/// })?;
/// assert_eq!((zeroes, summary.zero), (vec![0..4096], 4096));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read<E: From<ContentsError>>(
    input: impl Read,
    mut consumer: impl FnMut(Event<'_>) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut frames = Frames::new(input);
    while frames.read_piece().map_err(ContentsError::from)? {
        while let Some(event) = frames.next_event().map_err(ContentsError::from)? {
            consumer(event)?;
        }
    }
    frames.reader.finish().map_err(|error| ContentsError::from(error).into())
}

/// A stream that is being read in pieces.
struct Frames<R> {
    input: R,
    reader: Reader,
    buffer: Vec<u8>,
    /// The bytes of the buffer that the reader has not taken.
    unread: Range<usize>,
}

impl<R: Read> Frames<R> {
    fn new(input: R) -> Self {
        Self { input, reader: Reader::new(), buffer: vec![0; PIECE], unread: 0..0 }
    }

    /// Reads the next piece, once the last has been taken; `false` at the end of the input.
    fn read_piece(&mut self) -> io::Result<bool> {
        debug_assert!(self.unread.is_empty(), "bytes would be lost");
        loop {
            match self.input.read(&mut self.buffer) {
                Ok(count) => {
                    self.unread = 0..count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next event in the piece; `None` when all of it has been taken.
    fn next_event(&mut self) -> Result<Option<Event<'_>>, FrameError> {
        let mut piece = self.buffer.get(self.unread.clone()).unwrap_or_default();
        let event = self.reader.next(&mut piece);
        self.unread.start = self.unread.end - piece.len();
        event
    }
}

/// The frames of a stream as extents: data is `Copy`, zeroes are `Zero`.
impl<R: Read> ExtentSource for Frames<R> {
    type Status = Action;
    type Error = ContentsError;

    fn pull(&mut self) -> Result<Option<Extent<Action>>, ContentsError> {
        loop {
            while let Some(event) = self.next_event()? {
                let (range, action) = match event {
                    Event::Data { range } => (range, Action::Copy),
                    Event::Zero { range } => (range, Action::Zero { may_unmap: true }),
                    _ => continue,
                };
                return Ok(Some(Extent::from_range(range, action).map_err(StreamError::from)?));
            }
            if !self.read_piece()? {
                return Ok(None);
            }
        }
    }
}

/// A stream without its payloads: its meta frame, its figures, and the action of each range of the
/// disk.
///
/// Making one reads the whole stream and checks all that a [`Reader`] checks, the checksum
/// included. It holds 9 bytes for each run of equal actions.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Contents, Meta, Writer};
///
/// let (mut writer, mut stream) = Writer::new(&Meta::incremental(8192, 4, "now"))?;
/// stream.extend(writer.data(4096, b"data")?.parts().concat());
/// stream.extend(writer.stop()?.parts().concat());
/// let contents = Contents::read(&stream[..])?;
/// assert_eq!(contents.map().run_count(), 3, "skipped, copied, skipped");
/// assert_eq!(contents.summary().data, 4);
/// assert_eq!(contents.unchecked().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Contents {
    meta: Meta,
    summary: Summary,
    map: ExtentMap<Action>,
}

impl Contents {
    /// Reads a stream to its end.
    ///
    /// # Errors
    ///
    /// [`ContentsError`] when the input fails, or is not one sound and whole stream.
    pub fn read(input: impl Read) -> Result<Self, ContentsError> {
        let mut frames = Frames::new(input);
        let meta = read_meta(&mut frames)?;
        let disk = 0..meta.virtual_size;
        let map = ExtentMap::covering((&mut frames).fill(disk.clone(), Action::Skip), disk)?;
        let summary = frames.reader.finish()?;
        Ok(Self { meta, summary, map })
    }

    /// The meta frame.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The figures.
    #[must_use]
    pub const fn summary(&self) -> Summary {
        self.summary
    }

    /// The action of each range of the disk: `Copy`, `Zero`, or `Skip` where an incremental has
    /// nothing to say.
    #[must_use]
    pub const fn map(&self) -> &ExtentMap<Action> {
        &self.map
    }

    /// The facts of this stream alone that could not be checked, because it does not state them.
    ///
    /// ```
    /// use nbd_extents_backup::sparse_stream::{Contents, Meta, StreamFact, Writer};
    ///
    /// let (writer, mut stream) = Writer::new(&Meta::incremental(8192, 0, "now").without_checksum())?;
    /// stream.extend(writer.stop()?.parts().concat());
    /// let contents = Contents::read(&stream[..])?;
    /// assert!(contents.unchecked().eq([StreamFact::Bytes, StreamFact::DataSize]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unchecked(&self) -> impl Iterator<Item = StreamFact> {
        let no_checksum = self.summary.checksum.is_none().then_some(StreamFact::Bytes);
        let no_data_size = (!self.meta.is_data_size_exact()).then_some(StreamFact::DataSize);
        // a limit is of no use once the checksum has said that no frame is missing
        no_checksum.into_iter().chain(no_data_size.filter(|_| no_checksum.is_some()))
    }
}

/// A fact of one stream that can be checked only where the stream states it.
///
/// ```
/// use nbd_extents_backup::sparse_stream::StreamFact;
///
/// assert_eq!(StreamFact::Bytes.to_string(), "its bytes (it has no checksum)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamFact {
    /// The bytes of the stream: it has no checksum, so they may have changed.
    Bytes,
    /// The number of data frames: `data-size` is only a limit, so some may be missing.
    DataSize,
}

impl std::fmt::Display for StreamFact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bytes => "its bytes (it has no checksum)",
            Self::DataSize => "that no data frame is missing (its data-size is only a limit)",
        })
    }
}

/// The two ends of a stream: the meta frame, and the checksum in the stop frame.
///
/// An incremental needs no more of the stream that it follows: see [`Meta::follow`]. The frames
/// between the ends are not read and not checked.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Meta, StreamEnds, Writer};
///
/// let (writer, mut stream) = Writer::new(&Meta::incremental(8192, 0, "now"))?;
/// stream.extend(writer.stop()?.parts().concat());
/// let ends = StreamEnds::read(std::io::Cursor::new(stream))?;
/// assert!(ends.meta.incremental && ends.checksum.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnds {
    /// The meta frame.
    pub meta: Meta,
    /// The checksum of the stream, where it has one.
    pub checksum: Option<Checksum>,
}

impl StreamEnds {
    /// Reads the meta frame at the start and the stop frame at the end.
    ///
    /// # Errors
    ///
    /// [`ContentsError`] when the input fails, does not begin with a meta frame or does not end
    /// with a stop frame.
    pub fn read(mut input: impl Read + Seek) -> Result<Self, ContentsError> {
        let (meta, begun) = {
            let mut frames = Frames::new(&mut input);
            let meta = read_meta(&mut frames)?;
            (meta, frames.reader.consumed())
        };
        let length = input.seek(SeekFrom::End(0))?;
        let no_stop = || ContentsError::NoStop { length };
        let stop_at = length.checked_sub(HEADER_SIZE as u64).filter(|&at| at > begun).ok_or_else(no_stop)?;
        let mut stop = [0; HEADER_SIZE];
        input.seek(SeekFrom::Start(stop_at))?;
        input.read_exact(&mut stop)?;
        let header = Header::decode(&stop).filter(|header| header.kind == FrameKind::Stop);
        let checksum = header.ok_or_else(no_stop)?.checksum();
        match (meta.checksum, checksum) {
            (Some(_), None) => Err(ContentsError::Stop { length, fault: FrameFault::NoChecksum }),
            (None, Some(_)) => Err(ContentsError::Stop { length, fault: FrameFault::Header }),
            _ => Ok(Self { meta, checksum }),
        }
    }
}

/// Reads up to the end of the meta frame's JSON.
fn read_meta<R: Read>(frames: &mut Frames<R>) -> Result<Meta, ContentsError> {
    while frames.read_piece()? {
        if let Some(Event::Meta(meta)) = frames.next_event()? {
            return Ok(meta);
        }
    }
    // the meta frame is the first event of a stream: without it the stream is not whole
    Err(match frames.reader.clone().finish() {
        Err(error) => error.into(),
        Ok(_) => FrameError { frame: 0, at: 0, fault: FrameFault::Header }.into(),
    })
}
