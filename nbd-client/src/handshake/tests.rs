//! Handshakes of real servers, and faults of a handshake: the rows of SERVER-BEHAVIOUR.md.

use super::*;
use crate::error::{Error, ErrorClass};
use crate::frame::{Headers, contexts_data, go_data, option_type, put_option};
use crate::stats::Tolerated;
use nbd_extents::Strictness;

const NAMES: [&str; 3] = ["qemu:dirty-bitmap:b0", "qemu:allocation-depth", "base:allocation"];
const HELLO: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";
const ACK: u32 = 1;
const UNSUP: u32 = 0x8000_0001;

fn rep(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut out = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    for word in [option, kind, u32::try_from(data.len()).unwrap()] {
        out.extend(word.to_be_bytes());
    }
    out.extend(data);
    out
}

fn meta(option: u32, id: u32, name: &str) -> Vec<u8> {
    rep(option, 4, &[&id.to_be_bytes(), name.as_bytes()].concat())
}

fn info_export(size: u64, flags: u16) -> Vec<u8> {
    rep(7, 3, &[&[0, 0][..], &size.to_be_bytes(), &flags.to_be_bytes()].concat())
}

fn info_blocks(min: u32, pref: u32, max: u32) -> Vec<u8> {
    rep(7, 3, &[&[0, 3][..], &min.to_be_bytes(), &pref.to_be_bytes(), &max.to_be_bytes()].concat())
}

/// The captured end of a handshake: block sizes, export, ACK.
fn go_ok() -> Vec<u8> {
    [info_blocks(1, 4096, 1 << 25), info_export(0x1_8000_0000, 0x158f), rep(7, ACK, &[])].concat()
}

fn set_ok() -> Vec<u8> {
    [meta(10, 0, NAMES[2]), meta(10, 1, NAMES[1]), meta(10, 2, NAMES[0]), rep(10, ACK, &[])].concat()
}

fn config(contexts: &[&str]) -> HandshakeConfig {
    let mut config = HandshakeConfig::new("disk");
    config.contexts =
        contexts.iter().map(|name| ContextRequest { name: (*name).to_owned(), required: true }).collect();
    config
}

/// The result of a run: the export or the error, and the bytes sent.
type Outcome = (Result<(Export, ToleratedCounts), HandshakeError>, Vec<u8>);

fn run_in_pieces(config: HandshakeConfig, server: &[u8], piece: usize) -> Outcome {
    let mut handshake = Handshake::new(config).unwrap();
    let mut sent = Vec::new();
    for bytes in server.chunks(piece) {
        let fed = handshake.feed(bytes);
        sent.extend(handshake.take_output());
        match fed {
            Ok(count) => assert_eq!(count, bytes.len(), "bytes left over"),
            Err(error) => {
                assert_eq!(handshake.feed(bytes), Err(error.clone()), "the error stays");
                return (Err(error), sent);
            }
        }
    }
    assert_eq!(handshake.status(), HandshakeStatus::Finished, "{:?}", handshake.eof());
    (Ok(handshake.export().map(|(export, forgiven)| (export.clone(), forgiven)).unwrap()), sent)
}

/// Runs a handshake twice, with the bytes at once and one by one: the outcome is the same.
fn run_config(config: HandshakeConfig, parts: &[Vec<u8>]) -> Outcome {
    let server = [HELLO, &parts.concat()].concat();
    let whole = run_in_pieces(config.clone(), &server, server.len());
    let (result, sent) = run_in_pieces(config, &server, 1);
    assert_eq!(result, whole.0);
    assert_eq!(sent, whole.1);
    whole
}

fn run(contexts: &[&str], parts: &[Vec<u8>]) -> Result<(Export, ToleratedCounts), HandshakeError> {
    run_config(config(contexts), parts).0
}

fn error_of(contexts: &[&str], parts: &[Vec<u8>]) -> HandshakeError {
    run(contexts, parts).unwrap_err()
}

fn class(error: &HandshakeError) -> ErrorClass {
    Error::from(error.clone()).class()
}

