//! A peer that says its piece: a handshake without listening, and an answer when the requests for it
//! are there. It has no rules of its own, so that the test decides on each byte.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::scripted::bytes::{context, export_info, hello, option_reply};

/// The first bytes of a request.
const REQUEST: [u8; 4] = [0x25, 0x60, 0x95, 0x13];

/// The bytes of the peer, and the end of its side.
#[derive(Clone, Debug)]
pub struct Peer {
    pub handshake: Vec<u8>,
    pub answer: Vec<u8>,
    /// Requests that it hears before it answers.
    pub requests: usize,
    /// Whether it closes its side then, or is silent until the client hangs up.
    pub closes: bool,
}

impl Peer {
    /// One that answers the first request, and then says nothing.
    pub fn new(handshake: Vec<u8>, answer: Vec<u8>) -> Self {
        Self { handshake, answer, requests: 1, closes: false }
    }

    /// Starts it; all that it has heard can be received when the client has hung up.
    pub fn start(self) -> (UnixStream, Receiver<Vec<u8>>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (sender, receiver) = channel();
        thread::spawn(move || {
            theirs.write_all(&self.handshake).unwrap();
            let mut heard = Vec::new();
            if !self.answer.is_empty() {
                hear(&mut theirs, &mut heard, self.requests);
                theirs.write_all(&self.answer).ok();
            }
            if self.closes {
                theirs.shutdown(Shutdown::Write).ok();
            }
            theirs.read_to_end(&mut heard).ok();
            sender.send(heard).ok();
        });
        (ours, receiver)
    }

    pub fn stream(self) -> UnixStream {
        self.start().0
    }
}

/// Reads until as many requests are there, or the client hangs up.
fn hear(stream: &mut UnixStream, heard: &mut Vec<u8>, requests: usize) {
    let mut buffer = [0; 4096];
    while heard.windows(REQUEST.len()).filter(|part| *part == REQUEST).count() < requests {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => heard.extend(&buffer[..count]),
            _ => return,
        }
    }
}

/// All that a server says until GO is acknowledged, without extended headers. Of contexts it speaks
/// only where there are some.
pub fn handshake(contexts: &[(u32, &str)], flags: u16, size: u64, infos: &[Vec<u8>]) -> Vec<u8> {
    let granted = |&(id, name): &(u32, &str)| option_reply(10, 4, &context(id, name.as_bytes()));
    let granted: Vec<u8> = contexts.iter().flat_map(granted).collect();
    let end = if contexts.is_empty() { Vec::new() } else { option_reply(10, 1, &[]) };
    [
        hello(3),
        option_reply(8, 1, &[]),
        granted,
        end,
        infos.iter().flat_map(|info| option_reply(7, 3, info)).collect(),
        option_reply(7, 3, &export_info(size, flags)),
        option_reply(7, 1, &[]),
    ]
    .concat()
}
