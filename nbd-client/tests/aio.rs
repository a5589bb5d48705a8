//! The asynchronous client against real servers and a scripted one: the same answers as the
//! blocking client, many tasks at once, calls that are dropped, servers that stop.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use nbd_client::aio;
use nbd_client::frame::Headers;
use nbd_client::session::{Event, ReadRequest, StartError, ZeroRequest, take_all};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::{Client, Error, Options, Surveyor, Uri};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Context, Contexts, Extent, Status};
use testkit::clients::Kind;
use testkit::image::{Recipe, Step};
use testkit::random;
use testkit::scripted::{DONE, Good, ScriptedServer};
use testkit::server::{Server, folder};
use testkit::tools::{require, require_qemu};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn contexts() -> Contexts {
    let contexts = Contexts::new().require(Context::Allocation).unwrap();
    let contexts = contexts.require(Context::bitmap("b0")).unwrap().require(Context::bitmap("b1")).unwrap();
    contexts.optional(Context::Depth).unwrap()
}

async fn survey(uri: &Uri, options: &Options, order: Order) -> Result<Vec<Extent<Status>>, SurveyorError> {
    let mut surveyor = aio::Surveyor::connect(uri, options, &contexts(), order).await?;
    let mut extents = surveyor.survey(surveyor.survey_options()?)?;
    let mut all = Vec::new();
    while let Some(extent) = extents.next_extent().await? {
        all.push(extent);
    }
    surveyor.disconnect().await?;
    Ok(all)
}

/// Both orders, both forms of headers, several exports at once.
#[tokio::test]
async fn surveys_say_what_the_blocking_client_says() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let disks = [1, 2, 3].map(|seed| {
        let place = folder.path().join(seed.to_string());
        std::fs::create_dir(&place).unwrap();
        let image = random::qcow2(seed, 65536, 8 << 20).make(&place);
        Server::qemu_nbd(&image, &["b0", "b1"])
    });
    for order in [Order::Together, Order::BitmapFirst] {
        for headers in [Headers::Extended, Headers::Structured] {
            let options = Options::new().headers(headers);
            let uris = [0, 1, 2].map(|nth: usize| disks[nth].uri("").parse::<Uri>().unwrap());
            let surveys = uris.each_ref().map(|uri| survey(uri, &options, order));
            let [a, b, c] = surveys;
            let (a, b, c) = tokio::try_join!(a, b, c).unwrap();
            for (uri, got) in uris.iter().zip([a, b, c]) {
                let mut surveyor = Surveyor::connect(uri, &options, &contexts(), order).unwrap();
                let settled = surveyor.survey_options().unwrap();
                assert_eq!(got, surveyor.survey(settled).unwrap().collect_vec().unwrap());
            }
        }
    }
}

/// 32 tasks write and read parts of one disk through clones of one handle; the image has the bytes
/// afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_connection() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let image = Recipe::raw(64 << 20, vec![Step::Write { at: 0, length: 64 << 20 }]).make(folder.path());
    let server = Server::qemu_nbd_writable(&image, &[]);
    let client = aio::Client::connect(&server.uri("").parse().unwrap(), &Options::new()).await.unwrap();
    let tasks: Vec<_> = (0..32_u8)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                let at = u64::from(task) * 2 * MIB as u64;
                // one and a half mebibytes: more than one request
                client.write(at, vec![task; MIB + 512 * KIB]).await?;
                client.zero(at + 512 * KIB as u64, 64 * KIB as u64).await?;
                client.read(at, 2 * MIB).await
            })
        })
        .collect();
    let mut expected = Vec::new();
    for (task, result) in (0..).zip(tasks) {
        let read = result.await.unwrap().unwrap();
        let part =
            [vec![task; 512 * KIB], vec![0; 64 * KIB], vec![task; MIB - 64 * KIB], vec![0x5a; 512 * KIB]]
                .concat();
        assert!(read == part, "task {task}");
        expected.extend(part);
    }
    client.flush().await.unwrap();
    client.disconnect().await.unwrap();
    assert!(std::fs::read(&image.path).unwrap() == expected);
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_before_the_wire() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let image = Recipe::raw(1 << 20, Vec::new()).make(folder.path());
    let server = Server::qemu_nbd(&image, &[]);
    let client = aio::Client::connect(&server.uri("").parse().unwrap(), &Options::new()).await.unwrap();
    let past = client.read(MIB as u64 - 1, 2).await;
    assert!(matches!(past, Err(Error::Start(StartError::PastEnd { .. }))), "{past:?}");
    let read_only = client.write(0, vec![1]).await;
    assert!(matches!(read_only, Err(Error::Start(StartError::ReadOnly(..)))), "{read_only:?}");
    let read_only = client.write_zeroes(&ZeroRequest::new(0, 512)).await;
    assert!(matches!(read_only, Err(Error::Start(StartError::ReadOnly(..)))), "{read_only:?}");
    assert!(client.read(MIB as u64, 0).await.unwrap().is_empty());
    // before memory is taken for it
    let endless = client.read(0, usize::MAX).await;
    assert!(matches!(endless, Err(Error::Start(StartError::PastEnd { .. }))), "{endless:?}");
    // none of it hurt the connection
    assert_eq!(client.read(0, 512).await.unwrap(), [0; 512]);
}

