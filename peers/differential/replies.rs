//! Legal replies: the operations of a session, and for each of them what a server may answer.

use testkit::random::Rng;

use crate::chunk::Chunk;
use crate::session::{DONE, Session};
use peers::Operation;

pub const NONE: u16 = 0;
pub const OFFSET_DATA: u16 = 1;
pub const OFFSET_HOLE: u16 = 2;
pub const BLOCK_STATUS: u16 = 5;
pub const ERROR: u16 = 0x8001;
pub const ERROR_OFFSET: u16 = 0x8002;

const ERRNOS: [u32; 8] = [1, 5, 12, 22, 28, 75, 95, 108];

/// Adds one to four operations and their replies, the chunks of which may be interleaved.
pub fn add(rng: &mut Rng, session: &mut Session) {
    let count = usize::try_from(1 + rng.below(4)).unwrap();
    session.operations = (0..count).map(|_| operation(rng, session)).collect();
    let mut queues: Vec<Vec<Chunk>> = (0..count).map(|index| reply(rng, session, index)).collect();
    let mixed = rng.below(3) == 0;
    while queues.iter().any(|queue| !queue.is_empty()) {
        let first = queues.iter().position(|queue| !queue.is_empty()).unwrap();
        let picked = if mixed { usize::try_from(rng.below(count as u64)).unwrap() } else { first };
        if !queues[picked].is_empty() {
            let chunk = queues[picked].remove(0);
            session.chunks.push(chunk);
        }
    }
}

fn operation(rng: &mut Rng, session: &Session) -> Operation {
    let offset = rng.below(session.size / 512) * 512;
    let left = session.size - offset;
    match rng.below(8) {
        0..=4 if !session.granted.is_empty() => {
            let length = ((1 + rng.below(1 << 12)) * 512).min(left);
            Operation::Status { offset, length }
        }
        7 => Operation::Flush,
        _ => Operation::Read { offset, length: ((1 + rng.below(32)) * 512).min(left) },
    }
}

/// The chunks of one reply, in order.
fn reply(rng: &mut Rng, session: &Session, index: usize) -> Vec<Chunk> {
    if rng.below(12) == 0 {
        return vec![refusal(rng, session, index)];
    }
    if let (false, Operation::Read { length, .. }) = (session.structured, session.operations[index]) {
        return vec![Chunk::simple(index, 0, noise(rng, length))];
    }
    if !session.structured {
        return vec![Chunk::simple(index, 0, Vec::new())];
    }
    let mut payloads = match session.operations[index] {
        Operation::Status { offset, length } => status(rng, session, offset, length),
        Operation::Read { offset, length } => content(rng, offset, length),
        // success without content may be a simple reply too
        Operation::Flush if rng.below(2) == 0 => return vec![Chunk::simple(index, 0, Vec::new())],
        Operation::Flush => Vec::new(),
    };
    if payloads.is_empty() || rng.below(3) == 0 {
        payloads.push((NONE, Vec::new()));
    }
    let last = payloads.len() - 1;
    let chunks = payloads.into_iter().enumerate();
    chunks
        .map(|(nth, (kind, payload))| {
            Chunk::structured(index, if nth == last { DONE } else { 0 }, kind, payload)
        })
        .collect()
}

fn refusal(rng: &mut Rng, session: &Session, index: usize) -> Chunk {
    let errno = pick(rng, &ERRNOS);
    if !session.structured || rng.below(4) == 0 {
        return Chunk::simple(index, errno, Vec::new());
    }
    let text = b"it is broken";
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    Chunk::structured(index, DONE, ERROR, [&errno.to_be_bytes()[..], &length, text].concat())
}

/// One status chunk for each context, in any order.
fn status(rng: &mut Rng, session: &Session, offset: u64, length: u64) -> Vec<(u16, Vec<u8>)> {
    let mut granted = session.granted.clone();
    if rng.below(2) == 0 {
        granted.reverse();
    }
    let chunk = |&(_, id): &(usize, u32)| {
        let mut payload = id.to_be_bytes().to_vec();
        for (length, flags) in descriptors(rng, offset, length, session.size) {
            payload.extend([length, flags].map(u32::to_be_bytes).concat());
        }
        (BLOCK_STATUS, payload)
    };
    granted.iter().map(chunk).collect()
}

/// Descriptors from `offset` on, of which only the last may leave the request, and none the disk.
fn descriptors(rng: &mut Rng, offset: u64, length: u64, size: u64) -> Vec<(u32, u32)> {
    let mut list = Vec::new();
    let mut covered = 0;
    for _ in 0..1 + rng.below(6) {
        if covered >= length {
            break;
        }
        let unit = if rng.below(2) == 0 { 512 } else { 4096 };
        let next = ((1 + rng.below(length / unit + 2)) * unit).min(size - offset - covered);
        let flags = if rng.below(16) == 0 { rng.next() >> 32 } else { rng.below(4) };
        list.push((u32::try_from(next).unwrap(), u32::try_from(flags).unwrap()));
        covered += next;
    }
    list
}

/// Data and holes that make up a read, in any order.
fn content(rng: &mut Rng, offset: u64, length: u64) -> Vec<(u16, Vec<u8>)> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < length {
        let next = (1 + rng.below(length)).min(length - at);
        let start = (offset + at).to_be_bytes();
        pieces.push(if rng.below(3) == 0 {
            let hole = u32::try_from(next).unwrap().to_be_bytes();
            (OFFSET_HOLE, [&start[..], &hole].concat())
        } else {
            (OFFSET_DATA, [start.to_vec(), noise(rng, next)].concat())
        });
        at += next;
    }
    if rng.below(2) == 0 {
        pieces.reverse();
    }
    pieces
}

fn noise(rng: &mut Rng, length: u64) -> Vec<u8> {
    let seed = rng.next();
    (0..length).map(|at| (seed.rotate_left(u32::try_from(at % 64).unwrap()) & 0xff) as u8).collect()
}

pub fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[usize::try_from(rng.below(choices.len() as u64)).unwrap()]
}
