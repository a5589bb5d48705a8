//! Reads, writes and the other commands: requests that are allowed, the bytes sent, the effect of
//! each answer. A table judges each bound, and a model that writes bytes judges the rest.

#![allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]

use super::*;
use crate::export::{BlockSizes, TransmissionFlags};
use crate::frame::{During, Headers, command, command_flag};
use nbd_extents::Strictness;
use proptest::prelude::*;

const DONE: u16 = 1;
const DATA: u16 = 1;
const HOLE: u16 = 2;
/// HAS_FLAGS and all commands, FUA, DF, FAST_ZERO.
const ALL: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 11;
const MIB: u64 = 1 << 20;

fn config(headers: Headers) -> SessionConfig {
    let mut config = SessionConfig::new(headers, [0]);
    (config.export.size, config.export.flags) = (1 << 40, TransmissionFlags(ALL));
    config
}

fn structured() -> SessionConfig {
    config(Headers::Structured)
}

fn chunk(config: &SessionConfig, flags: u16, kind: u16, cookie: u64, offset: u64, payload: &[u8]) -> Vec<u8> {
    let numbers = [&flags.to_be_bytes()[..], &kind.to_be_bytes(), &cookie.to_be_bytes()].concat();
    let length = payload.len();
    if config.export.headers == Headers::Extended {
        let (magic, length) = (0x6e8a_278c_u32.to_be_bytes(), (length as u64).to_be_bytes());
        [&magic[..], &numbers, &offset.to_be_bytes(), &length, payload].concat()
    } else {
        let (magic, length) = (0x668e_33ef_u32.to_be_bytes(), (length as u32).to_be_bytes());
        [&magic[..], &numbers, &length, payload].concat()
    }
}

fn simple(error: u32, cookie: u64) -> Vec<u8> {
    [&0x6744_6698_u32.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes()].concat()
}

/// The payload of a data chunk.
fn data(offset: u64, bytes: &[u8]) -> Vec<u8> {
    [&offset.to_be_bytes()[..], bytes].concat()
}

/// The payload of a hole chunk.
fn hole(offset: u64, size: u32) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &size.to_be_bytes()].concat()
}

/// All events that these bytes bring, in pieces of this length.
fn feed(session: &mut Session, bytes: &[u8], piece: usize) -> Result<Vec<Event>, ProtocolError> {
    let mut events = Vec::new();
    for mut rest in bytes.chunks(piece) {
        while !rest.is_empty() {
            let count = session.feed(rest, &mut take_all)?;
            rest = &rest[count..];
            events.extend(core::iter::from_fn(|| session.poll()));
        }
    }
    Ok(events)
}

