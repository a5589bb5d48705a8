//! Damage: one field, one chunk or one byte at a time, as broken and hostile servers have it.

use testkit::random::Rng;

use crate::chunk::{Chunk, ChunkKind};
use crate::handshake::ScriptedReply;
use crate::replies::{BLOCK_STATUS, ERROR, ERROR_OFFSET, NONE, OFFSET_DATA, OFFSET_HOLE, pick};
use crate::session::{DONE, Session};

/// Numbers at which arithmetic goes wrong.
const WORDS: [u32; 10] = [0, 1, 2, 511, 512, 4096, 0x7fff_ffff, 0x8000_0000, 0xffff_fe00, 0xffff_ffff];
const SIZES: [u64; 8] = [0, 1, 511, 1000, (1 << 63) - 512, (1 << 63) - 1, 1 << 63, u64::MAX];
const OPTION_KINDS: [u32; 8] = [1, 2, 3, 4, 0x8000_0001, 0x8000_0006, 0x8000_0009, 0x8000_1234];

fn index(rng: &mut Rng, length: usize) -> usize {
    usize::try_from(rng.below(length as u64)).unwrap()
}

/// Writes one of [`WORDS`] over four bytes, as often as not where a field begins.
fn word(rng: &mut Rng, payload: &mut [u8]) {
    if payload.len() >= 4 {
        let at = index(rng, payload.len() - 3);
        let at = if rng.below(4) == 0 { at } else { at / 4 * 4 };
        payload[at..at + 4].copy_from_slice(&pick(rng, &WORDS).to_be_bytes());
    }
}

fn flip(rng: &mut Rng, payload: &mut [u8]) {
    if !payload.is_empty() {
        let at = index(rng, payload.len());
        payload[at] ^= 1 << rng.below(8);
    }
}

/// One change of the payload that leaves the header as it would be for the new one.
fn payload(rng: &mut Rng, payload: &mut Vec<u8>) {
    match rng.below(4) {
        0 => flip(rng, payload),
        1 => payload.truncate(index(rng, payload.len() + 1)),
        2 => payload.extend((0..=rng.below(12)).map(|byte| byte as u8)),
        _ => word(rng, payload),
    }
}

fn claimed(rng: &mut Rng, length: usize) -> u32 {
    let length = u32::try_from(length).unwrap();
    match rng.below(4) {
        0 => pick(rng, &WORDS),
        1 => length.saturating_sub(1 + rng.below(8) as u32),
        _ => length + 1 + rng.below(8) as u32,
    }
}

/// Damages the replies of a session once.
pub fn replies(rng: &mut Rng, session: &mut Session) {
    let count = session.chunks.len();
    if count == 0 {
        return;
    }
    let at = index(rng, count);
    match rng.below(12) {
        0..=2 => field(rng, &mut session.chunks[at]),
        3..=5 => payload(rng, &mut session.chunks[at].payload),
        6 => {
            let copy = session.chunks[at].clone();
            session.chunks.insert(index(rng, count + 1), copy);
        }
        7 => drop(session.chunks.remove(at)),
        8 => session.chunks.swap(at, index(rng, count)),
        9 | 10 => {
            let operation = session.chunks[at].operation;
            let extra = extra(rng, session, operation);
            session.chunks.insert(at, extra);
        }
        _ => session.cut = Some(index(rng, 256)),
    }
}

/// Damages one field of a chunk's header.
fn field(rng: &mut Rng, chunk: &mut Chunk) {
    let length = chunk.payload.len();
    match (&mut chunk.kind, rng.below(6)) {
        (_, 0) => chunk.cookie_delta = pick(rng, &[1, 2, u64::MAX, 1 << 40]),
        (_, 1) => chunk.magic ^= 1 << rng.below(32),
        (ChunkKind::Structured { flags, .. }, 2) => *flags ^= 1 << rng.below(16),
        (ChunkKind::Structured { flags, .. }, 3) => *flags ^= DONE,
        (ChunkKind::Structured { kind, .. }, 4) => {
            *kind = pick(
                rng,
                &[NONE, OFFSET_DATA, OFFSET_HOLE, 3, BLOCK_STATUS, 6, 7, ERROR, ERROR_OFFSET, 0x8099],
            );
        }
        (ChunkKind::Structured { claimed: length_field, .. }, _) => {
            *length_field = Some(claimed(rng, length))
        }
        (ChunkKind::Simple { errno }, _) => *errno = pick(rng, &WORDS),
    }
}

/// A chunk that was not due: an error of any shape, an empty one, a status, a simple reply.
fn extra(rng: &mut Rng, session: &Session, operation: usize) -> Chunk {
    let flags = if rng.below(2) == 0 { DONE } else { 0 };
    match rng.below(6) {
        0 => Chunk::simple(operation, pick(rng, &WORDS), Vec::new()),
        1 => Chunk::structured(operation, flags, NONE, Vec::new()),
        2 => {
            let (_, id) = session.granted.first().copied().unwrap_or((0, 0));
            let words = [id, 4096, pick(rng, &WORDS)].map(u32::to_be_bytes).concat();
            Chunk::structured(operation, flags, BLOCK_STATUS, words)
        }
        shape => {
            let errno = pick(rng, &[0, 5, 22, 108, 9999]);
            let text = b"broken".to_vec();
            let stated = pick(rng, &[0, 6, 6, 7, 40, 0xffff]);
            let mut payload = [&u32::to_be_bytes(errno)[..], &u16::to_be_bytes(stated)].concat();
            payload.extend(text);
            let kind = if shape == 3 { ERROR_OFFSET } else { ERROR };
            if shape == 3 {
                payload.extend(pick(rng, &SIZES).to_be_bytes());
            }
            if rng.below(3) == 0 {
                payload.truncate(index(rng, payload.len()));
            }
            Chunk::structured(operation, flags, kind, payload)
        }
    }
}

/// Damages the handshake of a session up to three times.
pub fn handshake(rng: &mut Rng, session: &mut Session) {
    for _ in 0..rng.below(4) {
        if rng.below(10) == 0 {
            flip(rng, &mut session.hello);
            continue;
        }
        let group = index(rng, session.options.len());
        option(rng, &mut session.options[group]);
    }
}

/// Damages the replies to one option.
fn option(rng: &mut Rng, replies: &mut Vec<ScriptedReply>) {
    if replies.is_empty() {
        return;
    }
    let at = index(rng, replies.len());
    let reply = &mut replies[at];
    match rng.below(10) {
        0 => reply.kind = pick(rng, &OPTION_KINDS),
        1 => reply.option ^= 1 << rng.below(4),
        2 => reply.magic ^= 1 << rng.below(64),
        3 => reply.claimed = Some(claimed(rng, reply.payload.len())),
        4..=6 => payload(rng, &mut reply.payload),
        7 => {
            let copy = reply.clone();
            replies.insert(index(rng, replies.len() + 1), copy);
        }
        8 => drop(replies.remove(at)),
        _ => size(rng, reply),
    }
}

/// Another size of the export, where this reply tells it.
fn size(rng: &mut Rng, reply: &mut ScriptedReply) {
    let at = if reply.bare { 0 } else { 2 };
    if reply.payload.len() == at + 10 {
        reply.payload[at..at + 8].copy_from_slice(&pick(rng, &SIZES).to_be_bytes());
    }
}
