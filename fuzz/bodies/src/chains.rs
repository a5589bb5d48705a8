//! `chains`: the input is the catalogue of a backup repository, which may be damaged: layers with
//! names, parents and sizes, and the actions of each. Asserts that exactly consecutive layers form
//! a chain, that a restore and a merge give for each byte the result of writing the layers one
//! after the other, and that bytes that no layer has are an error that names them, never a zero.
//!
//! ```text
//! options   growth:1 (bit 0: the part by which a disk has grown reads as zero; bit 1: the first
//!           layer lies on a base, of the size in the next byte modulo 100)
//!           merge from:1 merge to:1
//! layers    count:1 (modulo 8) {disk:1 id:1 parent:1 (0: what they should be; parent 255: a full;
//!           id 254: none) size:1 (modulo 100) facts:1 (bit 0: no gaps; bits 1, 2, 3: the parent's
//!           name, size, checksum are not stated; bits 4, 5: size, checksum are wrong; bit 6: the
//!           layer has no checksum) count:1 (modulo 12)
//!           {gap and length - 1:1 (4 bits each) action:1 (modulo 5)}*}*
//! ```

use super::bytes::Bytes;
use nbd_extents::chain::{Chain, ChainLayer, Checksum, ParentLayer, Source, SourceError};
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{Action, Extent, StreamError};

/// A reader of a layer's actions.
trait LayerStream: ExtentStream<Status = Action, Error = StreamError> + Clone {}
impl<S: ExtentStream<Status = Action, Error = StreamError> + Clone> LayerStream for S {}

/// A layer as in the catalogue.
#[derive(Clone, Debug)]
struct Entry {
    layer: ChainLayer<u8>,
    extents: Vec<Extent<Action>>,
}

pub fn chains(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let options = bytes.u8();
    let growth_is_zero = options & 1 == 1;
    let base = (options & 2 == 2).then(|| base(u64::from(bytes.u8() % 100)));
    let merged = usize::from(bytes.u8())..usize::from(bytes.u8());
    let count = bytes.u8() % 8;
    let mut entries: Vec<Entry> = Vec::new();
    for position in 0..count {
        let below = entries.last().map(|entry| &entry.layer).or(base.as_ref());
        let entry = entry(&mut bytes, position, below);
        entries.push(entry);
    }

    let layers = entries.iter().map(|entry| (entry.layer.clone(), from_iter(entry.extents.clone())));
    let chain = match &base {
        Some(base) => Chain::onto(base.clone(), layers),
        None => Chain::new(layers),
    };
    let chain = match chain {
        Ok(chain) => chain,
        Err(error) => {
            assert!(!is_chain(base.as_ref(), &entries), "{error}");
            return;
        }
    };
    assert!(is_chain(base.as_ref(), &entries), "no chain, and not refused");
    let chain = if growth_is_zero { chain.growth_reads_as_zero() } else { chain };
    let whole = entries.iter().all(Entry::covers_its_disk);
    let judge = LayersModel { base: base.map(|base| base.size), entries: &entries, whole, growth_is_zero };
    let restored = judge.restore(&chain);
    assert_eq!(chain.check().is_ok(), whole && restored);
    judge.merge(chain, merged);
}

/// The name of the layer that should stand at this position.
fn right_id(position: u8) -> u8 {
    position + 100
}

/// The base below the first layer.
fn base(size: u64) -> ChainLayer<u8> {
    ChainLayer { checksum: Some(Checksum::new(99)), ..ChainLayer::full(0, 99, size) }
}

