//! Whatever was asked for is received, whether or not the program takes it. A server that cannot
//! send its answers waits for its client, and with libvirt the guest's processors stop meanwhile.
#![cfg(target_os = "linux")]

use std::io::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::aio;
use nbd_client::frame::command;
use nbd_client::pipeline::PipelineOptions;
use nbd_client::survey::Order;
use nbd_client::{Error, Options, Surveyor};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Context, Contexts};
use testkit::pools::PoolKind;
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest};

const MIB: u64 = 1 << 20;
/// HAS_FLAGS, SEND_FLUSH, CAN_MULTI_CONN.
const FLAGS: u16 = 1 | 1 << 2 | 1 << 8;
/// READ_ONLY.
const READ_ONLY: u16 = 3;
const PATIENCE: Duration = Duration::from_secs(10);

/// The counts of a server: requests that it has read whole, those whose answers are sent whole, and
/// bytes of reads.
#[derive(Debug, Default)]
struct Seen {
    asked: AtomicU64,
    answered: AtomicU64,
    bytes: AtomicU64,
}

impl Seen {
    /// Waits until the server has nothing to send, and nothing new comes for a while. Returns the
    /// number of requests.
    #[track_caller]
    fn settled(&self) -> u64 {
        let started = Instant::now();
        let mut last = (0, Instant::now());
        loop {
            let (asked, answered) = (self.asked.load(Ordering::SeqCst), self.answered.load(Ordering::SeqCst));
            if asked != answered || asked != last.0 || asked == 0 {
                last = (asked, Instant::now());
            }
            if last.1.elapsed() > Duration::from_millis(300) {
                return asked;
            }
            assert!(started.elapsed() < PATIENCE, "{answered} of {asked} answers could be sent");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the server has read this many requests.
    #[track_caller]
    fn is_asked(&self, count: u64) {
        let started = Instant::now();
        while self.asked.load(Ordering::SeqCst) < count {
            assert!(started.elapsed() < PATIENCE, "fewer than {count} requests");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A server that answers everything at once, as far as its client receives.
fn server(flags: u16) -> (ScriptedServer, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let theirs = Arc::clone(&seen);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(1 << 40).flags(flags))?;
        conn.serve(|conn, request| {
            theirs.asked.fetch_add(1, Ordering::SeqCst);
            theirs.bytes.fetch_add(request.length, Ordering::SeqCst);
            answer(conn, request)?;
            theirs.answered.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    });
    (server.unwrap(), seen)
}

fn answer(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    match request.command {
        command::READ => conn.data(request, request.offset, &vec![7; request.length as usize], DONE),
        // a megabyte of descriptors, more than a socket holds
        command::BLOCK_STATUS => {
            let length = (request.length / 65536).max(512);
            let count = (request.length / length).min(65536);
            let list: Vec<_> = (0..count).map(|nth| (length, nth % 2 * 3)).collect();
            conn.status(request, 0, &list, DONE)
        }
        _ => conn.done(request),
    }
}

fn options() -> PipelineOptions {
    PipelineOptions::default().requests(32).bytes(8 << 20)
}

fn allocation() -> Contexts {
    Contexts::new().require(Context::Allocation).unwrap()
}

fn surveyor(server: &ScriptedServer) -> Surveyor {
    let uri = server.uri().parse().unwrap();
    Surveyor::connect(&uri, &Options::new(), &allocation(), Order::Together).unwrap()
}

async fn async_surveyor(server: &ScriptedServer) -> aio::Surveyor {
    let uri = server.uri().parse().unwrap();
    aio::Surveyor::connect(&uri, &Options::new(), &allocation(), Order::Together).await.unwrap()
}

#[test]
fn a_reader_that_stops_is_sent_everything_it_asked_for() {
    for (kind, connections) in PoolKind::ALL.into_iter().flat_map(|kind| [(kind, 1), (kind, 3)]) {
        let (server, seen) = server(FLAGS);
        let mut pool = kind.connect(&server.uri().parse().unwrap(), &Options::new(), connections).unwrap();
        let mut blocks = pool.read_ahead(Some(0..1 << 30), options()).unwrap();
        let mut taken = 0;
        for _ in 0..3 {
            taken += blocks.next_block().unwrap().unwrap().data.len() as u64;
            // the program stops here
            assert!(seen.settled() >= 32, "{connections} connections");
            let held = seen.bytes.load(Ordering::SeqCst) - taken;
            assert!(held <= 8 << 20, "{held} bytes are held");
        }
        drop(blocks);
        pool.abandon().unwrap();
        pool.disconnect().unwrap();
    }
}

/// A write that was started is sent to its end, though the program brings no more: a server that
/// has read half a request waits for the rest.
#[test]
fn a_writer_that_stops_has_sent_whole_requests() {
    for kind in PoolKind::ALL {
        let (server, seen) = server(FLAGS);
        let mut pool = kind.connect(&server.uri().parse().unwrap(), &Options::new(), 1).unwrap();
        let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
        for nth in 1..=3 {
            writes.write(nth * 8 * MIB, vec![7; 4 << 20]).unwrap();
            assert_eq!(seen.settled(), nth * 4, "pieces of a megabyte");
        }
        writes.finish().unwrap();
    }
}

#[test]
fn a_survey_that_nobody_reads_leaves_nothing_in_flight() {
    let (server, seen) = server(READ_ONLY);
    let mut surveyor = surveyor(&server);
    let settled = surveyor.survey_options().unwrap().in_flight(8);
    let mut extents = surveyor.survey(settled).unwrap();
    for _ in 0..200_000 {
        extents.next_extent().unwrap().unwrap();
    }
    assert!(seen.settled() > 1);
    for _ in 0..200_000 {
        extents.next_extent().unwrap().unwrap();
    }
    let asked = seen.settled();
    // dropped before its end as well
    drop(extents);
    assert_eq!(seen.settled(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_survey_that_nobody_reads_leaves_nothing_in_flight() {
    let (server, seen) = server(READ_ONLY);
    let mut surveyor = async_surveyor(&server).await;
    let settled = surveyor.survey_options().unwrap().in_flight(8);
    let mut extents = surveyor.survey(settled).unwrap();
    for _ in 0..200_000 {
        extents.next_extent().await.unwrap().unwrap();
    }
    assert!(seen.settled() > 1);
}

/// The server is asked while the caller does something else, and cannot send its answer; once all is
/// received that is due, it has nothing to send.
#[test]
fn a_survey_that_asks_ahead_receives_all_that_is_due() {
    let (server, seen) = server(READ_ONLY);
    let mut surveyor = surveyor(&server);
    let settled = surveyor.survey_options().unwrap().in_flight(8);
    let mut extents = surveyor.survey(settled).unwrap().ask_ahead();
    let mut end = 0;
    for turn in 0..5 {
        for _ in 0..50_000 {
            let extent = extents.next_extent().unwrap().unwrap();
            assert_eq!(extent.start(), end);
            end = extent.end();
        }
        if turn == 0 {
            seen.is_asked(2);
        }
        extents.receive_all();
        seen.settled();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_survey_that_asks_ahead_receives_all_that_is_due() {
    let (server, seen) = server(READ_ONLY);
    let mut surveyor = async_surveyor(&server).await;
    let settled = surveyor.survey_options().unwrap().in_flight(8);
    let mut extents = surveyor.survey(settled).unwrap().ask_ahead();
    let mut end = 0;
    for turn in 0..5 {
        for _ in 0..50_000 {
            let extent = extents.next_extent().await.unwrap().unwrap();
            assert_eq!(extent.start(), end);
            end = extent.end();
        }
        if turn == 0 {
            seen.is_asked(2);
        }
        extents.receive_all().await;
        seen.settled();
    }
}

/// However often all is received, no more is asked for than there is memory for, and what was received is
/// handed out before more is asked for: few requests are made twice, and none is made shorter.
#[test]
fn a_survey_that_receives_all_between_two_extents_asks_for_what_it_can_hold() {
    const SIZE: u64 = 1 << 30;
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(SIZE).flags(READ_ONLY))?;
        conn.serve(|conn, request| {
            let list: Vec<_> =
                (0..(request.length / 4096).min(4096)).map(|nth| (4096, nth % 2 * 3)).collect();
            conn.status(request, 0, &list, DONE)
        })
    })
    .unwrap();
    // four answers fit
    let run = |budget: usize, every: usize| {
        let mut surveyor = surveyor(&server);
        let settled = surveyor.survey_options().unwrap().budget(budget).in_flight(16);
        let mut extents = surveyor.survey(settled).unwrap().ask_ahead();
        let (mut end, mut count) = (0, 0);
        while let Some(extent) = extents.next_extent().unwrap() {
            assert_eq!(extent.start(), end);
            (end, count) = (extent.end(), count + 1);
            if count % every == 0 {
                extents.receive_all();
            }
        }
        assert_eq!((end, count), (SIZE, 262_144));
        extents.stats()
    };
    for budget in [1 << 18, 1 << 20] {
        let never = run(budget, usize::MAX);
        for every in [1, 1000, 5000] {
            let stats = run(budget, every);
            assert!(stats.requests <= never.requests * 3 / 2, "{every}: {stats:?}, {never:?}");
        }
    }
}

/// A survey whose connections still have answers to come, of a survey that asked ahead and was dropped,
/// receives those first.
#[test]
fn a_survey_receives_what_the_one_before_it_has_left() {
    let (server, seen) = server(READ_ONLY);
    let mut surveyor = surveyor(&server);
    let settled = surveyor.survey_options().unwrap().in_flight(8);
    let mut first = surveyor.survey(settled.clone()).unwrap().ask_ahead();
    first.next_extent().unwrap().unwrap();
    seen.is_asked(2);
    drop(first);
    let mut second = surveyor.survey(settled).unwrap();
    assert_eq!(second.next_extent().unwrap().unwrap().start(), 0);
    // nothing is in flight, in either's name
    let asked = seen.settled();
    drop(second);
    assert_eq!((surveyor.into_client().in_flight(), seen.settled()), (0, asked));
}

/// Calls whose futures are polled once and then left alone: the task of the connection receives for
/// them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_nobody_awaits_are_received() {
    let (server, seen) = server(FLAGS);
    let client = aio::Client::connect(&server.uri().parse().unwrap(), &Options::new()).await.unwrap();
    let mut calls: Vec<_> = (0..4).map(|nth| Box::pin(client.read(nth * 16 * MIB, 16 << 20))).collect();
    core::future::poll_fn(|cx| {
        for call in &mut calls {
            assert!(call.as_mut().poll(cx).is_pending());
        }
        core::task::Poll::Ready(())
    })
    .await;
    assert_eq!(seen.settled(), 64, "pieces of a megabyte");
    for call in calls {
        assert_eq!(call.await.unwrap().len(), 16 << 20);
    }
}

/// The deadline of the whole job holds while the program is busy elsewhere, and without a request
/// in flight.
#[test]
fn the_deadline_ends_a_pipeline_whose_program_stops() {
    let (server, _) = server(FLAGS);
    // long enough to connect in, on a busy machine too
    let limit = Duration::from_secs(1);
    let uri = server.uri().parse().unwrap();
    let late = |error: Error| assert!(matches!(error, Error::OutOfTime(..)), "{error}");

    for kind in PoolKind::ALL {
        let options = Options::new().deadline(Some(Instant::now() + limit));
        let mut pool = kind.connect(&uri, &options, 1).unwrap();
        let mut blocks = pool.read_ahead(Some(0..1 << 30), PipelineOptions::default().requests(4)).unwrap();
        blocks.next_block().unwrap();
        thread::sleep(limit + limit / 4);
        late((0..8).find_map(|_| blocks.next_block().err()).unwrap());

        let options = Options::new().deadline(Some(Instant::now() + limit));
        let mut pool = kind.connect(&uri, &options, 1).unwrap();
        let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
        writes.write(0, vec![7; 4096]).unwrap();
        thread::sleep(limit + limit / 4);
        late(writes.write(4096, vec![7; 4096]).and_then(|()| writes.finish()).unwrap_err());
    }
}
