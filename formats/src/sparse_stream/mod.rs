//! ovirt-imageio's sparse stream: a backup as one stream of frames, to be piped, stored, and restored in order.
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
//! Frames ascend and do not overlap. A full stream covers the whole disk with data and zeroes. An incremental one has what has changed alone: data to
//! write and zeroes to make, and both have to reach the disk, for the backup before it has other bytes there.
//!
//! A [`Writer`] makes the bytes and sees to it that what it made can be read; a [`Reader`] takes them in any pieces:
//!
//! ```
//! use nbd_extents_formats::sparse_stream::{Event, Meta, Reader, Writer};
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
//! Frames out of order or over each other, frames past the disk's end, a full stream that leaves bytes out, an empty frame, more data than
//! [`Meta::data_size`] says, and bytes behind the stop frame. None of these is written by a sound program, and each would restore a disk that
//! is not the one that was backed up. Upper-case digits, other JSON keys and any layout of the JSON are taken.
//!
//! What imageio itself writes of an incremental has a `data-size` that counts clean data too: more than the stream carries, and taken as such. Here it
//! is what the stream carries, unless [`Meta::data_size_is_limit`] says that it is an upper bound.

mod frame;
mod meta;
mod reader;
mod reader_error;
mod writer;

pub use frame::{Frame, FrameKind, HEADER_SIZE};
pub use meta::Meta;
pub use reader::{Event, Reader, Summary};
pub use reader_error::{Place, ReadError};
pub use writer::{WriteError, Writer};

/// What ends every header and every payload.
const TERM: [u8; 2] = *b"\r\n";
