//! TLS that goes wrong: each fault is a typed error within the deadline, for all drivers, and none
//! of them is taken for TLS.
#![cfg(unix)]

use core::time::Duration;
use std::io::{Read, Result as IoResult, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use nbd_client::frame::{During, Headers, OptionName, option_type};
use nbd_client::handshake::{HandshakeError, Refusal};
use nbd_client::session::ReadRequest;
use nbd_client::tls::{CertificateFault, FileFault, Fingerprint, PeerCheck};
use nbd_client::uri::Address;
use nbd_client::{Client, Error, ErrorClass, Options, TlsError, TlsOptions, Uri};
use testkit::clients::Kind;
use testkit::pki::{Authority, BasicConstraints, Identity, IsCa, Pki, date_time_ymd};
use testkit::relay::{Relay, RelayFault};
use testkit::scripted::{Conn, DONE, Good, Reaction, ScriptedServer, SeenRequest, bytes};
use testkit::tools;

const SIZE: u64 = 1 << 20;
const STARTTLS: u32 = 5;
/// HAS_FLAGS, FLUSH, FUA and WRITE_ZEROES.
const WRITABLE: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 6;
/// Enough for a busy machine, and less than any limit of the options.
const IN_TIME: Duration = Duration::from_secs(30);

fn options() -> Options {
    let limit = Duration::from_secs(60);
    Options::new().connect_timeout(limit).request_timeout(limit)
}

/// Bytes that tell where they are.
fn pattern(offset: u64, length: usize) -> Vec<u8> {
    (offset..).take(length).map(|at| (at * 7 + (at >> 8) * 13) as u8).collect()
}

fn serve(conn: &mut Conn) -> IoResult<()> {
    conn.handshake(&Good::extended().size(SIZE).flags(WRITABLE))?;
    conn.serve(answer)
}

fn answer(conn: &mut Conn, request: &SeenRequest) -> IoResult<()> {
    match request.command {
        0 => {
            let data = pattern(request.offset, usize::try_from(request.length).unwrap());
            conn.data(request, request.offset, &data, DONE)
        }
        _ => conn.done(request),
    }
}

/// A disk over TLS with this certificate.
fn disk(identity: &Identity, client: TlsOptions) -> ScriptedServer {
    ScriptedServer::start_tls(identity.server(None), client, serve).unwrap()
}

/// The error of each driver, which must come in time.
fn errors(uri: &str) -> Vec<Error> {
    let uri: Uri = uri.parse().unwrap();
    Kind::ALL
        .map(|kind| {
            let started = Instant::now();
            let error = kind.connect(&uri, &options()).map(|_| ()).unwrap_err();
            assert!(started.elapsed() < IN_TIME, "{kind:?}: {error}");
            error
        })
        .into()
}

/// As [`errors`], all of them errors of TLS with the exit code of TLS.
fn tls_errors(uri: &str) -> Vec<TlsError> {
    let errors = errors(uri).into_iter();
    errors
        .map(|error| {
            assert_eq!(error.class(), ErrorClass::Connection, "{error}");
            let Error::Tls(error) = error else { panic!("{error}") };
            error
        })
        .collect()
}

#[track_caller]
fn fault(server: &ScriptedServer, is_it: impl Fn(&CertificateFault) -> bool, says: &[&str]) {
    for error in tls_errors(&server.uri()) {
        let TlsError::Certificate { fault, .. } = &error else { panic!("{error}") };
        assert!(is_it(fault), "{error}");
        let text = error.to_string();
        assert!(says.iter().all(|words| text.contains(words)), "{says:?} in {text}");
    }
}

fn uri_at(socket: &std::path::Path, tls: TlsOptions) -> Uri {
    use std::os::unix::ffi::OsStrExt;

    Uri::new(Address::Unix(socket.as_os_str().as_bytes().into()), "", Some(tls)).unwrap()
}

#[test]
fn a_connection_that_is_right() {
    let pki = Pki::new();
    let config = pki.server.server(Some(&pki.authority));
    let server = ScriptedServer::start_tls(config, pki.client(), serve).unwrap();
    for kind in Kind::WITH_CALLS {
        let mut client = kind.connect(&server.uri().parse().unwrap(), &options()).unwrap();
        assert_eq!(client.read(4096, 100_000).unwrap(), pattern(4096, 100_000));
        client.write(0, &pattern(0, 200_000)).unwrap();
        client.zero(0, SIZE).unwrap();
        client.flush().unwrap();
    }
    for kind in Kind::ALL {
        let client = kind.connect(&server.uri().parse().unwrap(), &options()).unwrap();
        let tls = client.export().tls.clone().unwrap();
        assert_eq!((tls.protocol.as_str(), tls.subject.as_str()), ("TLS 1.3", "CN=test server"));
        assert_eq!(tls.check, PeerCheck::Authority);
        assert!(tls.cipher.starts_with("TLS_") && tls.fingerprint.is_some(), "{tls:?}");
    }
}

#[test]
fn an_unknown_authority() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = disk(&pki.server, other.client());
    // one of the same name, then one of another
    for name in ["test authority", "another authority"] {
        other.write("ca-cert.pem", &Authority::new(name).certificate_pem());
        fault(
            &server,
            |fault| matches!(fault, CertificateFault::UnknownAuthority { .. }),
            &["CN=test server", "CN=test authority", "ca-cert.pem", "x-tls-fingerprint="],
        );
    }
}

