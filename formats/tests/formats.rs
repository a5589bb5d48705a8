//! The formats of others, against what the programs themselves printed: every file is read and
//! written back to the byte, in pieces of any size, and the files about one disk must say the same
//! of it.

use core::num::NonZeroU64;

use nbd_extents::Extent;
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents_formats::{
    Attributes, Format, ImageLayer, ListReadError, ReadOptions, WriteOptions, csi, merge,
};

const SIZE: u64 = 6_291_456;

fn data(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn sized(size: u64) -> ReadOptions {
    ReadOptions { size: Some(size), ..ReadOptions::default() }
}

fn read(format: Format, text: &[u8], options: ReadOptions) -> Vec<Extent<Attributes>> {
    format.read(text, options).collect_vec().unwrap()
}

fn write(format: Format, rows: &[Extent<Attributes>], options: WriteOptions) -> String {
    let mut out = Vec::new();
    format.writer(&mut out, options).write_all(from_iter(rows.to_vec())).unwrap();
    String::from_utf8(out).unwrap()
}

/// A text that comes in pieces.
struct Pieces<'a>(&'a [u8], usize);

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let (piece, rest) = self.0.split_at(self.1.min(self.0.len()).min(out.len()));
        out[..piece.len()].copy_from_slice(piece);
        self.0 = rest;
        Ok(piece.len())
    }
}

/// The file is read and written back to the byte.
#[track_caller]
fn golden(
    format: Format,
    name: &str,
    reading: ReadOptions,
    writing: WriteOptions,
) -> Vec<Extent<Attributes>> {
    let text = data(name);
    let rows = read(format, &text, reading);
    for piece in [1, 2, 3, 7, 64] {
        let in_pieces = format.read(Pieces(&text, piece), reading).collect_vec();
        assert_eq!(in_pieces.as_ref(), Ok(&rows), "{name} in pieces of {piece}");
    }
    assert_eq!(write(format, &rows, writing), String::from_utf8(text).unwrap(), "{name}");
    rows
}

/// As [`golden`], of a file for which no option is needed.
#[track_caller]
fn plain(format: Format, name: &str) -> Vec<Extent<Attributes>> {
    golden(format, name, ReadOptions::default(), WriteOptions::default())
}

fn page(size: u64) -> NonZeroU64 {
    NonZeroU64::new(size).unwrap()
}

#[test]
fn every_file_is_written_back_to_the_byte() {
    plain(Format::ImageioZero, "imageio-zero.json");
    plain(Format::ImageioDirty, "imageio-dirty.json");
    plain(Format::NbdinfoAllocation, "nbdinfo-allocation.txt");
    plain(Format::NbdinfoAllocationJson, "nbdinfo-allocation.json");
    plain(Format::NbdinfoDirty, "nbdinfo-dirty.txt");
    plain(Format::NbdinfoDirtyJson, "nbdinfo-dirty.json");
    for name in ["nbdinfo-depth", "nbdinfo-chain-depth"] {
        plain(Format::NbdinfoDepth, &format!("{name}.txt"));
        plain(Format::NbdinfoDepthJson, &format!("{name}.json"));
    }
    plain(Format::NbdinfoAllocation, "nbdinfo-all-types.txt");
    plain(Format::NbdinfoAllocationJson, "nbdinfo-all-types.json");
    golden(Format::NbdinfoAllocationJson, "nbdinfo-empty.json", sized(0), WriteOptions::default());
    for name in ["", "-chain", "-compressed", "-before-8.2", "-before-6.1"] {
        plain(Format::QemuImg, &format!("qemu-img{name}.json"));
    }
    golden(Format::QemuImg, "qemu-img-empty.json", sized(0), WriteOptions::default());
    plain(Format::QemuImgDirty, "qemu-img-dirty.json");
    plain(Format::QemuImgDepth, "qemu-img-depth.json");
    plain(Format::KubevirtFull, "kubevirt-full.json");
    let three = WriteOptions { page: page(3), ..WriteOptions::default() };
    golden(Format::KubevirtIncremental, "kubevirt-incremental.json", ReadOptions::default(), three);
    let sized_list = WriteOptions { size: Some(SIZE), ..WriteOptions::default() };
    golden(Format::CsiDelta, "csi-delta-variable.json", ReadOptions::default(), sized_list);
    let fixed = WriteOptions { blocks: csi::Blocks::Fixed(page(65536)), page: page(10), ..sized_list };
    golden(Format::CsiDelta, "csi-delta-fixed.json", ReadOptions::default(), fixed);
    golden(Format::CsiAllocated, "csi-allocated.json", ReadOptions::default(), sized_list);
    golden(Format::Extentlist, "extentlist.txt", sized(SIZE), WriteOptions::default());
    plain(Format::Qcow2reader, "qcow2reader.jsonl");
}

