//! The formats of others, against what the programs themselves printed: every file is read and written back to the byte, in pieces of any size, and
//! the files about one disk must say the same of it.

use core::num::NonZeroU64;

use nbd_extents::{Allocation, Depth, Dirtiness, Extent};
use nbd_extents_formats::{
    Decode, Encode, Facts, Format, Layer, ReadOptions, Row, WriteOptions, csi, imageio, kubevirt, nbdinfo,
    qemu_img,
};

const SIZE: u64 = 6_291_456;

fn data(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Reads a whole text that comes in pieces.
fn read<D: Decode>(mut decoder: D, text: &[u8], piece: usize) -> Vec<Extent<D::Row>> {
    let mut all = Vec::new();
    for mut bytes in text.chunks(piece) {
        while let Some(extent) = decoder.next(&mut bytes).unwrap() {
            all.push(extent);
        }
        assert!(bytes.is_empty());
    }
    while let Some(extent) = decoder.end().unwrap() {
        all.push(extent);
    }
    all
}

fn write<E: Encode + ?Sized>(encoder: &mut E, rows: &[Extent<E::Row>]) -> String {
    let mut out = String::new();
    rows.iter().for_each(|row| encoder.extent(row, &mut out).unwrap());
    encoder.finish(&mut out).unwrap();
    out
}

/// The file is read and written back to the byte.
#[track_caller]
fn golden<D: Decode<Row: PartialEq + core::fmt::Debug>>(
    name: &str,
    decoder: impl Fn() -> D,
    mut encoder: impl Encode<Row = D::Row>,
) -> Vec<Extent<D::Row>> {
    let text = data(name);
    let rows = read(decoder(), &text, usize::MAX);
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(read(decoder(), &text, piece), rows, "{name} in pieces of {piece}");
    }
    assert_eq!(write(&mut encoder, &rows), String::from_utf8(text).unwrap(), "{name}");
    rows
}

fn page(size: u64) -> NonZeroU64 {
    NonZeroU64::new(size).unwrap()
}

#[test]
fn every_file_is_written_back_to_the_byte() {
    golden("imageio-zero.json", imageio::ZeroReader::new, imageio::ZeroWriter::new());
    golden("imageio-dirty.json", imageio::DirtyReader::new, imageio::DirtyWriter::new());
    golden("nbdinfo-allocation.txt", nbdinfo::TextReader::<Allocation>::new, nbdinfo::TextWriter::new());
    golden("nbdinfo-allocation.json", nbdinfo::JsonReader::<Allocation>::new, nbdinfo::JsonWriter::new());
    golden("nbdinfo-dirty.txt", nbdinfo::TextReader::<Dirtiness>::new, nbdinfo::TextWriter::new());
    golden("nbdinfo-dirty.json", nbdinfo::JsonReader::<Dirtiness>::new, nbdinfo::JsonWriter::new());
    for name in ["nbdinfo-depth", "nbdinfo-chain-depth"] {
        let text = format!("{name}.txt");
        golden(&text, nbdinfo::TextReader::<Depth>::new, nbdinfo::TextWriter::new());
        golden(&format!("{name}.json"), nbdinfo::JsonReader::<Depth>::new, nbdinfo::JsonWriter::new());
    }
    golden("nbdinfo-all-types.txt", nbdinfo::TextReader::<Allocation>::new, nbdinfo::TextWriter::new());
    golden("nbdinfo-all-types.json", nbdinfo::JsonReader::<Allocation>::new, nbdinfo::JsonWriter::new());
    golden("nbdinfo-empty.json", nbdinfo::JsonReader::<Allocation>::new, nbdinfo::JsonWriter::new());
    for name in ["", "-chain", "-compressed", "-empty", "-before-8.2", "-before-6.1"] {
        golden(&format!("qemu-img{name}.json"), qemu_img::Reader::new, qemu_img::Writer::new());
    }
    golden("qemu-img-dirty.json", qemu_img::DirtyReader::new, qemu_img::DirtyWriter::new());
    golden("kubevirt-full.json", kubevirt::Reader::<kubevirt::Full>::new, kubevirt::Writer::new(page(1000)));
    let incremental = kubevirt::Reader::<kubevirt::Incremental>::new;
    golden("kubevirt-incremental.json", incremental, kubevirt::Writer::new(page(3)));
    let variable = csi::Writer::new(SIZE, csi::Blocks::Variable, page(100));
    golden("csi-delta-variable.json", || csi::Reader::delta(0), variable);
    let fixed = csi::Writer::new(SIZE, csi::Blocks::Fixed(page(65536)), page(10));
    golden("csi-delta-fixed.json", || csi::Reader::delta(0), fixed);
    let allocated = || csi::Reader::allocated(0, csi::Unallocated::Undefined);
    golden("csi-allocated.json", allocated, csi::Writer::new(SIZE, csi::Blocks::Variable, page(100)));
    golden(
        "extentlist.txt",
        || nbd_extents_formats::extentlist::Reader::new(SIZE),
        nbd_extents_formats::extentlist::Writer::new(),
    );
    golden(
        "qcow2reader.jsonl",
        nbd_extents_formats::qcow2reader::Reader::new,
        nbd_extents_formats::qcow2reader::Writer::new(),
    );
}

