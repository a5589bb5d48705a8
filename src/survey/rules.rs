//! The protocol's rules for one context's list of descriptors in a reply, and the lenient treatment
//! of violations.
//!
//! NBD protocol, "Structured reply types", `NBD_REPLY_TYPE_BLOCK_STATUS`, and
//! `NBD_CMD_BLOCK_STATUS`. The row numbers refer to the table of server behaviours in the
//! repository's SERVER-BEHAVIOUR.md.

use core::ops::Range;

use super::contexts::{ContextKind, GrantedContext, is_wide};
use super::error::ReplyFault;
use super::options::Strictness;
use super::stats::Forgiven;
use crate::wire::Descriptor;

/// The parameters of the check.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The bytes requested.
    pub(super) asked: Range<u64>,
    /// The size of the export, in bytes.
    pub(super) export_size: u64,
    pub(super) strictness: Strictness,
    /// True if the request was for one extent.
    pub(super) one_extent: bool,
}

/// The usable part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usable {
    /// The number of usable descriptors, from the front.
    pub(super) descriptors: usize,
    /// The end of the bytes that they describe.
    pub(super) end: u64,
}

impl Rules {
    /// Checks a list. The usable part describes at least one byte, nothing beyond the export, and
    /// no byte twice.
    pub(super) fn check(
        &self,
        slot: &GrantedContext,
        list: impl ExactSizeIterator<Item = Descriptor> + Clone,
        forgiven: &mut Forgiven,
    ) -> Result<Usable, ReplyFault> {
        if self.one_extent {
            return self.check_one(slot, list, forgiven);
        }
        match self.check_usual(slot, list.clone()) {
            Some(usable) => Ok(usable),
            None => self.check_each(slot, list, forgiven),
        }
    }

    /// Checks a list in one pass, for the usual case: all descriptors start within the request.
    /// `None` if a rule applies.
    fn check_usual(
        &self,
        slot: &GrantedContext,
        list: impl ExactSizeIterator<Item = Descriptor>,
    ) -> Option<Usable> {
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
        let wide = is_wide(flags) && slot.kind == ContextKind::Allocation;
        let usual = !wide && end - last < self.asked.end && end <= self.export_size;
        (usual && count > 0).then_some(Usable { descriptors: count, end })
    }

    /// Checks any list, descriptor by descriptor.
    fn check_each(
        &self,
        slot: &GrantedContext,
        list: impl ExactSizeIterator<Item = Descriptor>,
        forgiven: &mut Forgiven,
    ) -> Result<Usable, ReplyFault> {
        let count = list.len();
        let mut usable = Usable { descriptors: 0, end: self.asked.start };
        for (index, descriptor) in list.enumerate() {
            if usable.end >= self.asked.end {
                let extra = usable.end == self.asked.end && index + 1 == count && descriptor.length > 0;
                self.past_request(slot, index, extra, usable.end, forgiven)?;
                break;
            }
            if descriptor.length == 0 && index > 0 && !self.strictness.is_strict() {
                forgiven.zero_lengths += 1;
                break;
            }
            usable =
                Usable { descriptors: index + 1, end: self.end_of(slot, index, usable.end, descriptor)? };
            self.check_flags(slot, index, descriptor.flags, forgiven)?;
            if usable.end > self.export_size {
                self.forgive(&mut forgiven.beyond_export, || ReplyFault::BeyondExport {
                    context: slot.name.clone(),
                    index,
                    end: usable.end,
                    size: self.export_size,
                })?;
                usable.end = self.export_size;
                break;
            }
        }
        Ok(usable)
    }

    /// Row 48: exactly one descriptor, within the request.
    fn check_one(
        &self,
        slot: &GrantedContext,
        list: impl ExactSizeIterator<Item = Descriptor> + Clone,
        forgiven: &mut Forgiven,
    ) -> Result<Usable, ReplyFault> {
        let count = list.len();
        let first = list.clone().next().unwrap_or(Descriptor { length: 0, flags: 0 });
        let end = self.end_of(slot, 0, self.asked.start, first)?;
        self.check_flags(slot, 0, first.flags, forgiven)?;
        if count != 1 || end > self.asked.end {
            self.forgive(&mut forgiven.not_one, || ReplyFault::NotOne {
                context: slot.name.clone(),
                asked: self.asked.end - self.asked.start,
                count,
                length: first.length,
            })?;
        }
        Ok(Usable { descriptors: 1, end: end.min(self.asked.end) })
    }

    /// Rows 14 and 15: descriptors that start beyond the end of the request.
    ///
    /// The one that crosses the end is legal and used; these are not.
    fn past_request(
        &self,
        slot: &GrantedContext,
        index: usize,
        extra: bool,
        start: u64,
        forgiven: &mut Forgiven,
    ) -> Result<(), ReplyFault> {
        if extra {
            forgiven.extra_descriptors += 1; // nbdkit up to 1.32 does this always: strict lets it pass too
            return Ok(());
        }
        self.forgive(&mut forgiven.overlong_lists, || ReplyFault::PastRequest {
            context: slot.name.clone(),
            index,
            start,
            end: self.asked.end,
        })
    }

    /// Rows 1, 2 and 11: the end of a descriptor.
    fn end_of(
        &self,
        slot: &GrantedContext,
        index: usize,
        start: u64,
        descriptor: Descriptor,
    ) -> Result<u64, ReplyFault> {
        let context = || slot.name.clone();
        let length = descriptor.length;
        match start.checked_add(length) {
            _ if length == 0 => Err(ReplyFault::ZeroLength { context: context(), index }),
            None => Err(ReplyFault::Overflow { context: context(), index, length }),
            Some(end) => Ok(end),
        }
    }

    /// Row 21: the contexts of `base:` have 32 bits.
    fn check_flags(
        &self,
        slot: &GrantedContext,
        index: usize,
        flags: u64,
        forgiven: &mut Forgiven,
    ) -> Result<(), ReplyFault> {
        if !is_wide(flags) || slot.kind != ContextKind::Allocation {
            return Ok(());
        }
        self.forgive(&mut forgiven.wide_flags, || ReplyFault::WideFlags {
            context: slot.name.clone(),
            index,
            flags,
        })
    }

    fn forgive(&self, counter: &mut u64, fault: impl FnOnce() -> ReplyFault) -> Result<(), ReplyFault> {
        if self.strictness.is_strict() {
            return Err(fault());
        }
        *counter += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::BitmapIndex;
    use crate::wire::Descriptors;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    const ASKED: Range<u64> = 1000..2000;
    const SIZE: u64 = 3000;

    fn slot() -> GrantedContext {
        GrantedContext { id: 0, name: "base:allocation".into(), kind: ContextKind::Allocation }
    }

    fn check(
        strictness: Strictness,
        one_extent: bool,
        list: &[(u64, u64)],
    ) -> Result<(usize, u64, Forgiven), ReplyFault> {
        let rules = Rules { asked: ASKED, export_size: SIZE, strictness, one_extent };
        let mut forgiven = Forgiven::default();
        let usable = rules.check(&slot(), Descriptors::new(list), &mut forgiven)?;
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
                    let rules = Rules {
                        asked: ASKED,
                        export_size: SIZE,
                        strictness: Strictness::Strict,
                        one_extent: false,
                    };
                    let list = Descriptors::new(list);
                    let Some(usable) = rules.check_usual(&slot, list.clone()) else { continue };
                    let mut forgiven = Forgiven::default();
                    assert_eq!(rules.check_each(&slot, list.clone(), &mut forgiven), Ok(usable), "{list:?}");
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
