//! Reading and writing through qemu-nbd and nbdkit, judged by the bytes of the file that they
//! serve.

use std::fs;
use std::path::Path;
use std::process::Command;

use nbd_client::frame::Headers;
use nbd_client::session::{StartError, TrimRequest, ZeroRequest};
use nbd_client::{Error, Options};
use testkit::clients::{AnyClient, Kind};
use testkit::command::succeed;
use testkit::image::{Image, ImageFormat, KIB, MIB, Recipe};
use testkit::server::{Server, folder};
use testkit::tools;

const SIZE: u64 = 8 * MIB;

/// One of each kind of headers.
fn modes() -> [(Headers, Options); 3] {
    [
        (Headers::Extended, Options::new()),
        (Headers::Structured, Options::new().headers(Headers::Structured)),
        (Headers::Simple, Options::new().headers(Headers::Simple)),
    ]
}

/// Each kind of client in each mode.
fn each_kind<M: Clone>(modes: &[M]) -> impl Iterator<Item = (Kind, M)> {
    Kind::WITH_CALLS.into_iter().flat_map(|kind| modes.iter().map(move |mode| (kind, mode.clone())))
}

fn connect(kind: Kind, server: &Server, options: &Options) -> AnyClient {
    kind.connect(&server.uri("").parse().unwrap(), options).unwrap()
}

/// The bytes of an image, whatever its format.
fn bytes(image: &Image) -> Vec<u8> {
    if image.format == ImageFormat::Raw {
        return fs::read(&image.path).unwrap();
    }
    let raw = image.path.with_extension("raw");
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-U", "-f", image.format.name(), "-O", "raw"]).arg(&image.path).arg(&raw);
    succeed(&mut command, "", core::time::Duration::from_secs(60));
    fs::read(&raw).unwrap()
}

/// A disk and what it should hold, changed together.
struct Pair {
    client: AnyClient,
    model: Vec<u8>,
    seed: u64,
}

impl Pair {
    fn new(client: AnyClient) -> Self {
        let size = usize::try_from(client.export().size()).unwrap();
        Self { client, model: vec![0; size], seed: 0x9e37_79b9_7f4a_7c15 }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    /// A range in blocks of `unit`, up to 3 MiB long.
    fn range(&mut self, unit: u64) -> (u64, usize) {
        let blocks = self.model.len() as u64 / unit;
        let start = self.random(blocks);
        let length = 1 + self.random((blocks - start).min(3 * MIB / unit));
        (start * unit, (length * unit) as usize)
    }

    fn write(&mut self, unit: u64) {
        let (offset, length) = self.range(unit);
        let data: Vec<u8> = (0..length).map(|_| self.random(256) as u8).collect();
        if self.random(4) == 0 && self.client.export().flags.can_fua() {
            self.client.write_fua(offset, &data).unwrap();
        } else {
            self.client.write(offset, &data).unwrap();
        }
        self.model[offset as usize..][..length].copy_from_slice(&data);
    }

    fn zero(&mut self, unit: u64) {
        let (offset, length) = self.range(unit);
        let request = ZeroRequest::new(offset, length as u64);
        let is_pool = matches!(self.client, AnyClient::Pool(_));
        let exact = !is_pool && self.client.export().flags.can_write_zeroes();
        match self.random(3) {
            0 if exact => self.client.write_zeroes(&request).unwrap(),
            1 if exact => self.client.write_zeroes(&request.no_hole()).unwrap(),
            _ => self.client.zero(offset, length as u64).unwrap(),
        }
        self.model[offset as usize..][..length].fill(0);
    }

    fn read(&mut self, unit: u64) {
        let (offset, length) = self.range(unit);
        let buffer = self.client.read(offset, length).unwrap();
        assert!(buffer == self.model[offset as usize..][..length], "{length} bytes at {offset}");
    }

    fn rounds(&mut self, count: usize, unit: u64) {
        for _ in 0..count {
            self.write(unit);
            self.zero(unit);
            self.read(unit);
        }
        self.client.flush().unwrap();
    }

    /// The whole disk, byte for byte, through the server and past it.
    fn compare(mut self, path: impl FnOnce() -> Vec<u8>) {
        let all = self.client.read(0, self.model.len()).unwrap();
        assert!(all == self.model, "what the server says differs");
        self.client.disconnect().unwrap();
        assert!(path() == self.model, "what is in the file differs");
    }
}

#[test]
fn qemu_nbd_raw_in_each_mode() {
    if !tools::require_qemu() {
        return;
    }
    for (kind, (headers, options)) in each_kind(&modes()) {
        let folder = folder();
        let image = Recipe::raw(SIZE, vec![]).make(folder.path());
        let server = Server::qemu_nbd_writable(&image, &["--discard=unmap"]);
        let mut pair = Pair::new(connect(kind, &server, &options));
        assert_eq!(pair.client.export().headers, headers);
        pair.rounds(12, 1);
        pair.compare(|| bytes(&image));
    }
}

#[test]
fn qemu_nbd_qcow2() {
    if !tools::require_qemu() {
        return;
    }
    for kind in Kind::WITH_CALLS {
        let folder = folder();
        let image = Recipe::qcow2(64 * KIB, SIZE, vec![]).make(folder.path());
        let server = Server::qemu_nbd_writable(&image, &["--discard=unmap"]);
        let mut pair = Pair::new(connect(kind, &server, &Options::new()));
        pair.rounds(12, 512);
        let all = pair.client.read(0, SIZE as usize).unwrap();
        assert!(all == pair.model);
        let model = pair.model;
        pair.client.disconnect().unwrap();
        drop(server);
        assert!(bytes(&image) == model);
    }
}

#[test]
fn nbdkit_structured_and_simple() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let modes = [(&[][..], Headers::Structured), (&["--no-sr"], Headers::Simple)];
    for (kind, (options, headers)) in each_kind(&modes) {
        let folder = folder();
        let path = folder.path().join("disk");
        fs::write(&path, vec![0; SIZE as usize]).unwrap();
        let server = Server::nbdkit_writable(options, &["file", path.to_str().unwrap()]);
        let mut pair = Pair::new(connect(kind, &server, &Options::new()));
        assert_eq!(pair.client.export().headers, headers);
        pair.rounds(12, 1);
        pair.compare(|| fs::read(&path).unwrap());
    }
}

