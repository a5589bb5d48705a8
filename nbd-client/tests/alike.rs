//! One random fault, or several, judged by every kind of client: each call returns the same, word for
//! word, over plain bytes and over TLS.
#![cfg(target_os = "linux")]

use std::io::Result;
use std::thread;
use std::time::Duration;

use nbd_client::frame::{Headers, command};
use nbd_client::{Error, Options, Uri};
use testkit::clients::{AnyClient, Kind};
use testkit::peer::{self, Peer};
use testkit::pki::Pki;
use testkit::random::Rng;
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest, bytes};

const MIB: u64 = 1 << 20;
/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_WRITE_ZEROES.
const WRITABLE: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 6;
/// The limit of a request; what a server does late is either far below it or never.
const LIMIT: Duration = Duration::from_secs(1);
const SEEDS: u64 = 96;

/// A server's answer to one request.
#[derive(Clone, Debug)]
enum Deed {
    Answer,
    /// Answers in pieces of this length, with pauses.
    Drip(usize),
    Fail(u32),
    /// Sends this number of bytes of the answer, and hangs up.
    Cut(usize),
    /// Sends this number of bytes of the answer, and stops.
    Stall(usize),
    /// One byte of the answer is another.
    Flip(usize),
    /// The answer twice.
    Twice,
    /// The answer to another request.
    Other,
    /// Fails the request and hangs up.
    FailAndLeave(u32),
    /// Answers, and hangs up.
    AnswerAndLeave,
}

impl Deed {
    fn random(rng: &mut Rng) -> Self {
        let at = rng.below(40) as usize;
        let errno = [1, 5, 12, 22, 28, 75, 38, 108, 108, 77][rng.below(10) as usize];
        match rng.below(24) {
            0..10 => Self::Answer,
            10 | 11 => Self::Drip(at + 1),
            12..15 => Self::Fail(errno),
            15 => Self::Cut(at),
            16 => Self::Stall(at),
            17 | 18 => Self::Flip(at),
            19 => Self::Twice,
            20 => Self::Other,
            21 | 22 => Self::FailAndLeave(errno),
            _ => Self::AnswerAndLeave,
        }
    }

    fn carry_out(&self, conn: &mut Conn, request: &SeenRequest) -> Result<()> {
        let mut answer = answer(request, request.cookie);
        match *self {
            Self::Answer => conn.send(&answer),
            Self::Drip(size) => {
                let (slow, rest) = answer.split_at(answer.len().min(size * 20));
                for piece in slow.chunks(size) {
                    conn.send(piece)?;
                    conn.pause(Duration::from_micros(200))?;
                }
                conn.send(rest)
            }
            Self::Fail(errno) => conn.error(request, errno, "no", DONE),
            Self::Cut(at) => {
                conn.send(&answer[..at.min(answer.len())])?;
                conn.hang_up()
            }
            Self::Stall(at) => {
                conn.send(&answer[..at.min(answer.len() - 1)])?;
                conn.stall()
            }
            Self::Flip(at) => {
                let at = at.min(answer.len() - 1);
                answer[at] ^= 0x41;
                conn.send(&answer)
            }
            Self::Twice => conn.send(&[answer.clone(), answer].concat()),
            Self::Other => conn.send(&self::answer(request, request.cookie ^ 0x5555)),
            Self::FailAndLeave(errno) => {
                conn.error(request, errno, "no", DONE)?;
                conn.hang_up()
            }
            Self::AnswerAndLeave => {
                conn.send(&answer)?;
                conn.hang_up()
            }
        }
    }
}

fn answer(request: &SeenRequest, cookie: u64) -> Vec<u8> {
    if request.command != command::READ {
        return bytes::extended_chunk(DONE, 0, cookie, request.offset, &[]);
    }
    let data: Vec<u8> = (0..request.length).map(|at| (at % 251) as u8).collect();
    let payload = [&request.offset.to_be_bytes()[..], &data].concat();
    bytes::extended_chunk(DONE, 1, cookie, request.offset, &payload)
}

/// The result of a call in words. Left out are times, the numbers that a client gives to its requests,
/// how a lost connection is noticed (by sending or by receiving, which is a matter of who is first),
/// and who refuses a request after ESHUTDOWN (the pool's connection, or the client).
fn told(result: core::result::Result<Vec<u8>, Error>) -> String {
    match result {
        Ok(data) => format!("{} bytes", data.len()),
        Err(Error::Timeout { during, .. }) => format!("timed out during {during}"),
        Err(Error::ConnectionLost(_) | Error::Io { .. }) => "lost".to_owned(),
        Err(error) => {
            let text = error.to_string();
            if text.ends_with("the session is ending, no more requests") {
                return "ending".to_owned();
            }
            let words = text.split(' ').scan(false, |is_number, word| {
                let was = core::mem::replace(is_number, word == "request");
                Some(if was { "N" } else { word })
            });
            words.collect::<Vec<_>>().join(" ")
        }
    }
}

