//! One thing that goes wrong with a set of backups.

use super::disk::{Disk, SeededNumbers};
use super::streams::{Dress, Frame, StreamSet, frames, join, seal};

/// A fault, and the streams that it hits.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A stream is left out.
    LeftOut(usize),
    /// A stream comes again at a later place.
    Doubled {
        /// The stream.
        stream: usize,
        /// Its second place.
        at: usize,
    },
    /// Two streams have changed places.
    Swapped(usize, usize),
    /// A stream is of another disk, with the same names and sizes.
    OtherDisk(usize),
    /// A stream was made again, under its name, when the disk had changed.
    Retaken(usize),
    /// A stream ends early.
    Cut(usize),
    /// A byte of a stream has changed.
    Flipped(usize),
    /// A payload byte has changed, and a program that knows no checksums has copied the stream
    /// frame by frame.
    Rewritten {
        /// The stream.
        stream: usize,
        /// Whether the meta frame still promises a checksum.
        keeps_key: bool,
    },
    /// A frame is missing.
    FrameLost(usize),
    /// A data frame is missing, and was before the checksum was computed.
    FrameNeverWritten(usize),
    /// A frame is there twice.
    FrameDoubled(usize),
    /// Two streams are one file.
    Joined(usize),
    /// The disk has grown, and nothing is said of the new part: decided by a dirty bitmap alone.
    GrowthForgotten(usize),
}

/// Streams with a fault.
#[derive(Clone, Debug)]
pub struct Faulty {
    /// The streams.
    pub streams: Vec<Vec<u8>>,
    /// The state of the disk that these streams should restore.
    state: usize,
}

impl Faulty {
    /// All bytes of the disk that they should restore.
    pub fn source<'a>(&self, disk: &'a Disk) -> &'a [u8] {
        &disk.states[self.state]
    }
}

impl Fault {
    /// One fault of each kind that streams in this dress must show.
    pub fn all(set: &StreamSet, rng: &mut SeededNumbers) -> Vec<Self> {
        let count = set.len();
        let any = rng.below(count);
        let incremental = 1 + rng.below(count - 1);
        let last = count - 1;
        let doubled = |stream: usize, rng: &mut SeededNumbers| Self::Doubled {
            stream,
            at: stream + 1 + rng.below(count - stream),
        };
        let mut all = vec![
            Self::LeftOut(0),
            doubled(0, rng),
            Self::Swapped(0, incremental),
            Self::Cut(any),
            Self::Joined(rng.below(count - 1)),
            Self::GrowthForgotten(incremental),
        ];
        match set.dress {
            // Without a checksum a lost frame shows in a full backup alone.
            Dress::Plain => all.push(Self::FrameLost(0)),
            _ => all.extend([
                Self::Flipped(any),
                Self::Rewritten { stream: any, keeps_key: true },
                Self::Rewritten { stream: any, keeps_key: false },
                Self::FrameLost(any),
                Self::FrameNeverWritten(last),
                Self::FrameDoubled(any),
                doubled(any, rng),
            ]),
        }
        match set.dress {
            Dress::After => all.push(Self::Retaken(rng.below(last))),
            // Sizes tell streams apart only where they differ.
            Dress::Sizes if incremental < last => {
                let sizes = [incremental - 1, incremental].map(|nth| set.metas[nth].virtual_size);
                if sizes[0] != sizes[1] {
                    all.push(Self::LeftOut(incremental));
                }
            }
            _ => {}
        }
        if matches!(set.dress, Dress::After | Dress::ByHand) {
            all.extend([Self::LeftOut(any), Self::Swapped(any, incremental), Self::OtherDisk(any)]);
        }
        all
    }

    /// The name of the kind, for a count.
    pub fn kind(&self) -> String {
        let text = format!("{self:?}");
        text.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default().to_owned()
    }

