//! A scripted server, for tests of NBD clients: it can say anything at any byte.
//!
//! Real servers only misbehave when nobody looks. A [`ScriptedServer`] listens on a unix socket and
//! serves each connection with a closure, the script, which has a [`Conn`]: read what the client
//! asks, send what should come. Nothing is checked for sense on the way out. Messages that are not
//! the point of a test are left to [`Good`], the terms of a server that behaves:
//! [`Conn::handshake`] keeps them, and [`Conn::handshake_with`] lets a script answer single options
//! in its own way. [`bytes`] has the messages as plain bytes, for tests of a decoder alone.
//!
//! ```
//! use testkit::scripted::{DONE, Good, ScriptedServer};
//! use nbd_client::{Client, Error, Options};
//! use nbd_client::session::{RequestFault, StatusRequest};
//!
//! // A disk of 1 MiB. Its server answers a status request with two chunks about the one context.
//! let server = ScriptedServer::start(|conn| {
//!     conn.handshake(&Good::compact().size(1 << 20))?;
//!     conn.serve(|conn, request| {
//!         conn.status(request, 0, &[(4096, 0)], 0)?;
//!         conn.status(request, 0, &[(4096, 3)], DONE)
//!     })
//! })?;
//!
//! let options = Options::new().require_context("base:allocation");
//! let mut client = Client::connect(&server.uri().parse()?, &options)?;
//! let error = client.block_status(&StatusRequest::new(0, 4096), &mut |_: u32, _: &[u8]| {}).unwrap_err();
//! let Error::Request(error) = error else { panic!("{error}") };
//! assert_eq!(error.fault, RequestFault::DuplicateContext(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The server ends, threads and all, when its handle is dropped: every call of a [`Conn`] fails
//! from then on. A script of plain loops that never calls its `Conn` would not notice. Scripts end
//! with an [`io::Error`](std::io::Error) when the client goes away, which is how most of them
//! should end; `?` does it.
//!
//! This is for tests: a script's time is not bounded, and what the client sends is read without
//! deadlines.

pub mod bytes;
mod conn;
mod good;
mod seen;
mod server;
mod transmission;
mod wire;

pub use conn::{Conn, Reaction};
pub use good::Good;
pub use seen::{SeenOption, SeenRequest};
pub use server::ScriptedServer;

/// The flag of the last chunk of a reply.
pub const DONE: u16 = nbd_client::frame::reply_flag::DONE;
