//! Servers that refuse more than they should, or answer before they are asked: requests that they
//! find too long, options that they hang up on, no block status at all, writes that they call done
//! unread.
#![cfg(target_os = "linux")]

use std::sync::{Arc, Mutex};

use nbd_client::aio;
use nbd_client::frame::{Headers, command, option_type};
use nbd_client::session::{Errno, ProtocolError, TrimRequest, ZeroRequest};
use nbd_client::survey::Order;
use nbd_client::transport::Socket;
use nbd_client::{Client, Error, ErrorClass, Options};
use nbd_extents::{Context, Contexts};
use testkit::clients::{AnyClient, Kind, SurveyKind};
use testkit::pools::PoolKind;
use testkit::scripted::{DONE, Good, Reaction, ScriptedServer};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CACHE, FAST_ZERO.
const WRITABLE: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 11;
const EINVAL: u32 = 22;
const EOVERFLOW: u32 = 75;
const ENOTSUP: u32 = 95;

fn connect(kind: Kind, server: &ScriptedServer) -> AnyClient {
    kind.connect(&server.uri().parse().unwrap(), &Options::new()).unwrap()
}

/// Requests as a server saw them: command, offset, length, and whether it took them.
type Seen = Arc<Mutex<Vec<(u16, u64, u64, bool)>>>;

/// A server that finds requests beyond `longest` too long, and says so with this error.
fn short(longest: u64, errno: u32) -> (ScriptedServer, Seen) {
    let seen = Seen::default();
    let theirs = Arc::clone(&seen);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(1 << 40).flags(WRITABLE))?;
        conn.serve(|conn, request| {
            let takes = request.length <= longest;
            theirs.lock().unwrap().push((request.command, request.offset, request.length, takes));
            if !takes {
                return conn.error(request, errno, "too long", DONE);
            }
            match request.command {
                command::READ => conn.data(request, request.offset, &vec![7; request.length as usize], DONE),
                _ => conn.done(request),
            }
        })
    });
    (server.unwrap(), seen)
}

/// The bytes from `start` to `end` were done once each, and few requests were refused.
#[track_caller]
fn assert_done(seen: &Seen, command: u16, start: u64, end: u64) {
    let mut done: Vec<_> = seen.lock().unwrap().iter().copied().filter(|seen| seen.0 == command).collect();
    let refused = done.iter().filter(|seen| !seen.3).count();
    assert!(refused <= 8 * 14, "{refused} refusals");
    done.retain(|seen| seen.3);
    done.sort_unstable();
    let mut at = start;
    for (_, offset, length, _) in done {
        assert_eq!(offset, at);
        at += length;
    }
    assert_eq!(at, end);
    seen.lock().unwrap().clear();
}

#[test]
fn what_a_server_finds_too_long_is_halved() {
    for (longest, errno) in [(128 * KIB, EINVAL), (100_000, EOVERFLOW), (32 * MIB, EINVAL)] {
        for kind in Kind::WITH_CALLS {
            let (server, seen) = short(longest, errno);
            let mut client = connect(kind, &server);
            client.zero(MIB, 200 * MIB).unwrap();
            assert_done(&seen, command::WRITE_ZEROES, MIB, 201 * MIB);
            if !kind.is_pool() {
                client.write_zeroes(&ZeroRequest::new(0, 100 * MIB)).unwrap();
                assert_done(&seen, command::WRITE_ZEROES, 0, 100 * MIB);
                client.trim(&TrimRequest::new(0, 100 * MIB)).unwrap();
                assert_done(&seen, command::TRIM, 0, 100 * MIB);
            }
            let data = client.read(512, 4 << 20).unwrap();
            assert!(data.iter().all(|&byte| byte == 7));
            assert_done(&seen, command::READ, 512, 512 + 4 * MIB);
            client.write(0, &data).unwrap();
            assert_done(&seen, command::WRITE, 0, 4 * MIB);
            client.disconnect().unwrap();
        }
    }
}

