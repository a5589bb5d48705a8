//! A cut in 64 bits: where an extent ends, and in which statuses. Numbers instead of structs, because the smaller of two keys is the earlier
//! cut: a merge compares, and nothing else.
//!
//! ```text
//! 63                                     6 5    3 2     0
//! | end, in bytes behind the tile's start | left | right |
//! ```

/// The bits of one side's flags.
pub(super) const SIDE_BITS: u32 = 3;
/// The bits of both sides' flags: the code of a pair of statuses.
pub(super) const CODE_BITS: u32 = 2 * SIDE_BITS;
/// Flags from here on do not fit a key.
pub(super) const FLAGS: u64 = 1 << SIDE_BITS;
/// The part of a key that is the code.
pub(super) const CODE: u64 = (1 << CODE_BITS) - 1;
/// A key behind all others, with no flag set.
pub(super) const LAST: u64 = !CODE;
/// One descriptor, and what is left of a descriptor, must be shorter than this for the ends of all that is read at once to fit below the highest
/// bit of a key: of a tile, or of the 1024 descriptors and one that was begun of which intervals are made.
pub(super) const LONGEST: u64 = 1 << 46;

/// How far the flags of the left side are shifted.
pub(super) const LEFT: u32 = SIDE_BITS;
/// How far the flags of the right side are shifted.
pub(super) const RIGHT: u32 = 0;

/// Whether two keys end at different bytes.
pub(super) const fn differ(one: u64, other: u64) -> bool {
    (one ^ other) > CODE
}