/// The data plugin reads as holes between its data, which come as holes; and a server that takes
/// whole blocks gets whole blocks.
#[test]
fn nbdkit_block_sizes_and_maximum() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    for kind in Kind::WITH_CALLS {
        let folder = folder();
        let path = folder.path().join("disk");
        fs::write(&path, vec![0; SIZE as usize]).unwrap();
        let sizes = ["blocksize-minimum=4096", "blocksize-maximum=65536", "blocksize-error-policy=error"];
        let plugin = [&["file", path.to_str().unwrap()][..], &sizes].concat();
        let server = Server::nbdkit_writable(&["--filter=blocksize-policy"], &plugin);
        let mut pair = Pair::new(connect(kind, &server, &Options::new()));
        let block_size = pair.client.export().block_size.unwrap();
        assert_eq!((block_size.minimum(), block_size.maximum()), (4096, 65536));
        pair.rounds(4, 4096);
        // a pool reads the rest of a block and writes it back
        if !kind.is_pool() {
            let error = pair.client.write(512, &[1; 4096]).unwrap_err();
            assert!(matches!(error, Error::Start(StartError::Unaligned { minimum: 4096, .. })), "{error}");
        }
        pair.compare(|| fs::read(&path).unwrap());
    }
}

#[test]
fn what_cannot_be_done_is_said_before_the_wire() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let image = Recipe::raw(MIB, vec![]).make(folder.path());
    let server = Server::qemu_nbd_without_depth(&image);
    for kind in Kind::WITH_EVENTS {
        let mut client = connect(kind, &server, &Options::new());
        let sent = client.stats().bytes_sent;
        for error in [
            client.write(0, &[1; 512]).unwrap_err(),
            client.zero(0, 512).unwrap_err(),
            client.write_zeroes(&ZeroRequest::new(0, 512)).unwrap_err(),
            client.trim(&TrimRequest::new(0, 512)).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Start(StartError::ReadOnly(..))), "{error}");
        }
        let error = client.read(MIB - 1, 2).unwrap_err();
        assert!(matches!(error, Error::Start(StartError::PastEnd { .. })), "{error}");
        assert_eq!(client.stats().bytes_sent, sent);
        client.read(MIB - 1, 1).unwrap();
    }
}

/// Whole MiB of a file that take space.
///
/// A file system counts blocks of its own into this, for its list of the file's extents. They are a few
/// KiB, and come and go as that list grows, so that they are rounded away.
fn allocated_mib(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().blocks() * 512 / MIB
}

#[test]
fn zeroes_with_and_without_a_hole_and_trim_and_cache() {
    if !tools::require_qemu() {
        return;
    }
    for kind in [Kind::Blocking, Kind::Async, Kind::AsyncDriver] {
        let folder = folder();
        let image = Recipe::raw(SIZE, vec![]).make(folder.path());
        let server = Server::qemu_nbd_writable(&image, &["--discard=unmap"]);
        let mut client = connect(kind, &server, &Options::new());
        client.write(0, &vec![0x5a; SIZE as usize]).unwrap();
        client.flush().unwrap();
        let full = SIZE / MIB;
        assert_eq!(allocated_mib(&image.path), full);
        client.write_zeroes(&ZeroRequest::new(0, MIB).no_hole().fua()).unwrap();
        assert_eq!(allocated_mib(&image.path), full, "no hole was asked for");
        client.write_zeroes(&ZeroRequest::new(MIB, MIB).fast()).unwrap();
        client.flush().unwrap();
        assert_eq!(allocated_mib(&image.path), full - 1);
        client.trim(&TrimRequest::new(2 * MIB, 2 * MIB)).unwrap();
        client.flush().unwrap();
        assert_eq!(allocated_mib(&image.path), full - 3);
        client.cache(0, SIZE).unwrap();
        let mut map = Command::new("qemu-img");
        map.args(["map", "-U", "--output=json", "-f", "raw"]).arg(&image.path);
        let map = succeed(&mut map, "", core::time::Duration::from_secs(60)).stdout;
        let map: serde_json::Value = serde_json::from_str(&map).unwrap();
        let zeroes = (map[0]["zero"].as_bool(), map[0]["length"].as_u64());
        assert_eq!(zeroes, (Some(true), Some(4 * MIB)), "{map}");
    }
}
