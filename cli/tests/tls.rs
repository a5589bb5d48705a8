//! The program over TLS: every command, the exit codes, the words of `info`, and the recipe of the
//! cookbook.
#![cfg(unix)]

mod support;

use core::time::Duration;
use std::process::Command;

use support::run::run;
use testkit::command::succeed;
use testkit::image::{Image, MIB, Recipe, Step};
use testkit::pki::Pki;
use testkit::server::{Server, folder};
use testkit::tools;

fn qemu_over_tls(image: &Image, options: &[&str], pki: &Pki) -> Server {
    let tls = format!("tls-creds-x509,id=tls,dir={},endpoint=server,verify-peer=yes", pki.path().display());
    let options = [&["--object", &tls, "--tls-creds", "tls"], options].concat();
    Server::qemu_nbd_writable(image, &options)
}

/// The URI of a server with these parameters after its socket.
fn over_tls(server: &Server, parameters: &str) -> String {
    format!("nbds+unix:///?socket={}&{parameters}", server.socket().display())
}

#[test]
fn info_shows_protocol_cipher_peer_and_fingerprint() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let pki = Pki::new();
    let certificates = format!("--tls-certificates={}", pki.path().display());
    let server = Server::nbdkit(&["--tls=require", &certificates], &["memory", "4M"]);
    let uri = over_tls(&server, &format!("tls-certificates={}", pki.path().display()));
    let json = run("info", &[&uri, "--json"], "").json();
    assert_eq!(json["tls"], true);
    let tls = &json["tls_session"];
    assert_eq!((&tls["protocol"], &tls["peer"]), (&"TLS 1.3".into(), &"CN=test server".into()));
    assert_eq!(tls["verified"], "authority");
    assert!(tls["cipher"].as_str().unwrap().starts_with("TLS_"), "{tls}");
    let fingerprint = tls["fingerprint"].as_str().unwrap();
    assert_eq!(fingerprint.len(), 64 + 31);

    let text = run("info", &[&uri], "");
    for words in ["TLS           TLS 1.3, TLS_", "peer          CN=test server", fingerprint] {
        assert!(text.stdout.contains(words), "{words:?} in {text}");
    }
    // as a user pins it
    let pinned = over_tls(&server, &format!("x-tls-fingerprint={fingerprint}"));
    assert_eq!(run("info", &[&pinned, "--json"], "").json()["tls_session"]["verified"], "fingerprint");
    let list = run("info", &[&pinned, "--list", "--json"], "").list();
    assert_eq!(list[0]["tls_session"]["fingerprint"], fingerprint);
    let blind = over_tls(&server, "tls-verify-peer=0");
    assert_eq!(run("info", &[&blind, "--json"], "").json()["tls_session"]["verified"], "no");
}

#[test]
fn exit_codes() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let (pki, other) = (Pki::new(), Pki::new());
    let certificates = format!("--tls-certificates={}", pki.path().display());
    let server = Server::nbdkit(&["--tls=require", "--tls-verify-peer", &certificates], &["memory", "4M"]);
    let plain = Server::nbdkit(&["--tls=off"], &["memory", "4M"]);
    let folder = format!("tls-certificates={}", pki.path().display());
    for (uri, code, says) in [
        (server.uri(""), 4, "the server demands TLS: write nbds://"),
        (over_tls(&plain, &folder), 4, "it has no TLS"),
        (
            over_tls(&server, &format!("tls-certificates={}", other.path().display())),
            4,
            "ca-cert.pem does not hold",
        ),
        (
            over_tls(&server, &format!("{folder}&tls-hostname=node9")),
            4,
            "is not for node9 but for localhost, 127.0.0.1",
        ),
        (over_tls(&server, "tls-verify-peer=0"), 4, "wants a certificate of the client"),
        (over_tls(&server, "tls-certificates=/nowhere"), 4, "/nowhere/ca-cert.pem: "),
        (over_tls(&server, "tls-type=psk"), 2, "knows only certificates"),
        (over_tls(&server, "tls-type=anon"), 2, "x-tls-fingerprint"),
        (over_tls(&server, "tls-psk-file=keys"), 2, "tls-type=psk is not supported"),
        (over_tls(&server, "tls-verify-peer=yes"), 2, "expected 0 or 1"),
        (over_tls(&server, "x-tls-fingerprint=AB"), 2, "64 hexadecimal digits"),
        (server.uri("").replace("?", "?tls-hostname=a&"), 2, "without the s there is no TLS"),
    ] {
        run("map", &[&uri, "--json"], "").fails_saying(code, &[says]);
    }
}

#[test]
fn backup_and_restore() {
    if !tools::require_qemu() {
        return;
    }
    let (folder, pki) = (folder(), Pki::new());
    let steps = vec![Step::Write { at: 0, length: 3 * MIB }, Step::Zero { at: MIB, length: MIB }];
    let image = Recipe::qcow2(65536, 8 * MIB, steps).make(folder.path());
    let source = qemu_over_tls(&image, &["-r", "-A"], &pki);
    let parameters = format!("tls-certificates={}", pki.path().display());
    let file = folder.path().join("backup");
    let file = file.to_str().unwrap();
    let backup = run("backup", &[&over_tls(&source, &parameters), file], "");
    assert_eq!(backup.code, Some(0), "{backup}");

    let place = folder.path().join("target");
    std::fs::create_dir(&place).unwrap();
    let copy = Recipe::qcow2(65536, 8 * MIB, vec![]).make(&place);
    let target = qemu_over_tls(&copy, &[], &pki);
    let restore = run("restore", &[&over_tls(&target, &parameters), file], "");
    assert_eq!(restore.code, Some(0), "{restore}");
    drop((source, target));
    assert!(image.is_identical(&copy));
}

/// The cookbook's own lines, with a port of the test's.
#[test]
fn recipe_of_the_cookbook() {
    if !tools::require_qemu() || !tools::require(&["openssl"]) {
        return;
    }
    let cookbook = include_str!("../../src/guide/cookbook.md");
    let section = cookbook.split("# Exports over TLS").nth(1).unwrap();
    let mut blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let (certificates, server) = (blocks.next().unwrap(), blocks.next().unwrap());
    assert_eq!(certificates.replace("\\\n", "").lines().count(), 6);
    let folder = folder();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server =
        server.replace("10809", &port.to_string()).replace("127.0.0.1/", &format!("127.0.0.1:{port}/"));
    let (server, info) = server.trim_end().split_once("nbd-extents").unwrap();
    // SIGKILL, since qemu-nbd ignores SIGTERM until it serves: it would hold these pipes for ever
    let script = format!(
        "set -e\n{certificates}\nqemu-img create -q -f qcow2 disk.qcow2 4M\n{server}\n\
         trap 'kill -9 $!' EXIT\nuntil \"$0\"{info}; do kill -0 $!; sleep 0.2; done"
    );
    let mut shell = Command::new("timeout");
    shell.current_dir(folder.path()).args([
        "-s",
        "KILL",
        "90",
        "sh",
        "-c",
        &script,
        env!("CARGO_BIN_EXE_nbd-extents"),
    ]);
    let done = succeed(&mut shell, "", Duration::from_secs(120));
    assert!(done.stdout.contains("peer          CN=server"), "{}\n{}", done.stdout, done.stderr);
}
