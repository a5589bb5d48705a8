//! Runs each fuzz target over its committed corpus (`fuzz/corpus`) and over inputs made from it.
//! A failure names the input; `cargo fuzz run -s none NAME` finds more.

use nbd_extents_fuzz_bodies as bodies;
use nbd_extents_fuzz_bodies::replay::replay;

#[test]
fn chains() {
    replay("chains", bodies::chains::chains);
}

#[test]
fn formats() {
    replay("formats", bodies::formats::formats);
}

#[test]
fn handshake() {
    replay("handshake", bodies::handshake::handshake);
}

#[test]
fn kernel() {
    replay("kernel", bodies::kernel::kernel);
}

#[test]
fn plans() {
    replay("plans", bodies::plans::plans);
}

#[test]
fn server_text() {
    replay("server_text", bodies::server_text::server_text);
}

#[test]
fn session() {
    replay("session", bodies::session::session);
}

#[test]
fn sparse_stream() {
    replay("sparse_stream", bodies::sparse_stream::sparse_stream);
}

#[test]
fn streams() {
    replay("streams", bodies::streams::streams);
}

#[test]
fn survey() {
    replay("survey", bodies::survey::survey);
}

#[test]
fn tls() {
    replay("tls", bodies::tls::tls);
}

#[test]
fn uri() {
    replay("uri", bodies::uri::uri);
}

#[test]
fn wire() {
    replay("wire", bodies::wire::wire);
}
