//! Calls that are dropped at each await point: the connection, the pool and the pipeline are in their
//! documented state afterwards. (`left.rs` is of connections and jobs that are left.)
#![cfg(target_os = "linux")]

use std::time::Duration;

use nbd_client::aio;
use nbd_client::pipeline::PipelineOptions;
use nbd_client::session::{Event, ReadRequest, StartError, TrimRequest, WriteRequest, ZeroRequest, take_all};
use nbd_client::survey::Order;
use nbd_client::{Error, Options};
use nbd_extents::{Context, Contexts, Extent, Status};
use testkit::dropping::{MIB, WRITABLE, answer, content, poll_and_drop, server};
use testkit::scripted::{DONE, Good, ScriptedServer};

#[tokio::test]
async fn a_driver_loses_nothing() {
    let server = server(WRITABLE);
    for times in 0..12 {
        let mut driver = aio::Driver::connect(&server.uri().parse().unwrap(), &Options::new()).await.unwrap();
        for nth in 0..4 {
            let request = ReadRequest::new(nth * MIB);
            driver.start(|session| session.start_read(&request, vec![0; 100_000])).unwrap();
            let request = WriteRequest::new(nth * MIB);
            driver.start(|session| session.start_write(&request, vec![9; 300_000])).unwrap();
        }
        let (mut reads, mut done) = (0, 0);
        while driver.in_flight() > 0 {
            // a dropped call, then one that is awaited to its end
            let event = match poll_and_drop(driver.next_event(&mut take_all), times).await {
                Some(event) => event,
                None => driver.next_event(&mut take_all).await,
            };
            match event.unwrap().unwrap() {
                Event::Read { cookie, data } => {
                    assert!(data == content((cookie.get() - 1) / 2 * MIB, 100_000), "after {times} polls");
                    reads += 1;
                }
                Event::Done { .. } => done += 1,
                event => panic!("{event:?}"),
            }
        }
        assert_eq!((reads, done), (4, 8), "after {times} polls");
        driver.disconnect().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_stays_usable() {
    let server = server(WRITABLE);
    let client = aio::Client::connect(&server.uri().parse().unwrap(), &Options::new()).await.unwrap();
    for times in 0..12 {
        poll_and_drop(client.read(0, 4 << 20), times).await;
        poll_and_drop(client.write(0, vec![9; 4 << 20]), times).await;
        poll_and_drop(client.write_fua(0, vec![9; 4 << 20]), times).await;
        poll_and_drop(client.zero(0, 64 * MIB), times).await;
        poll_and_drop(client.write_zeroes(&ZeroRequest::new(0, 64 * MIB)), times).await;
        poll_and_drop(client.trim(&TrimRequest::new(0, 64 * MIB)), times).await;
        poll_and_drop(client.cache(0, 64 * MIB), times).await;
        poll_and_drop(client.flush(), times).await;
        assert!(client.read(MIB, 4096).await.unwrap() == content(MIB, 4096), "after {times} polls");
    }
    client.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was() {
    let server = server(WRITABLE);
    for times in 0..12 {
        let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 2).await.unwrap();
        let options = PipelineOptions::default().requests(4).piece(64 << 10);
        let mut blocks = aio::ReadAhead::new(&mut pool, [0..300_032, MIB..MIB + 512], options).unwrap();
        let mut data = Vec::new();
        let mut next = async || {
            let block = blocks.next_block().await.unwrap();
            block.map(|block| block.data.to_vec())
        };
        loop {
            let block = match poll_and_drop(next(), times).await {
                Some(block) => block,
                None => next().await,
            };
            match block {
                Some(block) => data.extend(block),
                None => break,
            }
        }
        assert!(data == [content(0, 300_032), content(MIB, 512)].concat(), "after {times} polls");
        pool.disconnect().await.unwrap();
    }
}

/// A write that was dropped may have lost bytes: nothing that follows says that all is written.
#[tokio::test]
async fn a_writer_is_stopped_and_its_pool_is_not() {
    let server = server(WRITABLE);
    let mut dropped = 0;
    for times in 0..12 {
        let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 2).await.unwrap();
        let mut writes = aio::WriteBehind::new(&mut pool, PipelineOptions::default().requests(2)).unwrap();
        let write = async |writes: &mut aio::WriteBehind<'_>| {
            for nth in 0..16 {
                writes.write(nth * MIB, vec![9; 1 << 20]).await.unwrap();
            }
        };
        if poll_and_drop(write(&mut writes), times).await.is_some() {
            writes.finish().await.unwrap();
        } else {
            dropped += 1;
            assert!(matches!(writes.write(0, vec![9; 512]).await, Err(Error::Stopped)));
            assert!(matches!(writes.zero(0, 512).await, Err(Error::Stopped)));
            assert!(matches!(writes.finish().await, Err(Error::Stopped)));
        }
        pool.abandon().await.unwrap();
        assert_eq!(pool.in_flight(), 0);
        let mut writes = aio::WriteBehind::new(&mut pool, PipelineOptions::default()).unwrap();
        poll_and_drop(writes.write(0, vec![9; 4 << 20]), times).await;
        assert!(poll_and_drop(writes.finish(), times).await.is_none_or(|end| end.is_ok()));
        pool.abandon().await.unwrap();
        pool.disconnect().await.unwrap();
    }
    assert!(dropped > 1, "{dropped} writes were dropped");
}

