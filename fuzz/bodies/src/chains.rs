//! `chains`: the input is the catalogue of a backup repository, which may be damaged: layers with names, parents and sizes, and what each has stored.
//! Asserts that exactly the layers that follow each other are a chain, that a restore and a merge say of each byte what writing the layers one after
//! the other says, and that bytes that no layer has are an error that names them, never a zero.
//!
//! ```text
//! options   growth:1 (bit 0: what a disk has grown by reads as zero) merge from:1 merge to:1
//! layers    count:1 (modulo 8) {disk:1 id:1 parent:1 (0: what they should be; parent 255: a full) size:1 (modulo 100) filled:1 (bit 0: no gaps)
//!           count:1 (modulo 12) {gap and length - 1:1 (4 bits each) action:1 (modulo 5)}*}*
//! ```

use super::bytes::Bytes;
use nbd_extents::chain::{Chain, Layer, ReadError, Source};
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{Action, Extent, StreamError};

/// What reads the actions of a layer.
trait Stream: ExtentStream<Status = Action, Error = StreamError> + Clone {}
impl<S: ExtentStream<Status = Action, Error = StreamError> + Clone> Stream for S {}

/// A layer as the catalogue has it.
#[derive(Clone, Debug)]
struct Entry {
    layer: Layer<u8>,
    extents: Vec<Extent<Action>>,
}

pub fn chains(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let growth_is_zero = bytes.u8() & 1 == 1;
    let merged = usize::from(bytes.u8())..usize::from(bytes.u8());
    let count = bytes.u8() % 8;
    let entries: Vec<Entry> = (0..count).map(|position| entry(&mut bytes, position)).collect();

    let layers = entries.iter().map(|entry| (entry.layer.clone(), from_iter(entry.extents.clone())));
    let chain = match Chain::new(layers) {
        Ok(chain) => chain,
        Err(error) => {
            assert!(!is_chain(&entries), "{error}");
            return;
        }
    };
    assert!(is_chain(&entries), "no chain, and not refused");
    let chain = if growth_is_zero { chain.growth_reads_as_zero() } else { chain };
    let whole = entries.iter().all(Entry::covers_its_disk);
    let restored = restore(&chain, &entries, whole, growth_is_zero);
    assert_eq!(chain.check().is_ok(), whole && restored);
    merge(chain, merged, &entries, whole, growth_is_zero);
}

fn entry(bytes: &mut Bytes<'_>, position: u8) -> Entry {
    let [disk, id, parent] = [bytes.u8(), bytes.u8(), bytes.u8()];
    let layer = Layer {
        disk,
        id: if id == 0 { position + 100 } else { id },
        parent: match parent {
            0 => position.checked_sub(1).map(|before| before + 100),
            255 => None,
            other => Some(other),
        },
        size: u64::from(bytes.u8() % 100),
    };
    let filled = bytes.u8() & 1 == 1;
    let count = bytes.u8() % 12;
    let mut at = 0;
    let extents = (0..count).map(|_| {
        let shape = u64::from(bytes.u8());
        let start = at + (shape >> 4);
        at = start + (shape & 15) + 1;
        let action = [
            Action::Copy,
            Action::Zero { may_unmap: true },
            Action::Zero { may_unmap: false },
            Action::Skip,
            Action::Absent,
        ];
        Extent::from_range(start..at, action[usize::from(bytes.u8() % 5)]).unwrap()
    });
    let extents: Vec<_> = extents.collect();
    let extents = if filled {
        let within = from_iter(extents).clip(0..layer.size);
        within.fill(0..layer.size, Action::Skip).collect_vec().unwrap()
    } else {
        extents
    };
    Entry { layer, extents }
}

impl Entry {
    fn covers_its_disk(&self) -> bool {
        let mut at = 0;
        self.extents.iter().all(|extent| core::mem::replace(&mut at, extent.end()) == extent.start())
            && at == self.layer.size
    }
}

