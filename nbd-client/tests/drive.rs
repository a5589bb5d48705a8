//! Requests in flight where server or caller do not keep step: a caller that is busy elsewhere,
//! last words of a server that hangs up, answers that come before their question, limits that are
//! lower than what a call would have in flight.
#![cfg(target_os = "linux")]

use std::io::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::frame::{command, option_type};
use nbd_client::pipeline::PipelineOptions;
use nbd_client::session::{
    Errno, Event, ProtocolError, ReadRequest, SessionLimits, StartError, WriteRequest, take_all,
};
use nbd_client::survey::{Order, SurveyorError, map};
use nbd_client::{Error, ErrorClass, Options, aio};
use nbd_extents::{Context, Contexts, Extent, Status};
use testkit::clients::{AnyClient, Kind, NextExtent, SurveyKind, runtime};
use testkit::pools::{AnyPool, PoolKind};
use testkit::scripted::{Conn, DONE, Good, Reaction, ScriptedServer, SeenRequest, bytes};

const MIB: u64 = 1 << 20;
/// HAS_FLAGS, SEND_FLUSH, SEND_WRITE_ZEROES, CAN_MULTI_CONN.
const WRITABLE: u16 = 1 | 1 << 2 | 1 << 6 | 1 << 8;
const ESHUTDOWN: u32 = 108;
const TIMEOUT: Duration = Duration::from_secs(1);

fn connect(kind: Kind, server: &ScriptedServer, options: &Options) -> AnyClient {
    kind.connect(&server.uri().parse().unwrap(), options).unwrap()
}

fn pools(server: &ScriptedServer, options: &Options) -> [AnyPool; 2] {
    PoolKind::ALL.map(|kind| kind.connect(&server.uri().parse().unwrap(), options, 1).unwrap())
}

fn zeroes(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    match request.command {
        command::READ => conn.data(request, request.offset, &vec![0; request.length as usize], DONE),
        command::BLOCK_STATUS => conn.honest(request, 0),
        _ => conn.done(request),
    }
}

fn is_shutdown(error: &Error) -> bool {
    error.is_errno(Errno::ESHUTDOWN)
}

// ---- deadlines, and a caller that is busy elsewhere

/// The server answers at once, and more than the socket holds: it waits for the caller, who takes
/// twice as long as a request may.
#[test]
fn a_caller_that_takes_its_time_is_no_timeout() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB))?;
        conn.serve(zeroes)
    })
    .unwrap();
    for kind in Kind::WITH_EVENTS {
        let mut client = connect(kind, &server, &Options::new().request_timeout(TIMEOUT));
        for nth in 0..4 {
            let buffer = vec![0; 2 << 20];
            client.start(|session| session.start_read(&ReadRequest::new(nth * 2 * MIB), buffer)).unwrap();
        }
        let mut reads = 0;
        thread::sleep(TIMEOUT * 2);
        while let Some(event) = client.next_event(&mut take_all).unwrap() {
            if let Event::Read { .. } = event {
                reads += 1;
                thread::sleep(TIMEOUT + TIMEOUT / 4);
                // a start in between does not make the older ones late
                if reads == 1 {
                    client
                        .start(|session| session.start_read(&ReadRequest::new(0), vec![0; 2 << 20]))
                        .unwrap();
                }
            }
        }
        assert_eq!(reads, 5, "{kind:?}");
    }
}

/// The caller's own time is not the server's. A request that is never answered is late when nothing
/// else is answered either: progress on any request restarts the limit.
#[test]
fn a_slow_server_is_a_timeout_whatever_the_caller_does() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB))?;
        // the first request is never answered, the others soon
        conn.request()?;
        conn.serve(|conn, request| {
            conn.pause(TIMEOUT / 4)?;
            zeroes(conn, request)
        })
    })
    .unwrap();
    for kind in Kind::WITH_EVENTS {
        let mut client = connect(kind, &server, &Options::new().request_timeout(TIMEOUT));
        client.start(|session| session.start_read(&ReadRequest::new(0), vec![0; 512])).unwrap();
        client.start(|session| session.start_read(&ReadRequest::new(512), vec![0; 512])).unwrap();
        let (mut answers, mut last) = (0, Instant::now());
        let error = loop {
            match client.next_event(&mut take_all) {
                Ok(Some(Event::Done { .. })) => {
                    (answers, last) = (answers + 1, Instant::now());
                    if answers < 8 {
                        client
                            .start(|session| session.start_read(&ReadRequest::new(512), vec![0; 512]))
                            .unwrap();
                    }
                }
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Timeout { .. }), "{kind:?}: {error}");
        assert_eq!(answers, 8, "they should not have been late");
        let took = last.elapsed();
        assert!(took >= TIMEOUT - Duration::from_millis(50) && took < TIMEOUT * 10, "{took:?}");
    }
}

