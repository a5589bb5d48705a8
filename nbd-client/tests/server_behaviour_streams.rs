//! Every valid stream is fed whole, a byte at a time, and cut at every byte: the same extents, or a
//! typed end of file and a true part of them. First session and survey without I/O, then the whole
//! client over a socket.
#![cfg(target_os = "linux")]

use std::io::{Read, Result as IoResult, Write};
use std::time::{Duration, Instant};

use nbd_client::frame::{Headers, UnexpectedEof};
use nbd_client::session::{ChunkOffer, Event, Session, SessionConfig, StatusRequest};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::transport::{Canceller, Socket, Transport};
use nbd_client::{Client, Error, Options, Surveyor, Uri, aio};
use nbd_extents::stream::ExtentStream;
use nbd_extents::wire::Form;
use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyOptions};
use testkit::clients::{AnySurveyor, runtime};
use testkit::scripted::{DONE, Good, ScriptedServer, bytes};

const M: u64 = 1 << 20;
const BASE: u32 = 0;
const BITMAP: u32 = 2;

/// The content of a chunk: kind, context, descriptors.
type Chunk = (u32, Vec<(u64, u64)>);

/// A conversation: the chunks that answer a request, by its offset and length. All of them are
/// valid.
struct Stream {
    name: &'static str,
    headers: Headers,
    size: u64,
    block: u32,
    reply: fn(u64, u64) -> Vec<Chunk>,
    /// The last chunk is an empty NONE.
    none: bool,
    map: &'static [&'static str],
}

const STREAMS: &[Stream] = &[
    Stream {
        name: "rows 16 and 17: short replies, of different totals, in the order of ids",
        headers: Headers::Structured,
        size: 4 * M,
        block: 512,
        reply: |offset, length| {
            let clean = (3 * M).saturating_sub(offset).min(length);
            let bitmap = [(clean, 0), (length - clean, 1)].into_iter().filter(|(length, _)| *length > 0);
            let allocation = (M - offset % M, if offset / M == 1 { 3 } else { 0 });
            vec![(BASE, vec![allocation]), (BITMAP, bitmap.collect())]
        },
        none: false,
        map: &[
            "0..1048576 clean,data",
            "1048576..2097152 clean,zero,hole",
            "2097152..3145728 clean,data",
            "3145728..4194304 dirty,data",
        ],
    },
    Stream {
        name: "row 13: past the request, in another order, and a NONE at the end",
        headers: Headers::Structured,
        size: 3 << 30,
        block: 512,
        reply: |offset, _| {
            vec![(BITMAP, vec![((3 << 30) - offset, 1)]), (BASE, vec![((3 << 30) - offset, 2)])]
        },
        none: true,
        map: &["0..3221225472 dirty,zero"],
    },
    Stream {
        name: "rows 19, 20 and 22: flags that mean nothing, and a hole that must be read",
        headers: Headers::Extended,
        size: 4 * M,
        block: 512,
        reply: |_, _| {
            vec![
                (BASE, vec![(M, 0xffff_fffc), (M, 1), (2 * M, 2)]),
                (BITMAP, vec![(M, 0xffff_fffe), (3 * M, 0xffff_ffff)]),
            ]
        },
        none: true,
        map: &["0..1048576 clean,data", "1048576..2097152 dirty,hole", "2097152..4194304 dirty,zero"],
    },
    Stream {
        name: "row 66: a size that is no multiple of a block",
        headers: Headers::Extended,
        size: 1000,
        block: 512,
        // a request is whole blocks, so that none reaches the tail: data and dirty, for all that is
        // known
        reply: |_, length| vec![(BASE, vec![(length, 3)]), (BITMAP, vec![(length, 0)])],
        none: false,
        map: &["0..512 clean,zero,hole", "512..1000 dirty,data"],
    },
    Stream {
        name: "row 23: an answer that ends within a block",
        headers: Headers::Structured,
        size: 8192,
        block: 4096,
        reply: |offset, length| {
            let length = if offset == 0 { 1000 } else { length };
            vec![(BASE, vec![(length, 3)]), (BITMAP, vec![(length, 0)])]
        },
        none: false,
        map: &["0..1000 clean,zero,hole", "1000..4096 dirty,data", "4096..8192 clean,zero,hole"],
    },
    Stream {
        name: "row 64: the greatest size",
        headers: Headers::Extended,
        size: (1 << 63) - 1,
        block: 512,
        reply: |offset, _| {
            let all = (1 << 63) - 1 - offset;
            vec![(BASE, vec![(1, 0), (all - 1, 3)]), (BITMAP, vec![(all, 1)])]
        },
        none: false,
        // no request may ask for the part of a block at the end, which takes the safe status
        map: &[
            "0..1 dirty,data",
            "1..9223372036854775296 dirty,zero,hole",
            "9223372036854775296..9223372036854775807 dirty,data",
        ],
    },
];

