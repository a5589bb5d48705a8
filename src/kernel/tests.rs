//! The blocks of the kernel against a merge of one segment after the other, and the shapes that it
//! must read in one block. A block that is given up is no fault that a reader sees, since the scalar
//! merge takes over; here it is one.

use super::{Block, Consumed, NextBlock, Progress, Questions, Segment, Side, Wire, merge, sides_of};
use crate::extent::MAX_END;
use crate::wire::{Pair64, RawList};
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// One side of a merge, which is read block by block.
#[derive(Clone, Debug)]
struct Reader {
    list: Vec<Pair64>,
    /// The number of descriptors consumed, and the end and the flags of the last of them.
    count: usize,
    end: u64,
    flags: u64,
}

impl Reader {
    fn new(list: &[Pair64], start: u64) -> Self {
        Self { list: list.to_vec(), count: 0, end: start, flags: 0 }
    }

    /// A side that stands in a descriptor, which ends at `end`.
    fn begun(end: u64, flags: u64, list: &[Pair64]) -> Self {
        Self { list: list.to_vec(), count: 0, end, flags }
    }

    fn side(&self, start: u64) -> Side<'_> {
        let list = RawList::Pair64(&self.list[self.count..]);
        Side { wire: Wire { list, goes_on: false, position: self.end, flags: self.flags }, start }
    }

    /// The descriptors to come, with their ends: the rest of the one that was begun first.
    fn extents(&self, start: u64) -> Vec<(u64, u64)> {
        let begun = (self.end > start).then_some((self.end, self.flags));
        let following = self.list[self.count..].iter().scan(self.end, |end, &(length, flags)| {
            *end += length;
            Some((*end, flags))
        });
        begun.into_iter().chain(following).collect()
    }

    /// The descriptors that a merge up to `position` has consumed.
    fn consumed(&self, position: u64) -> Consumed {
        let (mut consumed, mut start) = (Consumed { count: 0, end: self.end, flags: self.flags }, self.end);
        for &(length, flags) in &self.list[self.count..] {
            if start >= position {
                break;
            }
            start += length;
            consumed = Consumed { count: consumed.count + 1, end: start, flags };
        }
        consumed
    }

    fn skip(&mut self, consumed: Consumed) {
        self.count += consumed.count;
        (self.end, self.flags) = (consumed.end, consumed.flags);
    }
}

/// A merge that is read in blocks.
#[derive(Clone, Debug)]
struct Merge {
    left: Reader,
    right: Reader,
    position: u64,
}

impl Merge {
    fn new(left: &[Pair64], right: &[Pair64], start: u64) -> Self {
        Self { left: Reader::new(left, start), right: Reader::new(right, start), position: start }
    }

    fn next(&mut self, block: &mut Block, until: u64) -> Result<Progress, NextBlock> {
        let (left, right) = (self.left.side(self.position), self.right.side(self.position));
        let progress = merge(&left, &right, block, until)?;
        self.position = progress.position;
        self.left.skip(progress.left);
        self.right.skip(progress.right);
        Ok(progress)
    }

    /// The descriptors of both lists that the next block consumes; panics if there is no block.
    fn counts(&mut self, block: &mut Block) -> (usize, usize) {
        let progress = self.next(block, u64::MAX).unwrap();
        (progress.left.count, progress.right.count)
    }

    /// The segments up to `until`, the slow way.
    fn model(&self, until: u64) -> Vec<Segment> {
        let (left, right) = (self.left.extents(self.position), self.right.extents(self.position));
        let flags_at =
            |side: &[(u64, u64)], at| side.iter().find(|&&(end, _)| end > at).map_or(0, |side| side.1);
        let mut ends: Vec<u64> = left.iter().chain(&right).map(|&(end, _)| end).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut start = self.position;
        let ends = ends.into_iter().filter(|&end| end <= until);
        ends.map(|end| {
            let code = flags_at(&left, start) << 3 | flags_at(&right, start);
            Segment { start: core::mem::replace(&mut start, end), end, code }
        })
        .collect()
    }

    /// Whether both sides have something to merge.
    fn is_open(&self) -> bool {
        let open = |side: &Reader| side.end > self.position || side.count < side.list.len();
        open(&self.left) && open(&self.right)
    }
}

