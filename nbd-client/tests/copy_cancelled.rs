//! A copy that another thread cancels at any moment: it ends typed and soon, closes its connections,
//! says what the target holds, and another copy makes it good.
#![cfg(target_os = "linux")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::copy::{Copy, CopyError, CopyMonitor, CopyOptions};
use nbd_client::frame::command;
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::transport::Canceller;
use nbd_client::{Client, Error, Options, Surveyor};
use nbd_extents::action::Full;
use nbd_extents::{Context, Contexts};
use testkit::random::Rng;
use testkit::scripted::{DONE, Good, ScriptedServer};

/// Bytes of the disk.
const SIZE: usize = 4 << 20;
/// Every byte of the target before the copy; the source has none of it.
const OLD: u8 = 0xee;
/// HAS_FLAGS, CAN_MULTI_CONN; and those of one side each.
const FLAGS: u16 = 1 | 1 << 8;
const READ_ONLY: u16 = 1 << 1;
const FLUSH: u16 = 1 << 2;

/// A disk in memory and its server, which takes a little time for each request.
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Connections that the client has not closed.
    open: Arc<AtomicUsize>,
    server: ScriptedServer,
}

impl Disk {
    fn serve(bytes: Vec<u8>, flags: u16) -> Self {
        let (bytes, open) = (Arc::new(Mutex::new(bytes)), Arc::new(AtomicUsize::new(0)));
        let (disk, count) = (Arc::clone(&bytes), Arc::clone(&open));
        let server = ScriptedServer::start(move |conn| {
            count.fetch_add(1, Ordering::SeqCst);
            let served = conn.handshake(&Good::extended().size(SIZE as u64).flags(flags)).and_then(|()| {
                conn.serve(|conn, request| {
                    conn.pause(Duration::from_micros(500))?;
                    let start = request.offset as usize;
                    match request.command {
                        command::READ => {
                            let data = disk.lock().unwrap()[start..start + request.length as usize].to_vec();
                            conn.data(request, request.offset, &data, DONE)
                        }
                        command::WRITE => {
                            let data = &request.data;
                            disk.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
                            conn.done(request)
                        }
                        command::BLOCK_STATUS => conn.honest(request, 0),
                        _ => conn.done(request),
                    }
                })
            });
            count.fetch_sub(1, Ordering::SeqCst);
            served
        });
        Self { bytes, open, server: server.unwrap() }
    }

    fn content(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn wait_until_closed(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.open.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < end, "a connection was left open");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn connect(from: &Disk, to: &Disk, options: &Options, connections: usize) -> Result<Copy, CopyError> {
    let (source, target) = (from.server.uri().parse().unwrap(), to.server.uri().parse().unwrap());
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let surveyor = Surveyor::connect(&source, options, &wanted, Order::Together)?;
    Copy::connect(surveyor, (&source, options), (&target, options), connections)
}

fn run(copy: Copy, rate: Option<u64>) -> Result<(), CopyError> {
    let survey = copy.surveyor().survey_options()?;
    copy.run(Full::new(), survey, &CopyOptions::new().rate(rate)).map(drop)
}

fn is_cancelled(error: &CopyError) -> bool {
    match error {
        CopyError::Source(error)
        | CopyError::Target(error)
        | CopyError::Survey(SurveyorError::Client(error)) => matches!(error, Error::Cancelled(_)),
        _ => false,
    }
}

/// The monitor's figures for a target that was all old.
fn check_target(target: &[u8], source: &[u8], monitor: &CopyMonitor) {
    let now = monitor.progress();
    let copied = target.iter().filter(|&&byte| byte != OLD).count() as u64;
    assert!(now.copied <= copied, "{} bytes copied, {copied} are there", now.copied);
    assert!(now.has_written || copied == 0, "a write that nobody knows of");
    let is_either = |(byte, expected): (&u8, &u8)| *byte == OLD || byte == expected;
    assert!(target.iter().zip(source).all(is_either), "neither the old content nor the new");
}

#[test]
fn a_copy_that_is_cancelled_ends_typed_and_is_made_good_by_another() {
    let mut random = Rng::new(18);
    let content: Vec<u8> = (0..SIZE).map(|_| random.below(0xee) as u8).collect();
    let from = Disk::serve(content.clone(), FLAGS | READ_ONLY);
    let (mut early, mut late) = (0, 0);
    for round in 0..24 {
        let to = Disk::serve(vec![OLD; SIZE], if round % 2 == 0 { FLAGS } else { FLAGS | FLUSH });
        let (connections, rate) = ([1, 4][round / 2 % 2], (round % 3 == 0).then_some(20 << 20));
        let canceller = Canceller::new();
        let options = Options::new().canceller(canceller.clone());
        let copy = connect(&from, &to, &options, connections).unwrap();
        let monitor = copy.monitor();
        let delay = Duration::from_micros(random.below(30_000));
        let begun = Instant::now();
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(delay);
                canceller.cancel();
            });
            run(copy, rate)
        });
        assert!(begun.elapsed() < Duration::from_secs(20), "round {round}: it went on");
        to.wait_until_closed();
        from.wait_until_closed();
        match result {
            Ok(()) => {
                assert!(to.content() == content, "round {round}: success, and another content");
                late += 1;
            }
            Err(error) => {
                assert!(is_cancelled(&error), "round {round}: {error}");
                check_target(&to.content(), &content, &monitor);
                early += 1;
            }
        }
        let uri = to.server.uri().parse().unwrap();
        assert!(matches!(Client::connect(&uri, &options), Err(Error::Cancelled(_))), "it has no way back");

        run(connect(&from, &to, &Options::new(), connections).unwrap(), None).unwrap();
        assert!(to.content() == content, "round {round}: the second copy");
    }
    assert!(early >= 8, "{early} were cancelled in time, {late} were not");
}

/// The lanes wait for the plan, the plan for the rate, and nobody for a server.
#[test]
fn a_copy_that_waits_for_its_rate_is_cancelled_as_well() {
    let from = Disk::serve(vec![1; SIZE], FLAGS | READ_ONLY);
    let to = Disk::serve(vec![OLD; SIZE], FLAGS);
    let canceller = Canceller::new();
    let copy = connect(&from, &to, &Options::new().canceller(canceller.clone()), 1).unwrap();
    let begun = Instant::now();
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            canceller.cancel();
        });
        run(copy, Some(1000))
    });
    assert!(is_cancelled(&result.unwrap_err()));
    assert!(begun.elapsed() < Duration::from_secs(60), "a piece takes 262 seconds at this rate");
}