/// Each on top of the one before, all of one disk, no name twice.
fn is_chain(entries: &[Entry]) -> bool {
    let layers: Vec<_> = entries.iter().map(|entry| &entry.layer).collect();
    let names: std::collections::HashSet<u8> = layers.iter().map(|layer| layer.id).collect();
    let follows = layers.windows(2).all(|pair| pair[1].parent == Some(pair[0].id));
    let one_disk = layers.windows(2).all(|pair| pair[1].disk == pair[0].disk);
    layers.first().is_some_and(|first| first.parent.is_none())
        && follows
        && one_disk
        && names.len() == layers.len()
}

/// What is known of a byte while layers are written one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Byte {
    Below,
    /// The disk begins here, or has grown here, with this layer, and none has said anything since.
    New(usize),
    Said(Source),
}

/// Writes the layers from `first` on, on a disk of `below` bytes.
fn write(entries: &[Entry], first: usize, below: usize) -> Vec<Byte> {
    let mut disk = vec![Byte::Below; below];
    for (layer, entry) in (first..).zip(entries) {
        disk.resize(entry.layer.size as usize, Byte::New(layer));
        for extent in &entry.extents {
            let source = match *extent.status() {
                Action::Copy => Source::Copy { layer },
                Action::Zero { may_unmap } => Source::Zero { layer, may_unmap },
                Action::Skip | Action::Absent => continue,
            };
            disk[extent.start() as usize..extent.end() as usize].fill(Byte::Said(source));
        }
    }
    disk
}

/// What must come out of it, or the first byte that is in no layer, and the layer that should have it.
fn expected(disk: &[Byte], growth_is_zero: bool) -> Result<Vec<Source>, (usize, u64)> {
    let byte = |(at, byte): (u64, &Byte)| match *byte {
        Byte::Below => Ok(Source::Below),
        Byte::Said(source) => Ok(source),
        Byte::New(layer) if growth_is_zero && layer > 0 => Ok(Source::Zero { layer, may_unmap: true }),
        Byte::New(layer) => Err((layer, at)),
    };
    (0..).zip(disk).map(byte).collect()
}

/// Compares; says whether there was no error.
fn compare<S>(sources: S, whole: bool, expected: impl FnOnce() -> Result<Vec<Source>, (usize, u64)>) -> bool
where
    S: ExtentStream<Status = Source, Error = ReadError<StreamError>>,
{
    let mut said = Vec::new();
    let done = sources.for_each(|extent| {
        assert_eq!(extent.start(), said.len() as u64, "a gap or an overlap");
        said.extend(extent.range().map(|_| *extent.status()));
    });
    if let Err(ReadError::Layer { .. }) = done {
        assert!(!whole, "{done:?} of layers that cover their disks");
        return false;
    }
    if !whole {
        return done.is_ok(); // the part that is wrong may be hidden
    }
    match (done, expected()) {
        (Ok(()), expected) => assert_eq!(Ok(said), expected),
        (Err(ReadError::Uncovered { range }), expected) => assert_eq!(expected, Err((0, range.start))),
        (Err(ReadError::Grown { layer, range }), expected) => assert_eq!(expected, Err((layer, range.start))),
        (Err(error), _) => panic!("{error}"),
    }
    true
}

fn restore(chain: &Chain<u8, impl Stream>, entries: &[Entry], whole: bool, growth_is_zero: bool) -> bool {
    let result = || expected(&write(entries, 0, 0), growth_is_zero);
    compare(chain.clone().restore(), whole, result);
    chain.clone().restore().for_each(drop).is_ok()
}

fn merge(
    chain: Chain<u8, impl Stream>,
    range: core::ops::Range<usize>,
    entries: &[Entry],
    whole: bool,
    growth_is_zero: bool,
) {
    let Ok((layer, sources)) = chain.merge(range.clone()) else {
        assert!(range.is_empty() || range.end > entries.len());
        return;
    };
    let newest = &entries[range.end - 1].layer;
    assert_eq!((layer.id, layer.size), (newest.id, newest.size));
    assert_eq!(layer.parent, entries[range.start].layer.parent);
    let below = range.start.checked_sub(1).map_or(0, |below| entries[below].layer.size as usize);
    let result = || expected(&write(&entries[range.clone()], range.start, below), growth_is_zero);
    compare(sources, whole, result);
}
