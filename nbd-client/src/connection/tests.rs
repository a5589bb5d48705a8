//! A connection and a server of few rules, without a socket and in simulated time: which requests
//! become of a transfer, what a refusal changes, and when time runs out.

#![allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]

use super::*;
use crate::frame::{Headers, command, command_flag};
use crate::session::{
    Command, Errno, Event, ProtocolError, ReadRequest, RequestError, RequestFault, RequestInfo,
    SessionLimits, StatusRequest, TrimRequest, WriteRequest, take_all,
};
use proptest::prelude::*;
use std::collections::HashMap;
use std::io::{ErrorKind, Read as _};
use std::time::Duration;
use testkit::scripted::bytes;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, SEND_CACHE.
const USUAL: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 10;
const SEND_WRITE_ZEROES: u16 = 1 << 6;
const FAST_ZERO: u16 = 1 << 11;
/// A limit of time that is not the one of the goodbye.
const LIMIT: Duration = Duration::from_secs(20);

/// A request as the server reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    command: u16,
    flags: u16,
    cookie: u64,
    offset: u64,
    length: u64,
    data: Vec<u8>,
}

/// A connection and the other end of it.
struct Talk {
    connection: Connection,
    now: Instant,
    /// The loans of the caller: its buffer for a read, and the data of its write.
    read: Vec<u8>,
    write: Vec<u8>,
}

/// The server's terms.
#[derive(Clone, Copy, Debug)]
struct Terms {
    size: u64,
    flags: u16,
    blocks: Option<[u32; 3]>,
}

impl Terms {
    const fn new(flags: u16) -> Self {
        Self { size: 1 << 40, flags, blocks: None }
    }

    fn hello(self) -> Vec<u8> {
        let blocks = self.blocks.map(|sizes| bytes::option_reply(7, 3, &bytes::block_size_info(sizes)));
        [
            bytes::hello(3),
            bytes::option_reply(8, 1, &[]),
            bytes::option_reply(7, 3, &bytes::export_info(self.size, self.flags)),
            blocks.unwrap_or_default(),
            bytes::option_reply(7, 1, &[]),
        ]
        .concat()
    }
}

impl Talk {
    /// In a handshake without extended headers.
    fn begin(options: &Options) -> Self {
        let now = Instant::now();
        let connection = Connection::new("", &options.clone().headers(Headers::Structured), now).unwrap();
        Self { connection, now, read: Vec::new(), write: Vec::new() }
    }

    /// After the handshake.
    fn open(terms: Terms, options: &Options) -> Self {
        let mut talk = Self::begin(options);
        assert_eq!(talk.hear(&terms.hello()), []);
        assert!(talk.connection.is_open());
        talk.take_output();
        talk
    }

    /// Gives bytes of the server to the connection, and returns the events that they bring.
    fn hear(&mut self, mut input: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !input.is_empty() {
            self.receive(&mut input);
            events.extend(self.events());
            if !self.connection.is_open() {
                self.take_output();
            }
        }
        events
    }

    /// One read, of as many bytes as the connection takes.
    fn receive(&mut self, input: &mut &[u8]) {
        let count = self.connection.space_in(&mut self.read).map(|part| input.read(part).unwrap());
        let mut lent = Lent { admit: None, read: &mut self.read, write: &self.write };
        self.connection.received_in(count.iter().sum(), &mut lent, self.now).unwrap();
    }

    fn events(&mut self) -> Vec<Event> {
        let mut lent = Lent { admit: None, read: &mut self.read, write: &self.write };
        core::iter::from_fn(|| self.connection.poll_in(&mut lent, self.now).unwrap()).collect()
    }

    fn take_output(&mut self) -> Vec<u8> {
        let output = self.connection.output_in(&self.write).collect::<Vec<_>>().concat();
        assert_eq!(self.connection.has_output(), !output.is_empty());
        self.connection.sent(output.len(), self.now);
        assert!(!self.connection.has_output());
        output
    }

    /// The requests that were sent since the last time.
    fn asked(&mut self) -> Vec<Asked> {
        let output = self.take_output();
        let mut rest = output.as_slice();
        let mut asked = Vec::new();
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        while !rest.is_empty() {
            let (header, after) = rest.split_at(28);
            assert_eq!(header[..4], [0x25, 0x60, 0x95, 0x13]);
            let mut request = Asked {
                command: number(&header[6..8]) as u16,
                flags: number(&header[4..6]) as u16,
                cookie: number(&header[8..16]),
                offset: number(&header[16..24]),
                length: number(&header[24..28]),
                data: Vec::new(),
            };
            let data = if request.command == command::WRITE { request.length as usize } else { 0 };
            request.data = after[..data].to_vec();
            rest = &after[data..];
            asked.push(request);
        }
        asked
    }

    /// Memory to spare; empty if there is none.
    fn spare(&self) -> Vec<u8> {
        self.connection.session().map(|session| session.buffers.take()).unwrap_or_default()
    }

    fn begin_transfer(&mut self, transfer: Transfer) -> Cookie {
        self.connection.begin(None, transfer, self.now).unwrap()
    }

    /// Answers one request, with zeroes if it is a read.
    fn answer(&mut self, request: &Asked, errno: u32) -> Vec<Event> {
        let reply = reply(request, errno, &vec![0; request.length as usize]);
        self.hear(&reply)
    }

    /// The requests of a transfer, in order, to a server that takes everything.
    fn all_asked(&mut self, transfer: Transfer) -> Vec<(u16, u16, u64, u64)> {
        self.all_asked_of(transfer, |_| 0).0
    }

    /// As [`Self::all_asked`], by a server of the caller's. Returns the last event too.
    fn all_asked_of(
        &mut self,
        transfer: Transfer,
        errno: impl Fn(&Asked) -> u32,
    ) -> (Vec<(u16, u16, u64, u64)>, Event) {
        self.begin_transfer(transfer);
        let (mut all, mut last) = (Vec::new(), None);
        let mut queue: std::collections::VecDeque<Asked> = self.asked().into();
        while let Some(request) = queue.pop_front() {
            let events = self.answer(&request, errno(&request));
            all.push((request.command, request.flags, request.offset, request.length));
            last = events.into_iter().find(Event::is_last).or(last);
            queue.extend(self.asked());
        }
        assert!(self.connection.is_idle());
        (all, last.unwrap())
    }
}

fn reply(request: &Asked, errno: u32, data: &[u8]) -> Vec<u8> {
    if errno != 0 || request.command != command::READ {
        return bytes::simple_reply(errno, request.cookie);
    }
    let payload = [&request.offset.to_be_bytes()[..], data].concat();
    bytes::structured_chunk(1, 1, request.cookie, &payload)
}

fn read(offset: u64, length: u64) -> Transfer {
    Transfer::new(ReadRequest::new(offset).of(length)).with(Vec::new())
}

fn write(offset: u64, data: Vec<u8>) -> Transfer {
    let request = WriteRequest::new(offset).of(data.len() as u64);
    Transfer::new(request).with(data)
}

fn trim(offset: u64, length: u64) -> Transfer {
    Transfer::new(TrimRequest::new(offset, length).0)
}

/// The pieces of a range, each as long as it may be.
fn pieces(command: u16, flags: u16, start: u64, lengths: &[u64]) -> Vec<(u16, u16, u64, u64)> {
    let starts = lengths.iter().scan(start, |next, &length| {
        *next += length;
        Some(*next - length)
    });
    starts.zip(lengths).map(|(start, &length)| (command, flags, start, length)).collect()
}

// ---- transfers

#[test]
fn every_transfer_is_cut_into_requests_of_its_kind() {
    let plain = || Talk::open(Terms::new(USUAL), &Options::new());
    let reads = plain().all_asked(read(512, 2 * MIB + 4));
    assert_eq!(reads, pieces(command::READ, 0, 512, &[MIB, MIB, 4]));
    let writes = plain().all_asked(write(7, vec![1; MIB as usize + 1]));
    assert_eq!(writes, pieces(command::WRITE, 0, 7, &[MIB, 1]));
    let request = WriteRequest::new(0).fua().of(MIB + 1);
    let bytes = vec![1; MIB as usize + 1];
    let durable = plain().all_asked(Transfer::new(request).with(bytes));
    assert_eq!(durable, pieces(command::WRITE, command_flag::FUA, 0, &[MIB, 1]));
    let trims = plain().all_asked(trim(GIB, 150 * MIB));
    assert_eq!(trims, pieces(command::TRIM, 0, GIB, &[64 * MIB, 64 * MIB, 22 * MIB]));
    let caches = plain().all_asked(Transfer::new(RequestInfo::new(Command::Cache, 0, 40 * MIB)));
    assert_eq!(caches, pieces(command::CACHE, 0, 0, &[32 * MIB, 8 * MIB]));
    let flush = plain().all_asked(Transfer::new(RequestInfo::FLUSH));
    assert_eq!(flush, [(command::FLUSH, 0, 0, 0)]);

    let zero = Transfer::zero(3, 2 * GIB + 5);
    let fast = Talk::open(Terms::new(USUAL | FAST_ZERO), &Options::new()).all_asked(zero);
    assert_eq!(fast, pieces(command::WRITE_ZEROES, command_flag::FAST_ZERO, 3, &[GIB, GIB, 5]));
    let zero = Transfer::zero(3, 65 * MIB);
    assert_eq!(plain().all_asked(zero), pieces(command::WRITE_ZEROES, 0, 3, &[64 * MIB, MIB]));
    let zero = Transfer::zero(3, 2 * MIB);
    let none = Terms::new(USUAL & !SEND_WRITE_ZEROES | FAST_ZERO);
    let data = Talk::open(none, &Options::new()).all_asked(zero);
    assert_eq!(data, pieces(command::WRITE, 0, 3, &[MIB, MIB]));

    let blocks = Terms { blocks: Some([512, 4096, 256 << 10]), ..Terms::new(USUAL) };
    let short = Talk::open(blocks, &Options::new()).all_asked(read(0, 600 * KIB));
    assert_eq!(short, pieces(command::READ, 0, 0, &[256 * KIB, 256 * KIB, 88 * KIB]));
    let short = Talk::open(blocks, &Options::new()).all_asked(trim(0, 600 * KIB));
    assert_eq!(short, pieces(command::TRIM, 0, 0, &[600 * KIB]), "it moves no data");
}