/// Reads all blocks of every segment, and compares each with the model.
fn check(mut merge: Merge) {
    let mut block = Block::new();
    while merge.is_open() {
        let before = merge.clone();
        let progress = merge.next(&mut block, u64::MAX).unwrap();
        assert!(progress.position > before.position);
        assert_eq!(block.end(), progress.position);
        let expected = before.model(progress.position);
        assert_eq!(expected.last().unwrap().end, progress.position, "a block ends at a cut");
        assert!(block.segments::<true>(block.all()).eq(expected.iter().copied()));
        assert!(block.segments::<false>(block.all()).eq(expected));
        assert_eq!(progress.left, before.left.consumed(progress.position));
        assert_eq!(progress.right, before.right.consumed(progress.position));
    }
    let end = merge.next(&mut block, u64::MAX).unwrap_err();
    assert_eq!(end, NextBlock::Scalar, "one side is at its end");
}

fn even(count: usize, length: u64) -> Vec<Pair64> {
    (0..count as u64).map(|nth| (length, nth * 5 % 8)).collect()
}

/// Lengths of which no two neighbours of two such lists with other seeds share many cuts.
fn uneven(count: usize, seed: u64) -> Vec<Pair64> {
    (0..count as u64).map(|nth| (1 + (nth * nth * 7 + nth * seed) % 13 * 3 + seed, nth % 8)).collect()
}

fn runs() -> impl Strategy<Value = Vec<Pair64>> {
    let lengths = prop_oneof![3 => 1_u64..64, 2 => Just(8), 1 => 500_u64..5000, 1 => Just(1 << 45)];
    let run = (lengths, 1_usize..160, any::<bool>(), 0_u64..8).prop_map(|(length, count, is_even, flags)| {
        let vary = |nth: u64| if is_even { length } else { 1 + (length + nth * 11) % 70 };
        (0..count as u64).map(|nth| (vary(nth), (flags + nth / 3) % 8)).collect::<Vec<_>>()
    });
    // Of the long ones few, so that all of a list stays below MAX_END.
    prop::collection::vec(run, 1..8).prop_map(|runs| {
        let mut long = 0;
        let mut list = runs.concat();
        list.retain(|&(length, _)| {
            long += usize::from(length > 5000);
            length <= 5000 || long <= 3
        });
        list
    })
}

proptest! {
    #[test]
    fn blocks_are_the_merge(left in runs(), right in runs(), rest in 1_u64..2000, start in 0_u64..1000) {
        check(Merge::new(&left, &right, start));
        let begun = Merge {
            left: Reader::begun(start + rest, rest % 8, &left),
            right: Reader::new(&right, start),
            position: start,
        };
        check(Merge { left: begun.right.clone(), right: begun.left.clone(), ..begun });
        check(begun);
    }
}

/// The descriptors that the blocks consume, one block after the other.
#[test]
fn every_shape_is_read_as_far_as_a_block_takes_it() {
    let blocks = |mut merge: Merge| {
        check(merge.clone());
        let (mut block, mut counts) = (Block::new(), Vec::new());
        while merge.is_open() {
            counts.push(merge.counts(&mut block));
        }
        counts
    };
    let ties = |count: usize| blocks(Merge::new(&even(count, 8), &even(count, 8), 4096));
    assert_eq!(ties(15), [(15, 15)], "too short for a run");
    assert_eq!(ties(16), [(16, 16)]);
    assert_eq!(ties(33), [(32, 32), (1, 1)]);
    assert_eq!(ties(128 + 16 + 5), [(144, 144), (5, 5)]);
    assert_eq!(ties(512 + 128), [(512, 512), (128, 128)]);
    assert_eq!(ties(1024 + 600), [(512, 512), (512, 512), (512, 512), (80, 80), (8, 8)]);

    let within = |count: usize| blocks(Merge::new(&even(count, 8), &[(1 << 40, 3)], 0));
    assert_eq!(within(63)[..1], [(63, 1)]);
    assert_eq!(within(64)[..1], [(64, 1)]);
    assert_eq!(within(130)[..2], [(128, 1), (2, 0)]);
    assert_eq!(within(1100)[..2], [(1008, 1), (80, 0)]);
    let flipped = blocks(Merge::new(&[(1 << 40, 3)], &even(1100, 8), 0));
    assert_eq!(flipped[..2], [(1, 1008), (0, 80)]);
    // The extent of the coarser side ends at a cut of the finer one, and in a descriptor.
    let coarser = |length| blocks(Merge::new(&even(300, 8), &[(length, 3), (1 << 40, 1)], 0));
    assert_eq!(coarser(8 * 100)[..2], [(100, 1), (192, 1)]);
    assert_eq!(coarser(8 * 100 - 1)[..2], [(100, 1), (192, 1)]);
    assert_eq!(coarser(8 * 100 + 1)[..2], [(101, 1), (192, 1)]);
    assert_eq!(coarser(8 * 64 + 1)[..1], [(65, 1)], "longer than the probe");
    assert_eq!(coarser(8 * 64)[..1], [(256, 2)], "no longer than the probe");

    // Of a mixture the first block is short, and the following ones are full.
    let mixed = blocks(Merge::new(&uneven(3000, 1), &uneven(3000, 2), 0));
    assert!(mixed.iter().zip([256, 511, 511, 511]).all(|(&(a, b), width)| a.max(b) == width), "{mixed:?}");
    // After a run it is short: another run may follow.
    let after = [even(16, 8), uneven(600, 1)].concat();
    let other = [even(16, 8), uneven(600, 2)].concat();
    let counts: Vec<usize> = blocks(Merge::new(&after, &other, 0)).iter().map(|&(a, b)| a.max(b)).collect();
    assert_eq!(counts[..5], [16, 16, 32, 64, 128]);
}

