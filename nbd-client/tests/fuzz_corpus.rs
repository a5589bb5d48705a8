//! The bodies of the fuzz targets about the client, over the committed corpus (`fuzz/corpus`) and inputs made from it. A failure names the
//! input; `cargo fuzz run -s none NAME` finds more. Not part of the published package, which has no `fuzz` folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::std_instead_of_core, clippy::std_instead_of_alloc, reason = "tests have std")]
#![allow(clippy::cast_possible_truncation, reason = "the models are small")]
#![allow(unreachable_pub, reason = "the bodies are a library in fuzz/")]
#![allow(dead_code, reason = "each crate uses its part of what the bodies share")]

#[path = "../../fuzz/bodies/bytes.rs"]
mod bytes;
#[path = "../../fuzz/bodies/handshake.rs"]
mod handshake;
#[path = "../../fuzz/bodies/pieces.rs"]
mod pieces;
#[path = "../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../fuzz/bodies/server_text.rs"]
mod server_text;
#[path = "../../fuzz/bodies/session.rs"]
mod session;
#[path = "../../fuzz/bodies/uri.rs"]
mod uri;

use replay::replay;

#[test]
fn handshake() {
    replay("handshake", handshake::handshake);
}

#[test]
fn session() {
    replay("session", session::session);
}

#[test]
fn uri() {
    replay("uri", uri::uri);
}

#[test]
fn server_text() {
    replay("server_text", server_text::server_text);
}