#[test]
fn a_wrong_name() {
    let pki = Pki::with_server(&["node1.example.org", "10.0.0.1"], |_| {});
    // a unix socket is localhost
    for client in [pki.client(), pki.client().hostname("node2"), pki.client().hostname("10.0.0.2")] {
        let server = disk(&pki.server, client);
        let says = ["node1.example.org, 10.0.0.1", "tls-hostname"];
        fault(&server, |fault| matches!(fault, CertificateFault::WrongName { .. }), &says);
    }
    for name in ["node1.example.org", "10.0.0.1"] {
        let server = disk(&pki.server, pki.client().hostname(name));
        assert!(Client::connect(&server.uri().parse().unwrap(), &options()).is_ok(), "{name}");
    }
}

#[test]
fn a_certificate_without_names() {
    let pki = Pki::with_server(&[], |_| {});
    let server = disk(&pki.server, pki.client());
    let says = ["no subjectAltName", "DNS:localhost"];
    fault(&server, |fault| matches!(fault, CertificateFault::NoName { .. }), &says);
}

#[test]
fn a_certificate_out_of_its_time() {
    let pki = Pki::with_server(&["localhost"], |params| params.not_after = date_time_ymd(2021, 2, 3));
    let server = disk(&pki.server, pki.client());
    let is_it = |fault: &_| matches!(fault, CertificateFault::Expired { authority: None, .. });
    fault(&server, is_it, &["(CN=test server) expired at 2021-02-03T00:00:00Z"]);

    let pki = Pki::with_server(&["localhost"], |params| params.not_before = date_time_ymd(2035, 2, 3));
    let server = disk(&pki.server, pki.client());
    let is_it = |fault: &_| matches!(fault, CertificateFault::NotYetValid { authority: None, .. });
    fault(&server, is_it, &["not valid before 2035-02-03T00:00:00Z", "clock"]);
}

#[test]
fn a_revoked_certificate_and_lists_that_do_not_help() {
    let pki = Pki::new();
    let server = disk(&pki.server, pki.client());
    let other = pki.authority.issue("other", &[], 99, |_| {});
    pki.write("ca-crl.pem", &pki.authority.revoke(&other, 2035));
    assert!(Client::connect(&server.uri().parse().unwrap(), &options()).is_ok(), "not revoked");

    pki.write("ca-crl.pem", &pki.authority.revoke(&pki.server, 2035));
    fault(&server, |fault| matches!(fault, CertificateFault::Revoked), &["was revoked", "ca-crl.pem"]);
    pki.write("ca-crl.pem", &pki.authority.revoke(&other, 2021));
    let is_it = |fault: &_| matches!(fault, CertificateFault::OldRevocationList { .. });
    fault(&server, is_it, &["2021-01-01"]);
    pki.write("ca-crl.pem", &Authority::new("another").revoke(&other, 2035));
    fault(
        &server,
        |fault| matches!(fault, CertificateFault::UnknownRevocation),
        &["no list of its authority"],
    );
}

