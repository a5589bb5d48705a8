//! From every format into every other that can carry the meaning, and back, over random maps:
//! nothing is lost and nothing is invented. Where a format cannot carry it, the conversion is
//! refused for the reason that the table below names.

use nbd_extents::Extent;
use nbd_extents::stream::{ExtentStream, from_iter};
use std::collections::BTreeSet;

use nbd_extents_formats::{
    Assume, Attribute, Attributes, ConvertError, Format, ImageLayer, ListWriteError, Loss, MergeError,
    ReadOptions, WriteOptions, merge,
};
use proptest::prelude::*;

/// The attributes that a format must and can state, and whether it can number layers: the table of
/// the module page, by hand.
fn can(format: Format) -> (&'static [Attribute], &'static [Attribute], bool) {
    use Attribute::{Compressed, Dirty, Hole, HostOffset, Layer, Searched, Zero};
    match format {
        Format::ImageioZero => (&[Zero], &[Zero, Layer], false),
        Format::ImageioDirty => (&[Dirty], &[Dirty, Zero], false),
        Format::NbdinfoAllocation | Format::NbdinfoAllocationJson => (&[Zero], &[Zero, Hole], false),
        Format::KubevirtFull | Format::Extentlist => (&[Zero], &[Zero, Hole], false),
        Format::NbdinfoDirty | Format::NbdinfoDirtyJson => (&[Dirty], &[Dirty], false),
        Format::QemuImgDirty | Format::CsiDelta => (&[Dirty], &[Dirty], false),
        Format::NbdinfoDepth | Format::NbdinfoDepthJson => (&[Layer], &[Layer], true),
        Format::QemuImg => (&[Layer, Zero], &[Zero, Hole, Layer, Searched, Compressed, HostOffset], true),
        Format::QemuImgDepth => (&[Layer], &[Layer], true),
        Format::KubevirtIncremental => (&[Zero, Dirty], &[Zero, Dirty], false),
        Format::Combined => (&[Zero, Dirty], &[Zero, Dirty, Hole], false),
        Format::CsiAllocated => (&[Layer], &[Layer], false),
        Format::Qcow2reader => (&[Layer, Zero, Compressed], &[Layer, Zero, Compressed], false),
        other => panic!("no row for {other}"),
    }
}

/// The verdict of the table: the facts that must be said and are not known, or those that cannot be
/// said.
fn verdict(to: Format, facts: &Attributes) -> Result<(), (Option<Attribute>, BTreeSet<Attribute>)> {
    let (must, may, numbers) = can(to);
    let known = |fact| match fact {
        Attribute::Zero => facts.zero.is_some(),
        Attribute::Hole => facts.hole,
        Attribute::Dirty => facts.dirty.is_some(),
        Attribute::Layer => facts.layer.is_some(),
        Attribute::Searched => facts.searched.is_some(),
        Attribute::Compressed => facts.compressed.is_some(),
        _ => facts.host_offset.is_some(),
    };
    // a depth that has no number cannot be written as one; in qemu's map of it, those from 2 on
    // have none
    let backing = to == Format::QemuImgDepth;
    let unnumbered = |fact| {
        let layer =
            facts.layer == Some(ImageLayer::Present) || !backing && facts.layer == Some(ImageLayer::Backing);
        fact == Attribute::Layer && numbers && layer
    };
    if let Some(&fact) = must.iter().find(|&&fact| !known(fact) || unnumbered(fact)) {
        return Err((Some(fact), BTreeSet::new()));
    }
    let all = [
        Attribute::Zero,
        Attribute::Hole,
        Attribute::Dirty,
        Attribute::Layer,
        Attribute::Searched,
        Attribute::Compressed,
        Attribute::HostOffset,
    ];
    let too_fine = |fact| {
        let layer = match facts.layer {
            Some(ImageLayer::Depth(depth)) => !numbers || backing && depth > 1,
            Some(ImageLayer::Backing) => !numbers,
            _ => false,
        };
        fact == Attribute::Layer && layer
    };
    let lost = all.into_iter().filter(|&fact| known(fact) && (!may.contains(&fact) || too_fine(fact)));
    let lost = BTreeSet::from_iter(lost);
    if lost.is_empty() { Ok(()) } else { Err((None, lost)) }
}

