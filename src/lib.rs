//! Turns the block status of an NBD server into one map of the ranges that a backup must copy, zero
//! or skip.
//!
//! The crate does no I/O and needs no runtime. It has no `unsafe` code except in the kernels of the
//! feature `simd`, which is off by default.
//!
//! # The problem
//!
//! A server (qemu above all) describes a disk in several *metadata contexts*. Each is a list of
//! extents of its own, cut at its own offsets:
//!
//! | context | says of each range | type |
//! |---|---|---|
//! | `base:allocation` | reads as zeroes, is a hole | [`Allocation`] |
//! | `qemu:dirty-bitmap:NAME` | changed since a checkpoint | [`Dirtiness`] |
//! | `qemu:allocation-depth` | which layer of the image holds it | [`Depth`] |
//!
//! An incremental backup needs them together: copy dirty bytes that are not zero, write zeroes
//! where bytes are dirty and zero, skip the rest. With the bitmap alone, the incremental of this 10
//! GiB disk reads 9 GiB (oVirt bug 1971185):
//!
//! ```text
//! 0        1 GiB    2 GiB                              9 GiB    10 GiB
//! |-clean--|----------------------- dirty -----------------------|    qemu:dirty-bitmap:b0
//! |------ data -----|------------------ zero ----------|- data --|    base:allocation
//! |-skip---|--copy--|---------------- write zeroes ----|--copy---|    merged: it reads 2 GiB
//! ```
//!
//! ```
//! use nbd_extents::stream::{ExtentStream, place};
//! use nbd_extents::wire::Descriptors;
//! use nbd_extents::{Allocation, Dirtiness};
//!
//! const GIB: u64 = 1 << 30;
//! // (length, flags) pairs, as a client hands them out
//! let bitmap = [(GIB, 0), (9 * GIB, 1)];
//! let allocation = [(2 * GIB, 0), (7 * GIB, 3), (GIB, 0)];
//!
//! let dirty = place(Descriptors::new(&bitmap), 0).map_status(Dirtiness::from_flags);
//! let zero = place(Descriptors::new(&allocation), 0).map_status(Allocation::from_flags);
//! let merged = dirty
//!     .merge(zero, |dirty, zero| (dirty.is_dirty(), zero.is_zero()))
//!     .coalesce()
//!     .collect_vec()?;
//!
//! let rows: Vec<_> =
//!     merged.iter().map(|e| (e.start() / GIB, e.length() / GIB, *e.status())).collect();
//! assert_eq!(
//!     rows,
//!     [
//!         (0, 1, (false, false)),
//!         (1, 1, (true, false)), // copy
//!         (2, 7, (true, true)),  // write zeroes
//!         (9, 1, (true, false)), // copy
//!     ]
//! );
//! # Ok::<(), nbd_extents::StreamError>(())
//! ```
//!
//! # From a server's replies
//!
//! A real server answers piece by piece, and the contexts of one reply cover different ranges.
//! Backup tools have lost data by trusting the longest; [`Survey`] continues from the shortest. It
//! plans the requests, takes the replies' payloads in any order, and yields merged extents that
//! cover the disk exactly once, or an error:
//!
//! ```text
//! negotiate contexts -> next_request -> send it, with your own client
//!                            ^               |
//!                            |               v
//!   next_extent <- reply_done <- chunk, for each status chunk of the reply
//! ```
//!
//! [`Survey`] has a complete example. The crate `nbd-client` in the same repository is a client
//! that feeds it from real servers; with libnbd, [`Survey::extents64`] takes the entries of its
//! callbacks.
//!
//! # The four kinds of reply
//!
//! ```text
//! single  asked |--------------|    short   asked |--------------|
//!         reply |==============|            reply |======|            ask on from its end
//!
//! long    asked |--------|          same    asked |--------------|
//!         reply |==============|            reply |==a===|==a====|    joined: one extent
//! ```
//!
//! # From extents to decisions
//!
//! The whole way in one example: two payloads in wire form, one merged [`Status`], the policy of an
//! incremental backup, and the requests to send. If the payloads come in pieces from a server, a
//! [`Survey`] replaces the first three lines:
//!
//! ```
//! use nbd_extents::action::{Baseline, Incremental, StatusStream};
//! use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
//! use nbd_extents::stream::{ExtentStream, place};
//! use nbd_extents::wire::parse_compact;
//! use nbd_extents::{Allocation, BitmapIndex, Bitmaps, Dirtiness, Status};
//!
//! // a context id, then (length, flags) of each extent, all 32 bits and big-endian
//! let bitmap =
//!     [0, 0, 0, 2, /**/ 0, 2, 0, 0, 0, 0, 0, 1, /**/ 0, 1, 0, 0, 0, 0, 0, 0];
//! let allocation =
//!     [0, 0, 0, 1, /**/ 0, 1, 0, 0, 0, 0, 0, 3, /**/ 0, 2, 0, 0, 0, 0, 0, 0];
//! let size = 3 * 65536;
//!
//! let dirty =
//!     place(parse_compact(&bitmap)?.descriptors(), 0).map_status(Dirtiness::from_flags);
//! let zero = place(parse_compact(&allocation)?.descriptors(), 0)
//!     .map_status(Allocation::from_flags);
//! let disk = dirty.merge(zero, |&dirty, &zero| {
//!     Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, dirty).with_allocation(zero)
//! });
//!
//! // the size of the disk at the previous backup, and the bitmap started then
//! let policy = Incremental::new(Baseline::new(size, Bitmaps::FIRST), size)?;
//! let plan = Plan::new(disk.decide(policy), PlanOptions::new(size, BlockSize::new(4096)?)?);
//! let steps = plan
//!     .map(|step| Ok(step?.to_string()))
//!     .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
//! assert_eq!(steps, ["zero 0..65536", "copy 65536..131072"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`action`] | copy, zero, skip or absent: chosen by a policy, checked against data loss, with reasons |
//! | [`plan`] | the requests: aligned, joined, split, with totals, resumable |
//! | [`map`] | a whole disk in memory, at 9 bytes per extent: look-up, slices, diff, totals |
//! | [`chain`] | which layer of a full backup and its incrementals serves each range |
//!
//! The [`guide`] has a cookbook (from libnbd, from libvirt, plan and restore a backup), the meaning
//! of each field with the behaviour of each server, and tables for users of other programs' code.
//!
//! # Guarantees
//!
//! - A dirty byte is never lost: bytes that are rounded, filled or in doubt get the safe status
//!   (data, dirty, depth unknown), and of two contradicting answers the safer one holds.
//! - `zero` comes from the ZERO bit alone. A hole without it has undefined content and must be
//!   read.
//! - Raw flags of two contexts never meet: HOLE, DIRTY and depth 1 are the same number.
//! - Nothing that a server sends makes this crate panic, loop for ever, or hold more than the
//!   [budget](SurveyOptions::budget).
//!
//! NBD itself cannot guarantee that a bitmap of the same name is the same bitmap. One that was
//! deleted and made again reads as a clean disk, and after a disk has grown, the new part reads as
//! clean. So whoever takes an incremental must know the checkpoint and the size of the previous
//! backup.
//!
//! # Features
//!
//! - `std` (default) implies `alloc`, and adds the [`guide`].
//! - `alloc`: surveys, contexts, [maps](map), [chains](chain), and functions that collect. Without
//!   it remain [`Extent`], [`Status`], [`action`], [`plan`], [`wire`] (except `encode`), and
//!   [`stream`] (except `merge_all` and `collect_vec`), which suffice for a fixed number of
//!   contexts.
//! - `serde`: stable [serialized forms](guide::serialized) of extents, statuses, maps, resume
//!   points and layers. Works without `std`.
//! - `proptest`: strategies for the property tests of your own program, in `strategy`.
//! - `rayon`: [merges of maps](map::MapSlice::merge) on all cores, `MapSlice::merge_parallel`.
//! - `simd`: merges of lists in memory use AVX2 or AVX-512 if the processor has them, with the same
//!   results. It is the only feature with `unsafe` code, all of it in `src/kernel`; without it the
//!   compiler forbids any.

