//! The steps between a connection and a survey: the contexts that are asked for, the facts in which two
//! connections may differ, and odd handshakes that must do no harm. The peer is a thread with a script.
#![cfg(unix)]

use std::io::Result as IoResult;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nbd_client::frame::Headers;
use nbd_client::session::{Errno, RequestError, RequestFault, StatusRequest};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::transport::Canceller;
use nbd_client::{Error, Options};
use nbd_extents::{Context, Contexts};
use testkit::clients::{AnyClient, AnySurveyor, Kind, SurveyKind, SurveyRun};
use testkit::peer::{Peer, handshake};
use testkit::scripted::bytes::{block_size_info, error, structured_chunk};
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest};

const READ_ONLY: u16 = 3;
const WRITABLE: u16 = 1;
const SIZE: u64 = 1 << 20;
/// For requests that do not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The reply to the first request.
fn status(id: u32, length: u32, flags: u32) -> Vec<u8> {
    structured_chunk(1, 5, 1, &[id, length, flags].map(u32::to_be_bytes).concat())
}

fn over(kind: Kind, handshake: Vec<u8>, options: &Options) -> Result<AnyClient, Error> {
    kind.over(Peer::new(handshake, Vec::new()).stream(), options)
}

fn options() -> Options {
    Options::new().headers(Headers::Structured)
}

fn allocation() -> Contexts {
    Contexts::new().require(Context::Allocation).unwrap()
}

/// A bitmap-first survey without extended headers: one connection for the bitmap and one for the
/// rest.
fn two_connections(kind: SurveyKind, bitmap: Peer, details: Peer) -> Result<AnySurveyor, SurveyorError> {
    let wanted = allocation().require(Context::bitmap("b")).unwrap();
    kind.over(&options(), &wanted, Order::BitmapFirst, [bitmap, details].map(Peer::stream))
}

fn bitmap_side(flags: u16, size: u64, minimum: u32) -> Peer {
    let infos = [block_size_info([minimum, 1 << 16, 1 << 25])];
    Peer::new(handshake(&[(1, "qemu:dirty-bitmap:b")], flags, size, &infos), status(1, 1 << 20, 1))
}

fn details_side(flags: u16, size: u64, minimum: u32) -> Peer {
    let infos = [block_size_info([minimum, 1 << 16, 1 << 25])];
    Peer::new(handshake(&[(0, "base:allocation")], flags, size, &infos), status(0, 1 << 20, 3))
}

#[test]
fn of_two_connections_the_stricter_terms_hold() {
    for kind in SurveyKind::ALL {
        let (bitmap, details) = (bitmap_side(READ_ONLY, SIZE, 1), details_side(WRITABLE, SIZE, 1 << 16));
        let mut surveyor = two_connections(kind, bitmap, details).unwrap();
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
        let error = two_connections(kind, bitmap, details).unwrap_err();
        assert!(matches!(error, SurveyorError::Client(Error::Disagreement("size"))), "{kind:?}: {error}");
    }
}

#[test]
fn a_second_connection_that_fails_says_why_it_was_needed() {
    for kind in SurveyKind::ALL {
        let silenced = Peer { closes: true, ..Peer::new(b"NBDMAG".to_vec(), Vec::new()) };
        let error = two_connections(kind, bitmap_side(READ_ONLY, SIZE, 1), silenced).unwrap_err();
        assert!(matches!(error, SurveyorError::SecondConnection(_)), "{kind:?}: {error}");
        assert!(error.to_string().contains("second connection"), "{error}");
    }
}

#[test]
fn only_the_surveys_contexts_are_asked_for() {
    for kind in SurveyKind::ALL {
        let words = handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[]);
        let (stream, heard) = Peer::new(words, status(0, 1 << 20, 0)).start();
        let named = options().require_context("base:allocation").want_context("x:y");
        let mut surveyor = kind.over(&named, &allocation(), Order::Together, [stream]).unwrap();
        let options = surveyor.survey_options().unwrap();
        assert_eq!(surveyor.survey(options).unwrap().len(), 1);
        drop(surveyor);
        let heard = heard.recv().unwrap();
        assert!(!heard.windows(3).any(|part| part == b"x:y"), "{kind:?}");
    }
}

