//! Both clients can do the same: the table in the crate's documentation, as code that
//! compiles.
#![cfg(unix)]

use std::os::unix::net::UnixStream;

use nbd_client::pipeline::{JoinedWrites, PipelineOptions};
use nbd_client::session::{TrimRequest, ZeroRequest, take_all};
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
        let _ = client.stats();
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
        writes.zero(0, 512)?;
        writes.finish()?;
        let mut writes = JoinedWrites::new(&mut pool, pace())?;
        writes.write(0, &[0; 512])?;
        writes.zero(0..512)?;
        writes.finish()?;
        pool.abandon()?;
        pool.disconnect()?;
        Pool::of(Client::connect(uri, options)?, Vec::new())?.disconnect().map(drop)
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
    let settled = surveyor.survey_options()?;
    surveyor.survey(settled)?.collect_vec()?;
    let client = surveyor.into_client()?;
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
        let _ = driver.stats();
        driver.disconnect().await
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
        writes.zero(0, 512).await?;
        writes.finish().await?;
        let mut writes = aio::JoinedWrites::new(&mut pool, pace())?;
        writes.write(0, &[0; 512]).await?;
        writes.zero(0..512).await?;
        writes.finish().await?;
        pool.abandon().await?;
        pool.disconnect().await?;
        aio::Pool::of(aio::Driver::connect(uri, options).await?, Vec::new())?.disconnect().await.map(drop)
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
    let settled = surveyor.survey_options()?;
    surveyor.survey(settled)?.collect_vec().await?;
    let driver = surveyor.into_driver().await?;
    aio::Surveyor::over(driver, contexts)?.into_client().await?.disconnect().await?;
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
