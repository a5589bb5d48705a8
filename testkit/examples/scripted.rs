//! Starts a scripted server by name, for tests in other languages.
//!
//! ```text
//! scripted          lists the scripts: NAME, a tab, the exit code of a survey, a tab, that of a backup
//! scripted NAME     prints the server's URI, and serves until its own input ends
//! ```

use std::error::Error;
use std::io::{Result, Write, stdin, stdout};

use nbd_client::frame::{chunk_type, command, option_reply_type, option_type};
use testkit::endings::{self, Ending};
use testkit::scripted::{Conn, DONE, Good, Reaction, ScriptedServer, SeenRequest, bytes};

const M: u64 = 1 << 20;
/// Exit codes of `nbd-extents`, which errors of other languages have as well.
const SOUND: u8 = 0;
const NOT_THERE: u8 = 3;
const LOST: u8 = 4;
const BROKEN: u8 = 5;

type Script = Box<dyn Fn(&mut Conn) -> Result<()> + Send + Sync>;

/// A server, and the codes with which a lenient survey and a backup of it end.
struct ScriptedCase {
    name: &'static str,
    survey: u8,
    backup: u8,
    script: Script,
}

fn main() -> core::result::Result<(), Box<dyn Error>> {
    let mut cases = cases();
    let Some(name) = std::env::args().nth(1) else {
        for ScriptedCase { name, survey, backup, .. } in cases {
            println!("{name}\t{survey}\t{backup}");
        }
        return Ok(());
    };
    let position = cases.iter().position(|case| case.name == name).ok_or("no script of this name")?;
    let server = ScriptedServer::start(cases.swap_remove(position).script)?;
    println!("{}", server.uri());
    stdout().flush()?;
    stdin().read_line(&mut String::new())?;
    Ok(())
}

fn cases() -> Vec<ScriptedCase> {
    let both = |code, name, script| ScriptedCase { name, survey: code, backup: code, script };
    let backup = |code, name, reply| ScriptedCase { name, survey: SOUND, backup: code, script: reads(reply) };
    vec![
        both(SOUND, "honest", reads(data)),
        both(LOST, "killed before hello", script(|conn| conn.hang_up())),
        both(LOST, "killed in hello", script(|conn| conn.send(b"NBDMAGIC"))),
        both(LOST, "killed in the handshake", cut(100)),
        both(LOST, "killed at a request", ending(endings::dies)),
        both(LOST, "killed in a payload", ending(endings::dies_in_a_payload)),
        backup(LOST, "killed in a read", killed_in_a_read),
        both(LOST, "silent from the start", script(|conn| conn.stall())),
        both(LOST, "silent at a request", ending(endings::stops)),
        both(LOST, "silent in a payload", ending(endings::stops_in_a_payload)),
        both(LOST, "silent but for a byte a second", ending(endings::drips)),
        backup(LOST, "silent at a read", |conn, _| conn.stall()),
        both(
            BROKEN,
            "hostile: another protocol",
            script(|conn| conn.send_for_ever(b"SSH-2.0-OpenSSH_9.2\r\n")),
        ),
        both(BROKEN, "hostile: a size above 2^63 - 1", good(Good::extended().size(u64::MAX))),
        both(NOT_THERE, "hostile: no such export", refuses(option_type::GO, 6)),
        both(LOST, "hostile: TLS demanded", refuses(option_type::GO, 5)),
        both(BROKEN, "hostile: shutting down", refuses(option_type::GO, 7)),
        both(BROKEN, "hostile: a reply of another magic", magic()),
        both(BROKEN, "hostile: another cookie", statuses(another_cookie)),
        both(BROKEN, "hostile: another context", statuses(|conn, r| conn.status(r, 9, &[(M, 0)], DONE))),
        both(BROKEN, "hostile: no descriptor", statuses(|conn, r| conn.status(r, 0, &[], DONE))),
        both(BROKEN, "hostile: an empty descriptor", statuses(|conn, r| conn.status(r, 0, &[(0, 0)], DONE))),
        both(BROKEN, "hostile: half a descriptor", statuses(half_a_descriptor)),
        both(BROKEN, "hostile: 4 GiB of descriptors", statuses(huge)),
        both(BROKEN, "hostile: done without a word", statuses(|conn, r| conn.done(r))),
        both(
            BROKEN,
            "hostile: every request fails",
            statuses(|conn, r| conn.error(r, 5, "\x1b[31mno\r\n", DONE)),
        ),
        backup(BROKEN, "hostile: data of another place", another_place),
        backup(BROKEN, "hostile: data missing", |conn, r| conn.done(r)),
        backup(BROKEN, "hostile: every read fails", |conn, r| conn.error(r, 5, "\x1b[31mno\r\n", DONE)),
    ]
}

fn script(script: fn(&mut Conn) -> Result<()>) -> Script {
    Box::new(script)
}

fn good(terms: Good) -> Script {
    Box::new(move |conn| {
        conn.handshake(&terms)?;
        conn.serve(|conn, request| conn.honest(request, 0))
    })
}

fn cut(bytes: usize) -> Script {
    Box::new(move |conn| {
        conn.cut_after(bytes);
        conn.handshake(&Good::compact())
    })
}

fn ending(ending: Ending) -> Script {
    Box::new(endings::script(ending))
}

/// Refuses one option with this error.
fn refuses(option: u32, error: u32) -> Script {
    Box::new(move |conn| {
        conn.handshake_with(&Good::compact(), |conn, seen| {
            if seen.number != option {
                return Ok(Reaction::Honest);
            }
            conn.refuse(option, option_reply_type::ERROR_BIT | error, "\x1b[31mno\r\n\u{202e}")?;
            Ok(Reaction::Answered)
        })
    })
}

fn magic() -> Script {
    script(|conn| {
        conn.handshake_with(&Good::compact(), |conn, seen| {
            conn.send(&[0xff; 64])?;
            conn.ack(seen.number)?;
            Ok(Reaction::Answered)
        })
    })
}

/// Each status request is answered by `reply`.
fn statuses(reply: fn(&mut Conn, &SeenRequest) -> Result<()>) -> Script {
    Box::new(move |conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(reply)
    })
}

/// The disk is all data, and each read is answered by `reply`.
fn reads(reply: fn(&mut Conn, &SeenRequest) -> Result<()>) -> Script {
    Box::new(move |conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| match request.command {
            command::READ => reply(conn, request),
            _ => conn.honest(request, 0),
        })
    })
}

fn content(request: &SeenRequest) -> Vec<u8> {
    vec![0xa5; usize::try_from(request.length).unwrap_or(0)]
}

fn data(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    conn.data(request, request.offset, &content(request), DONE)
}

fn another_place(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    conn.data(request, request.offset + 512, &content(request), DONE)
}

fn killed_in_a_read(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    conn.chunk_header(request, DONE, chunk_type::OFFSET_DATA, 8 + request.length)?;
    conn.send(&request.offset.to_be_bytes())?;
    conn.hang_up()
}

fn another_cookie(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    let payload = [0; 12];
    conn.send(&bytes::structured_chunk(DONE, chunk_type::BLOCK_STATUS, request.cookie ^ 1 << 63, &payload))
}

fn half_a_descriptor(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    conn.chunk(request, DONE, chunk_type::BLOCK_STATUS, &[0; 9])
}

fn huge(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    conn.chunk_header(request, DONE, chunk_type::BLOCK_STATUS, u64::from(u32::MAX - 3))?;
    conn.stall()
}
