//! What a reader makes of pairs of statuses, asked once and kept in tables: which pairs it wants, and which flags of one side are the same to it
//! whatever the other side says. By these tables the lists are made shorter while they are decoded, before anything is merged.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "flags are below FLAGS, and numbers that small fit anything"
)]

use super::key::{CODE_BITS, FLAGS, LEFT, RIGHT, SIDE_BITS};

/// So many flags a side can have.
const WIDTH: usize = FLAGS as usize;

/// What the reader of a merge is asked. Both are pure, and may be asked about pairs of flags that no byte of the disk has.
#[derive(Clone, Copy)]
pub(crate) struct Picks<'a> {
    /// Whether segments with a code are wanted.
    pub(crate) keeps: &'a dyn Fn(u64) -> bool,
    /// Whether touching segments with two codes, both wanted, may be handed out as one.
    pub(crate) joins: Option<&'a dyn Fn(u64, u64) -> bool>,
}

/// In a table of classes: no pair with these flags is wanted.
pub(super) const DEAD: u64 = 1 << 63;

/// What the flags of one side are to the reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classes {
    /// By flags: the lowest flags that are the same to the reader, shifted to their place in a key, or [`DEAD`].
    pub(super) keys: [u64; WIDTH],
    /// By flags: 0 if they are dead, otherwise 1.
    pub(super) alive: [u64; WIDTH],
}

/// Which neighbours on one side are joined, if neither is dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Joining {
    /// All: each side has one class.
    #[default]
    All,
    /// None.
    None,
    /// Those of one class.
    Some,
}

/// The answers, for all flags that have been seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdicts {
    /// All bits that were seen in the flags of the left side and of the right. The answers hold for every combination of them.
    seen: Option<[u64; 2]>,
    /// Bit by bit, the codes that are wanted.
    pub(super) wanted: u64,
    /// Of the left side and of the right.
    pub(super) classes: [Classes; 2],
    /// Whether every pair of flags of which neither is dead is wanted.
    pub(super) exact: bool,
    pub(super) joining: Joining,
    /// With [`Joining::All`]: the code of all that is wanted, which is not in the keys.
    pub(super) code: u64,
}

impl Verdicts {
    /// Makes sure that the answers hold for these bits of flags. Returns whether they did.
    #[inline]
    pub(super) fn hold_for(&mut self, left: u64, right: u64, picks: &Picks<'_>) -> bool {
        let [a, b] = self.seen.unwrap_or_default();
        let hold = self.seen.is_some() && (left & !a) | (right & !b) == 0;
        if !hold {
            *self = Self::asked([a | left, b | right], picks);
        }
        hold
    }

    /// Whether nothing is wanted of an extent with certain flags over extents of the other side whose flags are made of these bits. That side's
    /// flags are shifted by `shift`.
    #[inline]
    pub(super) fn unwanted(&mut self, shift: u32, bits: u64, flags: u64, picks: &Picks<'_>) -> bool {
        let (left, right) = if shift == LEFT { (bits, flags) } else { (flags, bits) };
        self.hold_for(left, right, picks);
        let [lefts, rights] = &self.classes;
        let (classes, code) = if shift == LEFT { (rights, flags << RIGHT) } else { (lefts, flags << LEFT) };
        let dead = |other: u64| self.wanted >> (other << shift | code) & 1 == 0;
        classes.alive[flags as usize] == 0 || flags_of(bits).all(dead)
    }

    #[cold]
    fn asked(seen: [u64; 2], picks: &Picks<'_>) -> Self {
        let [left, right] = seen;
        let code = |a: u64, b: u64| a << LEFT | b << RIGHT;
        let codes = || flags_of(left).flat_map(|a| flags_of(right).map(move |b| code(a, b)));
        let mut wanted = 0;
        for code in codes() {
            wanted |= u64::from((picks.keeps)(code)) << code;
        }
        let wants = |code: u64| wanted >> code & 1 == 1;
        // what is not equal to itself, as NaN, can be joined with nothing
        let joins = picks.joins.filter(|joins| codes().all(|code| !wants(code) || joins(code, code)));
        let same = |one: u64, other: u64| match (wants(one), wants(other)) {
            (true, true) => joins.is_some_and(|joins| joins(one, other)),
            (one, other) => one == other,
        };
        let lefts = Classes::new(
            left,
            LEFT,
            |a| flags_of(right).any(|b| wants(code(a, b))),
            |a, other| flags_of(right).all(|b| same(code(a, b), code(other, b))),
        );
        let rights = Classes::new(
            right,
            RIGHT,
            |b| flags_of(left).any(|a| wants(code(a, b))),
            |b, other| flags_of(left).all(|a| same(code(a, b), code(a, other))),
        );
        let exact = lefts.living(left).all(|a| rights.living(right).all(|b| wants(code(a, b))));
        let all = Self {
            seen: Some(seen),
            wanted,
            classes: [lefts, rights],
            exact,
            joining: Joining::Some,
            code: 0,
        };
        match joins {
            None => Self { joining: Joining::None, ..all },
            Some(_) if lefts.are_one() && rights.are_one() => Self {
                joining: Joining::All,
                classes: [lefts.without_keys(), rights.without_keys()],
                code: lefts.lowest() | rights.lowest(),
                ..all
            },
            Some(_) => all,
        }
    }
}

