//! Clients where the server does not keep step: it shuts down, hangs up with a last word, takes whole
//! blocks, or has little room.
#![cfg(target_os = "linux")]

use std::sync::mpsc;
use std::time::Duration;

use nbd_client::frame::command;
use nbd_client::session::{SessionLimits, StartError};
use nbd_client::survey::Order;
use nbd_client::{Error, Options};
use nbd_extents::{Context, Contexts};
use testkit::clients::{Kind, SurveyKind};
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest};

const MIB: u64 = 1 << 20;
/// HAS_FLAGS, SEND_FLUSH, SEND_WRITE_ZEROES.
const WRITABLE: u16 = 1 | 1 << 2 | 1 << 6;
const ESHUTDOWN: u32 = 108;
const PATIENCE: Duration = Duration::from_secs(10);

fn answer(conn: &mut Conn, request: &SeenRequest) -> std::io::Result<()> {
    conn.honest(request, 0)
}

fn allocation() -> Contexts {
    Contexts::new().require(Context::Allocation).unwrap()
}

/// A survey with several requests on the wire says goodbye to a server that shuts down.
#[test]
fn a_survey_says_goodbye_to_a_server_that_shuts_down() {
    let (tell, told) = mpsc::channel();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(64 * MIB).flags(3))?;
        // the survey begins with one request, and asks ahead when that is answered
        let first = conn.request()?;
        answer(conn, &first)?;
        let (one, other) = (conn.request()?, conn.request()?);
        conn.error(&one, ESHUTDOWN, "going down", DONE)?;
        answer(conn, &other)?;
        loop {
            let request = conn.request()?;
            if request.command == command::DISC {
                return tell.send(true).map_err(std::io::Error::other);
            }
            conn.error(&request, ESHUTDOWN, "going down", DONE)?;
        }
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    for kind in SurveyKind::ALL {
        let mut surveyor = kind.connect(&uri, &Options::new(), &allocation(), Order::Together).unwrap();
        let settled = surveyor.survey_options().unwrap().max_request(MIB);
        let run = surveyor.run(settled, usize::MAX).unwrap();
        assert!(run.error.is_some(), "{kind:?}: the survey came to an end");
        assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "{kind:?}");
    }
}

/// A call in many pieces that cannot be done as a whole is refused as a whole. (A pool writes parts of
/// blocks.)
#[test]
fn a_range_that_is_not_in_whole_blocks_is_refused_before_the_wire() {
    let (tell, told) = mpsc::channel();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE).block_sizes([4096, 4096, 1 << 20]))?;
        tell.send(conn.request()?.command == command::DISC).map_err(std::io::Error::other)
    })
    .unwrap();
    for kind in [Kind::Blocking, Kind::Async, Kind::AsyncDriver] {
        let mut client = kind.connect(&server.uri().parse().unwrap(), &Options::new()).unwrap();
        let refused = client.write(0, &vec![9; (3 << 20) + 512]).unwrap_err();
        assert!(matches!(refused, Error::Start(StartError::Unaligned { .. })), "{kind:?}: {refused}");
        let refused = client.read(63 * MIB, 2 << 20).unwrap_err();
        assert!(matches!(refused, Error::Start(StartError::PastEnd { .. })), "{kind:?}: {refused}");
        client.disconnect().unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "{kind:?}: something was sent");
    }
}

/// A survey keeps within the limits of its session, and can be left and begun again.
#[test]
fn a_survey_waits_where_the_session_allows_less() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(64 * MIB).flags(3))?;
        conn.serve(answer)
    })
    .unwrap();
    let mut limits = SessionLimits::default();
    limits.max_in_flight = 3;
    let options = Options::new().session_limits(limits);
    for kind in SurveyKind::ALL {
        let uri = server.uri().parse().unwrap();
        let mut surveyor = kind.connect(&uri, &options, &allocation(), Order::Together).unwrap();
        for most in [1, 1, usize::MAX] {
            let settled = surveyor.survey_options().unwrap().max_request(MIB);
            let run = surveyor.run(settled, most).unwrap();
            assert!(run.error.is_none() && !run.extents.is_empty(), "{kind:?}: {run:?}");
        }
    }
}
