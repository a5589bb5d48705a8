//! SERVER-BEHAVIOUR.md, rows 49 to 67, 69 and 70: the handshake. Each test is one of its rows.
#![cfg(target_os = "linux")]

mod hostile;

use std::io::Result;

use hostile::run::map;
use hostile::{Case, M, content};
use std::time::Duration;
use testkit::scripted::{Conn, DONE, Good, Reaction, bytes};

const GO: u32 = 7;
const STRUCTURED: u32 = 8;
const LIST: u32 = 9;
const SET: u32 = 10;
const EXTENDED: u32 = 11;
const ACK: u32 = 1;
const INFO: u32 = 3;
const META: u32 = 4;
const UNSUPPORTED: u32 = 0x8000_0001;
const TOO_BIG: u32 = 0x8000_0009;

/// A server that answers this one option with `answer`, and everything else as it should.
fn at(option: u32, good: Good, answer: impl Fn(&mut Conn) -> Result<()> + Send + Sync + 'static) -> Case {
    Case::options(good, move |conn, seen| {
        if seen.number != option {
            return Ok(Reaction::Honest);
        }
        answer(conn)?;
        Ok(Reaction::Answered)
    })
}

/// A server that refuses these options with this error.
fn refusing(options: &'static [u32], kind: u32, good: Good) -> Case {
    Case::options(good, move |conn, seen| {
        if !options.contains(&seen.number) {
            return Ok(Reaction::Honest);
        }
        conn.refuse(seen.number, kind, "\x1b]0;no\x07")?;
        Ok(Reaction::Answered)
    })
}

#[test]
fn row_49_contexts_after_the_ack() {
    at(SET, Good::compact(), |conn| {
        conn.ack(SET)?;
        conn.grant(SET, 0, b"base:allocation")
    })
    .says("got one to SET_META_CONTEXT")
    .check("49");
}

#[test]
fn row_50_duplicate_name_or_id() {
    for (id, name) in [(1, &b"base:allocation"[..]), (0, b"qemu:allocation-depth")] {
        at(SET, Good::compact(), move |conn| {
            conn.grant(SET, 0, b"base:allocation")?;
            conn.grant(SET, id, name)?;
            conn.ack(SET)
        })
        .check("50");
    }
}

#[test]
fn row_51_context_that_was_not_asked_for() {
    Case::both(
        Good::compact(),
        |conn, option| {
            if option.number != SET {
                return Ok(Reaction::Honest);
            }
            conn.grant(SET, 5, b"x:\x1b[2Jy")?;
            conn.grant(SET, 0, b"base:allocation")?;
            conn.agree_on_contexts(vec![5, 0]);
            conn.ack(SET)?;
            Ok(Reaction::Answered)
        },
        |conn, request| conn.honest(request, 0),
    )
    .says("not asked for")
    .check("51");
}

#[test]
fn row_52_name_of_more_than_4096_bytes() {
    // In the answer to LIST as well, which comes when a context was not granted.
    Case::options(Good::compact(), |conn, option| {
        match option.number {
            SET => {}
            LIST => conn.grant(LIST, 0, &[b'x'; 4097])?,
            _ => return Ok(Reaction::Honest),
        }
        conn.ack(option.number)?;
        Ok(Reaction::Answered)
    })
    .says("wrong length of 4101 bytes")
    .check("52");
    at(SET, Good::compact(), move |conn| {
        conn.grant(SET, 0, &[b'x'; 4097])?;
        conn.ack(SET)
    })
    .says("wrong length of 4101 bytes")
    .check("52");
}

#[test]
fn row_53_name_that_is_not_utf8() {
    for name in [&b"base:\xff\xfe"[..], b"base:\0allocation"] {
        at(SET, Good::compact(), move |conn| {
            conn.grant(SET, 0, name)?;
            conn.ack(SET)
        })
        .says("no text")
        .check("53");
    }
}

#[test]
fn row_54_context_without_a_name() {
    for length in [0, 3, 4] {
        at(SET, Good::compact(), move |conn| {
            conn.send(&bytes::option_reply(SET, META, &vec![0; length]))?;
            conn.ack(SET)
        })
        .says("wrong length")
        .check("54");
    }
}

#[test]
fn row_55_contexts_then_an_error() {
    at(SET, Good::compact(), |conn| {
        conn.grant(SET, 0, b"base:allocation")?;
        conn.refuse(SET, TOO_BIG, "")
    })
    .says("SET_META_CONTEXT")
    .check("55");
}

#[test]
fn row_56a_option_refused_that_can_be_done_without() {
    for options in [&[EXTENDED][..], &[LIST], &[GO]] {
        refusing(options, UNSUPPORTED, Good::compact()).check("56a");
    }
    refusing(&[EXTENDED, LIST, GO], UNSUPPORTED, Good::extended()).check("56a");
}

#[test]
fn row_56b_option_refused_without_which_there_is_no_context() {
    refusing(&[STRUCTURED], UNSUPPORTED, Good::compact()).exits(3).says("base:allocation").check("56b");
    refusing(&[SET], UNSUPPORTED, Good::compact()).exits(3).says("base:allocation").check("56b");
    refusing(&[SET, LIST], UNSUPPORTED, Good::extended()).exits(3).says("base:allocation").check("56b");
}

#[test]
fn row_57_unknown_error() {
    refusing(&[SET], 0x8000_1234, Good::compact()).says("error 0x80001234").check("57");
    refusing(&[EXTENDED, LIST], 0xffff_ffff, Good::compact()).check("56a");
}