/// The fault of request 1, a read of 64 bytes from 1000, that has this answer.
fn fault_of(config: &SessionConfig, request: &ReadRequest, answer: &[u8]) -> Option<RequestFault> {
    let mut session = Session::new(config.clone());
    session.start_read(request, vec![0; 64]).unwrap();
    session.take_output();
    match feed(&mut session, answer, 1000).unwrap().pop() {
        Some(Event::Failed { error, .. }) => Some(error.fault),
        Some(Event::Done { .. }) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_to_a_read_are_whole_once_and_inside_of_it() {
    for config in [structured(), config(Headers::Extended)] {
        let part = |flags, kind, payload: &[u8]| chunk(&config, flags, kind, 1, 1000, payload);
        let fault = |parts: &[Vec<u8>]| fault_of(&config, &ReadRequest::new(1000), &parts.concat());
        let whole = data(1000, &[7; 64]);
        assert_eq!(fault(&[part(DONE, DATA, &whole)]), None);
        assert_eq!(fault(&[part(0, DATA, &whole), part(DONE, 0, &[])]), None);
        assert_eq!(fault(&[part(0, HOLE, &hole(1000, 64)), part(DONE, 0, &[])]), None);
        assert_eq!(fault(&[part(0, DATA, &data(1032, &[7; 32])), part(DONE, HOLE, &hole(1000, 32))]), None);
        let missing = |at| Some(RequestFault::MissingData(at));
        assert_eq!(fault(&[part(DONE, DATA, &data(1000, &[7; 63]))]), missing(1063));
        assert_eq!(fault(&[part(DONE, DATA, &data(1001, &[7; 63]))]), missing(1000));
        assert_eq!(fault(&[part(DONE, 0, &[])]), missing(1000));
        let outside = |offset, length| Some(RequestFault::OutsideRead { offset, length });
        assert_eq!(fault(&[part(DONE, DATA, &data(999, &[7; 64]))]), outside(999, 64));
        assert_eq!(fault(&[part(DONE, DATA, &data(1001, &[7; 64]))]), outside(1001, 64));
        assert_eq!(fault(&[part(DONE, HOLE, &hole(1000, 65))]), outside(1000, 65));
        assert_eq!(fault(&[part(DONE, HOLE, &hole(u64::MAX, 65))]), outside(u64::MAX, 65));
        let twice = [part(0, DATA, &whole), part(DONE, HOLE, &hole(1063, 1))];
        assert_eq!(fault(&twice), Some(RequestFault::Overlap { offset: 1063, length: 1 }));
        for (kind, payload) in
            [(DATA, data(1000, &[])), (DATA, vec![0; 3]), (HOLE, vec![0; 11]), (HOLE, vec![0; 13])]
        {
            let length = payload.len() as u64;
            let bad = Some(RequestFault::BadContent { kind, length });
            assert_eq!(fault(&[part(DONE, kind, &payload)]), bad, "{length}");
        }
        let empty = Some(RequestFault::BadContent { kind: HOLE, length: 12 });
        assert_eq!(fault(&[part(DONE, HOLE, &hole(1000, 0))]), empty);
        // The first fault counts; the chunks after it are skipped.
        let error = [&5_u32.to_be_bytes()[..], &2_u16.to_be_bytes(), b"no"].concat();
        let failed = fault(&[part(0, 0x8001, &error), part(0, DATA, &whole), part(DONE, DATA, &whole)]);
        assert!(matches!(failed, Some(RequestFault::Server { errno: Errno(5), .. })), "{failed:?}");
    }
}

/// A read that asks for one chunk: a strict client refuses several.
#[test]
fn several_chunks_where_one_was_asked_for() {
    let mut config = structured();
    let two = |config: &SessionConfig, request: ReadRequest| {
        let first = chunk(config, 0, DATA, 1, 0, &data(1000, &[7; 32]));
        let second = chunk(config, DONE, DATA, 1, 0, &data(1032, &[7; 32]));
        fault_of(config, &request, &[first, second].concat())
    };
    assert_eq!(two(&config, ReadRequest::new(1000).df()), None);
    config.strictness = Strictness::Strict;
    assert_eq!(two(&config, ReadRequest::new(1000)), None);
    assert_eq!(two(&config, ReadRequest::new(1000).df()), Some(RequestFault::Fragmented));
    let one = chunk(&config, DONE, DATA, 1, 0, &data(1000, &[7; 64]));
    assert_eq!(fault_of(&config, &ReadRequest::new(1000).df(), &one), None);
}

/// Where replies are simple, the data follow the header.
#[test]
fn simple_replies_to_reads() {
    let config = config(Headers::Simple);
    let mut session = Session::new(config);
    for piece in [1, 7, 1000] {
        let cookie = session.start_read(&ReadRequest::new(5), vec![0; 30]).unwrap();
        let flush = session.start_flush().unwrap();
        session.take_output();
        let bytes: Vec<u8> = (1..=30).collect();
        let answer = [simple(0, cookie.get()), bytes.clone(), simple(5, flush.get())].concat();
        let events = feed(&mut session, &answer, piece).unwrap();
        let [Event::Read { data, .. }, Event::Done { .. }, Event::Failed { error, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((data, error.errno()), (&bytes, Some(Errno(5))));
    }
    // Where they are structured, no one knows whether data follow.
    let mut session = Session::new(structured());
    session.start_read(&ReadRequest::new(5), vec![0; 30]).unwrap();
    session.take_output();
    assert_eq!(feed(&mut session, &simple(0, 1), 1000), Err(ProtocolError::SimpleRead(1)));
    // Where they are extended, none is simple.
    let mut session = Session::new(self::config(Headers::Extended));
    session.start_flush().unwrap();
    session.take_output();
    assert_eq!(feed(&mut session, &simple(0, 1), 1000), Err(ProtocolError::WrongHeaders(0x6744_6698)));
}

/// Where headers are extended the answer to a FLUSH is one chunk, and no other is borne.
#[test]
fn an_answer_without_data_has_room_for_one_chunk() {
    let mut config = config(Headers::Extended);
    config.limits.max_extra_chunks = 0;
    let error = chunk(&config, 0, 0x8001, 1, 0, &[0, 0, 0, 5, 0, 0]);
    let last = chunk(&config, DONE, 0, 1, 0, &[]);
    let answered = |bytes: &[u8]| {
        let mut session = Session::new(config.clone());
        session.start_flush().unwrap();
        session.take_output();
        feed(&mut session, bytes, 1000)
    };
    assert_eq!(answered(&last), Ok(vec![Event::Done { cookie: Cookie(1) }]));
    assert!(matches!(answered(&[error, last].concat()), Err(ProtocolError::EndlessReply { chunks: 2, .. })));
}

/// The statistics count a simple reply among the chunks.
#[test]
fn a_simple_reply_counts_as_a_chunk() {
    let mut session = Session::new(structured());
    session.start_flush().unwrap();
    session.take_output();
    feed(&mut session, &simple(0, 1), 1000).unwrap();
    assert_eq!(session.stats().chunks, 1);
}

/// The bytes sent, header and payload, are those of the protocol.
#[test]
fn requests_on_the_wire() {
    for headers in [Headers::Structured, Headers::Extended] {
        let wide = headers == Headers::Extended;
        let mut session = Session::new(config(headers));
        let header = |flags: u16, command: u16, cookie: u64, offset: u64, length: u64| {
            let magic = if wide { 0x21e4_1c71_u32 } else { 0x2560_9513 };
            let length =
                if wide { length.to_be_bytes().to_vec() } else { (length as u32).to_be_bytes().to_vec() };
            let numbers = [&flags.to_be_bytes()[..], &command.to_be_bytes(), &cookie.to_be_bytes()].concat();
            [&magic.to_be_bytes()[..], &numbers, &offset.to_be_bytes(), &length].concat()
        };
        let payload_len = if wide { command_flag::PAYLOAD_LEN } else { 0 };
        session.start_read(&ReadRequest::new(9).df(), vec![0; 3]).unwrap();
        assert_eq!(session.take_output(), header(command_flag::DF, command::READ, 1, 9, 3));
        session.start_write(&WriteRequest::new(9).fua(), vec![1, 2, 3]).unwrap();
        let write = header(command_flag::FUA | payload_len, command::WRITE, 2, 9, 3);
        assert!(session.has_output());
        assert_eq!(session.take_output(), [&write[..], &[1, 2, 3]].concat());
        assert!(!session.has_output());
        session.start_write_zeroes(&ZeroRequest::new(9, 4).fast().no_hole().fua()).unwrap();
        let flags = command_flag::FAST_ZERO | command_flag::NO_HOLE | command_flag::FUA;
        assert_eq!(session.take_output(), header(flags, command::WRITE_ZEROES, 3, 9, 4));
        session.start_trim(&TrimRequest::new(9, 4).fua()).unwrap();
        assert_eq!(session.take_output(), header(command_flag::FUA, command::TRIM, 4, 9, 4));
        session.start_cache(9, 4).unwrap();
        assert_eq!(session.take_output(), header(0, command::CACHE, 5, 9, 4));
        session.start_flush().unwrap();
        assert_eq!(session.take_output(), header(0, command::FLUSH, 6, 0, 0));
        session.start_block_status(&StatusRequest::new(9, 4).req_one()).unwrap();
        assert_eq!(session.take_output(), header(command_flag::REQ_ONE, command::BLOCK_STATUS, 7, 9, 4));
        let stats = *session.stats();
        let length = if wide { 32 } else { 28 };
        assert_eq!((stats.requests, stats.bytes_sent), (7, 7 * length + 3));
        assert_eq!(session.in_flight(), 7);
        assert_eq!((session.bytes_in_flight(), session.payload_moved()), (6, 3));
        assert_eq!(session.flushes_in_flight(), 1);
        session.disconnect();
        assert_eq!(session.take_output(), header(0, command::DISC, 0, 0, 0));
    }
}

/// A write that is to be durable stays so, however often that is said.
#[test]
fn a_flag_that_is_set_twice_is_set() {
    assert_eq!(WriteRequest::new(9).fua().fua(), WriteRequest::new(9).fua());
    let flags = ZeroRequest::new(9, 4).no_hole().fast();
    assert_eq!(flags.fast().no_hole(), flags);
}

fn started(config: &SessionConfig, request: RequestInfo) -> Result<Cookie, StartError> {
    let mut session = Session::new(config.clone());
    let length = request.length as usize;
    match request.command {
        Command::Read => session.start_read(&ReadRequest::new(request.offset), vec![0; length]),
        Command::Write => session.start_write(&WriteRequest::new(request.offset), vec![0; length]),
        Command::BlockStatus => {
            session.start_block_status(&StatusRequest::new(request.offset, request.length))
        }
        _ => session.start_plain(request),
    }
}

/// The longest request of each kind passes, and one byte more does not.
#[test]
fn lengths_of_each_command() {
    let compact = structured();
    let extended = config(Headers::Extended);
    let mut bounded = structured();
    bounded.export.block_size = Some(BlockSizes::new(512, 4096, 3 << 20).unwrap());
    let mut no_limit = structured();
    no_limit.export.block_size = Some(BlockSizes::new(512, 4096, u32::MAX).unwrap());
    for (config, command, longest, step) in [
        (&compact, Command::Read, 32 * MIB, 1),
        (&compact, Command::Write, 32 * MIB, 1),
        (&compact, Command::Cache, 32 * MIB, 1),
        (&compact, Command::Trim, 1 << 31, 1),
        (&compact, Command::WriteZeroes, 1 << 31, 1),
        (&compact, Command::BlockStatus, 0xffff_fffe, 1),
        (&extended, Command::Read, 32 * MIB, 1),
        (&bounded, Command::Read, 3 * MIB, 512),
        (&bounded, Command::Cache, 3 * MIB, 512),
        (&bounded, Command::Trim, 1 << 31, 512),
        (&no_limit, Command::Write, 32 * MIB, 512),
    ] {
        assert!(started(config, RequestInfo::new(command, 0, longest)).is_ok(), "{command} of {longest}");
        let request = RequestInfo::new(command, 0, longest + step);
        assert_eq!(started(config, request), Err(StartError::TooLong { request, longest }), "{command}");
    }
    for command in [Command::Trim, Command::WriteZeroes, Command::BlockStatus] {
        assert!(started(&extended, RequestInfo::new(command, 0, 1 << 40)).is_ok(), "{command}");
    }
}

/// Inside of the export, and in whole blocks but for its last one.
#[test]
fn ranges_of_requests() {
    let mut config = structured();
    config.export.size = 10_000;
    for (offset, length, inside) in
        [(0, 10_000, true), (9999, 1, true), (0, 10_001, false), (10_000, 1, false), (u64::MAX, 1, false)]
    {
        let request = RequestInfo::new(Command::Read, offset, length);
        let expected =
            if inside { Ok(Cookie(1)) } else { Err(StartError::PastEnd { request, size: 10_000 }) };
        assert_eq!(started(&config, request), expected);
    }
    let nothing = RequestInfo::new(Command::Trim, 0, 0);
    assert_eq!(started(&config, nothing), Err(StartError::ZeroLength(nothing)));
    assert!(started(&config, RequestInfo::FLUSH).is_ok());
    config.export.block_size = Some(BlockSizes::new(512, 4096, 1 << 20).unwrap());
    for (offset, length, is_whole) in [
        (0, 512, true),
        (512, 9488, true),
        (9728, 272, true),
        (0, 500, false),
        (100, 412, false),
        (100, 9900, false),
    ] {
        for command in [Command::Read, Command::Write, Command::Trim, Command::WriteZeroes] {
            let request = RequestInfo::new(command, offset, length);
            let unaligned = Err(StartError::Unaligned { request, minimum: 512 });
            let expected = if is_whole { Ok(Cookie(1)) } else { unaligned };
            assert_eq!(started(&config, request), expected, "{request}");
        }
        assert!(started(&config, RequestInfo::new(Command::BlockStatus, offset, length)).is_ok());
    }
    let session = Session::new(config);
    assert!(session.check_writable(WriteRequest::new(0).of(10_000)).is_ok());
    for request in [WriteRequest::new(1).of(10_000), ZeroRequest::new(1, 10_000).0] {
        let past = Err(StartError::PastEnd { request, size: 10_000 });
        assert_eq!(session.check_writable(request), past);
    }
}

/// Each command and flag needs the server's word for it, and changes need a writable export.
#[test]
fn commands_that_are_not_offered() {
    let with_headers = |headers: Headers, flags: u16| {
        let mut config = config(headers);
        config.export.flags = TransmissionFlags(flags);
        config
    };
    let with = |flags: u16| with_headers(Headers::Structured, flags);
    for (request, bit, name) in [
        (RequestInfo::FLUSH, 2, "FLUSH"),
        (RequestInfo::new(Command::Trim, 0, 1), 5, "TRIM"),
        (RequestInfo::new(Command::WriteZeroes, 0, 1), 6, "WRITE_ZEROES"),
        (RequestInfo::new(Command::Cache, 0, 1), 10, "CACHE"),
        (TrimRequest::new(0, 1).fua().0, 3, "FUA"),
        (ZeroRequest::new(0, 1).fast().0, 11, "FAST_ZERO"),
    ] {
        assert!(started(&with(ALL), request).is_ok());
        assert_eq!(started(&with(ALL & !(1 << bit)), request), Err(StartError::NotOffered(name)));
    }
    for (config, offered) in
        [(with(ALL), true), (with(ALL & !(1 << 7)), false), (with_headers(Headers::Simple, ALL), false)]
    {
        let started = Session::new(config).start_read(&ReadRequest::new(0).df(), vec![0; 1]);
        assert_eq!(started.is_ok(), offered);
    }
    let read_only = with(ALL | 2);
    for command in [Command::Write, Command::Trim, Command::WriteZeroes] {
        let request = RequestInfo::new(command, 0, 1);
        assert_eq!(started(&read_only, request), Err(StartError::ReadOnly(command)));
    }
    for command in [Command::Read, Command::Cache, Command::BlockStatus] {
        assert!(started(&read_only, RequestInfo::new(command, 0, 1)).is_ok());
    }
    assert!(started(&read_only, RequestInfo::FLUSH).is_ok());
    let request = ZeroRequest::new(0, 1).0;
    let refused = Err(StartError::ReadOnly(Command::WriteZeroes));
    assert_eq!(Session::new(read_only).check_writable(request), refused);
}

/// The bounds on requests in flight, each to the byte; one request alone may be longer.
#[test]
fn requests_and_bytes_in_flight_are_bounded() {
    let mut config = structured();
    (config.limits.max_in_flight, config.limits.max_bytes_in_flight) = (3, 100);
    let mut session = Session::new(config);
    let read = |session: &mut Session, length| session.start_read(&ReadRequest::new(0), vec![0; length]);
    assert!(read(&mut session, 60).is_ok() && session.has_room(40) && !session.has_room(41));
    let too_much = StartError::TooMuchInFlight { in_flight: 60, length: 41, limit: 100 };
    assert_eq!(read(&mut session, 41), Err(too_much));
    assert_eq!(session.buffers.take().len(), 41, "its memory is kept");
    assert!(read(&mut session, 40).is_ok());
    assert!(session.start_flush().is_ok());
    assert_eq!(session.start_flush(), Err(StartError::TooManyInFlight(3)));
    session.take_output();
    let answer = chunk(&structured(), DONE, 0x8001, 1, 0, &[0, 0, 0, 5, 0, 0]);
    feed(&mut session, &answer, 1000).unwrap();
    assert_eq!((session.in_flight(), session.bytes_in_flight()), (2, 40));
    let mut alone = structured();
    alone.limits.max_bytes_in_flight = 100;
    assert!(read(&mut Session::new(alone.clone()), 101).is_ok());
    // Beside them the rest of one refused write waits to be sent: the next one cannot be refused
    // before all of that is gone.
    alone.limits.max_bytes_in_flight = 32 << 20;
    let mut session = Session::new(alone);
    let write = |session: &mut Session| session.start_write(&WriteRequest::new(0), vec![0; 32 << 20]);
    let refusal = |cookie| chunk(&structured(), DONE, 0x8001, cookie, 0, &[0, 0, 0, 28, 0, 0]);
    write(&mut session).unwrap();
    session.sent(28);
    let events = feed(&mut session, &refusal(1), 1000).unwrap();
    assert!(matches!(events[..], [Event::Failed { .. }]), "{events:?}");
    write(&mut session).unwrap();
    assert!(matches!(write(&mut session), Err(StartError::TooMuchInFlight { .. })));
    session.start_flush().unwrap();
    assert_eq!(session.output.unsent, (64 << 20) + 2 * 28);
    assert_eq!(feed(&mut session, &refusal(2), 1000), Err(ProtocolError::AnsweredEarly(2)));
}

#[test]
fn a_usual_session_may_write_and_knows_no_more_than_each_server() {
    let usual = SessionConfig::new(Headers::Structured, [7]).export;
    assert_eq!((usual.size, usual.flags), (i64::MAX as u64, TransmissionFlags(1)));
    assert_eq!((usual.headers, usual.contexts[0].id, usual.contexts.len()), (Headers::Structured, 7, 1));
}

#[test]
fn limits_that_two_agree_on_are_the_lower_ones() {
    let one = SessionLimits {
        max_payload: 1,
        max_reply: 20,
        max_extra_chunks: 3,
        max_in_flight: 40,
        max_bytes_in_flight: 5,
    };
    let other = SessionLimits {
        max_payload: 10,
        max_reply: 2,
        max_extra_chunks: 30,
        max_in_flight: 4,
        max_bytes_in_flight: 50,
    };
    let lower = SessionLimits {
        max_payload: 1,
        max_reply: 2,
        max_extra_chunks: 3,
        max_in_flight: 4,
        max_bytes_in_flight: 5,
    };
    assert_eq!((one.lower(other), other.lower(one)), (lower, lower));
}

/// The longest read that comes in one chunk: of the server's blocks, and within the caller's
/// limits.
#[test]
fn the_longest_payload_of_one_chunk() {
    let longest = |blocks: Option<[u32; 3]>, max_payload: u64, max_reply: u64| {
        let mut config = structured();
        config.export.block_size =
            blocks.map(|[minimum, preferred, most]| BlockSizes::new(minimum, preferred, most).unwrap());
        (config.limits.max_payload, config.limits.max_reply) = (max_payload, max_reply);
        Session::new(config).longest_payload()
    };
    let blocks = Some([512, 4096, 1 << 20]);
    assert_eq!(longest(None, u64::MAX, u64::MAX), 1 << 25);
    assert_eq!(longest(None, 1008, u64::MAX), 1000);
    assert_eq!(longest(None, u64::MAX, 1008), 1000);
    assert_eq!(longest(None, 8, 8), 1, "no less than a byte");
    assert_eq!(longest(blocks, u64::MAX, u64::MAX), 1 << 20);
    assert_eq!(longest(blocks, 2055, u64::MAX), 1536);
    assert_eq!(longest(blocks, 2056, u64::MAX), 2048);
    assert_eq!(longest(blocks, 100, u64::MAX), 512, "no less than a block");
}

#[test]
fn names_and_kinds_of_commands() {
    for (command, name, number, writes) in [
        (Command::Read, "READ", 0, false),
        (Command::Write, "WRITE", 1, true),
        (Command::Flush, "FLUSH", 3, false),
        (Command::Trim, "TRIM", 4, true),
        (Command::Cache, "CACHE", 5, false),
        (Command::WriteZeroes, "WRITE_ZEROES", 6, true),
        (Command::BlockStatus, "BLOCK_STATUS", 7, false),
    ] {
        assert_eq!((command.to_string().as_str(), command as u16), (name, number));
        assert_eq!(command.writes(), writes, "{name}");
        let text = RequestInfo::new(command, 5, 6).to_string();
        let expected = if name == "FLUSH" { name.to_owned() } else { format!("{name} of 6 bytes at 5") };
        assert_eq!(text, expected);
    }
    for (number, name) in [(1, "EPERM"), (5, "EIO"), (12, "ENOMEM"), (22, "EINVAL"), (28, "ENOSPC")] {
        assert_eq!(Errno(number).to_string(), name);
    }
    let names = [Errno::EOVERFLOW, Errno::ENOTSUP, Errno::ESHUTDOWN].map(|errno| errno.to_string());
    assert_eq!(names, ["EOVERFLOW", "ENOTSUP", "ESHUTDOWN"]);
    assert_eq!(Errno(13).to_string(), "error 13");
}

#[test]
fn errors_of_a_request_by_kind() {
    let error = |command, errno| {
        let fault = RequestFault::Server { errno, text: Default::default(), offset: None };
        RequestError { request: RequestInfo::new(command, 0, 1), fault }
    };
    for (command, errno, is_shutdown, is_full) in [
        (Command::Write, Errno::ENOSPC, false, true),
        (Command::Trim, Errno::ENOSPC, false, true),
        (Command::Flush, Errno::ENOSPC, false, true),
        (Command::Read, Errno::ENOSPC, false, false),
        (Command::BlockStatus, Errno::ENOSPC, false, false),
        (Command::Write, Errno::ESHUTDOWN, true, false),
        (Command::Read, Errno::EINVAL, false, false),
    ] {
        let error = error(command, errno);
        assert_eq!(
            (error.errno(), error.is_shutdown(), error.is_full()),
            (Some(errno), is_shutdown, is_full)
        );
    }
    let missing = RequestError { request: RequestInfo::FLUSH, fault: RequestFault::MissingData(5) };
    assert_eq!((missing.errno(), missing.is_shutdown(), missing.is_full()), (None, false, false));
    for (reason, is_shutdown) in [(StartError::Ending, true), (StartError::Busy(1), false)] {
        let fault = RequestFault::NotStarted(Box::new(reason));
        let unsent = RequestError { request: RequestInfo::FLUSH, fault };
        assert_eq!((unsent.errno(), unsent.is_shutdown()), (None, is_shutdown));
    }
}

/// A request cannot be answered before it was sent: success needs all of it, an error its header.
#[test]
fn answers_before_the_question() {
    let cut = |sent: usize, errno: u32| {
        let mut session = Session::new(structured());
        session.start_write(&WriteRequest::new(0), vec![7; 100]).unwrap();
        session.sent(sent);
        feed(&mut session, &simple(errno, 1), 1000).map(|events| events.len())
    };
    assert_eq!(cut(27, 5), Err(ProtocolError::AnsweredEarly(1)));
    assert_eq!(cut(28, 5), Ok(1));
    assert_eq!(cut(127, 0), Err(ProtocolError::AnsweredEarly(1)));
    assert_eq!(cut(128, 0), Ok(1));
}

/// Where the stream ends within a message, the error names the message and the bytes that had come.
#[test]
fn ends_of_the_stream_within_an_answer() {
    let mut session = Session::new(structured());
    assert_eq!(session.eof(), None);
    session.start_read(&ReadRequest::new(0), vec![0; 64]).unwrap();
    session.take_output();
    let answer = chunk(&structured(), DONE, DATA, 1, 0, &data(0, &[7; 64]));
    for (at, &byte) in answer.iter().enumerate() {
        let eof = session.eof().unwrap();
        let expected = match at {
            0..4 => (During::ReplyHeader, at as u64, 16),
            4..20 => (During::ReplyHeader, at as u64, 20),
            _ => (During::Payload, at as u64 - 20, 72),
        };
        assert_eq!((eof.during, eof.got, eof.expected), expected, "byte {at}");
        session.feed(&[byte], &mut take_all).unwrap();
    }
    assert_eq!(session.eof(), None);
    assert_eq!(session.unowned, 1, "its last event is not polled");
    assert_eq!((session.payload_moved(), session.stats().bytes_received), (72, answer.len() as u64));
    while session.poll().is_some() {}
    assert_eq!(session.unowned, 0);
}

/// Requests of transfers have an owner, whose reply is known while it comes.
#[test]
fn parts_of_transfers_belong_to_their_owner() {
    let mut session = Session::new(structured());
    let terms = RequestInfo::new(Command::Read, 100, 64);
    let cookie = session.start_part(9, terms, 8, false).unwrap();
    session.start_flush().unwrap();
    session.take_output();
    assert_eq!((session.unowned, session.in_flight(), session.receiving_for()), (1, 2, 0));
    let answer = chunk(&structured(), DONE, DATA, cookie.get(), 0, &data(100, &[7; 64]));
    let mut lent = vec![0; 100];
    for &byte in &answer {
        session.space_in(&mut lent)[0] = byte;
        session.advance_in(1, &mut take_all, &mut lent).unwrap();
        let is_under_way = session.eof().is_some_and(|eof| eof.during == During::Payload);
        assert_eq!(session.receiving_for(), if is_under_way { 9 } else { 0 });
    }
    assert_eq!(lent, [vec![0; 8], vec![7; 64], vec![0; 28]].concat());
    assert_eq!(session.poll_owned(), Some((Event::Done { cookie }, 9, 64)));
    assert_eq!(session.unowned, 1);
    // A hole goes to the same place.
    session.start_part(9, terms, 8, false).unwrap();
    session.take_output();
    for &byte in &chunk(&structured(), DONE, HOLE, 3, 0, &hole(100, 64)) {
        session.space_in(&mut lent)[0] = byte;
        session.advance_in(1, &mut take_all, &mut lent).unwrap();
    }
    assert_eq!(lent, [0; 100]);
}

/// Memory: of a read that failed, and of a write that was sent.
#[test]
fn memory_comes_back_when_a_request_is_over() {
    let mut session = Session::new(structured());
    session.start_read(&ReadRequest::new(0), vec![0; 5000]).unwrap();
    session.take_output();
    feed(&mut session, &simple(5, 1), 1000).unwrap();
    assert_eq!(session.buffers.take().len(), 5000);
    session.start_write(&WriteRequest::new(0), vec![0; 6000]).unwrap();
    session.sent(6027);
    assert!(session.buffers.take().is_empty(), "a byte of it is still to be sent");
    session.sent(1);
    assert_eq!(session.buffers.take().len(), 6000);
    let mut read_only = structured();
    read_only.export.flags = TransmissionFlags(3);
    let mut session = Session::new(read_only);
    assert!(session.start_write(&WriteRequest::new(0), vec![0; 7000]).is_err());
    assert_eq!(session.buffers.take().len(), 7000);
}

/// Headers that were sent are forgotten together, and the bytes stay the same.
#[test]
fn many_headers_go_out_as_they_were_put_in() {
    let mut session = Session::new(structured());
    let mut config = structured();
    config.limits.max_in_flight = 10_000;
    session.config = config;
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    for nth in 1..3000_u64 {
        session.start_trim(&TrimRequest::new(nth, 1)).unwrap();
        expected.extend(nth.to_be_bytes());
        // The queue never runs dry: one header and a few bytes of the next are always left.
        let output = session.output().collect::<Vec<_>>().concat();
        assert_eq!((sent.len() + output.len()) as u64, 28 * nth);
        let count = output.len().saturating_sub(33);
        sent.extend_from_slice(&output[..count]);
        session.sent(count);
        assert!(session.output().collect::<Vec<_>>().concat() == output[count..]);
    }
    sent.extend(session.take_output());
    let offsets: Vec<u8> = sent.chunks(28).flat_map(|header| header[16..24].to_vec()).collect();
    assert!(offsets == expected);
}

/// A random answer to a read: the ranges of its chunks, each of data or a hole, in any order.
fn answer() -> impl Strategy<Value = (Vec<(u64, u64, bool)>, bool, usize)> {
    let cuts = prop::collection::vec((1..40_u64, any::<bool>()), 1..12);
    (cuts, any::<u64>(), any::<bool>(), 1..80_usize).prop_map(|(cuts, seed, is_last, piece)| {
        let mut start = 0;
        let mut chunks: Vec<_> = cuts
            .into_iter()
            .map(|(length, is_data)| {
                start += length;
                (start - length, length, is_data)
            })
            .collect();
        let count = chunks.len();
        for nth in 0..count {
            chunks.swap(nth, (seed >> (nth * 5)) as usize % count);
        }
        (chunks, is_last, piece)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn reads_are_the_bytes_of_their_chunks(
        (chunks, is_last, piece) in answer(),
        (extended, lent) in any::<(bool, bool)>(),
        offset in 0..5000_u64,
    ) {
        let config = config(if extended { Headers::Extended } else { Headers::Structured });
        let mut session = Session::new(config.clone());
        let length: u64 = chunks.iter().map(|chunk| chunk.1).sum();
        let mut place = vec![0xa5; length as usize + 3];
        let cookie = if lent {
            let terms = RequestInfo::new(Command::Read, offset, length);
            session.start_part(4, terms, 3, false).unwrap()
        } else {
            session.start_read(&ReadRequest::new(offset), vec![0xa5; length as usize]).unwrap()
        };
        session.take_output();
        let (mut model, mut bytes) = (vec![0; length as usize], Vec::new());
        for (nth, &(start, length, is_data)) in chunks.iter().enumerate() {
            let content: Vec<u8> = (0..length).map(|at| (start * 3 + at + 1) as u8).collect();
            let flags = if is_last && nth + 1 == chunks.len() { DONE } else { 0 };
            if is_data {
                model[start as usize..][..length as usize].copy_from_slice(&content);
                bytes.extend(chunk(&config, flags, DATA, 1, offset, &data(offset + start, &content)));
            } else {
                let size = u32::try_from(length).unwrap();
                bytes.extend(chunk(&config, flags, HOLE, 1, offset, &hole(offset + start, size)));
            }
        }
        if !is_last {
            bytes.extend(chunk(&config, DONE, 0, 1, offset, &[]));
        }
        let mut events = Vec::new();
        for mut rest in bytes.chunks(piece) {
            while !rest.is_empty() {
                let space = session.space_in(&mut place);
                let count = space.len().min(rest.len());
                prop_assert!(count > 0);
                space[..count].copy_from_slice(&rest[..count]);
                session.advance_in(count, &mut take_all, &mut place).unwrap();
                rest = &rest[count..];
                events.extend(core::iter::from_fn(|| session.poll()));
            }
        }
        prop_assert_eq!(events.pop(), Some(Event::Done { cookie }));
        if lent {
            prop_assert!(events.is_empty() && place[..3] == [0xa5; 3] && place[3..] == model);
        } else {
            prop_assert_eq!(events, [Event::Read { cookie, data: model }]);
        }
        prop_assert_eq!((session.in_flight(), session.bytes_in_flight()), (0, 0));
    }
}

#[test]
fn figures_of_failures_and_of_what_was_forgiven() {
    let mut session = Session::new(structured());
    session.start_trim(&TrimRequest::new(0, 1)).unwrap();
    session.start_trim(&TrimRequest::new(0, 1)).unwrap();
    session.take_output();
    let error = [&5_u32.to_be_bytes()[..], &2_u16.to_be_bytes(), b"no"].concat();
    let answers = [chunk(&structured(), DONE, 0x8001, 1, 0, &error), simple(5, 2)];
    assert_eq!(feed(&mut session, &answers.concat(), 1000).unwrap().len(), 2);
    assert_eq!((session.stats().failed, session.stats().done), (2, 0));
    assert_eq!(session.stats().forgiven.total(), 0, "nothing follows the message");
    let mut config = structured();
    config.forgiven.add(crate::stats::Tolerated::ErrorSlop);
    assert_eq!(Session::new(config).stats().forgiven.total(), 1);
    assert_eq!(Cookie(12).to_string(), "12");
}

/// The lowest length that is refused is one beyond the limit.
#[test]
fn a_chunk_may_be_as_long_as_the_limit() {
    let mut config = structured();
    config.limits.max_payload = 72;
    let whole = chunk(&config, DONE, DATA, 1, 0, &data(1000, &[7; 64]));
    assert_eq!(fault_of(&config, &ReadRequest::new(1000), &whole), None);
    config.limits.max_payload = 71;
    let mut session = Session::new(config);
    session.start_read(&ReadRequest::new(1000), vec![0; 64]).unwrap();
    session.take_output();
    let limit = ProtocolError::PayloadTooLong { cookie: 1, length: 72, limit: 71 };
    assert_eq!(feed(&mut session, &whole, 1000), Err(limit));
    // A hole chunk has 12 bytes, and neither fewer nor more.
    let longer = [&hole(1000, 64)[..], &[0]].concat();
    let longer = chunk(&structured(), DONE, HOLE, 1, 0, &longer);
    let bad = Some(RequestFault::BadContent { kind: HOLE, length: 13 });
    assert_eq!(fault_of(&structured(), &ReadRequest::new(1000), &longer), bad);
}

/// After the error of a status reply only chunks that could have been its own are borne.
#[test]
fn late_chunks_are_of_status() {
    for (kind, payload, is_borne) in [
        (5, vec![0; 12], true),
        (0x8001, vec![0, 0, 0, 5, 0, 0], true),
        (0, vec![], true),
        (DATA, vec![0; 9], false),
    ] {
        let config = SessionConfig::new(Headers::Structured, [0, 1]);
        let mut session = Session::new(config.clone());
        session.start_block_status(&StatusRequest::new(0, 4096)).unwrap();
        session.take_output();
        let error = chunk(&config, DONE, 0x8001, 1, 0, &[0, 0, 0, 5, 0, 0]);
        feed(&mut session, &error, 1000).unwrap();
        let late = feed(&mut session, &chunk(&config, 0, kind, 1, 0, &payload), 1000);
        let unexpected = Err(ProtocolError::UnexpectedChunk { cookie: 1, kind });
        assert_eq!(late, if is_borne { Ok(vec![]) } else { unexpected });
    }
}

/// The payload form of block status: its length, the effect's length, and the contexts.
#[test]
fn a_list_of_contexts_goes_out_with_its_length() {
    let mut config = SessionConfig::new(Headers::Extended, [3, 4, 5]);
    config.export.flags = TransmissionFlags(1 | 1 << 12);
    let mut session = Session::new(config);
    session.start_block_status(&StatusRequest::new(0, 512).only(&[3, 5])).unwrap();
    let output = session.take_output();
    assert_eq!(output[24..32], 16_u64.to_be_bytes());
    assert_eq!(output[32..], [&512_u64.to_be_bytes()[..], &[0, 0, 0, 3, 0, 0, 0, 5]].concat());
    assert_eq!(session.stats().bytes_sent, 48);
}

/// Requests 1 and 2 are parts of transfer 9. Requests 3 and 4 are flushes of no transfer: only
/// these count as unowned, until each is answered.
#[test]
fn requests_of_no_transfer_are_counted_until_they_are_answered() {
    let mut session = Session::new(structured());
    let trim = RequestInfo::new(Command::Trim, 0, 1);
    session.start_part(9, trim, 0, false).unwrap();
    session.start_part(9, trim, 0, false).unwrap();
    session.start_flush().unwrap();
    session.start_flush().unwrap();
    let counted = session.stats().bytes_sent;
    assert_eq!(counted, session.take_output().len() as u64, "bytes count before they are sent");
    assert_eq!((session.unowned, session.flushes_in_flight()), (2, 2));
    for (cookie, unowned, flushes) in [(1, 2, 2), (3, 1, 1), (2, 1, 1), (4, 0, 0)] {
        feed(&mut session, &simple(0, cookie), 1000).unwrap();
        assert_eq!((session.unowned, session.flushes_in_flight()), (unowned, flushes), "{cookie}");
    }
}