#[test]
fn a_transfer_knows_what_it_moves_and_whether_it_is_nothing() {
    let export = |flags| {
        let talk = Talk::open(Terms::new(flags), &Options::new());
        talk.connection.export().unwrap().clone()
    };
    let usual = export(USUAL);
    let lent = |length| Transfer::new(ReadRequest::new(9).of(length));
    for (transfer, moves, is_nothing) in [
        (read(9, 0), 0, true),
        (read(9, 5), 5, false),
        (lent(0), 0, true),
        (lent(7), 7, false),
        (write(9, Vec::new()), 0, true),
        (write(9, vec![1; 3]), 3, false),
        (Transfer::zero(9, 0), 0, true),
        (Transfer::zero(9, 4), 0, false),
        (trim(9, 0), 0, true),
        (trim(9, 4), 0, false),
        (Transfer::new(RequestInfo::FLUSH), 0, false),
    ] {
        assert_eq!(
            (transfer.request.moves(), transfer.is_nothing(&usual)),
            (moves, is_nothing),
            "{transfer:?}"
        );
    }
    assert!(Transfer::new(RequestInfo::FLUSH).is_nothing(&export(1)), "a server without FLUSH");
}

/// A refusal of length is learned: later transfers of the same command begin with the length that
/// the server took, and other commands do not.
#[test]
fn requests_that_are_too_long_are_halved_down_to_the_length_that_is_never_too_long() {
    for errno in [Errno::EINVAL.0, Errno::EOVERFLOW.0] {
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        let limited = |request: &Asked| if request.length > 300 * KIB { errno } else { 0 };
        let (asked, last) = talk.all_asked_of(read(0, MIB), limited);
        let lengths = |asked: &[(u16, u16, u64, u64)]| asked.iter().map(|it| it.3 / KIB).collect::<Vec<_>>();
        assert_eq!(lengths(&asked), [1024, 512, 512, 256, 256, 256, 256]);
        assert!(matches!(last, Event::Done { .. }));
        let (again, _) = talk.all_asked_of(read(0, MIB), limited);
        assert_eq!(again, pieces(command::READ, 0, 0, &[256 * KIB; 4]), "it is known now");
        let (other, _) = talk.all_asked_of(write(0, vec![0; MIB as usize]), |_| 0);
        assert_eq!(lengths(&other), [1024], "of reads alone");
        // A lower one is learned as well, and a higher one is not.
        let lower = |request: &Asked| if request.length > 128 * KIB { errno } else { 0 };
        let (asked, _) = talk.all_asked_of(read(0, 256 * KIB), lower);
        assert_eq!(lengths(&asked), [256, 128, 128]);
        let (asked, _) = talk.all_asked_of(read(0, 256 * KIB), limited);
        assert_eq!(lengths(&asked), [128, 128]);

        // 64 KiB are never too long.
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        let (asked, last) = talk.all_asked_of(read(5, 64 * KIB), |_| errno);
        assert_eq!(lengths(&asked), [64]);
        let terms = ReadRequest::new(5).of(64 * KIB);
        let Event::Failed { error, .. } = last else { panic!("{last:?}") };
        assert_eq!((error.request, error.errno()), (terms, Some(Errno(errno))));
        let (asked, last) = talk.all_asked_of(read(5, 64 * KIB + 1), |_| errno);
        assert_eq!(asked[0], (command::READ, 0, 5, 64 * KIB + 1));
        assert_eq!(asked[1..], pieces(command::READ, 0, 5, &[32 * KIB, 32 * KIB, 1]));
        assert!(matches!(last, Event::Failed { .. }));
    }
    // Another error says nothing about the length.
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let (asked, last) = talk.all_asked_of(read(0, MIB), |_| 5);
    assert_eq!(asked.len(), 1);
    assert!(matches!(last, Event::Failed { .. }));
}

/// That a request was too long is a guess: until one is done, the refusal may be the reason of a loss.
#[test]
fn a_refusal_is_the_reason_of_a_loss_until_a_request_is_done() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    talk.begin_transfer(read(0, MIB));
    let whole = talk.asked();
    talk.answer(&whole[0], Errno::EINVAL.0);
    let halves = talk.asked();
    let reason = |talk: &Talk| talk.connection.transfers.reason(Error::GivenUp);
    assert!(reason(&talk).is_errno(Errno::EINVAL));
    talk.answer(&halves[0], 0);
    assert!(matches!(reason(&talk), Error::GivenUp));
}

/// EINVAL may be about one range: only where all of it was taken in shorter requests, and no longer
/// one was, is the length the reason.
#[test]
fn a_bad_range_teaches_nothing_about_lengths() {
    let whole = pieces(command::READ, 0, 16 * MIB, &[MIB; 8]);
    for bad in [3 * MIB, 4 * MIB - 1, 3 * MIB + 300 * KIB] {
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        let server = |request: &Asked| {
            let is_bad = (request.offset..request.offset + request.length).contains(&bad);
            if is_bad { Errno::EINVAL.0 } else { 0 }
        };
        let (_, last) = talk.all_asked_of(read(0, 8 * MIB), server);
        assert!(matches!(last, Event::Failed { .. }));
        assert_eq!(talk.all_asked(read(16 * MIB, 8 * MIB)), whole);
    }
    // refused once, while others of this length are taken
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let server = |request: &Asked| if (request.offset, request.length) == (0, MIB) { 22 } else { 0 };
    let (asked, last) = talk.all_asked_of(read(0, 8 * MIB), server);
    assert!(matches!(last, Event::Done { .. }) && asked.len() == 10);
    assert_eq!(talk.all_asked(read(16 * MIB, 8 * MIB)), whole);
    // a true limit is learned once
    let server = |request: &Asked| if request.length > 512 * KIB { 22 } else { 0 };
    let (asked, _) = talk.all_asked_of(read(0, 8 * MIB), server);
    assert_eq!(asked.len(), 8 + 16);
    let (asked, _) = talk.all_asked_of(read(0, 8 * MIB), server);
    assert_eq!(asked.len(), 16);
}

/// EINVAL is not about the length where the server refuses the shortest requests as well.
#[test]
fn a_transfer_that_fails_teaches_nothing_about_lengths() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let (asked, last) = talk.all_asked_of(read(0, MIB), |_| Errno::EINVAL.0);
    assert!(matches!(last, Event::Failed { .. }));
    assert!(asked.iter().any(|it| it.3 == 64 * KIB), "{asked:?}");
    assert_eq!(talk.all_asked(read(0, 2 * MIB)), pieces(command::READ, 0, 0, &[MIB, MIB]));
}

#[test]
fn halves_are_whole_blocks() {
    let block = 1 << 16;
    let blocks = Terms { blocks: Some([block, block, 1 << 25]), ..Terms::new(USUAL) };
    let length = 3 * u64::from(block);
    let (asked, _) = Talk::open(blocks, &Options::new())
        .all_asked_of(trim(0, length), |request| if request.length > u64::from(block) { 22 } else { 0 });
    let block = u64::from(block);
    let expected = [(0, length), (0, block), (block, block), (2 * block, block)];
    assert!(asked.iter().map(|it| (it.2, it.3)).eq(expected), "{asked:?}");
    // One block is never too long.
    let (asked, last) = Talk::open(blocks, &Options::new()).all_asked_of(trim(0, block), |_| 22);
    assert_eq!(asked.len(), 1);
    assert!(matches!(last, Event::Failed { .. }));
    // The last block of a disk may be cut off.
    let uneven = Terms { size: 96 * KIB, ..blocks };
    let (asked, _) = Talk::open(uneven, &Options::new())
        .all_asked_of(trim(0, 96 * KIB), |request| if request.length > block { 22 } else { 0 });
    assert!(asked.iter().map(|it| it.3 / KIB).eq([96, 64, 32]), "{asked:?}");
    let small = Terms { blocks: Some([512, 4096, 1 << 25]), ..Terms::new(USUAL) };
    let (asked, _) = Talk::open(small, &Options::new())
        .all_asked_of(trim(0, 201 * 512), |request| if request.length > 64 * KIB { 22 } else { 0 });
    assert!(asked.iter().map(|it| it.3 / 512).eq([201, 100, 100, 1]), "{asked:?}");
}

