//! Replies of a real server, and faults of a session: the rows of SERVER-BEHAVIOUR.md.

use super::*;
use crate::export::TransmissionFlags;
use crate::frame::{During, Headers, command_flag};
use crate::stats::Tolerated;
use core::iter;
use nbd_extents::{Admission, Strictness};

const DONE: u16 = 1;
const ERROR: u16 = 0x8001;
const STATUS: Command = Command::BlockStatus;
/// One descriptor of 4096 bytes, as in a chunk of context `id`.
const ONE: [u8; 8] = [0, 0, 0x10, 0, 0, 0, 0, 3];

fn structured(flags: u16, kind: u16, cookie: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = 0x668e_33ef_u32.to_be_bytes().to_vec();
    out.extend(flags.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(cookie.to_be_bytes());
    out.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend(payload);
    out
}

fn extended(flags: u16, kind: u16, cookie: u64, offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = 0x6e8a_278c_u32.to_be_bytes().to_vec();
    out.extend(flags.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(cookie.to_be_bytes());
    out.extend(offset.to_be_bytes());
    out.extend((payload.len() as u64).to_be_bytes());
    out.extend(payload);
    out
}

fn simple(error: u32, cookie: u64) -> Vec<u8> {
    [&0x6744_6698_u32.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes()].concat()
}

/// A status chunk of one descriptor.
fn status(flags: u16, cookie: u64, context: u32) -> Vec<u8> {
    structured(flags, 5, cookie, &[&context.to_be_bytes()[..], &ONE].concat())
}

fn error_payload(errno: u32, text: &str) -> Vec<u8> {
    [&errno.to_be_bytes()[..], &u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn compact(contexts: &[u32]) -> SessionConfig {
    SessionConfig::new(Headers::Structured, contexts)
}

fn strict(mut config: SessionConfig) -> SessionConfig {
    config.strictness = Strictness::Strict;
    config
}

/// Request 1 of such a session.
fn asked() -> RequestInfo {
    RequestInfo::new(STATUS, 0, 1 << 20)
}

/// The error of that request.
fn failed(fault: RequestFault) -> RequestError {
    RequestError { request: asked(), fault }
}

/// A session with requests 1..=n in flight, each of 1 MiB from 0.
fn session(config: SessionConfig, requests: u64) -> Session {
    let mut session = Session::new(config);
    for cookie in 1..=requests {
        assert_eq!(session.start_block_status(&StatusRequest::new(0, 1 << 20)), Ok(Cookie(cookie)));
    }
    session.take_output();
    session
}

type Outcome = (Vec<Event>, Result<(), ProtocolError>, SessionStats);

fn run_in_pieces(
    config: &SessionConfig,
    requests: u64,
    server: &[u8],
    piece: usize,
    admission: Admission,
) -> Outcome {
    let mut session = session(config.clone(), requests);
    let mut events = Vec::new();
    for bytes in server.chunks(piece) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match session.feed(rest, &mut |_: &ChunkOffer| admission) {
                Ok(count) => rest = &rest[count..],
                Err(error) => {
                    events.extend(iter::from_fn(|| session.poll()));
                    assert_eq!(session.feed(&[0], &mut take_all), Err(error), "the error stays");
                    let again = session.start_block_status(&StatusRequest::new(0, 1));
                    assert_eq!(again, Err(StartError::Broken(error)));
                    let mut stats = *session.stats();
                    stats.bytes_received = 0;
                    return (events, Err(error), stats);
                }
            }
            events.extend(iter::from_fn(|| session.poll()));
        }
    }
    let mut stats = *session.stats();
    stats.bytes_received = 0;
    (events, Ok(()), stats)
}

/// Runs a session with the bytes at once, one by one and in odd pieces: the outcome is the same.
fn run(config: &SessionConfig, requests: u64, parts: &[Vec<u8>]) -> Outcome {
    let server = parts.concat();
    let whole = run_in_pieces(config, requests, &server, server.len().max(1), Admission::Take);
    for piece in [1, 7, 20] {
        assert_eq!(
            run_in_pieces(config, requests, &server, piece, Admission::Take),
            whole,
            "pieces of {piece}"
        );
    }
    whole
}

/// The failure of request 1, which leaves the connection usable for request 2.
fn request_error(config: &SessionConfig, parts: &[Vec<u8>]) -> RequestError {
    let mut parts = parts.to_vec();
    let contexts: Vec<u32> = config.export.contexts.iter().map(|context| context.id).collect();
    for (index, &context) in contexts.iter().enumerate() {
        let flags = u16::from(index + 1 == contexts.len());
        parts.push(match config.export.headers {
            Headers::Extended => {
                let wide = [&context.to_be_bytes()[..], &[0, 0, 0, 1], &[0; 4], &ONE[..4], &[0; 8]].concat();
                extended(flags, 6, 2, 0, &wide)
            }
            _ => status(flags, 2, context),
        });
    }
    let (mut events, result, _) = run(config, 2, &parts);
    assert_eq!(result, Ok(()));
    assert_eq!(events.pop(), Some(Event::Done { cookie: Cookie(2) }));
    let failed = events.into_iter().find_map(|event| match event {
        Event::Failed { cookie: Cookie(1), error } => Some(error),
        _ => None,
    });
    failed.expect("request 1 fails")
}

fn fatal(config: &SessionConfig, parts: &[Vec<u8>]) -> ProtocolError {
    run(config, 1, parts).1.unwrap_err()
}

/// The chunks of a golden file: header and payload in hex.
fn golden(text: &str) -> Vec<Vec<u8>> {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    text.lines()
        .filter_map(|line| line.split_once("hdr=")?.1.split_once(" payload="))
        .map(|(header, payload)| hex(&format!("{header}{payload}")))
        .collect()
}

#[test]
fn golden_replies_of_qemu() {
    let files = [
        (Headers::Structured, 20, include_str!("../../tests/data/golden_wire_replies.txt")),
        (Headers::Extended, 32, include_str!("../../tests/data/golden_wire_replies_ext.txt")),
    ];
    for (headers, header_len, text) in files {
        let chunks = golden(text);
        let (events, result, stats) = run(&SessionConfig::new(headers, [0, 1, 2]), 1, &chunks);
        assert_eq!(result, Ok(()));
        let mut expected: Vec<_> = (0..)
            .zip(&chunks)
            .map(|(context, chunk)| Event::Status {
                cookie: Cookie(1),
                context,
                payload: chunk[header_len..].to_vec(),
            })
            .collect();
        expected.push(Event::Done { cookie: Cookie(1) });
        assert_eq!(events, expected);
        assert_eq!((stats.chunks, stats.done, stats.forgiven.total()), (3, 1, 0));
    }
}

#[test]
fn cut_anywhere_is_a_typed_end_of_file() {
    let server = golden(include_str!("../../tests/data/golden_wire_replies.txt")).concat();
    for cut in 0..server.len() {
        let mut session = session(compact(&[0, 1, 2]), 1);
        let mut rest = &server[..cut];
        while !rest.is_empty() {
            let count = session.feed(rest, &mut take_all).unwrap();
            rest = &rest[count..];
            while session.poll().is_some() {}
        }
        let eof = session.eof().expect("a reply is due");
        assert!(eof.got < eof.expected, "cut at {cut}: {eof}");
    }
    let idle = Session::new(compact(&[0]));
    assert_eq!(idle.eof(), None);
}

#[test]
fn the_captured_requests() {
    let mut session = Session::new(compact(&[0]));
    session.start_block_status(&StatusRequest::new(0, 0x40_0000)).unwrap();
    session.start_block_status(&StatusRequest::new(0, 0x40_0000).req_one()).unwrap();
    let out = session.take_output();
    let first = *b"\x25\x60\x95\x13\0\0\0\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\x40\0\0";
    assert_eq!(out[..28], first);
    assert_eq!(out[32..36], [0, 8, 0, 7]);

    let mut config = SessionConfig::new(Headers::Extended, [0, 1, 2]);
    config.export.flags = TransmissionFlags(1 | 1 << 12);
    let mut session = Session::new(config);
    session.start_block_status(&StatusRequest::new(0, 0x40_0000).only(&[2])).unwrap();
    let form = [
        &[0x21, 0xe4, 0x1c, 0x71, 0, 0x20, 0, 7][..],
        &1_u64.to_be_bytes(),
        &0_u64.to_be_bytes(),
        &12_u64.to_be_bytes(),
        &0x40_0000_u64.to_be_bytes(),
        &2_u32.to_be_bytes(),
    ];
    assert_eq!(session.take_output(), form.concat());
    session.disconnect();
    session.disconnect();
    assert_eq!(session.take_output().len(), 32, "one DISC");
    assert_eq!(session.start_block_status(&StatusRequest::new(0, 1)), Err(StartError::Ending));
}

#[test]
fn requests_that_cannot_be_asked() {
    let mut session = Session::new(compact(&[0]));
    let mut start = |request: StatusRequest<'_>| session.start_block_status(&request).unwrap_err();
    assert_eq!(start(StatusRequest::new(5, 0)), StartError::ZeroLength(RequestInfo::new(STATUS, 5, 0)));
    assert_eq!(
        start(StatusRequest::new(0, 1 << 32)),
        StartError::TooLong { request: RequestInfo::new(STATUS, 0, 1 << 32), longest: 0xffff_fffe }
    );
    assert!(matches!(start(StatusRequest::new(u64::MAX, 2)), StartError::PastEnd { .. }));
    assert_eq!(
        start(StatusRequest::new(0, 1).only(&[0])),
        StartError::NotOffered("block status of chosen contexts")
    );
    assert!(session.take_output().is_empty());

    let mut none = Session::new(compact(&[]));
    assert_eq!(none.start_block_status(&StatusRequest::new(0, 1)), Err(StartError::NoContexts));
    let mut simple = Session::new(SessionConfig::new(Headers::Simple, [0]));
    assert_eq!(
        simple.start_block_status(&StatusRequest::new(0, 1)),
        Err(StartError::NotOffered("structured replies, and so no block status"))
    );

    let mut config = SessionConfig::new(Headers::Extended, [0, 1]);
    config.export.flags = TransmissionFlags(1 | 1 << 12);
    let mut session = Session::new(config);
    let mut start =
        |only: &[u32]| session.start_block_status(&StatusRequest::new(0, 1).only(only)).unwrap_err();
    assert_eq!(start(&[]), StartError::NoContexts);
    assert_eq!(start(&[7]), StartError::UnknownContext(7));
    assert_eq!(start(&[1, 1]), StartError::DuplicateContext(1));
}

#[test]
fn chunks_of_several_requests_may_be_mixed() {
    let parts =
        [status(0, 2, 0), status(0, 1, 1), status(DONE, 2, 1), status(0, 1, 0), structured(DONE, 0, 1, &[])];
    let (events, result, _) = run(&compact(&[0, 1]), 2, &parts);
    assert_eq!(result, Ok(()));
    let cookies: Vec<_> = events.iter().map(|event| event.cookie().get()).collect();
    assert_eq!(cookies, [2, 1, 2, 2, 1, 1]);
    assert_eq!(events[3], Event::Done { cookie: Cookie(2) });
    assert_eq!(events[5], Event::Done { cookie: Cookie(1) });
}

#[test]
fn drained_chunks_are_reported_and_take_no_memory() {
    let big = structured(0, 5, 1, &[&[0; 4][..], &ONE.repeat(100_000)].concat());
    let server = [big, status(DONE, 1, 1)].concat();
    for piece in [1000, server.len()] {
        let (events, result, stats) = run_in_pieces(&compact(&[0, 1]), 1, &server, piece, Admission::Drain);
        assert_eq!(result, Ok(()));
        let cookie = Cookie(1);
        let expected = [
            Event::Drained { cookie, context: 0, length: 800_004 },
            Event::Drained { cookie, context: 1, length: 12 },
            Event::Done { cookie },
        ];
        assert_eq!(events, expected);
        assert_eq!(stats.bytes_drained, 800_016);
    }
}

#[test]
fn row_3_and_4_lengths_that_hold_no_whole_descriptors() {
    for length in [0, 3, 4, 8, 13, 19] {
        let error = request_error(&compact(&[0]), &[structured(DONE, 5, 1, &vec![0; length])]);
        assert_eq!(error, failed(RequestFault::BadStatusLength(length as u64)));
    }
    let config = SessionConfig::new(Headers::Extended, [0]);
    for length in [0, 8, 20, 23, 25] {
        let error = request_error(&config, &[extended(DONE, 6, 1, 0, &vec![0; length])]);
        assert_eq!(error, failed(RequestFault::BadStatusLength(length as u64)));
    }
}

#[test]
fn row_6_unknown_context_is_dropped_or_refused() {
    let parts = [status(0, 1, 9), status(DONE, 1, 0)];
    let (events, result, stats) = run(&compact(&[0]), 1, &parts);
    assert_eq!((events.len(), result, stats.forgiven.of(Tolerated::UnknownContextChunk)), (2, Ok(()), 1));
    let error = request_error(&strict(compact(&[0])), &parts);
    assert_eq!(error, failed(RequestFault::UnknownContext(9)));
}

#[test]
fn row_7_duplicate_context_is_a_request_error() {
    let error = request_error(&compact(&[0, 1]), &[status(0, 1, 0), status(0, 1, 0), status(DONE, 1, 1)]);
    assert_eq!(error, failed(RequestFault::DuplicateContext(0)));
}

#[test]
fn row_8_and_9_a_missing_context_is_a_request_error() {
    let missing = |context| failed(RequestFault::MissingContext(context));
    assert_eq!(request_error(&compact(&[0, 1]), &[structured(DONE, 0, 1, &[])]), missing(0));
    assert_eq!(request_error(&compact(&[0, 1]), &[status(DONE, 1, 0)]), missing(1));
    // the chunk that follows too late is drained
    let late = [status(DONE, 1, 1), status(DONE, 1, 0)];
    assert_eq!(request_error(&compact(&[0, 1]), &late), missing(0));
}

#[test]
fn row_10_the_longest_legal_chunk_passes() {
    let full = [&[0; 4][..], &ONE.repeat(1 << 20)].concat();
    let server = structured(DONE, 5, 1, &full);
    let (events, result, _) = run_in_pieces(&compact(&[0]), 1, &server, 1 << 16, Admission::Take);
    assert_eq!(result, Ok(()));
    assert_eq!(events[0], Event::Status { cookie: Cookie(1), context: 0, payload: full });
}

#[test]
fn row_24_a_huge_claim_is_refused_by_its_header() {
    let mut header = structured(DONE, 5, 1, &[]);
    header[16..].copy_from_slice(&0xffff_fffc_u32.to_be_bytes());
    let limit = (1 << 25) + 64;
    assert_eq!(
        fatal(&compact(&[0]), &[header]),
        ProtocolError::PayloadTooLong { cookie: 1, length: 0xffff_fffc, limit }
    );
}

#[test]
fn row_25_memory_follows_what_came_not_what_was_claimed() {
    let mut session = session(compact(&[0]), 1);
    let mut header = structured(DONE, 5, 1, &[]);
    header[16..].copy_from_slice(&((1_u32 << 25) + 4).to_be_bytes());
    session.feed(&[&header[..], &[0; 5]].concat(), &mut take_all).unwrap();
    assert!(session.space().len() <= 64 << 10);
    let eof = session.eof().unwrap();
    assert_eq!((eof.got, eof.expected), (5, (1 << 25) + 4));
}

#[test]
fn row_26_wrong_cookie_is_fatal() {
    for cookie in [0, 7, u64::MAX] {
        assert_eq!(fatal(&compact(&[0]), &[status(DONE, cookie, 0)]), ProtocolError::UnknownCookie(cookie));
        assert_eq!(fatal(&compact(&[0]), &[simple(5, cookie)]), ProtocolError::UnknownCookie(cookie));
    }
    // A request that ended well gets no more chunks.
    let parts = [status(DONE, 1, 0), status(DONE, 1, 0)];
    assert_eq!(fatal(&compact(&[0]), &parts), ProtocolError::ChunkAfterDone(1));
}

#[test]
fn row_27_wrong_magic_is_fatal() {
    let error = fatal(&compact(&[0]), &[vec![0x12, 0x56, 0x09, 0x53]]);
    assert_eq!(error, ProtocolError::BadMagic(0x1256_0953));
}

#[test]
fn row_28_unexpected_chunk_types_are_fatal() {
    for kind in [1, 2, 3, 6, 7] {
        let error = fatal(&compact(&[0]), &[structured(DONE, kind, 1, &[0; 24])]);
        assert_eq!(error, ProtocolError::UnexpectedChunk { cookie: 1, kind });
    }
}

#[test]
fn row_29_extended_mode_takes_extended_chunks_only() {
    let config = SessionConfig::new(Headers::Extended, [0]);
    let error = request_error(&config, &[extended(DONE, 5, 1, 0, &[&[0; 4][..], &ONE].concat())]);
    assert_eq!(error, failed(RequestFault::CompactStatus));
    assert_eq!(fatal(&config, &[status(DONE, 1, 0)]), ProtocolError::WrongHeaders(0x668e_33ef));
    assert_eq!(fatal(&config, &[simple(22, 1)]), ProtocolError::WrongHeaders(0x6744_6698));
    let moved = extended(DONE, 6, 1, 512, &[0; 24]);
    assert_eq!(fatal(&config, &[moved]), ProtocolError::WrongOffset { cookie: 1, got: 512, expected: 0 });
    let wide = extended(DONE, 6, 1, 0, &[0; 24]);
    assert_eq!(fatal(&compact(&[0]), &[wide]), ProtocolError::WrongHeaders(0x6e8a_278c));
}

#[test]
fn row_30_none_must_be_last_and_empty() {
    let not_last = fatal(&compact(&[0]), &[structured(0, 0, 1, &[])]);
    assert_eq!(not_last, ProtocolError::BadNone { cookie: 1, flags: 0, length: 0 });
    let not_empty = fatal(&compact(&[0]), &[structured(DONE, 0, 1, &[0])]);
    assert_eq!(not_empty, ProtocolError::BadNone { cookie: 1, flags: 1, length: 1 });
}

#[test]
fn row_31_unknown_reply_flags_are_ignored() {
    let (events, result, _) = run(&strict(compact(&[0])), 1, &[status(0xffff, 1, 0)]);
    assert_eq!((events.len(), result), (2, Ok(())));
}

#[test]
fn row_32_the_captured_error() {
    let chunk = structured(DONE, ERROR, 1, &error_payload(22, "need non-zero length"));
    let error = request_error(&compact(&[0]), &[chunk]);
    assert_eq!(
        error.to_string(),
        "BLOCK_STATUS of 1048576 bytes at 0 failed with EINVAL: need non-zero length"
    );
    assert_eq!(error.errno(), Some(Errno(22)));

    let text = "operation past EOF; From: 0, Len: 6442450945, Size: 6442450944";
    let chunk = extended(DONE, ERROR, 1, 0, &error_payload(22, text));
    let error = request_error(&SessionConfig::new(Headers::Extended, [0]), &[chunk]);
    assert!(matches!(error.fault, RequestFault::Server { text: ref got, .. } if got.as_str() == text));
}

#[test]
fn row_33_and_34_an_error_anywhere_fails_the_whole_reply_and_the_first_one_counts() {
    let parts = [
        status(0, 1, 0),
        structured(0, ERROR, 1, &error_payload(5, "first")),
        structured(0, ERROR, 1, &error_payload(12, "second")),
        status(DONE, 1, 1),
    ];
    let error = request_error(&compact(&[0, 1]), &parts);
    assert_eq!(error.to_string(), "BLOCK_STATUS of 1048576 bytes at 0 failed with EIO: first");
}

#[test]
fn row_35_a_message_longer_than_its_chunk_is_fatal() {
    let chunk = structured(DONE, ERROR, 1, b"\0\0\0\x05\0\x09ab");
    assert_eq!(
        fatal(&compact(&[0]), &[chunk]),
        ProtocolError::MessageTooLong { cookie: 1, claimed: 9, room: 2 }
    );
}

#[test]
fn row_36_slop_after_a_message_is_skipped_and_counted() {
    let slop = [error_payload(5, "x"), vec![0xa5; 100_000]].concat();
    let (events, result, stats) = run(&compact(&[0]), 1, &[structured(DONE, ERROR, 1, &slop)]);
    assert_eq!((events.len(), result, stats.forgiven.of(Tolerated::ErrorSlop)), (1, Ok(()), 1));
}

#[test]
fn row_37_an_error_chunk_too_short_to_say_why() {
    for length in [0, 4, 5] {
        let error = request_error(&compact(&[0]), &[structured(DONE, ERROR, 1, &vec![0; length])]);
        assert_eq!(error, failed(RequestFault::ErrorTooShort(length as u64)));
    }
}

#[test]
fn row_38_error_number_zero() {
    let error = request_error(&compact(&[0]), &[structured(DONE, ERROR, 1, &error_payload(0, ""))]);
    assert!(matches!(error.fault, RequestFault::ZeroErrno { .. }), "{error}");
}

#[test]
fn row_39_unknown_error_numbers_are_kept() {
    let error = request_error(&compact(&[0]), &[structured(DONE, ERROR, 1, &error_payload(9999, ""))]);
    assert_eq!(error.to_string(), "BLOCK_STATUS of 1048576 bytes at 0 failed with error 9999");
}

#[test]
fn row_41_and_42_error_offset_and_unknown_error_types() {
    let payload = [error_payload(5, "x"), vec![0xff; 8]].concat();
    let error = request_error(&compact(&[0]), &[structured(DONE, 0x8002, 1, &payload)]);
    assert!(matches!(error.fault, RequestFault::Server { offset: Some(u64::MAX), .. }), "{error}");
    let error = request_error(&compact(&[0]), &[structured(DONE, 0x8099, 1, &error_payload(5, "x"))]);
    assert_eq!(error.errno(), Some(Errno(5)));
}

#[test]
fn row_43_simple_success_is_a_request_error() {
    let error = request_error(&compact(&[0]), &[simple(0, 1)]);
    assert_eq!(error, failed(RequestFault::SimpleSuccess));
}

#[test]
fn row_44_simple_error_is_a_request_error() {
    let error = request_error(&compact(&[0]), &[simple(22, 1)]);
    assert_eq!(error.errno(), Some(Errno(22)));
}

#[test]
fn row_46_a_reply_without_an_end_is_cut() {
    let endless = |chunk: Vec<u8>| fatal(&compact(&[0]), &vec![chunk; 100]);
    for chunk in [status(0, 1, 0), status(0, 1, 9), structured(0, ERROR, 1, &error_payload(5, ""))] {
        assert!(matches!(endless(chunk), ProtocolError::EndlessReply { chunks: 66, .. }));
    }
    let mut config = compact(&[0]);
    config.limits.max_reply = 100;
    let parts = vec![structured(0, ERROR, 1, &error_payload(5, &"x".repeat(40))); 3];
    assert!(matches!(fatal(&config, &parts), ProtocolError::EndlessReply { chunks: 3, bytes: 138, .. }));
}

#[test]
fn row_68_late_chunks_of_a_failed_request_are_drained() {
    let parts = [structured(DONE, ERROR, 1, &error_payload(22, "")), status(DONE, 1, 1)];
    let error = request_error(&compact(&[0, 1]), &parts);
    assert_eq!(error.errno(), Some(Errno(22)));
    let (_, _, stats) = run(&compact(&[0, 1]), 1, &parts);
    assert_eq!(stats.forgiven.of(Tolerated::LateChunk), 1);

    let too_many = [&parts[..], &parts[1..]].concat();
    assert_eq!(fatal(&compact(&[0, 1]), &too_many), ProtocolError::ChunkAfterDone(1));
    assert_eq!(fatal(&strict(compact(&[0, 1])), &parts), ProtocolError::ChunkAfterDone(1));
    let read = [parts[0].clone(), structured(DONE, 1, 1, &[0; 9])];
    assert_eq!(fatal(&compact(&[0, 1]), &read), ProtocolError::UnexpectedChunk { cookie: 1, kind: 1 });
}

#[test]
fn shutdown_fails_the_request_and_ends_the_session() {
    let mut session = session(compact(&[0]), 1);
    session.feed(&structured(DONE, ERROR, 1, &error_payload(108, "bye")), &mut take_all).unwrap();
    assert!(matches!(session.poll(), Some(Event::Failed { error, .. }) if error.is_shutdown()));
    assert!(session.must_disconnect());
    assert_eq!(session.start_block_status(&StatusRequest::new(0, 1)), Err(StartError::Ending));
    session.disconnect();
    assert_eq!(session.take_output().len(), 28);
    assert!(!session.must_disconnect());
}

#[test]
fn a_context_left_out_by_the_payload_form_is_unknown_to_the_request() {
    let mut config = SessionConfig::new(Headers::Extended, [0, 2]);
    config.export.flags = TransmissionFlags(1 | 1 << 12);
    let mut session = Session::new(config);
    session.start_block_status(&StatusRequest::new(0, 4096).only(&[2])).unwrap();
    session.take_output();
    session.feed(&extended(DONE, 6, 1, 0, &[0; 24]), &mut take_all).unwrap();
    let request = RequestInfo { flags: command_flag::PAYLOAD_LEN, length: 4096, ..asked() };
    let error = RequestError { request, fault: RequestFault::MissingContext(2) };
    assert_eq!(session.poll(), Some(Event::Failed { cookie: Cookie(1), error }));
    assert_eq!(session.stats().forgiven.of(Tolerated::UnknownContextChunk), 1);
}

#[test]
fn recycled_memory_is_used_again() {
    let mut session = session(compact(&[0]), 1);
    // the largest is kept, and its capacity tells it from a new buffer
    let [least, most] = [100 << 10, 1 << 20];
    for capacity in [least, most, least] {
        session.recycle(Vec::with_capacity(capacity));
    }
    session.feed(&status(DONE, 1, 0), &mut take_all).unwrap();
    let Some(Event::Status { payload, .. }) = session.poll() else { panic!("a status") };
    assert_eq!((payload.capacity(), payload.len()), (most, 12));
}

#[test]
fn recycled_memory_is_bounded() {
    for (given, most) in [(4 << 20, 4 << 20), ((4 << 20) + 1, 64 << 10)] {
        let mut session = session(compact(&[0]), 1);
        session.recycle(Vec::with_capacity(given));
        session.feed(&status(DONE, 1, 0), &mut take_all).unwrap();
        let Some(Event::Status { payload, .. }) = session.poll() else { panic!("a status") };
        assert!(payload.capacity() <= most, "{} of {given}", payload.capacity());
    }
}

#[test]
fn chunks_after_an_error_of_the_same_reply_are_dropped() {
    let parts = [structured(0, ERROR, 1, &error_payload(5, "first")), status(DONE, 1, 0)];
    let (events, result, stats) = run(&compact(&[0]), 1, &parts);
    assert_eq!((result, stats.bytes_drained), (Ok(()), 12));
    assert!(matches!(events.as_slice(), [Event::Failed { .. }]), "{events:?}");
}

#[test]
fn the_longest_reply_passes_and_one_byte_more_does_not() {
    let parts = [status(0, 1, 0), status(DONE, 1, 1)];
    let mut config = compact(&[0, 1]);
    config.limits.max_reply = 24;
    assert_eq!(run(&config, 1, &parts).1, Ok(()));
    config.limits.max_reply = 23;
    assert!(matches!(fatal(&config, &parts), ProtocolError::EndlessReply { bytes: 24, .. }));
}

/// A caller that bears no more chunks than are due bears one of each context, however many there
/// are.
#[test]
fn a_status_reply_has_room_for_a_chunk_of_each_context() {
    let ids: Vec<u32> = (0..200).collect();
    let mut config = compact(&ids);
    config.limits.max_extra_chunks = 0;
    let part = |&id: &u32| status(if id == 199 { DONE } else { 0 }, 1, id);
    let parts: Vec<_> = ids.iter().map(part).collect();
    assert_eq!(run(&config, 1, &parts).1, Ok(()));
    let error = structured(0, ERROR, 1, &error_payload(5, ""));
    let parts = [&parts[..199], &[error], &parts[199..]].concat();
    assert!(matches!(fatal(&config, &parts), ProtocolError::EndlessReply { chunks: 201, .. }));
}

/// Each piece of content is one that was due; 65 chunks more are borne, and no 66th.
#[test]
fn content_of_a_read_makes_room_for_itself_alone() {
    let outcome = |errors: usize| {
        let mut session = Session::new(compact(&[]));
        session.start_read(&ReadRequest::new(0), vec![0; 5]).unwrap();
        session.take_output();
        let content = (0..5_u64).map(|at| structured(0, 1, 1, &[&at.to_be_bytes()[..], &[7]].concat()));
        let errors = iter::repeat_n(structured(0, ERROR, 1, &error_payload(5, "")), errors);
        let server = content.chain(errors).collect::<Vec<_>>().concat();
        session.feed(&server, &mut take_all)
    };
    assert!(outcome(65).is_ok());
    assert!(matches!(outcome(66), Err(ProtocolError::EndlessReply { chunks: 71, .. })));
}

/// No answer is due any more, but the server hangs up within a chunk that comes too late.
#[test]
fn the_end_of_the_stream_within_a_late_chunk_is_not_expected() {
    let late = status(DONE, 1, 1);
    for (received, end) in [
        (0, None),
        (5, Some((During::ReplyHeader, 5, 20))),
        (20, Some((During::Payload, 0, 12))),
        (25, Some((During::Payload, 5, 12))),
        (32, None),
    ] {
        let mut session = session(compact(&[0, 1]), 1);
        session.feed(&structured(DONE, ERROR, 1, &error_payload(5, "")), &mut take_all).unwrap();
        session.poll().unwrap();
        session.feed(&late[..received], &mut take_all).unwrap();
        let end = end.map(|(during, got, expected)| UnexpectedEof { during, got, expected });
        assert_eq!(session.eof(), end, "after {received} bytes");
    }
}

/// A failed request may get its last chunk late, among the 1024 that failed last.
#[test]
fn late_chunks_of_the_last_1024_failed_requests_are_drained() {
    for (failed, is_fatal) in [(1024, false), (1025, true)] {
        let mut session = Session::new(compact(&[0, 1]));
        for cookie in 1..=failed {
            session.start_block_status(&StatusRequest::new(0, 1 << 20)).unwrap();
            session.take_output();
            let error = structured(DONE, ERROR, cookie, &error_payload(5, ""));
            session.feed(&error, &mut take_all).unwrap();
            assert!(matches!(session.poll(), Some(Event::Failed { .. })));
        }
        let late = session.feed(&status(DONE, 1, 1), &mut take_all);
        assert_eq!(late.is_err(), is_fatal, "{late:?} after {failed}");
    }
}

/// No chunk of them can be late, and they take no place of those with several contexts.
#[test]
fn failed_requests_of_one_context_are_not_among_the_last_1024() {
    let mut config = SessionConfig::new(Headers::Extended, [0, 1]);
    config.export.flags = TransmissionFlags(1 | 1 << 12);
    let mut session = Session::new(config);
    let of_both = StatusRequest::new(0, 1 << 20);
    let of_one = StatusRequest::new(0, 1 << 20).only(&[1]);
    for (cookie, request) in (1..=1025).zip(iter::once(&of_both).chain(iter::repeat(&of_one))) {
        session.start_block_status(request).unwrap();
        session.take_output();
        session.feed(&extended(DONE, ERROR, cookie, 0, &error_payload(5, "")), &mut take_all).unwrap();
        assert!(matches!(session.poll(), Some(Event::Failed { .. })));
    }
    assert!(session.feed(&extended(DONE, 6, 1, 0, &[0; 24]), &mut take_all).is_ok());
}
