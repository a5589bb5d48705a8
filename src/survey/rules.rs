//! The protocol's rules for one context's list of descriptors in a reply, and the lenient treatment
//! of violations.
//!
//! NBD protocol, "Structured reply types", `NBD_REPLY_TYPE_BLOCK_STATUS`, and
//! `NBD_CMD_BLOCK_STATUS`. The row numbers refer to the table of server behaviours in the
//! repository's SERVER-BEHAVIOUR.md.

use alloc::string::{String, ToString};
use core::ops::Range;

use super::error::ReplyFault;
use super::options::SurveyOptions;
use super::stats::Forgiven;
use crate::contexts::{ContextKind, GrantedContext, is_wide};
use crate::wire::Descriptor;

/// The check of one context's list.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) options: &'a SurveyOptions,
    /// The bytes requested.
    pub(super) asked: Range<u64>,
    pub(super) slot: &'a GrantedContext,
    /// Counts the violations that were forgiven.
    pub(super) forgiven: &'a mut Forgiven,
}

/// The usable part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usable {
    /// The number of usable descriptors, from the front.
    pub(super) descriptors: usize,
    /// The end of the bytes that they describe.
    pub(super) end: u64,
}

impl Rules<'_> {
    /// Checks a list. The usable part describes at least one byte, nothing beyond the export, and
    /// no byte twice.
    pub(super) fn check(
        &mut self,
        list: impl ExactSizeIterator<Item = Descriptor> + Clone,
    ) -> Result<Usable, ReplyFault> {
        if self.options.one_extent {
            return self.check_one(list);
        }
        match self.check_usual(list.clone()) {
            Some(usable) => Ok(usable),
            None => self.check_each(list),
        }
    }

    /// Checks a list in one pass, for the usual case: all descriptors start within the request.
    /// `None` if a rule applies.
    fn check_usual(&self, list: impl ExactSizeIterator<Item = Descriptor>) -> Option<Usable> {
        let count = list.len();
        let (mut sum, mut last) = (0_u64, 0);
        let (mut lengths, mut flags) = (0_u64, 0);
        for descriptor in list {
            last = descriptor.length;
            sum = sum.wrapping_add(last);
            // a length of 0 sets the highest bit
            lengths |= last.wrapping_sub(1);
            flags |= descriptor.flags;
        }
        // no descriptor is longer than `longest`; so if `longest * count` fits, the sum has not
        // wrapped
        let longest = lengths.checked_add(1).filter(|_| lengths >> 63 == 0)?;
        longest.checked_mul(count as u64)?;
        let end = self.asked.start.checked_add(sum)?;
        let usual = end - last < self.asked.end && end <= self.options.export.size;
        (usual && !self.is_too_wide(flags)).then_some(Usable { descriptors: count, end })
    }

    /// Checks any list, descriptor by descriptor.
    fn check_each(&mut self, list: impl ExactSizeIterator<Item = Descriptor>) -> Result<Usable, ReplyFault> {
        let (count, asked_end, size) = (list.len(), self.asked.end, self.options.export.size);
        let mut usable = Usable { descriptors: 0, end: self.asked.start };
        for (index, descriptor) in list.enumerate() {
            let start = usable.end;
            // Rows 14 and 15: the descriptor that crosses the end of the request is legal and used;
            // one that starts beyond it is not. nbdkit up to 1.32 always sends one that starts right
            // at the end, so strict lets that pass too.
            if start >= asked_end {
                if start == asked_end && index + 1 == count && descriptor.length > 0 {
                    self.forgiven.extra_descriptors += 1;
                } else {
                    let end = asked_end;
                    let fault = |context| ReplyFault::PastRequest { context, index, start, end };
                    self.forgive(|rows| &mut rows.overlong_lists, fault)?;
                }
                break;
            }
            if descriptor.length == 0 && index > 0 && !self.options.strictness.is_strict() {
                self.forgiven.zero_lengths += 1;
                break;
            }
            let end = self.end_of(index, start, descriptor)?;
            usable = Usable { descriptors: index + 1, end };
            if end > size {
                let fault = |context| ReplyFault::BeyondExport { context, index, end, size };
                self.forgive(|rows| &mut rows.beyond_export, fault)?;
                usable.end = size;
                break;
            }
        }
        Ok(usable)
    }

    /// Row 48: exactly one descriptor, within the request.
    fn check_one(
        &mut self,
        mut list: impl ExactSizeIterator<Item = Descriptor>,
    ) -> Result<Usable, ReplyFault> {
        let count = list.len();
        let first = list.next().unwrap_or(Descriptor { length: 0, flags: 0 });
        let end = self.end_of(0, self.asked.start, first)?;
        if count != 1 || end > self.asked.end {
            let (asked, length) = (self.asked.end - self.asked.start, first.length);
            let fault = |context| ReplyFault::NotOne { context, asked, count, length };
            self.forgive(|rows| &mut rows.not_one, fault)?;
        }
        Ok(Usable { descriptors: 1, end: end.min(self.asked.end) })
    }

    /// Checks one descriptor alone, and returns its end. Rows 1, 2 and 11: it has a length, and an
    /// end; row 21: the contexts of `base:` have flags of 32 bits.
    fn end_of(&mut self, index: usize, start: u64, descriptor: Descriptor) -> Result<u64, ReplyFault> {
        let Descriptor { length, flags } = descriptor;
        let context = || self.slot.name.to_string();
        let end = match start.checked_add(length) {
            _ if length == 0 => return Err(ReplyFault::ZeroLength { context: context(), index }),
            None => return Err(ReplyFault::Overflow { context: context(), index, length }),
            Some(end) => end,
        };
        if self.is_too_wide(flags) {
            let fault = |context| ReplyFault::WideFlags { context, index, flags };
            self.forgive(|rows| &mut rows.wide_flags, fault)?;
        }
        Ok(end)
    }

    fn is_too_wide(&self, flags: u64) -> bool {
        is_wide(flags) && self.slot.kind == ContextKind::Allocation
    }

    /// Counts a violation in its row; strict makes it an error.
    fn forgive(
        &mut self,
        row: impl FnOnce(&mut Forgiven) -> &mut u64,
        fault: impl FnOnce(String) -> ReplyFault,
    ) -> Result<(), ReplyFault> {
        if self.options.strictness.is_strict() {
            return Err(fault(self.slot.name.to_string()));
        }
        *row(self.forgiven) += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::BitmapIndex;
    use crate::survey::{ExportParams, Strictness};
    use crate::wire::{Descriptors, Form};
    use alloc::string::ToString;
    use alloc::vec::Vec;

    const ASKED: Range<u64> = 1000..2000;
    const SIZE: u64 = 3000;

    fn slot() -> GrantedContext {
        GrantedContext { id: 0, name: "base:allocation".into(), kind: ContextKind::Allocation }
    }

    fn options(strictness: Strictness) -> SurveyOptions {
        SurveyOptions::new(ExportParams::new(SIZE, Form::Extended).unwrap()).strictness(strictness)
    }

    fn check(
        strictness: Strictness,
        one_extent: bool,
        list: &[(u64, u64)],
    ) -> Result<(usize, u64, Forgiven), ReplyFault> {
        let options = SurveyOptions { one_extent, ..options(strictness) };
        let mut forgiven = Forgiven::default();
        let mut rules = Rules { options: &options, asked: ASKED, slot: &slot(), forgiven: &mut forgiven };
        let usable = rules.check(Descriptors::new(list))?;
        Ok((usable.descriptors, usable.end, forgiven))
    }

    /// The list is legal: both checks accept it and count nothing.
    #[track_caller]
    fn legal(list: &[(u64, u64)], descriptors: usize, end: u64) {
        for strictness in [Strictness::Lenient, Strictness::Strict] {
            assert_eq!(check(strictness, false, list), Ok((descriptors, end, Forgiven::default())));
        }
    }

    /// The list breaks a rule: strict rejects it, lenient uses a part of it and counts once.
    #[track_caller]
    fn forgivable(one: bool, list: &[(u64, u64)], descriptors: usize, end: u64, row: fn(&Forgiven) -> u64) {
        let (used, usable_end, forgiven) = check(Strictness::Lenient, one, list).unwrap();
        assert_eq!((used, usable_end), (descriptors, end));
        assert_eq!((row(&forgiven), forgiven.total()), (1, 1));
        check(Strictness::Strict, one, list).unwrap_err();
    }

    /// Every list of up to three descriptors with lengths at all edges: the usual check agrees with
    /// the check of each descriptor, and forgives nothing.
    #[test]
    fn what_is_usual_needs_no_rule() {
        let lengths = [0, 1, 499, 500, 999, 1000, 1001, 2000, 2001, 1 << 63, u64::MAX];
        let flags = [3, 1 << 32];
        let all: Vec<_> = lengths.iter().flat_map(|&length| flags.map(|flags| (length, flags))).collect();
        let mut lists: Vec<Vec<(u64, u64)>> = Vec::from([Vec::new()]);
        let mut usual = 0;
        for _ in 0..3 {
            let longer =
                |list: &Vec<_>| all.iter().map(|&next| [&list[..], &[next]].concat()).collect::<Vec<_>>();
            lists = lists.iter().flat_map(longer).collect();
            for list in &lists {
                for kind in [ContextKind::Allocation, ContextKind::Bitmap(BitmapIndex::FIRST)] {
                    let slot = GrantedContext { kind, ..slot() };
                    let (options, mut forgiven) = (options(Strictness::Strict), Forgiven::default());
                    let mut rules =
                        Rules { options: &options, asked: ASKED, slot: &slot, forgiven: &mut forgiven };
                    let list = Descriptors::new(list);
                    let Some(usable) = rules.check_usual(list.clone()) else { continue };
                    assert_eq!(rules.check_each(list.clone()), Ok(usable), "{list:?}");
                    assert_eq!(forgiven.total(), 0);
                    usual += 1;
                }
            }
        }
        assert!(usual > 100, "{usual}");
    }

    #[test]
    fn short_exact_and_overshooting_lists_are_legal() {
        legal(&[(1, 0)], 1, 1001);
        legal(&[(500, 0), (500, 3)], 2, 2000);
        legal(&[(999, 0), (1001, 3)], 2, SIZE);
        legal(&[(2000, 0)], 1, SIZE);
    }

    #[test]
    fn row_1_and_2_zero_lengths() {
        for strictness in [Strictness::Lenient, Strictness::Strict] {
            let first = check(strictness, false, &[(0, 0), (500, 0)]).unwrap_err();
            assert_eq!(first.to_string(), "base:allocation: descriptor 0 has length 0");
        }
        forgivable(false, &[(500, 0), (0, 0), (500, 0)], 1, 1500, |f| f.zero_lengths);
    }

    #[test]
    fn row_11_overflow_is_never_forgiven() {
        for strictness in [Strictness::Lenient, Strictness::Strict] {
            let fault = check(strictness, false, &[(500, 0), (u64::MAX, 0)]).unwrap_err();
            assert!(matches!(fault, ReplyFault::Overflow { index: 1, length: u64::MAX, .. }), "{fault}");
        }
    }

    #[test]
    fn row_12_beyond_the_export() {
        forgivable(false, &[(2001, 0)], 1, SIZE, |f| f.beyond_export);
        forgivable(false, &[(500, 0), (1501, 0), (1, 0)], 2, SIZE, |f| f.beyond_export);
    }

    #[test]
    fn row_14_one_extra_descriptor_passes_even_strict() {
        for strictness in [Strictness::Lenient, Strictness::Strict] {
            let (used, end, forgiven) = check(strictness, false, &[(1000, 0), (512, 3)]).unwrap();
            assert_eq!((used, end, forgiven.extra_descriptors, forgiven.total()), (1, 2000, 1, 1));
        }
    }

    #[test]
    fn row_14_excuses_no_empty_descriptor() {
        forgivable(false, &[(1000, 0), (0, 0)], 1, 2000, |f| f.overlong_lists);
    }

    #[test]
    fn row_15_lists_that_go_on() {
        forgivable(false, &[(1000, 0), (1, 0), (1, 0)], 1, 2000, |f| f.overlong_lists);
        forgivable(false, &[(1001, 0), (1, 0)], 1, 2001, |f| f.overlong_lists);
    }

    #[test]
    fn row_21_wide_flags_of_a_32_bit_context() {
        forgivable(false, &[(1000, 1 << 32)], 1, 2000, |f| f.wide_flags);
        legal(&[(1000, 0xffff_fffc)], 1, 2000);
    }

    #[test]
    fn row_48_more_than_the_one_extent_asked_for() {
        let exact = check(Strictness::Strict, true, &[(400, 0)]);
        assert_eq!(exact, Ok((1, 1400, Forgiven::default())));
        forgivable(true, &[(400, 0), (100, 0)], 1, 1400, |f| f.not_one);
        forgivable(true, &[(1001, 0)], 1, 2000, |f| f.not_one);
        let fault = check(Strictness::Strict, true, &[(1001, 0)]).unwrap_err();
        let context = "base:allocation".into();
        assert_eq!(fault, ReplyFault::NotOne { context, asked: 1000, count: 1, length: 1001 });
        check(Strictness::Lenient, true, &[(0, 0)]).unwrap_err();
        check(Strictness::Lenient, true, &[(u64::MAX, 0)]).unwrap_err();
    }
}