/// Up to the highest byte, and not beyond it.
#[test]
fn blocks_end_at_the_highest_byte_at_last() {
    let shapes: [(Vec<Pair64>, Vec<Pair64>); 4] = [
        (even(32, 8), even(32, 8)),
        (even(128, 2), vec![(256, 5)]),
        (vec![(256, 5)], even(128, 2)),
        ([even(20, 8), even(12, 8)].concat(), [vec![(3, 1), (5, 2)], even(31, 8)].concat()),
    ];
    for (left, right) in shapes {
        check(Merge::new(&left, &right, MAX_END - 256));
        let start = MAX_END - 255;
        let mut merge = Merge::new(&left, &right, start);
        let mut block = Block::new();
        while merge.next(&mut block, u64::MAX).is_ok() {
            assert!(merge.position <= MAX_END);
        }
        assert!(merge.is_open(), "the last descriptor is left to the scalar merge");
    }
}

/// Sides that are not one merge, and numbers that do not fit a key, each beside the highest that do.
#[test]
fn odd_numbers_stop_the_kernel_and_the_highest_do_not() {
    let longest = (1 << 46) - 1;
    let (list, other) = (even(10, 8), even(10, 7));
    let refused = |one: Reader, other: Reader| {
        let position = 4096;
        let mut merge = Merge { left: one.clone(), right: other.clone(), position };
        let mut flipped = Merge { left: other, right: one, position };
        let outcome = merge.next(&mut Block::new(), u64::MAX).map(|_| ());
        assert_eq!(flipped.next(&mut Block::new(), u64::MAX).map(|_| ()), outcome);
        outcome.is_err()
    };
    let fresh = |list: &[Pair64]| Reader::new(list, 4096);
    let begun = |rest: u64, flags| Reader::begun(4096 + rest, flags, &list);
    assert!(!refused(begun(longest, 7), fresh(&other)));
    assert!(refused(begun(longest + 1, 7), fresh(&other)));
    assert!(refused(begun(100, 8), fresh(&other)));
    assert!(!refused(fresh(&[(longest, 7)]), fresh(&other)));
    assert!(refused(fresh(&[(longest + 1, 7)]), fresh(&other)));
    assert!(refused(fresh(&[(100, 8)]), fresh(&other)));
    assert!(refused(fresh(&[(0, 1), (100, 1)]), fresh(&other)));
    assert!(refused(Reader { end: 4095, ..fresh(&list) }, fresh(&other)), "a list that starts before");
    // The same within one extent of the other side, which is another way through the kernel.
    let long = even(100, 8);
    let coarse = |length, flags| Reader::new(&[(length, flags)], 4096);
    assert!(!refused(coarse(1 << 20, 7), fresh(&long)));
    assert!(refused(coarse(1 << 20, 8), fresh(&long)));
    assert!(refused(Reader::begun(4096 + (1 << 20), 8, &list), fresh(&long)));
    assert!(!refused(Reader::begun(4101, 7, &long), coarse(1 << 20, 1)));
    assert!(refused(Reader::begun(4101, 8, &long), coarse(1 << 20, 1)));
    assert!(refused(coarse(MAX_END - 4095, 1), fresh(&long)), "it ends beyond the highest byte");
    assert!(refused(coarse(u64::MAX, 1), fresh(&long)));
    let mut block = Block::new();
    let sides = (fresh(&list), fresh(&list));
    let (left, right) = (sides.0.side(4096), sides.1.side(4095));
    assert_eq!(merge(&left, &right, &mut block, u64::MAX), Err(NextBlock::Scalar), "not at one byte");
    let compact = Side { wire: Wire { list: RawList::Compact(&[[1; 8]; 20]), ..left.wire }, ..left };
    assert_eq!(merge(&left, &compact, &mut block, u64::MAX), Err(NextBlock::Scalar), "two forms");
}