#[test]
fn an_authority_as_the_server() {
    let pki = Pki::new();
    let own = Identity::self_signed("both", &["localhost"], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    pki.write("ca-cert.pem", &own.certificate_pem());
    let server = disk(&own, pki.client());
    let says = ["CN=both", "CA:TRUE", "x-tls-fingerprint="];
    fault(&server, |fault| matches!(fault, CertificateFault::IsAuthority { .. }), &says);
}

/// `openssl x509 -req` without extensions makes them.
#[test]
fn a_certificate_of_version_1() {
    if !tools::require(&["openssl", "nbdkit"]) {
        return;
    }
    let pki = Pki::new();
    let openssl = |line: &str| {
        let done = Command::new("openssl").current_dir(pki.path()).args(line.split(' ')).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    openssl(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server-key.pem \
            -out r -subj /CN=localhost",
    );
    openssl("x509 -req -in r -signkey server-key.pem -days 9 -out server-cert.pem");
    std::fs::copy(pki.path().join("server-cert.pem"), pki.path().join("ca-cert.pem")).unwrap();
    let certificates = format!("--tls-certificates={}", pki.path().display());
    let server = testkit::server::Server::nbdkit(&["--tls=require", &certificates], &["memory", "1M"]);
    // not even where nothing but the signature of the handshake counts
    for client in [pki.client(), TlsOptions::new().verify_peer(false)] {
        for error in tls_errors(&uri_at(server.socket(), client).to_string()) {
            let TlsError::Certificate { fault: CertificateFault::OldVersion, .. } = error else {
                panic!("{error}")
            };
        }
    }
}

#[test]
fn no_certificate_of_the_client_and_a_foreign_one() {
    let pki = Pki::new();
    let config = pki.server.server(Some(&pki.authority));
    let server = ScriptedServer::start_tls(config, pki.client(), serve).unwrap();
    let foreign = Authority::new("foreign").issue("foreigner", &[], 7, |_| {});
    pki.write("client-cert.pem", &foreign.certificate_pem());
    pki.write("client-key.pem", &foreign.key_pem());
    for error in tls_errors(&server.uri()) {
        let TlsError::ClientCertificate { certificate: Some(path), .. } = &error else { panic!("{error}") };
        assert_eq!(path, &pki.path().join("client-cert.pem"));
    }
    pki.remove("client-cert.pem");
    pki.remove("client-key.pem");
    for error in tls_errors(&server.uri()) {
        let TlsError::ClientCertificate { certificate: None, .. } = &error else { panic!("{error}") };
        assert!(error.to_string().contains("put client-cert.pem and client-key.pem into"), "{error}");
    }
}

#[test]
fn a_server_without_tls_gets_nothing_but_starttls() {
    let (sender, seen) = channel();
    let sender = Mutex::new(sender);
    let server = ScriptedServer::start(move |conn| {
        conn.hello()?;
        let option = conn.option()?;
        conn.refuse(option.number, 0x8000_0001, "")?;
        let goodbye = conn.option()?;
        sender.lock().unwrap().send((option.number, option.data.len(), goodbye.number)).unwrap();
        conn.stall()
    })
    .unwrap();
    let uri = uri_at(server.path(), TlsOptions::new().verify_peer(false)).with_export("secret").unwrap();
    for error in errors(&uri.to_string()) {
        assert_eq!(error.class(), ErrorClass::Connection, "{error}");
        let Error::Handshake(HandshakeError::Refused { option, reason, .. }) = error else {
            panic!("{error}")
        };
        assert_eq!((option, reason), (OptionName(STARTTLS), Refusal::UNSUPPORTED));
        assert_eq!(seen.recv().unwrap(), (STARTTLS, 0, 2), "STARTTLS, then ABORT");
    }
}

#[test]
fn a_server_that_demands_tls_of_a_plain_uri() {
    let server = ScriptedServer::start(|conn| {
        conn.hello()?;
        loop {
            let option = conn.option()?;
            conn.refuse(option.number, 0x8000_0005, "")?;
        }
    })
    .unwrap();
    for error in errors(&server.uri()) {
        assert_eq!(error.class(), ErrorClass::Connection, "{error}");
        let Error::Handshake(HandshakeError::Refused { reason, .. }) = error else { panic!("{error}") };
        assert_eq!(reason, Refusal::TLS_REQUIRED);
    }
}

/// Plaintext after the acknowledgement ends the connection, whether it comes with it or later.
#[test]
fn plaintext_after_starttls() {
    for is_late in [false, true] {
        let server = ScriptedServer::start(move |conn| {
            conn.hello()?;
            conn.option()?;
            let injected = bytes::option_reply(11, 1, &[]);
            if is_late {
                conn.ack(STARTTLS)?;
                conn.pause(Duration::from_millis(50))?;
                conn.send(&injected)?;
            } else {
                conn.send(&[bytes::option_reply(STARTTLS, 1, &[]), injected].concat())?;
            }
            conn.stall()
        })
        .unwrap();
        let uri = uri_at(server.path(), TlsOptions::new().verify_peer(false));
        for error in errors(&uri.to_string()) {
            assert_eq!(error.class(), ErrorClass::Connection, "{error}");
            match error {
                Error::Handshake(HandshakeError::BytesAfterStartTls(20)) => assert!(!is_late),
                Error::Tls(TlsError::Broken { established: false, .. }) => assert!(is_late),
                other => panic!("{other}"),
            }
        }
    }
}

/// The positions at which records of the server begin, and the end.
fn records(bytes: &[u8]) -> Vec<usize> {
    // hello and the acknowledgement of STARTTLS
    let mut starts = vec![18 + 20];
    while let Some(&[_, _, _, high, low]) =
        bytes.get(*starts.last().unwrap()..).and_then(|rest| rest.first_chunk::<5>())
    {
        starts.push(starts.last().unwrap() + 5 + usize::from(u16::from_be_bytes([high, low])));
    }
    starts
}

/// Reads a disk through a relay.
fn read(kind: Kind, relay: &Relay) -> Result<Vec<u8>, Error> {
    let uri = uri_at(relay.path(), TlsOptions::new().verify_peer(false));
    let mut client = kind.connect(&uri, &options().headers(Headers::Extended))?;
    client.read(0, 40_000)
}

#[test]
fn a_session_that_is_cut_at_any_record() {
    let pki = Pki::new();
    let server = disk(&pki.server, pki.client());
    let whole = Relay::start(server.path(), RelayFault::None);
    assert_eq!(read(Kind::Blocking, &whole).unwrap(), pattern(0, 40_000));
    let starts = records(&whole.seen());
    assert!(starts.len() > 8, "{starts:?}");
    let last = *starts.last().unwrap();
    for at in starts.iter().flat_map(|&start| [start, start + 1, start + 20]).filter(|&at| at < last) {
        let relay = Relay::start(server.path(), RelayFault::CutAt(at));
        for kind in Kind::ALL {
            let started = Instant::now();
            let error = read(kind, &relay).unwrap_err();
            assert!(started.elapsed() < IN_TIME, "cut at {at}");
            assert_eq!(error.class(), ErrorClass::Connection, "cut at {at}: {error}");
        }
    }
}

#[test]
fn a_record_that_was_changed() {
    let pki = Pki::new();
    let server = disk(&pki.server, pki.client());
    let whole = Relay::start(server.path(), RelayFault::None);
    read(Kind::Blocking, &whole).unwrap();
    let starts = records(&whole.seen());
    let mut violations = 0;
    for pair in starts.windows(2) {
        // the last byte of a record: a part of the seal, or of a message in plaintext
        let at = pair[1] - 1;
        let relay = Relay::start(server.path(), RelayFault::FlipAt(at));
        for kind in Kind::ALL {
            match read(kind, &relay) {
                Err(Error::Tls(
                    TlsError::Broken { .. } | TlsError::Alert { .. } | TlsError::Incompatible { .. },
                ))
                | Err(Error::ConnectionLost(_)) => violations += 1,
                // a few bytes say nothing: a change of cipher, the version of a record
                Ok(data) => assert_eq!(data, pattern(0, 40_000)),
                Err(other) => panic!("changed at {at}: {other}"),
            }
        }
    }
    assert!(violations > 10, "{violations}");
}

#[test]
fn garbage_after_the_handshake_is_a_fault_of_the_server() {
    let pki = Pki::new();
    let server = disk(&pki.server, pki.client());
    let whole = Relay::start(server.path(), RelayFault::None);
    read(Kind::Blocking, &whole).unwrap();
    let starts = records(&whole.seen());
    let relay = Relay::start(server.path(), RelayFault::FlipAt(starts[starts.len() - 2] + 30));
    for kind in Kind::ALL {
        let error = read(kind, &relay).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Server, "{kind:?}: {error}");
        assert!(matches!(error, Error::Tls(TlsError::Broken { established: true, .. })), "{error}");
    }
}

#[test]
fn bytes_that_come_one_by_one() {
    let pki = Pki::new();
    let server = disk(&pki.server, pki.client());
    let relay = Relay::start(server.path(), RelayFault::OneByOne);
    for kind in Kind::ALL {
        assert_eq!(read(kind, &relay).unwrap(), pattern(0, 40_000));
    }
}

#[test]
fn files_that_cannot_be_used() {
    let pki = Pki::new();
    let server = disk(&pki.server, pki.client());
    let uri = server.uri();
    let file = |name: &str, is_it: &dyn Fn(&FileFault) -> bool| {
        for error in tls_errors(&uri) {
            let TlsError::File { path, fault } = &error else { panic!("{error}") };
            assert!(path.ends_with(name) && is_it(fault), "{name}: {error}");
        }
    };
    let unreadable = |fault: &FileFault| matches!(fault, FileFault::Unreadable { .. });
    let empty = |fault: &FileFault| matches!(fault, FileFault::NothingInIt { .. });

    let other = Authority::new("other").issue("other", &[], 5, |_| {});
    pki.write("client-key.pem", &other.key_pem());
    file("client-key.pem", &|fault| matches!(fault, FileFault::KeyDoesNotFit { .. }));
    pki.write("client-key.pem", "");
    file("client-key.pem", &empty);
    // with a password, in OpenSSL's older form
    let sealed = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA";
    pki.write(
        "client-key.pem",
        &format!("-----BEGIN EC PRIVATE KEY-----\n{sealed}\n-----END EC PRIVATE KEY-----\n"),
    );
    file("client-key.pem", &empty);
    pki.remove("client-key.pem");
    file("client-key.pem", &unreadable);
    pki.write("client-key.pem", &other.key_pem());
    pki.remove("client-cert.pem");
    file("client-cert.pem", &unreadable);
    pki.remove("client-key.pem");
    pki.write("ca-crl.pem", "no list");
    file("ca-crl.pem", &empty);
    pki.remove("ca-crl.pem");
    assert!(Client::connect(&uri.parse().unwrap(), &options()).is_ok(), "an authority is enough");
    pki.write("ca-cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    file("ca-cert.pem", &|fault| matches!(fault, FileFault::Unusable { .. }));
    pki.write("ca-cert.pem", "");
    file("ca-cert.pem", &empty);
    pki.remove("ca-cert.pem");
    file("ca-cert.pem", &unreadable);
    let missing = uri_at(server.path(), TlsOptions::new().certificates("/nowhere"));
    assert!(
        tls_errors(&missing.to_string())
            .iter()
            .all(|error| error.to_string().starts_with("/nowhere/ca-cert.pem"))
    );
    let bad = uri_at(server.path(), TlsOptions::new().hostname("no host"));
    assert!(tls_errors(&bad.to_string()).iter().all(|error| matches!(error, TlsError::BadHostname { .. })));
}

/// As on a host of XAPI: signed by itself, for another name, and long expired.
#[test]
fn a_pinned_certificate() {
    let identity =
        Identity::self_signed("10.1.2.3", &[], |params| params.not_after = date_time_ymd(2021, 1, 1));
    let server = disk(&identity, TlsOptions::new().verify_peer(false));
    let client = Client::connect(&server.uri().parse().unwrap(), &options()).unwrap();
    let seen = client.export().tls.clone().unwrap();
    assert_eq!(seen.check, PeerCheck::Nothing);
    let right = uri_at(server.path(), TlsOptions::new().fingerprint(seen.fingerprint.unwrap()));
    for kind in Kind::ALL {
        assert_eq!(kind.connect(&right, &options()).unwrap().read(0, 512).unwrap(), pattern(0, 512));
    }
    let client = Client::connect(&right, &options()).unwrap();
    assert_eq!(client.export().tls.as_ref().unwrap().check, PeerCheck::Fingerprint);

    let other: Fingerprint = "AB".repeat(32).parse().unwrap();
    let server = disk(&identity, TlsOptions::new().fingerprint(other));
    let is_it = |fault: &_| matches!(fault, CertificateFault::OtherFingerprint { .. });
    fault(&server, is_it, &[&seen.fingerprint.unwrap().to_string(), &other.to_string()]);
}

/// The fingerprint is right, but the server does not have the key: no mode does without the
/// signature.
#[test]
fn a_stolen_certificate() {
    let (victim, thief) = (Pki::new(), Pki::new());
    let pinned = {
        let server = disk(&victim.server, TlsOptions::new().verify_peer(false));
        let client = Client::connect(&server.uri().parse().unwrap(), &options()).unwrap();
        client.export().tls.as_ref().unwrap().fingerprint.unwrap()
    };
    for config in victim.server.server_with_key_of(&thief.server) {
        for client in
            [TlsOptions::new().fingerprint(pinned), TlsOptions::new().verify_peer(false), victim.client()]
        {
            let server = ScriptedServer::start_tls(Arc::clone(&config), client, serve).unwrap();
            for error in tls_errors(&server.uri()) {
                assert!(matches!(error, TlsError::Certificate { .. }), "{error}");
                let says = "the server's certificate (CN=test server) cannot be used: no proof";
                assert!(error.to_string().starts_with(says), "{error}");
            }
        }
    }
}

/// A record may hold more than the answer that is awaited. The rest is kept, and judged with the next
/// request: nobody can have answered that before it was sent.
#[test]
fn an_answer_that_comes_before_its_request_is_not_lost() {
    let pki = Pki::new();
    let server = ScriptedServer::start_tls(pki.server.server(None), pki.client(), |conn| {
        conn.handshake(&Good::extended().size(SIZE).flags(WRITABLE))?;
        let first = conn.request()?;
        let done = |number| bytes::extended_chunk(DONE, 0, number, 0, &[]);
        // each call takes two numbers, of its transfer and of its request; each send is a record
        conn.send(&[done(first.cookie), done(first.cookie + 2)].concat())?;
        conn.serve(answer)
    })
    .unwrap();
    let mut client = Client::connect(&server.uri().parse().unwrap(), &options()).unwrap();
    client.flush().unwrap();
    let error = client.flush().unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
}

/// Each size of a record, from 1 byte to 16 KiB, in both directions.
#[test]
fn records_of_each_size() {
    let pki = Pki::new();
    let config = pki.server.server(None);
    let server = ScriptedServer::start_tls(config, pki.client(), |conn| {
        conn.handshake(&Good::extended().size(256 << 20).flags(WRITABLE))?;
        let mut size = 0;
        conn.serve(|conn, request| {
            if request.command != 0 {
                assert_eq!(request.data, pattern(request.offset, request.data.len()));
                return conn.done(request);
            }
            let data = pattern(request.offset, usize::try_from(request.length).unwrap());
            conn.chunk_header(request, DONE, 1, 8 + request.length)?;
            conn.send(&request.offset.to_be_bytes())?;
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                // each send is a record
                size = size % (16 << 10) + 1;
                let now = size.min(rest.len());
                conn.send(&rest[..now])?;
                rest = &rest[now..];
            }
            Ok(())
        })
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    for kind in [Kind::Blocking, Kind::Async] {
        let mut client = kind.connect(&uri, &options()).unwrap();
        // all sizes together have 134 MB
        for piece in 0..33 {
            let offset = piece << 22;
            assert!(
                client.read(offset, 4 << 20).unwrap() == pattern(offset, 4 << 20),
                "{kind:?}, at {offset}"
            );
        }
        for size in (1..=16 << 10).step_by(97).chain([(16 << 10) - 1, 16 << 10, (16 << 10) + 1]) {
            client.write(size, &pattern(size, usize::try_from(size).unwrap())).unwrap();
        }
    }
}

/// A server that ends TLS properly owes the answer all the same.
#[test]
fn close_notify_with_an_answer_owed() {
    let pki = Pki::new();
    for says_goodbye in [false, true] {
        let server = ScriptedServer::start_tls(pki.server.server(None), pki.client(), move |conn| {
            conn.handshake(&Good::extended().size(SIZE))?;
            conn.request()?;
            if says_goodbye {
                conn.close_notify()?;
                // and keeps the connection open
                return conn.stall();
            }
            Ok(())
        })
        .unwrap();
        for kind in Kind::ALL {
            let mut client = kind.connect(&server.uri().parse().unwrap(), &options()).unwrap();
            let error = client.read(0, 512).unwrap_err();
            let Error::ConnectionLost(eof) = error else { panic!("{kind:?}: {error}") };
            assert_eq!(eof.during, During::ReplyHeader);
        }
    }
}

/// The server's alert comes with an answer, and is found when the next request is begun, or the
/// goodbye is encrypted.
#[test]
fn an_alert_with_an_answer() {
    let pki = Pki::new();
    let server = disk(&pki.server, pki.client());
    for (kind, asks) in Kind::WITH_EVENTS.into_iter().flat_map(|kind| [(kind, true), (kind, false)]) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let upstream = UnixStream::connect(server.path()).unwrap();
        let is_armed = Arc::new(AtomicBool::new(false));
        let (mut from, mut to) = (theirs.try_clone().unwrap(), upstream.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (armed, mut from, mut to) = (Arc::clone(&is_armed), upstream, theirs);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let mut bytes = buffer[..count].to_vec();
                if armed.load(Ordering::SeqCst) {
                    // a record that cannot be decrypted
                    from.write_all(&[&[23, 3, 3, 0, 40], &[0x55; 40][..]].concat()).unwrap();
                    from.read_to_end(&mut bytes).ok();
                }
                to.write_all(&bytes).unwrap();
            }
        });
        let mut client = kind.over(ours, &options().tls(pki.client())).unwrap();
        is_armed.store(true, Ordering::SeqCst);
        assert_eq!(client.read(0, 512).unwrap(), pattern(0, 512));
        let error = if asks {
            client.start(|session| session.start_read(&ReadRequest::new(0), vec![0; 512])).unwrap_err()
        } else {
            client.disconnect().unwrap_err()
        };
        assert!(matches!(error, Error::Tls(TlsError::Alert { .. })), "{kind:?}, asks {asks}: {error}");
    }
}

