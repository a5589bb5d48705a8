//! Servers that die, stop, or answer a byte a second: a typed error within the deadline, and all
//! that was handed out before stays true.
#![cfg(target_os = "linux")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::copy::{Copy, CopyError, CopyOptions};
use nbd_client::frame::{During, command};
use nbd_client::session::{Event, RequestError, RequestFault, StatusRequest, WriteRequest};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::transport::Canceller;
use nbd_client::{Error, ErrorClass, Options, Surveyor, aio};
use nbd_extents::action::Full;
use nbd_extents::{Admission, Context, Contexts};
use testkit::clients::{Kind, SurveyKind};
use testkit::endings::{self, Ending};
use testkit::pki::Pki;
use testkit::scripted::{Conn, DONE, Good, ScriptedServer};

const M: u64 = 1 << 20;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Of requests, and of the goodbye.
const LIMIT: Duration = Duration::from_secs(1);
/// The kernel's clock may be a little early.
const EARLY: Duration = Duration::from_millis(50);
/// The time that a busy machine may add.
const PATIENCE: Duration = Duration::from_secs(10);

/// Surveys the disk, and returns the extents that were handed out and what ended it.
fn survey(kind: SurveyKind, server: &ScriptedServer, options: &Options) -> (Vec<String>, SurveyorError) {
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let uri = server.uri().parse().unwrap();
    let mut surveyor = kind.connect(&uri, options, &wanted, Order::Together).unwrap();
    let run = surveyor.run(surveyor.survey_options().unwrap(), usize::MAX).unwrap();
    let handed_out: Vec<_> = run.extents.iter().map(ToString::to_string).collect();
    let Some(error) = run.error else { panic!("{kind:?}: the survey came to an end: {handed_out:?}") };
    assert_eq!(run.resume_point.offset, 2 * M, "where a new survey takes up");
    (handed_out, error)
}

/// The last extent before the end is held back: it might have gone on.
const HANDED_OUT: [&str; 2] = ["0..1048576 data", "1048576..2097152 zero,hole"];

#[track_caller]
fn ends_in_time(ending: Ending, waits: bool, is_typed: fn(&Error) -> bool) {
    for kind in SurveyKind::ALL {
        let server = endings::server(ending);
        let started = Instant::now();
        let (handed_out, error) = survey(kind, &server, &Options::new().request_timeout(TIMEOUT));
        let took = started.elapsed();
        assert_eq!(handed_out, HANDED_OUT);
        let SurveyorError::Client(error) = error else { panic!("{kind:?}: {error}") };
        assert!(is_typed(&error), "{kind:?}: {error:?}");
        assert_eq!(error.class(), ErrorClass::Connection);
        let least = if waits { TIMEOUT - EARLY } else { Duration::ZERO };
        assert!((least..TIMEOUT + PATIENCE).contains(&took), "{kind:?}: {took:?}");
    }
}

const LOST: fn(&Error) -> bool = |error| matches!(error, Error::ConnectionLost(_) | Error::Io { .. });
const TIMED_OUT: fn(&Error) -> bool = |error| matches!(error, Error::Timeout { .. });

#[test]
fn a_server_that_dies() {
    ends_in_time(endings::dies, false, LOST);
}

#[test]
fn a_server_that_dies_in_a_payload() {
    ends_in_time(endings::dies_in_a_payload, false, LOST);
}

#[test]
fn a_server_that_stops() {
    ends_in_time(endings::stops, true, TIMED_OUT);
}

#[test]
fn a_server_that_stops_in_a_payload() {
    ends_in_time(endings::stops_in_a_payload, true, TIMED_OUT);
}

#[test]
fn a_server_that_answers_a_byte_a_second() {
    ends_in_time(endings::drips, true, TIMED_OUT);
}

