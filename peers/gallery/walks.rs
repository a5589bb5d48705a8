//! Loops of our own over libnbd, each in the shape that a program of the field has or had. They hold
//! the part of that program that decides which bytes are copied, and nothing else of it.

use core::ops::Range;
use std::path::Path;
use std::time::Instant;

use peers::Operation;
use peers::libnbd::{HANGS, LibnbdSide};
use peers::outcome::{Account, Ending};

use crate::disk::Treatment;
use crate::verdict::{LIMIT, PeerAnswer};

/// (length, flags) after (length, flags).
type List = Vec<(u64, u32)>;

/// The loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkShape {
    /// Lists end to end; goes on where the bitmap ended; copies dirty data.
    Virtnbdbackup,
    /// Goes on at the farthest reach; merges up to the nearest.
    KubeVirt,
    /// Goes on at the end of the request; what no list describes is clean.
    CloudStack,
    /// Copies dirty ranges that are no hole; never zeroes.
    Vmsync,
    /// Takes the first reply for all.
    FirstPage,
    /// Joins equal neighbours with lengths of 32 bits.
    Sums32,
    /// Goes on where the shorter list ended, and asks again for the rest.
    Imageio,
}

impl WalkShape {
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Virtnbdbackup, "virtnbdbackup"),
        (Self::KubeVirt, "KubeVirt"),
        (Self::CloudStack, "CloudStack"),
        (Self::Vmsync, "vmsync"),
        (Self::FirstPage, "first page"),
        (Self::Sums32, "32-bit sums"),
        (Self::Imageio, "imageio"),
    ];

    /// Walks over a disk of `size` bytes.
    pub fn walk(self, side: &mut LibnbdSide, socket: &Path, size: u64) -> PeerAnswer {
        let mut lists: [List; 2] = [Vec::new(), Vec::new()];
        let mut actions = Vec::new();
        let mut at = 0;
        let end = Instant::now() + LIMIT;
        while at < size {
            if Instant::now() > end {
                return PeerAnswer::Hangs;
            }
            // libnbd's 32 bits; CloudStack has steps of 64 MiB
            let step = if self == Self::CloudStack { (64 << 20).min(size / 8) } else { 1 << 31 };
            let length = step.min(size - at);
            let lists_of_reply = ask(side, socket, at, length).and_then(|lists| self.take(lists));
            let [allocation, bitmap] = match lists_of_reply {
                Ok(lists) => lists,
                Err(answer) => return answer,
            };
            let (reach, dirty_reach) = (at + sum(&allocation), at + sum(&bitmap));
            match self {
                Self::Virtnbdbackup => {
                    // It asserts that it knows the flags.
                    if allocation.iter().chain(&bitmap).any(|(_, flags)| *flags > 3) {
                        return PeerAnswer::Refuses("assertion".into());
                    }
                    lists[0].extend(allocation);
                    lists[1].extend(bitmap);
                    at = dirty_reach;
                    continue;
                }
                Self::KubeVirt => {
                    actions.extend(merge(&allocation, &bitmap, at, self));
                    at = reach.max(dirty_reach);
                }
                Self::CloudStack => {
                    actions.extend(merge(&allocation, &bitmap, at, self));
                    at += length;
                }
                Self::Vmsync | Self::Sums32 | Self::Imageio => {
                    if allocation.iter().chain(&bitmap).any(|(length, _)| *length == 0) {
                        return PeerAnswer::Refuses("an extent of no bytes".into());
                    }
                    actions.extend(merge(&allocation, &bitmap, at, self));
                    at = reach.min(dirty_reach).min(at + length);
                }
                Self::FirstPage => {
                    actions.extend(merge(&allocation, &bitmap, at, self));
                    break;
                }
            }
        }
        if self == Self::Virtnbdbackup {
            actions = merge(&lists[0], &lists[1], 0, self);
        }
        if self == Self::Sums32 {
            actions = join_in_32_bits(actions);
        }
        PeerAnswer::Actions(actions)
    }

    /// One list for each context. libnbd's callbacks append whatever comes. imageio has a client of its
    /// own, in which the last chunk of a context replaces the others and a missing one is a `KeyError`.
    fn take(self, lists: [Vec<List>; 2]) -> Result<[List; 2], PeerAnswer> {
        if self != Self::Imageio {
            return Ok(lists.map(|lists| lists.concat()));
        }
        let [allocation, bitmap] = lists.map(|mut lists| lists.pop());
        allocation.zip(bitmap).map(Into::into).ok_or_else(|| PeerAnswer::Refuses("KeyError".into()))
    }

    fn action(self, allocation: u32, bitmap: u32) -> Treatment {
        let (dirty, zero, hole) = (bitmap & 1 != 0, allocation & 2 != 0, allocation & 1 != 0);
        match self {
            _ if !dirty => Treatment::Skip,
            // data alone are taken
            Self::Virtnbdbackup if zero || hole => Treatment::Skip,
            Self::Vmsync if hole => Treatment::Skip,
            Self::Vmsync => Treatment::Copy,
            Self::CloudStack if zero || hole => Treatment::Zero,
            _ if zero => Treatment::Zero,
            _ => Treatment::Copy,
        }
    }
}

