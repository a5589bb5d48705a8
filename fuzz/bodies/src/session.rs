//! `session`: the input is a configuration, piece sizes and a server's bytes. Asserts that they
//! give the same events and the same error, whatever the pieces and the entrance; that each request
//! ends at most once and nothing follows; that payloads are within the limit, of a requested
//! context, once each; that a successful read has all of its bytes, none of them the old content of
//! the buffer; that memory is proportional to the bytes received; that nothing is sent without a
//! request; and that a broken session stays broken.
//!
//! ```text
//! 0  flags:1     1 extended headers, 2 strict, 4 payload form, 8 small limits, 16 odd contexts are
//!                drained, 32 payloads are given back, 64 a request follows each that ended,
//!                128 all commands in turn: READ, WRITE, BLOCK_STATUS, FLUSH, WRITE_ZEROES, TRIM,
//!                CACHE
//! 1  requests:1  (modulo 4, plus 1) in flight at the start; offsets 0, 4194304, ..., cookies
//!                1, 2, ...; 4 reads ask for one chunk (DF); 128 simple headers (with all commands and
//!                without extended headers)
//! 2  pieces      see pieces.rs
//! .. the server's bytes
//! ```

use super::bytes::Bytes;
use super::pieces::Cuts;
use super::server_text::assert_printable;
use nbd_client::export::TransmissionFlags;
use nbd_client::frame::ErrorChunk;
use nbd_client::frame::{Headers, UnexpectedEof};
use nbd_client::session::{
    ChunkOffer, Command, Cookie, Event, ProtocolError, ReadRequest, Session, SessionConfig, SessionLimits,
    StartError, StatusRequest, TrimRequest, WriteRequest, ZeroRequest,
};
use nbd_client::stats::SessionStats;
use nbd_client::{Admission, Strictness};
use std::collections::BTreeMap;

const CONTEXTS: [u32; 3] = [0, 1, 2];
/// The contexts of the payload form.
const ONLY: [u32; 1] = [2];
const LENGTH: u64 = 4 << 20;
/// The bytes that a read or a write moves.
const MOVED: usize = 64;
/// The old content of a read's buffer. No answer may leave it there, unless the server sent it: the
/// server's bytes come from the fuzzer.
const STALE: u8 = 0xa5;
/// Everything offered, nothing read-only.
const FLAGS: u16 = 0x0ffd;
/// The command of the nth request, with all commands.
const TURN: [Command; 7] = [
    Command::Read,
    Command::Write,
    Command::BlockStatus,
    Command::Flush,
    Command::WriteZeroes,
    Command::Trim,
    Command::Cache,
];
const MOST_REQUESTS: usize = 12;
/// The memory that a session reserves before the first byte of a payload is there.
const STEP: usize = 64 << 10;

#[derive(Clone, Debug)]
struct SessionCase {
    config: SessionConfig,
    drain_odd: bool,
    recycle: bool,
    follow: bool,
    all_commands: bool,
    df: bool,
    requests: usize,
}

/// The results that must not depend on the pieces.
#[derive(Clone, Debug, PartialEq)]
struct SessionOutcome {
    events: Vec<Event>,
    end: Result<SessionState, ProtocolError>,
}

#[derive(Clone, Debug, PartialEq)]
struct SessionState {
    stats: SessionStats,
    in_flight: usize,
    must_disconnect: bool,
    eof: Option<UnexpectedEof>,
}

pub fn session(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let case = SessionCase::read(&mut bytes);
    let pieces = Cuts::read(&mut bytes);
    let input = bytes.rest();
    let whole = SessionRun::new(&case).feed(input, &Cuts::Whole);
    assert_eq!(SessionRun::new(&case).feed(input, &pieces), whole);
    assert_eq!(SessionRun::new(&case).feed(input, &Cuts::Bytewise), whole);
    assert_eq!(SessionRun::new(&case).fill(input, &pieces), whole);
}

impl SessionCase {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let flags = bytes.u8();
        let flag = |bit: u8| flags >> bit & 1 == 1;
        let second = bytes.u8();
        let headers = match (flag(0), flag(7) && second >= 128) {
            (true, _) => Headers::Extended,
            (false, true) => Headers::Simple,
            (false, false) => Headers::Structured,
        };
        let mut config = SessionConfig::new(headers, CONTEXTS);
        config.strictness = if flag(1) { Strictness::Strict } else { Strictness::Lenient };
        if flag(3) {
            let mut limits = SessionLimits::default();
            (limits.max_payload, limits.max_reply, limits.max_extra_chunks) = (64, 256, 2);
            config.limits = limits;
        }
        config.export.flags = TransmissionFlags(FLAGS | u16::from(flag(2)) << 12);
        let requests = usize::from(second % 4) + 1;
        let (recycle, follow, all_commands) = (flag(5), flag(6), flag(7));
        let df = second & 4 != 0 && headers != Headers::Simple;
        Self { config, drain_odd: flag(4), recycle, follow, all_commands, df, requests }
    }

    /// The command of the nth request.
    fn command(&self, nth: usize) -> Command {
        let command = if self.all_commands { TURN[nth % TURN.len()] } else { Command::BlockStatus };
        if command == Command::BlockStatus && self.config.export.headers == Headers::Simple {
            Command::Read
        } else {
            command
        }
    }

    fn asked(&self) -> &'static [u32] {
        if self.config.export.payload_status() { &ONLY } else { &CONTEXTS }
    }
}