// ---- last words

/// The error comes while the data of the write are still on their way: all of them come before the
/// goodbye.
#[test]
fn a_goodbye_does_not_come_in_the_middle_of_data() {
    let (tell, told) = mpsc::channel();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        let request = conn.request_header()?;
        conn.error(&request, ESHUTDOWN, "going down", DONE)?;
        conn.pause(Duration::from_millis(100))?;
        let data = conn.read(request.length as usize)?;
        tell.send(data.iter().all(|&byte| byte == 7)).unwrap();
        tell.send(conn.request()?.command == command::DISC).unwrap();
        Ok(())
    })
    .unwrap();
    // a pool would have several writes in flight
    for kind in [Kind::Blocking, Kind::Async, Kind::AsyncDriver] {
        let mut client = connect(kind, &server, &Options::new());
        let error = client.write(0, &vec![7; MIB as usize]).unwrap_err();
        assert!(is_shutdown(&error), "{kind:?}: {error}");
        let patience = Duration::from_secs(10);
        assert_eq!(told.recv_timeout(patience), Ok(true), "other bytes among those of the write");
        assert_eq!(told.recv_timeout(patience), Ok(true), "no goodbye");
    }
}

/// The server fails a write, hangs up and reads no more. The next bytes cannot be sent; that it has
/// said why is found all the same.
#[test]
fn what_a_server_said_before_it_hung_up_is_heard() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        let request = conn.request_header()?;
        conn.error(&request, ESHUTDOWN, "going down", DONE)?;
        conn.hang_up()
    })
    .unwrap();
    for kind in Kind::ALL.into_iter().flat_map(|kind| [kind; 8]) {
        let mut client = connect(kind, &server, &Options::new());
        let error = client.write(0, &vec![7; 16 << 20]).unwrap_err();
        assert!(is_shutdown(&error), "{kind:?}: {error}");
    }

    for mut pool in pools(&server, &Options::new()) {
        let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
        let error = (0..64)
            .find_map(|nth| {
                thread::sleep(Duration::from_millis(5));
                writes.write(nth * MIB / 4, vec![7; 256 << 10]).err()
            })
            .unwrap();
        assert!(is_shutdown(&error), "a pipeline: {error}");
    }

    for kind in Kind::WITH_EVENTS {
        let mut client = connect(kind, &server, &Options::new());
        let first = client.start(|session| session.start_write(&WriteRequest::new(0), vec![7; 512])).unwrap();
        thread::sleep(Duration::from_millis(100));
        client.start(|session| session.start_write(&WriteRequest::new(512), vec![7; 512])).unwrap();
        let event = client.next_event(&mut take_all).unwrap().unwrap();
        assert!(matches!(&event, Event::Failed { cookie, error } if *cookie == first && error.is_shutdown()));
        // the second was never answered
        let error = client.next_event(&mut take_all).unwrap_err();
        assert!(matches!(error, Error::Io { .. } | Error::ConnectionLost(_)), "{error}");
        assert!(matches!(client.next_event(&mut take_all), Err(Error::GivenUp)));
    }
}

/// A server that is going down reads the rest of the first write late, and the goodbye waits for that. A
/// write that is refused meanwhile does not hide why.
#[test]
fn a_write_that_comes_during_the_goodbye_does_not_hide_the_cause() {
    for kind in PoolKind::ALL {
        let (tell, told) = mpsc::channel();
        let told = Mutex::new(told);
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
            let request = conn.request_header()?;
            conn.error(&request, ESHUTDOWN, "going down", DONE)?;
            told.lock().unwrap().recv().unwrap();
            conn.read(request.length as usize)?;
            // a write that came before the error was heard
            conn.serve(|conn, request| conn.error(request, ESHUTDOWN, "going down", DONE))
        })
        .unwrap();
        let mut pool = kind.connect(&server.uri().parse().unwrap(), &Options::new(), 1).unwrap();
        let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
        // more than the socket holds
        writes.write(0, vec![7; MIB as usize]).unwrap();
        thread::sleep(Duration::from_millis(100));
        let second = writes.write(MIB, vec![7; 512]);
        thread::sleep(Duration::from_millis(100));
        tell.send(()).unwrap();
        let error = second.and_then(|()| writes.finish()).unwrap_err();
        assert!(is_shutdown(&error), "{kind:?}: {error}");
    }
}

