//! Backup chains against a slow model: a disk to which the layers are applied one after the other,
//! byte for byte.
#![cfg(feature = "alloc")]

use core::cell::Cell;
use std::rc::Rc;

use nbd_extents::chain::{
    Chain, ChainError, ChainFact, ChainLayer, Checksum, LayerName, ParentLayer, Source, SourceError, Sources,
    Unchecked,
};
use nbd_extents::stream::{ExtentSource, ExtentStream, FromIter, from_iter};
use nbd_extents::{Action, Extent, MAX_END, StreamError};
use proptest::prelude::*;

const COPY: Action = Action::Copy;
const ZERO: Action = Action::Zero { may_unmap: false };
const UNMAP: Action = Action::Zero { may_unmap: true };

type Stream = FromIter<std::vec::IntoIter<Extent<Action>>>;
type Plain = Chain<usize, Stream>;

/// A layer: runs of actions, whose lengths add up to the size of the disk.
type Runs = Vec<(u64, Action)>;

fn size_of_disk(runs: &Runs) -> usize {
    usize::try_from(runs.iter().map(|run| run.0).sum::<u64>()).unwrap()
}

fn extents(runs: &Runs) -> Vec<Extent<Action>> {
    let mut end = 0;
    let extents = runs.iter().map(|&(length, action)| {
        end += length;
        Extent::new(end - length, length, action).unwrap()
    });
    extents.collect()
}

fn layer(position: usize, size: usize) -> ChainLayer<usize> {
    match position.checked_sub(1) {
        Some(parent) => ChainLayer::incremental(7, position, parent, size as u64),
        None => ChainLayer::full(7, position, size as u64),
    }
}

fn chain(layers: &[Runs]) -> Plain {
    let layers = layers.iter().enumerate();
    Chain::new(layers.map(|(nth, runs)| (layer(nth, size_of_disk(runs)), from_iter(extents(runs))))).unwrap()
}

/// The byte that layer `nth` has stored at `byte`; never 0.
fn stored(nth: usize, byte: usize) -> u32 {
    u32::try_from((nth + 1) * 100_000 + byte).unwrap()
}

/// Restores with the knowledge that disks grow by zeroes.
fn trusting(layers: &[Runs]) -> Plain {
    chain(layers).growth_reads_as_zero()
}

/// The model. A disk is its bytes, and the layer of each: shrinking cuts, growing adds zeroes, a
/// layer overwrites.
#[derive(Clone, Debug, Default, PartialEq)]
struct Disk {
    bytes: Vec<u32>,
    source: Vec<Option<Source>>,
}

impl Disk {
    fn resize(&mut self, nth: usize, size: usize) {
        self.bytes.resize(size, 0);
        let grown = if nth == 0 { None } else { Some(Source::Zero { layer: nth, may_unmap: true }) };
        self.source.resize(size, grown);
    }

    fn apply(&mut self, nth: usize, runs: &Runs) {
        self.resize(nth, size_of_disk(runs));
        for extent in extents(runs) {
            let (byte, source): (fn(usize, usize) -> u32, _) = match *extent.status() {
                Action::Copy => (stored, Source::Copy { layer: nth }),
                Action::Zero { may_unmap } => (|_, _| 0, Source::Zero { layer: nth, may_unmap }),
                Action::Skip | Action::Absent => continue,
            };
            for at in extent.start() as usize..extent.end() as usize {
                self.bytes[at] = byte(nth, at);
                self.source[at] = Some(source);
            }
        }
    }

    /// The first byte that was added by a growth and not described by any later layer, with the
    /// layer that grew the disk.
    fn grown_and_never_said(&self, layers: &[Runs]) -> Option<(usize, u64)> {
        (0..self.bytes.len()).find_map(|at| {
            let reach = |nth: &usize| size_of_disk(&layers[*nth]) > at;
            let grown = (0..layers.len()).rev().take_while(reach).last()?;
            let says = |layer: &Runs| {
                let byte = extents(layer).into_iter().find(|extent| extent.range().contains(&(at as u64)));
                byte.is_some_and(|extent| matches!(extent.status(), Action::Copy | Action::Zero { .. }))
            };
            (!layers[grown..].iter().any(says)).then_some((grown, at as u64))
        })
    }

