//! SERVER-BEHAVIOUR.md, rows 71 to 89: what a server may do wrong with reads and writes. Each test
//! is one of its rows, and judges each kind of client.
#![cfg(target_os = "linux")]

use std::io::Result;

use nbd_client::frame::command;
use nbd_client::session::{ReadRequest, RequestError, RequestFault, StartError, StatusRequest, take_all};
use nbd_client::{Error, Options};
use testkit::behaviour::{RowVerdict, words};
use testkit::clients::{AnyClient, Kind};
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest, bytes};

const DATA: u16 = 1;
const HOLE: u16 = 2;
const EIO: u32 = 5;
const ESHUTDOWN: u32 = 108;
/// The offset and the length of the read in each row.
const AT: u64 = 4096;
const LENGTH: u64 = 1024;

type Answer = fn(&mut Conn, &SeenRequest) -> Result<()>;
type Call = fn(&mut AnyClient) -> core::result::Result<(), Error>;

fn both() -> [Good; 2] {
    [Good::compact(), Good::extended()]
}

fn content(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length).map(|at| (at % 251) as u8 | 1).collect()
}

/// The whole answer of an honest server.
fn honest(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    match request.command {
        command::READ => conn.data(request, request.offset, &content(request.offset, request.length), DONE),
        command::BLOCK_STATUS => conn.honest(request, 0),
        _ => conn.done(request),
    }
}

/// The read of all rows that say nothing else; the data have to be right where it goes well.
fn read(client: &mut AnyClient) -> core::result::Result<(), Error> {
    let buffer = client.read(AT, LENGTH as usize)?;
    let holes = buffer.iter().all(|&byte| byte == 0);
    assert!(holes || buffer == content(AT, LENGTH) || buffer[512..] == [0; 512], "wrong data");
    Ok(())
}

fn status(client: &mut AnyClient) -> core::result::Result<(), Error> {
    client.block_status(&StatusRequest::new(AT, LENGTH))
}

fn write(client: &mut AnyClient) -> core::result::Result<(), Error> {
    client.write(AT, &[1; LENGTH as usize])
}

/// The outcome of the first request, for a lenient and a strict client; later ones are answered
/// honestly. Where a request fails the connection has to stay in step, and where the connection
/// fails it has to stay so.
fn check(row: &str, goods: &[Good], call: Call, answer: Answer) {
    check_kinds(row, &Kind::ALL, goods, call, answer);
}

/// As [`check`], where the call is a single request with its events.
fn check_events(row: &str, goods: &[Good], call: Call, answer: Answer) {
    check_kinds(row, &Kind::WITH_EVENTS, goods, call, answer);
}

fn check_kinds(row: &str, kinds: &[Kind], goods: &[Good], call: Call, answer: Answer) {
    for good in goods {
        let good = good.clone().flags(1 | 1 << 7);
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&good)?;
            let mut first = true;
            conn.serve(|conn, request| {
                if core::mem::take(&mut first) { answer(conn, request) } else { honest(conn, request) }
            })
        })
        .unwrap();
        let (lenient, strict) = words(row);
        for &kind in kinds {
            for (expected, is_strict) in [(lenient, false), (strict, true)] {
                let options = Options::new().require_context("base:allocation").strict(is_strict);
                let mut client = kind.connect(&server.uri().parse().unwrap(), &options).unwrap();
                let result = call(&mut client);
                let case = format!("row {row}, {kind:?}, strict: {is_strict}");
                let word = match &result {
                    Ok(()) => RowVerdict::Accept,
                    Err(Error::Request(_)) => RowVerdict::RequestError,
                    Err(Error::Protocol(_) | Error::ConnectionLost(_)) => RowVerdict::Fatal,
                    Err(other) => panic!("{case}: {other}"),
                };
                assert_eq!(word, expected, "{case}: {result:?}");
                let next = read(&mut client);
                match (word, next) {
                    (RowVerdict::Fatal, Err(Error::GivenUp))
                    | (RowVerdict::Accept | RowVerdict::RequestError, Ok(())) => {}
                    (_, next) => panic!("{case}: the next request: {next:?}"),
                }
            }
        }
    }
}

#[test]
fn row_71_data_and_holes_in_any_order() {
    check("71", &both(), read, |conn, request| {
        conn.hole(request, AT + 768, 256, 0)?;
        conn.data(request, AT, &content(AT, 512), 0)?;
        conn.hole(request, AT + 512, 256, DONE)
    });
    check("71", &both(), read, |conn, request| {
        conn.data(request, AT + 256, &content(AT + 256, 768), 0)?;
        conn.data(request, AT, &content(AT, 256), 0)?;
        conn.chunk(request, DONE, 0, &[])
    });
}