fn contexts() -> Contexts {
    Contexts::new().require(Context::Allocation).unwrap().require(Context::bitmap("b0")).unwrap()
}

impl Stream {
    /// The bytes that answer a request.
    fn answer(&self, cookie: u64, offset: u64, length: u64) -> Vec<u8> {
        let chunk = |flags, kind, payload: &[u8]| match self.headers {
            Headers::Extended => bytes::extended_chunk(flags, kind, cookie, offset, payload),
            _ => bytes::structured_chunk(flags, kind, cookie, payload),
        };
        let chunks = (self.reply)(offset, length);
        let mut out = Vec::new();
        for (nth, (context, list)) in chunks.iter().enumerate() {
            let last = nth + 1 == chunks.len() && !self.none;
            let payload = bytes::status(self.headers, *context, list);
            out.extend(chunk(if last { DONE } else { 0 }, bytes::status_kind(self.headers), &payload));
        }
        if self.none {
            out.extend(chunk(DONE, 0, &[]));
        }
        out
    }

    fn survey(&self) -> Survey {
        let form = if self.headers == Headers::Extended { Form::Extended } else { Form::Compact };
        let export =
            ExportParams::new(self.size, form).unwrap().read_only(true).min_block(self.block).unwrap();
        let granted = [(BASE, "base:allocation"), (BITMAP, "qemu:dirty-bitmap:b0")];
        Survey::together(SurveyOptions::new(export), contexts().negotiate(granted).unwrap()).unwrap()
    }
}

/// Feeds pieces of this size, at most `cut` bytes in all. Returns the extents and, if it did not
/// get to the end, the typed end of file.
fn feed(stream: &Stream, piece: usize, mut cut: usize) -> (Vec<String>, Option<UnexpectedEof>) {
    let mut survey = stream.survey();
    let mut session = Session::new(SessionConfig::new(stream.headers, [BASE, BITMAP]));
    let mut extents = Vec::new();
    while let Some(request) = survey.next_request().unwrap() {
        let asked = StatusRequest::new(request.offset(), request.length());
        let cookie = session.start_block_status(&asked).unwrap();
        session.take_output();
        let answer = stream.answer(cookie.get(), request.offset(), request.length());
        let there = &answer[..answer.len().min(cut)];
        cut -= there.len();
        for mut bytes in there.chunks(piece) {
            while !bytes.is_empty() {
                let admit = &mut |offer: &ChunkOffer| survey.admit(request.id(), offer.length);
                let taken = session.feed(bytes, admit).unwrap();
                bytes = &bytes[taken..];
                while let Some(event) = session.poll() {
                    match event {
                        Event::Status { payload, .. } => survey.chunk(request.id(), payload).unwrap(),
                        Event::Done { .. } => survey.reply_done(request.id()).unwrap(),
                        other => panic!("{}: {other:?}", stream.name),
                    }
                }
            }
        }
        while let Some(extent) = survey.next_extent().unwrap() {
            extents.push(extent.to_string());
        }
        if there.len() < answer.len() {
            let eof = session.eof().expect("a request is in flight");
            assert!(eof.got < eof.expected, "{eof}");
            survey.check_complete().unwrap_err();
            return (extents, Some(eof));
        }
    }
    survey.complete().unwrap();
    (extents, None)
}

#[test]
fn every_valid_stream_a_byte_at_a_time() {
    for stream in STREAMS {
        for piece in [usize::MAX, 1, 2, 3, 7, 16] {
            assert_eq!(feed(stream, piece, usize::MAX), (own(stream.map), None), "{}, {piece}", stream.name);
        }
    }
}

fn own(map: &[&str]) -> Vec<String> {
    map.iter().map(|extent| (*extent).to_owned()).collect()
}

#[test]
fn every_valid_stream_cut_at_every_byte() {
    for stream in STREAMS {
        let mut cut = 0;
        loop {
            let (extents, eof) = feed(stream, usize::MAX, cut);
            let (slowly, same_eof) = feed(stream, 1, cut);
            assert_eq!((&extents, eof), (&slowly, same_eof), "{}, cut at {cut}", stream.name);
            assert!(own(stream.map).starts_with(&extents), "{}, cut at {cut}: {extents:?}", stream.name);
            if eof.is_none() {
                break;
            }
            cut += 1;
        }
        assert!(cut > 40, "{}: only {cut} bytes", stream.name);
    }
}

