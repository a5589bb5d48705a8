//! ovirt-imageio's sparse stream: a backup as one stream of frames, to be piped, stored, and
//! restored in order.
//!
//! ```text
//! meta 0000000000000000 0000000000000083\r\n    the disk's size and more, as JSON; always first
//! { ... }\r\n
//! data 0000000000000000 0000000000100000\r\n    start and length in bytes, 16 hexadecimal digits each
//! ...1 MiB...\r\n
//! zero 0000000000100000 0000000040000000\r\n    these bytes read as zero; no payload
//! stop 0000000000000000 0000000000000000\r\n    always last: without it the stream is not whole
//! ```
//!
//! Frames ascend and do not overlap. A full stream covers the whole disk with data and zeroes. An
//! incremental has only the changes: data to write and zeroes to make. Both have to reach the disk,
//! since its parent has other bytes there.
//!
//! A [`Writer`] makes the bytes, and refuses whatever a reader would; a [`Reader`] takes them in
//! any pieces:
//!
//! ```
//! use nbd_extents_backup::sparse_stream::{Event, Meta, Reader, Writer};
//!
//! let meta = Meta::incremental(1 << 30, 4, "2026-01-01T00:00:00");
//! let (mut writer, mut stream) = Writer::new(&meta)?;
//! for frame in [writer.data(4096, b"data")?, writer.zero(65536..131_072)?, writer.stop()?] {
//!     stream.extend(frame.parts().concat());
//! }
//!
//! let mut reader = Reader::new();
//! let mut input = &stream[..];
//! while let Some(event) = reader.next(&mut input)? {
//!     match event {
//!         Event::Meta(meta) => assert!(meta.incremental),
//!         Event::Data { range } => assert_eq!(range, 4096..4100),
//!         Event::Payload { offset, bytes } => assert_eq!((offset, bytes), (4096, &b"data"[..])),
//!         Event::Zero { range } => assert_eq!(range, 65536..131_072),
//!         Event::Stop => break,
//!         _ => {}
//!     }
//! }
//! let summary = reader.finish()?;
//! assert_eq!((summary.data, summary.zero), (4, 65536));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What this reader refuses and imageio's takes
//!
//! Frames out of order or over each other, frames that leave the disk, a full stream that leaves
//! bytes out, an empty frame, another amount of data than [`Meta::data_size`] promises, and bytes
//! after the stop frame. No sound program writes any of these, and each would restore another disk
//! than the one that was backed up. Upper-case digits, unknown JSON keys and any layout of the JSON
//! are taken.
//!
//! An incremental by imageio has a `data-size` that counts clean data too: more than the stream
//! carries. See [`Meta::is_data_size_exact`].
//!
//! # What makes a chain safe
//!
//! The format has no checksum and no names of its own. Streams of this project add both, where
//! imageio's reader does not look: the stop frame carries a checksum over all bytes before it, and
//! the meta frame of an incremental names the checkpoint, the disk size and the checksum of its
//! parent, and the disk. [`chain()`] checks them. A stream that lacks some of them is read all the
//! same, and [`Contents::unchecked`] and [`Chain::unchecked`](nbd_extents::chain::Chain::unchecked)
//! list what could not be checked. Every key and every rule stands in the [`specification`].

mod chain;
mod checksum;
mod contents;
mod error;
mod frame;
mod meta;
mod reader;
mod sequence;
#[cfg(test)]
mod tests;
mod writer;

pub use chain::{StreamChain, StreamChainError, chain, check_first};
pub use checksum::ChecksumAlgorithm;
pub use contents::{Contents, ContentsError, StreamEnds, StreamFact, read};
pub use error::{FrameError, FrameFault, FramePart};
pub(crate) use frame::begins_stream;
pub use frame::{Frame, FrameKind, HEADER_SIZE};
pub use meta::{Meta, MetaError};
pub use reader::{Event, Reader, Summary};
pub use writer::Writer;

#[doc = include_str!("FORMAT.md")]
pub mod specification {}

/// The end of every header and every payload.
const TERM: [u8; 2] = *b"\r\n";
