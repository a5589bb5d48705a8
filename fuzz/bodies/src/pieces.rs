//! The sizes in which a server's bytes arrive: a count, then that number of sizes, used over and
//! over.

use super::bytes::Bytes;

/// The cuts of a stream of bytes.
#[derive(Clone, Debug)]
pub enum Cuts {
    Whole,
    Bytewise,
    Sizes(Vec<usize>),
}

impl Cuts {
    /// Reads a count (modulo 32) and that number of sizes; a size of 0 is 256.
    pub fn read(bytes: &mut Bytes<'_>) -> Self {
        let count = usize::from(bytes.u8() % 32);
        let sizes: Vec<usize> =
            bytes.take(count).iter().map(|&n| if n == 0 { 256 } else { usize::from(n) }).collect();
        if sizes.is_empty() { Self::Whole } else { Self::Sizes(sizes) }
    }

    /// The size of the `nth` piece.
    pub fn size(&self, nth: usize) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Bytewise => 1,
            Self::Sizes(sizes) => sizes[nth % sizes.len()],
        }
    }
}