/// A socket that gives away one byte at a time.
struct Slow(Socket);

impl Read for Slow {
    fn read(&mut self, buf: &mut [u8]) -> IoResult<usize> {
        let one = buf.len().min(1);
        self.0.read(&mut buf[..one])
    }
}

impl Write for Slow {
    fn write(&mut self, buf: &[u8]) -> IoResult<usize> {
        let one = buf.len().min(1);
        self.0.write(&buf[..one])
    }

    fn flush(&mut self) -> IoResult<()> {
        self.0.flush()
    }
}

impl Transport for Slow {
    fn set_deadline(&mut self, deadline: Option<Instant>) -> IoResult<()> {
        self.0.set_deadline(deadline)
    }
}

/// Serves a stream, handshake and all, up to a byte.
fn serve(stream: &'static Stream, cut: usize) -> ScriptedServer {
    let started = ScriptedServer::start(move |conn| {
        let good = if stream.headers == Headers::Extended { Good::extended() } else { Good::compact() };
        let good = good.size(stream.size).block_sizes([stream.block, 1 << 16, 1 << 25]);
        conn.cut_after(cut);
        conn.handshake(&good.context(BITMAP, "qemu:dirty-bitmap:b0"))?;
        conn.serve(|conn, request| conn.send(&stream.answer(request.cookie, request.offset, request.length)))
    });
    started.unwrap()
}

/// The extents of a server as far as they come, and what ended them.
fn read(server: &ScriptedServer) -> (Vec<String>, Option<SurveyorError>) {
    let uri: Uri = server.uri().parse().unwrap();
    let mut extents = Vec::new();
    let open = |options: &Options| {
        let late = Instant::now() + Duration::from_secs(60);
        let socket = Socket::connect(uri.address(), late, &Canceller::new()).unwrap();
        Client::over(Slow(socket), "", options)
    };
    let mut surveyor = match Surveyor::open(&Options::new(), &contexts(), Order::Together, open) {
        Ok(surveyor) => surveyor,
        Err(error) => return (extents, Some(error)),
    };
    let options = surveyor.survey_options().unwrap();
    let mut stream = surveyor.survey(options).unwrap();
    loop {
        match stream.next_extent() {
            Ok(Some(extent)) => extents.push(extent.to_string()),
            Ok(None) => return (extents, None),
            Err(error) => return (extents, Some(error)),
        }
    }
}

/// As [`read`], by the asynchronous client, which receives as much as comes.
fn read_async(server: &ScriptedServer) -> (Vec<String>, Option<SurveyorError>) {
    let runtime = runtime();
    let path = server.path().to_owned();
    // over a stream, where nothing is asked for a second time
    let connect = |options: Options| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await.unwrap();
            let stream: aio::BoxedStream = Box::new(stream);
            aio::Driver::over(stream, "", &options).await
        }
    };
    let (options, contexts) = (Options::new(), contexts());
    match runtime.block_on(aio::Surveyor::open(&options, &contexts, Order::Together, connect)) {
        Ok(surveyor) => {
            let mut surveyor = AnySurveyor::awaited(runtime, surveyor, false);
            let settled = surveyor.survey_options().unwrap();
            let run = surveyor.run(settled, usize::MAX).unwrap();
            (run.extents.iter().map(ToString::to_string).collect(), run.error)
        }
        Err(error) => (Vec::new(), Some(error)),
    }
}

#[test]
fn the_whole_client_a_byte_at_a_time_and_cut_at_every_byte() {
    for stream in STREAMS {
        for cut in 0.. {
            let (extents, error) = read(&serve(stream, cut));
            let by_async = read_async(&serve(stream, cut));
            assert_eq!(
                format!("{by_async:?}"),
                format!("{:?}", (&extents, &error)),
                "{}, cut at {cut}",
                stream.name
            );
            match error {
                None => {
                    assert_eq!(extents, own(stream.map), "{}", stream.name);
                    assert!(cut > 250, "{}: only {cut} bytes", stream.name);
                    break;
                }
                Some(SurveyorError::Client(Error::ConnectionLost(eof))) => {
                    assert!(eof.got < eof.expected && own(stream.map).starts_with(&extents), "{cut}: {eof}");
                }
                Some(other) => panic!("{}, cut at {cut}: {other}", stream.name),
            }
        }
    }
}