/// A blocked read wakes up at once, the error says that it was cancelled, and the extents
/// handed out before stay true.
#[test]
fn cancelling_from_another_thread() {
    for ending in [endings::stops as Ending, endings::stops_in_a_payload, endings::drips] {
        let (asked, is_asked) = mpsc::channel();
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::compact())?;
            conn.serve(|conn, request| match request.offset {
                0 => conn.status(request, 0, &[(M, 0), (M, 3), (M, 0)], DONE),
                _ => {
                    asked.send(()).ok();
                    ending(conn, request)
                }
            })
        })
        .unwrap();
        let canceller = Canceller::new();
        let later = canceller.clone();
        let thread = thread::spawn(move || {
            is_asked.recv().unwrap();
            thread::sleep(Duration::from_millis(200));
            later.cancel();
            Instant::now()
        });
        let options = Options::new().request_timeout(Duration::from_secs(600)).canceller(canceller);
        let (handed_out, error) = survey(SurveyKind::Blocking, &server, &options);
        let woken = Instant::now().saturating_duration_since(thread.join().unwrap());
        assert!(woken < PATIENCE, "{woken:?}");
        assert_eq!(handed_out, HANDED_OUT);
        assert!(matches!(error, SurveyorError::Client(Error::Cancelled(..))), "{error}");
    }
}

/// The deadline of the job is absolute: it holds for the goodbye, and for requests begun after it,
/// also if nothing was in flight when it passed.
#[test]
fn a_job_that_is_out_of_time_says_so_when_it_ends() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| conn.data(request, request.offset, &[7; 512], DONE))
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let is_late = |error: &Error| matches!(error, Error::OutOfTime(_));
    // connections that are made in time, and left alone until it is over
    let after = |time: Duration| Options::new().deadline(Some(Instant::now() + time));
    let soon = Duration::from_millis(700);
    let (mut ended, mut asked, mut surveyors) = (Vec::new(), Vec::new(), Vec::new());
    for kind in Kind::ALL {
        ended.push((kind, kind.connect(&uri, &after(soon)).unwrap()));
        let mut client = kind.connect(&uri, &after(soon)).unwrap();
        assert_eq!(client.read(0, 512).unwrap(), [7; 512], "{kind:?}");
        asked.push((kind, client));
    }
    for kind in SurveyKind::ALL {
        surveyors.push((kind, kind.connect(&uri, &after(soon), &wanted, Order::Together).unwrap()));
    }
    thread::sleep(soon);
    for (kind, client) in ended {
        let error = client.disconnect().unwrap_err();
        assert!(is_late(&error), "{kind:?}: {error}");
    }
    for (kind, mut client) in asked {
        let error = client.read(0, 512).unwrap_err();
        assert!(is_late(&error), "{kind:?}: {error}");
        let error = client.disconnect().unwrap_err();
        assert!(matches!(error, Error::GivenUp), "{kind:?}, which has said so: {error}");
    }
    for (kind, surveyor) in surveyors {
        let error = surveyor.disconnect().unwrap_err();
        assert!(matches!(&error, SurveyorError::Client(error) if is_late(error)), "{kind:?}: {error}");
    }
}

/// A server of a short disk that fails a command with ESHUTDOWN, and says whether it then heard a goodbye.
fn going_down(fails: u16) -> (ScriptedServer, mpsc::Receiver<bool>) {
    let (seen, said) = mpsc::channel();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(64 << 10))?;
        let ended = conn.serve(|conn, request| match request.command {
            command if command == fails => conn.error(request, 108, "going down", DONE),
            _ => conn.honest(request, 0),
        });
        seen.send(ended.is_ok()).ok();
        Ok(())
    });
    (server.unwrap(), said)
}

/// ESHUTDOWN fails the request, and a client MUST then say goodbye.
#[test]
fn a_server_that_shuts_down_gets_its_goodbye_from_each_client() {
    let (server, said) = going_down(command::READ);
    let uri = server.uri().parse().unwrap();
    for kind in Kind::ALL {
        let mut client = kind.connect(&uri, &Options::new().request_timeout(LIMIT)).unwrap();
        let error = client.read(0, 512).unwrap_err();
        assert!(matches!(&error, Error::Request(error) if error.is_shutdown()), "{kind:?}: {error}");
        // while the client is still there
        assert_eq!(said.recv_timeout(PATIENCE), Ok(true), "{kind:?}: no DISC came");
        // the limit for the goodbye ends with it
        thread::sleep(LIMIT * 2);
        let error = client.read(0, 512).unwrap_err();
        assert!(!matches!(error, Error::Timeout { .. }), "{kind:?}: {error}");
        client.disconnect().unwrap();
    }
}