#[test]
fn flags_that_mean_nothing_do_not_make_an_export_read_only() {
    for kind in Kind::ALL {
        let words = handshake(&[(0, "base:allocation")], 2, SIZE, &[]);
        let client = over(kind, words, &options().require_context("base:allocation")).unwrap();
        assert!(!client.export().flags.is_read_only(), "{kind:?}");
    }
}

#[test]
fn a_description_that_is_not_text_is_not_shown_and_strict_refuses_it() {
    let wanted = options().require_context("base:allocation");
    for kind in Kind::ALL {
        let words = || handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[b"\0\x02caf\xe9".to_vec()]);
        assert_eq!(over(kind, words(), &wanted).unwrap().export().description, None, "{kind:?}");
        over(kind, words(), &wanted.clone().strict(true)).unwrap_err();
    }
}

#[test]
fn a_canceller_that_has_fired_starts_nothing() {
    let canceller = Canceller::new();
    canceller.cancel();
    for kind in Kind::ALL {
        let words = handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[]);
        let error = over(kind, words, &options().canceller(canceller.clone())).unwrap_err();
        assert!(matches!(error, Error::Cancelled(..)), "{kind:?}: {error}");
    }
}

#[test]
fn a_reply_without_status_is_no_success() {
    for kind in Kind::WITH_EVENTS {
        let words = handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[]);
        let peer = Peer::new(words, structured_chunk(1, 0, 1, &[]));
        let wanted = options().require_context("base:allocation");
        let mut client = kind.over(peer.stream(), &wanted).unwrap();
        let error = client.block_status(&StatusRequest::new(0, 4096)).unwrap_err();
        assert!(
            matches!(error, Error::Request(RequestError { fault: RequestFault::MissingContext(0), .. })),
            "{kind:?}: {error}"
        );
    }
}

#[test]
fn a_server_that_shuts_down_is_told_goodbye() {
    for kind in SurveyKind::ALL {
        let words = handshake(&[(0, "base:allocation")], READ_ONLY, SIZE, &[]);
        let (stream, heard) = Peer::new(words, structured_chunk(1, 0x8001, 1, &error(108, b""))).start();
        let mut surveyor = kind.over(&options(), &allocation(), Order::Together, [stream]).unwrap();
        let options = surveyor.survey_options().unwrap();
        // it is not asked again, and the error is its own
        let error = surveyor.survey(options).unwrap_err();
        let is_its_own = matches!(&error, SurveyorError::Client(error) if error.is_errno(Errno::ESHUTDOWN));
        assert!(is_its_own, "{kind:?}: {error}");
        drop(surveyor);
        let heard = heard.recv().unwrap();
        let disc = &heard[heard.len() - 28..];
        assert_eq!(disc[..8], [0x25, 0x60, 0x95, 0x13, 0, 0, 0, 2], "{kind:?}: the last word is DISC");
    }
}

/// Surveys a server that gives these answers to the first, the second request and so on. Returns how
/// many there were, too.
fn survey_of(
    kind: SurveyKind,
    answer: impl Fn(&mut Conn, &SeenRequest, usize) -> IoResult<()> + Send + Sync + 'static,
) -> (SurveyRun, usize) {
    let asked = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&asked);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(SIZE).flags(READ_ONLY))?;
        conn.serve(|conn, request| answer(conn, request, theirs.fetch_add(1, Ordering::SeqCst)))
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    let mut surveyor = kind.connect(&uri, &Options::new(), &allocation(), Order::Together).unwrap();
    let options = surveyor.survey_options().unwrap().max_retries(2);
    (surveyor.run(options, usize::MAX).unwrap(), asked.load(Ordering::SeqCst))
}