#[test]
fn a_pipeline_halves_as_well() {
    for kind in PoolKind::ALL {
        let (server, seen) = short(128 * KIB, EINVAL);
        let mut pool = kind.connect(&server.uri().parse().unwrap(), &Options::new(), 1).unwrap();
        let mut writes = pool.write_behind(Default::default()).unwrap();
        writes.write(0, vec![7; 4 << 20]).unwrap();
        writes.zero(4 * MIB, 200 * MIB).unwrap();
        writes.finish().unwrap();
        let flushes = seen.lock().unwrap().extract_if(.., |seen| seen.0 == command::FLUSH).count();
        assert_eq!(flushes, 1);
        let writes = seen.lock().unwrap().extract_if(.., |seen| seen.0 == command::WRITE).collect();
        assert_done(&seen, command::WRITE_ZEROES, 4 * MIB, 204 * MIB);
        assert_done(&Arc::new(Mutex::new(writes)), command::WRITE, 0, 4 * MIB);
    }
}

/// A server that fails everything gets a few shorter requests, and then the error is told.
#[test]
fn a_refusal_that_is_not_about_the_length_is_told() {
    for kind in Kind::WITH_CALLS {
        let (server, seen) = short(0, EINVAL);
        let mut client = connect(kind, &server);
        for call in [
            |client: &mut AnyClient| client.read(0, 1 << 20).map(drop),
            |client: &mut AnyClient| client.write(0, &vec![0; 1 << 20]),
            |client: &mut AnyClient| client.zero(0, 1 << 40),
            |client: &mut AnyClient| client.read(0, 512).map(drop),
        ] {
            let error = call(&mut client).unwrap_err();
            assert!(error.is_errno(Errno::EINVAL), "{kind:?}: {error}");
            let requests = seen.lock().unwrap().drain(..).count();
            // a pool makes many calls of one, and each of them has to learn it
            let calls = if kind.is_pool() { 16 } else { 1 };
            assert!(requests <= calls * 200, "{kind:?}: {requests} requests");
        }
        // the last one was short enough from the start
        assert!(client.read(0, 512).is_err());
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

/// A connection does not try again what FAST_ZERO was refused for once.
#[test]
fn a_refused_fast_zero_is_remembered() {
    let fast = Arc::new(Mutex::new(0));
    let theirs = Arc::clone(&fast);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(1 << 40).flags(WRITABLE))?;
        conn.serve(|conn, request| {
            if request.flags & nbd_client::frame::command_flag::FAST_ZERO == 0 {
                return conn.done(request);
            }
            *theirs.lock().unwrap() += 1;
            conn.error(request, ENOTSUP, "", DONE)
        })
    })
    .unwrap();
    for (connections, kind) in (1..).zip(Kind::WITH_CALLS) {
        let mut client = connect(kind, &server);
        for _ in 0..4 {
            client.zero(0, MIB).unwrap();
        }
        assert_eq!(*fast.lock().unwrap(), connections, "{kind:?}");
    }
}

// ---- answers before their question

#[test]
fn a_write_that_is_called_done_unread_ends_the_connection() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(1 << 40).flags(WRITABLE))?;
        // reads the header alone, and guesses the numbers of the others
        let mut request = conn.request_header()?;
        for _ in 0..100 {
            conn.done(&request)?;
            request.cookie += 1;
            request.offset += MIB;
        }
        conn.stall()
    })
    .unwrap();
    let early = |kind, error: Error| {
        let is_it = matches!(error, Error::Protocol(ProtocolError::AnsweredEarly(..)));
        assert!(is_it, "{kind:?}: {error}");
    };
    for kind in [Kind::Blocking, Kind::Async] {
        early(kind, connect(kind, &server).write(0, &vec![7; 32 << 20]).unwrap_err());
    }
    for (pool, kind) in PoolKind::ALL.into_iter().zip([Kind::Pool, Kind::AsyncPool]) {
        let mut pool = pool.connect(&server.uri().parse().unwrap(), &Options::new(), 1).unwrap();
        let mut writes = pool.write_behind(Default::default()).unwrap();
        early(kind, writes.write(0, vec![7; 32 << 20]).and_then(|()| writes.finish()).unwrap_err());
    }
}

// ---- handshakes