#[test]
fn a_number_may_be_cut_anywhere() {
    // serde_json takes "7." for a wrong number and not for one that is cut, where it passes over it
    let text = br#"[{"x": -7.25e+10, "start": 0, "y": [0.5], "length": 512, "dirty": true}]"#;
    let whole = read(Format::ImageioDirty, text, ReadOptions::default());
    for piece in 1..text.len() {
        let rows = Format::ImageioDirty.read(Pieces(text, piece), ReadOptions::default()).collect_vec();
        assert_eq!(rows.as_ref(), Ok(&whole), "in pieces of {piece}");
    }
}

/// The attributes of a file, neighbours joined.
fn known(format: Format, name: &str) -> Vec<(u64, u64, Attributes)> {
    let size = if name.contains("chain") || name.contains("img-depth") { 1 << 20 } else { SIZE };
    let rows = format.read(&data(name)[..], sized(size)).coalesce().collect_vec().unwrap();
    rows.into_iter().map(|extent| (extent.start(), extent.end(), *extent.status())).collect()
}

/// One part of the attributes, joined again.
fn only(rows: &[(u64, u64, Attributes)], part: fn(&Attributes) -> Attributes) -> Vec<(u64, u64, Attributes)> {
    let mut joined: Vec<(u64, u64, Attributes)> = Vec::new();
    for (start, end, known) in rows {
        match joined.last_mut() {
            Some(last) if last.2 == part(known) => last.1 = *end,
            _ => joined.push((*start, *end, part(known))),
        }
    }
    joined
}

#[test]
fn all_files_say_the_same_of_the_disk() {
    let dirty = |known: &Attributes| Attributes { dirty: known.dirty, ..Attributes::default() };
    let zero = |known: &Attributes| Attributes { zero: known.zero, ..Attributes::default() };
    let absent = |known: &Attributes| Attributes {
        layer: known.layer.map(|layer| if layer == ImageLayer::Absent { layer } else { ImageLayer::Present }),
        ..Attributes::default()
    };

    let imageio = known(Format::ImageioDirty, "imageio-dirty.json");
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
        assert_eq!(only(&known(format, name), dirty), expected, "dirty: {name}");
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
        assert_eq!(only(&known(format, name), zero), expected, "zero: {name}");
    }
    let expected = only(&known(Format::NbdinfoDepth, "nbdinfo-depth.txt"), absent);
    for (format, name) in [
        (Format::ImageioZero, "imageio-zero.json"),
        (Format::QemuImg, "qemu-img.json"),
        (Format::Qcow2reader, "qcow2reader.jsonl"),
    ] {
        assert_eq!(only(&known(format, name), absent), expected, "absent: {name}");
    }
}

#[test]
fn two_programs_name_the_layers_of_a_chain_alike() {
    let layer = |known: &Attributes| Attributes { layer: known.layer, ..Attributes::default() };
    let qemu = only(&known(Format::QemuImg, "qemu-img-chain.json"), layer);
    assert_eq!(qemu, known(Format::NbdinfoDepth, "nbdinfo-chain-depth.txt"));

    // through the option x-dirty-bitmap all images below the top look alike
    let below = |known: &Attributes| match known.layer {
        Some(ImageLayer::Depth(2..)) => Attributes { layer: Some(ImageLayer::Backing), ..*known },
        _ => *known,
    };
    assert_eq!(known(Format::QemuImgDepth, "qemu-img-depth.json"), only(&qemu, below));
}

