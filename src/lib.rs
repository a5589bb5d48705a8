//! Which ranges of a disk must a backup copy, which must it zero, which can it skip? An NBD server knows, and this crate turns its answers into one
//! map. No I/O, no runtime; no `unsafe` but in the kernels of the feature `simd`, which is off by default.
//!
//! # The problem
//!
//! A server (qemu above all) describes a disk in several *metadata contexts*, each a list of extents of its own, cut at its own places:
//!
//! | context | says of each range | type |
//! |---|---|---|
//! | `base:allocation` | reads as zeroes, is a hole | [`Allocation`] |
//! | `qemu:dirty-bitmap:NAME` | changed since a checkpoint | [`Dirtiness`] |
//! | `qemu:allocation-depth` | which layer of the image holds it | [`Depth`] |
//!
//! An incremental backup needs them together: copy what is dirty and not zero, write zeroes where it is dirty and zero, skip the rest. With the
//! bitmap alone, the incremental of this 10 GiB disk reads 9 GiB (oVirt bug 1971185):
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
//! let merged = dirty.merge(zero, |dirty, zero| (dirty.is_dirty(), zero.is_zero())).coalesce().collect_vec()?;
//!
//! let rows: Vec<_> = merged.iter().map(|e| (e.start() / GIB, e.length() / GIB, *e.status())).collect();
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
//! A real server answers a piece at a time, and its contexts reach differently far in one reply. Taking the longest for the truth is how
//! backup tools have lost data; [`Survey`] does it right. It says what to ask, takes the replies' payloads in any order, and hands out merged
//! extents that cover the disk exactly once, or an error:
//!
//! ```text
//! negotiate contexts -> next_request -> send it, with your own client
//!                            ^               |
//!                            |               v
//!   next_extent <- reply_done <- chunk, for each status chunk of the reply
//! ```
//!
//! [`Survey`] has a complete example. The crate `nbd-client` beside this one is a client that feeds it from real servers; with libnbd,
//! [`Survey::extents64`] takes what its callbacks get.
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
//! The whole way in one place: two payloads as they stand on the wire, one merged [`Status`], the policy of an incremental backup, and the requests to
//! send. Where the payloads come in pieces from a server, a [`Survey`] takes the place of the first three lines:
//!
//! ```
//! use nbd_extents::action::{Baseline, Incremental, StatusStream};
//! use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
//! use nbd_extents::stream::{ExtentStream, place};
//! use nbd_extents::wire::parse_compact;
//! use nbd_extents::{Allocation, BitmapIndex, Bitmaps, Dirtiness, Status};
//!
//! // a context id, then (length, flags) of each extent, all 32 bits and big-endian
//! let bitmap = [0, 0, 0, 2, /**/ 0, 2, 0, 0, 0, 0, 0, 1, /**/ 0, 1, 0, 0, 0, 0, 0, 0];
//! let allocation = [0, 0, 0, 1, /**/ 0, 1, 0, 0, 0, 0, 0, 3, /**/ 0, 2, 0, 0, 0, 0, 0, 0];
//! let size = 3 * 65536;
//!
//! let dirty = place(parse_compact(&bitmap)?.descriptors(), 0).map_status(Dirtiness::from_flags);
//! let zero = place(parse_compact(&allocation)?.descriptors(), 0).map_status(Allocation::from_flags);
//! let disk = dirty.merge(zero, |&dirty, &zero| Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, dirty).with_allocation(zero));
//!
//! // how large the disk was at the previous backup, and which bitmap was started then
//! let policy = Incremental::new(Baseline::new(size, Bitmaps::FIRST), size)?;
//! let plan = Plan::new(disk.decide(policy), PlanOptions::new(size, BlockSize::new(4096)?)?);
//! let steps = plan.map(|step| Ok(step?.to_string())).collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
//! assert_eq!(steps, ["zero 0..65536", "copy 65536..131072"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what it answers |
//! |---|---|
//! | [`action`] | copy, zero, skip or absent: chosen by a policy, checked so that no policy loses a byte, with the reason on request |
//! | [`plan`] | the requests that carry it out: aligned, joined, split, with totals and a position to resume from |
//! | [`map`] | a whole disk in memory, at 9 bytes an extent: look-up, slices, diff, totals |
//! | [`chain`] | which layer of a full backup and its incrementals serves each range |
//!
//! The [`guide`] has a cookbook (from libnbd, from libvirt, plan and restore a backup), what each field means and what each server makes of it, and
//! a table for who comes from another program's code.
//!
//! # What is promised
//!
//! - A dirty byte is never lost: whatever is rounded, filled or in doubt gets the safe status (data, dirty, depth unknown), and two answers that
//!   contradict each other give the safer one.
//! - `zero` comes from the ZERO bit alone. A hole that is not said to be zero has undefined content and must be read.
//! - Raw flags of two contexts never meet: HOLE, DIRTY and depth 1 are the same number.
//! - Nothing that a server sends makes this crate panic, loop for ever, or hold more than the [budget](SurveyOptions::budget).
//!
//! What NBD itself cannot promise: that a bitmap of the same name is the same bitmap. One that was deleted and made again reads as a clean disk, and
//! after a disk has grown, the new part reads as clean. Whoever decides an incremental has to know the checkpoint and the size of the previous backup.
//!
//! # Features
//!
//! - `std` (default) implies `alloc`, and adds nothing else yet.
//! - `alloc`: surveys, contexts, [maps](map), [chains](chain), and what collects. Without it remain [`Extent`], [`Status`], [`action`], [`plan`],
//!   [`wire`] (but for `encode`), and [`stream`] (but for `merge_all` and `collect_vec`), which is
//!   all that a fixed number of contexts needs.
//! - `serde`: stable [serialized forms](guide::serialized) of extents, statuses, maps, resume points and layers. Works without `std`.
//! - `proptest`: strategies for the property tests of your own program, in `strategy`.
//! - `rayon`: [merges of maps](map::MapSlice::merge) on all cores, `MapSlice::merge_parallel`.
//! - `simd`: merges of lists in memory use AVX2 or AVX-512 where the processor has them. The same answers; the only feature with `unsafe`
//!   code, all of it in `src/kernel`; without it the compiler forbids any.

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
pub use error::{DecodeError, EncodeError, ExtentError, StreamError};
pub use extent::{Extent, MAX_END};
/// For tests and benches.
#[doc(hidden)]
pub use kernel::Processor;
pub use status::{Allocation, BitmapIndex, BitmapIndexError, Bitmaps, Depth, Dirtiness, MAX_BITMAPS, Status};
#[cfg(feature = "alloc")]
pub use survey::{
    Admission, Context, ContextError, Contexts, ExportParams, Forgiven, Negotiated, ReplyFault, Request,
    RequestId, ResumePoint, Strictness, Survey, SurveyError, SurveyOptions, SurveyStats, Topic,
};

/// The README's examples are tests.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