/// A server over TLS, and the end of each conversation after the script. Without close_notify that is
/// an error.
fn server_and_ends(
    pki: &Pki,
    script: fn(&mut Conn) -> IoResult<()>,
) -> (ScriptedServer, Receiver<Result<(), String>>) {
    let (sender, ends) = channel();
    let sender = Mutex::new(sender);
    let server = ScriptedServer::start_tls(pki.server.server(None), pki.client(), move |conn| {
        script(conn)?;
        let end = conn.stall().map_err(|error| error.to_string());
        sender.lock().unwrap().send(end).unwrap();
        Ok(())
    });
    (server.unwrap(), ends)
}

/// A handshake that fails, or ends with a list, has a last message, and close_notify after it.
#[test]
fn the_end_of_a_handshake_over_tls() {
    let pki = Pki::new();
    let (server, ends) = server_and_ends(&pki, |conn| {
        conn.handshake_with(&Good::extended(), |conn, option| match option.number {
            option_type::ABORT => Ok(Reaction::Begin),
            option_type::GO => conn.refuse(option.number, 0x8000_0006, "").map(|()| Reaction::Answered),
            _ => Ok(Reaction::Honest),
        })
    });
    let uri: Uri = server.uri().parse().unwrap();
    for kind in [Kind::Blocking, Kind::Async] {
        kind.connect(&uri, &options()).err().unwrap();
        assert_eq!(ends.recv().unwrap(), Ok(()), "{kind:?}");
    }
    for kind in Kind::WITH_LISTS {
        kind.list_exports(&uri, &options()).unwrap();
        assert_eq!(ends.recv().unwrap(), Ok(()), "{kind:?}: a list");
    }
}

