//! The truth about a small disk, block by block, and how an answer is held against it.

use core::ops::Range;

/// The truth about one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockTruth {
    CleanData,
    CleanZero,
    DirtyData,
    DirtyZero,
    /// HOLE without ZERO: the protocol leaves the content open, so it must be read.
    DirtyHole,
}

impl BlockTruth {
    /// The flags of `base:allocation`.
    pub fn allocation(self) -> u32 {
        match self {
            Self::CleanData | Self::DirtyData => 0,
            Self::CleanZero | Self::DirtyZero => 3,
            Self::DirtyHole => 1,
        }
    }

    pub fn is_dirty(self) -> bool {
        matches!(self, Self::DirtyData | Self::DirtyZero | Self::DirtyHole)
    }

    /// The byte that all of the block consists of.
    pub fn byte(self) -> u8 {
        match self {
            Self::CleanData => 0x11,
            Self::DirtyData => 0x22,
            Self::DirtyHole => 0xee,
            Self::CleanZero | Self::DirtyZero => 0,
        }
    }
}

/// The treatment of a range in an incremental backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    Copy,
    Zero,
    Skip,
}

/// A disk of equal blocks.
#[derive(Clone, Debug)]
pub struct KnownDisk {
    pub block: u64,
    pub blocks: Vec<BlockTruth>,
}

impl KnownDisk {
    /// 32 MiB in which every kind of block but [`BlockTruth::DirtyHole`] meets every other, cut
    /// differently in both contexts, and whose last dirty block is near the end.
    pub fn usual() -> Self {
        let blocks = (0..512_usize)
            .map(|index| match (index / 3 % 5 < 2 || index == 505, index / 4 % 3 == 1) {
                (false, false) => BlockTruth::CleanData,
                (false, true) => BlockTruth::CleanZero,
                (true, false) => BlockTruth::DirtyData,
                (true, true) => BlockTruth::DirtyZero,
            })
            .collect();
        Self { block: 64 << 10, blocks }
    }

    /// The same disk without a dirty zero: data take their place.
    pub fn without_dirty_zeroes() -> Self {
        Self::usual().replacing(BlockTruth::DirtyZero, BlockTruth::DirtyData)
    }

    pub fn replacing(mut self, from: BlockTruth, to: BlockTruth) -> Self {
        self.blocks.iter_mut().filter(|block| **block == from).for_each(|block| *block = to);
        self
    }

    pub fn size(&self) -> u64 {
        self.block * self.blocks.len() as u64
    }

    /// The blocks that a range touches, each with the part of it that lies in the range.
    pub fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, BlockTruth)> + '_ {
        let first = range.start / self.block;
        let last = range.end.div_ceil(self.block).min(self.blocks.len() as u64);
        (first..last).map(move |index| {
            let whole = index * self.block..(index + 1) * self.block;
            let block = self.blocks[usize::try_from(index).unwrap()];
            (whole.start.max(range.start)..whole.end.min(range.end), block)
        })
    }

    /// The bytes that a range reads as.
    pub fn data(&self, range: Range<u64>) -> Vec<u8> {
        let parts = self.parts(range);
        parts.flat_map(|(part, block)| vec![block.byte(); (part.end - part.start) as usize]).collect()
    }

    /// Bytes that an incremental backup by `actions` would lose: dirty ones that are skipped or left
    /// out, and dirty ones that would be zeroed although they may not read as zeroes.
    pub fn lost(&self, actions: &[(Range<u64>, Treatment)]) -> u64 {
        let dirty = self.parts(0..self.size()).filter(|(_, block)| block.is_dirty());
        dirty
            .map(|(part, block)| {
                let kept = actions.iter().filter(|(_, action)| match action {
                    Treatment::Copy => true,
                    Treatment::Zero => block == BlockTruth::DirtyZero,
                    Treatment::Skip => false,
                });
                let kept = kept
                    .map(|(range, _)| range.end.min(part.end).saturating_sub(range.start.max(part.start)));
                part.end - part.start - kept.sum::<u64>().min(part.end - part.start)
            })
            .sum()
    }
}