fn facts() -> impl Strategy<Value = Attributes> {
    let layer = prop_oneof![
        Just(ImageLayer::Absent),
        (1..5_u32).prop_map(ImageLayer::Depth),
        Just(ImageLayer::Depth(u32::MAX))
    ];
    let offset = prop::option::of(prop_oneof![0..100_u64, Just(u64::MAX)]);
    (any::<bool>(), any::<bool>(), any::<bool>(), layer, any::<bool>(), offset).prop_map(
        |(zero, hole, dirty, layer, compressed, host_offset)| Attributes {
            zero: Some(zero),
            hole,
            dirty: Some(dirty),
            layer: Some(layer),
            // qemu's number where no image holds the bytes
            searched: host_offset
                .and_then(|n| u32::try_from(n).ok())
                .filter(|&n| n > 0 && layer == ImageLayer::Absent),
            compressed: Some(compressed),
            host_offset,
        },
    )
}

/// A map that covers a disk from 0 on.
fn disk() -> impl Strategy<Value = Vec<Extent<Attributes>>> {
    let length = prop_oneof![1..9_u64, 1..(1_u64 << 40)];
    prop::collection::vec((length, facts()), 1..20).prop_map(|rows| {
        let mut start = 0;
        let place = |(length, facts)| {
            let extent = Extent::new(start, length, facts).unwrap();
            start = extent.end();
            extent
        };
        rows.into_iter().map(place).collect()
    })
}

