//! A legal handshake: the server of a session, as it greets and what it grants.

use testkit::random::Rng;

use crate::session::{OPTION_EXPORT_NAME, OPTION_GO, Session};
use peers::CONTEXTS;

const HELLO: u64 = 0x4e42_444d_4147_4943;
const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;

pub const OPTION_STRUCTURED_REPLY: u32 = 8;
pub const OPTION_SET_META_CONTEXT: u32 = 10;

const INFO_EXPORT: u16 = 0;
const INFO_DESCRIPTION: u16 = 2;
const INFO_BLOCK_SIZE: u16 = 3;

pub const REP_ACK: u32 = 1;
pub const REP_INFO: u32 = 3;
pub const REP_META_CONTEXT: u32 = 4;
pub const REP_ERR_UNSUP: u32 = 0x8000_0001;

/// A reply to an option, right or wrong.
#[derive(Clone, Debug)]
pub struct ScriptedReply {
    pub magic: u64,
    pub option: u32,
    pub kind: u32,
    /// The length in the header where it is not that of the payload.
    pub claimed: Option<u32>,
    pub payload: Vec<u8>,
    /// Without a header: the answer to EXPORT_NAME.
    pub bare: bool,
}

impl ScriptedReply {
    pub fn new(option: u32, kind: u32, payload: Vec<u8>) -> Self {
        Self { magic: OPTION_REPLY, option, kind, claimed: None, payload, bare: false }
    }

    pub fn bytes(&self) -> Vec<u8> {
        if self.bare {
            return self.payload.clone();
        }
        let length = self.claimed.unwrap_or(u32::try_from(self.payload.len()).unwrap());
        let magic = self.magic.to_be_bytes();
        let words = [self.option, self.kind, length].map(u32::to_be_bytes).concat();
        [&magic[..], &words, &self.payload].concat()
    }
}

/// A session whose handshake is legal, without any operation yet.
pub fn session(rng: &mut Rng) -> Session {
    let mut session = Session {
        contexts: usize::try_from(1 + rng.below(2)).unwrap(),
        granted: Vec::new(),
        size: (1 + rng.below(64)) << (16 + rng.below(8)),
        structured: rng.below(8) != 0,
        operations: Vec::new(),
        hello: [HELLO, IHAVEOPT].map(u64::to_be_bytes).concat(),
        options: Vec::new(),
        chunks: Vec::new(),
        cut: None,
    };
    session.hello.extend(3_u16.to_be_bytes());
    let number = OPTION_STRUCTURED_REPLY;
    if session.structured {
        session.options.push(vec![ScriptedReply::new(number, REP_ACK, Vec::new())]);
        grant(rng, &mut session);
    } else {
        session.options.push(vec![ScriptedReply::new(number, REP_ERR_UNSUP, b"no".to_vec())]);
    }
    describe(rng, &mut session);
    session
}

/// The answer to SET_META_CONTEXT: some of the contexts, in any order, with any ids.
fn grant(rng: &mut Rng, session: &mut Session) {
    let number = OPTION_SET_META_CONTEXT;
    let mut replies = Vec::new();
    let first = usize::try_from(rng.below(2)).unwrap();
    for turn in 0..session.contexts {
        let context = (first + turn) % session.contexts;
        // without the first, no context at all: `replies` adds a survey of the first wherever it can
        if context > 0 && rng.below(6) == 0 {
            continue;
        }
        // unique by its lowest bit, otherwise anything
        let id = (u32::try_from(rng.next() >> 32).unwrap() & !1) | u32::from(context == 1);
        session.granted.push((context, id));
        let payload = [&id.to_be_bytes()[..], CONTEXTS[context].as_bytes()].concat();
        replies.push(ScriptedReply::new(number, REP_META_CONTEXT, payload));
    }
    replies.push(ScriptedReply::new(number, REP_ACK, Vec::new()));
    session.options.push(replies);
}

/// The answer to GO, or its refusal and the answer to EXPORT_NAME.
fn describe(rng: &mut Rng, session: &mut Session) {
    // HAS_FLAGS, READ_ONLY, SEND_FLUSH; then any of those that change no request of ours
    let flags = 1 | 2 | 4 | (u16::try_from(rng.below(1 << 6)).unwrap() << 4);
    let export = [&session.size.to_be_bytes()[..], &flags.to_be_bytes()].concat();
    if rng.below(8) == 0 {
        session.options.push(vec![ScriptedReply::new(OPTION_GO, REP_ERR_UNSUP, Vec::new())]);
        // both clients have agreed to leave the 124 zeroes out
        let answer = ScriptedReply { bare: true, ..ScriptedReply::new(OPTION_EXPORT_NAME, REP_ACK, export) };
        session.options.push(vec![answer]);
        return;
    }
    let info = |kind: u16, content: &[u8]| {
        ScriptedReply::new(OPTION_GO, REP_INFO, [&kind.to_be_bytes(), content].concat())
    };
    let mut replies = vec![info(INFO_EXPORT, &export)];
    if rng.below(2) == 0 {
        let minimum = 1_u32 << rng.below(10);
        let sizes = [minimum, 4096, 1 << 25].map(u32::to_be_bytes).concat();
        replies.push(info(INFO_BLOCK_SIZE, &sizes));
    }
    if rng.below(4) == 0 {
        replies.push(info(INFO_DESCRIPTION, b"a disk"));
    }
    if rng.below(2) == 0 {
        replies.reverse();
    }
    replies.push(ScriptedReply::new(OPTION_GO, REP_ACK, Vec::new()));
    session.options.push(replies);
}
