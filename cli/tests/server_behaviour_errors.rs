//! SERVER-BEHAVIOUR.md, rows 32 to 44: requests that fail. Each test is one of its rows.
#![cfg(target_os = "linux")]

mod hostile;

use hostile::{Case, M};
use nbd_client::session::StatusRequest;
use nbd_client::stats::Tolerated;
use nbd_client::{Client, Options};
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest, bytes};

const ERROR: u16 = 0x8001;
const ERROR_OFFSET: u16 = 0x8002;
const EINVAL: u32 = 22;

fn both() -> [Good; 2] {
    [Good::compact(), Good::extended()]
}

#[test]
fn row_32_error_and_done() {
    for good in both() {
        Case::replies(good, |conn, request| conn.error(request, 5, "the disk is on fire", DONE))
            .says("EIO: the disk is on fire")
            .check("32");
    }
}

#[test]
fn row_33_error_after_a_status_chunk() {
    Case::replies(Good::compact(), |conn, request| {
        conn.status(request, 0, &[(M, 0), (3 * M, 3)], 0)?;
        conn.error(request, EINVAL, "", DONE)
    })
    .says("EINVAL")
    .check("33");
}

#[test]
fn row_34_error_that_is_not_the_last_chunk() {
    Case::replies(Good::compact(), |conn, request| {
        conn.error(request, 5, "the first", 0)?;
        conn.status(request, 0, &[(4 * M, 0)], 0)?;
        conn.error(request, 12, "the second", 0)?;
        conn.chunk(request, DONE, 0, &[])
    })
    .says("EIO: the first")
    .check("34");
}

#[test]
fn row_35_message_longer_than_its_chunk() {
    for (kind, payload) in
        [(ERROR, &b"\0\0\0\x05\0\x09ab"[..]), (ERROR_OFFSET, b"\0\0\0\x05\0\x01a\0\0\0\0\0\0\x01")]
    {
        Case::replies(Good::compact(), move |conn, request| conn.chunk(request, DONE, kind, payload))
            .says("error message")
            .check("35");
    }
}

#[test]
fn row_36_slop_after_the_message() {
    let slop = |conn: &mut Conn, request: &SeenRequest| {
        conn.chunk(request, DONE, ERROR, &[&bytes::error(5, b"short")[..], &[0; 1000]].concat())
    };
    Case::replies(Good::compact(), slop).says("EIO: short").check("36");
    assert_eq!(forgiven_after_one_failure(slop, Tolerated::ErrorSlop), 1);
}

/// How often `kind` was forgiven when the first request has failed.
fn forgiven_after_one_failure(
    reply: impl Fn(&mut Conn, &SeenRequest) -> std::io::Result<()> + Send + Sync + 'static,
    kind: Tolerated,
) -> u64 {
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(&reply)
    });
    let options = Options::new().require_context("base:allocation");
    let mut client = Client::connect(&server.as_ref().unwrap().uri().parse().unwrap(), &options).unwrap();
    client.block_status(&StatusRequest::new(0, M), &mut |_: u32, _: &[u8]| {}).unwrap_err();
    client.stats().forgiven.of(kind)
}

#[test]
fn row_37_error_chunk_of_four_bytes() {
    for (kind, payload) in [(ERROR, &[0, 0, 0, 5][..]), (ERROR, &[]), (ERROR_OFFSET, &[0; 13])] {
        Case::replies(Good::compact(), move |conn, request| conn.chunk(request, DONE, kind, payload))
            .says("too few to say why")
            .check("37");
    }
}

#[test]
fn row_38_error_number_zero() {
    Case::replies(Good::compact(), |conn, request| conn.error(request, 0, "fine", DONE))
        .says("error number 0")
        .check("38");
}

#[test]
fn row_39_unknown_error_number() {
    Case::replies(Good::compact(), |conn, request| conn.error(request, 9999, "", DONE))
        .says("9999")
        .check("39");
}

/// Escape sequences, a second line, reversed reading order, bytes that are no text: none of it
/// reaches the terminal as it is.
#[test]
fn row_40_message_that_is_no_text() {
    for text in [
        &b"\xff\xfe not text \xc3"[..],
        b"\x1b[2J\x07\r\nextents: all is well\0",
        "a\u{202e}b\u{9b}31m".as_bytes(),
    ] {
        Case::replies(Good::compact(), move |conn, request| {
            conn.chunk(request, DONE, ERROR, &bytes::error(EINVAL, text))
        })
        .says("EINVAL: ")
        .check("40");
    }
    Case::replies(Good::compact(), |conn, request| {
        conn.chunk(request, DONE, ERROR, &bytes::error(EINVAL, &[b'x'; 65535]))
    })
    .check("40");
}

#[test]
fn row_41_error_offset_out_of_range() {
    for offset in [4 * M, u64::MAX] {
        Case::replies(Good::compact(), move |conn, request| {
            let payload = [&bytes::error(5, b"there")[..], &offset.to_be_bytes()].concat();
            conn.chunk(request, DONE, ERROR_OFFSET, &payload)
        })
        .says("EIO: there")
        .check("41");
    }
}

#[test]
fn row_42_unknown_error_type() {
    for good in both() {
        Case::replies(good, |conn, request| conn.chunk(request, DONE, 0x8099, &bytes::error(5, b"new")))
            .says("EIO: new")
            .check("42");
    }
}

#[test]
fn row_43_simple_reply_of_success() {
    Case::replies(Good::compact(), |conn, request| conn.simple(request, 0))
        .says("without any status")
        .check("43");
}

#[test]
fn row_44a_simple_reply_of_an_error() {
    Case::replies(Good::compact(), |conn, request| conn.simple(request, EINVAL)).says("EINVAL").check("44a");
}

#[test]
fn row_44b_simple_reply_with_extended_headers() {
    for errno in [0, EINVAL] {
        Case::replies(Good::extended(), move |conn, request| {
            conn.simple(request, errno)?;
            conn.stall()
        })
        .says("negotiated headers")
        .check("44b");
    }
}