#[test]
fn zeroes_go_down_to_the_way_that_the_server_has() {
    let zero = || Transfer::zero(0, 2 * MIB);
    let enotsup = Errno::ENOTSUP.0;
    let fast = Terms::new(USUAL | FAST_ZERO);
    let is_fast = |request: &Asked| request.flags & command_flag::FAST_ZERO != 0;
    let slow = |request: &Asked| if is_fast(request) { enotsup } else { 0 };
    let mut talk = Talk::open(fast, &Options::new());
    let (asked, last) = talk.all_asked_of(zero(), slow);
    let ways = |asked: &[(u16, u16, u64, u64)]| asked.iter().map(|it| (it.0, it.1)).collect::<Vec<_>>();
    let (quick, plain) = ((command::WRITE_ZEROES, command_flag::FAST_ZERO), (command::WRITE_ZEROES, 0));
    assert_eq!(ways(&asked), [quick, plain]);
    assert!(matches!(last, Event::Done { .. }));
    assert_eq!(ways(&talk.all_asked_of(zero(), slow).0), [plain], "it is known now");

    let never = |request: &Asked| if request.command == command::WRITE_ZEROES { enotsup } else { 0 };
    let mut talk = Talk::open(fast, &Options::new());
    let data = (command::WRITE, 0);
    assert_eq!(ways(&talk.all_asked_of(zero(), never).0), [quick, plain, data, data]);
    assert_eq!(ways(&talk.all_asked_of(zero(), never).0), [data, data]);

    // Of a request that is not a transfer of zeroes the error is an error.
    let (asked, last) = Talk::open(fast, &Options::new()).all_asked_of(trim(0, MIB), |_| enotsup);
    assert_eq!(asked.len(), 1);
    assert!(matches!(last, Event::Failed { .. }));
    let (asked, last) = Talk::open(fast, &Options::new()).all_asked_of(zero(), |request| {
        if request.command == command::WRITE { enotsup } else { never(request) }
    });
    assert_eq!(ways(&asked), [quick, plain, data, data], "both parts were in flight");
    assert!(matches!(last, Event::Failed { .. }));
}

/// Answers to FAST_ZERO that come late do not bring it back.
#[test]
fn a_late_refusal_of_the_better_way_changes_nothing() {
    let mut talk = Talk::open(Terms::new(USUAL | FAST_ZERO), &Options::new());
    talk.begin_transfer(Transfer::zero(0, MIB));
    talk.begin_transfer(Transfer::zero(MIB, MIB));
    let asked = talk.asked();
    assert!(asked.iter().all(|request| request.flags == command_flag::FAST_ZERO) && asked.len() == 2);
    talk.answer(&asked[0], Errno::ENOTSUP.0);
    let plain = talk.asked();
    assert_eq!((plain[0].command, plain[0].flags, plain.len()), (command::WRITE_ZEROES, 0, 1));
    talk.answer(&plain[0], Errno::ENOTSUP.0);
    let data = talk.asked();
    assert_eq!((data[0].command, data.len()), (command::WRITE, 1));
    assert!(data[0].data.iter().all(|&byte| byte == 0));
    talk.answer(&asked[1], Errno::ENOTSUP.0);
    assert_eq!(talk.asked()[0].command, command::WRITE, "not WRITE_ZEROES once more");
}

#[test]
fn the_first_error_ends_a_transfer_once_all_its_requests_are_answered() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let cookie = talk.begin_transfer(write(0, vec![3; 10 * MIB as usize]));
    let other = talk.begin_transfer(trim(0, MIB));
    assert_eq!(talk.connection.in_flight(), 2);
    let asked = talk.asked();
    assert_eq!(asked.len(), 9, "8 of the first");
    assert_eq!(talk.connection.transfers.failures().next(), None);
    assert_eq!(talk.answer(&asked[3], 28), []);
    let failures: Vec<_> = talk.connection.transfers.failures().collect();
    let [(failed, failure)] = &failures[..] else { panic!("{failures:?}") };
    assert_eq!((*failed, failure.errno(), failure.request.offset), (cookie, Some(Errno::ENOSPC), 3 * MIB));
    let told = talk.connection.transfers.reason(Error::GivenUp);
    assert_eq!(told.to_string(), Error::from(failure.clone()).to_string());
    for request in asked.iter().filter(|request| request.offset != 3 * MIB && request.command == 1) {
        assert_eq!(talk.asked(), [], "nothing more of it");
        let events = talk.answer(request, if request.offset == 7 * MIB { 0 } else { 5 });
        let is_last = request.offset == 7 * MIB;
        let expected = Event::Failed { cookie, error: failure.clone() };
        assert_eq!(events, if is_last { vec![expected] } else { vec![] });
    }
    assert_eq!(talk.connection.in_flight(), 1);
    assert_eq!(talk.answer(&asked[8], 0), [Event::Done { cookie: other }]);
    assert!(talk.connection.is_idle());
    assert!(talk.spare().capacity() >= 10 * MIB as usize, "its memory comes back");
}

/// A request refused for its length or kind is not sent again once its transfer has failed.
#[test]
fn a_failed_transfer_asks_nothing_again() {
    for (transfer, errno) in
        [(Transfer::zero(0, 3 * GIB), Errno::ENOTSUP.0), (read(0, 3 * MIB), Errno::EINVAL.0)]
    {
        let mut talk = Talk::open(Terms::new(USUAL | FAST_ZERO), &Options::new());
        talk.begin_transfer(transfer);
        let asked = talk.asked();
        assert_eq!(asked.len(), 3);
        talk.answer(&asked[1], 5);
        talk.answer(&asked[0], errno);
        assert_eq!(talk.asked(), []);
        let events = talk.answer(&asked[2], errno);
        assert!(matches!(&events[..], [Event::Failed { error, .. }] if error.errno() == Some(Errno(5))));
        assert_eq!(talk.asked(), []);
    }
}

#[test]
fn transfers_share_what_may_be_in_flight() {
    let limits = |requests, bytes| {
        let limits =
            SessionLimits { max_in_flight: requests, max_bytes_in_flight: bytes, ..Default::default() };
        Talk::open(Terms::new(USUAL), &Options::new().session_limits(limits))
    };
    let offsets = |asked: &[Asked]| asked.iter().map(|request| request.offset / MIB).collect::<Vec<_>>();
    // Eight of the first, then the second has its turn.
    let mut talk = limits(1024, 256 * MIB);
    talk.begin_transfer(read(0, 20 * MIB));
    talk.begin_transfer(read(100 * MIB, 2 * MIB));
    let asked = talk.asked();
    assert_eq!(offsets(&asked), [0, 1, 2, 3, 4, 5, 6, 7, 100, 101]);
    talk.answer(&asked[0], 0);
    assert_eq!(offsets(&talk.asked()), [8]);
    talk.answer(&asked[8], 0);
    assert!(talk.asked().is_empty());
    // Three requests in all: each answer brings one.
    let mut talk = limits(3, 256 * MIB);
    talk.begin_transfer(read(0, 5 * MIB));
    talk.begin_transfer(read(100 * MIB, 2 * MIB));
    let asked = talk.asked();
    assert_eq!(offsets(&asked), [0, 1, 2]);
    talk.answer(&asked[1], 0);
    assert_eq!(offsets(&talk.asked()), [3]);
    // Two and a half MiB in all: a transfer of less than one piece still gets its turn.
    let mut talk = limits(1024, 5 * MIB / 2);
    talk.begin_transfer(read(0, 5 * MIB));
    assert_eq!(offsets(&talk.asked()), [0, 1]);
    // One that is longer than the limit is asked for alone.
    let mut talk = limits(1024, 1000);
    talk.begin_transfer(read(0, 2 * MIB));
    let asked = talk.asked();
    assert_eq!(offsets(&asked), [0]);
    talk.answer(&asked[0], 0);
    assert_eq!(offsets(&talk.asked()), [1]);
    // No request at all is an error, and not a wait for room that never comes.
    let mut talk = limits(0, 256 * MIB);
    talk.begin_transfer(read(0, MIB));
    assert!(matches!(&talk.events()[..], [Event::Failed { error, .. }]
        if matches!(error.fault, RequestFault::NotStarted(_))));
    // A request of the caller's makes room for a part of a transfer when it is answered.
    let mut talk = limits(1, 256 * MIB);
    let now = talk.now;
    talk.connection.start(now, |session| session.start_flush()).unwrap();
    talk.begin_transfer(trim(0, MIB));
    assert_eq!(talk.connection.in_flight(), 2);
    let asked = talk.asked();
    assert_eq!(asked.iter().map(|request| request.command).collect::<Vec<_>>(), [command::FLUSH]);
    talk.answer(&asked[0], 0);
    assert_eq!(talk.asked()[0].command, command::TRIM);
}

/// A transfer that has its part again goes first; an answer to one that waits after it does not
/// bring that one to the front.
#[test]
fn an_answer_changes_nothing_in_the_order_of_those_that_wait() {
    let limits = SessionLimits { max_in_flight: 3, ..Default::default() };
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new().session_limits(limits));
    let offsets = |asked: &[Asked]| asked.iter().map(|request| request.offset >> 19).collect::<Vec<_>>();
    talk.begin_transfer(read(0, 3 * MIB));
    talk.begin_transfer(read(100 * MIB, 5 * MIB));
    let first = talk.asked();
    assert_eq!(offsets(&first), [0, 2, 4]);
    talk.answer(&first[0], 0);
    let second = talk.asked();
    assert_eq!(offsets(&second), [200]);
    talk.answer(&first[1], 22);
    assert_eq!(offsets(&talk.asked()), [2], "half of the part that was too long");
    talk.answer(&second[0], 0);
    assert_eq!(offsets(&talk.asked()), [3], "its other half");
}

/// Its caller does not wait until others that go first have asked for all of their parts.
#[test]
fn a_failure_is_told_at_once_though_others_wait_for_their_turn() {
    let limits = SessionLimits { max_in_flight: 3, ..Default::default() };
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new().session_limits(limits));
    talk.begin_transfer(read(0, 3 * MIB));
    let cookie = talk.begin_transfer(read(100 * MIB, 5 * MIB));
    let first = talk.asked();
    talk.answer(&first[0], 0);
    let second = talk.asked();
    assert_eq!(second[0].offset, 100 * MIB);
    // two parts of the first are too long, and of their four halves two find room
    talk.answer(&first[1], Errno::EINVAL.0);
    talk.answer(&first[2], Errno::EINVAL.0);
    assert_eq!(talk.asked().len(), 2);
    let events = talk.answer(&second[0], 5);
    assert!(matches!(events[..], [Event::Failed { cookie: failed, .. }] if failed == cookie), "{events:?}");
    assert_eq!(talk.asked().len(), 1, "one more half");
}

