//! Memory of TLS: at most 1 MiB a connection. One test in a process of its own, since it looks at
//! all of the process.
#![cfg(target_os = "linux")]

use nbd_client::{Client, Options, Uri};
use testkit::pki::Pki;
use testkit::server::Server;
use testkit::tools;

const MIB: usize = 1 << 20;
const MORE: usize = 16;

/// The peak of this process's memory, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn each_connection_needs_less_than_a_mebibyte() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let pki = Pki::new();
    let folder = format!("--tls-certificates={}", pki.path().display());
    let server = Server::nbdkit(&["--tls=require", &folder], &["pattern", "64M"]);
    let plain: Uri = server.uri("").parse().unwrap();
    let uri = Uri::new(plain.address().clone(), "", Some(pki.client())).unwrap();
    let mut buffer = vec![0; 16 * MIB];
    let mut open = || {
        let mut client = Client::connect(&uri, &Options::new()).unwrap();
        client.read(0, &mut buffer).unwrap();
        client
    };
    let first = open();
    let before = peak();
    let more: Vec<Client> = (0..MORE).map(|_| open()).collect();
    let each = (peak() - before) / MORE;
    assert!(each < MIB, "{} KiB a connection", each >> 10);
    drop((first, more));
}
