//! From every format into every other that can carry the meaning, and back, over random maps: nothing is lost and nothing is invented. Where a format
//! cannot carry it, the conversion is refused for the reason that the table below names.

use nbd_extents::Extent;
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents_formats::{
    self, Assume, Fact, FactSet, Facts, Format, Layer, Loss, ReadOptions, WriteError, WriteOptions,
};
use proptest::prelude::*;

/// What a format must say, what it can say, and whether it can number layers: the table of the module page, by hand.
fn can(format: Format) -> (&'static [Fact], &'static [Fact], bool) {
    use Fact::{Compressed, Dirty, Hole, HostOffset, Layer, Zero};
    match format {
        Format::ImageioZero => (&[Zero], &[Zero, Layer], false),
        Format::ImageioDirty => (&[Dirty], &[Dirty, Zero], false),
        Format::NbdinfoAllocation | Format::NbdinfoAllocationJson => (&[Zero], &[Zero, Hole], false),
        Format::KubevirtFull | Format::Extentlist => (&[Zero], &[Zero, Hole], false),
        Format::NbdinfoDirty | Format::NbdinfoDirtyJson => (&[Dirty], &[Dirty], false),
        Format::QemuImgDirty | Format::CsiDelta => (&[Dirty], &[Dirty], false),
        Format::NbdinfoDepth | Format::NbdinfoDepthJson => (&[Layer], &[Layer], true),
        Format::QemuImg => (&[Layer, Zero], &[Zero, Hole, Layer, Compressed, HostOffset], true),
        Format::KubevirtIncremental => (&[Zero, Dirty], &[Zero, Dirty], false),
        Format::CsiAllocated => (&[Layer], &[Layer], false),
        Format::Qcow2reader => (&[Layer, Zero, Compressed], &[Layer, Zero, Compressed], false),
        other => panic!("no row for {other}"),
    }
}

/// The verdict of the table: the facts that must be said and are not known, or those that cannot be said.
fn verdict(to: Format, facts: &Facts) -> Result<(), (Option<Fact>, FactSet)> {
    let (must, may, numbers) = can(to);
    let known = |fact| match fact {
        Fact::Zero => facts.zero.is_some(),
        Fact::Hole => facts.hole,
        Fact::Dirty => facts.dirty.is_some(),
        Fact::Layer => facts.layer.is_some(),
        Fact::Compressed => facts.compressed.is_some(),
        _ => facts.host_offset.is_some(),
    };
    // a depth that has no number cannot be written as one
    let unnumbered = |fact| fact == Fact::Layer && numbers && facts.layer == Some(Layer::Present);
    if let Some(&fact) = must.iter().find(|&&fact| !known(fact) || unnumbered(fact)) {
        return Err((Some(fact), FactSet::default()));
    }
    let all = [Fact::Zero, Fact::Hole, Fact::Dirty, Fact::Layer, Fact::Compressed, Fact::HostOffset];
    let too_fine = |fact| fact == Fact::Layer && !numbers && matches!(facts.layer, Some(Layer::Depth(_)));
    let lost = all.into_iter().filter(|&fact| known(fact) && (!may.contains(&fact) || too_fine(fact)));
    let lost = lost.fold(FactSet::default(), FactSet::with);
    if lost.is_empty() { Ok(()) } else { Err((None, lost)) }
}

fn facts() -> impl Strategy<Value = Facts> {
    let layer =
        prop_oneof![Just(Layer::Absent), (1..5_u32).prop_map(Layer::Depth), Just(Layer::Depth(u32::MAX))];
    let offset = prop::option::of(prop_oneof![0..100_u64, Just(u64::MAX)]);
    (any::<bool>(), any::<bool>(), any::<bool>(), layer, any::<bool>(), offset).prop_map(
        |(zero, hole, dirty, layer, compressed, host_offset)| Facts {
            zero: Some(zero),
            hole,
            dirty: Some(dirty),
            layer: Some(layer),
            compressed: Some(compressed),
            host_offset,
        },
    )
}

