//! Both clients can do the same: the table in the crate's documentation, as code that
//! compiles.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;

use nbd_client::pipeline::PipelineOptions;
use nbd_client::pool::more_connections;
use nbd_client::session::{StatusRequest, TrimRequest, ZeroRequest, take_all};
use nbd_client::survey::{self, Order, SurveyorError};
use nbd_client::transport::Socket;
use nbd_client::{Client, Error, Options, Pool, ReadAhead, Surveyor, Uri, WriteBehind, aio};
use nbd_extents::Contexts;
use nbd_extents::stream::ExtentStream;

fn blocking(uri: &Uri, options: &Options, contexts: &Contexts) -> Result<(), SurveyorError> {
    let calls = || -> Result<(), Error> {
        Client::list_exports(uri, options)?;
        Client::list_contexts(uri, options)?;
        let mut client = Client::connect(uri, options)?;
        let _ = client.export().size();
        client.read(0, &mut [0; 512])?;
        client.write(0, &[0; 512])?;
        client.write_fua(0, &[0; 512])?;
        client.zero(0, 512)?;
        client.write_zeroes(&ZeroRequest::new(0, 512))?;
        client.trim(&TrimRequest::new(0, 512))?;
        client.cache(0, 512)?;
        client.flush()?;
        client.start(|session| session.start_flush())?;
        client.next_event(&mut take_all)?;
        let buffer = client.buffer(512);
        client.recycle_buffer(buffer);
        client.recycle(Vec::new());
        let _ = (client.stats(), client.in_flight());
        client.block_status(&StatusRequest::new(0, 512), |_, _| {})?;
        client.disconnect()
    };
    calls()?;
    let pools = || -> Result<(), Error> {
        let mut pool = Pool::connect(uri, options, 4)?;
        let _ = (pool.connections(), pool.export().size(), pool.in_flight());
        pool.read(0, &mut [0; 512])?;
        pool.write(0, &[0; 512])?;
        pool.zero(0, 512)?;
        pool.flush()?;
        while ReadAhead::new(&mut pool, Some(0..512), pace())?.next_block()?.is_some() {}
        let mut writes = WriteBehind::new(&mut pool, pace())?;
        let data = writes.buffer(512);
        writes.write(0, data)?;
        writes.write_joined(0, &[0; 512])?;
        writes.zero(0, 512)?;
        writes.finish()?;
        pool.abandon()?;
        pool.disconnect()?;
        let first = Client::connect(uri, options)?;
        let others = more_connections(first.export(), 3, uri, options)?;
        Pool::of(first, others)?.disconnect().map(drop)
    };
    pools()?;
    let over = |stream: UnixStream| -> Result<(), SurveyorError> {
        let mut stream = Some(stream);
        let connect = |options: &Options| {
            let stream = stream.take().ok_or(Error::GivenUp)?;
            let socket = Socket::try_from(stream).map_err(|_| Error::GivenUp)?;
            Client::over(socket, "", options)
        };
        Surveyor::open(options, contexts, Order::Together, connect)?.disconnect()
    };
    let _ = over;
    survey::map(uri, options, contexts)?;
    let mut surveyor = Surveyor::connect(uri, options, contexts, Order::BitmapFirst)?;
    let _ = surveyor.connection_stats().count();
    let _ = (surveyor.export().size(), surveyor.is_read_only(), surveyor.assumes_data());
    let settled = surveyor.survey_options()?;
    let mut extents = surveyor.survey(settled)?.ask_ahead();
    extents.receive_all();
    extents.next_extent()?;
    let _ = (extents.stats(), extents.as_survey().resume_point());
    extents.collect_vec()?;
    let client = surveyor.into_client();
    Surveyor::over(client, contexts)?.disconnect()
}

async fn asynchronous(uri: &Uri, options: &Options, contexts: &Contexts) -> Result<(), SurveyorError> {
    let calls = async || -> Result<(), Error> {
        aio::Client::list_exports(uri, options).await?;
        aio::Client::list_contexts(uri, options).await?;
        let client = aio::Client::connect(uri, options).await?;
        let _ = client.export().size();
        client.read(0, 512).await?;
        client.write(0, vec![0; 512]).await?;
        client.write_fua(0, vec![0; 512]).await?;
        client.zero(0, 512).await?;
        client.write_zeroes(&ZeroRequest::new(0, 512)).await?;
        client.trim(&TrimRequest::new(0, 512)).await?;
        client.cache(0, 512).await?;
        client.flush().await?;
        client.disconnect().await?;
        let mut driver = aio::Driver::connect(uri, options).await?;
        driver.start(|session| session.start_flush())?;
        driver.next_event(&mut take_all).await?;
        let buffer = driver.buffer(512);
        driver.recycle_buffer(buffer);
        driver.recycle(Vec::new());
        let _ = (driver.stats(), driver.in_flight());
        let _ = aio::Client::of(driver);
        Ok(())
    };
    calls().await?;
    let pools = async || -> Result<(), Error> {
        let mut pool = aio::Pool::connect(uri, options, 4).await?;
        let _ = (pool.connections(), pool.export().size(), pool.in_flight());
        pool.read(0, &mut [0; 512]).await?;
        pool.write(0, &[0; 512]).await?;
        pool.zero(0, 512).await?;
        pool.flush().await?;
        while aio::ReadAhead::new(&mut pool, Some(0..512), pace())?.next_block().await?.is_some() {}
        let mut writes = aio::WriteBehind::new(&mut pool, pace())?;
        let data = writes.buffer(512);
        writes.write(0, data).await?;
        writes.write_joined(0, &[0; 512]).await?;
        writes.zero(0, 512).await?;
        writes.finish().await?;
        pool.abandon().await?;
        pool.disconnect().await?;
        let first = aio::Driver::connect(uri, options).await?;
        let others = aio::more_connections(first.export(), 3, uri, options).await?;
        aio::Pool::of(first, others)?.disconnect().await.map(drop)
    };
    pools().await?;
    let over = async |stream: tokio::net::UnixStream| -> Result<(), SurveyorError> {
        let mut stream = Some(stream);
        let connect = |options: Options| {
            let stream = stream.take();
            async move { aio::Driver::over(stream.ok_or(Error::GivenUp)?, "", &options).await }
        };
        aio::Surveyor::open(options, contexts, Order::Together, connect).await?.disconnect().await
    };
    let _ = over;
    aio::map(uri, options, contexts).await?;
    let mut surveyor = aio::Surveyor::connect(uri, options, contexts, Order::BitmapFirst).await?;
    let _ = surveyor.connection_stats().count();
    let _ = (surveyor.export().size(), surveyor.is_read_only(), surveyor.assumes_data());
    let settled = surveyor.survey_options()?;
    let mut extents = surveyor.survey(settled)?.ask_ahead();
    extents.receive_all().await;
    extents.next_extent().await?;
    extents.collect_vec().await?;
    let _ = (extents.stats(), extents.as_survey().resume_point());
    let driver = surveyor.into_driver().await;
    aio::Surveyor::over(driver, contexts)?.disconnect().await?;
    Ok(())
}