#[test]
fn the_capture_with_extended_headers() {
    let (result, sent) = run_config(config(&NAMES), &[rep(11, ACK, &[]), set_ok(), go_ok()]);
    let (export, forgiven) = result.unwrap();
    assert_eq!((export.size, export.flags.0, export.headers), (0x1_8000_0000, 0x158f, Headers::Extended));
    assert!(export.payload_status());
    let ids: Vec<_> = export.contexts.iter().map(|context| (context.id, context.name.as_str())).collect();
    assert_eq!(ids, [(2, NAMES[0]), (1, NAMES[1]), (0, NAMES[2])]);
    assert_eq!(export.block_size.map(|sizes| (sizes.minimum(), sizes.maximum())), Some((1, 1 << 25)));
    assert_eq!((export.offered, forgiven.total()), (None, 0));

    let mut expected = vec![0, 0, 0, 3];
    put_option(&mut expected, option_type::EXTENDED_HEADERS, &[]);
    put_option(&mut expected, option_type::SET_META_CONTEXT, &contexts_data("disk", &NAMES));
    put_option(&mut expected, option_type::GO, &go_data("disk", &[1, 2, 3]));
    assert_eq!(sent, expected);
}

#[test]
fn the_capture_with_compact_headers() {
    let mut wish = config(&NAMES);
    wish.headers = Headers::Structured;
    let (result, sent) = run_config(wish, &[rep(8, ACK, &[]), set_ok(), go_ok()]);
    let (export, _) = result.unwrap();
    assert_eq!(export.headers, Headers::Structured);
    assert!(!export.payload_status(), "the flag means nothing with compact headers");
    assert_eq!(sent[4..20], *b"IHAVEOPT\0\0\0\x08\0\0\0\0");
}

#[test]
fn a_server_with_its_bytes_cut_anywhere_is_an_end_of_file_with_numbers() {
    let server = [HELLO, &rep(11, ACK, &[]), &set_ok(), &go_ok()].concat();
    for cut in 0..server.len() {
        let mut handshake = Handshake::new(config(&NAMES)).unwrap();
        assert_eq!(handshake.feed(&server[..cut]), Ok(cut));
        assert_eq!(handshake.status(), HandshakeStatus::NeedsInput, "cut at {cut}");
        let eof = handshake.eof();
        assert!(eof.got < eof.expected, "cut at {cut}: {eof}");
    }
}

#[test]
fn bytes_beyond_the_end_are_left_alone() {
    let server = [HELLO, &rep(11, ACK, &[]), &go_ok(), b"reply"].concat();
    let mut handshake = Handshake::new(config(&[])).unwrap();
    assert_eq!(handshake.feed(&server), Ok(server.len() - 5));
}

#[test]
fn other_protocols_are_shown_escaped() {
    for (words, shown) in [
        (&b"SSH-2.0-Open\r\n"[..], "SSH-2.0-"),
        (b"HTTP/1.1 400 Bad", "HTTP/1.1"),
        (b"220 a\x1b\r\n", r"220 a\u{1b}\r\n"),
    ] {
        let mut handshake = Handshake::new(config(&[])).unwrap();
        let error = handshake.feed(words).unwrap_err();
        assert_eq!(error.to_string(), format!("not an NBD server: it says \"{shown}\""));
    }
}

