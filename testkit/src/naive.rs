//! An NBD client that knows one way only: compact structured replies, one descriptor per context
//! (REQ_ONE).
//!
//! It is written against the protocol's text and std alone, and shares nothing with the crates
//! under test. It panics on whatever it does not expect: a server that does something else needs a
//! look.

use core::time::Duration;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

const HELLO: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x668e_33ef;

const STRUCTURED_REPLY: u32 = 8;
const SET_META_CONTEXT: u32 = 10;
const GO: u32 = 7;

const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_META_CONTEXT: u32 = 4;
const INFO_EXPORT: [u8; 2] = [0, 0];

const FLAG_REQ_ONE: u16 = 8;
const BLOCK_STATUS: u16 = 7;
const REPLY_DONE: u16 = 1;
const REPLY_STATUS: u16 = 5;
const REPLY_ERROR: u16 = 1 << 15;

/// A batch has to fit a socket's buffer: a server that waits for us to read must not keep us from
/// writing.
const BATCH: usize = 500;

/// A silent server fails the test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(30);

/// One context's answer: how many bytes it is about, and what it says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NaiveDescriptor {
    pub length: u32,
    pub flags: u32,
}

/// The answer of each context asked for, in that order; None where the server does not offer the
/// context.
pub type Answer = Vec<Option<NaiveDescriptor>>;

/// An errno of the wire.
pub type Errno = u32;

/// A connection, past its handshake.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    size: u64,
    /// The ids of the contexts asked for, in that order.
    ids: Vec<Option<u32>>,
    cookie: u64,
}

/// True where somebody listens and greets as an NBD server does.
pub fn says_hello(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let mut hello = [0; 18];
    let brief = Some(Duration::from_secs(2));
    stream.set_read_timeout(brief).is_ok()
        && stream.read_exact(&mut hello).is_ok()
        && hello[..8] == HELLO.to_be_bytes()
}

impl Client {
    pub fn connect(socket: &Path, export: &str, contexts: &[String]) -> Self {
        let stream = UnixStream::connect(socket).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("set a write timeout");
        let mut client = Self { stream, size: 0, ids: vec![None; contexts.len()], cookie: 0 };
        client.greet();
        client.option(STRUCTURED_REPLY, &[], |_, kind, _| panic!("unexpected reply {kind}"));
        client.set_contexts(export, contexts);
        client.go(export);
        client
    }

    /// The size of the export in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Asks about every block (offset and length) by itself. Answers are in the order of the
    /// blocks.
    pub fn ask_all(&mut self, blocks: &[(u64, u32)]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(blocks.len());
        for batch in blocks.chunks(BATCH) {
            let first = self.send(batch);
            let replies = self.receive(first, batch.len());
            answers.extend(replies.into_iter().map(|reply| reply.expect("status of a block")));
        }
        answers
    }

    /// Asks about one block. After an error the connection cannot be used again, since a late chunk
    /// may follow.
    pub fn ask(mut self, offset: u64, length: u32) -> Result<Answer, Errno> {
        let first = self.send(&[(offset, length)]);
        self.receive(first, 1).remove(0)
    }

    fn greet(&mut self) {
        assert_eq!(self.u64(), HELLO);
        assert_eq!(self.u64(), OPTION);
        let flags = self.u16();
        assert_eq!(flags & 3, 3, "fixed newstyle without zeroes");
        self.stream.write_all(&3_u32.to_be_bytes()).expect("send the client's flags");
    }

    fn set_contexts(&mut self, export: &str, contexts: &[String]) {
        let mut data = string(export);
        data.extend(length_of(contexts.len()));
        for context in contexts {
            data.extend(string(context));
        }
        self.option(SET_META_CONTEXT, &data, |client, kind, payload| {
            assert_eq!(kind, REP_META_CONTEXT, "reply to SET_META_CONTEXT");
            let name = core::str::from_utf8(&payload[4..]).expect("a context's name");
            let asked = contexts.iter().position(|context| context == name).expect("a context asked for");
            client.ids[asked] = Some(be_u32(&payload[..4]));
        });
    }

