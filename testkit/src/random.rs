//! Random images from fixed seeds: the same disk on every machine, every time. And random moments,
//! from a seed that a failure shows.

use std::time::{SystemTime, UNIX_EPOCH};

use super::image::{ImageFormat, KIB, Recipe, Step};

const GRANULARITIES: [u64; 3] = [4 * KIB, 16 * KIB, 64 * KIB];

/// A tiny generator (splitmix64): good enough to scatter writes, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator with the seed that an environment variable has, otherwise the time of day. A test
    /// that fails shows the seed.
    pub fn seeded_by(variable: &str) -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
        let seed = match std::env::var(variable) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
            Err(_) => u64::try_from(now()).unwrap_or(0),
        };
        println!("{variable}={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len().try_into().unwrap());
        choices[usize::try_from(index).unwrap()]
    }
}

/// A qcow2 image with everything that a status can tell apart: data, both kinds of zero clusters,
/// discards, space never written, and two bitmaps of different granularity, each of which knows
/// what the other does not.
pub fn qcow2(seed: u64, cluster: u64, size: u64) -> Recipe {
    let format = ImageFormat::Qcow2 { cluster };
    let mut rng = Rng::new(seed);
    let mut steps = scatter(&mut rng, format, size, 14);
    steps.push(Step::Bitmap { name: "b0", granularity: rng.pick(&GRANULARITIES) });
    steps.extend(scatter(&mut rng, format, size, 7));
    steps.push(Step::Bitmap { name: "b1", granularity: rng.pick(&GRANULARITIES) });
    steps.extend(scatter(&mut rng, format, size, 5));
    steps.push(Step::Freeze { name: "b0" });
    steps.extend(scatter(&mut rng, format, size, 5));
    Recipe::qcow2(cluster, size, steps)
}

/// As [`qcow2`], over a backing file of `base_size` bytes, which may end before or after the
/// disk.
pub fn backed(seed: u64, cluster: u64, size: u64, base_size: u64) -> Recipe {
    let format = ImageFormat::Qcow2 { cluster: 64 * KIB };
    let steps = scatter(&mut Rng::new(!seed), format, base_size, 20);
    qcow2(seed, cluster, size).over(Recipe { format, size: base_size, backing: None, steps })
}

/// A raw file of any size, with data and holes, and data at its end.
pub fn raw(seed: u64, size: u64) -> Recipe {
    let mut steps = scatter(&mut Rng::new(seed), ImageFormat::Raw, size, 20);
    steps.push(Step::Write { at: (size - 512) / 512 * 512, length: 512 });
    Recipe::raw(size, steps)
}

/// Steps that a guest takes between two backups. Each write has a byte of its own, never that of an
/// older one.
pub fn changes(rng: &mut Rng, format: ImageFormat, size: u64, count: usize, byte: u8) -> Vec<Step> {
    let change = |rng: &mut Rng| match step(rng, format, size) {
        Step::Write { at, length } => Step::Fill { at, length, byte },
        other => other,
    };
    (0..count).map(|_| change(rng)).collect()
}

fn scatter(rng: &mut Rng, format: ImageFormat, size: u64, count: usize) -> Vec<Step> {
    (0..count).map(|_| step(rng, format, size)).collect()
}

/// One step of up to 256 KiB, in whole sectors, or in whole clusters as often as not.
fn step(rng: &mut Rng, format: ImageFormat, size: u64) -> Step {
    let cluster = match format {
        ImageFormat::Raw => 4 * KIB,
        ImageFormat::Qcow2 { cluster } => cluster,
    };
    let unit = rng.pick(&[512, cluster]);
    let at = rng.below(size / unit) * unit;
    let length = ((1 + rng.below(256 * KIB / unit)) * unit).min((size - at) / 512 * 512);
    match rng.below(7) {
        0..=2 => Step::Write { at, length },
        3 => Step::Zero { at, length },
        4 => Step::ZeroUnmap { at, length },
        _ => Step::Discard { at, length },
    }
}