/// Both answers came in one piece, and the second waits to be polled when the client says goodbye.
#[test]
fn a_goodbye_may_come_while_answers_wait() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        let requests = [conn.request()?, conn.request()?];
        let answers =
            requests.map(|request| bytes::extended_chunk(DONE, 0, request.cookie, request.offset, &[]));
        conn.send(&answers.concat())?;
        conn.pause(Duration::from_millis(200))?;
        conn.send(&[0x66])?;
        conn.pause(Duration::from_millis(200))?;
        conn.serve(zeroes)
    })
    .unwrap();
    for kind in Kind::WITH_EVENTS {
        let mut client = connect(kind, &server, &Options::new());
        for nth in 0..10 {
            let data = vec![7; if nth < 2 { 512 } else { MIB as usize }];
            client.start(|session| session.start_write(&WriteRequest::new(nth * MIB), data)).unwrap();
        }
        client.next_event(&mut take_all).unwrap().unwrap();
        client.disconnect().unwrap();
    }
}

// ---- answers that come before their question

/// A server that reads nothing and calls every write done, since it can guess the numbers: what
/// waits to be sent is bounded.
#[test]
fn writes_that_are_answered_unread_do_not_pile_up() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(1 << 40).flags(WRITABLE))?;
        let first = conn.request_header()?;
        for nth in 0.. {
            let mut guess = first.clone();
            guess.cookie += nth;
            guess.offset = nth * MIB;
            conn.done(&guess)?;
            conn.pause(Duration::from_millis(1))?;
        }
        Ok(())
    })
    .unwrap();
    let mut limits = SessionLimits::default();
    limits.max_bytes_in_flight = 4 << 20;
    let options = Options::new().request_timeout(Duration::from_secs(20)).session_limits(limits);
    for mut pool in pools(&server, &options) {
        let pace = PipelineOptions::default().requests(1);
        let mut writes = pool.write_behind(pace).unwrap();
        let failed = (0..200_u64)
            .find_map(|nth| writes.write(nth * MIB, vec![7; MIB as usize]).err().map(|error| (nth, error)));
        let (nth, error) = failed.expect("the server has read nothing of 200 MiB");
        // a request that has not been sent cannot be answered either
        assert!(
            matches!(error, Error::Protocol(ProtocolError::AnsweredEarly(_))) && nth < 20,
            "after {nth} MiB: {error}"
        );
    }
}

/// A server that refuses the first write before it has read its data. It goes on once it hears by the
/// sender that the client knows: with `meanwhile`, then it reads the data and says so, and then with `rest`.
fn refuses_early(
    meanwhile: impl Fn(&mut Conn, &SeenRequest) -> Result<()> + Send + Sync + 'static,
    rest: impl Fn(&mut Conn, &SeenRequest) -> Result<()> + Send + Sync + 'static,
) -> (ScriptedServer, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (refused, was_refused) = mpsc::channel();
    let (whole, is_whole) = mpsc::channel();
    let was_refused = Mutex::new(was_refused);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        let request = conn.request_header()?;
        conn.error(&request, 28, "full", DONE)?;
        was_refused.lock().unwrap().recv().unwrap();
        meanwhile(conn, &request)?;
        conn.read(request.length as usize)?;
        whole.send(()).unwrap();
        rest(conn, &request)
    });
    (server.unwrap(), refused, is_whole)
}

/// A write that is refused before its data are read is sent to its end while the program rests, and
/// the time that the server takes for that is not the connection's.
#[test]
fn a_write_that_is_refused_early_is_sent_while_nothing_is_in_flight() {
    let limit = Duration::from_millis(300);
    for kind in [Kind::Pool, Kind::AsyncPool, Kind::Async] {
        let (server, refused, is_whole) =
            refuses_early(move |conn, _| conn.pause(limit * 2), |conn, _| conn.serve(zeroes));
        let mut client = connect(kind, &server, &Options::new().request_timeout(limit));
        // one request, which does not fit into the buffer of a socket
        client.write(0, &vec![7; 256 << 10]).unwrap_err();
        refused.send(()).unwrap();
        is_whole.recv_timeout(TIMEOUT * 10).unwrap_or_else(|_| panic!("{kind:?} has sent a half"));
        client.read(0, 512).unwrap();
        client.disconnect().unwrap();
    }
}

