//! A disk that changes, grows and shrinks: its state at each backup.

/// SeededNumbers that look random, the same for each seed.
#[derive(Debug)]
pub struct SeededNumbers(u64);

impl SeededNumbers {
    /// The numbers of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from 0 to `end - 1`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The blocks in which a bitmap of the source records changes.
const GRAINS: [usize; 4] = [1, 512, 4096, 65536];

/// A disk, from its first backup to its last.
#[derive(Clone, Debug)]
pub struct Disk {
    /// All bytes of the disk at each backup.
    pub states: Vec<Vec<u8>>,
    /// Changes are recorded in blocks of this size.
    pub grain: usize,
}

impl Disk {
    /// Two to six states, of sizes that are no multiple of anything.
    pub fn random(rng: &mut SeededNumbers) -> Self {
        // the large blocks seldom, since they take long
        Self::of_blocks(GRAINS[[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 2, 2, 3][rng.below(16)]], rng)
    }

    /// As [`Self::random`], of changes in blocks of `grain` bytes.
    pub fn of_blocks(grain: usize, rng: &mut SeededNumbers) -> Self {
        let blocks = if grain == 65536 { 2 } else { 12 };
        let size = |rng: &mut SeededNumbers| 1 + rng.below(blocks * grain + grain / 2 + 3);
        let mut state: Vec<u8> = vec![0; size(rng)];
        let mut states = Vec::new();
        let count = 2 + rng.below(5);
        for _ in 0..count {
            change(&mut state, grain, rng);
            states.push(state.clone());
            if rng.below(3) == 0 {
                // the part by which a disk has grown may hold anything
                let old = state.len();
                state.resize(size(rng), 0);
                for byte in state.iter_mut().skip(old) {
                    *byte = (rng.next() % 3) as u8;
                }
            }
        }
        Self { states, grain }
    }

    /// The size of its largest state.
    pub fn largest(&self) -> usize {
        self.states.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Writes and zeroes some ranges. At least one byte changes.
fn change(state: &mut [u8], grain: usize, rng: &mut SeededNumbers) {
    for _ in 0..1 + rng.below(3) {
        let start = rng.below(state.len());
        let end = (start + 1 + rng.below(3 * grain)).min(state.len());
        let byte = if rng.below(3) == 0 { 0 } else { 1 + (rng.next() % 200) as u8 };
        state[start..end].fill(byte);
    }
    let at = rng.below(state.len());
    state[at] = state[at].wrapping_add(1) % 200;
}