    /// `None` where the fault cannot happen to these streams.
    pub fn apply(&self, set: &StreamSet, disk: &Disk, rng: &mut SeededNumbers) -> Option<Faulty> {
        let mut streams = set.bytes().to_vec();
        let mut state = set.len() - 1;
        match *self {
            Self::LeftOut(nth) => {
                streams.remove(nth);
                // without the last stream the others are a whole chain, for an older state
                state = if nth == state { state - 1 } else { state };
            }
            Self::Doubled { stream, at } => streams.insert(at, streams[stream].clone()),
            Self::Swapped(one, other) if one != other => streams.swap(one, other),
            Self::Swapped(..) => return None,
            Self::OtherDisk(nth) => {
                let mut other = disk.states.clone();
                for byte in other.iter_mut().flatten() {
                    *byte = 255 - *byte;
                }
                let other = Disk { states: other, grain: disk.grain };
                streams[nth] = StreamSet::named(&other, set.dress, rng, "another disk").bytes()[nth].clone();
            }
            Self::Retaken(nth) => {
                let mut later = Disk { states: disk.states.clone(), grain: disk.grain };
                let at = rng.below(later.states[nth].len());
                later.states[nth][at] = 201;
                streams[nth] = set.backup(&later, nth, "disk", rng).1;
            }
            Self::Cut(nth) => {
                let length = rng.below(streams[nth].len());
                streams[nth].truncate(length);
            }
            Self::Flipped(nth) => {
                let at = rng.below(streams[nth].len());
                streams[nth][at] ^= 1 << rng.below(8);
            }
            Self::Rewritten { stream, keeps_key } => {
                streams[stream] = rewritten(frames(&streams[stream]), keeps_key, rng)?;
            }
            Self::FrameLost(nth) => {
                let mut frames = frames(&streams[nth]);
                frames.remove(rng.below(frames.len()));
                streams[nth] = join(&frames);
            }
            Self::FrameNeverWritten(nth) => {
                let mut frames = frames(&streams[nth]);
                let data = frames.iter().position(|frame| frame.kind() == b"data")?;
                frames.remove(data);
                streams[nth] = seal(&frames);
            }
            Self::FrameDoubled(nth) => {
                let mut frames = frames(&streams[nth]);
                let frame = rng.below(frames.len());
                frames.insert(frame, frames[frame].clone());
                streams[nth] = join(&frames);
            }
            Self::Joined(nth) => {
                let next = streams.remove(nth + 1);
                streams[nth].extend(next);
            }
            Self::GrowthForgotten(nth) => {
                let old = disk.states[nth - 1].len();
                let grown =
                    |frame: &Frame| matches!(frame.kind(), b"data" | b"zero") && frame.range().start >= old;
                let all = frames(&streams[nth]);
                if !all.iter().any(grown) {
                    return None;
                }
                streams[nth] = without(all, grown, &set.metas[nth]);
            }
        }
        Some(Faulty { streams, state })
    }
}

/// The stream with a flipped payload byte, as a program copies it that knows only imageio's frames.
fn rewritten(mut frames: Vec<Frame>, keeps_key: bool, rng: &mut SeededNumbers) -> Option<Vec<u8>> {
    let data: Vec<_> = (0..frames.len()).filter(|&nth| frames[nth].kind() == b"data").collect();
    let data = *data.get(rng.below(data.len().max(1)))?;
    let payload = frames[data].bytes.len() - 42;
    let at = 40 + rng.below(payload);
    frames[data].bytes[at] ^= 1;
    let stop = frames.last_mut()?;
    if keeps_key {
        stop.bytes = b"stop 0000000000000000 0000000000000000\r\n".to_vec();
    } else {
        // the key is spelled in another way, so that no reader knows it
        let meta = String::from_utf8(frames[0].bytes.clone()).ok()?;
        frames[0].bytes = meta.replace("\"checksum\"", "\"CHECKSUM\"").into_bytes();
    }
    Some(join(&frames))
}

/// The stream of a writer that never had these frames: its meta frame and its checksum are right.
fn without(
    mut frames: Vec<Frame>,
    mut lost: impl FnMut(&Frame) -> bool,
    meta: &nbd_extents_backup::sparse_stream::Meta,
) -> Vec<u8> {
    frames.retain(|frame| !lost(frame));
    let data = frames.iter().filter(|frame| frame.kind() == b"data").map(|frame| frame.range().len() as u64);
    let mut meta = meta.clone();
    meta.data_size = data.sum();
    let json = meta.to_json();
    let header = format!("meta {:016x} {:016x}\r\n", 0, json.len());
    frames[0].bytes = [header.as_bytes(), json.as_bytes(), b"\r\n"].concat();
    seal(&frames)
}