/// After DISC nothing is owed: a server that just hangs up, as qemu does, is no error. And ours
/// ends with close_notify, so that the server knows that nothing was cut off.
#[test]
fn goodbye_over_tls() {
    let pki = Pki::new();
    let (server, ends) = server_and_ends(&pki, serve);
    let uri: Uri = server.uri().parse().unwrap();
    for kind in Kind::ALL {
        kind.connect(&uri, &options()).unwrap().disconnect().unwrap();
        assert_eq!(ends.recv().unwrap(), Ok(()), "{kind:?}");
    }
}

/// After ESHUTDOWN the goodbye and close_notify come while the client is still there.
#[test]
fn goodbye_over_tls_to_a_server_that_goes_down() {
    let pki = Pki::new();
    let (server, ends) = server_and_ends(&pki, |conn| {
        conn.handshake(&Good::extended().size(SIZE).flags(WRITABLE))?;
        conn.serve(|conn, request| conn.error(request, 108, "going down", DONE))
    });
    let uri: Uri = server.uri().parse().unwrap();
    for kind in Kind::ALL {
        let mut client = kind.connect(&uri, &options()).unwrap();
        let error = client.read(0, 512).unwrap_err();
        assert!(matches!(&error, Error::Request(error) if error.is_shutdown()), "{kind:?}: {error}");
        assert_eq!(ends.recv().unwrap(), Ok(()), "{kind:?}");
    }
}

