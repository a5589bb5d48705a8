//! Calls that are dropped at an await point, and the disk that they are about.

use core::future::poll_fn;
use core::task::Poll;
use std::time::Duration;

use nbd_client::frame::command;

use crate::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest};

pub const MIB: u64 = 1 << 20;
/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, SEND_CACHE.
pub const WRITABLE: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 10;

/// Bytes that tell their place.
pub fn content(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length).map(|at| (at / 512 % 251) as u8).collect()
}

pub fn answer(conn: &mut Conn, request: &SeenRequest) -> std::io::Result<()> {
    match request.command {
        command::READ => {
            // in two chunks, with a pause that the client sees
            let half = request.length / 2;
            conn.data(request, request.offset, &content(request.offset, half), 0)?;
            conn.pause(Duration::from_micros(300))?;
            let (offset, rest) = (request.offset + half, request.length - half);
            conn.data(request, offset, &content(offset, rest), DONE)
        }
        command::BLOCK_STATUS => {
            let list: Vec<_> = (0..16).map(|nth| (request.length / 16, nth % 2 * 3)).collect();
            conn.status(request, 0, &list, DONE)
        }
        command::WRITE => {
            assert!(request.data.iter().all(|&byte| byte == 9), "other bytes among those of a write");
            conn.done(request)
        }
        _ => conn.done(request),
    }
}

pub fn server(flags: u16) -> ScriptedServer {
    ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(flags))?;
        conn.serve(answer)
    })
    .unwrap()
}

/// Polls a future until it has been pending `times` times, and drops it then; its output if it was
/// ready before.
pub async fn poll_and_drop<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = times;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}