/// The lists of one reply for each context, by libnbd.
fn ask(side: &mut LibnbdSide, socket: &Path, offset: u64, length: u64) -> Result<[Vec<List>; 2], PeerAnswer> {
    let report = side.play(socket, 2, &[Operation::Status { offset, length }]);
    let Account { export, operations, died } = report.expect("the pipes to the libnbd half");
    let refused = |reason| if reason == HANGS { PeerAnswer::Hangs } else { PeerAnswer::Refuses(reason) };
    let export = export.map_err(refused)?;
    if export.contexts != [true, true] {
        return Err(PeerAnswer::Refuses("no such bitmap".into()));
    }
    match operations.into_iter().next() {
        Some(Ending::Done(content)) => Ok([0, 1].map(|context| {
            let lists = content.lists.get(&context).into_iter().flatten();
            let pairs =
                |words: &Vec<u32>| words.chunks(2).map(|pair| (u64::from(pair[0]), pair[1])).collect();
            lists.map(pairs).collect()
        })),
        Some(Ending::Failed(reason)) => Err(PeerAnswer::Refuses(reason)),
        _ => Err(died.map_or(PeerAnswer::Hangs, PeerAnswer::Refuses)),
    }
}

fn sum(list: &List) -> u64 {
    list.iter().map(|(length, _)| length).sum()
}

/// The actions for all bytes that both lists describe.
fn merge(allocation: &List, bitmap: &List, start: u64, shape: WalkShape) -> Vec<(Range<u64>, Treatment)> {
    let mut out = Vec::new();
    let (mut allocation, mut bitmap) = (allocation.iter().copied(), bitmap.iter().copied());
    let (mut mine, mut theirs) = (allocation.next(), bitmap.next());
    let mut at = start;
    while let (Some((left, flags)), Some((right, dirty))) = (mine, theirs) {
        let length = left.min(right);
        out.push((at..at + length, shape.action(flags, dirty)));
        at += length;
        mine = if left == length { allocation.next() } else { Some((left - length, flags)) };
        theirs = if right == length { bitmap.next() } else { Some((right - length, dirty)) };
    }
    out
}

/// Joins equal neighbours, and lets the joined length wrap at 4 GiB.
fn join_in_32_bits(actions: Vec<(Range<u64>, Treatment)>) -> Vec<(Range<u64>, Treatment)> {
    let mut joined: Vec<(Range<u64>, Treatment)> = Vec::new();
    for (range, action) in actions {
        match joined.last_mut() {
            Some((whole, last)) if *last == action && whole.end == range.start => whole.end = range.end,
            _ => joined.push((range, action)),
        }
    }
    let wrapped = |range: &Range<u64>| (range.end - range.start) & u64::from(u32::MAX);
    joined.into_iter().map(|(range, action)| (range.start..range.start + wrapped(&range), action)).collect()
}