/// Reads and writes of memory that the caller keeps.
#[test]
fn lent_bytes_are_read_into_and_written_from_where_they_are() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let pattern = |start: u64, length: u64| -> Vec<u8> {
        (start..start + length).map(|at| (at / 1000 % 251) as u8).collect()
    };
    let length = 2 * MIB + 10;
    talk.read = vec![0xa5; length as usize];
    let now = talk.now;
    let transfer = Transfer::new(ReadRequest::new(77).of(length));
    let number = Cookie(1 << 40);
    talk.connection.begin(Some(number), transfer, now).unwrap();
    let asked = talk.asked();
    assert_eq!(asked.len(), 3);
    let replies: Vec<Vec<u8>> = [1, 2, 0]
        .map(|nth: usize| {
            let request = &asked[nth];
            reply(request, 0, &pattern(request.offset, request.length))
        })
        .to_vec();
    assert_eq!(talk.hear(&replies.concat()), [Event::Done { cookie: number }]);
    assert!(talk.read == pattern(77, length));

    talk.write = pattern(5, length);
    let cookie = talk.begin_transfer(Transfer::new(WriteRequest::new(5).of(length)));
    let asked = talk.asked();
    assert!(asked.iter().map(|request| &request.data[..]).collect::<Vec<_>>().concat() == talk.write);
    let replies = asked.iter().map(|request| reply(request, 0, &[])).collect::<Vec<_>>();
    assert_eq!(talk.hear(&replies.concat()), [Event::Done { cookie }]);

    // A loan that ends early is copied: the rest of the bytes is the same.
    let cookie = talk.begin_transfer(Transfer::new(WriteRequest::new(5).of(100)));
    let lent = core::mem::take(&mut talk.write);
    talk.connection.sent(28 + 10, now);
    talk.connection.release(cookie, &lent);
    let rest = talk.connection.output().collect::<Vec<_>>().concat();
    assert!(rest == lent[10..100]);
}

/// A cancelled transfer asks for nothing more, and ends with the answers that are due.
#[cfg(feature = "tokio")]
#[test]
fn a_cancelled_transfer_ends_with_the_answers_in_flight() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let cookie = talk.begin_transfer(trim(0, 20 * 64 * MIB));
    let asked = talk.asked();
    assert_eq!(asked.len(), 8);
    talk.connection.transfers.cancel(cookie);
    let events: Vec<Event> = asked.iter().flat_map(|request| talk.answer(request, 0)).collect();
    assert_eq!(events, [Event::Done { cookie }]);
    assert_eq!(talk.asked(), []);
}

/// It has asked for nothing yet, and another one that waits before it takes the room of every
/// answer.
#[cfg(feature = "tokio")]
#[test]
fn a_transfer_that_is_cancelled_before_it_begins_ends_at_the_next_answer() {
    let limits = SessionLimits { max_in_flight: 1, ..Default::default() };
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new().session_limits(limits));
    let first = talk.begin_transfer(read(0, 3 * MIB));
    let second = talk.begin_transfer(trim(MIB, MIB));
    talk.connection.transfers.cancel(second);
    for (nth, ended) in [Some(second), None, Some(first)].into_iter().enumerate() {
        let asked = talk.asked();
        assert_eq!(asked.iter().map(|it| it.offset).collect::<Vec<_>>(), [nth as u64 * MIB]);
        let events = talk.answer(&asked[0], 0);
        assert_eq!(events.iter().find(|it| it.is_last()).map(Event::cookie), ended);
    }
    assert_eq!(talk.asked(), []);
}

/// The server refuses a part of a write before its data are sent, and the write is cancelled while
/// others are asked for before it. Its data are owed all the same, and its memory is used again.
#[cfg(feature = "tokio")]
#[test]
fn the_data_of_a_cancelled_write_are_sent_to_their_end() {
    let limits = SessionLimits { max_in_flight: 3, ..Default::default() };
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new().session_limits(limits));
    talk.begin_transfer(read(0, MIB));
    let dropped = talk.begin_transfer(write(0, vec![9; 3 * MIB as usize]));
    let output = talk.connection.output().collect::<Vec<_>>().concat();
    let unsent = MIB as usize;
    talk.connection.sent(output.len() - unsent, talk.now);
    let cookie = |at: usize| u64::from_be_bytes(output[at + 8..at + 16].try_into().unwrap());
    let [first, second, third] = [0, 28, 56 + unsent].map(cookie);
    assert_eq!(talk.hear(&bytes::simple_reply(Errno::EINVAL.0, first)), []);
    assert_eq!(talk.hear(&bytes::simple_reply(Errno::EINVAL.0, third)), []);
    talk.connection.transfers.cancel(dropped);
    assert_eq!(talk.hear(&bytes::simple_reply(0, second)), [Event::Done { cookie: dropped }]);
    let next = talk.connection.buffer(3 * MIB as usize);
    let output = talk.take_output();
    let (data, halves) = output.split_at(unsent);
    assert!(data.iter().all(|&byte| byte == 9) && next.len() > unsent);
    assert!(halves.len() == 2 * 28 && halves.starts_with(&[0x25, 0x60, 0x95, 0x13]));
}

#[cfg(feature = "tokio")]
#[test]
fn a_cancelled_transfer_asks_nothing_again() {
    for (transfer, errno) in
        [(Transfer::zero(0, 64 * GIB), Errno::ENOTSUP.0), (read(0, 64 * MIB), Errno::EINVAL.0)]
    {
        let mut talk = Talk::open(Terms::new(USUAL | FAST_ZERO), &Options::new());
        let cookie = talk.begin_transfer(transfer);
        let asked = talk.asked();
        talk.connection.transfers.cancel(cookie);
        let events: Vec<Event> = asked.iter().flat_map(|request| talk.answer(request, errno)).collect();
        assert!(matches!(&events[..], [Event::Failed { error, .. }] if error.errno() == Some(Errno(errno))));
        assert_eq!(talk.asked(), []);
    }
}

/// A transfer of the model: what it is, and where.
#[derive(Clone, Debug)]
enum Job {
    Read(u64, u64),
    Write(u64, u64),
    Zero(u64, u64),
}

const DISK: u64 = 700 << 10;

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let range = || {
        (0..DISK / 512, 1..DISK / 512)
            .prop_map(|(start, length)| (start * 512, (length * 512).min(DISK - start * 512)))
    };
    let job = prop_oneof![
        range().prop_map(|(start, length)| Job::Read(start, length)),
        range().prop_map(|(start, length)| Job::Write(start, length)),
        range().prop_map(|(start, length)| Job::Zero(start, length)),
    ];
    prop::collection::vec(job, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// One transfer after the other, over a disk of bytes. The server answers in any order, and has
    /// a longest request and some ways to write zeroes. Reads give the bytes of the disk, and the
    /// disk gets the bytes of the writes.
    #[test]
    fn transfers_do_to_a_disk_what_they_say(
        jobs in jobs(),
        longest in prop_oneof![Just(64 * KIB), Just(100 * KIB), Just(GIB)],
        zeroing in 0..3_u8,
        seed in any::<u64>(),
    ) {
        let blocks = Some([512, 4096, 160 << 10]);
        let terms = Terms { size: DISK, blocks, flags: USUAL | FAST_ZERO };
        let mut talk = Talk::open(terms, &Options::new());
        let (mut disk, mut model) = (vec![0xa5_u8; DISK as usize], vec![0xa5_u8; DISK as usize]);
        let mut random = seed | 1;
        for (nth, job) in jobs.into_iter().enumerate() {
            let range = |start: u64, length: u64| start as usize..(start + length) as usize;
            let transfer = match job {
                Job::Read(start, length) => read(start, length),
                Job::Write(start, length) => {
                    let data: Vec<u8> = (0..length).map(|at| (at / 512 + nth as u64 * 7) as u8).collect();
                    model[range(start, length)].copy_from_slice(&data);
                    write(start, data)
                }
                Job::Zero(offset, length) => {
                    model[range(offset, length)].fill(0);
                    Transfer::zero(offset, length)
                }
            };
            let cookie = talk.begin_transfer(transfer);
            let (mut asked, mut events) = (talk.asked(), Vec::new());
            while !asked.is_empty() {
                prop_assert!(asked.len() <= 8);
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let request = asked.swap_remove((random >> 33) as usize % asked.len());
                let bytes = range(request.offset, request.length);
                let is_fast = request.flags & command_flag::FAST_ZERO != 0;
                let errno = match request.command {
                    command::WRITE_ZEROES if zeroing == 0 || zeroing == 1 && is_fast => Errno::ENOTSUP.0,
                    _ if request.length > longest => Errno::EINVAL.0,
                    _ => 0,
                };
                match request.command {
                    _ if errno != 0 => {}
                    command::WRITE => disk[bytes.clone()].copy_from_slice(&request.data),
                    command::WRITE_ZEROES => disk[bytes.clone()].fill(0),
                    _ => {}
                }
                let reply = reply(&request, errno, &disk[bytes]);
                events.extend(talk.hear(&reply));
                asked.extend(talk.asked());
            }
            prop_assert!(talk.connection.is_idle());
            prop_assert!(disk == model);
            let mut expected = vec![Event::Done { cookie }];
            if let Job::Read(start, length) = job {
                expected.insert(0, Event::Read { cookie, data: model[range(start, length)].to_vec() });
            }
            prop_assert!(events == expected);
        }
    }
}