#[test]
fn a_hole_is_not_zero_and_clean_is_not_dirty() {
    let rows = plain(Format::NbdinfoAllocation, "nbdinfo-all-types.txt");
    let hole = rows.iter().find(|row| row.status().hole && row.status().zero == Some(false)).unwrap();
    assert_eq!(hole.status().status().zero(), Some(false), "a hole must be read");

    let rows = plain(Format::QemuImgDirty, "qemu-img-dirty.json");
    let dirty: Vec<_> =
        rows.iter().filter(|row| row.status().dirty == Some(true)).map(Extent::range).collect();
    assert_eq!(dirty, [1_048_576..1_114_112, 2_097_152..3_145_728, 4_194_304..4_718_592]);
    // what KubeVirt's emptiness check and others read by mistake: the plain map of the same file
    // calls exactly the clean bytes data
    let plain = plain(Format::QemuImg, "qemu-img-dirty.json");
    assert!(plain.iter().zip(&rows).all(|(plain, row)| Some(plain.status().hole) == row.status().dirty));
}

#[test]
fn a_missing_zero_is_false_and_a_missing_hole_is_unknown() {
    let old = br#"[{"start": 0, "length": 512, "dirty": true}]"#;
    let dirty = read(Format::ImageioDirty, old, ReadOptions::default());
    assert_eq!(dirty[0].status(), &Attributes { dirty: Some(true), ..Attributes::default() });
    assert_ne!(dirty[0].status().status().zero(), Some(true), "from an old server: read them");
    assert_eq!(write(Format::ImageioDirty, &dirty, WriteOptions::default()).as_bytes(), old);
    // CloudStack's form
    let cloudstack = br#"[{"start":0,"length":512,"zero":true},{"start":512,"length":1}]"#;
    let zero = read(Format::ImageioZero, cloudstack, ReadOptions::default());
    assert_eq!(zero[0].status(), &Attributes { zero: Some(true), ..Attributes::default() });
    assert_eq!(zero[1].status(), &Attributes { zero: Some(false), ..Attributes::default() });
}

#[test]
fn changed_blocks_are_cut_to_what_was_asked() {
    let rows = |starting_offset, text: &str| {
        let options = ReadOptions { starting_offset, ..ReadOptions::default() };
        read(Format::CsiDelta, text.as_bytes(), options)
    };
    let ranges = |start, text: &str| {
        let rows = rows(start, text);
        rows.iter().map(|row| (row.start(), row.end(), row.status().dirty.unwrap())).collect::<Vec<_>>()
    };
    let text = concat!(
        r#"[{"block_metadata_type":1,"volume_capacity_bytes":10000,"#,
        r#""block_metadata":[{"size_bytes":4096},{"byte_offset":8192,"size_bytes":4096}]}]"#
    );
    let expected = [(0, 4096, true), (4096, 8192, false), (8192, 10000, true)];
    assert_eq!(ranges(0, text), expected);
    assert_eq!(ranges(100, text), [(100, 4096, true), (4096, 8192, false), (8192, 10000, true)]);
    // ranges of any size may end beyond the volume as well
    assert_eq!(ranges(0, &text.replace("type\":1", "type\":2")), expected);
    // a volume whose size is not a number of blocks has a last block that reaches beyond it, and it
    // is written so
    let blocks = csi::Blocks::Fixed(page(4096));
    let options = WriteOptions { size: Some(10000), blocks, page: page(9), ..WriteOptions::default() };
    assert_eq!(write(Format::CsiDelta, &rows(0, text), options), text);
}

#[test]
fn no_changed_block_of_a_known_size_is_all_clean() {
    // both drivers that were looked at send an empty list when nothing has changed
    let rows = read(Format::CsiDelta, b"[]", sized(SIZE));
    assert_eq!(
        rows,
        [Extent::new(0, SIZE, Attributes { dirty: Some(false), ..Attributes::default() }).unwrap()]
    );
}