/// An answer that comes before its question waits in the socket, also while the rest of a refused
/// write is sent: it comes in parts, and none of them is lost.
#[test]
fn nothing_is_received_while_the_rest_of_a_refused_write_is_sent() {
    for kind in [Kind::Pool, Kind::AsyncPool] {
        let (server, refused, is_whole) = refuses_early(
            |conn, refused| {
                let early = bytes::extended_chunk(DONE, 0, refused.cookie + 1, 0, &[]);
                conn.drip(&early, Duration::from_millis(2))
            },
            |conn, refused| {
                assert_eq!(conn.request()?.cookie, refused.cookie + 1);
                conn.serve(zeroes)
            },
        );
        let mut client = connect(kind, &server, &Options::new().request_timeout(TIMEOUT * 10));
        client.write(0, &vec![7; 256 << 10]).unwrap_err();
        refused.send(()).unwrap();
        // an answer that is read before its request is sent is a fault
        is_whole.recv_timeout(TIMEOUT * 10).unwrap();
        client.zero(0, 512).unwrap();
        client.disconnect().unwrap();
    }
}

/// A server that serves its two connections one after the other would wait for ever for a client
/// that receives from one of them while answers of the other are to come.
#[test]
fn a_survey_asks_on_one_connection_at_a_time() {
    // requests that were heard and not answered, on the connection of bitmaps and on that of details
    let in_flight = Arc::new(Mutex::new([0_usize; 2]));
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(1 << 30).context(7, "qemu:dirty-bitmap:b0"))?;
        let id = conn.contexts()[0];
        let side = usize::from(id == 0);
        conn.serve(|conn, request| {
            in_flight.lock().unwrap()[side] += 1;
            // time for a request on the other connection
            conn.pause(Duration::from_millis(20))?;
            let busy = *in_flight.lock().unwrap();
            let is_alone = busy[1 - side] == 0;
            in_flight.lock().unwrap()[side] -= 1;
            let length = if is_alone { request.length.min(64 * MIB) } else { 0 };
            conn.status(request, id, &[(length, u64::from(id == 7))], DONE)
        })
    })
    .unwrap();
    let allocation = Contexts::new().require(Context::Allocation).unwrap();
    let wanted = allocation.require(Context::bitmap("b0")).unwrap();
    for kind in SurveyKind::ALL {
        let uri = server.uri().parse().unwrap();
        let mut surveyor = kind.connect(&uri, &Options::new(), &wanted, Order::BitmapFirst).unwrap();
        let settled = surveyor.survey_options().unwrap().in_flight(8);
        let run = surveyor.run(settled, usize::MAX).unwrap();
        assert!(run.error.is_none(), "{kind:?}: {:?}", run.error);
        let asked: Vec<_> = surveyor.connection_stats().iter().map(|stats| stats.done).collect();
        assert!(asked.iter().all(|&asked| asked > 1), "{kind:?}: {asked:?}");
    }
}