/// A call that is dropped while the server thinks: the next ones get their own answers.
#[tokio::test]
async fn a_dropped_call_leaves_the_connection_usable() {
    if !require(&["nbdkit"]) {
        return;
    }
    let server = Server::nbdkit(&["--filter=delay"], &["pattern", "1M", "rdelay=200ms"]);
    let client = aio::Client::connect(&server.uri("").parse().unwrap(), &Options::new()).await.unwrap();
    let patient = client.read(0, 512).await.unwrap();
    for _ in 0..3 {
        let hasty = tokio::time::timeout(Duration::from_millis(20), client.read(4096, 512)).await;
        assert!(hasty.is_err(), "it should not have been answered yet");
    }
    assert_eq!(client.read(0, 512).await.unwrap(), patient);
    let other = client.read(4096, 512).await.unwrap();
    // nbdkit's pattern is the offset of each 8 bytes
    assert_eq!(other[..8], 4096_u64.to_be_bytes());
    client.disconnect().await.unwrap();
}

/// A survey goes on where a dropped call was.
#[tokio::test]
async fn a_survey_loses_nothing_by_dropped_calls() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let image = random::qcow2(9, 4096, 4 << 20).make(folder.path());
    let server = Server::qemu_nbd(&image, &["b0", "b1"]);
    let uri: Uri = server.uri("").parse().unwrap();
    let whole = survey(&uri, &Options::new(), Order::Together).await.unwrap();
    let mut surveyor =
        aio::Surveyor::connect(&uri, &Options::new(), &contexts(), Order::Together).await.unwrap();
    let settled = surveyor.survey_options().unwrap().max_request(64 << 10);
    let mut extents = surveyor.survey(settled).unwrap();
    let mut all = Vec::new();
    let mut dropped = 0;
    loop {
        // polled once, and dropped if that was not enough
        tokio::select! {
            biased;
            extent = extents.next_extent() => match extent.unwrap() {
                Some(extent) => all.push(extent),
                None => break,
            },
            () = core::future::ready(()) => {
                dropped += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert!(dropped > 0, "no call was ever dropped");
    assert_eq!(all, whole);
}

/// A server that stops in the middle of a reply: all who wait are told, within the time of the
/// oldest request.
#[tokio::test]
async fn a_stalled_server_is_a_timeout_for_all_who_wait() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(1 << 20))?;
        conn.request()?;
        conn.stall()
    })
    .unwrap();
    let options = Options::new().request_timeout(Duration::from_millis(500));
    let client = aio::Client::connect(&server.uri().parse().unwrap(), &options).await.unwrap();
    let started = Instant::now();
    let (one, other) = tokio::join!(client.read(0, 512), client.read(512, 512));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(matches!(one, Err(Error::Timeout { .. })), "{one:?}");
    assert!(matches!(other, Err(Error::Timeout { .. })), "{other:?}");
    let later = client.read(0, 512).await;
    assert!(matches!(later, Err(Error::GivenUp)), "{later:?}");
}

/// Without a hello the time for connecting runs out.
#[test]
fn a_silent_server_is_a_timeout() {
    let server = ScriptedServer::start(|conn| conn.stall()).unwrap();
    let options = Options::new().connect_timeout(Duration::from_millis(300));
    for kind in Kind::ALL {
        let error = kind.connect(&server.uri().parse().unwrap(), &options).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{kind:?}: {error:?}");
    }
}

/// A server that hangs up with requests in flight.
#[tokio::test]
async fn a_lost_connection_is_said_to_all_who_wait() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(1 << 20))?;
        conn.request()?;
        conn.hang_up()
    })
    .unwrap();
    let client = aio::Client::connect(&server.uri().parse().unwrap(), &Options::new()).await.unwrap();
    let (one, other) = tokio::join!(client.read(0, 512), client.read(512, 512));
    for result in [one, other] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::ConnectionLost(_) | Error::Io { .. } | Error::GivenUp), "{error:?}");
    }
}

/// A reply that reaches beyond the end of the export is cut by a lenient survey only.
#[tokio::test]
async fn a_survey_over_a_connection_is_as_strict_as_that() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| conn.status(request, 0, &[(8 << 20, 0)], DONE))
    })
    .unwrap();
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    for strict in [false, true] {
        let options = Options::new().require_context("base:allocation").strict(strict);
        let client = Client::connect(&server.uri().parse().unwrap(), &options).unwrap();
        let mut blocking = Surveyor::over(client, &wanted).unwrap();
        let settled = blocking.survey_options().unwrap();
        assert_eq!(blocking.survey(settled).unwrap().collect_vec().is_err(), strict);

        let socket = tokio::net::UnixStream::connect(server.path()).await.unwrap();
        let driver = aio::Driver::over(socket, "", &options).await.unwrap();
        let mut asynchronous = aio::Surveyor::over(driver, &wanted).unwrap();
        let settled = asynchronous.survey_options().unwrap();
        assert_eq!(asynchronous.survey(settled).unwrap().next_extent().await.is_err(), strict);
    }
}

/// A connection without a task, over a stream of the caller's own: here a pipe in memory, with a
/// server that answers from a script.
#[tokio::test]
async fn a_connection_runs_over_any_stream() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let image = Recipe::raw(1 << 20, vec![Step::Write { at: 0, length: 4096 }]).make(folder.path());
    let server = Server::qemu_nbd(&image, &[]);
    // through a tunnel of 100 bytes, so that everything comes in pieces
    let (near, mut far) = tokio::io::duplex(100);
    let mut socket = tokio::net::UnixStream::connect(server.socket()).await.unwrap();
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut socket).await });
    let mut connection = aio::Driver::over(near, "", &Options::new()).await.unwrap();
    let cookie =
        connection.start(|session| session.start_read(&ReadRequest::new(2048), vec![0; 4096])).unwrap();
    let mut data = Vec::new();
    while let Some(event) = connection.next_event(&mut take_all).await.unwrap() {
        assert_eq!(event.cookie(), cookie);
        if let Event::Read { data: read, .. } = event {
            data = read;
        }
    }
    assert_eq!(data, [[0x5a; 2048], [0; 2048]].concat());
    connection.disconnect().await.unwrap();
}
