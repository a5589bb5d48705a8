//! A real server: qemu-nbd with a qcow2 image that has a bitmap.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::frame::Headers;
use nbd_client::session::{Event, StatusRequest, take_all};
use nbd_client::{Error, ErrorClass, Options, Uri};
use testkit::clients::{AnyClient, Kind};
use testkit::tools::require_qemu;

const CONTEXTS: [&str; 3] = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0"];

/// A server that dies with its guard.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tool(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// 64 KiB of data written before the bitmap, 64 KiB after it.
fn serve(dir: &Path) -> (Server, Uri) {
    let image = dir.join("disk.qcow2");
    let socket = dir.join("socket");
    let (image, socket) = (image.to_str().unwrap(), socket.to_str().unwrap());
    tool("qemu-img", &["create", "-q", "-f", "qcow2", image, "6M"]);
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 64k", image]);
    tool("qemu-img", &["bitmap", "--add", "-g", "64k", image, "b0"]);
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 2 1M 64k", image]);
    let child = Command::new("qemu-nbd")
        .args(["-r", "-t", "-e", "8", "-A", "-B", "b0", "-f", "qcow2", "-k", socket, image])
        .spawn()
        .unwrap();
    let server = Server(child);
    let started = Instant::now();
    // not for the socket's file alone, which can be there before anybody listens
    while UnixStream::connect(socket).is_err() && started.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    (server, format!("nbd+unix:///?socket={socket}").parse().unwrap())
}

fn options() -> Options {
    CONTEXTS
        .into_iter()
        .fold(Options::new(), Options::require_context)
        .connect_timeout(Duration::from_secs(20))
}

/// The descriptors of each context: length and flags.
fn survey(client: &mut AnyClient, request: &StatusRequest<'_>) -> BTreeMap<String, Vec<(u64, u64)>> {
    let names: BTreeMap<u32, String> =
        client.export().contexts.iter().map(|context| (context.id, context.name.clone())).collect();
    let wide = client.export().headers == Headers::Extended;
    let mut found = BTreeMap::new();
    client.start(|session| session.start_block_status(request)).unwrap();
    while let Some(event) = client.next_event(&mut take_all).unwrap() {
        let Event::Status { context, payload, .. } = event else { continue };
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
        let (skip, width) = if wide { (8, 8) } else { (4, 4) };
        let pairs = payload[skip..].chunks(2 * width);
        let pairs = pairs.map(|pair| (number(&pair[..width]), number(&pair[width..])));
        found.insert(names[&context].clone(), pairs.collect());
    }
    found
}

#[test]
fn qemu_answers_with_extended_and_compact_headers() {
    if !require_qemu() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_server, uri) = serve(dir.path());
    let forms = [Headers::Extended, Headers::Structured];
    for (kind, headers) in Kind::WITH_EVENTS.into_iter().flat_map(|kind| forms.map(|form| (kind, form))) {
        let mut client = kind.connect(&uri, &options().headers(headers).strict(true)).unwrap();
        let export = client.export();
        assert_eq!((export.size(), export.headers, export.missing.len()), (6 << 20, headers, 0));
        assert!(export.flags.is_read_only() && export.flags.can_multi_conn());
        assert_eq!(export.block_size.map(|sizes| sizes.minimum()), Some(1));
        let found = survey(&mut client, &StatusRequest::new(0, 6 << 20));
        let bitmap = [(1 << 20, 0), (64 << 10, 1), ((5 << 20) - (64 << 10), 0)];
        assert_eq!(found[CONTEXTS[2]], bitmap);
        assert_eq!(found[CONTEXTS[0]][0], (64 << 10, 0));
        assert_eq!(found[CONTEXTS[1]][0], (64 << 10, 1));
        assert_eq!(client.stats().forgiven.total(), 0);

        let first = survey(&mut client, &StatusRequest::new(0, 6 << 20).req_one());
        assert_eq!(first[CONTEXTS[2]], [(1 << 20, 0)]);
        client.disconnect().unwrap();
    }
}

#[test]
fn qemu_leaves_contexts_out_in_the_payload_form() {
    if !require_qemu() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_server, uri) = serve(dir.path());
    for kind in Kind::WITH_EVENTS {
        let mut client = kind.connect(&uri, &options()).unwrap();
        if client.export().headers != Headers::Extended {
            println!("skipped: this qemu-nbd has no extended headers");
            return;
        }
        assert!(client.export().payload_status());
        let bitmap = client.export().context(CONTEXTS[2]).unwrap().id;
        let found = survey(&mut client, &StatusRequest::new(0, 2 << 20).only(&[bitmap]));
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [CONTEXTS[2]], "{kind:?}");
    }
}

#[test]
fn qemu_names_what_it_has_when_something_is_missing() {
    if !require_qemu() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_server, uri) = serve(dir.path());
    let missing = options().require_context("qemu:dirty-bitmap:b1");
    let expected = "the export has no meta context \"qemu:dirty-bitmap:b1\"; \
                    it has base:allocation, qemu:allocation-depth, qemu:dirty-bitmap:b0";
    let unknown = Uri::new(uri.address().clone(), "nosuch", None).unwrap();
    for kind in Kind::ALL {
        // a pool asks for no contexts
        if !kind.is_pool() {
            let error = kind.connect(&uri, &missing).unwrap_err();
            assert_eq!((error.class(), error.to_string().as_str()), (ErrorClass::NotThere, expected));
        }
        let error = kind.connect(&unknown, &options()).unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotThere, "{kind:?}: {error}");
        assert!(matches!(error, Error::Handshake(_)), "{kind:?}: {error}");
        assert!(kind.connect(&uri, &options()).is_ok(), "{kind:?}: the server lives");
    }
}