/// A caller that goes on after an error gets the rest of the map, though a request for details was to
/// be sent when the error came: an answer of the bitmap that breaks the protocol, whichever it is. Such
/// a request is sent then, and no other is counted than those that the server has heard.
#[test]
fn a_survey_that_goes_on_after_an_error_leaves_nothing_out() {
    const SIZE: u64 = 1 << 30;
    for (kind, wrong) in SurveyKind::ALL.into_iter().flat_map(|kind| (0..16).map(move |nth| (kind, nth))) {
        let (asked, heard) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let all = Arc::clone(&heard);
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::compact().size(SIZE).context(7, "qemu:dirty-bitmap:b0"))?;
            let id = conn.contexts()[0];
            conn.serve(|conn, request| {
                all.fetch_add(1, Ordering::SeqCst);
                if id == 7 && asked.fetch_add(1, Ordering::SeqCst) == wrong {
                    return conn.status(request, id, &[(0, 1)], DONE);
                }
                conn.status(request, id, &[(request.length.min(64 * MIB), u64::from(id == 7))], DONE)
            })
        })
        .unwrap();
        let allocation = Contexts::new().require(Context::Allocation).unwrap();
        let wanted = allocation.require(Context::bitmap("b0")).unwrap();
        let uri = server.uri().parse().unwrap();
        let mut surveyor = kind.connect(&uri, &Options::new(), &wanted, Order::BitmapFirst).unwrap();
        let settled = surveyor.survey_options().unwrap().in_flight(4);
        let ((extents, errors), stats, _) = surveyor.read(settled, go_on).unwrap();
        assert!(matches!(errors[..], [SurveyorError::Survey(_)]), "{kind:?}, answer {wrong}: {errors:?}");
        let end = extents.iter().fold(0, |at, extent| {
            assert_eq!((extent.start(), extent.status().dirty()), (at, Some(true)), "{kind:?}, {wrong}");
            extent.end()
        });
        assert_eq!(end, SIZE, "{kind:?}, answer {wrong}");
        assert_eq!(stats.requests, heard.load(Ordering::SeqCst) as u64, "{kind:?}, answer {wrong}");
        surveyor.disconnect().unwrap();
    }
}

/// All extents of a survey, and the errors between them: two at most.
fn go_on(next: &mut NextExtent<'_>) -> (Vec<Extent<Status>>, Vec<SurveyorError>) {
    let (mut extents, mut errors) = (Vec::new(), Vec::new());
    while errors.len() < 2 {
        match next() {
            Ok(Some(extent)) => extents.push(extent),
            Ok(None) => break,
            Err(error) => errors.push(error),
        }
    }
    (extents, errors)
}

/// A caller that goes on after the connection was lost gets an error again, also where the session was
/// full.
#[test]
fn a_survey_that_goes_on_after_a_loss_ends_again() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(1 << 30).flags(3))?;
        let first = conn.request()?;
        conn.status(&first, 0, &[(64 * MIB, 0)], DONE)?;
        conn.request().map(drop)
    })
    .unwrap();
    let mut limits = SessionLimits::default();
    limits.max_in_flight = 1;
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    for kind in SurveyKind::ALL {
        let (uri, options) = (server.uri().parse().unwrap(), Options::new().session_limits(limits));
        let mut surveyor = kind.connect(&uri, &options, &wanted, Order::Together).unwrap();
        let settled = surveyor.survey_options().unwrap().in_flight(4);
        let ((_, errors), ..) = surveyor.read(settled, go_on).unwrap();
        assert_eq!(errors.len(), 2, "{kind:?}: {errors:?}");
    }
}

/// The server leaves with its last answer, and what it answered is whole.
#[test]
fn a_goodbye_that_fails_loses_no_result() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(MIB))?;
        if !conn.contexts().is_empty() {
            let request = conn.request()?;
            conn.honest(&request, 3)?;
        }
        conn.hang_up()
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    let (options, wanted) = (Options::new(), Contexts::new().require(Context::Allocation).unwrap());
    // now and then the goodbye is sent before the server has left
    for _ in 0..10 {
        assert_eq!(map(&uri, &options, &wanted).unwrap().run_count(), 1);
        let asynchronous = runtime().block_on(aio::map(&uri, &options, &wanted));
        assert_eq!(asynchronous.unwrap().run_count(), 1);
        for kind in Kind::WITH_LISTS {
            assert_eq!(kind.list_contexts(&uri, &options).unwrap(), ["base:allocation"], "{kind:?}");
        }
    }
}

/// After a list, and where it cannot use what the server has, a client takes its leave (ABORT) and does
/// not only hang up.
#[test]
fn a_client_that_leaves_the_handshake_says_so() {
    let (tell, told) = mpsc::channel();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake_with(&Good::compact(), |conn, option| {
            if option.number == option_type::GO {
                conn.refuse(option.number, 0x8000_0006, "no such disk")?;
                return Ok(Reaction::Answered);
            }
            if option.number == option_type::ABORT {
                tell.send(()).unwrap();
            }
            Ok(Reaction::Honest)
        })
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    let patience = Duration::from_secs(10);
    for kind in Kind::WITH_LISTS {
        kind.list_exports(&uri, &Options::new()).unwrap();
        told.recv_timeout(patience).unwrap_or_else(|_| panic!("{kind:?}: no ABORT after a list"));
    }
    for kind in Kind::ALL {
        let error = kind.connect(&uri, &Options::new()).unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotThere, "{kind:?}: {error}");
        told.recv_timeout(patience).unwrap_or_else(|_| panic!("{kind:?}: no ABORT after an error"));
    }
}