#[test]
fn oldstyle_and_plain_newstyle_are_refused() {
    let feed = |bytes: &[u8]| Handshake::new(config(&[])).unwrap().feed(bytes).unwrap_err();
    assert_eq!(feed(b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53"), HandshakeError::OldStyle);
    assert_eq!(feed(b"NBDMAGICIHAVEOPT\0\x02"), HandshakeError::NotFixedNewstyle(2));
    assert!(matches!(feed(b"NBDMAGICabcdefgh"), HandshakeError::UnknownStyle(..)));
}

/// Where TLS was asked for they are servers without it, and hear nothing.
#[test]
fn oldstyle_and_plain_newstyle_have_no_tls() {
    let mut wish = config(&[]);
    wish.start_tls = true;
    for hello in [&b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53"[..], b"NBDMAGICIHAVEOPT\0\x02"] {
        let mut handshake = Handshake::new(wish.clone()).unwrap();
        let error = handshake.feed(hello).unwrap_err();
        assert!(error == HandshakeError::TooOldForTls && class(&error) == ErrorClass::Connection, "{error}");
        assert_eq!(handshake.take_output(), b"");
    }
}

#[test]
fn client_flags_are_those_of_the_server() {
    let mut handshake = Handshake::new(config(&[])).unwrap();
    handshake.feed(b"NBDMAGICIHAVEOPT\xff\xfd").unwrap();
    assert_eq!(handshake.take_output()[..4], [0, 0, 0, 1]);
}

#[test]
fn row_49_contexts_after_the_ack() {
    let parts = [rep(11, ACK, &[]), rep(10, ACK, &[]), meta(10, 0, NAMES[2])];
    // Nothing was granted, so the next option is LIST.
    let error = error_of(&NAMES[2..], &parts);
    assert_eq!(error, HandshakeError::WrongOption { asked: OptionName(9), got: OptionName(10) });
}

#[test]
fn row_50_a_context_twice() {
    for second in [meta(10, 1, NAMES[2]), meta(10, 0, NAMES[1])] {
        let error = error_of(&NAMES, &[rep(11, ACK, &[]), meta(10, 0, NAMES[2]), second]);
        assert!(matches!(error, HandshakeError::DuplicateContext { .. }), "{error}");
    }
}

#[test]
fn row_51_a_context_that_was_not_asked_for() {
    let parts =
        [rep(11, ACK, &[]), meta(10, 5, "x:other"), meta(10, 0, NAMES[2]), rep(10, ACK, &[]), go_ok()];
    let (export, forgiven) = run(&NAMES[2..], &parts).unwrap();
    assert_eq!((export.contexts.len(), forgiven.of(Tolerated::UnaskedContext)), (1, 1));

    let mut strict = config(&NAMES[2..]);
    strict.strictness = Strictness::Strict;
    let (result, _) = run_config(strict, &parts);
    assert_eq!(result.unwrap_err(), HandshakeError::UnaskedContext("x:other".into()));
}

#[test]
fn row_52_a_name_of_more_than_4096_bytes_is_refused_by_its_header() {
    let header = &meta(10, 0, &"n".repeat(4097))[..20];
    let error = error_of(&NAMES, &[rep(11, ACK, &[]), header.to_vec()]);
    assert_eq!(error, HandshakeError::BadLength { option: OptionName(10), kind: 4, length: 4101 });
    let exact = meta(10, 0, &"n".repeat(4096));
    assert!(run(&[], &[rep(11, ACK, &[]), go_ok()]).is_ok());
    let parts = [rep(11, ACK, &[]), exact, meta(10, 1, NAMES[2]), rep(10, ACK, &[]), go_ok()];
    assert!(run(&NAMES[2..], &parts).is_ok());
}

#[test]
fn row_53_a_name_that_is_no_text() {
    for name in [&b"base:\xff"[..], b"base:\0"] {
        let reply = rep(10, 4, &[&[0; 4], name].concat());
        let error = error_of(&NAMES, &[rep(11, ACK, &[]), reply]);
        assert!(matches!(error, HandshakeError::BadName { .. }), "{error}");
    }
}

#[test]
fn row_54_a_context_without_a_name() {
    for data in [&[][..], &[0; 4]] {
        let error = error_of(&NAMES, &[rep(11, ACK, &[]), rep(10, 4, data)]);
        assert!(matches!(error, HandshakeError::BadLength { .. }), "{error}");
    }
}

#[test]
fn row_55_contexts_listed_before_an_error_are_discarded() {
    let parts = [
        rep(11, ACK, &[]),
        meta(10, 0, NAMES[2]),
        rep(10, 0x8000_0009, b"too big"),
        rep(9, UNSUP, &[]),
        go_ok(),
    ];
    let mut optional = config(&NAMES[2..]);
    optional.contexts[0].required = false;
    let (export, _) = run_config(optional, &parts).0.unwrap();
    assert!(export.contexts.is_empty());
    assert_eq!(export.missing, [NAMES[2]]);

    let error = error_of(&NAMES[2..], &parts);
    assert!(matches!(error, HandshakeError::Refused { reason: Refusal(0x8000_0009), .. }), "{error}");
}

#[test]
fn row_56_unsup_to_11_and_8_leaves_no_block_status() {
    let parts = [rep(11, UNSUP, &[]), rep(8, UNSUP, &[]), go_ok()];
    let (export, _) = run(&[], &parts).unwrap();
    assert_eq!(export.headers, Headers::Simple);
    let error = error_of(&NAMES[2..], &parts);
    assert_eq!(error, HandshakeError::NoStructuredReplies(NAMES[2].into()));
    assert_eq!(class(&error), ErrorClass::NotThere);
}

#[test]
fn row_56_unsup_to_11_falls_back_to_8() {
    let parts = [rep(11, UNSUP, b""), rep(8, ACK, &[]), meta(10, 1, NAMES[2]), rep(10, ACK, &[]), go_ok()];
    assert_eq!(run(&NAMES[2..], &parts).unwrap().0.headers, Headers::Structured);
}

#[test]
fn row_56_unsup_to_9_and_10_leaves_no_contexts() {
    let parts = [rep(11, ACK, &[]), rep(10, UNSUP, &[]), rep(9, UNSUP, &[]), go_ok()];
    let error = error_of(&NAMES[2..], &parts);
    assert_eq!(error, HandshakeError::ContextMissing { name: NAMES[2].into(), offered: None });
}

#[test]
fn row_56_unsup_to_go_falls_back_to_export_name() {
    let answer = [&1024_u64.to_be_bytes()[..], &3_u16.to_be_bytes()].concat();
    let parts = [rep(11, UNSUP, &[]), rep(8, UNSUP, &[]), rep(7, UNSUP, &[]), answer.clone()];
    let (result, sent) = run_config(config(&[]), &parts);
    assert_eq!(result.unwrap().0.size, 1024);
    assert!(sent.ends_with(b"IHAVEOPT\0\0\0\x01\0\0\0\x04disk"));

    // Without NO_ZEROES there are 124 zero bytes after it.
    let server = [b"NBDMAGICIHAVEOPT\0\x01", &parts.concat()[..], &[0; 124]].concat();
    let (result, _) = run_in_pieces(config(&[]), &server, server.len());
    assert_eq!(result.unwrap().0.size, 1024);
}

#[test]
fn row_56_unsup_to_go_with_extended_headers_has_no_way_back() {
    let (result, sent) = run_config(config(&[]), &[rep(11, ACK, &[]), rep(7, UNSUP, &[])]);
    let error = result.unwrap_err();
    assert!(matches!(error, HandshakeError::Refused { option: OptionName(7), .. }), "{error}");
    assert!(sent.ends_with(b"IHAVEOPT\0\0\0\x02\0\0\0\0"), "ABORT");
}

#[test]
fn row_57_unknown_errors_are_errors_of_their_option() {
    let odd = 0x8000_1234;
    let parts =
        [rep(11, odd, &[]), rep(8, ACK, &[]), rep(10, odd, &[]), rep(9, odd, &[]), rep(7, odd, b"why")];
    let error = error_of(&NAMES, &parts);
    let reason = Refusal(odd);
    assert_eq!(error, HandshakeError::Refused { option: OptionName(7), reason, text: "why".into() });
    assert_eq!(error.to_string(), "the server refused GO: error 0x80001234: why");
}

#[test]
fn row_58_an_ack_with_a_payload() {
    let error = error_of(&NAMES, &[rep(11, ACK, b"x")]);
    assert!(matches!(error, HandshakeError::BadLength { kind: 1, length: 1, .. }), "{error}");
}

#[test]
fn row_59_a_huge_length_is_refused_by_its_header() {
    let mut header = rep(11, UNSUP, &[]);
    header[16..].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = error_of(&NAMES, &[header]);
    assert_eq!(
        error,
        HandshakeError::ReplyTooLong { option: OptionName(11), length: u32::MAX, limit: 65536 }
    );
}

#[test]
fn row_60_endless_replies() {
    let mut parts = vec![rep(11, ACK, &[])];
    parts.extend((0..5000).map(|id| meta(10, id, &format!("x:{id}"))));
    let error = error_of(&NAMES, &parts);
    assert_eq!(error, HandshakeError::TooManyReplies { option: OptionName(10), limit: 4096 });

    let mut parts = vec![rep(11, ACK, &[])];
    parts.extend((0..5000).map(|_| rep(7, 3, &[0, 9])));
    assert!(matches!(error_of(&[], &parts), HandshakeError::TooManyReplies { .. }));

    let mut parts = vec![rep(11, ACK, &[])];
    parts.extend((0..80).map(|_| rep(7, 3, &[9; 60000])));
    assert_eq!(error_of(&[], &parts), HandshakeError::TooManyBytes(4 << 20));
}

#[test]
fn row_61_go_without_the_export() {
    let parts = [rep(11, ACK, &[]), info_blocks(1, 4096, 1 << 25), rep(7, ACK, &[])];
    assert_eq!(error_of(&[], &parts), HandshakeError::NoExportInfo);
}

#[test]
fn row_62_bad_block_sizes() {
    let parts = [rep(11, ACK, &[]), info_blocks(0, 4096, 1 << 25), info_export(512, 3), rep(7, ACK, &[])];
    let (export, forgiven) = run(&[], &parts).unwrap();
    assert_eq!((export.block_size, forgiven.of(Tolerated::BadBlockSize)), (None, 1));
    let mut strict = config(&[]);
    strict.strictness = Strictness::Strict;
    assert!(matches!(run_config(strict, &parts).0, Err(HandshakeError::BadBlockSize { .. })));
}

#[test]
fn row_65_sizes_beyond_any_file() {
    for (size, fine) in [(i64::MAX as u64, true), (1 << 63, false), (u64::MAX, false)] {
        let result = run(
            &[],
            &[rep(11, ACK, &[]), info_export(size, 3), rep(7, ACK, &[])][..if fine { 3 } else { 2 }],
        );
        match result {
            Ok((export, _)) => assert!(fine && export.size == size),
            Err(error) => assert_eq!((fine, error), (false, HandshakeError::SizeTooLarge(size))),
        }
    }
}

#[test]
fn an_info_of_the_wrong_length_or_twice() {
    for data in [&[][..], &[0], &[0, 0, 1], &[0, 3, 0, 0, 0, 1], &[0; 13]] {
        let error = error_of(&[], &[rep(11, ACK, &[]), rep(7, 3, data)]);
        assert!(matches!(error, HandshakeError::BadLength { .. }), "{data:?}: {error}");
    }
    let twice = [rep(11, ACK, &[]), info_export(1, 1), info_export(2, 1)];
    assert_eq!(error_of(&[], &twice), HandshakeError::DuplicateExportInfo);
}

#[test]
fn names_descriptions_and_unknown_infos_are_taken() {
    let parts = [
        rep(11, ACK, &[]),
        rep(7, 3, b"\0\x01real"),
        rep(7, 3, b"\0\x02a disk"),
        rep(7, 3, b"\x80\0?"),
        go_ok(),
    ];
    let (export, _) = run(&[], &parts).unwrap();
    assert_eq!(export.canonical_name.as_deref(), Some("real"));
    assert_eq!(export.description.as_deref(), Some("a disk"));
}

#[test]
fn flags_without_has_flags() {
    let parts = [rep(11, ACK, &[]), info_export(512, 2), rep(7, ACK, &[])];
    assert_eq!(run(&[], &parts).unwrap().1.of(Tolerated::NoHasFlags), 1);
}

#[test]
fn a_wrong_magic_or_a_reply_of_another_kind() {
    let mut bad = rep(11, ACK, &[]);
    bad[0] = 1;
    assert!(matches!(error_of(&[], &[bad]), HandshakeError::BadMagic { .. }));
    let error = error_of(&[], &[rep(11, 2, &[])]);
    assert_eq!(error, HandshakeError::UnexpectedReply { option: OptionName(11), kind: 2 });
}

#[test]
fn a_missing_context_is_an_error_that_lists_what_there_is() {
    let parts = [
        rep(11, ACK, &[]),
        meta(10, 0, NAMES[2]),
        rep(10, ACK, &[]),
        meta(9, 0, NAMES[2]),
        meta(9, 0, "qemu:dirty-bitmap:other"),
        rep(9, ACK, &[]),
        go_ok(),
    ];
    let (result, sent) = run_config(config(&[NAMES[0], NAMES[2]]), &parts);
    let error = result.unwrap_err();
    assert_eq!(class(&error), ErrorClass::NotThere);
    assert_eq!(
        error.to_string(),
        "the export has no meta context \"qemu:dirty-bitmap:b0\"; \
         it has base:allocation, qemu:dirty-bitmap:other"
    );
    let mut disc = Vec::new();
    RequestHeader { flags: 0, command: 2, cookie: 0, offset: 0, length: 0 }
        .encode(Headers::Extended, &mut disc);
    assert!(sent.ends_with(&disc), "a connection that has begun ends with DISC");
}

#[test]
fn a_plain_list_without_qemu_contexts_is_asked_again() {
    let parts = [
        rep(8, ACK, &[]),
        rep(10, ACK, &[]),
        meta(9, 0, NAMES[2]),
        rep(9, ACK, &[]),
        meta(9, 0, "qemu:dirty-bitmap:x"),
        rep(9, ACK, &[]),
        go_ok(),
    ];
    let mut wish = config(&NAMES[..1]);
    wish.headers = Headers::Structured;
    wish.contexts[0].required = false;
    let (export, _) = run_config(wish, &parts).0.unwrap();
    assert_eq!(export.offered.unwrap(), [NAMES[2], "qemu:dirty-bitmap:x"]);
}

#[test]
fn an_unknown_export_is_called_so_even_where_contexts_are_missing() {
    let unknown = 0x8000_0006;
    let parts = [
        rep(11, ACK, &[]),
        rep(10, unknown, b"export 'disk' not present"),
        rep(9, unknown, b""),
        rep(7, unknown, b"export 'disk' not present"),
    ];
    let (result, sent) = run_config(config(&NAMES), &parts);
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "the server has no export \"disk\": export 'disk' not present");
    assert_eq!(class(&error), ErrorClass::NotThere);
    assert!(sent.ends_with(b"IHAVEOPT\0\0\0\x02\0\0\0\0"), "ABORT");
}

#[test]
fn tls_required_and_other_reasons_are_told_apart() {
    for (code, reason) in [
        (2, Refusal(0x8000_0002)),
        (5, Refusal::TLS_REQUIRED),
        (7, Refusal::SHUTDOWN),
        (8, Refusal(0x8000_0008)),
    ] {
        let error = error_of(&[], &[rep(11, ACK, &[]), rep(7, 0x8000_0000 + code, &[])]);
        assert!(matches!(error, HandshakeError::Refused { reason: got, .. } if got == reason), "{error}");
    }
}

#[test]
fn shutdown_ends_the_handshake_at_any_option() {
    let (result, sent) = run_config(config(&[]), &[rep(11, 0x8000_0007, &[])]);
    assert!(matches!(result, Err(HandshakeError::Refused { reason: Refusal::SHUTDOWN, .. })));
    assert!(sent.ends_with(b"IHAVEOPT\0\0\0\x02\0\0\0\0"), "ABORT");
}

#[test]
fn starttls_waits_for_the_caller_and_bears_no_byte_after_its_answer() {
    let mut wish = config(&[]);
    wish.start_tls = true;
    let start = || {
        let mut handshake = Handshake::new(wish.clone()).unwrap();
        handshake.feed(HELLO).unwrap();
        assert_eq!(handshake.take_output(), b"\0\0\0\x03IHAVEOPT\0\0\0\x05\0\0\0\0");
        handshake
    };
    let mut handshake = start();
    handshake.feed(&rep(5, ACK, &[])).unwrap();
    assert_eq!(handshake.status(), HandshakeStatus::NeedsTls);
    handshake.tls_started();
    assert_eq!(handshake.take_output(), b"IHAVEOPT\0\0\0\x0b\0\0\0\0");

    let injected = [rep(5, ACK, &[]), rep(11, ACK, &[])].concat();
    assert_eq!(start().feed(&injected), Err(HandshakeError::BytesAfterStartTls(20)));
    let mut late = start();
    late.feed(&injected[..20]).unwrap();
    assert_eq!(late.feed(&injected[20..]), Err(HandshakeError::BytesAfterStartTls(20)));
}

#[test]
fn names_that_cannot_be_sent() {
    for name in ["", "a\0b", &"n".repeat(4097)] {
        let error = Handshake::new(config(&[name])).unwrap_err();
        assert_eq!(class(&error), ErrorClass::Other, "{error}");
    }
    assert!(Handshake::new(config(&["a:b", "a:b"])).is_err());
    assert!(Handshake::new(HandshakeConfig::new("n".repeat(4097))).is_err());
}
