//! An NBD client: block status, reading and writing, with several requests in flight.
//!
//! Its layers, each usable without the next:
//!
//! - [`connection`] is one connection without I/O and with the clock inside: bytes in, bytes and events out. It is made of
//!   a [`handshake`] and a [`session`], which can be used alone.
//! - [`transport`] has streams with a deadline: TCP and unix sockets, and anything else that can be read and written.
//! - [`Client`] puts both together: blocking calls for a range of any length, and requests that are started now and
//!   answered later.
//! - [`Pool`] is one connection or several, each with a thread that always receives. [`ReadAhead`] and [`WriteBehind`]
//!   are the two loops of a copy tool, and run on it.
//! - [`Surveyor`] feeds nbd-extents' surveys: the merged map of an export. [`survey::map`] is the same in one call.
//!
//! A copy of what is not zero, from one export to another of the same size, with neither waited for request by request:
//!
//! ```no_run
//! use nbd_client::pipeline::PipelineOptions;
//! use nbd_client::survey::Order;
//! use nbd_client::{Options, Pool, ReadAhead, Surveyor, WriteBehind};
//! use nbd_extents::stream::ExtentStream;
//! use nbd_extents::{Context, Contexts};
//!
//! let source = "nbd+unix:///?socket=/run/source.sock".parse()?;
//! let target = "nbd+unix:///?socket=/run/target.sock".parse()?;
//! let wanted = Contexts::new().require(Context::Allocation)?;
//! let mut surveyor = Surveyor::connect(&source, &Options::new(), &wanted, Order::Together)?;
//! let options = surveyor.survey_options()?;
//! let extents = surveyor.survey(options)?.collect_vec()?;
//! surveyor.disconnect()?;
//!
//! let mut source = Pool::connect(&source, &Options::new(), 1)?;
//! let mut target = Pool::connect(&target, &Options::new(), 1)?;
//! let data: Vec<_> = extents.iter().filter(|extent| extent.status().zero() != Some(true)).collect();
//! let ranges = data.iter().map(|extent| extent.start()..extent.end());
//! let mut blocks = ReadAhead::new(&mut source, ranges, PipelineOptions::default())?;
//! let mut writes = WriteBehind::new(&mut target, PipelineOptions::default())?;
//! while let Some(block) = blocks.next_block()? {
//!     let mut copy = writes.buffer(block.data.len());
//!     copy.copy_from_slice(block.data);
//!     writes.write(block.offset, copy)?;
//! }
//! for extent in extents.iter().filter(|extent| extent.status().zero() == Some(true)) {
//!     writes.zero(extent.start(), extent.length())?;
//! }
//! // Only without an error here is all of it written, and durable.
//! writes.finish()?;
//! source.disconnect()?;
//! target.disconnect()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading and writing
//!
//! - A read is given out only when it is whole: every byte came, once, as data or as a hole. Whatever else a server sends is a typed error.
//! - Data go from the socket to their buffer without a copy in between, and from the caller's buffer to the socket.
//! - Requests are split at the server's maximum and have to be in whole blocks, as it says. What cannot be done (a write to a read-only export,
//!   beyond its end, a command that is not offered) is a [`StartError`](session::StartError) before anything is sent.
//! - No call waits for room to write without reading at the same time: a server that stops reading until its answers are read cannot stop us.
//! - Memory is bounded: by the [`PipelineOptions`](pipeline::PipelineOptions) of a pipeline, by [`SessionLimits`](session::SessionLimits) otherwise.
//! - There is no order among requests in flight, and a write is durable only after a FLUSH that was started when it had been answered, or with FUA.
//!
//! # What holds of any server
//!
//! Nothing that a server sends makes this crate panic, loop for ever or use unbounded memory; whatever has no end has a limit, and
//! whatever waits has a deadline. Three things can go wrong, and they are three types: a [`RequestError`](session::RequestError) leaves the connection
//! usable, a [`ProtocolError`](session::ProtocolError) or [`HandshakeError`](handshake::HandshakeError) ends it, and an [`Error`] of the client has an [`ErrorClass`]. What a
//! server did wrong and the client forgave is counted in [`SessionStats`](stats::SessionStats).
//!
//! # Features
//!
//! `tracing`: events about connections, requests, and what was forgiven.
//!
//! `tokio`: the client for asynchronous programs, in the module `aio`.
//!
//! `testing` (on unix): a scripted server that can say anything at any byte, for tests of clients, this one or others.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![warn(clippy::cast_possible_truncation)]
#![doc(test(attr(deny(warnings))))]

extern crate alloc;

#[cfg(feature = "tokio")]
pub mod aio;
mod alarm;
pub mod client;
pub mod connection;
pub mod error;
pub mod export;
pub mod frame;
pub mod handshake;
mod options;
pub mod pipeline;
mod pool;
pub mod session;
pub mod stats;
pub mod survey;
#[cfg(all(unix, feature = "testing"))]
pub mod testing;
pub mod text;
mod trace;
pub mod transport;
pub mod uri;

pub use alarm::Alarm;
pub use client::Client;
pub use error::{Error, ErrorClass};
pub use export::Export;
pub use nbd_extents::{Admission, Strictness};
pub use options::Options;
pub use pipeline::{ReadAhead, WriteBehind};
pub use pool::Pool;
pub use survey::Surveyor;
pub use uri::Uri;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