#[test]
fn a_survey_of_a_server_that_shuts_down_says_goodbye() {
    let (server, said) = going_down(command::BLOCK_STATUS);
    let uri = server.uri().parse().unwrap();
    let options = Options::new().require_context("base:allocation");
    for kind in Kind::WITH_EVENTS {
        let mut client = kind.connect(&uri, &options).unwrap();
        let mut ask = || client.block_status(&StatusRequest::new(0, 512)).unwrap_err();
        assert!(
            matches!(ask(), Error::Request(RequestError { fault: RequestFault::Server { .. }, .. })),
            "{kind:?}"
        );
        assert_eq!(said.recv_timeout(PATIENCE), Ok(true), "{kind:?}: no DISC came");
        assert_eq!(ask().class(), ErrorClass::Server, "no more requests");
    }
}

#[test]
fn a_copy_of_a_server_that_shuts_down_says_goodbye() {
    let (server, said) = going_down(command::READ);
    let target = ScriptedServer::start(|conn| {
        // HAS_FLAGS, SEND_FLUSH
        conn.handshake(&Good::compact().flags(1 | 1 << 2))?;
        conn.serve(Conn::done)
    })
    .unwrap();
    let (source, target) = (server.uri().parse().unwrap(), target.uri().parse().unwrap());
    let options = Options::new();
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let surveyor = Surveyor::connect(&source, &options, &wanted, Order::Together).unwrap();
    let settled = surveyor.survey_options().unwrap();
    let copy = Copy::connect(surveyor, (&source, &options), (&target, &options), 1).unwrap();
    let error = copy.run(Full::new(), settled, &CopyOptions::new()).unwrap_err();
    assert!(matches!(&error, CopyError::Source(Error::Request(error)) if error.is_shutdown()), "{error}");
    assert_eq!(said.recv_timeout(PATIENCE), Ok(true), "no DISC came");
}

/// A goodbye that waits for a long write to be sent has its time and no more, whatever the server
/// does meanwhile, and the call says so.
#[test]
fn a_goodbye_that_cannot_be_sent_ends_in_time() {
    type Script = fn(&mut Conn) -> std::io::Result<()>;
    let scripts: [(&str, Script); 3] = [
        ("stops", |conn| conn.pause(PATIENCE)),
        ("reads slowly", |conn| {
            loop {
                conn.read(64 << 10)?;
                conn.pause(Duration::from_millis(20))?;
            }
        }),
        // once something is in flight
        ("sends for ever", |conn| conn.read(1).and_then(|_| conn.send_for_ever(&[7; 4096]))),
    ];
    let pki = Pki::new();
    for (name, script) in scripts {
        let serve = move |conn: &mut Conn| {
            // HAS_FLAGS, SEND_FLUSH
            conn.handshake(&Good::compact().size(64 * M).flags(1 | 1 << 2))?;
            script(conn)
        };
        let plain = ScriptedServer::start(serve).unwrap();
        let tls = ScriptedServer::start_tls(pki.server.server(None), pki.client(), serve).unwrap();
        for (server, kind) in
            [&plain, &tls].into_iter().flat_map(|server| Kind::WITH_EVENTS.map(|kind| (server, kind)))
        {
            let options = Options::new().request_timeout(LIMIT);
            let mut client = kind.connect(&server.uri().parse().unwrap(), &options).unwrap();
            client.start(|session| session.start_write(&WriteRequest::new(0), vec![7; 16 << 20])).unwrap();
            let started = Instant::now();
            let error = client.disconnect().unwrap_err();
            let took = started.elapsed();
            assert!(
                matches!(error, Error::Timeout { during: During::Send, .. }),
                "{kind:?}, a server that {name}: {error}"
            );
            assert!((LIMIT - EARLY..LIMIT + PATIENCE).contains(&took), "{kind:?}, {name}: {took:?}");
        }
    }
}