    /// Chooses the export, and learns its size.
    fn go(&mut self, export: &str) {
        let mut data = string(export);
        // no other information is asked for
        data.extend([0, 0]);
        self.option(GO, &data, |client, kind, payload| {
            assert_eq!(kind, REP_INFO, "reply to GO");
            if payload[..2] == INFO_EXPORT {
                client.size = be_u64(&payload[2..10]);
            }
        });
    }

    /// Sends an option, and hands every reply before the final ACK on.
    fn option(&mut self, code: u32, data: &[u8], mut each: impl FnMut(&mut Self, u32, &[u8])) {
        let mut bytes = OPTION.to_be_bytes().to_vec();
        bytes.extend(code.to_be_bytes());
        bytes.extend(length_of(data.len()));
        bytes.extend(data);
        self.stream.write_all(&bytes).expect("send an option");
        loop {
            assert_eq!(self.u64(), OPTION_REPLY);
            assert_eq!(self.u32(), code);
            let kind = self.u32();
            let length = self.u32();
            let payload = self.bytes(length);
            if kind == REP_ACK {
                return;
            }
            each(self, kind, &payload);
        }
    }

    /// Sends one request per block, with consecutive cookies; the first of these is returned.
    fn send(&mut self, blocks: &[(u64, u32)]) -> u64 {
        let first = self.cookie;
        let mut bytes = Vec::new();
        for (offset, length) in blocks {
            bytes.extend(REQUEST.to_be_bytes());
            bytes.extend(FLAG_REQ_ONE.to_be_bytes());
            bytes.extend(BLOCK_STATUS.to_be_bytes());
            bytes.extend(self.cookie.to_be_bytes());
            bytes.extend(offset.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            self.cookie += 1;
        }
        self.stream.write_all(&bytes).expect("send requests");
        first
    }

    /// Reads whole replies, which may come in any order, until each of `count` cookies is done.
    fn receive(&mut self, first: u64, count: usize) -> Vec<Result<Answer, Errno>> {
        let mut answers = vec![Ok(vec![None; self.ids.len()]); count];
        let mut done = 0;
        while done < count {
            assert_eq!(self.u32(), REPLY, "structured reply");
            let flags = self.u16();
            let kind = self.u16();
            let cookie = self.u64();
            let length = self.u32();
            let payload = self.bytes(length);
            let index = usize::try_from(cookie - first).expect("a cookie of this batch");
            self.chunk(&mut answers[index], kind, &payload);
            done += usize::from(flags & REPLY_DONE != 0);
        }
        answers.into_iter().map(|answer| answer.inspect(|found| self.check(found))).collect()
    }

    fn chunk(&self, answer: &mut Result<Answer, Errno>, kind: u16, payload: &[u8]) {
        if kind & REPLY_ERROR != 0 {
            *answer = Err(be_u32(&payload[..4]));
            return;
        }
        assert_eq!(kind, REPLY_STATUS, "kind of reply");
        let id = Some(be_u32(&payload[..4]));
        let context = self.ids.iter().position(|known| *known == id).expect("a context of ours");
        // More than one descriptor is nbdkit's way to answer REQ_ONE now and then; the first
        // answers the request.
        let descriptor = NaiveDescriptor { length: be_u32(&payload[4..8]), flags: be_u32(&payload[8..12]) };
        if let Ok(answer) = answer {
            assert_eq!(answer[context].replace(descriptor), None, "one chunk per context");
        }
    }

    fn check(&self, answer: &Answer) {
        for (id, descriptor) in self.ids.iter().zip(answer) {
            assert_eq!(id.is_some(), descriptor.is_some(), "an answer from each context: {answer:?}");
        }
    }

    fn bytes(&mut self, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut bytes).expect("read from the server");
        bytes
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        be_u32(&self.bytes(4))
    }

    fn u64(&mut self) -> u64 {
        be_u64(&self.bytes(8))
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

fn be_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

fn length_of(count: usize) -> [u8; 4] {
    u32::try_from(count).expect("a short list").to_be_bytes()
}

/// A string as options carry it: its length, then its bytes.
fn string(text: &str) -> Vec<u8> {
    let mut bytes = length_of(text.len()).to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
