//! Memory of the hostile cases: each input of the corpus, and thousands made from them, run while an
//! allocator counts. The corpus has most rows of SERVER-BEHAVIOUR.md (`row-`). An input of a few hundred
//! bytes can claim gigabytes; the memory held must follow its length and not its claims.

use nbd_extents_fuzz_bodies as bodies;
use nbd_extents_fuzz_bodies::replay::replay;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Fails if `body` holds more than `limit` bytes at a time. It includes what the assertions of the
/// body hold themselves: a second reader, dense models.
fn within(limit: usize, body: fn(&[u8]), data: &[u8]) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    body(data);
    let held = MEMORY.peak_usage().saturating_sub(before);
    assert!(held <= limit, "{held} bytes for an input of {}", data.len());
}

/// The limits leave room for the model of each body, and are far below the gigabytes that inputs claim.
/// All bodies are one test, since the allocator counts the whole process.
#[test]
fn what_a_peer_claims_is_not_allocated() {
    replay("handshake", |data| within(256 << 10, bodies::handshake::handshake, data));
    replay("session", |data| within(256 << 10, bodies::session::session, data));
    replay("wire", |data| within(256 << 10, bodies::wire::wire, data));
    replay("survey", |data| within(1 << 20, bodies::survey::survey, data));
    replay("streams", |data| within(1 << 20, bodies::streams::streams, data));
    replay("tls", |data| within(1 << 20, bodies::tls::tls, data));
    replay("sparse_stream", |data| within(1 << 20, bodies::sparse_stream::sparse_stream, data));
    replay("formats", |data| within(1 << 20, bodies::formats::formats, data));
    replay("chains", |data| within(256 << 10, bodies::chains::chains, data));
    replay("plans", |data| within(256 << 10, bodies::plans::plans, data));
    replay("uri", |data| within(256 << 10, bodies::uri::uri, data));
    replay("server_text", |data| within(256 << 10, bodies::server_text::server_text, data));
}
