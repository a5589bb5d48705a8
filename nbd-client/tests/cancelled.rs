//! Calls that another thread cancels at random times. Each ends soon, with the error that says so; what
//! had ended before is right; and the connection is given up. An asynchronous call that connects is
//! prevented or not, and what it has connected stays usable. (`copy_cancelled.rs` is of copies, and
//! `dropped.rs` of asynchronous calls, which are dropped.)
//!
//! `CANCEL_SEED` is the seed (the time of day), `CANCEL_ROUNDS` the cancels of each kind of call (16).
#![cfg(target_os = "linux")]

use core::fmt::Debug;
use core::ops::Range;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::frame::During;
use nbd_client::pipeline::PipelineOptions;
use nbd_client::session::{Event, ReadRequest, StatusRequest, TrimRequest, WriteRequest, take_all};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::transport::Canceller;
use nbd_client::{Client, Error, Options, Pool, ReadAhead, Surveyor, WriteBehind, aio};
use nbd_extents::stream::ExtentStream as _;
use nbd_extents::{Context, Contexts, Extent, Status};
use testkit::clients::runtime;
use testkit::dropping::{MIB, content};
use testkit::memory_disk::{BITMAP, MemoryDisk};
use testkit::pki::Pki;
use testkit::random::Rng;

/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, CAN_MULTI_CONN, SEND_CACHE.
const FLAGS: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10;
/// Bytes of the disk. The calls read the first half, and write to the second.
const SIZE: u64 = 4 * MIB;
const HALF: u64 = SIZE / 2;
/// The length of a read or write: more than a socket holds, and more than one request of a pool.
const LENGTH: usize = 600 * 1024;
/// Bytes that a call writes to.
const WRITTEN: Range<usize> = HALF as usize..HALF as usize + LENGTH;
/// The longest time from the cancel to the end of the call.
const SOON: Duration = Duration::from_secs(10);

fn rounds() -> u64 {
    std::env::var("CANCEL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(16)
}

/// A moment from now that is early as often as late.
fn pause(random: &mut Rng) -> Duration {
    let most = 1 << random.below(15);
    Duration::from_micros(random.below(most))
}

// ---- calls that are made again and again, until one of them fails

/// Where to make calls, and by which options.
struct Caller<'a> {
    disk: &'a MemoryDisk,
    options: &'a Options,
    canceller: &'a Canceller,
    /// Told when the first connection is there.
    connected: Sender<()>,
}

impl Caller<'_> {
    /// Makes calls until one fails. A call that begins after the cancel does.
    fn repeat<E>(&self, mut call: impl FnMut(u8) -> Result<(), E>) -> E {
        let started = Instant::now();
        for nth in 0_u64.. {
            let is_late = self.canceller.is_cancelled();
            if let Err(error) = call((nth % 250) as u8) {
                return error;
            }
            self.connected.send(()).ok();
            assert!(!is_late, "a call that began after the cancel has succeeded");
            assert!(started.elapsed() < SOON * 3, "the calls go on");
        }
        unreachable!("a number ends")
    }

    fn client(&self, mut call: impl FnMut(&mut Client, u8) -> Result<(), Error>) -> Error {
        let mut client = match Client::connect(&self.disk.uri(), self.options) {
            Ok(client) => client,
            Err(error) => return error,
        };
        self.connected.send(()).ok();
        let error = self.repeat(|nth| call(&mut client, nth));
        assert!(matches!(client.read(0, &mut [0; 512]), Err(Error::GivenUp)));
        assert!(matches!(client.start(|session| session.start_flush()), Err(Error::GivenUp)));
        assert!(matches!(client.next_event(&mut take_all), Err(Error::GivenUp)));
        assert!(matches!(client.disconnect(), Err(Error::GivenUp)));
        error
    }

    fn pool(&self, mut call: impl FnMut(&mut Pool, u8) -> Result<(), Error>) -> Error {
        let mut pool = match Pool::connect(&self.disk.uri(), self.options, 2) {
            Ok(pool) => pool,
            Err(error) => return error,
        };
        assert_eq!(pool.connections(), 2);
        self.connected.send(()).ok();
        let error = self.repeat(|nth| call(&mut pool, nth));
        assert!(matches!(pool.read(0, &mut [0; 512]), Err(Error::GivenUp)));
        let finished =
            WriteBehind::new(&mut pool, PipelineOptions::default()).and_then(|writes| writes.finish());
        assert!(matches!(finished, Err(Error::GivenUp)), "{finished:?}");
        assert!(matches!(pool.disconnect(), Err(Error::GivenUp)));
        error
    }

    fn survey(&self, order: Order) -> Error {
        let mut surveyor = match Surveyor::connect(&self.disk.uri(), self.options, &contexts(), order) {
            Ok(surveyor) => surveyor,
            Err(error) => return of_survey(error),
        };
        self.connected.send(()).ok();
        let error = self.repeat(|_| {
            let settled = surveyor.survey_options()?.max_request(MIB / 2).allow_writable();
            check_extents(&surveyor.survey(settled)?.collect_vec()?);
            Ok(())
        });
        // its other connection may not know yet
        let ended = of_survey(surveyor.disconnect().unwrap_err());
        assert!(matches!(ended, Error::GivenUp | Error::Cancelled(_)), "{ended}");
        of_survey(error)
    }
}

