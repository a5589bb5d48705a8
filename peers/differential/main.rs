//! Differential fuzzing: the same scripted sessions to libnbd and to nbd-client.
//!
//! Where both accept, they must have the same export, extents and bytes. Where one accepts and the
//! other refuses, `differences.md` must say who is right by the protocol. Anything else is a finding:
//! it is printed with its seed, and the program ends with 1. `ci/differential` builds and runs it.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "a program: names that say it all, the rest has its comment")]
#![allow(unreachable_pub, reason = "modules of a program")]

mod chunk;
mod compare;
mod handshake;
mod mutate;
mod ours;
mod replies;
mod server;
mod session;
mod survey;

use core::time::Duration;
use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use compare::{Difference, DifferenceTable, difference};
use peers::libnbd::LibnbdSide;
use peers::outcome::{self, Account};
use session::Session;

const USAGE: &str = "usage: nbd-differential LIBNBD_SIDE SECONDS FIRST_SEED | LIBNBD_SIDE show SEED";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, command, seed] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let Ok(seed) = seed.parse::<u64>() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let folder = testkit::server::folder();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).expect("a socket in a folder of our own");
    let mut pair = Pair {
        libnbd: LibnbdSide::start(PathBuf::from(program)).expect("the libnbd half starts"),
        listener,
        socket,
    };
    if command == "show" {
        pair.show(seed);
        return ExitCode::SUCCESS;
    }
    let Ok(seconds) = command.parse::<u64>() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    run(&mut pair, Duration::from_secs(seconds), seed)
}

fn run(pair: &mut Pair, time: Duration, first: u64) -> ExitCode {
    let table = DifferenceTable::new(include_str!("differences.md"));
    let end = Instant::now() + time;
    // each difference with its first seed and the number of sessions that showed it
    let mut seen: BTreeMap<Difference, (u64, u64)> = BTreeMap::new();
    let (mut sessions, mut accepted) = (0_u64, 0_u64);
    while Instant::now() < end {
        let seed = first.wrapping_add(sessions);
        sessions += 1;
        let difference = match pair.play(&Session::new(seed)) {
            Ok((ours, libnbd)) => {
                accepted += ours.accepted() as u64;
                difference(&ours, &libnbd)
            }
            Err(message) => {
                let ours = format!("panics: {}", outcome::without_numbers(&message));
                Some(Difference { ours, libnbd: "not asked".to_owned() })
            }
        };
        if let Some(difference) = difference {
            seen.entry(difference).or_insert((seed, 0)).1 += 1;
        }
    }
    println!("{sessions} sessions from seed {first}; {accepted} replies accepted by nbd-client");
    report(&seen, &table, sessions, accepted)
}

/// Prints each difference, first those that the table does not know.
fn report(
    seen: &BTreeMap<Difference, (u64, u64)>,
    table: &DifferenceTable,
    sessions: u64,
    accepted: u64,
) -> ExitCode {
    let (mut findings, mut known) = (0, 0);
    for (difference, (seed, count)) in seen {
        if table.verdict(difference).is_none() {
            findings += 1;
            let Difference { ours, libnbd } = difference;
            println!("FINDING: {count} times, seed {seed}: ours `{ours}`, libnbd `{libnbd}`");
        }
    }
    for (difference, (_, count)) in seen {
        if let Some(verdict) = table.verdict(difference) {
            known += 1;
            println!("{count:8}  ours {}; libnbd {}; right: {verdict}", difference.ours, difference.libnbd);
        }
    }
    // a run that compared nothing must not pass
    if accepted < sessions / 3 {
        println!("FINDING: only {accepted} replies were accepted in {sessions} sessions");
        findings += 1;
    }
    println!("{findings} findings; {known} of the {} rows of the table were seen", table.len());
    ExitCode::from(u8::from(findings > 0))
}

/// Both halves, and the server that they talk to.
struct Pair {
    libnbd: LibnbdSide,
    listener: UnixListener,
    socket: PathBuf,
}

impl Pair {
    /// The accounts of both, or the message of our panic.
    fn play(&mut self, session: &Session) -> Result<(Account, Account), String> {
        let socket: &Path = &self.socket;
        let ours = serving(&self.listener, session, || {
            catch_unwind(AssertUnwindSafe(|| ours::play(session, socket)))
        });
        let libnbd = serving(&self.listener, session, || {
            self.libnbd.play(socket, session.contexts, &session.operations)
        });
        let libnbd = libnbd.expect("the pipes to the libnbd half");
        ours.map(|ours| (ours, libnbd)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
        })
    }

    /// Prints a session and both accounts of it.
    fn show(&mut self, seed: u64) {
        let session = Session::new(seed);
        println!("{session:#?}");
        match self.play(&session) {
            Ok((ours, libnbd)) => println!("ours {ours:#?}\nlibnbd {libnbd:#?}"),
            Err(message) => println!("nbd-client panicked: {message}"),
        }
    }
}

/// Runs a client while the server serves it.
fn serving<T>(listener: &UnixListener, session: &Session, client: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let server = scope.spawn(|| server::serve(listener, session));
        let result = client();
        server.join().expect("the server does not panic").expect("a connection came");
        result
    })
}
