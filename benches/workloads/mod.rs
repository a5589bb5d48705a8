//! The disks of the benches: four pairs of block-status payloads, as a server sends them. They are
//! made from a fixed seed, so that every run, every bench and every test that includes this file
//! (`#[path]`) sees the same bytes.
//!
//! Side A is `base:allocation` (flags 0 to 3), side B a dirty bitmap (flags 0 and 1); both describe
//! the same bytes, from 0 to a common end. Compact descriptors (8 bytes, big-endian) follow the
//! 4-byte context id of a status chunk; [`Workload::extended`] has the same in extended ones.
//!
//! - `random`: the lengths of both sides are 64 KiB x 1..=64, uniform. 0 and 3 alternate as flags
//!   of A, 0 and 1 as flags of B.
//! - `grid`: the lengths of both sides are 64 KiB, so that every cut is a tie. Random flags, 0 to 3
//!   on A.
//! - `skewed`: A is as in `random`. B has descriptors 1000 times longer (1.0 to 3.0 GiB), 1000
//!   times fewer, of which every 100th has flag 1.
//! - `heavy-tailed`: the lengths of both sides are log-normal: median 64 KiB, sigma 2 (mean 473
//!   KiB), multiples of 512. Random flags, 0 to 3 on A.
//!
//! In `random` no two neighbours are equal. In `grid` and `heavy-tailed` a quarter (A) and a half
//! (B) of the neighbours are, as from servers that cut where their image format cuts. In `skewed`
//! 1% of the disk is dirty, as in a daily incremental.
#![allow(dead_code, reason = "each bench and test that includes this file uses another part of it")]

use nbd_extents::wire::{
    Compact, Descriptor, Descriptors, Extended, Form, RawDescriptor, encode, parse_compact, parse_extended,
};

const KIB: u64 = 1 << 10;
/// The longest length of a compact descriptor, in whole sectors.
const MAX_LENGTH: u64 = (1 << 32) - SECTOR;
const SECTOR: u64 = 512;

/// Two payloads over the same disk.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// The payload of `base:allocation`.
    pub(crate) allocation: Vec<u8>,
    /// The payload of the dirty bitmap.
    pub(crate) bitmap: Vec<u8>,
    /// The size of the disk, in bytes.
    pub(crate) size: u64,
}

/// How the descriptors of both sides are drawn, by their number on their side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    pub(crate) allocation: Draw,
    pub(crate) bitmap: Draw,
    /// The allocation has this many times as many descriptors as the bitmap.
    pub(crate) skew: usize,
}

/// Draws the length and the flags of a descriptor.
pub(crate) type Draw = fn(&mut Rng, usize) -> (u64, u64);

/// All workloads, in the order in which they are reported.
pub(crate) const ALL: [Shape; 4] = [RANDOM, GRID, SKEWED, HEAVY_TAILED];

/// W1: both sides 64 KiB x 1..=64, flags alternate.
pub(crate) const RANDOM: Shape = Shape {
    name: "random",
    seed: 1,
    allocation: |rng, i| (64 * KIB * rng.one_to(64), alternate(i, 3)),
    bitmap: |rng, i| (64 * KIB * rng.one_to(64), alternate(i, 1)),
    skew: 1,
};

/// W2: both sides cut every 64 KiB, random flags.
pub(crate) const GRID: Shape = Shape {
    name: "grid",
    seed: 2,
    allocation: |rng, _| (64 * KIB, rng.below(4)),
    bitmap: |rng, _| (64 * KIB, rng.below(2)),
    skew: 1,
};

/// W3: A as in W1, B with extents 1000 times longer (half to one and a half of 1000 mean lengths of
/// A), one in a hundred dirty.
pub(crate) const SKEWED: Shape = Shape {
    name: "skewed",
    seed: 3,
    allocation: RANDOM.allocation,
    bitmap: |rng, i| (64 * KIB * (16_250 + rng.below(32_500)), u64::from(i % 100 == 0)),
    skew: 1000,
};

/// W4: log-normal lengths (median 64 KiB, sigma 2) in sectors of 512 bytes, random flags.
pub(crate) const HEAVY_TAILED: Shape = Shape {
    name: "heavy-tailed",
    seed: 4,
    allocation: |rng, _| (rng.log_normal(64 * KIB, 2.0), rng.below(4)),
    bitmap: |rng, _| (rng.log_normal(64 * KIB, 2.0), rng.below(2)),
    skew: 1,
};