fn run(client: &mut AnyClient, calls: &[u64]) -> Vec<String> {
    let nothing = |()| Vec::new();
    let mut all = Vec::new();
    for (nth, call) in calls.iter().enumerate() {
        let offset = nth as u64 * MIB;
        all.push(told(match call {
            0 | 1 => client.read(offset, 512),
            2 => client.read(offset, 70_000),
            3 => client.write(offset, &[7; 512]).map(nothing),
            4 => client.write(offset, &[7; 200_000]).map(nothing),
            5 => client.zero(offset, 4096).map(nothing),
            _ => client.flush().map(nothing),
        }));
    }
    all
}

fn check(seed: u64, pki: Option<&Pki>) {
    let mut rng = Rng::new(seed);
    let calls: Vec<u64> = (0..6).map(|_| rng.below(7)).collect();
    let deeds: Vec<Deed> = (0..6).map(|_| Deed::random(&mut rng)).collect();
    let theirs = deeds.clone();
    let script = move |conn: &mut Conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        let mut deeds = theirs.iter();
        conn.serve(|conn, request| deeds.next().unwrap_or(&Deed::Answer).carry_out(conn, request))
    };
    let server = match pki {
        Some(pki) => ScriptedServer::start_tls(pki.server.server(None), pki.client(), script),
        None => ScriptedServer::start(script),
    }
    .unwrap();
    let uri: Uri = server.uri().parse().unwrap();
    let options = Options::new().request_timeout(LIMIT).flush_timeout(Some(LIMIT));
    let told_by = |kind: Kind| {
        let mut client = kind.connect(&uri, &options).unwrap();
        let mut all = run(&mut client, &calls);
        // of a server that has just gone the goodbye finds out, or not
        let ended = told(client.disconnect().map(|()| Vec::new()));
        all.push(if ended == "lost" { "0 bytes".to_owned() } else { ended });
        all
    };
    let all = thread::scope(|scope| {
        let told_by = &told_by;
        Kind::ALL.map(|kind| scope.spawn(move || told_by(kind))).map(|thread| thread.join().unwrap())
    });
    // Which a call halves, and the driver does not. Of two faults in one call a client tells the
    // first, and a pool the other by its next call.
    let finds_too_long = |deed: &Deed| matches!(deed, Deed::Fail(22 | 75) | Deed::FailAndLeave(22 | 75));
    let is_halved = deeds.iter().any(finds_too_long);
    let [blocking, pool, async_pool, client, driver] = all;
    let context = format!("seed {seed}, {calls:?}, {deeds:?}");
    assert_eq!(blocking, client, "{context}");
    assert_eq!(pool, async_pool, "{context}");
    if !is_halved {
        assert_eq!(blocking, pool, "{context}");
        assert_eq!(blocking, driver, "{context}");
    }
}

/// Most of the time is spent in waits for servers that stop.
#[test]
fn every_client_says_the_same_of_a_server() {
    let pki = Pki::new();
    thread::scope(|scope| {
        for first in 0..8 {
            let pki = &pki;
            scope.spawn(move || {
                for seed in (first..SEEDS).step_by(8) {
                    check(seed, (seed % 3 == 0).then_some(pki));
                }
            });
        }
    });
}

/// A handshake that ends at any byte, or has another byte there: all say the same of it, or find the
/// same export.
#[test]
fn every_client_says_the_same_of_a_handshake() {
    let contexts = [(1, "base:allocation"), (7, "qemu:dirty-bitmap:b0")];
    let infos = [bytes::block_size_info([1, 4096, 1 << 25]), b"\0\x02a disk".to_vec()];
    let honest = peer::handshake(&contexts, WRITABLE, 64 * MIB, &infos);
    let options = Options::new()
        .headers(Headers::Structured)
        .require_context("base:allocation")
        .want_context("qemu:dirty-bitmap:b0");
    let judge = |handshake: &[u8], context: &str| {
        let told = Kind::ALL.map(|kind| {
            let peer = Peer { closes: true, ..Peer::new(handshake.to_vec(), Vec::new()) };
            match kind.over(peer.stream(), &options) {
                Ok(client) => format!("{:?}", client.export()),
                Err(Error::Io { .. }) => "lost".to_owned(),
                Err(error) => error.to_string(),
            }
        });
        for (kind, told_by) in Kind::ALL.iter().zip(&told) {
            assert_eq!(told_by, &told[0], "{kind:?}, {context}");
        }
    };
    for at in 0..honest.len() {
        judge(&honest[..at], &format!("cut at {at}"));
        for change in [0x01, 0x80] {
            let mut changed = honest.clone();
            changed[at] ^= change;
            judge(&changed, &format!("byte {at} changed by {change}"));
        }
    }
    judge(&honest, "honest");
}
