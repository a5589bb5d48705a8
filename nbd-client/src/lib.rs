//! An NBD client: block status, reading and writing, with several requests in flight.
//!
//! It began as the part of nbd-extents that asks real servers for block status, and is a whole client by now. Its layers, each usable
//! without the next:
//!
//! - [`Handshake`] and [`Session`] are state machines without I/O: bytes in, bytes and events out. They run in any runtime, over
//!   TLS, or in a fuzzer.
//! - [`Transport`] is a stream with a deadline; [`Socket`] is TCP or a unix socket, [`Foreign`] anything else.
//! - [`Client`] puts both together: blocking calls for a range of any length, and requests that are started now and answered later.
//! - [`ReadAhead`] and [`WriteBehind`] are the two loops of a copy tool, on a [`Client`] or on a [`Pool`] of several connections.
//! - [`Surveyor`] feeds nbd-extents' surveys: the merged map of an export.
//!
//! A copy of what is not zero, from one export to another of the same size, with neither waited for request by request:
//!
//! ```no_run
//! use nbd_client::{Client, Options, Order, Pace, ReadAhead, Surveyor, WriteBehind};
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
//! let (mut source, mut target) =
//!     (Client::connect(&source, &Options::new())?, Client::connect(&target, &Options::new())?);
//! let data: Vec<_> = extents.iter().filter(|extent| extent.status().zero() != Some(true)).collect();
//! let ranges = data.iter().map(|extent| extent.start()..extent.end());
//! let mut blocks = ReadAhead::new(&mut source, ranges, Pace::default())?;
//! let mut writes = WriteBehind::new(&mut target, Pace::default())?;
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
//!   beyond its end, a command that is not offered) is a [`StartError`] before anything is sent.
//! - No call waits for room to write without reading at the same time: a server that stops reading until its answers are read cannot stop us.
//! - Memory is bounded: by the [`Pace`] of a pipeline, by [`SessionLimits`] otherwise.
//! - There is no order among requests in flight, and a write is durable only after a FLUSH that was started when it had been answered, or with FUA.
//!
//! # What holds of any server
//!
//! Nothing that a server sends makes this crate panic, loop for ever or use unbounded memory; whatever has no end has a limit, and
//! whatever waits has a deadline. Three things can go wrong, and they are three types: a [`RequestError`] leaves the connection
//! usable, a [`ProtocolError`] or [`HandshakeError`] ends it, and an [`Error`] of the client has an [`ErrorClass`]. What a
//! server did wrong and the client forgave is counted in [`SessionStats`].
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
mod client;
mod error;
mod export;
pub mod frame;
mod handshake;
mod pipeline;
mod pool;
mod session;
mod stats;
mod survey;
#[cfg(all(unix, feature = "testing"))]
pub mod testing;
mod text;
mod trace;
mod transport;
mod uri;

pub use client::{Client, Options, StatusSink};
pub use error::{During, Error, ErrorClass, UnexpectedEof};
pub use export::{BlockSize, BlockSizeError, Export, ListedExport, MetaContext, TransmissionFlags};
pub use frame::Headers;
pub use handshake::{
    ContextRequest, Handshake, HandshakeConfig, HandshakeError, HandshakeLimits, HandshakeStatus, OptionName,
    Refusal,
};
pub use nbd_extents::{Admission, Strictness};
pub use pipeline::{Block, Pace, ReadAhead, Requests, WriteBehind};
pub use pool::Pool;
pub use session::{
    Admit, ChunkOffer, Command, Cookie, Errno, Event, ProtocolError, ReadRequest, RequestError, Session,
    SessionConfig, SessionLimits, StartError, StatusRequest, TakeAll, TrimRequest, WriteRequest, ZeroRequest,
};
pub use stats::{Forgiven, ForgivenCounts, SessionStats};
pub use survey::{Extents, Order, Surveyor, SurveyorError};
pub use text::ServerText;
pub use transport::{Cancelled, Canceller, Foreign, Ready, Socket, Transport};
pub use uri::{Address, DEFAULT_PORT, UnixSocket, Uri, UriError};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