impl Shape {
    /// Makes a workload whose longer side has this many descriptors (at least 1).
    pub(crate) fn workload(&self, extents: usize) -> Workload {
        let mut rng = Rng::new(self.seed);
        let a = list(extents, |i| (self.allocation)(&mut rng, i));
        // Draws more of a bitmap with long extents than the allocation's span can need; the rest is
        // cut off.
        let enough = if self.skew == 1 { extents } else { extents / self.skew * 5 / 4 + 8 };
        let b = list(enough, |i| (self.bitmap)(&mut rng, i));
        Workload::new(self.name, a, b)
    }
}

impl Workload {
    /// Cuts both sides to their common end and puts them on the wire.
    fn new(name: &'static str, mut a: Vec<Descriptor>, mut b: Vec<Descriptor>) -> Self {
        let end = span(&a).min(span(&b));
        cut(&mut a, end);
        cut(&mut b, end);
        let payload = |context, list| encode(Form::Compact, context, list).unwrap();
        Self { name, form: Form::Compact, allocation: payload(1, a), bitmap: payload(2, b), size: end }
    }

    /// The same disk in extended descriptors (16 bytes).
    pub(crate) fn extended(&self) -> Self {
        let payload = |context, list| encode(Form::Extended, context, list).unwrap();
        Self {
            name: self.name,
            form: Form::Extended,
            allocation: payload(1, self.allocation::<Compact>()),
            bitmap: payload(2, self.bitmap::<Compact>()),
            size: self.size,
        }
    }

    /// The descriptors of `base:allocation`, through the crate's decoder.
    pub(crate) fn allocation<R: Raw>(&self) -> Descriptors<'_, R> {
        R::list(&self.allocation)
    }

    /// The descriptors of the dirty bitmap, through the crate's decoder.
    pub(crate) fn bitmap<R: Raw>(&self) -> Descriptors<'_, R> {
        R::list(&self.bitmap)
    }

    /// The number of descriptors of both sides together: the unit of the measurements.
    pub(crate) fn descriptors(&self) -> usize {
        let count = |payload: &[u8]| (payload.len() - self.form.header_size()) / self.form.descriptor_size();
        count(&self.allocation) + count(&self.bitmap)
    }
}

/// The two forms of a descriptor on the wire.
pub(crate) trait Raw: RawDescriptor + 'static {
    /// The descriptors of a payload that is known to be of this form.
    fn list(payload: &[u8]) -> Descriptors<'_, Self>;
}

impl Raw for Compact {
    fn list(payload: &[u8]) -> Descriptors<'_, Self> {
        parse_compact(payload).unwrap().descriptors()
    }
}

impl Raw for Extended {
    fn list(payload: &[u8]) -> Descriptors<'_, Self> {
        parse_extended(payload).unwrap().descriptors()
    }
}

fn list(count: usize, mut descriptor: impl FnMut(usize) -> (u64, u64)) -> Vec<Descriptor> {
    assert!(count > 0, "a workload needs at least one descriptor");
    (0..count)
        .map(|i| {
            let (length, flags) = descriptor(i);
            Descriptor { length, flags }
        })
        .collect()
}

fn span(list: &[Descriptor]) -> u64 {
    list.iter().map(|d| d.length).sum()
}

/// Cuts the list at byte `end`, which it reaches.
fn cut(list: &mut Vec<Descriptor>, end: u64) {
    let mut beyond = span(list) - end;
    while let Some(last) = list.last_mut() {
        if last.length > beyond {
            last.length -= beyond;
            return;
        }
        beyond -= last.length;
        list.pop();
    }
}

fn alternate(index: usize, flags: u64) -> u64 {
    if index.is_multiple_of(2) { 0 } else { flags }
}

/// splitmix64 (Steele, Lea, Flood 2014): small, seeded, good enough for lengths and flags.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`, for bounds far below 2^32 (the bias is then nothing to a benchmark).
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }

    /// Uniform in `1..=bound`.
    pub(crate) const fn one_to(&mut self, bound: u64) -> u64 {
        1 + self.below(bound)
    }

    /// A length in whole sectors whose logarithm is normal: half of them lie below `median`.
    pub(crate) fn log_normal(&mut self, median: u64, sigma: f64) -> u64 {
        let sectors = (median / SECTOR) as f64 * (sigma * self.normal()).exp();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is clamped"
        )]
        let length = (sectors as u64).saturating_mul(SECTOR);
        length.clamp(SECTOR, MAX_LENGTH)
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.open_unit().ln()).sqrt();
        radius * (core::f64::consts::TAU * self.open_unit()).cos()
    }

    /// Uniform in the open interval from 0 to 1: its logarithm is finite.
    fn open_unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}