#[test]
fn totals_are_written_back_to_the_byte() {
    use nbd_extents_formats::nbdinfo::Totals;
    for name in ["allocation", "all-types", "empty"] {
        let text = data(&format!("nbdinfo-{name}-totals.json"));
        let totals = Totals::<Allocation>::from_json(&text).unwrap();
        assert_eq!(totals.json().to_string().as_bytes(), text, "{name}");
    }
    let text = data("nbdinfo-dirty-totals.json");
    assert_eq!(Totals::<Dirtiness>::from_json(&text).unwrap().json().to_string().as_bytes(), text);
    let text = data("nbdinfo-depth-totals.json");
    assert_eq!(Totals::<Depth>::from_json(&text).unwrap().json().to_string().as_bytes(), text);

    let text = data("nbdinfo-all-types-totals.txt");
    let totals = Totals::<Allocation>::from_text(&text).unwrap();
    assert_eq!(totals.text().to_string().as_bytes(), text);
    assert_eq!(totals.size(), 12_345_678_901);
    let rows = read(nbdinfo::TextReader::<Allocation>::new(), &data("nbdinfo-all-types.txt"), 100);
    assert_eq!(Totals::of(nbd_extents::stream::from_iter(rows)).unwrap(), totals, "of the map beside it");
}

/// The facts of a file, neighbours joined.
fn facts(format: Format, name: &str) -> Vec<(u64, u64, Facts)> {
    let options = ReadOptions { size: Some(SIZE), ..ReadOptions::default() };
    let mut joined: Vec<(u64, u64, Facts)> = Vec::new();
    for extent in read(format.decoder(&options).unwrap(), &data(name), 1000) {
        match joined.last_mut() {
            Some((_, end, facts)) if *end == extent.start() && facts == extent.status() => {
                *end = extent.end()
            }
            _ => joined.push((extent.start(), extent.end(), *extent.status())),
        }
    }
    joined
}

/// One part of the facts, joined again.
fn only(rows: &[(u64, u64, Facts)], part: fn(&Facts) -> Facts) -> Vec<(u64, u64, Facts)> {
    let mut joined: Vec<(u64, u64, Facts)> = Vec::new();
    for (start, end, facts) in rows {
        match joined.last_mut() {
            Some(last) if last.2 == part(facts) => last.1 = *end,
            _ => joined.push((*start, *end, part(facts))),
        }
    }
    joined
}

#[test]
fn all_files_say_the_same_of_the_disk() {
    let dirty = |facts: &Facts| Facts { dirty: facts.dirty, ..Facts::default() };
    let zero = |facts: &Facts| Facts { zero: facts.zero, ..Facts::default() };
    let absent = |facts: &Facts| Facts {
        layer: facts.layer.map(|layer| if layer == Layer::Absent { layer } else { Layer::Present }),
        ..Facts::default()
    };

    let imageio = facts(Format::ImageioDirty, "imageio-dirty.json");
    let expected = only(&imageio, dirty);
    assert_eq!(expected.len(), 7, "the bitmap's own extents");
    for (format, name) in [
        (Format::NbdinfoDirty, "nbdinfo-dirty.txt"),
        (Format::NbdinfoDirtyJson, "nbdinfo-dirty.json"),
        (Format::QemuImgDirty, "qemu-img-dirty.json"),
        (Format::KubevirtIncremental, "kubevirt-incremental.json"),
        (Format::CsiDelta, "csi-delta-variable.json"),
        (Format::CsiDelta, "csi-delta-fixed.json"),
        (Format::CsiDelta, "csi-delta-grpcurl.json"),
    ] {
        assert_eq!(only(&facts(format, name), dirty), expected, "dirty: {name}");
    }
    let expected = only(&imageio, zero);
    for (format, name) in [
        (Format::ImageioZero, "imageio-zero.json"),
        (Format::NbdinfoAllocation, "nbdinfo-allocation.txt"),
        (Format::NbdinfoAllocationJson, "nbdinfo-allocation.json"),
        (Format::QemuImg, "qemu-img.json"),
        (Format::QemuImg, "qemu-img-before-6.1.json"),
        (Format::KubevirtFull, "kubevirt-full.json"),
        (Format::KubevirtIncremental, "kubevirt-incremental.json"),
        (Format::Extentlist, "extentlist.txt"),
        (Format::Qcow2reader, "qcow2reader.jsonl"),
    ] {
        assert_eq!(only(&facts(format, name), zero), expected, "zero: {name}");
    }
    let expected = only(&facts(Format::NbdinfoDepth, "nbdinfo-depth.txt"), absent);
    for (format, name) in [
        (Format::ImageioZero, "imageio-zero.json"),
        (Format::QemuImg, "qemu-img.json"),
        (Format::Qcow2reader, "qcow2reader.jsonl"),
    ] {
        assert_eq!(only(&facts(format, name), absent), expected, "absent: {name}");
    }
}