/// Each way in which three requests of one read can be answered: with data, with holes, and with both.
/// What was in the spare memory before is nowhere to be seen.
#[test]
fn a_sparse_read_takes_no_memory_for_holes() {
    const PART: usize = 64 << 10;
    const ANSWERS: [&[bool]; 4] = [&[true], &[false], &[true, false], &[false, true]];
    let whole = (3 * PART) as u64;
    for (nth, is_sparse) in (0..64_usize).flat_map(|nth| [(nth, false), (nth, true)]) {
        let blocks = Some([1, 4096, PART as u32]);
        let mut talk = Talk::open(Terms { blocks, ..Terms::new(USUAL) }, &Options::new());
        talk.connection.recycle_buffer(vec![0xee; 3 * PART]);
        let transfer = if is_sparse { Transfer::sparse_read(0..whole) } else { Transfer::read(0..whole) };
        let cookie = talk.begin_transfer(transfer);
        let (mut expected, mut events) = (Vec::new(), Vec::new());
        for (part, request) in talk.asked().iter().enumerate() {
            let answer = ANSWERS[nth >> (2 * part) & 3];
            let length = PART / answer.len();
            for (chunk, &is_data) in answer.iter().enumerate() {
                let offset = request.offset + (chunk * length) as u64;
                expected.resize(expected.len() + length, if is_data { 7 } else { 0 });
                let (kind, content) =
                    if is_data { (1, vec![7; length]) } else { (2, (length as u32).to_be_bytes().to_vec()) };
                let payload = [&offset.to_be_bytes()[..], &content].concat();
                let flags = u16::from(chunk + 1 == answer.len());
                events.extend(talk.hear(&bytes::structured_chunk(flags, kind, request.cookie, &payload)));
            }
        }
        let takes_none = is_sparse && !expected.contains(&7);
        let data = if takes_none { Vec::new() } else { expected };
        assert_eq!(events, [Event::Read { cookie, data }, Event::Done { cookie }], "{nth} {is_sparse}");
        assert_eq!(!talk.spare().is_empty(), takes_none, "{nth} {is_sparse}");
    }
}

// ---- the connection

/// With a cookie of the caller's as well as with one of the connection's.
#[test]
fn a_transfer_beyond_the_end_is_not_begun() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    for cookie in [None, Some(Cookie(9))] {
        let error = talk.connection.begin(cookie, read(1 << 40, 1), talk.now).unwrap_err();
        assert!(matches!(error, Error::Start(StartError::PastEnd { .. })), "{error}");
    }
}

#[test]
fn nothing_can_be_started_before_the_handshake_is_over_or_after_an_error() {
    let mut talk = Talk::begin(&Options::new());
    let now = talk.now;
    let start = |talk: &mut Talk| talk.connection.start(now, |session| session.start_flush()).err();
    assert!(matches!(start(&mut talk), Some(Error::GivenUp)));
    assert!(talk.connection.export().is_none() && talk.connection.session().is_none());
    assert_eq!((talk.connection.in_flight(), talk.connection.is_idle()), (0, true));
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    assert!(start(&mut talk).is_none());
    assert!(!talk.connection.is_idle() && talk.connection.check_alive().is_ok());
    // A reply to no request is a protocol error, and nothing can be started after it.
    talk.connection.space()[..16].copy_from_slice(&bytes::simple_reply(0, 77));
    talk.connection.received(16, now).unwrap();
    let error = talk.connection.poll(&mut take_all, now).unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
    assert!(matches!(talk.connection.poll(&mut take_all, now), Err(Error::GivenUp)));
    assert!(matches!(start(&mut talk), Some(Error::GivenUp)));
    assert!(matches!(talk.connection.check_alive(), Err(Error::GivenUp)));
}

/// A reply that comes while nothing is in flight answers no later request, though it has its number.
#[test]
fn a_reply_before_its_request_is_a_fault() {
    let is_it = |error: &Error| matches!(error, Error::Protocol(ProtocolError::UnknownCookie(2)));
    let both = [bytes::simple_reply(0, 1), bytes::simple_reply(0, 2)].concat();
    // with the last answer, which is told first; the next request is not begun
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let now = talk.now;
    let cookie = talk.connection.start(now, |session| session.start_flush()).unwrap();
    talk.take_output();
    assert_eq!(talk.hear(&both), [Event::Done { cookie }]);
    let error = talk.connection.start(now, |session| session.start_flush()).unwrap_err();
    assert!(is_it(&error) && talk.connection.check_alive().is_err(), "{error}");
    // after it, to a driver that reads all the same
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    talk.connection.start(now, |session| session.start_flush()).unwrap();
    talk.take_output();
    let results: Vec<_> = both
        .chunks(9)
        .map(|piece| {
            talk.connection.space()[..piece.len()].copy_from_slice(piece);
            let received = talk.connection.received(piece.len(), now);
            received.and_then(|()| talk.connection.poll(&mut take_all, now))
        })
        .collect();
    assert!(
        matches!(&results[..], [Ok(None), Ok(Some(_)), Ok(None), Err(error)] if is_it(error)),
        "{results:?}"
    );
}

/// A driver may read as often as it likes before it polls: every byte is there, in order.
#[test]
fn bytes_wait_until_they_are_polled() {
    for (piece, polls) in [(7, 1), (1000, 1), (100_000, usize::MAX)] {
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        let (mut expected, mut replies) = (Vec::new(), Vec::new());
        for (nth, length) in [512, 70_000, 4096, 20, 200_000].into_iter().enumerate() {
            let cookie = talk.begin_transfer(read(0, length));
            let data = vec![nth as u8; length as usize];
            let asked = &talk.asked()[0];
            // content of a read that has failed is dropped in pieces
            let failed = talk.begin_transfer(read(0, 200_000));
            let other = &talk.asked()[0];
            replies.extend(bytes::structured_chunk(0, 0x8001, other.cookie, &bytes::error(5, b"")));
            replies.extend(reply(asked, 0, &data));
            replies.extend(reply(other, 0, &[0; 200_000]));
            expected.extend([(cookie, data.clone()), (cookie, Vec::new()), (failed, Vec::new())]);
        }
        let mut events = Vec::new();
        for (nth, mut rest) in replies.chunks(piece).enumerate() {
            while !rest.is_empty() {
                talk.receive(&mut rest);
            }
            if nth % 5 == 0 || polls > 1 {
                let poll = || talk.connection.poll(&mut take_all, talk.now).unwrap();
                events.extend(core::iter::from_fn(poll).take(polls));
            }
        }
        events.extend(talk.events());
        let got = events.into_iter().map(|event| match event {
            Event::Read { cookie, data } => (cookie, data),
            event => (event.cookie(), Vec::new()),
        });
        assert!(got.eq(expected), "in pieces of {piece} bytes");
    }
}

/// Bytes that come during a goodbye are of no interest: they make no answer of those before them.
#[test]
fn no_answer_is_heard_after_a_goodbye() {
    for length in [5000, 50_000] {
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        talk.begin_transfer(read(0, length));
        let reply = reply(&talk.asked()[0], 0, &vec![7; length as usize]);
        assert_eq!(talk.hear(&reply[..3000]), []);
        talk.receive(&mut &reply[3000..4000]);
        talk.connection.disconnect(talk.now).unwrap();
        for mut rest in [&reply[4000..], &reply[..3000]] {
            while !rest.is_empty() {
                talk.receive(&mut rest);
            }
        }
        assert_eq!(talk.asked()[0].command, command::DISC);
        assert_eq!(talk.events(), []);
    }
}

/// Payloads of at least 4 KiB have a place of their own, and shorter ones come through the buffer.
#[test]
fn long_payloads_go_straight_to_their_place() {
    for (length, direct) in [(4095, 0), (4096, 4096), (10_000, 10_000)] {
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        let data: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let cookie = talk.begin_transfer(read(0, length));
        let asked = talk.asked();
        let reply = reply(&asked[0], 0, &data);
        assert_eq!(talk.hear(&reply[..28]), []);
        let [place, buffer] = talk.connection.space_in(&mut []);
        assert_eq!((place.len(), buffer.len()), (direct, BUFFER));
        let space = talk.connection.space().len();
        assert_eq!(space, direct.max(BUFFER));
        // All of it and the next reply at once.
        let now = talk.now;
        let flush = talk.connection.start(now, |session| session.start_flush()).unwrap();
        talk.take_output();
        let more = [&reply[28..], &bytes::simple_reply(0, flush.get())].concat();
        let events = talk.hear(&more);
        assert_eq!(
            events,
            [Event::Read { cookie, data }, Event::Done { cookie }, Event::Done { cookie: flush }]
        );
    }
}

/// While reads are short several replies come at once; of long ones hardly any byte is copied.
#[test]
fn the_buffer_is_long_while_reads_are_short() {
    for (length, most) in [(512, GATHER), (4096, GATHER), (GATHER, GATHER), (GATHER + 1, BUFFER)] {
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        for _ in 0..2 {
            talk.begin_transfer(read(0, length as u64));
            let asked = talk.asked();
            assert_eq!(talk.hear(&reply(&asked[0], 0, &vec![7; length])).len(), 2);
            assert_eq!(talk.connection.space().len(), most, "after {length} bytes");
        }
    }
}

#[test]
fn an_end_of_the_stream_is_a_lost_connection() {
    let ended = |talk: &mut Talk| talk.connection.received(0, talk.now).unwrap_err();
    let mut talk = Talk::begin(&Options::new());
    assert!(matches!(ended(&mut talk), Error::ConnectionLost { .. }));
    assert!(talk.connection.check_alive().is_err());
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    assert!(matches!(ended(&mut talk), Error::ConnectionLost { .. }), "nothing is in flight");
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    talk.begin_transfer(trim(0, 1));
    let error = ended(&mut talk);
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
}