/// The second request fails, and the others are answered late: the error is told, however many calls
/// are dropped while they are waited for.
#[tokio::test]
async fn an_error_is_told_whatever_is_dropped() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        conn.serve(|conn, request| {
            if request.offset == MIB {
                return conn.error(request, 5, "bad sector", DONE);
            }
            conn.pause(Duration::from_millis(2))?;
            answer(conn, request)
        })
    })
    .unwrap();
    let mut told = 0;
    for times in 0..12 {
        let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 1).await.unwrap();
        let pace = PipelineOptions::default();
        let mut blocks = aio::ReadAhead::new(&mut pool, Some(0..4 * MIB), pace).unwrap();
        let error = loop {
            match poll_and_drop(blocks.next_block(), times).await {
                Some(Ok(block)) => assert!(block.is_some_and(|block| block.offset < MIB), "{times} polls"),
                Some(Err(error)) => break error,
                // its tasks run meanwhile
                None => tokio::task::yield_now().await,
            }
        };
        assert!(error.to_string().ends_with("EIO: bad sector"), "after {times} polls: {error}");
        assert_eq!(blocks.next_block().await.unwrap(), None);
        pool.abandon().await.unwrap();

        let mut writes = aio::WriteBehind::new(&mut pool, PipelineOptions::default().requests(2)).unwrap();
        let mut error = None;
        for nth in 0..8 {
            let dropped = poll_and_drop(writes.write(nth * MIB, vec![9; 1 << 20]), times).await;
            if !matches!(dropped, Some(Ok(()))) {
                error = dropped.and_then(Result::err);
                break;
            }
        }
        drop(writes.write(0, vec![9; 512]));
        let error = error.unwrap_or(writes.write(0, vec![9; 512]).await.unwrap_err());
        if error.to_string().ends_with("EIO: bad sector") {
            told += 1;
        } else {
            assert!(matches!(error, Error::Stopped), "after {times} polls: {error}");
        }
        assert!(matches!(writes.finish().await, Err(Error::Stopped)));
        pool.abandon().await.unwrap();
        pool.disconnect().await.unwrap();
    }
    assert!(told > 3, "{told} causes were told");
}

/// As `select!` drops a call when another branch is ready at once.
#[tokio::test]
async fn a_write_that_was_never_polled_is_noticed() {
    let server = server(WRITABLE);
    let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 1).await.unwrap();
    let pace = PipelineOptions::default();
    let mut writes = aio::WriteBehind::new(&mut pool, pace).unwrap();
    drop(writes.write(0, vec![9; 512]));
    assert!(matches!(writes.finish().await, Err(Error::Stopped)));
    let mut writes = aio::WriteBehind::new(&mut pool, pace).unwrap();
    drop(writes.zero(0, 512));
    assert!(matches!(writes.finish().await, Err(Error::Stopped)));
    let mut writes = aio::WriteBehind::new(&mut pool, pace).unwrap();
    drop(writes.write_joined(0, &[9; 512]));
    assert!(matches!(writes.finish().await, Err(Error::Stopped)));
    let mut writes = aio::WriteBehind::new(&mut pool, pace).unwrap();
    writes.write_joined(0, &[9; 512]).await.unwrap();
    drop(writes.zero(512, 512));
    assert!(matches!(writes.finish().await, Err(Error::Stopped)));
    pool.disconnect().await.unwrap();
}

/// The futures of a pool and its pipelines can move between threads, as tasks do.
#[tokio::test]
async fn calls_of_a_pool_can_be_made_in_a_task() {
    let server = server(WRITABLE);
    let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 1).await.unwrap();
    let task = tokio::spawn(async move {
        let mut writes = aio::WriteBehind::new(&mut pool, PipelineOptions::default())?;
        writes.write(0, vec![9; 512]).await?;
        writes.write_joined(512, &[9; 512]).await?;
        writes.zero(1024, 512).await?;
        writes.finish().await?;
        let mut blocks = aio::ReadAhead::new(&mut pool, Some(0..512), PipelineOptions::default())?;
        while blocks.next_block().await?.is_some() {}
        pool.write(0, &[9; 512]).await?;
        pool.zero(0, 512).await?;
        pool.read(0, &mut [0; 512]).await?;
        pool.flush().await?;
        pool.disconnect().await.map(drop)
    });
    task.await.unwrap().unwrap();
}