#[test]
fn an_extent_list_is_read_as_nbdkit_serves_it() {
    // the outputs of nbdinfo over nbdkit 1.32.5 with a disk of 1 MiB
    let rows = |list: &str| {
        let rows = read(Format::Extentlist, list.as_bytes(), sized(1 << 20));
        let number = |known: &Attributes| u64::from(known.hole) | u64::from(known.zero.unwrap()) << 1;
        rows.iter().map(|row| (row.start(), row.length(), number(row.status()))).collect::<Vec<_>>()
    };
    assert_eq!(rows("0 1M\n2M 1M\n"), [(0, 1 << 20, 0)], "the second line is beyond the disk");
    assert_eq!(rows("0 1P\n"), [(0, 1 << 20, 0)]);
    assert_eq!(rows("+0 +1m hole\n"), [(0, 1 << 20, 1)]);
    assert_eq!(rows(" -0 512S +2  \n"), [(0, 262_144, 2), (262_144, 786_432, 3)]);
}

#[test]
fn nothing_is_held_of_a_long_input() {
    /// 50,000 rows of 4 MB, made while they are read.
    struct Rows(u64, Vec<u8>);
    impl std::io::Read for Rows {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            if self.1.is_empty() && self.0 < 50_000 {
                let (nth, start) = (self.0, self.0 * 65536);
                let open = if nth == 0 { '[' } else { ',' };
                let close = if nth == 49_999 { "]" } else { "" };
                let (dirty, zero) = (nth.is_multiple_of(2), nth.is_multiple_of(3));
                self.1 = format!(
                    "{open}{{\"start\": {start}, \"length\": 65536, \"dirty\": {dirty}, \"zero\": \
                        {zero}}}{close}"
                )
                .into_bytes();
                self.0 += 1;
            }
            let count = self.1.len().min(out.len());
            out[..count].copy_from_slice(&self.1[..count]);
            self.1.drain(..count);
            Ok(count)
        }
    }
    let mut reader = Format::ImageioDirty.read(Rows(0, Vec::new()), ReadOptions::default());
    for nth in 0..50_000_u64 {
        let (dirty, zero) = (Some(nth.is_multiple_of(2)), Some(nth.is_multiple_of(3)));
        let row = Attributes { dirty, zero, ..Attributes::default() };
        let extent = Extent::new(nth * 65536, 65536, row).unwrap();
        assert_eq!(reader.next_extent().unwrap(), Some(extent));
    }
    assert_eq!(reader.next_extent(), Ok(None));
}

#[test]
fn every_format_has_a_name_of_its_own() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(*format));
        let mut empty = Vec::new();
        let options = WriteOptions { size: Some(0), ..WriteOptions::default() };
        format.writer(&mut empty, options).finish().unwrap();
        let rows = format.read(&empty[..], sized(0)).collect_vec().unwrap();
        assert_eq!(rows, [], "{format} of an empty disk: {empty:?}");
    }
}

#[test]
fn two_lists_are_one() {
    let options = sized(SIZE);
    let (bitmap, zeroes) = (data("nbdinfo-dirty.txt"), data("nbdinfo-allocation.json"));
    let both = merge(
        Format::NbdinfoDirty.read(&bitmap[..], options),
        Format::NbdinfoAllocationJson.read(&zeroes[..], options),
    );
    let mut text = Vec::new();
    Format::Combined.writer(&mut text, WriteOptions::default()).write_all(both).unwrap();

    // ovirt-imageio asked for both contexts at once, and its answer is the judge
    let imageio = read(Format::ImageioDirty, &data("imageio-dirty.json"), options);
    let combined = from_iter(read(Format::Combined, &text, options));
    let dirty = combined.map_status(|row| Attributes { hole: false, ..row });
    assert_eq!(dirty.coalesce().collect_vec().unwrap(), imageio);
}

#[test]
fn a_list_becomes_a_map() -> Result<(), ListReadError> {
    let map =
        Format::ImageioDirty.read(&data("imageio-dirty.json")[..], ReadOptions::default()).into_map()?;
    let rows = plain(Format::ImageioDirty, "imageio-dirty.json");
    assert!(map.extents().eq(rows));
    assert_eq!(map.range(), 0..SIZE);
    let later = ReadOptions { starting_offset: 4096, ..ReadOptions::default() };
    let map = Format::CsiDelta.read(&data("csi-delta-variable.json")[..], later).into_map()?;
    assert_eq!(map.range(), 4096..SIZE);
    Ok(())
}
