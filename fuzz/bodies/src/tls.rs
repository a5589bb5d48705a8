//! `tls`: the input is a server's bytes after the acknowledgement of STARTTLS, or edits of the
//! bytes of a real server. Asserts that nothing but a whole and unchanged handshake leads to an export,
//! that a failed connection stays failed and has little more to say, and that errors can be printed
//! safely.
//!
//! ```text
//! 0  flags:1  1 a real server, whose bytes are edited; 2 it speaks TLS 1.2
//! 1  pieces   see pieces.rs
//! .. the server's bytes, or edits: at:2 (of the real server's bytes) action:1 value:1
//! ```

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::bytes::Bytes;
use super::pieces::Cuts;
use super::server_text::assert_printable;
use nbd_client::connection::Connection;
use nbd_client::session::take_all;
use nbd_client::{Error, Options, TlsOptions};
use rustls::{ServerConfig, ServerConnection};
use testkit::pki::Identity;
use testkit::scripted::bytes;

const SIZE: u64 = 12_345_678;
/// The most bytes that a client has to say to a server that misbehaves: its last words, encrypted.
const LAST_WORDS: usize = 1024;

pub fn tls(data: &[u8]) {
    let mut input = Bytes::new(data);
    let flags = input.u8();
    let pieces = Cuts::read(&mut input);
    let rest = input.rest();
    if flags & 1 == 0 {
        let mut client = TlsClient::new();
        client.receive(rest, &pieces);
        assert!(client.connection.export().is_none(), "an export without a server's key");
        return;
    }
    let server = real_server(flags & 2 != 0);
    let mut client = TlsClient::new();
    converse(&mut client, server, rest, &pieces);
    if let Some(export) = client.connection.export() {
        assert_eq!(export.size(), SIZE);
        assert!(export.tls.is_some());
    } else {
        assert!(!rest.is_empty(), "the bytes of a real server lead to an export");
    }
}

/// A client that has agreed to use TLS.
struct TlsClient {
    connection: Connection,
    now: Instant,
    has_failed: bool,
}

impl TlsClient {
    fn new() -> Self {
        let now = Instant::now();
        let options = Options::new().tls(TlsOptions::new().verify_peer(false));
        let mut client =
            Self { connection: Connection::new("disk", &options, now).unwrap(), now, has_failed: false };
        client.receive(&bytes::hello(3), &Cuts::Whole);
        assert_eq!(client.output(), b"\0\0\0\x03IHAVEOPT\0\0\0\x05\0\0\0\0");
        client.receive(&bytes::option_reply(5, 1, b""), &Cuts::Whole);
        client
    }

    fn receive(&mut self, input: &[u8], pieces: &Cuts) {
        let (mut at, mut nth) = (0, 0);
        while at < input.len() && !self.has_failed && !self.connection.is_open() {
            let space = self.connection.space();
            let count = pieces.size(nth).min(space.len()).min(input.len() - at);
            assert!(count > 0, "no space");
            space[..count].copy_from_slice(&input[at..at + count]);
            (at, nth) = (at + count, nth + 1);
            let received = self.connection.received(count, self.now);
            let polled = received.and_then(|()| self.connection.poll(&mut take_all, self.now));
            match polled {
                Ok(event) => assert_eq!(event, None),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &Error) {
        self.has_failed = true;
        assert_printable(&error.to_string());
        assert!(matches!(error, Error::Tls(_) | Error::Handshake(_) | Error::ConnectionLost(_)), "{error}");
        assert!(self.output().len() < LAST_WORDS);
        let again = self.connection.poll(&mut take_all, self.now);
        assert!(matches!(again, Err(Error::GivenUp)), "{again:?}");
        assert!(!self.connection.has_output());
    }

    fn output(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while self.connection.has_output() {
            let output = self.connection.output().collect::<Vec<_>>().concat();
            assert!(!output.is_empty(), "output that is empty");
            self.connection.sent(output.len(), self.now);
            all.extend(output);
        }
        all
    }
}

fn real_server(is_old: bool) -> ServerConnection {
    static CONFIGS: OnceLock<[Arc<ServerConfig>; 2]> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| {
        let identity = Identity::self_signed("fuzz", &["localhost"], |_| {});
        [identity.server(None), identity.server_of_version_1_2()]
    });
    ServerConnection::new(Arc::clone(&configs[usize::from(is_old)])).unwrap()
}

/// Lets both talk, until neither has anything to say.
fn converse(client: &mut TlsClient, mut server: ServerConnection, edits: &[u8], pieces: &Cuts) {
    let replies = [
        bytes::option_reply(11, 1, b""),
        bytes::option_reply(7, 3, &bytes::export_info(SIZE, 3)),
        bytes::option_reply(7, 1, b""),
    ];
    let mut replies = Some(replies.concat());
    let mut said = 0;
    // an answer before its question is a fault, and in TLS 1.2 the server could be that early
    let mut was_asked = false;
    loop {
        let output = client.output();
        let mut unread = output.as_slice();
        while !unread.is_empty() {
            // it may refuse the edited bytes
            let read = server.read_tls(&mut unread).is_ok();
            let Some(state) = server.process_new_packets().ok().filter(|_| read) else { break };
            was_asked |= state.plaintext_bytes_to_read() > 0;
        }
        if was_asked && let Some(replies) = replies.take() {
            use std::io::Write;
            server.writer().write_all(&replies).unwrap();
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        if answer.is_empty() || client.has_failed || client.connection.is_open() {
            return;
        }
        let start = said;
        said += answer.len();
        client.receive(&edit(answer, start, edits), pieces);
    }
}

/// The bytes that the server says from `start` on, with the edits that fall among them.
fn edit(mut bytes: Vec<u8>, start: usize, edits: &[u8]) -> Vec<u8> {
    for edit in edits.as_chunks::<4>().0 {
        let [high, low, action, value] = *edit;
        let at = usize::from(u16::from_be_bytes([high, low]));
        let Some(at) = at.checked_sub(start).filter(|&at| at < bytes.len()) else { continue };
        match action % 4 {
            0 => bytes[at] ^= value.max(1),
            1 => bytes.insert(at, value),
            2 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
    bytes
}
