//! Lists of extents of other programs: read, written, converted and merged.
//!
//! ```
//! use nbd_extents::stream::ExtentStream;
//! use nbd_extents_formats::{Format, ReadOptions};
//!
//! let json = br#"[
//!     {"start": 0, "length": 65536, "dirty": true},
//!     {"start": 65536, "length": 983040, "dirty": false}
//! ]"#;
//! let mut dirty = 0;
//! Format::ImageioDirty.read(&json[..], ReadOptions::default()).for_each(|extent| {
//!     dirty += if extent.status().dirty == Some(false) { 0 } else { extent.length() };
//! })?;
//! assert_eq!(dirty, 65536);
//! # Ok::<(), nbd_extents_formats::ListReadError>(())
//! ```
//!
//! # The formats
//!
//! | name | written by | dirty | zero | hole | layer | more |
//! |---|---|---|---|---|---|---|
//! | [`imageio-zero`](imageio) | ovirt-imageio, CloudStack | | yes | | absent or not, or unknown | |
//! | [`imageio-dirty`](imageio) | the same; `nbd-extents map --json` | yes | yes, or unknown | | | |
//! | [`combined`] | this project | yes | yes | yes | | |
//! | [`nbdinfo-allocation`](nbdinfo), also `-json` | `nbdinfo --map` | | yes | yes | | |
//! | [`nbdinfo-dirty`](nbdinfo), also `-json` | `nbdinfo --map=qemu:dirty-bitmap:NAME` | yes | | | | |
//! | [`nbdinfo-depth`](nbdinfo), also `-json` | `nbdinfo --map=qemu:allocation-depth` | | | | which | |
//! | [`qemu-img`](qemu_img) | `qemu-img map --output=json` | | yes | yes | which, or unknown | images searched, compressed, host offset |
//! | [`qemu-img-dirty`](qemu_img) | the same, of a dirty bitmap | yes, inverted | | | | |
//! | [`qemu-img-depth`](qemu_img) | the same, of the allocation depth | | | | absent, the top, or below it | |
//! | [`kubevirt-full`](kubevirt) | KubeVirt's export server | | yes | yes | | |
//! | [`kubevirt-incremental`](kubevirt) | the same | yes | yes | | | |
//! | [`csi-delta`](csi) | Kubernetes CSI drivers | yes | | | | |
//! | [`csi-allocated`](csi) | the same | | as the caller says | | absent or not | |
//! | [`extentlist`] | people, for nbdkit's filter | | yes | yes | | |
//! | [`qcow2reader`] | go-qcow2reader | | yes | | absent or not | compressed |
//! | [`actions`] | `nbd-extents map --actions --json` | | | | | the action |
//!
//! Each module shows a sample and says how to read it right. An attribute that a format
//! leaves open is `None`: nothing is guessed. Above all, a hole is not zero unless it is said to
//! be, and nothing that is not said to be clean is clean.
//!
//! # Reading
//!
//! [`Format::read`] gives a [`ListReader`]: a stream of extents that takes the input row by row,
//! from a slice, a file, a socket. A [`Format`] is a constant, or the name that a user has typed.
//!
//! ```
//! use nbd_extents::stream::ExtentStream;
//! use nbd_extents_formats::{Format, ReadOptions};
//!
//! let json = br#"[{ "start": 0, "length": 65536, "depth": 0, "present": true,
//!     "zero": false, "data": true, "compressed": false, "offset": 327680}]"#;
//!
//! // a callback gets each row while the list is read
//! let rows = Format::QemuImg.read(&json[..], ReadOptions::default());
//! rows.for_each(|row| println!("{row:?}"))?;
//!
//! // a map is kept, and asked again and again
//! let options = ReadOptions { size: Some(65536), ..ReadOptions::default() };
//! let format: Format = "qemu-img".parse()?;
//! let map = format.read(&json[..], options).into_map()?;
//! assert_eq!(map.get(4096).map(|extent| extent.status().zero), Some(Some(false)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Give the size of the disk where it is known ([`ReadOptions::size`]): a list that ends early is
//! an error then.
//!
//! # Converting
//!
//! [`Format::writer`] gives a [`ListWriter`], which takes extents one by one, or a whole stream.
//! Attributes that the other format cannot say are refused unless that [is
//! allowed](WriteOptions::loss). One that it must say and that is not known is refused unless it
//! may be [assumed](WriteOptions::assume).
//!
//! ```
//! use nbd_extents_formats::{Format, ReadOptions, WriteOptions};
//!
//! let table = &b"    0  65536  1  dirty\n65536  65536  0  clean\n"[..];
//! let rows = Format::NbdinfoDirty.read(table, ReadOptions::default());
//! let mut json = Vec::new();
//! Format::ImageioDirty.writer(&mut json, WriteOptions::default()).write_all(rows)?;
//! assert_eq!(
//!     String::from_utf8(json)?,
//!     "[{\"start\": 0, \"length\": 65536, \"dirty\": true}, \
//!      {\"start\": 65536, \"length\": 65536, \"dirty\": false}]"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Merging
//!
//! [`merge`] makes one stream of two lists: of a dirty bitmap and of the zeroes, as printed by two
//! programs.
//!
//! ```
//! use nbd_extents_formats::{Format, ReadOptions, WriteOptions, merge};
//!
//! let options = ReadOptions { size: Some(131072), ..ReadOptions::default() };
//! let bitmap = &b"    0  65536  1  dirty\n65536  65536  0  clean\n"[..];
//! let zeroes = &b"0 32k\n32k 96k hole,zero\n"[..];
//! let both = merge(
//!     Format::NbdinfoDirty.read(bitmap, options),
//!     Format::Extentlist.read(zeroes, options),
//! );
//! let mut json = Vec::new();
//! Format::Combined.writer(&mut json, WriteOptions::default()).write_all(both)?;
//! let json = String::from_utf8(json)?;
//! let second = r#"{"start": 32768, "length": 32768, "dirty": true, "zero": true, "hole": true}"#;
//! assert!(json.contains(second));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Faults of an input
//!
//! A [`ListReadError`] names the format, the line and the column: text that is not JSON, a field
//! that is missing or there twice, a number that is not a whole one below 2^64, ranges that overlap
//! or leave bytes out, and the list of another format, as far as a format can tell. Fields that are
//! not known are passed over. An input without a byte is an error, since a program that fails
//! prints nothing; so is a list without rows, unless the size of the disk is given as 0.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![warn(clippy::cast_possible_truncation)]
#![doc(test(attr(deny(warnings))))]

pub mod actions;
mod attributes;
pub mod combined;
pub mod csi;
pub mod extentlist;
mod fault;
mod format;
pub mod imageio;
mod input;
pub mod kubevirt;
mod merge;
pub mod nbdinfo;
mod nested;
mod numbers;
mod objects;
pub mod qcow2reader;
pub mod qemu_img;
mod reader;
mod row;
mod spec;
mod writer;

pub use attributes::{Assume, Attribute, Attributes, ImageLayer};
pub use fault::{ConvertError, Fault, LineColumn, ListReadError, ListWriteError};
pub use format::{Format, ReadOptions, UnknownFormat, WriteOptions};
pub use merge::{MergeError, merge};
pub use reader::ListReader;
pub use writer::{ListWriter, Loss};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct FormatsReadme;
