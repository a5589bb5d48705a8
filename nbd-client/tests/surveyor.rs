//! What lies between a connection and a survey: which contexts are asked for, what two connections
//! may differ in, and what a handshake's oddities must not lead to. The peer is a thread that says
//! its piece without listening.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nbd_client::aio::{self, BoxedStream};
use nbd_client::session::{RequestError, RequestFault, StatusRequest};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::transport::{Canceller, Socket};
use nbd_client::{Client, Error, Options, Surveyor};
use nbd_extents::{Context, Contexts};
use testkit::clients::{AnySurveyor, SurveyKind, runtime};

const READ_ONLY: u16 = 3;
const WRITABLE: u16 = 1;
const INFO: u32 = 3;
const SIZE: u64 = 1 << 20;
/// This peer answers before it is asked. That is a fault unless the request is under way by the time
/// that the answer is read, as it is with the blocking client, which sends when a request starts.
const SENT_AT_ONCE: [SurveyKind; 1] = [SurveyKind::Blocking];

fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    let words = [option, kind, length].map(u32::to_be_bytes).concat();
    [&0x0003_e889_0455_65a9_u64.to_be_bytes()[..], &words, data].concat()
}

/// All that a server says until GO is acknowledged, without extended headers.
fn handshake(contexts: &[(u32, &str)], flags: u16, size: u64, infos: &[Vec<u8>]) -> Vec<u8> {
    let mut words = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
    words.extend(option_reply(8, 1, &[]));
    for (id, name) in contexts {
        words.extend(option_reply(10, 4, &[&id.to_be_bytes()[..], name.as_bytes()].concat()));
    }
    words.extend(option_reply(10, 1, &[]));
    words.extend(infos.concat());
    let export = [&[0, 0][..], &size.to_be_bytes(), &flags.to_be_bytes()].concat();
    words.extend(option_reply(7, INFO, &export));
    words.extend(option_reply(7, 1, &[]));
    words
}

fn minimum_block(bytes: u32) -> Vec<u8> {
    let sizes = [bytes, 1 << 16, 1 << 25].map(u32::to_be_bytes).concat();
    option_reply(7, INFO, &[&[0, 3][..], &sizes].concat())
}

/// A chunk of the reply to the first request.
fn chunk(flags: u16, kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    let head = [&[0x66, 0x8e, 0x33, 0xef][..], &flags.to_be_bytes(), &kind.to_be_bytes()].concat();
    [&head[..], &1_u64.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

fn status(id: u32, length: u32, flags: u32) -> Vec<u8> {
    chunk(1, 5, &[id, length, flags].map(u32::to_be_bytes).concat())
}

/// A server that says `words` and then nothing; what it was sent can be received at the end.
fn server(words: Vec<u8>) -> (UnixStream, Receiver<Vec<u8>>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        theirs.write_all(&words).unwrap();
        theirs.shutdown(Shutdown::Write).ok();
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).ok();
        sender.send(heard).ok();
    });
    (ours, receiver)
}

fn connect(words: Vec<u8>, options: &Options) -> Result<Client, Error> {
    Client::over(Socket::try_from(server(words).0).unwrap(), "", options)
}

fn options() -> Options {
    Options::new().extended_headers(false)
}

fn allocation() -> Contexts {
    Contexts::new().require(Context::Allocation).unwrap()
}

/// A bitmap-first survey without extended headers: one connection for the bitmap and one for the
/// rest.
fn two_connections(kind: SurveyKind, bitmap: &[u8], details: &[u8]) -> Result<AnySurveyor, SurveyorError> {
    let wanted = allocation().require(Context::bitmap("b")).unwrap();
    open(
        kind,
        &options(),
        &wanted,
        Order::BitmapFirst,
        [bitmap.to_vec(), details.to_vec()].map(server_stream),
    )
}

fn server_stream(words: Vec<u8>) -> UnixStream {
    server(words).0
}

/// A surveyor over these streams, one connection after the other.
fn open<const COUNT: usize>(
    kind: SurveyKind,
    options: &Options,
    wanted: &Contexts,
    order: Order,
    streams: [UnixStream; COUNT],
) -> Result<AnySurveyor, SurveyorError> {
    let mut streams = streams.into_iter();
    let mut next = || streams.next().expect("no more connections");
    Ok(match kind {
        SurveyKind::Blocking => {
            let connect = |options: &Options| Client::over(Socket::try_from(next()).unwrap(), "", options);
            AnySurveyor::Blocking(Box::new(Surveyor::open(options, wanted, order, connect)?))
        }
        SurveyKind::Async => {
            let runtime = runtime();
            let connect = |options: Options| {
                let stream = next();
                stream.set_nonblocking(true).unwrap();
                async move {
                    let stream: BoxedStream = Box::new(tokio::net::UnixStream::from_std(stream).unwrap());
                    aio::Driver::over(stream, "", &options).await
                }
            };
            let surveyor = runtime.block_on(aio::Surveyor::open(options, wanted, order, connect))?;
            AnySurveyor::Async(runtime, Box::new(surveyor))
        }
    })
}