fn entry(bytes: &mut Bytes<'_>, position: u8, below: Option<&ChainLayer<u8>>) -> Entry {
    let [disk, id, parent] = [bytes.u8(), bytes.u8(), bytes.u8()];
    let size = u64::from(bytes.u8() % 100);
    let facts = bytes.u8();
    let layer = ChainLayer {
        disk: (disk < 254).then_some(disk),
        id: match id {
            0 => Some(right_id(position)),
            254 => None,
            other => Some(other),
        },
        size,
        checksum: (facts & 64 == 0).then(|| Checksum::new(u128::from(position))),
        parent: match parent {
            255 => None,
            0 => below.map(|below| {
                let [name, size, checksum, wrong_size, wrong_checksum] =
                    [2, 4, 8, 16, 32].map(|bit| facts & bit > 0);
                let wrong = |sum: Checksum| Checksum::new(sum.bits() ^ u128::from(wrong_checksum));
                ParentLayer {
                    id: below.id.filter(|_| !name),
                    size: (!size).then_some(below.size + u64::from(wrong_size)),
                    checksum: below.checksum.filter(|_| !checksum).map(wrong),
                }
            }),
            other => Some(ParentLayer { id: Some(other), ..ParentLayer::default() }),
        },
    };
    let filled = facts & 1 == 1;
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

/// Each lies on the one before, no name and no checksum occurs twice, and no stated fact about a
/// parent is wrong.
fn is_chain(base: Option<&ChainLayer<u8>>, entries: &[Entry]) -> bool {
    let layers: Vec<_> = base.into_iter().chain(entries.iter().map(|entry| &entry.layer)).collect();
    let agree =
        |stated: Option<u128>, found: Option<u128>| stated.is_none() || found.is_none() || stated == found;
    let number = |id: Option<u8>| id.map(u128::from);
    let bits = |sum: Option<Checksum>| sum.map(Checksum::bits);
    let follows = layers.windows(2).all(|pair| {
        let Some(parent) = &pair[1].parent else { return false };
        agree(number(pair[1].disk), number(pair[0].disk))
            && agree(number(parent.id), number(pair[0].id))
            && agree(parent.size.map(u128::from), Some(u128::from(pair[0].size)))
            && agree(bits(parent.checksum), bits(pair[0].checksum))
    });
    let names: Vec<_> = entries.iter().filter_map(|entry| entry.layer.id).collect();
    let distinct: std::collections::HashSet<_> = names.iter().collect();
    let begins = layers.first().is_some_and(|first| first.parent.is_none());
    !entries.is_empty() && begins && follows && names.len() == distinct.len()
}

/// A byte while layers are written one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Byte {
    Below,
    /// The disk begins here, or has grown here, with this layer, and no later layer describes it.
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

/// Compares; returns `true` without an error.
fn compare<S>(sources: S, whole: bool, expected: impl FnOnce() -> Result<Vec<Source>, (usize, u64)>) -> bool
where
    S: ExtentStream<Status = Source, Error = SourceError<StreamError>>,
{
    let mut said = Vec::new();
    let done = sources.for_each(|extent| {
        assert_eq!(extent.start(), said.len() as u64, "a gap or an overlap");
        said.extend(extent.range().map(|_| *extent.status()));
    });
    if let Err(SourceError::Layer { .. }) = done {
        assert!(!whole, "{done:?} of layers that cover their disks");
        return false;
    }
    if !whole {
        return done.is_ok(); // the part that is wrong may be hidden
    }
    match (done, expected()) {
        (Ok(()), expected) => assert_eq!(Ok(said), expected),
        (Err(SourceError::Uncovered { range }), expected) => assert_eq!(expected, Err((0, range.start))),
        (Err(SourceError::Grown { layer, range }), expected) => {
            assert_eq!(expected, Err((layer, range.start)))
        }
        (Err(error), _) => panic!("{error}"),
    }
    true
}

/// The result of writing the layers one after the other.
struct LayersModel<'a> {
    /// The size of the disk below the first layer.
    base: Option<u64>,
    entries: &'a [Entry],
    /// Each layer covers its disk.
    whole: bool,
    growth_is_zero: bool,
}

impl LayersModel<'_> {
    fn restore(&self, chain: &Chain<u8, impl LayerStream>) -> bool {
        let result = || self.expected(0..self.entries.len());
        compare(chain.clone().restore(), self.whole, result);
        chain.clone().restore().for_each(drop).is_ok()
    }

    fn merge(&self, chain: Chain<u8, impl LayerStream>, range: core::ops::Range<usize>) {
        let Ok((layer, sources)) = chain.merge(range.clone()) else {
            assert!(range.is_empty() || range.end > self.entries.len());
            return;
        };
        let newest = &self.entries[range.end - 1].layer;
        assert_eq!((layer.id, layer.size), (newest.id, newest.size));
        assert_eq!(layer.parent, self.entries[range.start].layer.parent);
        compare(sources, self.whole, || self.expected(range.clone()));
    }

    /// The expected result of these layers, or the first byte that is in none, and the layer that
    /// should have it.
    fn expected(&self, range: core::ops::Range<usize>) -> Result<Vec<Source>, (usize, u64)> {
        let below = range.start.checked_sub(1).map(|below| self.entries[below].layer.size).or(self.base);
        let disk = write(&self.entries[range.clone()], range.start, below.unwrap_or(0) as usize);
        let grown = |layer: usize| layer > 0 || self.base.is_some();
        let byte = |(at, byte): (u64, &Byte)| match *byte {
            Byte::Below => Ok(Source::Below),
            Byte::Said(source) => Ok(source),
            Byte::New(layer) if self.growth_is_zero && grown(layer) => {
                Ok(Source::Zero { layer, may_unmap: true })
            }
            Byte::New(layer) => Err((layer, at)),
        };
        (0..).zip(&disk).map(byte).collect()
    }
}
