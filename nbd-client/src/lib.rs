//! An NBD client: block status, reading and writing, with several requests in flight.
//!
//! Its layers, each usable without the next:
//!
//! - [`connection`] is one connection without I/O and with the clock inside: bytes in, bytes and
//!   events out. It is made of a [`handshake`] and a [`session`], which can be used alone.
//! - [`transport`] has streams with a deadline: TCP and unix sockets, and anything else that can be
//!   read and written.
//! - [`tls`] encrypts a connection, whichever driver moves its bytes (feature `tls`).
//! - [`Client`] runs a connection over a transport: blocking calls for a range of any length, and
//!   requests that are started now and answered later.
//! - [`Pool`] is one connection or several, each with a thread that always receives. [`ReadAhead`]
//!   and [`WriteBehind`] are the two loops of a copy tool, and run on it.
//! - [`copy`] goes from one export to another while the survey runs.
//! - [`Surveyor`] feeds nbd-extents' surveys: the merged map of an export. [`survey::map`] is the
//!   same in one call.
//!
//! A copy of all data, from one export to another, over four connections to either side:
//!
//! ```no_run
//! use nbd_client::copy::{Copy, CopyOptions};
//! use nbd_client::survey::Order;
//! use nbd_client::{Options, Surveyor};
//! use nbd_extents::action::Full;
//! use nbd_extents::{Context, Contexts};
//!
//! let source = "nbd+unix:///?socket=/run/source.sock".parse()?;
//! let target = "nbd+unix:///?socket=/run/target.sock".parse()?;
//! let options = Options::new();
//! let wanted = Contexts::new().require(Context::Allocation)?;
//! let surveyor = Surveyor::connect(&source, &options, &wanted, Order::Together)?;
//! let copy = Copy::connect(surveyor, (&source, &options), (&target, &options), 4)?;
//! let survey = copy.surveyor().survey_options()?;
//! // Only without an error here is all of it written, and durable.
//! copy.run(Full::new(), survey, &CopyOptions::new())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Blocking and asynchronous
//!
//! Both clients drive the same [`Connection`](connection::Connection), which has the rules of the
//! protocol and of time. They differ in their sockets, and in how they wait and are cancelled.
//!
//! | to do | blocking | `aio` (feature `tokio`) |
//! |---|---|---|
//! | the map of an export, in one call | [`survey::map`] | `aio::map` |
//! | survey with options, in two orders | [`Surveyor`] | `aio::Surveyor` |
//! | survey with the next requests in flight | [`SurveyStream::ask_ahead`](survey::SurveyStream::ask_ahead) | the same |
//! | read, write, zero, trim, cache, flush | [`Client`] | `aio::Client`, a handle for many tasks |
//! | requests that are answered later | [`Client::start`], [`Client::next_event`] | `aio::Driver::start` and `next_event` |
//! | the status of a range, as it comes | [`Client::block_status`] | events of the same two |
//! | several connections used as one | [`Pool`], received by threads | `aio::Pool`, received by tasks |
//! | the loops of a copy tool | [`ReadAhead`], [`WriteBehind`] | `aio::ReadAhead`, `aio::WriteBehind` |
//! | small writes that follow each other | [`WriteBehind::write_joined`] | `aio::WriteBehind::write_joined` |
//! | a whole [`copy`] | [`copy::Copy`] | none: call it in a thread, since it blocks |
//! | list exports and contexts | [`Client::list_exports`] | `aio::Client::list_exports` |
//! | any stream of bytes | [`Client::over`], [`Surveyor::open`] | `aio::Driver::over`, `aio::Surveyor::open` |
//! | connections made by the program | [`Pool::of`], [`pool::more_connections`] | `aio::Pool::of`, `aio::more_connections` |
//! | what a server was forgiven | [`Client::stats`] | `aio::Driver::stats`; a handle has none |
//! | end a job | [`Canceller`](transport::Canceller) | drop the future, and what it uses |
//!
//! # Reading and writing
//!
//! - A read is given out only when it is whole: every byte came, once, as data or as a hole.
//!   Anything else that a server sends is a typed error.
//! - Data go from the socket to their buffer without a copy in between, and from the caller's
//!   buffer to the socket.
//! - A range of any length is one call. It is cut into requests at the server's maximum; a request
//!   that the server finds too long is halved. A call that cannot be done (a write to a read-only
//!   export, beyond its end, a command that is not offered) is a
//!   [`StartError`](session::StartError) before anything is sent.
//! - Reads, and all calls of [`Client`], are for whole blocks of the export's minimum.
//!   [`WriteBehind`] and [`Pool`] write any range.
//! - A pool, a pipeline and `aio::Client` receive each reply as soon as it comes, whatever the
//!   program does meanwhile. A survey has no request in flight between two calls, unless it
//!   [asks ahead](survey::SurveyStream::ask_ahead).
//!   [`PipelineOptions`](pipeline::PipelineOptions), [`SessionLimits`](session::SessionLimits) and
//!   a survey's budget bound the memory.
//! - Requests in flight have no order, and a write is durable only after a FLUSH that was started
//!   when it had been answered, or with FUA.
//!
//! # Time
//!
//! A slow server is not a dead one. The limit of the requests in flight
//! ([`Options::request_timeout`], 300 s) restarts whenever one has been answered whole or 64 KiB of
//! payload have moved; a byte a second is no progress. FLUSH has no limit unless
//! [set](Options::flush_timeout). [`Options::deadline`] is absolute.
//!
//! Each connection has its own limit. Where a server serves several connections of a client one
//! after the other, it must be long enough for all of them.
//!
//! A server that has hung up may have said why before. So when sending fails, the requests in
//! flight have 5 seconds for their answers, and new ones fail at once with the error of sending.
//!
//! A result counts from its last answer: a map, a list or a copy that was flushed is not lost when
//! only the goodbye after it fails. Calls named `disconnect` report that.
//!
//! # Promises against any server
//!
//! Nothing that a server sends makes this crate panic, loop for ever or use unbounded memory. Three
//! things can go wrong, and they are three types: a [`RequestError`](session::RequestError) leaves
//! the connection usable, a [`ProtocolError`](session::ProtocolError) or
//! [`HandshakeError`](handshake::HandshakeError) ends it, and an [`Error`] of the client has an
//! [`ErrorClass`]. What a server did wrong and the client forgave is counted in
//! [`SessionStats`](stats::SessionStats).
//!
//! # Features
//!
//! `tracing`: events about connections, requests and faults forgiven.
//!
//! `tls`: `nbds` URIs and [`Options::tls`], over rustls with ring, which builds with a C compiler
//! alone. See [`tls`].
//!
//! `tokio`: the client for asynchronous programs, in the module `aio`.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![warn(clippy::cast_possible_truncation)]
#![doc(test(attr(deny(warnings))))]

extern crate alloc;

#[cfg(feature = "tokio")]
pub mod aio;
mod block_on;
pub mod client;
pub mod connection;
pub mod copy;
pub mod error;
pub mod export;
pub mod frame;
pub mod handshake;
mod number_map;
mod options;
pub mod pipeline;
pub mod pool;
pub mod session;
pub mod stats;
pub mod survey;
pub mod text;
pub mod tls;
mod trace;
pub mod transport;
pub mod uri;

pub use client::Client;
pub use error::{Error, ErrorClass};
pub use export::Export;
pub use nbd_extents::{Admission, Strictness};
pub use options::Options;
pub use pipeline::{ReadAhead, WriteBehind};
pub use pool::Pool;
pub use survey::Surveyor;
pub use tls::{TlsError, TlsOptions};
pub use uri::Uri;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ClientReadme;
