//! SERVER-BEHAVIOUR.md, rows 24 to 31, 45 to 48 and 68: the envelope of replies, and replies that
//! do not end. Each test is one of its rows.
#![cfg(target_os = "linux")]

mod hostile;

use hostile::{Case, Clip, Fatal, M, RequestError};
use nbd_client::session::{ProtocolError, StatusRequest};
use nbd_client::stats::Tolerated;
use nbd_client::survey::Order;
use nbd_client::{Client, Error, Options, Surveyor};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Context, Contexts};
use testkit::behaviour::words;
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest, bytes};

const ERROR: u16 = 0x8001;
const EINVAL: u32 = 22;

fn both() -> [Good; 2] {
    [Good::compact(), Good::extended()]
}

#[test]
fn row_24_huge_claimed_payload() {
    for (good, kind, length) in [
        (Good::compact(), 5, 0xffff_fffc),
        (Good::compact(), ERROR, 0xffff_ffff),
        (Good::extended(), 6, (1 << 40) + 8),
        (Good::extended(), 6, u64::MAX - 7),
    ] {
        Case::replies(good, move |conn, request| {
            conn.chunk_header(request, DONE, kind, length)?;
            conn.send_for_ever(&[0; 1 << 16])
        })
        .says("the limit is 33554496")
        .check("24");
    }
}

#[test]
fn row_25_claims_much_and_closes() {
    let claim = |length| {
        Case::replies(Good::compact(), move |conn: &mut Conn, request: &SeenRequest| {
            conn.cut_after(20 + 100);
            conn.chunk_header(request, DONE, 5, length)?;
            conn.send(&[0; 4096])
        })
    };
    claim(8 * M + 4).exits(4).says("100 of 8388612 bytes").check("25");
    claim(64 * M + 4).says("claims 67108868 bytes").check("25");
}

#[test]
fn row_26_wrong_cookie() {
    for good in both() {
        Case::replies(good, |conn, request| {
            let mut other = request.clone();
            other.cookie = 1 << 40;
            conn.status(&other, 0, &[(4 * M, 0)], DONE)
        })
        .says("not in flight")
        .check("26");
    }
}

#[test]
fn row_27_wrong_magic() {
    for magic in [0xdead_beef_u32, 0x1256_0953, 0x9674_4668, 0x2560_9513, 0] {
        Case::replies(Good::compact(), move |conn, _| {
            conn.send(&[&magic.to_be_bytes()[..], &[0; 64]].concat())
        })
        .says("bad reply magic")
        .check("27");
    }
}

#[test]
fn row_28_chunk_of_another_type() {
    for (good, kind) in [
        (Good::compact(), 1),
        (Good::compact(), 2),
        (Good::compact(), 6),
        (Good::compact(), 7),
        (Good::extended(), 1),
        (Good::extended(), 0x7fff),
    ] {
        Case::replies(good, move |conn, request| conn.chunk(request, DONE, kind, &[0; 24]))
            .says("unexpected chunk type")
            .check("28");
    }
}

#[test]
fn row_29a_32_bit_status_with_extended_headers() {
    Case::replies(Good::extended(), |conn, request| {
        conn.chunk(request, DONE, 5, &bytes::status(nbd_client::frame::Headers::Structured, 0, &[(4 * M, 0)]))
    })
    .says("32-bit status chunk")
    .check("29a");
}

#[test]
fn row_29b_headers_of_the_other_form_or_a_wrong_offset() {
    Case::replies(Good::extended(), |conn, request| {
        conn.send(&bytes::structured_chunk(DONE, 5, request.cookie, &[0; 12]))
    })
    .says("negotiated headers")
    .check("29b");
    Case::replies(Good::compact(), |conn, request| {
        conn.send(&bytes::extended_chunk(DONE, 6, request.cookie, 0, &[0; 24]))
    })
    .says("negotiated headers")
    .check("29b");
    Case::replies(Good::extended(), |conn, request| {
        let mut other = request.clone();
        other.offset = 512;
        conn.status(&other, 0, &[(4 * M, 0)], DONE)
    })
    .says("repeats offset 512")
    .check("29b");
}

#[test]
fn row_30_none_not_last_or_not_empty() {
    for (flags, length) in [(0, 0), (DONE, 4)] {
        Case::replies(Good::compact(), move |conn, request| conn.chunk(request, flags, 0, &vec![0; length]))
            .says("NONE chunk")
            .check("30");
    }
}

#[test]
fn row_31_unknown_reply_flags() {
    for good in both() {
        Case::replies(good, |conn, request| {
            conn.status(request, 0, &[(4 * M, 0)], 0xfffe)?;
            conn.chunk(request, 0xffff, 0, &[])
        })
        .check("31");
    }
}

#[test]
fn row_45_closes_before_the_end() {
    for (count, says) in [(0, "0 of 16"), (3, "3 of 16"), (10, "10 of 20"), (18, "18 of 20"), (27, "7 of 12")]
    {
        Case::replies(Good::compact(), move |conn, request| {
            conn.cut_after(count);
            conn.honest(request, 0)
        })
        .exits(4)
        .says(says)
        .check("45");
    }
}

