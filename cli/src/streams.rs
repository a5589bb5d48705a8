//! Reading a backup: the frames of one stream, piece by piece, to a sink.

use core::ops::Range;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use nbd_extents_formats::sparse_stream::{Event, Meta, Reader, Summary};

use crate::failure::Failure;

/// How much of a stream is read at a time.
const PIECE: usize = 256 << 10;

/// Takes the frames of a stream.
pub(crate) trait Sink {
    /// The stream is about this; no other call comes before.
    fn begin(&mut self, meta: &Meta) -> Result<(), Failure>;
    /// Bytes of the disk.
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure>;
    /// Bytes of the disk that read as zero.
    fn zero(&mut self, range: Range<u64>) -> Result<(), Failure>;
}

/// Whether this is the name of standard input.
pub(crate) fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Reads the stream in a file, or on standard input for `-`, to its end. Its faults name the file.
pub(crate) fn read_file(file: &Path, sink: &mut impl Sink) -> Result<Summary, Failure> {
    if is_stdin(file) {
        return read(io::stdin().lock(), sink);
    }
    let input = File::open(file).map_err(|error| Failure::file(file, &error))?;
    read(input, sink).map_err(|failure| failure.about(&file.display().to_string()))
}

/// Reads the meta frame at the head of a file.
pub(crate) fn read_meta(file: &Path) -> Result<Meta, Failure> {
    let mut input = File::open(file).map_err(|error| Failure::file(file, &error))?;
    let mut reader = Reader::new();
    let mut buffer = vec![0; 4096];
    let about = |failure: Failure| failure.about(&file.display().to_string());
    loop {
        let mut piece = match next_piece(&mut input, &mut buffer).map_err(about)? {
            [] => return Err(about(reader.finish().map_or_else(Failure::from, |_| nothing()))),
            piece => piece,
        };
        if let Some(Event::Meta(meta)) = reader.next(&mut piece).map_err(|error| about(error.into()))? {
            return Ok(meta);
        }
    }
}

/// Reads a stream to its end and gives it to a sink. It fails unless the stream is whole.
fn read(mut input: impl Read, sink: &mut impl Sink) -> Result<Summary, Failure> {
    let mut reader = Reader::new();
    let mut buffer = vec![0; PIECE];
    loop {
        let mut piece = match next_piece(&mut input, &mut buffer)? {
            [] => return Ok(reader.finish()?),
            piece => piece,
        };
        while let Some(event) = reader.next(&mut piece)? {
            match event {
                Event::Meta(meta) => sink.begin(&meta)?,
                Event::Payload { offset, bytes } => sink.data(offset, bytes)?,
                Event::Zero { range } => sink.zero(range)?,
                _ => {}
            }
        }
    }
}

/// The next bytes of an input; none at its end.
fn next_piece<'a>(input: &mut impl Read, buffer: &'a mut [u8]) -> Result<&'a [u8], Failure> {
    loop {
        match input.read(buffer) {
            Ok(count) => return Ok(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::other(format!("cannot read the stream: {error}"))),
        }
    }
}

/// A stream that ended well without a meta frame, which no reader lets pass.
pub(crate) fn nothing() -> Failure {
    Failure::broken("the stream has no meta frame")
}
