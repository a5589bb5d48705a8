//! Ways in which a server ends a survey: it dies, stops, or sends a byte a second.

use core::time::Duration;
use std::io::Result;

use crate::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest, bytes};

const M: u64 = 1 << 20;

pub type Ending = fn(&mut Conn, &SeenRequest) -> Result<()>;

pub fn dies(conn: &mut Conn, _: &SeenRequest) -> Result<()> {
    conn.hang_up()
}

pub fn dies_in_a_payload(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    conn.chunk_header(request, DONE, 5, 8004)?;
    conn.send(&[0; 100])?;
    conn.hang_up()
}

pub fn stops(conn: &mut Conn, _: &SeenRequest) -> Result<()> {
    conn.stall()
}

pub fn stops_in_a_payload(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    conn.chunk_header(request, DONE, 5, 8004)?;
    conn.send(&[0; 100])?;
    conn.stall()
}

/// A byte a second keeps a connection alive for ever, if each byte is allowed its own timeout.
pub fn drips(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    let chunk = bytes::structured_chunk(DONE, 5, request.cookie, &[0; 12]);
    conn.drip(&chunk, Duration::from_secs(1))
}

/// A disk of 4 MiB: data, zeroes, data up to 3 MiB; then the ending.
pub fn script(ending: Ending) -> impl Fn(&mut Conn) -> Result<()> + Send + Sync + 'static {
    move |conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| match request.offset {
            0 => conn.status(request, 0, &[(M, 0), (M, 3), (M, 0)], DONE),
            _ => ending(conn, request),
        })
    }
}

/// A server with that script.
pub fn server(ending: Ending) -> ScriptedServer {
    ScriptedServer::start(script(ending)).expect("start the server")
}