/// The state of one request.
#[derive(Debug)]
struct Asked {
    command: Command,
    /// Each request has another, but for FLUSH, which has none.
    offset: u64,
    seen: Vec<u32>,
    /// A read's data were there.
    read: bool,
    ended: bool,
}

struct SessionRun<'a> {
    case: &'a SessionCase,
    session: Session,
    asked: BTreeMap<u64, Asked>,
    events: Vec<Event>,
    /// The number of bytes given up to now.
    fed: usize,
    /// The old content of a read's buffer occurs among the server's bytes.
    stale_is_sent: bool,
}

impl<'a> SessionRun<'a> {
    fn new(case: &'a SessionCase) -> Self {
        let session = Session::new(case.config.clone());
        let mut run =
            Self { case, session, asked: BTreeMap::new(), events: Vec::new(), fed: 0, stale_is_sent: false };
        (0..case.requests).for_each(|_| run.start());
        run
    }

    fn start(&mut self) {
        let nth = self.asked.len();
        let command = self.case.command(nth);
        match self.ask(command, nth as u64 * LENGTH) {
            Ok(cookie) => {
                let offset = if command == Command::Flush { 0 } else { nth as u64 * LENGTH };
                let asked = Asked { command, offset, seen: Vec::new(), read: false, ended: false };
                assert!(self.asked.insert(cookie.get(), asked).is_none(), "{cookie} is used twice");
                let sent = self.session.take_output().len();
                let header = if self.case.config.export.headers == Headers::Extended { 32 } else { 28 };
                let payload = match command {
                    Command::BlockStatus if self.case.config.export.payload_status() => 8 + 4 * ONLY.len(),
                    Command::Write => MOVED,
                    _ => 0,
                };
                assert_eq!(sent, header + payload);
            }
            Err(StartError::Ending) => assert!(self.session.must_disconnect()),
            Err(error) => panic!("{error}"),
        }
    }

    fn ask(&mut self, command: Command, offset: u64) -> Result<Cookie, StartError> {
        let session = &mut self.session;
        match command {
            Command::Read => {
                let request = ReadRequest::new(offset);
                session.start_read(&if self.case.df { request.df() } else { request }, vec![STALE; MOVED])
            }
            Command::Write => session.start_write(&WriteRequest::new(offset), vec![1; MOVED]),
            Command::Flush => session.start_flush(),
            Command::Trim => session.start_trim(&TrimRequest::new(offset, LENGTH)),
            Command::Cache => session.start_cache(offset, LENGTH),
            Command::WriteZeroes => session.start_write_zeroes(&ZeroRequest::new(offset, LENGTH).fast()),
            _ => {
                let request = StatusRequest::new(offset, LENGTH);
                let payload_form = self.case.config.export.payload_status();
                session.start_block_status(&if payload_form { request.only(&ONLY) } else { request })
            }
        }
    }

    /// Through `feed`.
    fn feed(mut self, input: &[u8], pieces: &Cuts) -> SessionOutcome {
        self.stale_is_sent = input.contains(&STALE);
        let mut rest = input;
        let mut nth = 0;
        while !rest.is_empty() {
            let mut piece = &rest[..rest.len().min(pieces.size(nth))];
            nth += 1;
            rest = &rest[piece.len()..];
            while !piece.is_empty() {
                match self.feed_once(piece) {
                    Ok(taken) => piece = &piece[taken..],
                    Err(error) => return self.broken(error),
                }
            }
        }
        self.whole()
    }

    fn feed_once(&mut self, piece: &[u8]) -> Result<usize, ProtocolError> {
        let drain_odd = self.case.drain_odd;
        self.fed += piece.len();
        let taken = self.session.feed(piece, &mut |offer: &ChunkOffer| admit(drain_odd, offer))?;
        self.fed -= piece.len() - taken;
        assert!(taken > 0, "no progress");
        let polled = self.poll();
        assert!(taken == piece.len() || polled > 0, "stopped without an event");
        Ok(taken)
    }

    /// Through `space` and `advance`.
    fn fill(mut self, input: &[u8], pieces: &Cuts) -> SessionOutcome {
        let drain_odd = self.case.drain_odd;
        self.stale_is_sent = input.contains(&STALE);
        let mut rest = input;
        let mut nth = 0;
        while !rest.is_empty() {
            let fed = self.fed;
            let space = self.session.space();
            assert!(
                !space.is_empty() && space.len() <= STEP.max(fed),
                "{} bytes of space after {fed}",
                space.len()
            );
            let count = rest.len().min(pieces.size(nth)).min(space.len());
            nth += 1;
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            self.fed += count;
            if let Err(error) = self.session.advance(count, &mut |offer: &ChunkOffer| admit(drain_odd, offer))
            {
                return self.broken(error);
            }
            self.poll();
        }
        self.whole()
    }