fn contexts() -> Contexts {
    let allocation = Contexts::new().require(Context::Allocation).unwrap();
    allocation.require(Context::bitmap("b0")).unwrap()
}

fn of_survey(error: SurveyorError) -> Error {
    match error {
        SurveyorError::Client(error) | SurveyorError::SecondConnection(error) => error,
        other => panic!("{other}"),
    }
}

/// All of the disk is data, and dirty.
fn check_extents(extents: &[Extent<Status>]) {
    let end = extents.iter().fold(0, |at, extent| {
        assert_eq!(extent.start(), at);
        assert_eq!((extent.status().dirty(), extent.status().zero()), (Some(true), Some(false)));
        extent.end()
    });
    assert_eq!(end, SIZE);
}

/// One kind of call.
type Calls = fn(&Caller<'_>) -> Error;

const CALLS: [(&str, Calls); 16] = [
    ("connect and disconnect", |caller| {
        caller.repeat(|_| {
            let client = Client::connect(&caller.disk.uri(), caller.options)?;
            assert_eq!(client.export().size(), SIZE);
            client.disconnect()
        })
    }),
    ("list", |caller| {
        caller.repeat(|nth| {
            let uri = caller.disk.uri();
            if nth % 2 == 0 {
                assert_eq!(Client::list_exports(&uri, caller.options)?.len(), 1);
            } else {
                assert_eq!(Client::list_contexts(&uri, caller.options)?, ["base:allocation", BITMAP]);
            }
            Ok(())
        })
    }),
    ("read", |caller| {
        let mut data = vec![0; LENGTH];
        caller.client(|client, nth| {
            let offset = u64::from(nth) * 512;
            client.read(offset, &mut data)?;
            assert!(data == content(offset, LENGTH as u64), "other bytes");
            Ok(())
        })
    }),
    ("write", |caller| {
        caller.client(|client, nth| {
            client.write(HALF, &[nth; LENGTH])?;
            assert!(caller.disk.is_all(nth, WRITTEN));
            Ok(())
        })
    }),
    ("write, durably", |caller| {
        caller.client(|client, nth| {
            client.write_fua(HALF, &[nth; LENGTH])?;
            assert!(caller.disk.is_all(nth, WRITTEN));
            Ok(())
        })
    }),
    ("zero", |caller| {
        caller.client(|client, _| {
            client.zero(HALF, HALF)?;
            assert!(caller.disk.is_all(0, WRITTEN));
            client.write(HALF, &[7; 512])
        })
    }),
    ("trim and cache", |caller| {
        caller.client(|client, _| {
            client.trim(&TrimRequest::new(HALF, HALF))?;
            client.cache(0, HALF)
        })
    }),
    ("flush", |caller| {
        caller.client(|client, _| {
            let before = caller.disk.flushes();
            client.flush()?;
            assert!(caller.disk.flushes() > before);
            Ok(())
        })
    }),
    ("block status", |caller| {
        let uri = caller.disk.uri();
        let options = caller.options.clone().require_context("base:allocation");
        Caller { options: &options, connected: caller.connected.clone(), ..*caller }.client(|client, _| {
            let mut chunks = Vec::new();
            client.block_status(&StatusRequest::new(0, MIB), |context, payload| {
                chunks.push((context, payload.to_vec()));
            })?;
            let list = [(MIB, 0)].map(|(length, flags): (u64, u64)| [length, flags].map(u64::to_be_bytes));
            let expected = [&[0, 0, 0, 0, 0, 0, 0, 1][..], list.as_flattened().as_flattened()].concat();
            assert_eq!(chunks, [(0, expected)], "{uri}");
            Ok(())
        })
    }),
    ("events", |caller| {
        caller.client(|client, nth| {
            client.start(|session| session.start_write(&WriteRequest::new(HALF), vec![nth; LENGTH]))?;
            for part in 0..3 {
                let request = ReadRequest::new(part * MIB / 2);
                client.start(|session| session.start_read(&request, vec![0; 100_000]))?;
            }
            let (mut reads, mut done) = (Vec::new(), 0);
            while let Some(event) = client.next_event(&mut take_all)? {
                match event {
                    Event::Read { data, .. } => reads.push(data),
                    Event::Done { .. } => done += 1,
                    other => panic!("{other:?}"),
                }
            }
            let expected: Vec<_> = (0..3).map(|part| content(part * MIB / 2, 100_000)).collect();
            assert!(reads == expected && done == 4 && caller.disk.is_all(nth, WRITTEN));
            Ok(())
        })
    }),
    ("survey", |caller| caller.survey(Order::Together)),
    ("survey, the bitmap first", |caller| caller.survey(Order::BitmapFirst)),
    ("pool: connect and disconnect", |caller| {
        caller.repeat(|_| {
            let pool = Pool::connect(&caller.disk.uri(), caller.options, 2)?;
            assert_eq!(pool.disconnect()?.len(), 2);
            Ok(())
        })
    }),
    ("pool: read", |caller| {
        let mut data = vec![0; LENGTH];
        caller.pool(|pool, nth| {
            if nth % 2 == 0 {
                pool.read(512, &mut data)?;
                assert!(data == content(512, LENGTH as u64), "other bytes");
                return Ok(());
            }
            let mut blocks = ReadAhead::new(pool, Some(0..HALF), PipelineOptions::default())?;
            let mut read: Vec<u8> = Vec::new();
            while let Some(block) = blocks.next_block()? {
                read.extend(block.data);
            }
            assert!(read == content(0, HALF), "other bytes");
            Ok(())
        })
    }),
    ("pool: write", |caller| {
        caller.pool(|pool, nth| {
            if nth % 2 == 0 {
                pool.write(HALF, &[nth; LENGTH])?;
            } else {
                let mut writes = WriteBehind::new(pool, PipelineOptions::default())?;
                writes.write(HALF, vec![nth; LENGTH / 2])?;
                writes.write_joined(HALF + LENGTH as u64 / 2, &[nth; LENGTH / 2])?;
                writes.finish()?;
            }
            assert!(caller.disk.is_all(nth, WRITTEN));
            Ok(())
        })
    }),
    ("pool: zero and flush", |caller| {
        caller.pool(|pool, _| {
            let before = caller.disk.flushes();
            pool.zero(HALF, HALF)?;
            pool.flush()?;
            assert!(caller.disk.is_all(0, WRITTEN) && caller.disk.flushes() > before);
            pool.write(HALF, &[7; 512])
        })
    }),
];

fn disks() -> [MemoryDisk; 2] {
    let bytes = || content(0, SIZE);
    [MemoryDisk::start(bytes(), FLAGS), MemoryDisk::start_tls(bytes(), FLAGS, Pki::new())]
}

/// Every second cancel comes after the connection. Every third disk is behind TLS, and every third server
/// stops answering at some time.
#[test]
fn a_call_can_be_cancelled_at_any_time() {
    let mut random = Rng::seeded_by("CANCEL_SEED");
    let disks = disks();
    let (mut early, mut late) = (0, 0);
    for (round, (name, calls)) in (0..rounds()).flat_map(|round| CALLS.map(|calls| (round, calls))) {
        let disk = &disks[usize::from(random.below(3) == 2)];
        let (pause, waits) = (pause(&mut random), round % 2 == 1);
        let canceller = &Canceller::new();
        // a call that the cancel does not end is a timeout
        let patience = Options::new().connect_timeout(SOON * 2).request_timeout(SOON * 2);
        let options = &patience.flush_timeout(Some(SOON * 2)).canceller(canceller.clone());
        disk.answer(if random.below(3) == 0 { random.below(24) as usize } else { usize::MAX });
        let (error, took) = thread::scope(|scope| {
            let (connected, is_connected) = channel();
            let cancelling = scope.spawn(move || {
                if waits {
                    // for ever only where the server does not answer
                    is_connected.recv_timeout(Duration::from_millis(50)).ok();
                }
                thread::sleep(pause);
                canceller.cancel();
                Instant::now()
            });
            let error = calls(&Caller { disk, options, canceller, connected });
            let ended = Instant::now();
            (error, ended.saturating_duration_since(cancelling.join().unwrap()))
        });
        let Error::Cancelled(during) = error else { panic!("{name}, round {round}, {pause:?}: {error:?}") };
        assert!(took < SOON, "{name}, round {round}, {pause:?}: it ended after {took:?}");
        *if matches!(during, During::Send | During::ReplyHeader | During::Payload) {
            &mut late
        } else {
            &mut early
        } += 1;
        let again = Client::connect(&disk.uri(), options);
        assert!(matches!(again, Err(Error::Cancelled(During::Connect))), "{name}: {again:?}");
        disk.wait_until_closed();
    }
    assert!(early > 0 && late > 0, "{early} in the handshake, {late} after it");
}

// ---- asynchronous calls, of which only those that connect look at a canceller

/// The outcome of a call that connects, which a canceller prevents or leaves alone.
fn prevented<V, E: Debug>(result: Result<V, E>, of: impl FnOnce(E) -> Error) -> Option<V> {
    result.map_err(of).map_or_else(
        |error| {
            assert!(matches!(error, Error::Cancelled(During::Connect)), "{error:?}");
            None
        },
        Some,
    )
}

/// Makes one kind of connection, and uses it: `false` if it was prevented.
async fn connect_and_use(kind: u64, disk: &MemoryDisk, options: &Options) -> Result<bool, Error> {
    let uri = &disk.uri();
    match kind {
        0 => {
            let Some(client) = prevented(aio::Client::connect(uri, options).await, |error| error) else {
                return Ok(false);
            };
            assert!(client.read(512, LENGTH).await? == content(512, LENGTH as u64));
            client.disconnect().await?;
        }
        1 => {
            let Some(mut driver) = prevented(aio::Driver::connect(uri, options).await, |error| error) else {
                return Ok(false);
            };
            driver.start(|session| session.start_flush())?;
            assert!(matches!(driver.next_event(&mut take_all).await?, Some(Event::Done { .. })));
            driver.disconnect().await?;
        }
        2 => {
            let Some(mut pool) = prevented(aio::Pool::connect(uri, options, 2).await, |error| error) else {
                return Ok(false);
            };
            pool.write(HALF, &[7; LENGTH]).await?;
            assert!(pool.connections() == 2 && disk.is_all(7, WRITTEN));
            pool.disconnect().await?;
        }
        _ => {
            let order = if kind == 3 { Order::Together } else { Order::BitmapFirst };
            let surveyor = aio::Surveyor::connect(uri, options, &contexts(), order).await;
            let Some(mut surveyor) = prevented(surveyor, of_survey) else { return Ok(false) };
            let settled = surveyor.survey_options().map_err(of_survey)?.allow_writable();
            let mut stream = surveyor.survey(settled).map_err(of_survey)?;
            check_extents(&stream.collect_vec().await.map_err(of_survey)?);
            surveyor.disconnect().await.map_err(of_survey)?;
        }
    }
    Ok(true)
}

#[test]
fn a_canceller_prevents_an_asynchronous_connection_and_ends_none() {
    let mut random = Rng::seeded_by("CANCEL_SEED");
    let (disks, runtime) = (disks(), runtime());
    for (round, kind) in (0..rounds()).flat_map(|round| (0..5).map(move |kind| (round, kind))) {
        let disk = &disks[usize::from(random.below(3) == 2)];
        let pause = pause(&mut random);
        let canceller = &Canceller::new();
        let options = Options::new().canceller(canceller.clone());
        let (result, is_late) = thread::scope(|scope| {
            // the first rounds know which comes first
            if round == 0 {
                canceller.cancel();
            }
            scope.spawn(move || {
                if round > 1 {
                    thread::sleep(pause);
                    canceller.cancel();
                }
            });
            let is_late = canceller.is_cancelled();
            (runtime.block_on(connect_and_use(kind, disk, &options)), is_late)
        });
        let connected = result.unwrap_or_else(|error| panic!("kind {kind}, {pause:?}: {error:?}"));
        assert!(!(is_late && connected), "kind {kind}: a connection that began after the cancel");
        assert!(connected || round != 1, "kind {kind}: a canceller that has not fired");
        disk.wait_until_closed();
    }
}