/// Lists in every form are read in blocks.
#[test]
fn every_form_of_descriptors_has_blocks() {
    let lists = [
        RawList::Compact(&[[0, 0, 0, 8, 0, 0, 0, 1]; 32]),
        RawList::Extended(&[[0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]; 32]),
        RawList::Pair32(&[[8, 1]; 32]),
        RawList::Pair64(&[(8, 1); 32]),
    ];
    for list in lists {
        let side = Side { wire: Wire { list, goes_on: false, position: 0, flags: 0 }, start: 0 };
        let progress = merge(&side, &side, &mut Block::new(), u64::MAX).unwrap();
        assert_eq!((progress.position, progress.left.count, progress.right.count), (256, 32, 32));
    }
}

/// A block that ends beyond the byte up to which it may is left to the scalar merge.
#[test]
fn blocks_end_where_the_caller_says() {
    for (left, right, end) in [
        (even(32, 8), even(32, 8), 256),
        (even(64, 8), vec![(1 << 30, 1)], 512),
        (uneven(40, 1), even(5, 8), 40),
    ] {
        let next = |until, held| {
            let mut block = Block::new();
            block.hold_until(held);
            Merge::new(&left, &right, 0).next(&mut block, until).map(|progress| progress.position)
        };
        assert_eq!(next(end, u64::MAX), Ok(end));
        assert_eq!(next(u64::MAX, end), Ok(end));
        assert_eq!(next(end - 1, u64::MAX), Err(NextBlock::Scalar));
        assert_eq!(next(u64::MAX, end - 1), Err(NextBlock::Scalar));
    }
}

/// The reader is asked about each flag once, until the statuses of the codes change.
#[test]
fn a_reader_is_asked_once_about_each_flag() {
    let questions = Questions { wants: &|_| true, joins: &|a, b| a == b };
    let list: Vec<Pair64> = [vec![(8, 1); 128], vec![(8, 2); 128], vec![(8, 3); 128]].concat();
    let other = vec![(8, 4); 384];
    let mut block = Block::keeping();
    let mut merge = Merge::new(&list[..128], &other, 0);
    assert_eq!(merge.next(&mut block, u64::MAX), Err(NextBlock::NewFlags));
    block.answer(&questions);
    let kept =
        |block: &Block| block.segments::<true>(block.all()).map(|it| (it.start, it.end)).collect::<Vec<_>>();
    assert!(merge.next(&mut block, u64::MAX).is_ok());
    assert_eq!(kept(&block), [(0, 1024)], "one segment of equal neighbours");
    let again = |block: &mut Block, list: &[Pair64]| Merge::new(list, &other, 0).next(block, u64::MAX);
    assert!(again(&mut block, &list[..128]).is_ok());
    assert_eq!(again(&mut block, &list[128..256]), Err(NextBlock::NewFlags));
    block.answer(&questions);
    assert!(again(&mut block, &list).is_ok(), "3 is made of flags that were asked about");
    assert_eq!(kept(&block), [(0, 1024), (1024, 2048), (2048, 3072)]);
    block.hold_until(u64::MAX);
    assert!(again(&mut block, &list).is_ok(), "the statuses are the same as before");
    block.hold_until(1 << 20);
    assert_eq!(again(&mut block, &list), Err(NextBlock::NewFlags));
    block.answer(&questions);
    assert!(again(&mut block, &list).is_ok());
    assert_eq!(kept(&block).len(), 3);
    // A reader of every segment is asked nothing, and its answers change nothing.
    let mut every = Block::new();
    every.answer(&questions);
    every.hold_until(1 << 20);
    assert!(again(&mut every, &list).is_ok());
    assert_eq!(every.segments::<true>(every.all()).count(), 384);
}