fn pace() -> PipelineOptions {
    PipelineOptions::default()
}

/// Both refuse the same address in the same words; and the futures can be spawned.
#[tokio::test]
async fn both_columns_compile_and_fail_alike() {
    let uri: Uri = "nbd+unix:///?socket=/nowhere/nbd.sock".parse().unwrap();
    let error = blocking(&uri, &Options::new(), &Contexts::new()).unwrap_err();
    let task = async move { asynchronous(&uri, &Options::new(), &Contexts::new()).await };
    let other = tokio::spawn(task).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), other.to_string());
    assert_eq!(error.class(), other.class());
}

/// The methods of one kind of client, as the committed listing of the public interface has them: of
/// lines that contain one of `places`, followed by the method's name.
fn methods(listing: &str, places: &[&str]) -> BTreeSet<String> {
    let named = |line: &str, place: &str| {
        let (_, after) = line.split_once(place)?;
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        Some(after[..end].to_owned()).filter(|name| !name.is_empty())
    };
    let lines = listing.lines().filter(|line| line.starts_with("pub ") && line.contains("fn "));
    lines.flat_map(|line| places.iter().filter_map(move |place| named(line, place))).collect()
}

/// No method is missing on one side, but for those with a reason; and both columns above name each.
#[test]
fn no_method_is_missing_on_one_side() {
    let listing = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../api/nbd-client.txt"));
    let listing = listing.unwrap().replace("nbd_client::", "");
    let of = |places: &[&str]| methods(&listing, places);
    let source = include_str!("parity.rs");
    let (blocking, asynchronous) = source.split_once("async fn asynchronous").unwrap();
    let both: [(BTreeSet<String>, BTreeSet<String>, &[&str]); 4] = [
        (
            of(&[
                " client::ClientOver<M>::",
                " client::ClientOver<client::Blocking<T>>::",
                " client::ClientOver<client::Blocking<transport::Socket>>::",
            ]),
            of(&[
                " aio::Client::",
                " client::ClientOver<M>::",
                " client::ClientOver<aio::Awaited<S>>::",
                " client::ClientOver<aio::Awaited<alloc::boxed::Box<dyn aio::connect::Duplex>>>::",
            ]),
            // the events of a request are its status; a handle is made of a driver
            &["block_status", "of"],
        ),
        (
            of(&[" pool::PoolOver<pool::ThreadWorker>::", " pool::PoolOver<W>::"]),
            of(&[" pool::PoolOver<aio::TaskWorker>::", " pool::PoolOver<W>::"]),
            &[],
        ),
        (
            of(&[" ReadAhead<'_, I>::", " WriteBehind<'_>::"]),
            of(&[" ReadAhead<'_, I, aio::TaskWorker>::", " WriteBehind<'_, aio::TaskWorker>::"]),
            &[],
        ),
        (
            of(&[
                " survey::SurveyorOver<client::Blocking<transport::Socket>>::",
                " survey::SurveyorOver<client::Blocking<T>>::",
                " survey::SurveyorOver<M>::",
                " survey::SurveyStream<'_, M>::",
                " survey::SurveyStream<'_, client::Blocking<T>>::",
            ]),
            of(&[
                " survey::SurveyorOver<aio::Awaited<alloc::boxed::Box<dyn aio::connect::Duplex>>>::",
                " survey::SurveyorOver<aio::Awaited<S>>::",
                " survey::SurveyorOver<M>::",
                " survey::SurveyStream<'_, M>::",
                " survey::SurveyStream<'_, aio::Awaited<S>>::",
            ]),
            // ExtentStream has the blocking ones; a survey ends as a client or a driver
            &["pull", "next_extent", "collect_vec", "into_client", "into_driver"],
        ),
    ];
    for (one, other, with_reason) in both {
        assert!(!one.is_empty() && !other.is_empty(), "the listing has another form");
        let differing: Vec<_> = one.symmetric_difference(&other).collect();
        assert!(differing.iter().all(|name| with_reason.contains(&name.as_str())), "{differing:?}");
        for (column, names) in [(blocking, one), (asynchronous, other)] {
            let is_named = |name: &String| {
                name == "pull" || [".", "::"].iter().any(|dot| column.contains(&format!("{dot}{name}(")))
            };
            let missing: Vec<_> = names.iter().filter(|name| !is_named(name)).collect();
            assert!(missing.is_empty(), "the parity test does not call {missing:?}");
        }
    }
}