/// Joined writes lose no byte without a word, whichever of their calls is dropped.
#[tokio::test]
async fn joined_writes_are_stopped_and_their_pool_is_not() {
    let server = server(WRITABLE);
    let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 2).await.unwrap();
    let pace = PipelineOptions::default().requests(2);
    let mut dropped = 0;
    for (call, times) in (0..3).flat_map(|call| (0..12).map(move |times| (call, times))) {
        let mut writes = aio::WriteBehind::new(&mut pool, pace).unwrap();
        writes.write_joined(0, &[9; 8 << 20]).await.unwrap();
        let is_whole = match call {
            0 => poll_and_drop(writes.write_joined(8 * MIB, &[9; 8 << 20]), times)
                .await
                .map(Result::unwrap)
                .is_some(),
            1 => poll_and_drop(writes.zero(8 * MIB, 56 * MIB), times).await.map(Result::unwrap).is_some(),
            _ => true,
        };
        if is_whole {
            dropped += usize::from(poll_and_drop(writes.finish(), times).await.map(Result::unwrap).is_none());
        } else {
            dropped += 1;
            assert!(matches!(writes.finish().await, Err(Error::Stopped)), "call {call}, {times} polls");
        }
        pool.abandon().await.unwrap();
        assert_eq!(pool.in_flight(), 0);
    }
    assert!(dropped > 3, "{dropped} calls were dropped");
    pool.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_pool_is_usable_when_what_was_dropped_is_abandoned() {
    let server = server(WRITABLE);
    let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 1).await.unwrap();
    for times in 0..12 {
        poll_and_drop(pool.read(0, &mut vec![0; 4 << 20]), times).await;
        poll_and_drop(pool.abandon(), times).await;
        let busy = pool.in_flight();
        match pool.write(0, &[9; 1000]).await {
            Err(Error::Start(StartError::Busy(count))) => assert_eq!((count, busy > 0), (busy, true)),
            done => assert_eq!((done.unwrap(), busy), ((), 0)),
        }
        pool.abandon().await.unwrap();
        poll_and_drop(pool.write(100, &[9; 4 << 20]), times).await;
        pool.abandon().await.unwrap();
        poll_and_drop(pool.zero(0, 64 * MIB), times).await;
        pool.abandon().await.unwrap();
        poll_and_drop(pool.flush(), times).await;
        pool.abandon().await.unwrap();
        let mut data = vec![0; 4096];
        pool.read(MIB, &mut data).await.unwrap();
        assert!(data == content(MIB, 4096), "after {times} polls");
    }
    pool.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_survey_goes_on_where_it_was() {
    let server = server(3);
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let uri = server.uri().parse().unwrap();
    let mut expected: Option<Vec<Extent<Status>>> = None;
    for (times, ahead) in (0..8).flat_map(|times| [(times, false), (times, true)]) {
        let mut surveyor =
            aio::Surveyor::connect(&uri, &Options::new(), &wanted, Order::Together).await.unwrap();
        let settled = surveyor.survey_options().unwrap().max_request(4 * MIB);
        let stream = surveyor.survey(settled).unwrap();
        let mut stream = if ahead { stream.ask_ahead() } else { stream };
        let mut extents = Vec::new();
        loop {
            poll_and_drop(stream.receive_all(), times).await;
            let next = match poll_and_drop(stream.next_extent(), times).await {
                Some(next) => next,
                None => stream.next_extent().await,
            };
            match next.unwrap() {
                Some(extent) => extents.push(extent),
                None => break,
            }
        }
        assert_eq!(*expected.get_or_insert_with(|| extents.clone()), extents, "after {times} polls");
        // a call that collects loses what it has, and the rest follows
        let settled = surveyor.survey_options().unwrap().max_request(4 * MIB);
        let stream = surveyor.survey(settled).unwrap();
        let mut stream = if ahead { stream.ask_ahead() } else { stream };
        let rest = match poll_and_drop(stream.collect_vec(), times).await {
            Some(all) => all.unwrap(),
            None => stream.collect_vec().await.unwrap(),
        };
        assert!(extents.ends_with(&rest), "after {times} polls");
        surveyor.disconnect().await.unwrap();
    }
}