#[test]
fn row_72_content_outside_of_the_read() {
    let answers: [Answer; 6] = [
        |conn, request| conn.data(request, AT - 1, &content(AT - 1, LENGTH), DONE),
        |conn, request| conn.data(request, AT, &content(AT, LENGTH + 1), DONE),
        |conn, request| conn.data(request, AT + LENGTH, &[1], DONE),
        |conn, request| conn.data(request, u64::MAX, &[1; 512], DONE),
        |conn, request| conn.hole(request, AT, u32::MAX, DONE),
        |conn, request| conn.hole(request, u64::MAX - 1, 512, DONE),
    ];
    answers.into_iter().for_each(|answer| check("72", &both(), read, answer));
}

#[test]
fn row_73_content_that_comes_again() {
    let answers: [Answer; 3] = [
        |conn, request| {
            conn.data(request, AT, &content(AT, LENGTH), 0)?;
            conn.data(request, AT, &content(AT, LENGTH), DONE)
        },
        |conn, request| {
            conn.hole(request, AT, 513, 0)?;
            conn.data(request, AT + 512, &content(AT + 512, 512), DONE)
        },
        |conn, request| {
            conn.data(request, AT + 100, &content(AT + 100, 100), 0)?;
            conn.data(request, AT, &content(AT, LENGTH), DONE)
        },
    ];
    answers.into_iter().for_each(|answer| check("73", &both(), read, answer));
}

#[test]
fn row_74_content_that_does_not_come() {
    let answers: [Answer; 3] = [
        |conn, request| conn.chunk(request, DONE, 0, &[]),
        |conn, request| conn.data(request, AT, &content(AT, LENGTH - 1), DONE),
        |conn, request| {
            conn.data(request, AT, &content(AT, 500), 0)?;
            conn.hole(request, AT + 501, 523, DONE)
        },
    ];
    answers.into_iter().for_each(|answer| check("74", &both(), read, answer));
}

#[test]
fn row_75_data_chunk_without_data() {
    let answers: [Answer; 3] = [
        |conn, request| conn.data(request, AT, &[], DONE),
        |conn, request| conn.chunk(request, DONE, DATA, &[0; 7]),
        |conn, request| conn.chunk(request, DONE, DATA, &[]),
    ];
    answers.into_iter().for_each(|answer| check("75", &both(), read, answer));
}

#[test]
fn row_76_hole_of_a_wrong_length() {
    let answers: [Answer; 4] = [
        |conn, request| conn.hole(request, AT, 0, DONE),
        |conn, request| conn.chunk(request, DONE, HOLE, &[0; 11]),
        |conn, request| conn.chunk(request, DONE, HOLE, &[0; 16]),
        |conn, request| conn.chunk(request, DONE, HOLE, &[]),
    ];
    answers.into_iter().for_each(|answer| check("76", &both(), read, answer));
}

#[test]
fn row_77_content_after_the_last_chunk() {
    check_events("77", &both(), two_reads, |conn, request| {
        honest(conn, request)?;
        honest(conn, request)
    });
    check_events("77", &both(), two_reads, |conn, request| {
        conn.error(request, EIO, "", DONE)?;
        honest(conn, request)
    });
}

/// Two reads in flight, so that bytes after the first are seen.
fn two_reads(client: &mut AnyClient) -> core::result::Result<(), Error> {
    for _ in 0..2 {
        client.start(|session| session.start_read(&ReadRequest::new(AT), vec![0; LENGTH as usize]))?;
    }
    while client.next_event(&mut take_all)?.is_some() {}
    Ok(())
}

#[test]
fn row_78_failure_in_the_middle_of_a_read() {
    let answers: [Answer; 3] = [
        |conn, request| {
            conn.data(request, AT, &content(AT, 512), 0)?;
            conn.error(request, EIO, "bad sector", DONE)
        },
        |conn, request| {
            conn.error(request, EIO, "bad sector", 0)?;
            conn.data(request, AT, &content(AT, LENGTH), DONE)
        },
        |conn, request| {
            conn.data(request, AT, &content(AT, LENGTH), 0)?;
            let offset = [&bytes::error(EIO, b"late")[..], &AT.to_be_bytes()].concat();
            conn.chunk(request, DONE, 0x8002, &offset)
        },
    ];
    answers.into_iter().for_each(|answer| check("78", &both(), read, answer));
}

#[test]
fn row_79_block_status_for_a_read() {
    check("79", &both(), read, |conn, request| conn.status(request, 0, &[(LENGTH, 0)], DONE));
}

