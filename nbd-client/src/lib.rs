//! A small NBD client, made to ask real servers for block status.
//!
//! Three layers, each usable without the next:
//!
//! - [`Handshake`] and [`Session`] are state machines without I/O: bytes in, bytes and events out. They run in any runtime, over
//!   TLS, or in a fuzzer.
//! - [`Transport`] is a stream with a deadline; [`Socket`] is TCP or a unix socket, [`Foreign`] anything else.
//! - [`Client`] puts both together, blocking.
//!
//! ```no_run
//! use nbd_client::{Client, Options, StatusRequest};
//!
//! let options = Options::new().require_context("base:allocation");
//! let mut client = Client::connect(&"nbd+unix:///disk?socket=/run/nbd.sock".parse()?, &options)?;
//! let request = StatusRequest::new(0, client.export().size.min(1 << 30));
//! client.block_status(&request, &mut |context: u32, payload: &[u8]| {
//!     println!("{context}: {payload:02x?}");
//! })?;
//! client.disconnect()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
pub use export::{BlockSize, BlockSizeError, Export, MetaContext, TransmissionFlags};
pub use frame::Headers;
pub use handshake::{
    ContextRequest, Handshake, HandshakeConfig, HandshakeError, HandshakeLimits, HandshakeStatus, OptionName,
    Refusal,
};
pub use nbd_extents::{Admission, Strictness};
pub use pipeline::{Block, Pace, ReadAhead, Requests, WriteBehind};
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