#[test]
fn a_configuration_of_the_callers_own() {
    let pki = Pki::new();
    let config = pki.server.server(None);
    let server = ScriptedServer::start_tls(config, TlsOptions::new(), serve).unwrap();
    let own = pki.client_config();
    let options = options().tls_config(own);
    for kind in Kind::ALL {
        let mut client = kind.connect(&server.uri().parse().unwrap(), &options).unwrap();
        assert_eq!(client.read(0, 512).unwrap(), pattern(0, 512));
    }
    // another name is found out by the caller's configuration
    let other = uri_at(server.path(), TlsOptions::new().hostname("other"));
    let error = Client::connect(&other, &options).unwrap_err();
    assert!(matches!(error, Error::Tls(TlsError::Certificate { .. })), "{error}");
}

/// Options with TLS hold where the URI says nothing of it, and a stream has no URI.
#[test]
fn options_without_a_uri() {
    let pki = Pki::new();
    let server = disk(&pki.server, pki.client());
    let plain: Uri = format!("nbd+unix:///?socket={}", server.path().display()).parse().unwrap();
    for kind in Kind::ALL {
        assert!(kind.connect(&plain, &options().tls(pki.client())).is_ok());
    }
    let socket = UnixStream::connect(server.path()).unwrap();
    let transport = nbd_client::transport::WithDeadline::new(socket);
    let mut client = Client::over(transport, "", &options().tls(pki.client())).unwrap();
    let mut data = vec![0; 512];
    client.read(0, &mut data).unwrap();
    assert_eq!(data, pattern(0, 512));
}

/// TLS 1.2, which qemu's and nbdkit's older relatives speak.
#[test]
fn version_1_2() {
    let pki = Pki::new();
    let config = pki.server.server_of_version_1_2();
    let server = ScriptedServer::start_tls(config, pki.client(), serve).unwrap();
    for kind in Kind::ALL {
        let mut client = kind.connect(&server.uri().parse().unwrap(), &options()).unwrap();
        assert_eq!(client.read(0, 100_000).unwrap(), pattern(0, 100_000));
    }
    let client = Client::connect(&server.uri().parse().unwrap(), &options()).unwrap();
    let tls = client.export().tls.as_ref().unwrap();
    assert_eq!(tls.protocol, "TLS 1.2");
    assert!(tls.cipher.starts_with("TLS_ECDHE_"), "{tls:?}");
}