/// Where sending fails because the server has hung up, its last words are still read.
#[test]
fn a_server_that_takes_no_more_bytes_may_have_said_why() {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, Other};
    let fails = |talk: &mut Talk, kind: ErrorKind| talk.connection.send_failed(kind.into(), talk.now);
    for kind in [BrokenPipe, ConnectionAborted, ConnectionReset] {
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        let cookie = talk.begin_transfer(trim(0, 1));
        let asked = talk.asked();
        talk.begin_transfer(trim(1, 1));
        assert!(talk.connection.has_output() && !talk.connection.send_failed_before());
        fails(&mut talk, kind).unwrap();
        assert!(talk.connection.send_failed_before() && !talk.connection.has_output());
        let events = talk.hear(&bytes::simple_reply(5, asked[0].cookie));
        assert!(matches!(events[..], [Event::Failed { cookie: failed, .. }] if failed == cookie));
        let error = talk.connection.received(0, talk.now).unwrap_err();
        assert!(error.to_string().contains("send"), "{error}");
        assert!(talk.connection.check_alive().is_err());
        // Not in a handshake, and not in a goodbye.
        let mut talk = Talk::begin(&Options::new());
        assert!(fails(&mut talk, kind).is_err() && talk.connection.check_alive().is_err());
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        talk.connection.disconnect(talk.now).unwrap();
        assert!(fails(&mut talk, kind).is_err());
    }
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let error = fails(&mut talk, Other).unwrap_err();
    assert!(error.to_string().contains("send"), "{error}");
    assert!(talk.connection.check_alive().is_err() && !talk.connection.send_failed_before());
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    talk.begin_transfer(trim(0, 1));
    let error = talk.connection.receive_failed(Other.into(), talk.now).unwrap_err();
    assert!(error.to_string().contains("reply"), "{error}");
    assert!(talk.connection.check_alive().is_err());
}

/// A stream that takes nothing, and does not say that it would wait, is not asked for ever.
#[test]
fn a_write_of_no_bytes_is_a_failure() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    talk.begin_transfer(trim(0, 1));
    let mut answers = [0].into_iter();
    let error = talk.connection.send_by(&[], |_, _| Ok(answers.next().expect("asked again"))).unwrap_err();
    assert!(
        matches!(&error, Error::Io { during: During::Send, source } if source.kind() == ErrorKind::WriteZero)
    );
    assert!(talk.connection.check_alive().is_err());
}

/// What is in flight then is waited for as long as for a goodbye, FLUSH included, whatever comes
/// meanwhile; nothing new is taken.
#[test]
fn a_request_that_cannot_be_sent_is_not_waited_for() {
    let second = Duration::from_secs;
    let is_send_error = |error: &Error| matches!(error, Error::Io { during: During::Send, .. });
    for (limit, end) in [(LIMIT, second(5)), (second(2), second(2))] {
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new().request_timeout(limit));
        talk.connection.start(talk.now, |session| session.start_flush()).unwrap();
        let cookie = talk.begin_transfer(trim(0, 1));
        let asked = talk.asked();
        talk.connection.start(talk.now, |session| session.start_flush()).unwrap();
        talk.now += second(1);
        let failed = talk.now;
        talk.connection.send_failed(ErrorKind::BrokenPipe.into(), talk.now).unwrap();
        assert_eq!(talk.connection.poll_timeout(), Some(failed + end));
        let error = talk.connection.start(talk.now, |session| session.start_flush()).unwrap_err();
        assert!(is_send_error(&error), "{error}");
        let error = talk.connection.begin(None, trim(0, 1), talk.now).unwrap_err();
        assert!(is_send_error(&error), "{error}");
        talk.now += second(1);
        assert_eq!(talk.answer(&asked[1], 0), [Event::Done { cookie }]);
        talk.connection.send_failed(ErrorKind::BrokenPipe.into(), talk.now).unwrap();
        assert_eq!(talk.connection.poll_timeout(), Some(failed + end));
        let error = talk.connection.handle_timeout(failed + end).unwrap_err();
        assert!(is_send_error(&error), "{error}");
        assert!(talk.connection.check_alive().is_err());
    }
    // with the last event the connection ends, if something was refused; otherwise at the next
    // request. ESHUTDOWN, after which a goodbye cannot be sent, makes no difference
    for (refuses, errno) in [(true, 0), (true, Errno::ESHUTDOWN.0), (false, 0)] {
        let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
        let cookie = talk.begin_transfer(trim(0, 1));
        let asked = talk.asked();
        talk.connection.send_failed(ErrorKind::BrokenPipe.into(), talk.now).unwrap();
        if refuses {
            talk.connection.begin(None, trim(0, 1), talk.now).unwrap_err();
        }
        let reply = bytes::simple_reply(errno, asked[0].cookie);
        talk.connection.space()[..reply.len()].copy_from_slice(&reply);
        talk.connection.received(reply.len(), talk.now).unwrap();
        let mut poll = || talk.connection.poll(&mut take_all, talk.now);
        let event = poll().unwrap().unwrap();
        assert_eq!((event.cookie(), matches!(event, Event::Done { .. })), (cookie, errno == 0));
        let error = if refuses {
            poll().unwrap_err()
        } else {
            assert_eq!(poll().unwrap(), None);
            assert_eq!(talk.connection.poll_timeout(), None);
            talk.connection.begin(None, trim(0, 1), talk.now).unwrap_err()
        };
        assert!(is_send_error(&error), "{error}");
        let error = talk.connection.begin(None, trim(0, 1), talk.now).unwrap_err();
        assert!(matches!(error, Error::GivenUp), "{error}");
    }
}

#[test]
fn a_goodbye_is_said_once_and_has_five_seconds() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new().request_timeout(LIMIT));
    assert_eq!(talk.connection.poll_timeout(), None, "nothing is awaited");
    assert!(!talk.connection.says_goodbye());
    talk.now += Duration::from_secs(100);
    talk.connection.disconnect(talk.now).unwrap();
    assert!(talk.connection.says_goodbye());
    let end = talk.now + Duration::from_secs(5);
    assert_eq!(talk.connection.poll_timeout(), Some(end));
    assert!(talk.connection.handle_timeout(end - Duration::from_nanos(1)).is_ok());
    let asked = talk.asked();
    assert_eq!(asked.iter().map(|request| request.command).collect::<Vec<_>>(), [command::DISC]);
    assert!(!talk.connection.says_goodbye());
    assert_eq!(talk.connection.poll_timeout(), None, "it has been said");
    assert!(talk.connection.handle_timeout(end).is_ok());
    let now = talk.now;
    let error = talk.connection.start(now, |session| session.start_flush()).unwrap_err();
    assert!(matches!(error, Error::Start(StartError::Ending)), "{error}");

    let mut late = Talk::open(Terms::new(USUAL), &Options::new().request_timeout(LIMIT));
    late.connection.disconnect(late.now).unwrap();
    let error = late.connection.handle_timeout(late.now + Duration::from_secs(5)).unwrap_err();
    assert!(
        matches!(error, Error::Timeout { during: During::Send, after } if after == Duration::from_secs(5))
    );
    let mut short = Talk::open(Terms::new(USUAL), &Options::new().request_timeout(Duration::from_secs(2)));
    short.connection.disconnect(short.now).unwrap();
    assert_eq!(short.connection.poll_timeout(), Some(short.now + Duration::from_secs(2)));
}

/// Pools and copies keep within the limits that their caller has set for a session.
#[test]
fn limits_are_those_of_the_session() {
    let limits = SessionLimits { max_in_flight: 3, ..SessionLimits::default() };
    let talk = Talk::open(Terms::new(USUAL), &Options::new().session_limits(limits));
    assert_ne!(limits, SessionLimits::default());
    assert_eq!(talk.connection.limits(), limits);
}

/// The memory of a read is had again, in a buffer of the length that is wanted.
#[test]
fn a_buffer_that_is_given_back_is_used_again() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    assert_eq!(talk.connection.buffer(100).len(), 100);
    let data = Vec::with_capacity(5000);
    let place = data.as_ptr();
    talk.connection.recycle_buffer(data);
    let again = talk.connection.buffer(4096);
    // an allocator may give a freed place again, but not its whole length
    assert_eq!((again.as_ptr(), again.len(), again.capacity()), (place, 4096, 5000));
    assert!(talk.spare().is_empty());
}

/// A client is shown without the buffers that it holds.
#[test]
fn a_connection_is_shown_in_few_words() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    talk.begin_transfer(trim(0, 1));
    assert_eq!(format!("{:?}", talk.connection), "Connection { during: ReplyHeader, in_flight: 1, .. }");
}

/// A goodbye has its time, whatever of a long write is sent before it.
#[test]
fn bytes_that_are_sent_give_a_goodbye_no_more_time() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let long = WriteRequest::new(0);
    talk.connection.start(talk.now, |it| it.start_write(&long, vec![1; 1 << 20])).unwrap();
    talk.connection.disconnect(talk.now).unwrap();
    let end = talk.now + Duration::from_secs(5);
    for nth in 1..5 {
        talk.connection.sent(100 << 10, talk.now + Duration::from_secs(nth));
        assert_eq!(talk.connection.poll_timeout(), Some(end));
    }
    assert!(matches!(talk.connection.handle_timeout(end), Err(Error::Timeout { .. })));
}

/// The deadline of the whole job is absolute: after it nothing begins, though nothing was in flight
/// when it passed, and the goodbye neither.
#[test]
fn nothing_begins_after_the_deadline_of_the_job() {
    let deadline = Instant::now() + Duration::from_secs(3000);
    let before = deadline - Duration::from_nanos(1);
    let open = || Talk::open(Terms::new(USUAL), &Options::new().deadline(Some(deadline)));
    let is_late = |result: Result<(), Error>| matches!(result, Err(Error::OutOfTime(_)));

    assert!(open().connection.disconnect(before).is_ok());
    let mut talk = open();
    assert!(matches!(talk.connection.disconnect(deadline), Err(Error::OutOfTime(During::Send))));
    assert!(matches!(talk.connection.disconnect(deadline), Err(Error::GivenUp)));

    assert!(open().connection.start(before, |session| session.start_flush()).is_ok());
    let mut talk = open();
    assert!(is_late(talk.connection.start(deadline, |session| session.start_flush()).map(drop)));
    assert!(!talk.connection.has_output() && talk.connection.is_idle());
    assert!(matches!(talk.connection.disconnect(deadline), Err(Error::GivenUp)));
    assert!(!talk.connection.has_output(), "no goodbye after an error");

    let mut talk = open();
    assert!(talk.connection.begin(None, trim(0, 1), before).is_ok());
    assert!(is_late(talk.connection.begin(None, trim(0, 1), deadline).map(drop)));
}

