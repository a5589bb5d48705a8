//! The server's end of a session: the same bytes for every client, with the client's own cookies.

use core::time::Duration;
use std::io::{Read, Result, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::handshake::{REP_ACK, ScriptedReply};
use crate::session::{OPTION_EXPORT_NAME, OPTION_GO, Session};

/// A client that does not ask all it should is cut off after this; no session comes near it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves one client. It ends when the client has gone, whatever that client did.
pub fn serve(listener: &UnixListener, session: &Session) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // A client that has hung up makes a write fail, which is its right.
    let _ = play(&mut stream, session);
    let _ = stream.shutdown(Shutdown::Write);
    // Unread bytes would turn the end of the stream into a reset, which takes data away.
    let mut waste = [0; 4096];
    while matches!(stream.read(&mut waste), Ok(1..)) {}
    Ok(())
}

const OPTION_LIST_META_CONTEXT: u32 = 9;

fn play(stream: &mut UnixStream, session: &Session) -> Result<()> {
    if session.is_handshake() {
        return stream.write_all(&session.handshake_bytes());
    }
    stream.write_all(&session.hello)?;
    read::<4>(stream)?;
    for replies in &session.options {
        let mut option = option(stream)?;
        // nbd-client asks what there is when a context is missing; libnbd does not
        while option == OPTION_LIST_META_CONTEXT {
            stream.write_all(&ScriptedReply::new(option, REP_ACK, Vec::new()).bytes())?;
            option = self::option(stream)?;
        }
        let bytes: Vec<u8> = replies.iter().flat_map(|reply| reply.bytes()).collect();
        stream.write_all(&bytes)?;
        let refused = replies.iter().any(|reply| reply.kind >= 1 << 31);
        if option == OPTION_EXPORT_NAME || option == OPTION_GO && !refused {
            break;
        }
    }
    let cookies = session.operations.iter().map(|_| cookie(stream)).collect::<Result<Vec<u64>>>()?;
    stream.write_all(&session.reply_bytes(&cookies))
}

/// Reads an option and returns its number.
fn option(stream: &mut UnixStream) -> Result<u32> {
    let header = read::<16>(stream)?;
    let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    let mut data = vec![0; usize::try_from(word(12)).unwrap()];
    stream.read_exact(&mut data)?;
    Ok(word(8))
}

/// Reads a request and returns its cookie.
fn cookie(stream: &mut UnixStream) -> Result<u64> {
    let header = read::<28>(stream)?;
    Ok(u64::from_be_bytes(header[8..16].try_into().unwrap()))
}

fn read<const N: usize>(stream: &mut UnixStream) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
