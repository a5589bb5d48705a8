//! What one client can do, the other can: the table in the crate's documentation, as code that
//! compiles.

use nbd_client::session::{TrimRequest, ZeroRequest, take_all};
use nbd_client::survey::{self, Order, SurveyorError};
use nbd_client::{Client, Error, Options, Surveyor, Uri, aio};
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
    aio::map(uri, options, contexts).await?;
    let mut surveyor = aio::Surveyor::connect(uri, options, contexts, Order::BitmapFirst).await?;
    let _ = surveyor.connection_stats().count();
    let settled = surveyor.survey_options()?;
    surveyor.survey(settled)?.collect_vec().await?;
    let driver = surveyor.into_driver().await?;
    aio::Surveyor::over(driver, contexts)?.into_client().await?.disconnect().await?;
    Ok(())
}

/// Both refuse the same address in the same words.
#[tokio::test]
async fn both_columns_compile_and_fail_alike() {
    let uri = "nbd+unix:///?socket=/nowhere/nbd.sock".parse().unwrap();
    let error = blocking(&uri, &Options::new(), &Contexts::new()).unwrap_err();
    let other = asynchronous(&uri, &Options::new(), &Contexts::new()).await.unwrap_err();
    assert_eq!(error.to_string(), other.to_string());
    assert_eq!(error.class(), other.class());
}
