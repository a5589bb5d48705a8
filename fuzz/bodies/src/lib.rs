//! The bodies of the fuzz targets: functions of bytes that panic when an assertion fails.
//! `cargo test` runs them over the committed corpus (`tests/corpus.rs`), libfuzzer without end.

#![forbid(unsafe_code)]

mod bytes;
pub mod chains;
pub mod formats;
pub mod handshake;
pub mod kernel;
mod pieces;
pub mod plans;
pub mod replay;
pub mod server_text;
pub mod session;
pub mod sparse_stream;
pub mod streams;
pub mod survey;
pub mod tls;
pub mod uri;
pub mod wire;