#[test]
fn two_programs_name_the_layers_of_a_chain_alike() {
    let layer = |facts: &Facts| Facts { layer: facts.layer, ..Facts::default() };
    let qemu = only(&facts(Format::QemuImg, "qemu-img-chain.json"), layer);
    assert_eq!(qemu, facts(Format::NbdinfoDepth, "nbdinfo-chain-depth.txt"));
}

#[test]
fn a_hole_is_not_zero_and_clean_is_not_dirty() {
    let rows = read(nbdinfo::TextReader::<Allocation>::new(), &data("nbdinfo-all-types.txt"), 10);
    let hole = rows.iter().find(|row| row.status().flags() == 1).unwrap();
    assert_eq!(hole.status().facts().status().zero(), Some(false), "a hole must be read");

    let rows = read(qemu_img::DirtyReader::new(), &data("qemu-img-dirty.json"), 10);
    let dirty: Vec<_> = rows.iter().filter(|row| row.status().dirty).map(Extent::range).collect();
    assert_eq!(dirty, [1_048_576..1_114_112, 2_097_152..3_145_728, 4_194_304..4_718_592]);
    // what KubeVirt's emptiness check and others read by mistake: the plain map of the same file calls exactly the clean bytes data
    let plain = read(qemu_img::Reader::new(), &data("qemu-img-dirty.json"), 10);
    assert!(plain.iter().zip(&rows).all(|(plain, row)| plain.status().data != row.status().dirty));
}

#[test]
fn a_missing_zero_is_false_and_a_missing_hole_is_unknown() {
    let old = br#"[{"start": 0, "length": 512, "dirty": true}]"#;
    let dirty = read(imageio::DirtyReader::new(), old, 5);
    assert!(!dirty[0].status().is_zero());
    assert_eq!(write(&mut imageio::DirtyWriter::new(), &dirty).as_bytes(), old);
    // CloudStack's form
    let zero = read(
        imageio::ZeroReader::new(),
        br#"[{"start":0,"length":512,"zero":true},{"start":512,"length":1}]"#,
        5,
    );
    assert_eq!(zero[0].status(), &imageio::Zero { zero: true, hole: None });
    assert_eq!(zero[1].status(), &imageio::Zero { zero: false, hole: None });
}

#[test]
fn changed_blocks_are_cut_to_what_was_asked() {
    let ranges = |start, text: &str| {
        let rows = read(csi::Reader::delta(start), text.as_bytes(), 3);
        rows.iter().map(|row| (row.start(), row.end(), row.status().changed)).collect::<Vec<_>>()
    };
    let text = r#"[{"block_metadata_type":1,"volume_capacity_bytes":10000,"block_metadata":[{"size_bytes":4096},{"byte_offset":8192,"size_bytes":4096}]}]"#;
    assert_eq!(ranges(0, text), [(0, 4096, true), (4096, 8192, false), (8192, 10000, true)]);
    assert_eq!(ranges(100, text), [(100, 4096, true), (4096, 8192, false), (8192, 10000, true)]);
    // a volume whose size is not a number of blocks has a last block that reaches beyond it, and it is written so
    let rows = read(csi::Reader::delta(0), text.as_bytes(), 3);
    let mut writer = csi::Writer::new(10000, csi::Blocks::Fixed(page(4096)), page(9));
    assert_eq!(write(&mut writer, &rows), text);
}

#[test]
fn nothing_is_held_of_a_long_input() {
    // 4 MB of JSON through a reader of some hundred bytes: nothing in it can grow
    let mut reader = imageio::DirtyReader::new();
    assert!(size_of_val(&reader) < 1024 && size_of::<csi::Reader<csi::Delta>>() < 1500);
    let mut out = String::new();
    let mut writer = imageio::DirtyWriter::new();
    let mut rows = 0_u64;
    for nth in 0..50_000 {
        let dirty = imageio::Dirty { dirty: nth % 2 == 0, zero: Some(nth % 3 == 0) };
        out.clear();
        writer.extent(&Extent::new(nth * 65536, 65536, dirty).unwrap(), &mut out).unwrap();
        let mut bytes = out.as_bytes();
        while let Some(extent) = reader.next(&mut bytes).unwrap() {
            assert_eq!(extent, Extent::new(nth * 65536, 65536, dirty).unwrap());
            rows += 1;
        }
    }
    assert_eq!(rows, 50_000);
}

#[test]
fn every_format_has_a_name_of_its_own() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(*format));
        let options = WriteOptions { size: Some(0), ..WriteOptions::default() };
        let empty = write(&mut *format.encoder(&options).unwrap(), &[]);
        let options = ReadOptions { size: Some(0), ..ReadOptions::default() };
        let rows = read(format.decoder(&options).unwrap(), empty.as_bytes(), 1);
        assert_eq!(rows, [], "{format} of an empty disk: {empty:?}");
    }
}
