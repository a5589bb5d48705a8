//! One scripted session: what both clients ask, and every byte that the server sends.
//!
//! A session is made from a seed alone. It begins as a legal one; `mutate` then damages a few fields
//! in most of them.

use peers::Operation;
use testkit::random::Rng;

use crate::chunk::Chunk;
use crate::handshake::{self, ScriptedReply};
use crate::mutate;
use crate::replies;

pub const DONE: u16 = 1;
pub const OPTION_GO: u32 = 7;
pub const OPTION_EXPORT_NAME: u32 = 1;

/// The server of one session.
#[derive(Clone, Debug)]
pub struct Session {
    /// How many of [`CONTEXTS`](peers::CONTEXTS) the clients ask for.
    pub contexts: usize,
    /// The ids of the contexts granted, with their place in [`CONTEXTS`](peers::CONTEXTS).
    pub granted: Vec<(usize, u32)>,
    pub size: u64,
    pub structured: bool,
    pub operations: Vec<Operation>,
    pub hello: Vec<u8>,
    /// The replies to each option, in the order in which the clients send the options.
    pub options: Vec<Vec<ScriptedReply>>,
    pub chunks: Vec<Chunk>,
    /// Bytes of `chunks` after which the server closes the connection.
    pub cut: Option<usize>,
}

impl Session {
    /// The session of a seed: a third of them damage the handshake, the others the replies.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut session = handshake::session(&mut rng);
        if rng.below(3) == 0 {
            mutate::handshake(&mut rng, &mut session);
            return session;
        }
        replies::add(&mut rng, &mut session);
        for _ in 0..rng.below(3) {
            mutate::replies(&mut rng, &mut session);
        }
        session
    }

    /// True for a session that ends with its handshake.
    pub fn is_handshake(&self) -> bool {
        self.operations.is_empty()
    }

    /// The bytes of the whole handshake, which a session of this kind sends at once.
    pub fn handshake_bytes(&self) -> Vec<u8> {
        let replies = self.options.iter().flatten().flat_map(ScriptedReply::bytes);
        self.hello.iter().copied().chain(replies).collect()
    }

    /// The bytes of all replies, to requests with these cookies.
    pub fn reply_bytes(&self, cookies: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.chunks.iter().flat_map(|chunk| chunk.bytes(cookies)).collect();
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes
    }
}