// ---- limits lower than what a call would have in flight

#[test]
fn a_call_keeps_within_the_limits_of_its_session() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        conn.serve(zeroes)
    })
    .unwrap();
    let mut few = SessionLimits::default();
    few.max_in_flight = 2;
    let mut short = SessionLimits::default();
    short.max_bytes_in_flight = 1 << 20;
    let mut small = SessionLimits::default();
    small.max_payload = 100_000;
    for limits in [few, short, small] {
        let options = Options::new().session_limits(limits);
        let data = vec![7; 8 << 20];
        for kind in Kind::WITH_CALLS {
            let mut client = connect(kind, &server, &options);
            client.read(0, data.len()).unwrap();
            client.write(0, &data).unwrap();
            client.zero(0, 64 * MIB).unwrap();
            client.disconnect().unwrap();
        }
        for mut pool in pools(&server, &options) {
            let mut blocks = pool.read_ahead(Some(0..8 * MIB), PipelineOptions::default()).unwrap();
            while blocks.next_block().unwrap().is_some() {}
            let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
            for nth in 0..8 {
                writes.write(nth * MIB, vec![7; MIB as usize]).unwrap();
            }
            writes.finish().unwrap();
            pool.disconnect().unwrap();
        }
        for kind in PoolKind::ALL {
            let mut pool = kind.connect(&server.uri().parse().unwrap(), &options, 2).unwrap();
            pool.read(0, &mut data.clone()).unwrap();
            pool.write(0, &data).unwrap();
            pool.disconnect().unwrap();
        }
    }
}

/// A survey keeps 16 requests on the wire, and one that was dropped leaves its own.
#[test]
fn a_survey_keeps_within_the_limits_of_its_session() {
    let server = ScriptedServer::start(|conn| {
        // READ_ONLY
        conn.handshake(&Good::compact().size(64 * MIB).flags(3))?;
        conn.serve(zeroes)
    })
    .unwrap();
    let mut limits = SessionLimits::default();
    limits.max_in_flight = 3;
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let options = Options::new().session_limits(limits);
    for kind in SurveyKind::ALL {
        let uri = server.uri().parse().unwrap();
        let mut surveyor = kind.connect(&uri, &options, &wanted, Order::Together).unwrap();
        for most in [1, 1, usize::MAX] {
            let settled = surveyor.survey_options().unwrap().max_request(MIB);
            let run = surveyor.run(settled, most).unwrap();
            assert!(run.error.is_none() && !run.extents.is_empty(), "{kind:?}: {:?}", run.error);
        }
        surveyor.disconnect().unwrap();
    }
    // none at all is an error that says so, and no wait
    limits.max_in_flight = 0;
    for kind in SurveyKind::ALL {
        let (uri, options) = (server.uri().parse().unwrap(), Options::new().session_limits(limits));
        let mut surveyor = kind.connect(&uri, &options, &wanted, Order::Together).unwrap();
        let settled = surveyor.survey_options().unwrap();
        let error = surveyor.run(settled, usize::MAX).unwrap().error;
        let reason = StartError::TooManyInFlight(0);
        let says_so = matches!(&error, Some(SurveyorError::Client(Error::Start(start))) if *start == reason);
        assert!(says_so, "{kind:?}: {error:?}");
    }
}

// ---- what an error says

#[test]
fn an_error_of_a_pipeline_says_where() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        conn.serve(|conn, request| match request.offset {
            MIB => conn.error(request, 5, "bad sector", DONE),
            _ => zeroes(conn, request),
        })
    })
    .unwrap();
    for mut pool in pools(&server, &Options::new()) {
        let error = pool.read_ahead(Some(0..2 * MIB), PipelineOptions::default()).unwrap().error();
        assert_eq!(error.to_string(), "READ of 262144 bytes at 1048576 failed with EIO: bad sector");
        let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
        writes.write(MIB, vec![7; 4096]).unwrap();
        let error = writes.finish().unwrap_err();
        let request = error.request().unwrap().request;
        assert_eq!((request.offset, request.length), (MIB, 4096), "{error}");
        assert!(error.is_errno(Errno(5)), "{error}");
    }
}