/// Descriptors within an extent that the reader rejects are consumed to its end and yield nothing.
#[test]
fn rejected_extents_are_passed_over() {
    // Wanted: whatever the right side says is dirty (bit 0).
    let questions = Questions { wants: &|code| sides_of(code).1 & 1 == 1, joins: &|_, _| true };
    let finer = even(4000, 8);
    let next = |left: Reader, right: Reader| {
        let mut merge = Merge { left, right, position: 0 };
        let mut block = Block::keeping();
        assert_eq!(merge.next(&mut block, u64::MAX), Err(NextBlock::NewFlags));
        block.answer(&questions);
        let first = merge.next(&mut block, u64::MAX).unwrap();
        (first.left.count, first.right.count, first.position, block.segments::<true>(block.all()).count())
    };
    let fine = || Reader::new(&finer, 0);
    // Of the whole list no flag is new once 7 was seen; a first block of 64 sees all of them.
    let clean = |end| next(fine(), Reader::new(&[(end, 2), (1 << 40, 1)], 0));
    assert_eq!(clean(8 * 3000), (3000, 1, 8 * 3000, 0));
    assert_eq!(clean(8 * 3000 - 1), (3000, 1, 8 * 3000 - 1, 0));
    assert_eq!(clean(8 * 3000 + 1), (3001, 1, 8 * 3000 + 1, 0));
    assert_eq!(clean(8 * 70), (70, 1, 8 * 70, 0));
    assert_eq!(clean(1 << 30), (4000, 1, 8 * 4000, 0));
    let begun = next(Reader::begun(5, 6, &finer), Reader::new(&[(8 * 100, 2), (1 << 40, 1)], 0));
    assert_eq!(begun, (100, 1, 800, 0));
    let dirty = next(fine(), Reader::new(&[(8 * 100, 1), (1 << 40, 2)], 0));
    assert_eq!(dirty, (100, 1, 800, 1));
    // The finer side decides, so that nothing can be passed over.
    let decided = next(Reader::new(&[(8 * 100, 2), (1 << 40, 1)], 0), Reader::new(&vec![(8, 1); 200], 0));
    assert_eq!(decided, (1, 100, 800, 1));
}

/// Within an extent that is rejected for some flags, a descriptor with others is not passed over.
#[test]
fn a_wanted_descriptor_ends_a_rejected_run() {
    // Wanted: both flags of the finer side.
    let questions = Questions { wants: &|code| sides_of(code).0 == 3, joins: &|_, _| true };
    let finer = [vec![(8, 1); 128], vec![(8, 3); 128], vec![(8, 1); 44]].concat();
    let mut merge = Merge::new(&finer, &[(8 * 300, 0)], 0);
    let (mut block, mut kept) = (Block::keeping(), Vec::new());
    while merge.is_open() {
        match merge.next(&mut block, u64::MAX) {
            Ok(_) => kept.extend(block.segments::<true>(block.all()).filter(|it| sides_of(it.code).0 == 3)),
            Err(NextBlock::NewFlags) => block.answer(&questions),
            Err(other) => panic!("{other:?}"),
        }
    }
    let ends = (kept.first().map(|it| it.start), kept.last().map(|it| it.end));
    assert_eq!(ends, (Some(8 * 128), Some(8 * 256)));
}

/// The flags of a block are those of its descriptors, however often they occur, and not those of a
/// descriptor that ended before it.
#[test]
fn a_reader_is_asked_about_the_flags_that_occur() {
    let questions = Questions { wants: &|_| true, joins: &|a, b| a == b };
    let other = [(8, 4), (8, 6)].repeat(128);
    let within: &[Pair64] = &[(1 << 30, 4)];
    for right in [&other[..], within] {
        for begun in [false, true] {
            let list = [(8, 1), (8, 5)].repeat(128);
            let left =
                if begun { Reader::begun(8, 2, &list) } else { Reader { flags: 2, ..Reader::new(&list, 0) } };
            let mut merge = Merge { left, right: Reader::new(right, 0), position: 0 };
            let mut block = Block::keeping();
            assert_eq!(merge.clone().next(&mut block, u64::MAX), Err(NextBlock::NewFlags));
            block.answer(&questions);
            assert!(merge.next(&mut block, u64::MAX).is_ok());
            assert!(block.segments::<true>(block.all()).count() > 100, "neighbours differ");
            // The flag 2 was seen if a descriptor with it was under way, and only then.
            let asked = Merge::new(&[(8, 2); 256], right, 0).next(&mut block, u64::MAX);
            assert_eq!(asked.is_ok(), begun, "{asked:?}");
        }
    }
}

/// The flags of a descriptor that has ended play no part.
#[test]
fn odd_flags_of_a_descriptor_that_has_ended_do_no_harm() {
    let left = Reader { flags: 9, ..Reader::new(&even(100, 8), 0) };
    let mut merge = Merge { left, right: Reader::new(&[(1 << 30, 1)], 0), position: 0 };
    assert_eq!(merge.counts(&mut Block::new()), (96, 1));
}