/// Two requests, the first of which was answered with ESHUTDOWN: the second one.
fn going_down(options: &Options) -> (Talk, Cookie) {
    let mut talk = Talk::open(Terms::new(USUAL), options);
    let now = talk.now;
    let first = talk.connection.start(now, |session| session.start_flush()).unwrap();
    let second = talk.connection.start(now, |session| session.start_flush()).unwrap();
    assert_eq!(talk.asked().len(), 2);
    let events = talk.hear(&bytes::simple_reply(Errno::ESHUTDOWN.0, first.get()));
    assert!(matches!(events[..], [Event::Failed { cookie, .. }] if cookie == first), "{events:?}");
    (talk, second)
}

/// After ESHUTDOWN every answer that is due is awaited, and then the goodbye follows. The last
/// event waits for it: its caller may never poll again.
#[test]
fn a_server_that_goes_down_is_left_after_its_last_answer() {
    let (mut talk, second) = going_down(&Options::new());
    assert_eq!(talk.asked(), []);
    assert_eq!(talk.hear(&bytes::simple_reply(0, second.get())), []);
    assert!(talk.connection.says_goodbye() && !talk.connection.has_said_goodbye());
    assert!(!talk.connection.is_idle(), "an event waits");
    assert_eq!(talk.asked()[0].command, command::DISC);
    assert!(!talk.connection.says_goodbye() && talk.connection.has_said_goodbye());
    assert_eq!(talk.events(), [Event::Done { cookie: second }]);
    assert!(talk.connection.is_idle() && talk.connection.check_alive().is_ok());
    // nothing of the goodbye counts against the rest
    assert_eq!(talk.connection.poll_timeout(), None);
    assert!(talk.connection.handle_timeout(talk.now + LIMIT * 100).is_ok());
}

/// However that goodbye fails: it is left out, and the event that waited for it comes.
#[test]
fn a_goodbye_that_cannot_be_sent_holds_no_event_back() {
    type Fault = fn(&mut Talk) -> Result<(), Error>;
    let faults: [Fault; 6] = [
        |talk| talk.connection.send_failed(ErrorKind::BrokenPipe.into(), talk.now),
        |talk| talk.connection.send_failed(ErrorKind::Other.into(), talk.now),
        |talk| talk.connection.receive_failed(ErrorKind::ConnectionReset.into(), talk.now),
        |talk| talk.connection.received(0, talk.now),
        |talk| talk.connection.fail(Error::Cancelled(During::Send)),
        |talk| talk.connection.handle_timeout(talk.now + Duration::from_secs(5)),
    ];
    for fault in faults {
        let (mut talk, second) = going_down(&Options::new());
        assert_eq!(talk.hear(&bytes::simple_reply(0, second.get())), []);
        assert!(talk.connection.says_goodbye());
        fault(&mut talk).unwrap();
        assert!(!talk.connection.has_output() && !talk.connection.send_failed_before());
        assert_eq!(
            talk.connection.poll(&mut take_all, talk.now).unwrap(),
            Some(Event::Done { cookie: second })
        );
        // whether the server had gone before it was told goodbye is a matter of who is first
        assert!(talk.connection.is_idle());
        assert_eq!(talk.connection.poll(&mut take_all, talk.now).unwrap(), None);
        let error = talk.connection.start(talk.now, |session| session.start_flush()).unwrap_err();
        assert!(matches!(error, Error::Start(StartError::Ending)), "{error}");
        talk.connection.disconnect(talk.now).unwrap();
        assert!(!talk.connection.says_goodbye());
    }
    // one that the caller asked for has an error
    for fault in faults {
        let (mut talk, _) = going_down(&Options::new());
        talk.connection.disconnect(talk.now).unwrap();
        fault(&mut talk).unwrap_err();
    }
    // and so has what happens later
    let (mut talk, second) = going_down(&Options::new());
    talk.hear(&bytes::simple_reply(0, second.get()));
    talk.take_output();
    assert_eq!(talk.events().len(), 1);
    assert!(matches!(talk.connection.received(0, talk.now), Err(Error::ConnectionLost(_))));
}

/// The parts of the clock that the tests with real replies (`tests/clock.rs`) do not tell apart.
#[test]
fn limits_of_time_by_phase() {
    let (connect, request) = (Duration::from_secs(7), Duration::from_secs(11));
    let options = Options::new().connect_timeout(connect).request_timeout(request);
    let mut talk = Talk::begin(&options);
    let start = talk.now;
    assert_eq!(talk.connection.poll_timeout(), Some(start + connect));
    let error = talk.connection.handle_timeout(start + connect).unwrap_err();
    assert!(matches!(error, Error::Timeout { after, .. } if after == connect), "{error}");
    assert!(talk.connection.check_alive().is_err());

    let mut talk = Talk::open(Terms::new(USUAL), &options);
    let start = talk.now;
    // The limit counts from the first request after an idle time, and not from later ones.
    talk.now += Duration::from_secs(50);
    let begun = talk.now;
    talk.begin_transfer(trim(0, MIB));
    assert_eq!(talk.connection.poll_timeout(), Some(begun + request));
    talk.now += Duration::from_secs(3);
    talk.begin_transfer(trim(MIB, MIB));
    assert_eq!(talk.connection.poll_timeout(), Some(begun + request));
    // A caller that is busy elsewhere does not use up the server's time.
    let clock = &mut talk.connection.clock;
    clock.begin_idle_time(begun + Duration::from_secs(4));
    clock.begin_idle_time(begun + Duration::from_secs(5));
    clock.exclude_idle_time(begun + Duration::from_secs(6));
    clock.exclude_idle_time(begun + Duration::from_secs(9));
    assert_eq!(talk.connection.poll_timeout(), Some(begun + request + Duration::from_secs(2)));
    // Only the time since the limit restarted counts.
    let clock = &mut talk.connection.clock;
    clock.begin_idle_time(start);
    clock.restart(begun + Duration::from_secs(20));
    clock.exclude_idle_time(begun + Duration::from_secs(21));
    assert_eq!(talk.connection.poll_timeout(), Some(begun + request + Duration::from_secs(21)));
    let asked = talk.asked();
    talk.now = begun + Duration::from_secs(30);
    for request in &asked {
        talk.answer(request, 0);
    }
    assert_eq!(talk.connection.poll_timeout(), None);
    assert!(talk.connection.handle_timeout(begun + Duration::from_secs(1000)).is_ok());
}

/// FLUSH has a limit of its own, or none; beside other requests it is no shorter than theirs.
#[test]
fn a_flush_is_waited_for_as_long_as_its_limit_says() {
    let second = Duration::from_secs;
    let opened = |flush: Option<Duration>| {
        Talk::open(Terms::new(USUAL), &Options::new().request_timeout(second(10)).flush_timeout(flush))
    };
    for (flush, alone, beside) in
        [(None, None, None), (Some(4), Some(4), Some(10)), (Some(15), Some(15), Some(15))]
    {
        let mut talk = opened(flush.map(second));
        let start = talk.now;
        let end = |seconds: Option<u64>| seconds.map(|seconds| start + second(seconds));
        talk.connection.start(start, |session| session.start_flush()).unwrap();
        assert_eq!(talk.connection.poll_timeout(), end(alone));
        talk.begin_transfer(trim(0, 1));
        assert_eq!(talk.connection.poll_timeout(), end(beside));
    }
}

#[test]
fn the_deadline_of_the_job_ends_any_wait() {
    let deadline = Instant::now() + Duration::from_secs(30);
    let options = Options::new().request_timeout(LIMIT).deadline(Some(deadline));
    let mut talk = Talk::open(Terms::new(USUAL), &options);
    assert_eq!(talk.connection.poll_timeout(), Some(deadline));
    talk.now = deadline - Duration::from_secs(1);
    talk.begin_transfer(trim(0, 1));
    assert_eq!(talk.connection.poll_timeout(), Some(deadline));
    assert!(talk.connection.handle_timeout(deadline - Duration::from_nanos(1)).is_ok());
    let error = talk.connection.handle_timeout(deadline).unwrap_err();
    assert!(matches!(error, Error::OutOfTime(During::ReplyHeader)), "{error}");
}

/// Each error names the step of the conversation that was under way.
#[test]
fn the_place_of_an_error_is_where_the_conversation_stands() {
    let talk = Talk::begin(&Options::new());
    assert_ne!(talk.connection.during(), During::ReplyHeader);
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    assert_eq!(talk.connection.during(), During::ReplyHeader);
    talk.begin_transfer(read(0, 5000));
    let asked = talk.asked();
    talk.hear(&reply(&asked[0], 0, &[0; 5000])[..100]);
    assert_ne!(talk.connection.during(), During::ReplyHeader, "within a payload");
}

