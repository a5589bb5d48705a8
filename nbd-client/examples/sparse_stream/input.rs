//! Where a restore comes from: the bytes of a stream, piece by piece, to what is to be done with them.

use std::io::{ErrorKind, Read};

use nbd_extents_formats::sparse_stream::{Event, Meta, Reader, Summary};

use crate::common::failure::Failure;

const PIECE: usize = 256 << 10;

/// What is done with a stream.
pub(crate) trait Sink {
    /// The stream is about this; no other call comes before.
    fn begin(&mut self, meta: &Meta) -> Result<(), Failure>;
    /// Bytes of the disk.
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure>;
    /// Bytes of the disk that read as zero.
    fn zero(&mut self, range: core::ops::Range<u64>) -> Result<(), Failure>;
}

/// Reads a stream to its end and gives it to a sink. It fails unless the stream is whole.
pub(crate) fn read(mut input: impl Read, sink: &mut impl Sink) -> Result<Summary, Failure> {
    let mut reader = Reader::new();
    let mut buffer = vec![0; PIECE];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(reader.finish()?),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::other(format!("cannot read the stream: {error}"))),
        };
        let mut piece = buffer.get(..count).unwrap_or_default();
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
