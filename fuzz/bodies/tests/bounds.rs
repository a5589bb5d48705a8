//! Memory of the hostile cases: each input of the corpus, and thousands made from them, run while an
//! allocator counts. The corpus has each row of SERVER-BEHAVIOUR.md (`row-`), but for row 87, which has
//! a case of its own here: it needs 8193 chunks. An input of a few hundred bytes can claim gigabytes;
//! the memory held must follow its length and not its claims.

use nbd_client::frame::Headers;
use nbd_client::session::{Event, ReadRequest, RequestFault, Session, SessionConfig, take_all};
use nbd_extents_fuzz_bodies as bodies;
use nbd_extents_fuzz_bodies::replay::replay;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The most bytes that `work` holds at a time beyond those held before it.
fn held(work: impl FnOnce()) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    work();
    MEMORY.peak_usage().saturating_sub(before)
}

/// Fails if `body` holds more than `limit` bytes at a time. It includes what the assertions of the
/// body hold themselves: a second reader, dense models.
fn within(limit: usize, body: fn(&[u8]), data: &[u8]) {
    let held = held(|| body(data));
    assert!(held <= limit, "{held} bytes for an input of {}", data.len());
}

/// A read of 1 MiB, answered a byte at a time, every second byte. The memory of the pieces
/// stops at 8192 of them, 16 bytes each in a table that doubles.
fn row_87_more_separate_pieces_than_are_remembered() {
    let mut session = Session::new(SessionConfig::new(Headers::Structured, []));
    let held = held(|| {
        session.start_read(&ReadRequest::new(0), vec![0; 1 << 20]).unwrap();
        session.take_output();
        for nth in 0..=8192_u64 {
            let last = u16::from(nth == 8192);
            session.feed(&one_byte(nth * 2, last), &mut take_all).unwrap();
        }
        let Some(Event::Failed { error, .. }) = session.poll() else { panic!("the read has not failed") };
        assert!(matches!(error.fault, RequestFault::Scattered), "{error}");
    });
    eprintln!("row 87: {held} bytes");
    assert!(held <= (1 << 20) + (512 << 10), "{held} bytes");
}

/// A chunk with one byte of data, of the request with cookie 1.
fn one_byte(offset: u64, flags: u16) -> Vec<u8> {
    let header = [&0x668e_33ef_u32.to_be_bytes()[..], &flags.to_be_bytes(), &1_u16.to_be_bytes()].concat();
    [&header[..], &1_u64.to_be_bytes(), &9_u32.to_be_bytes(), &offset.to_be_bytes(), &[1]].concat()
}

/// The limits leave room for the model of each body, and are far below the gigabytes that inputs claim.
/// All bodies are one test, since the allocator counts the whole process.
#[test]
fn what_a_peer_claims_is_not_allocated() {
    replay("handshake", |data| within(256 << 10, bodies::handshake::handshake, data));
    replay("session", |data| within(256 << 10, bodies::session::session, data));
    row_87_more_separate_pieces_than_are_remembered();
    replay("wire", |data| within(256 << 10, bodies::wire::wire, data));
    replay("survey", |data| within(1 << 20, bodies::survey::survey, data));
    replay("kernel", |data| within(1 << 20, bodies::kernel::kernel, data));
    replay("streams", |data| within(1 << 20, bodies::streams::streams, data));
    replay("tls", |data| within(1 << 20, bodies::tls::tls, data));
    replay("sparse_stream", |data| within(1 << 20, bodies::sparse_stream::sparse_stream, data));
    replay("formats", |data| within(1 << 20, bodies::formats::formats, data));
    replay("chains", |data| within(256 << 10, bodies::chains::chains, data));
    replay("plans", |data| within(256 << 10, bodies::plans::plans, data));
    replay("uri", |data| within(256 << 10, bodies::uri::uri, data));
    replay("server_text", |data| within(256 << 10, bodies::server_text::server_text, data));
}