fn write_with(
    to: Format,
    rows: &[Extent<Attributes>],
    options: WriteOptions,
) -> Result<String, ListWriteError> {
    let size = Some(rows.last().unwrap().end());
    let options = WriteOptions { size, page: 3.try_into().unwrap(), ..options };
    let mut out = Vec::new();
    match to.writer(&mut out, options).write_all(from_iter(rows.to_vec())) {
        Ok(_) => Ok(String::from_utf8(out).unwrap()),
        Err(ConvertError::Write(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

fn write(to: Format, rows: &[Extent<Attributes>], loss: Loss) -> Result<String, ListWriteError> {
    write_with(to, rows, WriteOptions { loss, ..WriteOptions::default() })
}

fn read(from: Format, text: &str, size: u64) -> Vec<Extent<Attributes>> {
    let options = ReadOptions { size: Some(size), ..ReadOptions::default() };
    from.read(text.as_bytes(), options)
        .coalesce()
        .collect_vec()
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

proptest! {
    #[test]
    fn there_and_back(disk in disk()) {
        let size = disk.last().unwrap().end();
        for &a in Format::ALL {
            let text = write(a, &disk, Loss::Allow).unwrap();
            let said = read(a, &text, size);
            for &b in Format::ALL {
                let expected =
                    said.iter().find_map(|row| verdict(b, row.status()).err().map(|why| (row.start(), why)));
                match (write(b, &said, Loss::Refuse), expected) {
                    (Ok(there), None) => {
                        let heard = read(b, &there, size);
                        prop_assert_eq!(&heard, &said, "{} to {}: {}", a, b, there);
                        prop_assert_eq!(
                            write(a, &heard, Loss::Refuse).unwrap(),
                            &*text,
                            "{} to {} and back",
                            a,
                            b
                        );
                    }
                    (
                        Err(ListWriteError::Unknown { attribute: fact, start, .. }),
                        Some((at, (Some(missing), _))),
                    ) => {
                        // several may be missing; the writer names one of them
                        prop_assert_eq!(start, at);
                        prop_assert!(fact == missing || can(b).0.contains(&fact), "{} to {}", a, b);
                    }
                    (Err(ListWriteError::Lost { lost, start, .. }), Some((at, (None, expected)))) => {
                        prop_assert_eq!((start, lost), (at, expected), "{} to {}", a, b);
                    }
                    (got, expected) => {
                        prop_assert!(false, "{a} to {b}: {got:?}, but the table says {expected:?}")
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_left_out_is_never_less_safe(disk in disk()) {
        // dirty stays dirty and data stays data, whatever is lost on the way and whatever
        // is taken for known
        let size = disk.last().unwrap().end();
        let assume = Assume { dirty: true, data: true };
        for &a in Format::ALL {
            let said = read(a, &write(a, &disk, Loss::Allow).unwrap(), size);
            for &b in Format::ALL {
                let options = WriteOptions { loss: Loss::Allow, assume, ..WriteOptions::default() };
                let Ok(out) = write_with(b, &said, options) else {
                    continue; // no layer to write
                };
                let heard = read(b, &out, size);
                let both =
                    from_iter(said.clone()).merge(from_iter(heard), |a, b| (*a, *b)).collect_vec().unwrap();
                for (said, heard) in both.into_iter().map(Extent::into_status) {
                    if heard.dirty == Some(false) {
                        prop_assert_eq!(said.dirty, Some(false), "{} to {}", a, b);
                    }
                    if heard.zero == Some(true) {
                        prop_assert_eq!(said.zero, Some(true), "{} to {}", a, b);
                    }
                    if heard.layer == Some(ImageLayer::Absent) {
                        prop_assert_eq!(said.layer, Some(ImageLayer::Absent), "{} to {}", a, b);
                    }
                }
            }
        }
    }
}

#[test]
fn many_pairs_carry_the_meaning() {
    // the property above would hold if every conversion were refused: these are the pairs that are
    // not, for a disk that says all it can
    let all = |zero, dirty| Attributes { zero: Some(zero), dirty: Some(dirty), ..Attributes::default() };
    let disk = [(true, false), (true, true), (false, true), (false, false)];
    let place =
        |(nth, (zero, dirty)): (u64, (bool, bool))| Extent::new(nth * 512, 512, all(zero, dirty)).unwrap();
    let disk: Vec<_> = (0..).zip(disk).map(place).collect();
    let pairs = |a: Format| {
        let text = if write(a, &disk, Loss::Refuse).is_ok() {
            write(a, &disk, Loss::Refuse)
        } else {
            write(a, &disk, Loss::Allow)
        };
        let Ok(text) = text else { return 0 };
        let said = read(a, &text, 2048);
        Format::ALL.iter().filter(|&&b| write(b, &said, Loss::Refuse).is_ok()).count()
    };
    assert_eq!(pairs(Format::ImageioDirty), 3, "itself, KubeVirt's incremental, and our own");
    assert_eq!(pairs(Format::NbdinfoDirty), 5, "both of nbdinfo, qemu-img, ovirt-imageio before 2.2.0, CSI");
    assert_eq!(
        pairs(Format::NbdinfoAllocation),
        5,
        "both of nbdinfo, KubeVirt's full, extent lists, ovirt-imageio without holes"
    );
}

#[test]
fn a_merge_takes_the_safer_of_two_answers() {
    let known = |zero, dirty| Attributes { zero, dirty, ..Attributes::default() };
    let cases = [
        (known(Some(true), None), known(Some(false), None), known(Some(false), None)),
        (known(None, Some(false)), known(Some(true), Some(true)), known(Some(true), Some(true))),
        (known(None, None), known(None, Some(false)), known(None, Some(false))),
    ];
    for (one, two, both) in cases {
        assert_eq!((one.combine(&two), two.combine(&one)), (both, both));
    }
    use ImageLayer::{Absent, Backing, Depth, Present};
    let layers = [
        (Present, Depth(2), Some(Depth(2))),
        (Backing, Depth(2), Some(Depth(2))),
        (Backing, Present, Some(Backing)),
        (Backing, Depth(1), None),
        (Absent, Present, None),
        (Depth(1), Depth(2), None),
    ];
    for (one, two, both) in layers {
        let layer = |layer| Attributes { layer, ..Attributes::default() };
        assert_eq!(layer(Some(one)).combine(&layer(Some(two))), layer(both), "{one:?} and {two:?}");
        assert_eq!(layer(Some(two)).combine(&layer(Some(one))), layer(both), "{two:?} and {one:?}");
    }
}

#[test]
fn a_merge_of_lists_that_cover_different_bytes_is_refused() {
    let merged = |dirty: &'static str, zero: &'static str| {
        let options = ReadOptions::default();
        let first = Format::NbdinfoDirty.read(dirty.as_bytes(), options);
        merge(first, Format::NbdinfoAllocation.read(zero.as_bytes(), options)).collect_vec()
    };
    let short = merged("0 512 1 dirty\n", "0 1024 0 data\n").unwrap_err();
    assert_eq!(short, MergeError::Uneven { range: 512..1024, silent: 0 });
    assert_eq!(short.to_string(), "the first list leaves out bytes 512..1024, which the other describes");
    let long = merged("0 1024 1 dirty\n", "0 512 0 data\n").unwrap_err();
    assert_eq!(long, MergeError::Uneven { range: 512..1024, silent: 1 });
    let late = merged("512 512 1 dirty\n", "0 1024 0 data\n").unwrap_err();
    assert_eq!(late, MergeError::Uneven { range: 0..512, silent: 0 });
    let broken = merged("0 512 1 dirty\n", "0 512 1 dirty\n").unwrap_err().to_string();
    assert!(broken.starts_with("the second list: nbdinfo-allocation, line 1, column 1: "), "{broken}");
}