#[test]
fn row_58_ack_with_a_payload() {
    for option in [EXTENDED, SET, GO] {
        at(option, Good::extended(), move |conn| conn.send(&bytes::option_reply(option, ACK, b"more")))
            .says("wrong length of 4 bytes")
            .check("58");
    }
}

#[test]
fn row_59_reply_that_claims_4_gib() {
    for (option, kind) in [(EXTENDED, UNSUPPORTED), (SET, META), (SET, TOO_BIG), (GO, INFO), (GO, ACK)] {
        at(option, Good::extended(), move |conn| {
            conn.send(&bytes::option_reply_header(option, kind, u32::MAX))?;
            conn.send_for_ever(&[b'x'; 1 << 16])
        })
        .says("claims 4294967295 bytes, the limit is 65536")
        .check("59");
    }
}

#[test]
fn row_60_endless_replies() {
    let number = std::sync::atomic::AtomicU32::new(0);
    at(SET, Good::compact(), move |conn| {
        loop {
            let id = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            conn.grant(SET, id, format!("x:{id:01000}").as_bytes())?;
        }
    })
    .check("60");
    // Unknown information is no fault; only that it does not end.
    for payload in [&b"\x12\x34"[..], &[0x12; 60_000]] {
        let reply = bytes::option_reply(GO, INFO, payload);
        at(GO, Good::compact(), move |conn| conn.send_for_ever(&reply)).says("more than").check("60");
    }
}

#[test]
fn row_61_go_without_the_export() {
    Case::options(Good::compact(), |conn, option| {
        if option.number != GO {
            return Ok(Reaction::Honest);
        }
        conn.send(&bytes::option_reply(GO, INFO, &bytes::block_size_info([1, 4096, 1 << 25])))?;
        conn.ack(GO)?;
        Ok(Reaction::Begin)
    })
    .says("without the size")
    .check("61");
}

#[test]
fn row_62_block_sizes_that_cannot_be() {
    let most = 1 << 25;
    for sizes in
        [[0, 4096, most], [3, 4096, most], [1 << 17, 1 << 17, most], [4096, 512, most], [512, 4096, 0]]
    {
        Case::options(Good::compact().block_sizes(sizes), |_, _| Ok(Reaction::Honest))
            .says("block sizes that cannot be")
            .check("62");
    }
}

#[test]
fn row_63_size_0() {
    for good in [Good::compact(), Good::extended()] {
        Case::replies(good.size(0), |conn, request| conn.error(request, 22, "asked about nothing", DONE))
            .prints([])
            .check("63");
    }
}

#[test]
fn row_64_size_up_to_the_greatest() {
    for size in [(1 << 63) - 512, (1 << 63) - 1] {
        Case::replies(Good::extended().size(size), move |conn, request| {
            conn.status(request, 0, &[(size - request.offset, 2)], DONE)
        })
        .prints([content(0, size, true)])
        .check("64");
    }
}

/// Without extended headers it would take 2^32 requests, so only the deadline ends it. Its last
/// bytes can be had all the same.
#[test]
fn row_64_size_up_to_the_greatest_in_small_steps() {
    let size = (1_u64 << 63) - 512;
    let server = testkit::scripted::ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(size))?;
        conn.serve(|conn, request| conn.honest(request, 3))
    });
    let uri = server.as_ref().unwrap().uri();
    map(&[&uri, "--json"], Duration::from_secs(1)).fails(4, " out");
    let start = size - 4096;
    let run = map(&[&uri, "--json", "--offset", &start.to_string()], Duration::from_secs(30));
    run.prints(&[content(start, 4096, true)]);
}

#[test]
fn row_65_size_beyond_any_file() {
    for size in [1 << 63, (1 << 63) + 512, u64::MAX - 511, u64::MAX] {
        Case::options(Good::extended().size(size), |_, _| Ok(Reaction::Honest))
            .says("the most is 9223372036854775807")
            .check("65");
        refusing(&[GO], UNSUPPORTED, Good::compact().size(size)).says("the most is").check("65");
    }
}

#[test]
fn row_66_size_that_is_no_multiple_of_a_block() {
    for size in [1, 511, 513, 1000, 4 * M + 1] {
        // Only whole blocks may be asked for, so nobody knows what the rest reads as: it is taken
        // for data.
        let (whole, rest) = (size / 512 * 512, size % 512);
        let map = [content(0, whole, true), content(whole, rest, false)];
        let map: Vec<_> = map.into_iter().filter(|extent| extent["length"] != 0).collect();
        Case::replies(Good::compact().size(size).block_sizes([512, 4096, 1 << 25]), |conn, request| {
            assert!(request.offset % 512 == 0 && request.length % 512 == 0, "{request:?}");
            conn.honest(request, 3)
        })
        .prints(map)
        .check("66");
    }
}

#[test]
fn row_67_no_hello() {
    Case::script(Conn::stall).waits().says("during the server's hello").check("67");
}

#[test]
fn row_69_flags_without_has_flags() {
    Case::options(Good::compact().flags(2), |_, _| Ok(Reaction::Honest)).says("HAS_FLAGS").check("69");
    // The answer to EXPORT_NAME is judged alike.
    refusing(&[GO], UNSUPPORTED, Good::compact().flags(2)).says("HAS_FLAGS").check("69");
}

#[test]
fn row_70_name_or_description_that_is_no_text() {
    for (kind, text) in [(1, &b"\xff\xfe"[..]), (2, b"disk\0"), (2, &[b'x'; 4097])] {
        Case::options(Good::compact(), move |conn, seen| {
            if seen.number == GO {
                conn.send(&bytes::option_reply(GO, INFO, &[&[0, kind], text].concat()))?;
            }
            Ok(Reaction::Honest)
        })
        .says("no text")
        .check("70");
    }
}
