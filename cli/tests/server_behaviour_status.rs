//! SERVER-BEHAVIOUR.md, rows 1 to 23: the status chunks. Each test is one of its
//! rows, which also says what must come of it; each runs the program and the library against a
//! server that does it, lenient and strict.
#![cfg(target_os = "linux")]

mod hostile;

use std::time::Duration;

use hostile::run::map;
use hostile::{Case, M, RequestError, change, content};
use nbd_client::frame::Headers;
use testkit::scripted::{DONE, Good, ScriptedServer, bytes};

/// A disk with the bitmap `b0` besides.
fn with_bitmap() -> Good {
    Good::compact().context(2, "qemu:dirty-bitmap:b0")
}

#[test]
fn row_01_zero_length_first() {
    for good in [Good::compact(), Good::extended()] {
        Case::replies(good, |conn, request| conn.status(request, 0, &[(0, 0), (4 * M, 3)], DONE))
            .says("length 0")
            .check("1");
    }
}

#[test]
fn row_02_zero_length_in_the_middle() {
    Case::replies(Good::compact(), |conn, request| match request.offset {
        0 => conn.status(request, 0, &[(M, 3), (0, 0), (3 * M, 3)], DONE),
        _ => conn.honest(request, 0),
    })
    .prints([content(0, M, true), content(M, 3 * M, false)])
    .says("length 0")
    .check("2");
}

#[test]
fn row_03_payload_of_no_whole_descriptors() {
    for (good, kind, length) in [
        (Good::compact(), 5, 4 + 8 + 3),
        (Good::compact(), 5, 4 + 4),
        (Good::extended(), 6, 8 + 16 + 8),
        (Good::extended(), 6, 8 + 8),
    ] {
        Case::replies(good, move |conn, request| conn.chunk(request, DONE, kind, &vec![0; length]))
            .says("whole descriptors")
            .check("3");
    }
}

#[test]
fn row_04_no_descriptor_at_all() {
    for (good, kind, length) in
        [(Good::compact(), 5, 4), (Good::compact(), 5, 0), (Good::extended(), 6, 8), (Good::extended(), 6, 0)]
    {
        Case::replies(good, move |conn, request| conn.chunk(request, DONE, kind, &vec![0; length]))
            .check("4");
    }
}

#[test]
fn row_05_count_that_does_not_match() {
    for count in [0, 2, u32::MAX] {
        Case::replies(Good::extended(), move |conn, request| {
            let mut payload = bytes::status(Headers::Extended, 0, &[(4 * M, 0)]);
            payload[4..8].copy_from_slice(&count.to_be_bytes());
            conn.chunk(request, DONE, 6, &payload)
        })
        .check("5");
    }
}

#[test]
fn row_06_context_that_was_not_negotiated() {
    Case::replies(Good::compact(), |conn, request| {
        conn.status(request, 99, &[(4 * M, 3)], 0)?;
        conn.honest(request, 0)
    })
    .check("6");
}

/// A dropped context is not taken for the context that is missing.
#[test]
fn row_06_context_that_was_not_negotiated_and_nothing_else() {
    Case::replies(Good::compact(), |conn, request| conn.status(request, 99, &[(4 * M, 3)], DONE))
        .is(RequestError, RequestError);
}

#[test]
fn row_07_duplicate_chunk_for_one_context() {
    Case::replies(Good::compact(), |conn, request| {
        conn.status(request, 0, &[(4 * M, 0)], 0)?;
        conn.status(request, 0, &[(4 * M, 3)], DONE)
    })
    .says("more than one status chunk")
    .check("7");
}

#[test]
fn row_08_missing_chunk_of_a_context() {
    for answered in [0, 2] {
        let reply = move |conn: &mut testkit::scripted::Conn, request: &_| {
            conn.status(request, answered, &[(4 * M, 0)], DONE)
        };
        Case::replies(with_bitmap(), reply).bitmap("b0").says("no status for").check("8");
    }
}

#[test]
fn row_09_none_only() {
    Case::replies(Good::compact(), |conn, request| conn.chunk(request, DONE, 0, &[]))
        .says("no status for")
        .check("9");
}

#[test]
fn row_10_more_descriptors_than_the_limit() {
    for good in [Good::compact(), Good::extended()] {
        let payload = bytes::status(good.headers, 0, &vec![(512, 0); (1 << 20) + 1]);
        let kind = bytes::status_kind(good.headers);
        Case::replies(good.size(1 << 30), move |conn, request| conn.chunk(request, DONE, kind, &payload))
            .says("1048576 descriptors")
            .check("10");
    }
}

/// The protocol's own recommendation, which nbdkit uses to the full: even strict bears it, and
/// within the memory.
#[test]
fn row_10_as_many_descriptors_as_the_limit() {
    let list: Vec<_> = (0..1 << 20).map(|nth| (512, 4 * (nth % 2))).collect();
    let payload = bytes::status(Headers::Extended, 0, &list);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(1 << 29))?;
        conn.serve(|conn, request| conn.chunk(request, DONE, 6, &payload))
    });
    let run = map(&[&server.unwrap().uri(), "--json", "--strict"], Duration::from_secs(60));
    run.prints(&[content(0, 1 << 29, false)]);
}

#[test]
fn row_11_sum_beyond_64_bits() {
    Case::replies(Good::extended(), |conn, request| conn.status(request, 0, &[(M, 0), (u64::MAX, 3)], DONE))
        .says("overflow")
        .check("11");
}