    fn of(layers: &[Runs]) -> Self {
        let mut disk = Self::default();
        for (nth, runs) in layers.iter().enumerate() {
            disk.apply(nth, runs);
        }
        disk
    }
}

/// Executes a plan on a disk, as a restore does.
fn carry_out(plan: Sources<Stream>, disk: &mut [u32]) -> Vec<Extent<Source>> {
    let extents = plan.covering(0..disk.len() as u64).collect_vec().unwrap();
    for extent in &extents {
        let start = extent.start() as usize;
        for (nth, byte) in disk[start..extent.end() as usize].iter_mut().enumerate() {
            match *extent.status() {
                Source::Copy { layer } => *byte = stored(layer, start + nth),
                Source::Zero { .. } => *byte = 0,
                Source::Below => {}
            }
        }
    }
    extents
}

fn random_layers(
    count: impl Into<prop::collection::SizeRange>,
    longest: u64,
) -> impl Strategy<Value = Vec<Runs>> {
    let action = prop_oneof![
        2 => Just(COPY), 1 => Just(ZERO), 1 => Just(UNMAP), 6 => Just(Action::Skip), 1 => Just(Action::Absent)
    ];
    let runs = prop::collection::vec((1..longest, action), 0..14);
    (prop::collection::vec(runs, count), any::<u64>()).prop_map(|(mut layers, seed)| {
        // the full has every byte
        for run in &mut layers[0] {
            run.1 = if matches!(run.1, Action::Skip | Action::Absent) { COPY } else { run.1 };
        }
        // three layers of four keep the size of the one before
        for nth in 1..layers.len() {
            if !(seed >> (nth % 60)).is_multiple_of(4) {
                let size = size_of_disk(&layers[nth - 1]) as u64;
                let mut rest = size;
                layers[nth].retain_mut(|run| {
                    run.0 = run.0.min(rest);
                    rest -= run.0;
                    run.0 > 0
                });
                layers[nth].extend((rest > 0).then_some((rest, Action::Skip)));
            }
        }
        layers
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_restores_what_applying_the_layers_makes(layers in random_layers(1..9_usize, 9)) {
        let disk = Disk::of(&layers);
        let chain = trusting(&layers);
        prop_assert_eq!(chain.size(), disk.bytes.len() as u64);
        prop_assert_eq!(chain.check(), Ok(()));
        prop_assert_eq!(chain.layers().len(), layers.len());
        let mut restored = vec![99; disk.bytes.len()];
        let plan = carry_out(chain.restore(), &mut restored);
        prop_assert_eq!(restored, disk.bytes);
        for extent in plan {
            for at in extent.range() {
                prop_assert_eq!(Some(*extent.status()), disk.source[at as usize], "byte {}", at);
            }
        }
    }

    /// Merged layers replace the layers that they are made of, whatever comes before and after.
    #[test]
    fn a_merge_takes_the_place_of_its_layers(
        layers in random_layers(2..9_usize, 9),
        a in 0_usize..9,
        b in 0_usize..9,
    ) {
        let (from, to) = (a.min(b) % layers.len(), a.max(b) % layers.len());
        let (from, to) = (from.min(to), from.max(to) + 1);
        let (merged, plan) = trusting(&layers).merge(from..to).unwrap();
        prop_assert_eq!(merged.parent.as_ref().and_then(|parent| parent.id), from.checked_sub(1));
        prop_assert_eq!((merged.id, merged.size), (Some(to - 1), size_of_disk(&layers[to - 1]) as u64));
        // on top of the layers before, the merged one equals its layers
        let mut disk = Disk::of(&layers[..from]);
        disk.resize(from, size_of_disk(&layers[to - 1]));
        let extents = carry_out(plan, &mut disk.bytes);
        prop_assert_eq!(&disk.bytes, &Disk::of(&layers[..to]).bytes);
        prop_assert!(from > 0 || extents.iter().all(|extent| *extent.status() != Source::Below));
        // and as a layer of a chain it makes the same plan as the layers did
        let actions: Vec<_> = extents.iter().map(|extent| extent.map(Source::action)).collect();
        let before = layers[..from].iter().enumerate();
        let mut shorter: Vec<_> = before
            .map(|(nth, runs)| (layer(nth, size_of_disk(runs)), from_iter(crate::extents(runs))))
            .collect();
        shorter.push((merged, from_iter(actions)));
        for (nth, runs) in layers.iter().enumerate().skip(to) {
            shorter.push((layer(nth, size_of_disk(runs)), from_iter(crate::extents(runs))));
        }
        let shorter = Chain::new(shorter).unwrap().growth_reads_as_zero();
        prop_assert_eq!(shorter.check(), Ok(()));
        let zero = |source: &Source| matches!(source, Source::Zero { .. });
        let zeroes =
            |plan: Sources<Stream>| plan.filter(zero).map_status(|_| ()).coalesce().collect_vec().unwrap();
        prop_assert_eq!(zeroes(shorter.restore()), zeroes(trusting(&layers).restore()));
    }

    /// Without that knowledge, a byte that its newest layer skips although the layer before did not
    /// have it is an error, and no other byte is.
    #[test]
    fn what_a_layer_skips_beyond_the_layer_before_is_refused(
        layers in random_layers(1..9_usize, 9),
    ) {
        let disk = Disk::of(&layers);
        let lost = disk.grown_and_never_said(&layers);
        let restored = chain(&layers).restore().collect_vec();
        prop_assert_eq!(chain(&layers).check().is_ok(), lost.is_none());
        match (restored, lost) {
            (Ok(sources), None) => {
                let whole = sources.iter().map(Extent::length).sum::<u64>();
                prop_assert_eq!(whole, disk.bytes.len() as u64);
            }
            (Err(SourceError::Grown { layer, range }), Some((by, at))) => {
                prop_assert_eq!((layer, range.start), (by, at));
            }
            (restored, lost) => prop_assert!(false, "{restored:?} but {lost:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// 200 layers over a small disk equal, byte for byte, applying them one after the other.
    #[test]
    fn two_hundred_layers(layers in random_layers(200_usize, 24)) {
        let disk = Disk::of(&layers);
        let mut restored = vec![99; disk.bytes.len()];
        let plan = carry_out(trusting(&layers).restore(), &mut restored);
        prop_assert_eq!(restored, disk.bytes);
        prop_assert!(plan.iter().all(|e| e.range().all(|at| disk.source[at as usize] == Some(*e.status()))));
    }
}

/// 10 to 5 to 10: the bytes cut off by the shrink stay away, in the restore as in a merge of the
/// two incrementals.
#[test]
fn a_shrink_brings_no_old_bytes_back() {
    let row = |start, end, source| Extent::from_range(start..end, source).unwrap();
    let grown = |may_unmap| Source::Zero { layer: 2, may_unmap };
    let said = [vec![(10, COPY)], vec![(5, Action::Skip)], vec![(5, Action::Skip), (5, ZERO)]];
    let restored = chain(&said).restore().collect_vec().unwrap();
    assert_eq!(restored, [row(0, 5, Source::Copy { layer: 0 }), row(5, 10, grown(false))]);

    let skipped = [vec![(10, COPY)], vec![(5, Action::Skip)], vec![(10, Action::Skip)]];
    let lost = SourceError::Grown { layer: 2, range: 5..10 };
    assert_eq!(chain(&skipped).restore().collect_vec(), Err(lost.clone()));
    assert_eq!(chain(&skipped).merge(1..3).unwrap().1.collect_vec(), Err(lost.clone()));
    assert_eq!(chain(&skipped).merge(2..3).unwrap().1.collect_vec(), Err(lost), "below, there is nothing");
    let (_, merged) = trusting(&skipped).merge(1..3).unwrap();
    assert_eq!(merged.collect_vec().unwrap(), [row(0, 5, Source::Below), row(5, 10, grown(true))]);
}

#[test]
fn dirty_zeroes_hide_what_lies_under() {
    let layers = [vec![(8, COPY)], vec![(2, Action::Skip), (3, UNMAP), (3, Action::Absent)]];
    let plan: Vec<_> = chain(&layers).restore().into_iter().map(|e| e.unwrap().to_string()).collect();
    assert_eq!(plan, ["0..2 copy from layer 0", "2..5 zero by layer 1", "5..8 copy from layer 0"]);
}

#[test]
fn bytes_in_no_layer_are_an_error() {
    let layers = [
        vec![(4, COPY), (4, Action::Skip), (4, Action::Absent)],
        vec![(6, Action::Skip), (4, COPY), (2, Action::Skip)],
    ];
    let plan = chain(&layers).restore().collect_vec();
    assert_eq!(plan, Err(SourceError::Uncovered { range: 4..6 }));
    assert_eq!(chain(&layers).check(), Err(SourceError::Uncovered { range: 4..6 }));
}

#[test]
fn a_layer_that_does_not_cover_its_disk_is_named() {
    let streams = |second: Vec<Extent<Action>>| {
        let first = from_iter(vec![Extent::new(0, 8, COPY).unwrap()]);
        Chain::new([(layer(0, 8), first), (layer(1, 8), from_iter(second))]).unwrap()
    };
    let extent = |start, end| Extent::from_range(start..end, COPY).unwrap();
    for (list, error) in [
        (vec![extent(0, 3), extent(4, 8)], StreamError::Gap { range: 3..4 }),
        (vec![extent(0, 3), extent(2, 8)], StreamError::Overlap { start: 2, expected: 3 }),
        (vec![extent(0, 9)], StreamError::OutOfRange { extent: 0..9, range: 0..8 }),
        (vec![extent(0, 7)], StreamError::Gap { range: 7..8 }),
    ] {
        let expected = Err(SourceError::Layer { layer: 1, error });
        assert_eq!(streams(list.clone()).check(), expected);
        assert_eq!(streams(list).restore().for_each(drop), expected);
    }
}

/// A caller that continues after an error must not get the old bytes below the failed layer.
#[test]
fn after_an_error_nothing_comes() {
    let full = vec![Extent::new(0, 16, COPY).unwrap()];
    let gap = [(0, 4, Action::Skip), (4, 8, COPY), (9, 16, COPY)];
    let gap = gap.map(|(start, end, action)| Extent::from_range(start..end, action).unwrap()).to_vec();
    let chain = Chain::new([(layer(0, 16), from_iter(full)), (layer(1, 16), from_iter(gap))]).unwrap();
    let mut sources = chain.restore();
    assert!(sources.next_extent().unwrap().is_some());
    assert!(sources.next_extent().unwrap().is_some());
    let error = StreamError::Gap { range: 8..9 };
    assert_eq!(sources.next_extent(), Err(SourceError::Layer { layer: 1, error }));
    assert_eq!(sources.next_extent(), Ok(None));
}

/// `check` finds a fault that no restore would meet.
#[test]
fn hidden_faults_are_found() {
    let faulty = vec![Extent::new(0, 2, COPY).unwrap(), Extent::new(4, 4, COPY).unwrap()];
    let over = vec![Extent::new(0, 8, COPY).unwrap()];
    let chain = Chain::new([(layer(0, 8), from_iter(faulty)), (layer(1, 8), from_iter(over))]).unwrap();
    assert_eq!(chain.check(), Err(SourceError::Layer { layer: 0, error: StreamError::Gap { range: 2..4 } }));
}

fn name(position: usize, id: &str) -> LayerName {
    LayerName { position, id: Some(id.to_owned()) }
}

fn nothing() -> Stream {
    from_iter(Vec::new())
}

#[test]
fn what_is_no_chain_is_refused() {
    let refused = |layers: Vec<ChainLayer<&'static str>>| {
        Chain::new(layers.into_iter().map(|layer| (layer, nothing()))).unwrap_err()
    };
    let full = || ChainLayer::full("vda", "a", 8);
    let next = |id, parent| ChainLayer::incremental("vda", id, parent, 8);
    let missing = |position, id, parent: &str| ChainError::Missing {
        layer: name(position, id),
        parent: parent.to_owned(),
    };
    assert_eq!(refused(vec![]), ChainError::Empty);
    assert_eq!(refused(vec![next("b", "a")]), missing(0, "b", "a"));
    assert_eq!(refused(vec![full(), next("b", "a"), next("d", "c")]), missing(2, "d", "c"));
    let reordered = |position, id, parent: &str, parent_position| ChainError::Reordered {
        layer: name(position, id),
        parent: parent.to_owned(),
        parent_position,
    };
    assert_eq!(refused(vec![full(), next("c", "b"), next("b", "a")]), reordered(1, "c", "b", 2));
    assert_eq!(refused(vec![next("b", "a"), full()]), reordered(0, "b", "a", 1));
    assert_eq!(refused(vec![full(), next("b", "a"), next("c", "a")]), reordered(2, "c", "a", 0));
    assert_eq!(
        refused(vec![full(), ChainLayer::incremental("vdb", "b", "a", 8)]),
        ChainError::OtherDisk { layer: name(1, "b"), disk: "vdb".into(), expected: "vda".into() }
    );
    assert_eq!(
        refused(vec![full(), ChainLayer::full("vda", "b", 8)]),
        ChainError::FullInside { layer: name(1, "b") }
    );
    assert_eq!(
        refused(vec![full(), next("b", "a"), next("a", "b")]),
        ChainError::Twice { layer: name(2, "a"), first: 0 }
    );
    let size = MAX_END + 1;
    assert_eq!(
        refused(vec![ChainLayer::full("vda", "a", size)]),
        ChainError::TooLarge { layer: name(0, "a"), size }
    );
}

/// Layers without names are still linked by sizes and checksums.
#[test]
fn layers_without_names_are_tied_by_sizes_and_checksums() {
    let sum = |bits| Some(Checksum::new(bits));
    let full = ChainLayer::<u8> { disk: None, id: None, size: 8, checksum: sum(1), parent: None };
    let next = |size, checksum| ChainLayer {
        checksum: sum(2),
        parent: Some(ParentLayer { id: None, size, checksum }),
        ..full.clone()
    };
    let chain = |layers: Vec<ChainLayer<u8>>| Chain::new(layers.into_iter().map(|layer| (layer, nothing())));
    let layer = |position| LayerName { position, id: None };

    let tied = chain(vec![full.clone(), next(Some(8), sum(1))]).unwrap();
    assert_eq!(tied.unchecked().count(), 0, "the checksum says that it is the parent");
    let sized = chain(vec![full.clone(), next(Some(8), None)]).unwrap();
    let facts: Vec<_> = sized.unchecked().map(|unchecked| unchecked.fact).collect();
    assert_eq!(facts, [ChainFact::Disk, ChainFact::ParentName, ChainFact::ParentChecksum]);
    let loose = chain(vec![full.clone(), next(None, None)]).unwrap();
    assert_eq!(loose.unchecked().count(), 4);
    assert!(loose.unchecked().all(|unchecked| unchecked.layer == layer(1)));
    assert_eq!(chain(vec![full.clone()]).unwrap().unchecked().count(), 0, "a full is compared with nothing");
    // what only one side states is compared with nothing
    let mut named = next(Some(8), None);
    (named.disk, named.parent) = (Some(1), Some(ParentLayer { id: Some(1), size: Some(8), checksum: None }));
    let one_sided = chain(vec![full.clone(), named]).unwrap();
    let facts: Vec<_> = one_sided.unchecked().map(|unchecked| unchecked.fact).collect();
    assert_eq!(facts, [ChainFact::Disk, ChainFact::ParentName, ChainFact::ParentChecksum]);

    let refused = |layers| chain(layers).unwrap_err();
    assert_eq!(
        refused(vec![full.clone(), next(Some(7), sum(1))]),
        ChainError::OtherSize { layer: layer(1), stated: 7, found: 8 }
    );
    assert_eq!(
        refused(vec![full.clone(), next(Some(8), sum(3))]),
        ChainError::OtherParent { layer: layer(1), stated: Checksum::new(3), found: Checksum::new(1) }
    );
    let inc = next(None, None);
    assert_eq!(refused(vec![inc.clone()]), ChainError::NoFull { layer: layer(0) });
    assert_eq!(
        refused(vec![full.clone(), inc.clone(), inc]),
        ChainError::Twice { layer: layer(2), first: 1 }
    );
}

/// Incrementals for a disk that already holds an older state.
#[test]
fn incrementals_stand_on_a_base() {
    let base = || ChainLayer::full(7, 1, 4);
    let on = |base, layers: &[(usize, usize, Runs)]| {
        let layers = layers.iter().map(|(id, parent, runs)| {
            let size = size_of_disk(runs) as u64;
            (ChainLayer::incremental(7, *id, *parent, size), from_iter(extents(runs)))
        });
        Chain::onto(base, layers)
    };
    let grown = vec![(3, Action::Skip), (1, COPY), (2, ZERO)];
    let chain = on(base(), &[(2, 1, grown.clone())]).unwrap();
    assert_eq!(chain.check(), Ok(()));
    let plan: Vec<_> = chain.restore().into_iter().map(|e| e.unwrap().to_string()).collect();
    assert_eq!(plan, ["0..3 below", "3..4 copy from layer 0", "4..6 zero by layer 0"]);

    let lost = vec![(4, Action::Skip), (1, COPY), (1, Action::Skip)];
    let lost = on(base(), &[(2, 1, lost)]).unwrap();
    assert_eq!(lost.check(), Err(SourceError::Grown { layer: 0, range: 5..6 }));
    assert_eq!(lost.merge(0..1).unwrap().1.collect_vec(), Err(SourceError::Grown { layer: 0, range: 5..6 }));

    let missing = ChainError::Missing { layer: name(0, "3"), parent: "2".into() };
    assert_eq!(on(base(), &[(3, 2, grown.clone())]).unwrap_err(), missing);
    let full = (ChainLayer::full(7, 2, 6), from_iter(extents(&grown)));
    assert_eq!(Chain::onto(base(), [full]).unwrap_err(), ChainError::FullOnBase { layer: name(0, "2") });
}

/// `?` converts the error of a chain into a boxed one, whatever the type of the layers' names.
#[test]
fn errors_of_chains_with_borrowed_names_can_be_boxed() {
    fn open(names: &[String]) -> Result<Chain<&str, Stream>, Box<dyn core::error::Error + Send + Sync>> {
        let layers = names.iter().map(|name| (ChainLayer::full("vda", name.as_str(), 8), nothing()));
        Ok(Chain::new(layers)?)
    }
    let error = open(&["a".to_owned(), "b".to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), "layer b at position 1 is a full backup; only the first layer can be one");
}

#[test]
fn only_layers_of_the_chain_can_be_merged() {
    let layers = [vec![(4, COPY)], vec![(4, COPY)]];
    for range in [0..3, 1..1, 2..3, core::ops::Range { start: usize::MAX, end: 0 }] {
        let refused = chain(&layers).merge(range.clone()).unwrap_err();
        assert_eq!(refused, ChainError::NoSuchLayers { range, layers: 2 });
    }
    let empty = chain(&[vec![]]);
    assert_eq!(empty.check(), Ok(()));
    assert_eq!(empty.restore().collect_vec(), Ok(vec![]));
}

/// Counts the extents read from it.
struct Counted {
    stream: Stream,
    read: Rc<Cell<usize>>,
}

impl ExtentSource for Counted {
    type Status = Action;
    type Error = StreamError;

    fn pull(&mut self) -> Result<Option<Extent<Action>>, StreamError> {
        self.read.set(self.read.get() + 1);
        self.stream.next_extent()
    }
}

/// One pass, and at most one extent ahead: after the first piece of 100 layers each has been read
/// once, in the end each at most to its end.
#[test]
fn a_plan_is_lazy() {
    let read = Rc::new(Cell::new(0));
    let layers = (0..100).map(|nth| {
        let runs: Runs =
            (0..1000).map(|n| (8, if nth == 0 || n % 100 == nth { COPY } else { Action::Skip })).collect();
        (layer(nth, 8000), Counted { stream: from_iter(extents(&runs)), read: Rc::clone(&read) })
    });
    let mut plan = Chain::new(layers).unwrap().restore();
    assert_eq!(read.get(), 0);
    plan.next_extent().unwrap();
    let first = read.get();
    assert!(first <= 100 * 101, "each reads to its first stored extent: {first}");
    let extents = plan.collect_vec().unwrap();
    assert_eq!(extents.len(), 999);
    assert!(read.get() <= 100 * 1001, "{} of {}", read.get(), 100 * 1001);
}

/// A layer is not read while a newer one hides it.
#[test]
fn what_is_hidden_is_not_read() {
    let read = Rc::new(Cell::new(0));
    let small: Runs = (0..100_000).map(|_| (1, COPY)).collect();
    let lower = Counted { stream: from_iter(extents(&small)), read: Rc::clone(&read) };
    let upper = Counted { stream: from_iter(extents(&vec![(100_000, ZERO)])), read: Rc::default() };
    let mut plan = Chain::new([(layer(0, 100_000), lower), (layer(1, 100_000), upper)]).unwrap().restore();
    assert_eq!(plan.next_extent().unwrap().unwrap().length(), 100_000);
    assert_eq!(read.get(), 1);
    assert_eq!(plan.next_extent().unwrap(), None);
}

/// A checksum that is read loosely, or written as another, ties a layer to the wrong parent.
#[test]
fn a_checksum_is_32_digits_and_nothing_else() {
    let text = "00112233445566778899aabbccddeeff";
    let checksum: Checksum = text.parse().unwrap();
    assert_eq!(checksum.bits(), 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    assert_eq!((checksum.to_string(), format!("{checksum:?}")), (text.into(), format!("Checksum({text})")));
    for odd in ["", "0", "+0112233445566778899aabbccddeeff", &text.replace('f', "g"), &format!("{text}0")] {
        assert!(odd.parse::<Checksum>().is_err(), "{odd:?}");
    }
}

#[test]
fn faults_and_facts_say_which_layer_they_are_about() {
    let positions = [
        (ChainError::FullInside { layer: name(2, "b") }, Some(2)),
        (ChainError::Missing { layer: name(3, "d"), parent: "c".into() }, Some(3)),
        (ChainError::Empty, None),
    ];
    for (error, position) in positions {
        assert_eq!(error.position(), position, "{error}");
    }
    assert_eq!(Source::Copy { layer: 3 }.layer(), Some(3));
    assert_eq!(Source::Zero { layer: 2, may_unmap: false }.layer(), Some(2));
    assert_eq!(Source::Below.layer(), None);
    let unchecked = Unchecked { layer: name(1, "b"), fact: ChainFact::ParentSize };
    assert_eq!(unchecked.to_string(), "layer b at position 1: the parent's disk size could not be checked");
}

/// The longest disk that an extent can describe is one.
#[test]
fn a_disk_may_end_at_the_highest_offset() {
    let whole = vec![Extent::new(0, MAX_END, COPY).unwrap()];
    let full = ChainLayer::full("vda", "a", MAX_END);
    let chain = Chain::new([(full, from_iter(whole))]).unwrap();
    assert_eq!(chain.check(), Ok(()));
    assert!(format!("{chain:?}").contains("\"a\""), "{chain:?}");
}

/// In a log, a restore says how far it is.
#[test]
fn a_restore_shows_its_layers_and_its_position() {
    let layers = [vec![(8, COPY)], vec![(8, COPY)], vec![(2, COPY), (6, Action::Skip)]];
    let mut plan = chain(&layers).merge(1..3).unwrap().1;
    plan.next_extent().unwrap();
    assert_eq!(format!("{plan:?}"), "Sources { layers: 1..3, position: 2, end: 8, .. }");
}
