//! A copy that another thread cancels at any moment: it ends typed and soon, closes its connections,
//! says what the target holds, and another copy makes it good. Whatever else ends one of its
//! connections, or its policy, ends all of it as soon.
#![cfg(target_os = "linux")]

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::copy::{Copy, CopyError, CopyMonitor, CopyOptions};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::transport::Canceller;
use nbd_client::{Client, Error, Options, Surveyor, Uri};
use nbd_extents::action::{Base, Decision, Full, Policy, PolicyError};
use nbd_extents::{Context, Contexts, Extent, Status};
use testkit::memory_disk::MemoryDisk;
use testkit::random::Rng;
use testkit::scripted::{Good, ScriptedServer};

/// Bytes of the disk.
const SIZE: usize = 4 << 20;
/// Every byte of the target before the copy; the source has none of it.
const OLD: u8 = 0xee;
/// HAS_FLAGS, CAN_MULTI_CONN; without the latter; and those of one side each.
const FLAGS: u16 = 1 | 1 << 8;
const ONE: u16 = 1;
const READ_ONLY: u16 = 1 << 1;
const FLUSH: u16 = 1 << 2;

fn connect(
    from: &MemoryDisk,
    to: &MemoryDisk,
    options: &Options,
    connections: usize,
) -> Result<Copy, CopyError> {
    connect_with((&from.uri(), options), (&to.uri(), options), connections)
}

fn connect_with(
    source: (&Uri, &Options),
    target: (&Uri, &Options),
    connections: usize,
) -> Result<Copy, CopyError> {
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let surveyor = Surveyor::connect(source.0, source.1, &wanted, Order::Together)?;
    Copy::connect(surveyor, source, target, connections)
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
    let mut random = Rng::seeded_by("CANCEL_SEED");
    let content: Vec<u8> = (0..SIZE).map(|_| random.below(0xee) as u8).collect();
    let from = MemoryDisk::start(content.clone(), FLAGS | READ_ONLY);
    let (mut early, mut late) = (0, 0);
    for round in 0..24 {
        let to = MemoryDisk::start(vec![OLD; SIZE], if round % 2 == 0 { FLAGS } else { FLAGS | FLUSH });
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
        assert!(
            matches!(Client::connect(&to.uri(), &options), Err(Error::Cancelled(_))),
            "it has no way back"
        );

        run(connect(&from, &to, &Options::new(), connections).unwrap(), None).unwrap();
        assert!(to.content() == content, "round {round}: the second copy");
    }
    assert!(early >= 8, "{early} were cancelled in time, {late} were not");
}

/// The lanes wait for the plan, the plan for the rate, and nobody for a server. Either side may be
/// cancelled alone.
#[test]
fn a_copy_that_waits_for_its_rate_is_cancelled_as_well() {
    let from = MemoryDisk::start(vec![1; SIZE], FLAGS | READ_ONLY);
    let (source, options) = (from.uri(), Options::new());
    for is_source in [true, false] {
        let to = MemoryDisk::start(vec![OLD; SIZE], FLAGS);
        let canceller = Canceller::new();
        let cancelled = Options::new().canceller(canceller.clone());
        let [theirs, ours] = if is_source { [&cancelled, &options] } else { [&options, &cancelled] };
        let copy = connect_with((&source, theirs), (&to.uri(), ours), 1).unwrap();
        let begun = Instant::now();
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                canceller.cancel();
            });
            run(copy, Some(1000))
        });
        let error = result.unwrap_err();
        assert!(is_cancelled(&error), "{error}");
        assert_eq!(matches!(error, CopyError::Target(_)), !is_source, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60), "a piece takes 262 seconds at this rate");
    }
}

/// The survey waits for a source that says nothing more, and the lanes wait for the plan; or there
/// are no lanes yet, since the source takes one connection.
#[test]
fn whatever_ends_the_target_ends_the_survey_as_well() {
    for nth in 0..6 {
        let way = ["it is lost", "it is cancelled", "its time is over"][nth / 2];
        let from = MemoryDisk::start(vec![1; SIZE], [FLAGS, ONE][nth % 2] | READ_ONLY);
        let to = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::extended().size(SIZE as u64).flags(FLAGS))?;
            if way != "it is lost" {
                return conn.stall();
            }
            conn.pause(Duration::from_millis(200))?;
            conn.hang_up()
        })
        .unwrap();
        let canceller = Canceller::new();
        let mut options = Options::new().canceller(canceller.clone());
        if way == "its time is over" {
            options = options.deadline(Some(Instant::now() + Duration::from_millis(500)));
        }
        let theirs = Options::new().request_timeout(Duration::from_secs(60));
        let target = to.uri().parse().unwrap();
        let begun = Instant::now();
        let copy = connect_with((&from.uri(), &theirs), (&target, &options), 1);
        from.answer(0);
        let result = thread::scope(|scope| {
            if way == "it is cancelled" {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(200));
                    canceller.cancel();
                });
            }
            run(copy?, None)
        });
        match result.unwrap_err() {
            CopyError::Target(Error::ConnectionLost(_)) => assert_eq!(way, "it is lost"),
            CopyError::Target(Error::Cancelled(_)) => assert_eq!(way, "it is cancelled"),
            CopyError::Target(Error::OutOfTime(_)) => assert_eq!(way, "its time is over"),
            error => panic!("{way}: {error}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{way}: the source has 60 seconds");
    }
}

#[derive(Debug)]
struct Panics;

impl Policy for Panics {
    fn base(&self) -> Base {
        Full::new().base()
    }

    fn decide(&self, _: &Extent<Status>) -> Result<Decision, PolicyError> {
        panic!("the test asks for a panic")
    }
}

/// The lanes wait for pieces of the plan, which never come, or the target is watched meanwhile.
#[test]
fn the_panic_of_a_policy_goes_on_to_the_caller() {
    for flags in [FLAGS, ONE] {
        let from = MemoryDisk::start(vec![1; SIZE], flags | READ_ONLY);
        let to = MemoryDisk::start(vec![OLD; SIZE], FLAGS);
        let copy = connect(&from, &to, &Options::new(), 2).unwrap();
        let (tell, told) = mpsc::channel();
        let copying = thread::spawn(move || {
            // told by the drop, while it unwinds
            let _tell: mpsc::Sender<()> = tell;
            let survey = copy.surveyor().survey_options().unwrap();
            copy.run(Panics, survey, &CopyOptions::new()).map(drop)
        });
        let waited = told.recv_timeout(Duration::from_secs(20));
        assert_eq!(waited, Err(mpsc::RecvTimeoutError::Disconnected), "the copy hangs");
        let panic = copying.join().unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the test asks for a panic"));
    }
}