#[test]
fn row_12_extent_past_the_end_of_the_export() {
    for (good, length) in [
        (Good::compact(), 4 * M + 1),
        (Good::compact(), u64::from(u32::MAX)),
        (Good::extended(), 1 << 63),
        (Good::extended(), u64::MAX),
    ] {
        Case::replies(good, move |conn, request| conn.status(request, 0, &[(length, 3)], DONE))
            .prints([content(0, 4 * M, true)])
            .says("of an export of 4194304 bytes")
            .check("12");
    }
}

/// It is used, and what it says is not asked for again.
#[test]
fn row_13_final_extent_past_the_request() {
    Case::replies(Good::compact(), |conn, request| conn.status(request, 0, &[(3 * M, 3)], DONE))
        .length(M)
        .prints([content(0, M, true)])
        .check("13");
    let size = 3 << 30;
    Case::replies(Good::compact().size(size), move |conn, request| match request.offset {
        0 => conn.status(request, 0, &[(size, 3)], DONE),
        _ => conn.error(request, 22, "asked again", DONE),
    })
    .prints([content(0, size, true)])
    .check("13");
}

#[test]
fn row_14_one_extra_extent_beyond_the_request() {
    Case::replies(Good::compact(), |conn, request| conn.status(request, 0, &[(M, 0), (M, 3)], DONE))
        .length(M)
        .prints([content(0, M, false)])
        .check("14");
}

#[test]
fn row_15_list_that_goes_on_beyond_the_request() {
    for list in [vec![(M, 0), (M, 3), (M, 0)], vec![(2 * M, 0), (M, 3)]] {
        Case::replies(Good::compact(), move |conn, request| conn.status(request, 0, &list, DONE))
            .length(M)
            .prints([content(0, M, false)])
            .says("the request ends at byte 1048576")
            .check("15");
    }
}

#[test]
fn row_16_short_reply() {
    Case::replies(Good::compact(), |conn, request| {
        let zero = if request.offset / M == 1 { 2 } else { 0 };
        conn.status(request, 0, &[(M - request.offset % M, zero)], DONE)
    })
    .prints([content(0, M, false), content(M, M, true), content(2 * M, 2 * M, false)])
    .check("16");
}

/// The loss of data of protocol.md, C1: the bitmap says more than the allocation, and the dirty
/// block lies beyond the end of the latter.
#[test]
fn row_17_contexts_of_different_totals() {
    Case::replies(with_bitmap(), |conn, request| {
        let clean = (3 * M).saturating_sub(request.offset).min(request.length);
        let bitmap = [(clean, 0), (request.length - clean, 1)];
        conn.status(request, 0, &[(M.min(request.length), 0)], 0)?;
        let described: Vec<_> = bitmap.into_iter().filter(|(length, _)| *length > 0).collect();
        conn.status(request, 2, &described, DONE)
    })
    .bitmap("b0")
    .prints([change(0, 3 * M, false, false), change(3 * M, M, true, false)])
    .check("17");
}

#[test]
fn row_18_no_progress() {
    for sizes in [[1, 4096, 1 << 25], [512, 4096, 1 << 25]] {
        Case::replies(Good::compact().block_sizes(sizes), |conn, request| {
            conn.status(request, 0, &[(1, 0)], DONE)
        })
        .says("no real progress")
        .check("18");
    }
}

#[test]
fn row_19_unknown_flags_of_base_allocation() {
    Case::replies(Good::compact(), |conn, request| {
        conn.status(request, 0, &[(M, 0xffff_fffc), (3 * M, 0xffff_fffe)], DONE)
    })
    .prints([content(0, M, false), content(M, 3 * M, true)])
    .check("19");
}

#[test]
fn row_20_unknown_flags_of_a_dirty_bitmap() {
    Case::replies(with_bitmap(), |conn, request| {
        conn.status(request, 0, &[(4 * M, 0)], 0)?;
        conn.status(request, 2, &[(M, 0xffff_fffe), (3 * M, 0xffff_ffff)], DONE)
    })
    .bitmap("b0")
    .prints([change(0, M, false, false), change(M, 3 * M, true, false)])
    .check("20");
}

/// Flags that cannot be are not trusted in their lower half either: what they are about is data.
#[test]
fn row_21_upper_half_of_64_bit_flags() {
    Case::replies(Good::extended(), |conn, request| {
        conn.status(request, 0, &[(M, 1 << 32), (M, u64::MAX - 1), (2 * M, 2)], DONE)
    })
    .prints([content(0, 2 * M, false), content(2 * M, 2 * M, true)])
    .says("upper 32 bits")
    .check("21");
}

#[test]
fn row_22_hole_without_zero_must_be_read() {
    Case::replies(Good::compact(), |conn, request| conn.honest(request, 1)).check("22");
}

/// A status for less than a block is taken; the rest of the block is data, and in a bitmap
/// dirty.
#[test]
fn row_23_length_that_cuts_a_block() {
    let sizes = [4096, 4096, 1 << 25];
    Case::replies(Good::compact().block_sizes(sizes), |conn, request| match request.offset {
        0 => conn.status(request, 0, &[(1000, 3)], DONE),
        _ => conn.honest(request, 3),
    })
    .prints([content(0, 1000, true), content(1000, 3096, false), content(4096, 4 * M - 4096, true)])
    .check("23");

    Case::replies(with_bitmap().block_sizes(sizes), |conn, request| match request.offset {
        0 => {
            conn.status(request, 0, &[(M, 0)], 0)?;
            conn.status(request, 2, &[(1000, 0)], DONE)
        }
        _ => conn.honest(request, 0),
    })
    .bitmap("b0")
    .prints([
        change(0, 1000, false, false),
        change(1000, 3096, true, false),
        change(4096, 4 * M - 4096, false, false),
    ])
    .check("23");
}