fn bitmap_side(flags: u16, size: u64, minimum: u32) -> Vec<u8> {
    let words = handshake(&[(1, "qemu:dirty-bitmap:b")], flags, size, &[minimum_block(minimum)]);
    [words, status(1, 1 << 20, 1)].concat()
}

fn details_side(flags: u16, size: u64, minimum: u32) -> Vec<u8> {
    let words = handshake(&[(0, "base:allocation")], flags, size, &[minimum_block(minimum)]);
    [words, status(0, 1 << 20, 3)].concat()
}

#[test]
fn of_two_connections_the_stricter_terms_hold() {
    for kind in SENT_AT_ONCE {
        let (bitmap, details) = (bitmap_side(READ_ONLY, SIZE, 1), details_side(WRITABLE, SIZE, 1 << 16));
        let mut surveyor = two_connections(kind, &bitmap, &details).unwrap();
        assert!(!surveyor.is_read_only(), "one of them may change");
        let options = surveyor.survey_options().unwrap();
        let error = surveyor.survey(options.clone()).unwrap_err();
        assert!(error.to_string().contains("writable"), "{error}");
        let ranged = options.range(65535..65537).unwrap().allow_writable();
        let first = surveyor.run(ranged, 1).unwrap().extents[0];
        let text = first.to_string();
        assert_eq!((first.range(), text.as_str()), (65535..65537, "65535..65537 dirty,zero,hole"));
    }
}

#[test]
fn two_connections_to_exports_of_different_size_are_refused() {
    for kind in SurveyKind::ALL {
        let (bitmap, details) = (bitmap_side(READ_ONLY, SIZE, 1), details_side(READ_ONLY, SIZE * 2, 1));
        let error = two_connections(kind, &bitmap, &details).unwrap_err();
        assert!(matches!(error, SurveyorError::Client(Error::Disagreement("size"))), "{kind:?}: {error}");
    }
}

#[test]
fn a_second_connection_that_fails_says_why_it_was_needed() {
    for kind in SurveyKind::ALL {
        let error = two_connections(kind, &bitmap_side(READ_ONLY, SIZE, 1), b"NBDMAG").unwrap_err();
        assert!(matches!(error, SurveyorError::SecondConnection(_)), "{kind:?}: {error}");
        assert!(error.to_string().contains("second connection"), "{error}");
    }
}

#[test]
fn only_the_surveys_contexts_are_asked_for() {
    for kind in SENT_AT_ONCE {
        let words = handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[]);
        let (stream, heard) = server([words, status(0, 1 << 20, 0)].concat());
        let named = options().require_context("base:allocation").want_context("x:y");
        let mut surveyor = open(kind, &named, &allocation(), Order::Together, [stream]).unwrap();
        let options = surveyor.survey_options().unwrap();
        assert_eq!(surveyor.survey(options).unwrap().len(), 1);
        drop(surveyor);
        let heard = heard.recv().unwrap();
        assert!(!heard.windows(3).any(|part| part == b"x:y"), "{kind:?}");
    }
}

#[test]
fn flags_that_mean_nothing_do_not_make_an_export_read_only() {
    let words = handshake(&[(0, "base:allocation")], 2, SIZE, &[]);
    let client = connect(words, &options().require_context("base:allocation")).unwrap();
    assert!(!client.export().flags.is_read_only());
}

#[test]
fn a_description_that_is_not_text_is_not_shown_and_strict_refuses_it() {
    let words =
        || handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[option_reply(7, INFO, b"\0\x02caf\xe9")]);
    let wanted = options().require_context("base:allocation");
    assert_eq!(connect(words(), &wanted).unwrap().export().description, None);
    connect(words(), &wanted.strict(true)).unwrap_err();
}

#[test]
fn a_canceller_that_has_fired_starts_nothing() {
    let canceller = Canceller::new();
    canceller.cancel();
    let words = handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[]);
    let error = connect(words, &options().canceller(canceller)).unwrap_err();
    assert!(matches!(error, Error::Cancelled(..)), "{error}");
}

#[test]
fn a_reply_without_status_is_no_success() {
    let words = handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[]);
    let mut client =
        connect([words, chunk(1, 0, &[])].concat(), &options().require_context("base:allocation")).unwrap();
    let error = client.block_status(&StatusRequest::new(0, 4096), &mut |_: u32, _: &[u8]| {}).unwrap_err();
    assert!(
        matches!(error, Error::Request(RequestError { fault: RequestFault::MissingContext(0), .. })),
        "{error}"
    );
}

#[test]
fn a_server_that_shuts_down_is_told_goodbye() {
    for kind in SENT_AT_ONCE {
        let words = handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[]);
        let (stream, heard) = server([words, chunk(1, 0x8001, &[0, 0, 0, 108, 0, 0])].concat());
        let mut surveyor = open(kind, &options(), &allocation(), Order::Together, [stream]).unwrap();
        let options = surveyor.survey_options().unwrap();
        surveyor.survey(options).unwrap_err();
        drop(surveyor);
        let heard = heard.recv().unwrap();
        let disc = &heard[heard.len() - 28..];
        assert_eq!(disc[..8], [0x25, 0x60, 0x95, 0x13, 0, 0, 0, 2], "{kind:?}: the last word is DISC");
    }
}
