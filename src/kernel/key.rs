//! A cut in 64 bits: the end of an extent, and its flags. Numbers instead of structs, because the
//! smaller of two keys is the earlier cut: a merge compares, and nothing else.
//!
//! ```text
//! 63                                     6 5    3 2     0
//! | end, in bytes from the block's start  | left | right |
//! ```

/// The bits of one side's flags.
pub(super) const SIDE_BITS: u32 = 3;
/// The bits of both sides' flags, which together are the code of a pair of statuses.
pub(super) const CODE_BITS: u32 = 2 * SIDE_BITS;
/// The number of codes.
pub(crate) const CODES: usize = 1 << CODE_BITS;
/// Upper bound on flags; higher ones do not fit a key.
pub(super) const FLAGS: u64 = 1 << SIDE_BITS;
/// The part of a key that is the code.
pub(super) const CODE: u64 = (1 << CODE_BITS) - 1;
/// The guard after the last key: higher than all others, with no flag set.
pub(super) const LAST: u64 = !CODE;
/// Upper bound on a length, so that the sum over one block fits a key.
pub(super) const LONGEST: u64 = 1 << 46;

/// The shift of the flags of the left side.
pub(super) const LEFT: u32 = SIDE_BITS;
/// The shift of the flags of the right side.
pub(super) const RIGHT: u32 = 0;

/// Joins parts of a key that have no bit in common. Of numbers that fit no key it makes garbage,
/// which the caller gives up.
#[inline(always)]
pub(super) const fn join(one: u64, other: u64) -> u64 {
    one.wrapping_add(other)
}

/// The code of the flags of the left and of the right side.
#[inline(always)]
pub(super) const fn code_of(left: u64, right: u64) -> u64 {
    join(left << LEFT, right)
}

/// The flags of the left and of the right side.
#[inline]
pub(crate) const fn sides_of(code: u64) -> (u64, u64) {
    (code >> LEFT, code & (FLAGS - 1))
}

/// Whether two keys end at different bytes.
pub(super) const fn differ(one: u64, other: u64) -> bool {
    (one ^ other) > CODE
}

/// All flags that are made of `bits`, which must be below [`FLAGS`].
pub(super) fn subsets(bits: u64) -> impl Iterator<Item = u64> + Clone {
    (0..FLAGS).filter(move |flags| flags & !bits == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_flags_has_a_code_of_its_own() {
        for code in 0..=CODE {
            let (left, right) = sides_of(code);
            assert!(left < FLAGS && right < FLAGS);
            assert_eq!(code_of(left, right), code);
        }
    }

    #[test]
    fn keys_differ_by_their_ends_alone() {
        for code in 0..=CODE {
            assert!(!differ(7 << CODE_BITS, 7 << CODE_BITS | code));
            assert!(differ(7 << CODE_BITS, 8 << CODE_BITS | code));
        }
    }
}