/// A caller that is busy for longer than the limit, while the server meets it and sends its answer.
fn be_busy(meeting: &Barrier) {
    meeting.wait();
    meeting.wait();
    thread::sleep(LIMIT * 2);
}

/// The time that a caller takes for its judgement is not the server's.
#[test]
fn an_answer_that_came_while_the_caller_judged_is_not_late() {
    let meeting = Arc::new(Barrier::new(2));
    let theirs = Arc::clone(&meeting);
    let serve = move |conn: &mut Conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| {
            // one descriptor, which is judged when its context has come
            conn.chunk_header(request, DONE, 5, 12)?;
            conn.send(&[0; 4])?;
            theirs.wait();
            let sent = conn.send(&[0, 0, 16, 0, 0, 0, 0, 0]);
            theirs.wait();
            sent
        })
    };
    let pki = Pki::new();
    let plain = ScriptedServer::start(serve.clone()).unwrap();
    let tls = ScriptedServer::start_tls(pki.server.server(None), pki.client(), serve).unwrap();
    for (server, kind) in
        [&plain, &tls].into_iter().flat_map(|server| Kind::WITH_EVENTS.map(|kind| (server, kind)))
    {
        let options = Options::new().request_timeout(LIMIT).require_context("base:allocation");
        let mut client = kind.connect(&server.uri().parse().unwrap(), &options).unwrap();
        client.start(|session| session.start_block_status(&StatusRequest::new(0, 4096))).unwrap();
        let mut admit = |_: &_| {
            be_busy(&meeting);
            Admission::Take
        };
        let event = client.next_event(&mut admit).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert!(matches!(event, Some(Event::Status { .. })), "{kind:?}: {event:?}");
    }
}

/// Bytes that take more than one call to be received, and are not progress by themselves.
const LENGTH: usize = 32 << 10;

/// All tasks share the one thread of their runtime, also those that have a server's answer to take.
#[test]
fn an_answer_that_came_while_the_runtime_was_busy_is_not_late() {
    let (meeting, is_asked) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(false)));
    let (theirs, asked) = (Arc::clone(&meeting), Arc::clone(&is_asked));
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| {
            asked.store(true, Ordering::SeqCst);
            theirs.wait();
            let sent = conn.data(request, request.offset, &[7; LENGTH], DONE);
            theirs.wait();
            sent
        })
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    let options = Options::new().request_timeout(LIMIT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let busy = async || {
            while !is_asked.swap(false, Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            be_busy(&meeting);
        };
        let client = aio::Client::connect(&uri, &options).await.unwrap();
        let (data, ()) = tokio::join!(client.read(0, LENGTH), busy());
        assert_eq!(data.unwrap(), [7; LENGTH]);
        let mut pool = aio::Pool::connect(&uri, &options, 1).await.unwrap();
        let mut data = [0; LENGTH];
        let (read, ()) = tokio::join!(pool.read(0, &mut data), busy());
        read.unwrap();
        assert_eq!(data, [7; LENGTH]);
    });
}

/// The time for connecting is kept whatever a runtime's threads are busy with, and others find them
/// free.
#[test]
fn connecting_takes_no_thread_of_the_runtime() {
    let server = ScriptedServer::start(|conn| conn.stall()).unwrap();
    let uri = server.uri().parse().unwrap();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.max_blocking_threads(1).enable_all().build().unwrap();
    let options = Options::new().connect_timeout(Duration::from_millis(100));
    runtime.block_on(async {
        let (go, wait) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || wait.recv());
        let patient = tokio::time::timeout(PATIENCE, aio::Driver::connect(&uri, &options));
        let error = patient.await.expect("it waits for a thread").unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        go.send(()).unwrap();
        busy.await.unwrap().unwrap();
    });
}