/// Memory of status replies and of data is used again.
#[test]
fn memory_that_is_given_back_is_had_again() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    talk.connection.recycle_buffer(Vec::with_capacity(12_345));
    assert_eq!(talk.spare().capacity(), 12_345);
    assert_eq!(talk.spare().capacity(), 0);
    // A write that went through and a read that failed give theirs back.
    let length = 70_000;
    for (transfer, errno) in [(write(0, vec![1; length]), 0), (read(0, length as u64), 5)] {
        talk.begin_transfer(transfer);
        let asked = talk.asked();
        let begun = bytes::structured_chunk(0, 1, asked[0].cookie, &[0; 9]);
        if errno != 0 {
            talk.hear(&begun);
        }
        talk.answer(&asked[0], errno);
        assert!(talk.spare().capacity() >= length);
    }
}

/// The requests of a caller beside transfers are counted until their last event is polled.
#[test]
fn everything_is_in_flight_until_its_last_event_is_polled() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new());
    let now = talk.now;
    talk.connection.start(now, |session| session.start_flush()).unwrap();
    talk.begin_transfer(trim(0, 100 * MIB));
    assert_eq!(talk.connection.in_flight(), 2);
    let replies: Vec<u8> = talk.asked().iter().flat_map(|request| reply(request, 0, &[])).collect();
    talk.connection.space()[..replies.len()].copy_from_slice(&replies);
    talk.connection.received(replies.len(), now).unwrap();
    for left in [1, 0] {
        assert!(talk.connection.poll(&mut take_all, now).unwrap().is_some());
        assert_eq!((talk.connection.in_flight(), talk.connection.is_idle()), (left, left == 0));
    }
    assert_eq!(talk.connection.poll(&mut take_all, now).unwrap(), None);
}

/// A list of exports needs no export: the goodbye follows at once.
#[test]
fn a_list_of_exports_ends_the_conversation() {
    let now = Instant::now();
    let mut listing = Options::new().headers(Headers::Structured);
    listing.handshake.list_exports = true;
    let mut connection = Connection::new("", &listing, now).unwrap();
    let export = [&3_u32.to_be_bytes()[..], b"one"].concat();
    let hello =
        [bytes::hello(3), bytes::option_reply(3, 2, &export), bytes::option_reply(3, 1, &[])].concat();
    let mut sent = Vec::new();
    for byte in hello {
        connection.space()[0] = byte;
        connection.received(1, now).unwrap();
        assert_eq!(connection.poll(&mut take_all, now).unwrap(), None);
        let output = connection.output().collect::<Vec<_>>().concat();
        connection.sent(output.len(), now);
        sent.extend(output);
    }
    assert!(connection.is_open() && connection.export().is_none());
    assert_eq!(connection.poll_timeout(), None);
    let names: Vec<_> = connection.into_exports().unwrap().into_iter().map(|export| export.name).collect();
    assert_eq!(names.len(), 1);
    assert!(Talk::open(Terms::new(USUAL), &Options::new()).connection.into_exports().is_none());
}

/// The judgement of status is the caller's, and without one all is taken.
#[test]
fn limits_and_strictness_of_the_options_are_the_session_s() {
    let limits = SessionLimits { max_in_flight: 1, ..Default::default() };
    let options = Options::new().strict(true).session_limits(limits);
    let mut talk = Talk::open(Terms::new(USUAL), &options);
    let now = talk.now;
    assert!(talk.connection.session().unwrap().config.strictness.is_strict());
    talk.connection.start(now, |session| session.start_flush()).unwrap();
    let error = talk.connection.start(now, |session| session.start_flush()).unwrap_err();
    assert!(matches!(error, Error::Start(StartError::TooManyInFlight(1))), "{error}");
    let error =
        talk.connection.start(now, |it| it.start_block_status(&StatusRequest::new(0, 1))).unwrap_err();
    assert!(matches!(error, Error::Start(_)), "{error}");
    let counted: HashMap<u16, usize> = talk.asked().iter().map(|request| (request.command, 1)).collect();
    assert_eq!(counted, HashMap::from([(command::FLUSH, 1)]));
    let failed = RequestError { request: RequestInfo::FLUSH, fault: RequestFault::SimpleSuccess };
    assert_eq!(failed.errno(), None);
}

/// Progress restarts the limit: a whole answer, or 64 KiB of payload since the last time.
#[test]
fn progress_restarts_the_limit() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new().request_timeout(LIMIT));
    let (start, second) = (talk.now, Duration::from_secs(1));
    talk.begin_transfer(trim(0, 1));
    talk.begin_transfer(read(0, 300 * KIB));
    let asked = talk.asked();
    assert_eq!(talk.connection.poll_timeout(), Some(start + LIMIT));
    talk.now = start + second;
    talk.answer(&asked[0], 0);
    assert_eq!(talk.connection.poll_timeout(), Some(start + second + LIMIT), "an answer");
    let reply = reply(&asked[1], 0, &vec![0; 300 * KIB as usize]);
    // The offset of the chunk is payload as well.
    let (header, payload) = reply.split_at(20);
    let mut restarted = talk.now;
    talk.hear(header);
    let mut rest = payload;
    for (length, is_progress) in [(64 * KIB - 1, false), (1, true), (64 * KIB - 1, false), (1, true)] {
        talk.now += second;
        let (now, later) = rest.split_at(length as usize);
        talk.hear(now);
        rest = later;
        restarted = if is_progress { talk.now } else { restarted };
        assert_eq!(talk.connection.poll_timeout(), Some(restarted + LIMIT));
    }
    // A failure is an answer too.
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new().request_timeout(LIMIT));
    talk.begin_transfer(trim(0, 1));
    talk.begin_transfer(trim(1, 1));
    let asked = talk.asked();
    talk.now += second;
    talk.answer(&asked[0], 5);
    assert_eq!(talk.connection.poll_timeout(), Some(talk.now + LIMIT));
}

/// The error names the limit that ran out, even if the job has a deadline that did not.
#[test]
fn a_limit_before_the_deadline_of_the_job_is_a_timeout() {
    let deadline = Instant::now() + Duration::from_secs(3000);
    let mut talk =
        Talk::open(Terms::new(USUAL), &Options::new().request_timeout(LIMIT).deadline(Some(deadline)));
    talk.begin_transfer(trim(0, 1));
    let error = talk.connection.handle_timeout(talk.now + LIMIT).unwrap_err();
    assert!(matches!(error, Error::Timeout { after, .. } if after == LIMIT), "{error}");
}

#[test]
fn a_goodbye_that_is_not_sent_yet_has_a_limit() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new().request_timeout(LIMIT));
    talk.connection.disconnect(talk.now).unwrap();
    assert!(talk.connection.poll_timeout().is_some());
}

/// The server refuses a write of which only the header is sent. No request is in flight then, and
/// no limit of requests holds for the rest of its payload; the next request has all of its own.
#[test]
fn the_rest_of_a_refused_write_has_no_limit() {
    let mut talk = Talk::open(Terms::new(USUAL), &Options::new().request_timeout(LIMIT));
    let data = vec![1; 60 << 10];
    let cookie = talk.connection.start(talk.now, |it| it.start_write(&WriteRequest::new(0), data));
    let header = talk.connection.output().next().unwrap().len();
    talk.connection.sent(header, talk.now);
    talk.hear(&bytes::simple_reply(5, cookie.unwrap().get()));
    assert!(talk.connection.is_idle() && talk.connection.has_output());
    assert_eq!(talk.connection.poll_timeout(), None);
    talk.now += 10 * LIMIT;
    talk.connection.handle_timeout(talk.now).unwrap();
    talk.take_output();
    talk.begin_transfer(read(0, 64 * KIB));
    let end = talk.now + LIMIT;
    assert_eq!(talk.connection.poll_timeout(), Some(end));
    // nor does it count towards the next request's progress
    let asked = talk.asked();
    talk.now += LIMIT / 2;
    talk.hear(&reply(&asked[0], 0, &vec![0; 64 << 10])[..6000]);
    assert_eq!(talk.connection.poll_timeout(), Some(end));
}

/// Status of one context, drained or taken as the caller says, in memory that is used again.
#[test]
fn chunks_of_status_are_the_caller_s_to_judge() {
    use nbd_extents::Admission;

    let options = Options::new().want_context("base:allocation");
    let mut talk = Talk::begin(&options);
    let hello = [
        bytes::hello(3),
        bytes::option_reply(8, 1, &[]),
        bytes::option_reply(10, 4, &bytes::context(7, b"base:allocation")),
        bytes::option_reply(10, 1, &[]),
        bytes::option_reply(7, 3, &bytes::export_info(MIB, USUAL)),
        bytes::option_reply(7, 1, &[]),
    ];
    talk.hear(&hello.concat());
    talk.take_output();
    let now = talk.now;
    let status = [0, 0, 0, 7, 0, 0, 0x10, 0, 0, 0, 0, 3];
    let given_back = 1 << 20;
    for (admission, kept) in [(Admission::Drain, 0), (Admission::Take, 0), (Admission::Take, given_back)] {
        let cookie =
            talk.connection.start(now, |it| it.start_block_status(&StatusRequest::new(0, 4096))).unwrap();
        talk.take_output();
        let reply = bytes::structured_chunk(1, 5, cookie.get(), &status);
        talk.connection.space()[..reply.len()].copy_from_slice(&reply);
        talk.connection.received(reply.len(), now).unwrap();
        let mut judge = |_: &crate::session::ChunkOffer| admission;
        let event = talk.connection.poll(&mut judge, now).unwrap().unwrap();
        if let Event::Status { mut payload, context: 7, .. } = event {
            assert_eq!((admission, &payload[..]), (Admission::Take, &status[..]));
            assert!(payload.capacity() >= kept, "memory that was given back");
            payload.reserve_exact(given_back - payload.len());
            talk.connection.recycle(payload);
        } else {
            assert!(matches!(event, Event::Drained { length: 12, .. }) && admission == Admission::Drain);
        }
        assert_eq!(talk.connection.poll(&mut judge, now).unwrap(), Some(Event::Done { cookie }));
    }
}
