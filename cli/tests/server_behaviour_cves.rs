//! Faults that other clients had, by their numbers. None of them may come back here.
#![cfg(target_os = "linux")]

mod hostile;

use std::time::Duration;

use hostile::run::{map, run};
use hostile::{Accept, Case, M, change};
use nbd_client::frame::Headers;
use nbd_client::session::{ProtocolError, Session, SessionConfig, StartError, StatusRequest, take_all};
use nbd_client::{Client, Error, Options};
use testkit::scripted::{DONE, Good, ScriptedServer, bytes};

/// CVE-2023-5215 (libnbd): a size of 2^63 and more came out negative, and callers took it for an
/// error or for nothing.
#[test]
fn cve_2023_5215_a_size_beyond_2_to_the_63_is_never_negative() {
    for size in [1 << 63, u64::MAX] {
        let server = ScriptedServer::start(move |conn| conn.handshake(&Good::extended().size(size))).unwrap();
        let uri = server.uri();
        for (command, more) in [("map", &["--json"][..]), ("info", &[]), ("info", &["--json"]), ("map", &[])]
        {
            let run = run(command, &[&[uri.as_str()], more].concat(), Duration::from_secs(30));
            run.fails(5, &format!("an export of {size} bytes"));
            assert_eq!(run.stdout, "", "{run}");
        }
    }
}

/// CVE-2023-5871 (libnbd): 64-bit flags in a reply ran into an assertion. In a bitmap, only the
/// lowest bit counts.
#[test]
fn cve_2023_5871_64_bit_flags_do_not_end_the_program() {
    let good = Good::extended().context(2, "qemu:dirty-bitmap:b0");
    Case::replies(good, |conn, request| {
        conn.status(request, 0, &[(4 * M, 0)], 0)?;
        conn.status(request, 2, &[(M, u64::MAX), (3 * M, u64::MAX << 32)], DONE)
    })
    .bitmap("b0")
    .prints([change(0, M, true, false), change(M, 3 * M, false, false)])
    .is(Accept, Accept);
}

/// Flags of 64 bits in a context that is a number: no depth of 2^32 and more becomes 0.
#[test]
fn cve_2023_5871_64_bit_depths_are_not_cut() {
    for (depth, hole) in [(0, true), (1, false), (1 << 32, false), (u64::MAX << 32, false)] {
        let good = Good::extended().context(1, "qemu:allocation-depth");
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&good)?;
            conn.serve(|conn, request| {
                conn.status(request, 0, &[(4 * M, 3)], 0)?;
                conn.status(request, 1, &[(4 * M, depth)], DONE)
            })
        });
        let uri = server.as_ref().unwrap().uri();
        let run = map(&[&uri, "--json"], Duration::from_secs(30));
        let map = format!("[{{\"start\": 0, \"length\": 4194304, \"zero\": true, \"hole\": {hole}}}]\n");
        assert_eq!(run.stdout, map, "{run}");
    }
}

/// libnbd's denial of service of 2023-07: a status chunk on a connection that negotiated no
/// context.
#[test]
fn status_chunk_without_any_context_negotiated() {
    for headers in [Headers::Structured, Headers::Extended] {
        for cookie in [0, 1] {
            let payload = bytes::status(headers, 0, &[(4096, 0)]);
            let chunk = match headers {
                Headers::Extended => bytes::extended_chunk(DONE, 6, cookie, 0, &payload),
                _ => bytes::structured_chunk(DONE, 5, cookie, &payload),
            };
            let mut session = Session::new(SessionConfig::new(headers, []));
            assert_eq!(session.start_block_status(&StatusRequest::new(0, 512)), Err(StartError::NoContexts));
            let fed = session.feed(&chunk, &mut take_all);
            assert_eq!(fed, Err(ProtocolError::UnknownCookie(cookie)));
            assert_eq!(session.poll(), None);
        }
    }
}

/// A status chunk without any context, to the client, which refuses it where it has come before the
/// call, and through the program, which has no map without a context.
#[test]
fn status_chunk_without_any_context_negotiated_over_a_socket() {
    let server = ScriptedServer::start(|conn| {
        let mut good = Good::compact();
        good.contexts.clear();
        conn.handshake(&good)?;
        conn.send(&bytes::structured_chunk(
            DONE,
            5,
            1,
            &bytes::status(Headers::Structured, 0, &[(4096, 0)]),
        ))?;
        conn.stall()
    });
    let uri = server.as_ref().unwrap().uri();
    let mut client = Client::connect(&uri.parse().unwrap(), &Options::new()).unwrap();
    let asked = client.block_status(&StatusRequest::new(0, 512), &mut |_: u32, _: &[u8]| {});
    match asked {
        Err(Error::Start(StartError::NoContexts)) => {
            assert!(client.next_event(&mut take_all).unwrap().is_none());
        }
        // the chunk came with the end of the handshake
        asked => {
            assert!(matches!(asked, Err(Error::Protocol(ProtocolError::UnknownCookie(1)))), "{asked:?}");
        }
    }
    map(&[&uri, "--json"], Duration::from_secs(30)).fails(3, "no meta context \"base:allocation\"");
    let info = run("info", &[&uri, "--json"], Duration::from_secs(30));
    assert_eq!(info.code, Some(0), "{info}");
}