/// A map that covers a disk from 0 on.
fn disk() -> impl Strategy<Value = Vec<Extent<Facts>>> {
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

fn write(to: Format, rows: &[Extent<Facts>], loss: Loss) -> Result<String, WriteError> {
    let size = Some(rows.last().unwrap().end());
    let page = 3.try_into().unwrap();
    let options = WriteOptions { size, loss, page, ..WriteOptions::default() };
    let mut out = String::new();
    match nbd_extents_formats::write(from_iter(rows.to_vec()), &mut *to.encoder(&options)?, &mut out) {
        Ok(()) => Ok(out),
        Err(nbd_extents_formats::OutputError::Format(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

fn read(from: Format, text: &str, size: u64) -> Vec<Extent<Facts>> {
    let options = ReadOptions { size: Some(size), ..ReadOptions::default() };
    let decoder = from.decoder(&options).unwrap();
    nbd_extents_formats::read(decoder, text.as_bytes())
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
                let expected = said.iter().find_map(|row| verdict(b, row.status()).err().map(|why| (row.start(), why)));
                match (write(b, &said, Loss::Refuse), expected) {
                    (Ok(there), None) => {
                        let heard = read(b, &there, size);
                        prop_assert_eq!(&heard, &said, "{} to {}: {}", a, b, there);
                        prop_assert_eq!(write(a, &heard, Loss::Refuse).unwrap(), &*text, "{} to {} and back", a, b);
                    }
                    (Err(WriteError::Unknown { fact, start }), Some((at, (Some(missing), _)))) => {
                        // several may be missing; the writer names one of them
                        prop_assert_eq!(start, at);
                        prop_assert!(fact == missing || can(b).0.contains(&fact), "{} to {}", a, b);
                    }
                    (Err(WriteError::Lost { lost, start }), Some((at, (None, expected)))) => {
                        prop_assert_eq!((start, lost), (at, expected), "{} to {}", a, b);
                    }
                    (got, expected) => prop_assert!(false, "{a} to {b}: {got:?}, but the table says {expected:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_left_out_is_never_less_safe(disk in disk()) {
        // dirty stays dirty and what is not zero stays so, whatever is lost on the way and whatever is taken for known
        let size = disk.last().unwrap().end();
        let assume = Assume { dirty: true, data: true };
        for &a in Format::ALL {
            let said = read(a, &write(a, &disk, Loss::Allow).unwrap(), size);
            for &b in Format::ALL {
                let page = 3.try_into().unwrap();
                let options = WriteOptions { size: Some(size), loss: Loss::Allow, assume, page, ..WriteOptions::default() };
                let mut out = String::new();
                let mut encoder = b.encoder(&options).unwrap();
                if nbd_extents_formats::write(from_iter(said.clone()), &mut *encoder, &mut out).is_err() {
                    continue; // no layer to write
                }
                let heard = read(b, &out, size);
                let both = from_iter(said.clone()).merge(from_iter(heard), |a, b| (*a, *b)).collect_vec().unwrap();
                for (said, heard) in both.into_iter().map(Extent::into_status) {
                    if heard.dirty == Some(false) {
                        prop_assert_eq!(said.dirty, Some(false), "{} to {}", a, b);
                    }
                    if heard.zero == Some(true) {
                        prop_assert_eq!(said.zero, Some(true), "{} to {}", a, b);
                    }
                    if heard.layer == Some(Layer::Absent) {
                        prop_assert_eq!(said.layer, Some(Layer::Absent), "{} to {}", a, b);
                    }
                }
            }
        }
    }
}

#[test]
fn many_pairs_carry_the_meaning() {
    // the property above would hold if every conversion were refused: these are the pairs that are not, for a disk that says all it can
    let all = |zero, dirty| Facts { zero: Some(zero), dirty: Some(dirty), ..Facts::default() };
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
    assert_eq!(pairs(Format::ImageioDirty), 2, "itself and KubeVirt's incremental");
    assert_eq!(pairs(Format::NbdinfoDirty), 5, "both of nbdinfo, qemu-img, ovirt-imageio before 2.2.0, CSI");
    assert_eq!(
        pairs(Format::NbdinfoAllocation),
        5,
        "both of nbdinfo, KubeVirt's full, extent lists, ovirt-imageio without holes"
    );
}