    /// Takes all events, and returns their number.
    fn poll(&mut self) -> usize {
        let before = self.events.len();
        while let Some(event) = self.session.poll() {
            self.event(&event);
            self.events.push(event.clone());
            match event {
                Event::Status { payload, .. } if self.case.recycle => self.session.recycle(payload),
                Event::Read { data, .. } if self.case.recycle => self.session.recycle_buffer(data),
                Event::Done { .. } | Event::Failed { .. }
                    if self.case.follow && self.asked.len() < MOST_REQUESTS =>
                {
                    self.start();
                }
                _ => {}
            }
        }
        assert!(self.session.take_output().is_empty(), "something is sent unasked");
        self.events.len() - before
    }

    fn event(&mut self, event: &Event) {
        let asked = self.asked.get_mut(&event.cookie().get()).expect("an event of no request");
        assert!(!asked.ended, "an event after the last: {event:?}");
        let limit = self.case.config.limits.max_payload;
        match event {
            Event::Status { context, payload, .. } => {
                assert_eq!(payload.get(..4), Some(&context.to_be_bytes()[..]));
                let most = STEP.max(self.fed).max(ErrorChunk::MAX_USED as usize);
                assert!(payload.capacity() <= 2 * most, "{} for {}", payload.capacity(), payload.len());
                asked.chunk(self.case, *context, payload.len() as u64, limit);
            }
            Event::Drained { context, length, .. } => asked.chunk(self.case, *context, *length, limit),
            Event::Read { data, .. } => {
                assert!(asked.command == Command::Read && !asked.read, "data that nobody asked for");
                assert_eq!(data.len(), MOVED);
                assert!(self.stale_is_sent || !data.contains(&STALE), "bytes that never came");
                asked.read = true;
            }
            Event::Done { .. } => {
                assert_eq!(asked.read, asked.command == Command::Read, "a read that ended without its data");
                asked.ended = true;
            }
            Event::Failed { error, .. } => {
                assert!(!asked.read, "data of a read that failed");
                asked.ended = true;
                assert_eq!((error.request.command, error.request.offset), (asked.command, asked.offset));
                assert_printable(&error.to_string());
            }
            other => panic!("{other:?}"),
        }
    }

    fn ended(&self) -> usize {
        self.asked.values().filter(|asked| asked.ended).count()
    }

    fn whole(self) -> SessionOutcome {
        let stats = *self.session.stats();
        assert_eq!(stats.bytes_received, self.fed as u64);
        assert_eq!(stats.requests, self.asked.len() as u64);
        assert_eq!(stats.done + stats.failed, self.ended() as u64);
        assert_eq!(self.session.in_flight(), self.asked.len() - self.ended());
        let moving = self
            .asked
            .values()
            .filter(|asked| !asked.ended && matches!(asked.command, Command::Read | Command::Write));
        assert_eq!(self.session.bytes_in_flight(), (moving.count() * MOVED) as u64);
        let state = SessionState {
            stats,
            in_flight: self.session.in_flight(),
            must_disconnect: self.session.must_disconnect(),
            eof: self.session.eof(),
        };
        SessionOutcome { events: self.events, end: Ok(state) }
    }

    /// A broken session yields only the events that it already had.
    fn broken(mut self, error: ProtocolError) -> SessionOutcome {
        assert_printable(&error.to_string());
        let case = self.case;
        while let Some(event) = self.session.poll() {
            self.event(&event);
            self.events.push(event);
        }
        for _ in 0..2 {
            let again =
                self.session.feed(&[0x66, 0x8e, 0x33, 0xef], &mut |offer: &ChunkOffer| admit(false, offer));
            assert_eq!(again, Err(error));
            assert_eq!(self.session.advance(0, &mut |offer: &ChunkOffer| admit(false, offer)), Err(error));
            assert_eq!(self.session.poll(), None);
        }
        for command in TURN {
            if command == Command::BlockStatus && case.config.export.headers == Headers::Simple {
                continue;
            }
            assert_eq!(self.ask(command, 0), Err(StartError::Broken(error)));
        }
        assert!(self.session.take_output().is_empty());
        SessionOutcome { events: self.events, end: Err(error) }
    }
}

impl Asked {
    /// A chunk of status, taken or drained.
    fn chunk(&mut self, case: &SessionCase, context: u32, length: u64, limit: u64) {
        assert_eq!(self.command, Command::BlockStatus, "status that nobody asked for");
        assert!(length <= limit, "a payload of {length} bytes");
        assert!(case.asked().contains(&context), "context {context} was not asked for");
        assert!(!self.seen.contains(&context), "context {context} came twice");
        let (header, descriptor) =
            if case.config.export.headers == Headers::Extended { (8, 16) } else { (4, 8) };
        assert!(
            length > header && (length - header).is_multiple_of(descriptor),
            "{length} bytes are no descriptors"
        );
        self.seen.push(context);
    }
}

fn admit(drain_odd: bool, offer: &ChunkOffer) -> Admission {
    if drain_odd && offer.context % 2 == 1 { Admission::Drain } else { Admission::Take }
}
