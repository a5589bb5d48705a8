//! The client for asynchronous programs, over tokio, with the feature `tokio`.
//!
//! It drives the same [`Connection`](crate::connection::Connection) as the blocking client, with
//! another way to wait:
//!
//! - [`Client`] is a handle that can be cloned and used by many tasks at once: read, write, zero,
//!   flush. A task of its own drives the connection.
//! - [`Pool`] is several connections used as one, each with a task. [`ReadAhead`] and
//!   [`WriteBehind`], the two loops of a copy tool, run on it.
//! - [`Surveyor`] surveys an export; [`SurveyStream`] hands out the merged extents.
//! - [`Driver`] is one connection without a task, for programs that bring a loop of their own.
//!
//! ```no_run
//! use nbd_client::Options;
//! use nbd_client::aio::Client;
//!
//! # let _ = async {
//! let source = Client::connect(&"nbd://localhost/source".parse().unwrap(), &Options::new()).await?;
//! let target = Client::connect(&"nbd://localhost/target".parse().unwrap(), &Options::new()).await?;
//! let block = source.read(0, 1 << 20).await?;
//! target.write(0, block).await?;
//! target.flush().await?;
//! # Ok::<(), nbd_client::Error>(())
//! # };
//! ```
//!
//! # Calls that are dropped
//!
//! A future can be dropped before it is ready, by a timeout or a `select!`. What that means is the
//! same for every call:
//!
//! - of [`Client`]: requests that are in flight are finished by the connection's task, and their
//!   answers are thrown away. Nothing more of the call is asked for, so a long write may be carried
//!   out in part; a call that waits for its place among those in flight is not sent at all. The
//!   connection stays usable, also when the dropped call was to disconnect while others were under
//!   way. With the last handle all is given up.
//! - of [`Driver`], [`SurveyStream`] and [`ReadAhead`]: nothing is lost, except the extents that
//!   [`SurveyStream::collect_vec`] has collected. The next call goes on where the dropped one was.
//! - of [`Pool`]: its requests stay in flight, and [`Pool::abandon`] waits for them. With the pool
//!   all is given up.
//! - of [`WriteBehind`]: its later calls fail, since bytes may be lost, also when the dropped call
//!   was never polled.
//!
//! # Time
//!
//! The limits are those of [`Options`](crate::Options): for the connection with its handshake, for
//! the progress of the requests in flight, and for the whole job. Connecting takes a thread outside
//! of the runtime, so that its limit also holds while the runtime's threads are busy.
//!
//! A [`Canceller`](crate::transport::Canceller) that has fired prevents a connection, and ends
//! none: here a job is cancelled by dropping it.

mod client;
mod connect;
mod driver;
mod pool;
mod survey;
mod task;

pub use client::Client;
pub use connect::BoxedStream;
pub use driver::{Awaited, Driver};
pub use pool::{Pool, ReadAhead, TaskWorker, WriteBehind, more_connections};
pub use survey::{SurveyStream, Surveyor, map};
