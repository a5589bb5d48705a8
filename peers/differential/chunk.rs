//! A reply's bytes with a place for the cookie: each client has cookies of its own.

const STRUCTURED_REPLY: u32 = 0x668e_33ef;
const SIMPLE_REPLY: u32 = 0x6744_6698;

/// One structured chunk, or one simple reply, right or wrong.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The operation that it answers.
    pub operation: usize,
    /// Added to the cookie of that operation.
    pub cookie_delta: u64,
    pub magic: u32,
    pub kind: ChunkKind,
    pub payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub enum ChunkKind {
    /// `claimed` is the length in the header where it is not that of the payload.
    Structured {
        flags: u16,
        kind: u16,
        claimed: Option<u32>,
    },
    Simple {
        errno: u32,
    },
}

impl Chunk {
    pub fn structured(operation: usize, flags: u16, kind: u16, payload: Vec<u8>) -> Self {
        let kind = ChunkKind::Structured { flags, kind, claimed: None };
        Self { operation, cookie_delta: 0, magic: STRUCTURED_REPLY, kind, payload }
    }

    pub fn simple(operation: usize, errno: u32, payload: Vec<u8>) -> Self {
        let kind = ChunkKind::Simple { errno };
        Self { operation, cookie_delta: 0, magic: SIMPLE_REPLY, kind, payload }
    }

    pub fn bytes(&self, cookies: &[u64]) -> Vec<u8> {
        let cookie = cookies[self.operation].wrapping_add(self.cookie_delta).to_be_bytes();
        let magic = self.magic.to_be_bytes();
        let header = match self.kind {
            ChunkKind::Simple { errno } => [&magic[..], &errno.to_be_bytes(), &cookie].concat(),
            ChunkKind::Structured { flags, kind, claimed } => {
                let length = claimed.unwrap_or(u32::try_from(self.payload.len()).unwrap());
                let (flags, kind) = (flags.to_be_bytes(), kind.to_be_bytes());
                [&magic[..], &flags, &kind, &cookie, &length.to_be_bytes()].concat()
            }
        };
        [header, self.payload.clone()].concat()
    }
}