#[test]
fn row_46_reply_without_an_end() {
    let chunks: [fn(&SeenRequest) -> Vec<u8>; 3] = [
        |request| bytes::structured_chunk(0, 5, request.cookie, &[0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0]),
        |request| bytes::structured_chunk(0, 5, request.cookie, &[0, 0, 0, 9, 0, 0x40, 0, 0, 0, 0, 0, 0]),
        |request| bytes::structured_chunk(0, ERROR, request.cookie, &bytes::error(5, b"again")),
    ];
    for chunk in chunks {
        Case::replies(Good::compact(), move |conn, request| conn.send_for_ever(&chunk(request)))
            .says("does not end")
            .check("46");
    }
}

#[test]
fn row_47_stalls_in_a_reply() {
    for count in [0, 10, 25] {
        Case::replies(Good::compact(), move |conn, request| {
            let chunk = bytes::structured_chunk(DONE, 5, request.cookie, &[0; 12]);
            conn.send(&chunk[..count])?;
            conn.stall()
        })
        .waits()
        .says(" out")
        .check("47");
    }
}

/// The program never asks for one extent alone, so this is about the library.
#[test]
fn row_48_more_than_the_one_extent_asked_for() {
    assert_eq!(words("48"), (Clip, RequestError));
    for list in [vec![(M, 3), (M, 0)], vec![(5 * M, 3)]] {
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::compact().size(8 * M))?;
            conn.serve(|conn, request| match (request.flags & 8, request.offset) {
                (0, _) => conn.error(request, EINVAL, "one was not asked for", DONE),
                (_, 0) => conn.status(request, 0, &list, DONE),
                _ => conn.honest(request, 0),
            })
        });
        let uri = server.as_ref().unwrap().uri().parse().unwrap();
        for strict in [false, true] {
            let wanted = Contexts::new().require(Context::Allocation).unwrap();
            let options = Options::new().strict(strict);
            let mut surveyor = Surveyor::connect(&uri, &options, &wanted, Order::Together).unwrap();
            let options = surveyor.survey_options().unwrap().range(0..4 * M).unwrap().one_extent();
            let mut extents = surveyor.survey(options).unwrap();
            let first = extents.next_extent();
            assert_eq!(first.is_err(), strict);
            assert_eq!(extents.stats().forgiven.not_one, u64::from(!strict));
        }
    }
}

/// As qemu does when one context fails and another does not. The request failed either way; the row
/// is about the chunks after the error.
#[test]
fn row_68_chunks_of_a_failed_request_after_its_end() {
    let fails = |conn: &mut Conn, request: &SeenRequest| {
        conn.error(request, EINVAL, "no status", DONE)?;
        conn.status(request, 2, &[(4 * M, 0)], DONE)
    };
    let late = move |conn: &mut Conn, request: &SeenRequest| match request.cookie {
        1 => fails(conn, request),
        _ => conn.honest(request, 0),
    };
    let good = || Good::compact().context(2, "qemu:dirty-bitmap:b0");
    // a survey asks a failed range again, so the program meets a server that never answers it
    Case::replies(good(), fails).bitmap("b0").is(RequestError, Fatal);

    assert_eq!(words("68"), (Clip, Fatal));
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&good())?;
        conn.serve(late)
    });
    let uri = server.as_ref().unwrap().uri().parse().unwrap();
    for strict in [false, true] {
        let options = Options::new().strict(strict);
        let options = options.require_context("base:allocation").require_context("qemu:dirty-bitmap:b0");
        let mut client = Client::connect(&uri, &options).unwrap();
        let mut ask = || client.block_status(&StatusRequest::new(0, M), &mut |_: u32, _: &[u8]| {});
        let failed = ask().unwrap_err();
        assert!(failed.to_string().contains("EINVAL: no status"), "{failed}");
        assert!(matches!(failed, Error::Request(_)));
        match ask() {
            Ok(()) => assert!(!strict),
            Err(Error::Protocol(ProtocolError::ChunkAfterDone(1))) => assert!(strict),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(client.stats().forgiven.of(Tolerated::LateChunk), u64::from(!strict));
    }
}

/// The most that the limits let through, three times over: beyond the budget, so it is asked for in
/// smaller pieces.
#[test]
fn replies_of_the_greatest_size_stay_within_the_budget() {
    let good = Good::extended().size(1 << 29);
    let good = good.context(1, "qemu:dirty-bitmap:b0").context(2, "qemu:dirty-bitmap:b1");
    let list = bytes::status(nbd_client::frame::Headers::Extended, 0, &[(512, 0)])[8..].repeat(1 << 20);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&good)?;
        conn.serve(|conn, request| {
            let count = u32::try_from(request.length / 512).unwrap();
            (0..3_u32).try_for_each(|context| {
                let start = [context.to_be_bytes(), count.to_be_bytes()].concat();
                let list = &list[..16 * count as usize];
                conn.chunk_header(request, if context == 2 { DONE } else { 0 }, 6, (8 + list.len()) as u64)?;
                conn.send(&start)?;
                conn.send(list)
            })
        })
    });
    let uri = server.as_ref().unwrap().uri();
    let arguments = [&uri, "--json", "--bitmap", "b0", "--bitmap", "b1"];
    let run = hostile::run::map(&arguments, std::time::Duration::from_secs(60));
    run.prints(&[hostile::change(0, 1 << 29, false, false)]);
    assert!(run.peak > 24 << 20, "the replies were never held, so this shows nothing: {} bytes", run.peak);
}