/// A server of long ago closes the connection at an option that it does not know, which it must
/// not.
#[test]
fn a_server_that_hangs_up_on_extended_headers_is_asked_without() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake_with(&Good::compact().size(MIB), |conn, option| {
            if option.number == option_type::EXTENDED_HEADERS {
                conn.hang_up()?;
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            Ok(Reaction::Honest)
        })?;
        conn.serve(|conn, request| conn.honest(request, 0))
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    let options = Options::new().require_context("base:allocation");
    for (nth, kind) in (1..).zip(Kind::ALL) {
        let client = kind.connect(&uri, &options).unwrap();
        let settled = (client.export().size(), client.export().headers);
        assert_eq!((settled, server.connections()), ((MIB, Headers::Structured), 2 * nth), "{kind:?}");
    }
    // over a stream of the caller's there is no second try, and the error names the option
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let over = async {
        let stream = tokio::net::UnixStream::connect(server.path()).await.unwrap();
        aio::Driver::over(stream, "", &options).await.unwrap_err()
    };
    let socket = Socket::try_from(std::os::unix::net::UnixStream::connect(server.path()).unwrap()).unwrap();
    for error in [runtime.block_on(over), Client::over(socket, "", &options).unwrap_err()] {
        assert!(error.to_string().contains("EXTENDED_HEADERS"), "{error}");
        assert_eq!(error.class(), ErrorClass::Connection);
    }
    assert_eq!(server.connections(), 2 * Kind::ALL.len() + 2);
}

/// Without structured replies there is no block status. All of the export is data then, if the
/// caller says so by name.
#[test]
fn an_export_without_block_status_can_be_taken_for_data() {
    let mut simple = Good::compact().size(5 << 40);
    simple.headers = Headers::Simple;
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&simple)?;
        conn.serve(|conn, request| panic!("{request:?} of {}", conn.number()))
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let options = Options::new().assume_data(true);
    for kind in SurveyKind::ALL {
        let refused = kind.connect(&uri, &Options::new(), &wanted, Order::Together).unwrap_err();
        assert_eq!(refused.class(), ErrorClass::NotThere);

        let mut surveyor = kind.connect(&uri, &options, &wanted, Order::Together).unwrap();
        assert!(surveyor.assumes_data());
        let run = surveyor.run(surveyor.survey_options().unwrap(), usize::MAX).unwrap();
        assert!(run.error.is_none(), "{kind:?}: {:?}", run.error);
        let [extent] = run.extents[..] else { panic!("{:?}", run.extents) };
        assert_eq!((extent.range(), extent.status().zero()), (0..5 << 40, Some(false)));
        assert_eq!(run.stats.assumed_bytes, 5 << 40);

        // a bitmap that is required is another matter: all would be dirty
        let bitmap = wanted.clone().require(Context::bitmap("b0")).unwrap();
        let refused = kind.connect(&uri, &options, &bitmap, Order::Together).unwrap_err();
        assert_eq!(refused.class(), ErrorClass::NotThere);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let map = runtime.block_on(aio::map(&uri, &options, &wanted)).unwrap();
    assert_eq!(map, nbd_client::survey::map(&uri, &options, &wanted).unwrap());
    assert_eq!(map.run_count(), 1);
}

/// A call that cannot be asked for names itself, before anything is sent, whatever the client.
#[test]
fn what_cannot_be_asked_for_is_named_alike() {
    let beyond = |kind: Kind, flags: u16| {
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::extended().size(MIB).flags(flags))?;
            conn.serve(|_, request| panic!("{request:?} was sent"))
        })
        .unwrap();
        let mut client = connect(kind, &server);
        let zero = client.zero(MIB - 512, 1024).unwrap_err().to_string();
        let write = client.write(MIB, &[7; 512]).unwrap_err().to_string();
        let read = client.read(MIB - 512, 513).unwrap_err().to_string();
        client.disconnect().unwrap();
        [zero, write, read]
    };
    for kind in Kind::WITH_CALLS {
        let [zero, write, read] = beyond(kind, WRITABLE);
        assert_eq!(zero, "WRITE_ZEROES of 1024 bytes at 1048064 goes beyond the end at 1048576", "{kind:?}");
        assert_eq!(write, "WRITE of 512 bytes at 1048576 goes beyond the end at 1048576", "{kind:?}");
        assert_eq!(read, "READ of 513 bytes at 1048064 goes beyond the end at 1048576", "{kind:?}");
        // a server without WRITE_ZEROES gets writes
        let [zero, ..] = beyond(kind, WRITABLE & !(1 << 6));
        assert_eq!(zero, "WRITE of 1024 bytes at 1048064 goes beyond the end at 1048576", "{kind:?}");
        let [zero, write, _] = beyond(kind, WRITABLE | 1 << 1);
        assert_eq!(zero, "WRITE_ZEROES on a read-only export", "{kind:?}");
        assert_eq!(write, "WRITE on a read-only export", "{kind:?}");
    }
}