/// A request that fails is asked again a few times, and then the error says what the server said.
#[test]
fn a_request_that_fails_is_asked_again() {
    for kind in SurveyKind::ALL {
        let (run, asked) = survey_of(kind, |conn, request, nth| match nth {
            0 | 1 => conn.error(request, 5, "bad sector", DONE),
            _ => conn.honest(request, 3),
        });
        assert!(run.error.is_none(), "{kind:?}: {:?}", run.error);
        assert_eq!((run.extents.len(), run.extents[0].range(), asked), (1, 0..SIZE, 3), "{kind:?}");

        let (run, asked) = survey_of(kind, |conn, request, _| conn.error(request, 5, "bad sector", DONE));
        let Some(SurveyorError::Client(error)) = run.error else { panic!("{kind:?}: {:?}", run.error) };
        assert!(error.is_errno(Errno(5)) && error.to_string().contains("bad sector"), "{kind:?}: {error}");
        assert_eq!((run.extents.len(), asked), (0, 3), "{kind:?}");
    }
}

/// An answer without a context is a fault of the server, and is not asked for again.
#[test]
fn an_answer_without_a_context_says_which() {
    for kind in SurveyKind::ALL {
        let (run, asked) = survey_of(kind, |conn, request, _| conn.done(request));
        let Some(SurveyorError::Survey(error)) = run.error else { panic!("{kind:?}: {:?}", run.error) };
        assert!(error.to_string().contains("base:allocation"), "{kind:?}: {error}");
        assert_eq!((run.extents.len(), asked), (0, 1), "{kind:?}");
    }
}

/// Replies may come in any order. Each is of the request that it names, whatever was asked before.
#[test]
fn answers_in_another_order_are_those_of_their_requests() {
    const PART: u64 = 64 << 10;
    // after the first answer four requests are in flight, twice
    const PARTS: u64 = 9;
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(PARTS * PART).flags(READ_ONLY))?;
        for count in [1, 4, 4] {
            let asked = (0..count).map(|_| conn.request()).collect::<IoResult<Vec<_>>>()?;
            for request in asked.iter().rev() {
                let data = (request.offset / PART + 1) * 4096;
                conn.status(request, 0, &[(data, 0), (PART - data, 3)], DONE)?;
            }
        }
        conn.stall()
    })
    .unwrap();
    for kind in SurveyKind::ALL {
        let (uri, patience) = (server.uri().parse().unwrap(), Options::new().request_timeout(PATIENCE));
        let mut surveyor = kind.connect(&uri, &patience, &allocation(), Order::Together).unwrap();
        let options = surveyor.survey_options().unwrap().in_flight(4).max_request(PART);
        let run = surveyor.run(options, usize::MAX).unwrap();
        assert!(run.error.is_none(), "{kind:?}: {:?}", run.error);
        let found: Vec<_> =
            run.extents.iter().map(|extent| (extent.range(), extent.status().zero())).collect();
        let expected = (0..PARTS).flat_map(|part| {
            let [start, hole, end] = [part * PART, part * PART + (part + 1) * 4096, (part + 1) * PART];
            [(start..hole, Some(false)), (hole..end, Some(true))]
        });
        assert_eq!(found, expected.collect::<Vec<_>>(), "{kind:?}");
    }
}

/// Where a request can name its contexts, one connection is enough for a survey of the bitmap first: it
/// is asked for the bitmap alone, and then for the rest alone.
#[test]
fn a_request_names_its_contexts_where_it_can() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&asked);
    let server = ScriptedServer::start(move |conn| {
        // BLOCK_STATUS_PAYLOAD
        let terms = Good::extended().size(SIZE).flags(READ_ONLY | 1 << 12);
        conn.handshake(&terms.context(7, "qemu:dirty-bitmap:b0"))?;
        conn.serve(|conn, request| {
            theirs.lock().unwrap().push(request.contexts.clone());
            conn.honest(request, 1)
        })
    })
    .unwrap();
    let wanted = allocation().require(Context::bitmap("b0")).unwrap();
    for kind in SurveyKind::ALL {
        let uri = server.uri().parse().unwrap();
        let mut surveyor = kind.connect(&uri, &Options::new(), &wanted, Order::BitmapFirst).unwrap();
        let options = surveyor.survey_options().unwrap();
        assert_eq!(surveyor.survey(options).unwrap().len(), 1, "{kind:?}");
        assert_eq!(surveyor.connection_stats().len(), 1, "{kind:?}");
        let asked = core::mem::take(&mut *asked.lock().unwrap());
        assert_eq!(asked, [Some(vec![7]), Some(vec![0])], "{kind:?}");
    }
}
