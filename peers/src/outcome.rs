//! The account that a client gives of a session, in words that fit both clients.

use std::collections::BTreeMap;

/// The export as a client sees it after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenExport {
    pub size: u64,
    /// READ_ONLY, and whether FLUSH, WRITE_ZEROES and TRIM are offered.
    pub flags: [bool; 4],
    /// The minimum block size, 0 where none was announced.
    pub min_block: u32,
    /// Which of `session::CONTEXTS` were granted.
    pub contexts: [bool; 2],
}

impl SeenExport {
    /// The fields in which libnbd's account of the export differs from ours, in words.
    pub fn differences(&self, libnbd: &Self) -> String {
        let ignored = self.min_block == 0 || libnbd.min_block == 0;
        let sizes = if ignored { "block sizes that one of them ignores" } else { "other block sizes" };
        // without HAS_FLAGS we take none of the flags
        let flags = if self.flags == [false; 4] { "flags without HAS_FLAGS" } else { "other flags" };
        let fields = [
            ("another size", self.size != libnbd.size),
            (flags, self.flags != libnbd.flags),
            (sizes, self.min_block != libnbd.min_block),
            ("other contexts", self.contexts != libnbd.contexts),
        ];
        fields.into_iter().filter(|field| field.1).map(|field| field.0).collect::<Vec<_>>().join(", ")
    }
}

/// The content of a reply that a client accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Every list that came, by context: (length, flags) after (length, flags).
    pub lists: BTreeMap<usize, Vec<Vec<u32>>>,
    /// FNV-1a of the data of a read.
    pub hash: Option<u64>,
}

/// The end of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Done(Accepted),
    /// The request failed, the connection did not.
    Failed(String),
    /// The connection ended first.
    Lost,
}

/// The account of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The export agreed on, or the reason of the refusal.
    pub export: Result<SeenExport, String>,
    pub operations: Vec<Ending>,
    /// Why the connection ended before all operations were over.
    pub died: Option<String>,
}

impl Account {
    pub const fn refused(reason: String) -> Self {
        Self { export: Err(reason), operations: Vec::new(), died: None }
    }

    /// How many replies the client accepted.
    pub fn accepted(&self) -> usize {
        self.operations.iter().filter(|outcome| matches!(outcome, Ending::Done(_))).count()
    }
}

/// A message without its numbers, so that one row of the table fits all of its kind.
pub fn without_numbers(message: &str) -> String {
    let mut out = String::new();
    let mut digits = false;
    for symbol in message.chars() {
        if !symbol.is_ascii_digit() {
            out.push(symbol);
        } else if !digits {
            out.push('N');
        }
        digits = symbol.is_ascii_digit();
    }
    out
}

pub fn fnv(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
