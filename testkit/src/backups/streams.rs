//! The backups of a disk as streams, and streams as lists of frames that a test can take apart.

use core::ops::Range;

use nbd_extents_backup::sparse_stream::{Meta, StreamEnds, Writer};
use xxhash_rust::xxh3::xxh3_128;

use super::disk::{Disk, SeededNumbers};

/// The facts that streams state of themselves and their parents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// All of it, as `backup --after` writes it.
    After,
    /// Names, sizes, the disk and checksums of their own, but no checksum of the parent.
    ByHand,
    /// The size of the parent's disk, and checksums of their own.
    Sizes,
    /// Nothing, as imageio writes it.
    Plain,
}

impl Dress {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::After, Self::ByHand, Self::Sizes, Self::Plain];

    fn has_names(self) -> bool {
        matches!(self, Self::After | Self::ByHand)
    }
}

/// A frame: its header and the bytes up to the next header.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Header, payload and the payload's line end.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The four letters at its start.
    pub fn kind(&self) -> &[u8] {
        &self.bytes[..4]
    }

    fn number(&self, at: usize) -> usize {
        usize::from_str_radix(str::from_utf8(&self.bytes[at..at + 16]).unwrap(), 16).unwrap()
    }

    /// The bytes of the disk that a data frame or a zero frame is about.
    pub fn range(&self) -> Range<usize> {
        let start = self.number(5);
        start..start + self.number(22)
    }
}

/// Takes a stream apart.
pub fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut rest = stream;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let header = Frame { bytes: rest[..40].to_vec() };
        let payload = if [b"meta", b"data"].iter().any(|kind| header.kind() == *kind) {
            header.number(22) + 2
        } else {
            0
        };
        let (frame, later) = rest.split_at(40 + payload);
        frames.push(Frame { bytes: frame.to_vec() });
        rest = later;
    }
    frames
}

/// Puts frames together.
pub fn join(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.bytes.clone()).collect()
}

/// Puts frames together, with the checksum that a writer of these frames computes. Streams without
/// a checksum stay as they are.
pub fn seal(frames: &[Frame]) -> Vec<u8> {
    let (stop, before) = frames.split_last().unwrap();
    let mut stream = join(before);
    if stop.bytes.ends_with(b"0000000000000000 0000000000000000\r\n") {
        stream.extend_from_slice(&stop.bytes);
    } else {
        let sum = xxh3_128(&stream);
        stream.extend(format!("stop {:016x} {:016x}\r\n", sum >> 64, sum & u128::from(u64::MAX)).bytes());
    }
    stream
}

/// The backups of a disk, oldest first.
#[derive(Clone, Debug)]
pub struct StreamSet {
    /// The facts that the streams state.
    pub dress: Dress,
    /// The meta frame of each.
    pub metas: Vec<Meta>,
    bytes: Vec<Vec<u8>>,
}

impl StreamSet {
    /// The backups of all states of a disk.
    pub fn of(disk: &Disk, dress: Dress, rng: &mut SeededNumbers) -> Self {
        Self::named(disk, dress, rng, "disk")
    }

    /// Backups whose disk has this identity.
    pub fn named(disk: &Disk, dress: Dress, rng: &mut SeededNumbers, identity: &str) -> Self {
        let mut set = Self { dress, metas: Vec::new(), bytes: Vec::new() };
        for nth in 0..disk.states.len() {
            let (meta, bytes) = set.backup(disk, nth, identity, rng);
            set.metas.push(meta);
            set.bytes.push(bytes);
        }
        set
    }

    /// The streams.
    pub fn bytes(&self) -> &[Vec<u8>] {
        &self.bytes
    }

    /// The number of streams, two or more.
    #[allow(clippy::len_without_is_empty, reason = "there are always some")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The name of the checkpoint of a state.
    pub fn checkpoint(&self, nth: usize) -> String {
        format!("c{nth}")
    }

    /// The backup of state `nth`, on top of the one before.
    pub fn backup(
        &self,
        disk: &Disk,
        nth: usize,
        identity: &str,
        rng: &mut SeededNumbers,
    ) -> (Meta, Vec<u8>) {
        let state = &disk.states[nth];
        let previous = nth.checked_sub(1).map(|nth| &disk.states[nth][..]);
        let frames = plan(state, previous, disk.grain, rng);
        let data = frames.iter().filter(|range| !is_zero(&state[(*range).clone()]));
        let data = data.map(|range| range.len() as u64).sum();
        let size = state.len() as u64;
        let date = format!("state {nth}");
        let mut meta =
            if nth == 0 { Meta::full(size, data, date) } else { Meta::incremental(size, data, date) };
        self.dress(&mut meta, nth, identity);
        let (mut writer, mut stream) = Writer::new(&meta).unwrap();
        for range in frames {
            let bytes = &state[range.clone()];
            let frame = if is_zero(bytes) {
                writer.zero(range.start as u64..range.end as u64)
            } else {
                writer.data(range.start as u64, bytes)
            };
            stream.extend(frame.unwrap().parts().concat());
        }
        stream.extend(writer.stop().unwrap().parts().concat());
        (meta, stream)
    }

    fn dress(&self, meta: &mut Meta, nth: usize, identity: &str) {
        if self.dress.has_names() {
            meta.checkpoint = Some(self.checkpoint(nth));
            meta.disk = Some(identity.to_owned());
        }
        let Some(before) = nth.checked_sub(1) else {
            return if self.dress == Dress::Plain {
                meta.checksum = None
            };
        };
        let ends = StreamEnds::read(std::io::Cursor::new(&self.bytes[before])).unwrap();
        match self.dress {
            Dress::After => {
                meta.follow(&ends);
                meta.disk = Some(identity.to_owned());
            }
            Dress::ByHand => {
                meta.parent = Some(self.checkpoint(before));
                meta.parent_size = Some(ends.meta.virtual_size);
            }
            Dress::Sizes => meta.parent_size = Some(ends.meta.virtual_size),
            Dress::Plain => meta.checksum = None,
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// The frames of a backup: every block that differs from the previous state, each of data or of
/// zeroes.
fn plan(state: &[u8], previous: Option<&[u8]>, grain: usize, rng: &mut SeededNumbers) -> Vec<Range<usize>> {
    let mut frames: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < state.len() {
        let mut end = (at + grain).min(state.len());
        // a block across the old end is cut there: what lies beyond is always in the backup
        let old_end = previous.map_or(0, <[u8]>::len);
        if at < old_end && old_end < end {
            end = old_end;
        }
        let is_clean = previous.and_then(|previous| previous.get(at..end)) == Some(&state[at..end]);
        // a bitmap may call clean blocks dirty, never the other way round
        if !is_clean || rng.below(6) == 0 {
            match frames.last_mut() {
                Some(last)
                    if last.end == at
                        && is_zero(&state[last.clone()]) == is_zero(&state[at..end])
                        && rng.below(4) > 0 =>
                {
                    last.end = end;
                }
                _ => frames.push(at..end),
            }
        }
        at = end;
    }
    frames
}