#[test]
fn row_80_content_for_block_status() {
    let answers: [Answer; 2] = [
        |conn, request| conn.data(request, AT, &content(AT, LENGTH), DONE),
        |conn, request| conn.hole(request, AT, LENGTH as u32, DONE),
    ];
    answers.into_iter().for_each(|answer| check_events("80", &both(), status, answer));
}

#[test]
fn row_81_simple_success_of_a_read_where_replies_are_structured() {
    check("81", &[Good::compact()], read, |conn, request| {
        conn.simple(request, 0)?;
        conn.send(&content(AT, LENGTH))
    });
}

#[test]
fn row_82_simple_reply_where_headers_are_extended() {
    check("82", &[Good::extended()], write, |conn, request| conn.simple(request, 0));
    check("82", &[Good::extended()], read, |conn, request| conn.simple(request, EIO));
}

#[test]
fn row_83a_simple_error_of_a_read() {
    check("83a", &[Good::compact()], read, |conn, request| conn.simple(request, EIO));
}

#[test]
fn row_83b_simple_success_of_a_write() {
    check("83b", &[Good::compact()], write, |conn, request| conn.simple(request, 0));
}

#[test]
fn row_84_several_chunks_where_one_was_asked_for() {
    check_events("84", &both(), read_df, |conn, request| {
        conn.data(request, AT, &content(AT, 512), 0)?;
        conn.data(request, AT + 512, &content(AT + 512, 512), DONE)
    });
}

fn read_df(client: &mut AnyClient) -> core::result::Result<(), Error> {
    client.one(|session| session.start_read(&ReadRequest::new(AT).df(), vec![0; LENGTH as usize])).map(drop)
}

#[test]
fn row_85_an_answer_where_only_success_is_due() {
    let answers: [Answer; 3] = [
        |conn, request| conn.data(request, AT, &content(AT, LENGTH), DONE),
        |conn, request| conn.hole(request, AT, LENGTH as u32, DONE),
        |conn, request| conn.status(request, 0, &[(LENGTH, 0)], DONE),
    ];
    answers.into_iter().for_each(|answer| check("85", &both(), write, answer));
}

#[test]
fn row_86_the_end_in_the_middle_of_data() {
    check("86", &both(), read, |conn, request| {
        conn.cut_after(300);
        conn.data(request, AT, &content(AT, LENGTH), DONE)
    });
}

#[test]
fn row_87_more_separate_pieces_than_are_remembered() {
    check_events("87", &[Good::compact()], read_much, |conn, request| {
        for nth in 0..20_000 {
            // the chunks of a request that failed are counted, so the rest is one
            let flags = if nth == 8192 { DONE } else { 0 };
            conn.data(request, nth * 2, &[1], flags)?;
            if flags == DONE {
                break;
            }
        }
        Ok(())
    });
}

fn read_much(client: &mut AnyClient) -> core::result::Result<(), Error> {
    client.one(|session| session.start_read(&ReadRequest::new(0), vec![0; 1 << 20])).map(drop)
}

/// The client MUST disconnect then, so the next request cannot be asked: a row of its own shape.
#[test]
fn row_88_shutdown_of_a_write() {
    assert_eq!(words("88"), (RowVerdict::RequestError, RowVerdict::RequestError));
    for (good, kind) in both().into_iter().flat_map(|good| Kind::ALL.map(|kind| (good.clone(), kind))) {
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&good.clone().flags(1))?;
            let request = conn.request()?;
            conn.error(&request, ESHUTDOWN, "going down", DONE)?;
            assert_eq!(conn.request()?.command, command::DISC);
            Ok(())
        })
        .unwrap();
        let mut client = kind.connect(&server.uri().parse().unwrap(), &Options::new()).unwrap();
        let error = write(&mut client).unwrap_err();
        assert!(matches!(&error, Error::Request(error) if error.is_shutdown()), "{kind:?}: {error}");
        let next = write(&mut client).unwrap_err();
        // as the documentation says of Error::request
        let is_usable = next.request().is_some_and(|request| !request.is_shutdown());
        assert!(!is_usable, "{kind:?}: {next}");
        let reason = match &next {
            Error::Start(reason) => reason,
            // of a pool only the thread or task of the connection knows
            Error::Request(RequestError { fault: RequestFault::NotStarted(reason), .. })
                if kind.is_pool() =>
            {
                reason.as_ref()
            }
            _ => panic!("{kind:?}: {next}"),
        };
        assert_eq!(reason, &StartError::Ending, "{kind:?}");
    }
}

#[test]
fn row_89_a_data_chunk_of_more_than_the_limit() {
    check("89", &both(), read, |conn, request| conn.chunk_header(request, DONE, DATA, (1 << 25) + 65));
}