#![no_std]
#![cfg_attr(not(feature = "simd"), forbid(unsafe_code))]
#![cfg_attr(feature = "simd", deny(unsafe_code))]
#![doc(test(attr(deny(warnings))))]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![warn(clippy::cast_possible_truncation)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::alloc_instead_of_core)]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod action;
#[cfg(feature = "alloc")]
pub mod chain;
#[cfg(feature = "alloc")]
mod contexts;
mod error;
mod extent;
#[cfg(feature = "std")]
pub mod guide;
mod kernel;
#[cfg(feature = "alloc")]
pub mod map;
pub mod plan;
#[cfg(feature = "serde")]
mod serial;
mod status;
#[cfg(feature = "proptest")]
pub mod strategy;
pub mod stream;
#[cfg(feature = "alloc")]
mod survey;
pub mod wire;

pub use action::Action;
#[cfg(feature = "alloc")]
pub use contexts::{Context, ContextError, Contexts, Negotiated};
pub use error::{DecodeError, EncodeError, ExtentError, StreamError};
pub use extent::{Extent, MAX_END};
/// For tests and benches.
#[doc(hidden)]
pub use kernel::Processor;
pub use status::{Allocation, BitmapIndex, BitmapIndexError, Bitmaps, Depth, Dirtiness, MAX_BITMAPS, Status};
#[cfg(feature = "alloc")]
pub use survey::{
    Admission, ExportParams, Forgiven, ReplyFault, Request, RequestId, ResumePoint, Strictness, Survey,
    SurveyError, SurveyOptions, SurveyStats, Topic,
};

/// The README's examples are tests.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