impl Classes {
    /// Of flags that are made of `bits`.
    fn new(bits: u64, shift: u32, alive: impl Fn(u64) -> bool, same: impl Fn(u64, u64) -> bool) -> Self {
        let mut classes = Self::default();
        for flags in flags_of(bits).filter(|&flags| alive(flags)) {
            let lowest = flags_of(bits).find(|&lower| lower == flags || alive(lower) && same(lower, flags));
            classes.keys[flags as usize] = lowest.unwrap_or(flags) << shift;
            classes.alive[flags as usize] = 1;
        }
        classes
    }

    /// The flags of those that are made of `bits` that are not dead.
    fn living(&self, bits: u64) -> impl Iterator<Item = u64> {
        flags_of(bits).filter(|&flags| self.alive[flags as usize] == 1)
    }

    /// The lowest class, if there is one.
    fn lowest(&self) -> u64 {
        self.keys.iter().copied().filter(|&key| key != DEAD).min().unwrap_or(0)
    }

    /// Whether there are no two classes.
    fn are_one(&self) -> bool {
        self.keys.iter().all(|&key| key == DEAD || key == self.lowest())
    }

    /// With nothing but dead and alive.
    fn without_keys(self) -> Self {
        Self { keys: self.keys.map(|key| key & DEAD), ..self }
    }
}

impl Default for Classes {
    fn default() -> Self {
        Self { keys: [DEAD; WIDTH], alive: [0; WIDTH] }
    }
}

/// All flags that are made of these bits.
pub(super) fn flags_of(bits: u64) -> impl Iterator<Item = u64> {
    (0..FLAGS).filter(move |flags| flags & !bits == 0)
}

const _: () = assert!(CODE_BITS == 2 * SIDE_BITS && 1 << CODE_BITS == u64::BITS, "a bit for each code");

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(keeps: impl Fn(u64) -> bool, joins: bool) -> Verdicts {
        let any = |_, _| true;
        let mut verdicts = Verdicts::default();
        assert!(!verdicts.hold_for(3, 1, &Picks { keeps: &keeps, joins: joins.then_some(&any) }));
        verdicts
    }

    /// A backup reads what is dirty and not zero: of either side there is one thing that it cares for.
    #[test]
    fn dirty_and_not_zero_are_two_sets() {
        let both = verdicts(|code| code >> LEFT & 2 == 0 && code & 1 == 1, true);
        assert!(both.exact);
        assert_eq!(both.joining, Joining::All);
        assert_eq!(both.classes[0].alive, [1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(both.classes[1].alive, [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(both.code, 1, "the flags 0 and 1");
    }

    #[test]
    fn a_question_about_both_sides_at_once_has_classes() {
        let unequal = verdicts(|code| code >> LEFT & 1 != code & 1, true);
        assert!(!unequal.exact);
        assert_eq!(unequal.joining, Joining::Some);
        assert_eq!(unequal.classes[0].keys[..4], [0, 1 << LEFT, 0, 1 << LEFT]);
        assert_eq!(verdicts(|_| true, false).joining, Joining::None);
    }

    #[test]
    fn what_no_answer_is_known_for_is_asked() {
        let keeps = |code: u64| code & 1 == 1;
        let picks = Picks { keeps: &keeps, joins: None };
        let mut verdicts = Verdicts::default();
        assert!(!verdicts.hold_for(0, 0, &picks));
        assert!(verdicts.hold_for(0, 0, &picks));
        assert!(!verdicts.hold_for(4, 0, &picks));
        assert!(!verdicts.hold_for(0, 1, &picks));
        assert!(verdicts.hold_for(4, 1, &picks), "what was known is not forgotten");
        assert!(verdicts.unwanted(LEFT, 4, 0, &picks));
        assert!(!verdicts.unwanted(LEFT, 4, 1, &picks));
        assert!(verdicts.unwanted(RIGHT, 0, 4, &picks), "of a clean extent of the right side");
        assert!(!verdicts.unwanted(RIGHT, 1, 4, &picks));
    }
}
