//! Sparse streams to the byte, cut anywhere, and restored onto a dense disk. The pieces in which
//! streams come are the fuzz target's (`fuzz/bodies/src/sparse_stream.rs`), which
//! `fuzz/bodies/tests/corpus.rs` runs.

use core::ops::Range;

use nbd_extents::chain::Checksum;
use nbd_extents_backup::sparse_stream::{
    Event, FrameError, FrameFault, FrameKind, Meta, MetaError, Reader, Summary, Writer,
};
use proptest::prelude::*;

/// As imageio writes it, every byte.
const GOLDEN: &[u8] = b"meta 0000000000000000 0000000000000077\r\n\
{\n    \"virtual-size\": 1048576,\n    \"data-size\": 5,\n    \"date\": \
    \"2020-07-09T20:33:34.349705\",\n    \"incremental\": false\n}\r\n\
data 0000000000000000 0000000000000005\r\nhello\r\n\
zero 0000000000000005 00000000000ffffb\r\n\
stop 0000000000000000 0000000000000000\r\n";

/// A frame of a small disk: where, and with which bytes; `None` is zeroes.
type Part = (Range<u64>, Option<u8>);

fn write(meta: &Meta, parts: &[Part]) -> Result<Vec<u8>, FrameFault> {
    let (mut writer, mut stream) = Writer::new(meta)?;
    for (range, byte) in parts {
        let payload = byte.map(|byte| vec![byte; (range.end - range.start) as usize]);
        let frame = match &payload {
            Some(payload) => writer.data(range.start, payload)?,
            None => writer.zero(range.clone())?,
        };
        stream.extend(frame.parts().concat());
    }
    stream.extend(writer.stop()?.parts().concat());
    Ok(stream)
}

/// Applies a stream to a disk.
fn restore(stream: &[u8], disk: &mut [u8]) -> Result<Summary, FrameError> {
    let mut reader = Reader::new();
    let mut input = stream;
    while let Some(event) = reader.next(&mut input)? {
        match event {
            Event::Payload { offset, bytes } => disk[offset as usize..][..bytes.len()].copy_from_slice(bytes),
            Event::Zero { range } => disk[range.start as usize..range.end as usize].fill(0),
            _ => {}
        }
    }
    reader.finish()
}

#[test]
fn golden_bytes_both_ways() {
    let meta = Meta::full(1 << 20, 5, "2020-07-09T20:33:34.349705").without_checksum();
    let (mut writer, mut stream) = Writer::new(&meta).unwrap();
    for frame in [writer.data(0, b"hello"), writer.zero(5..1 << 20), writer.stop()] {
        stream.extend(frame.unwrap().parts().concat());
    }
    assert_eq!(stream.escape_ascii().to_string(), GOLDEN.escape_ascii().to_string());
    let mut disk = vec![0xa5; 1 << 20];
    let summary = restore(GOLDEN, &mut disk).unwrap();
    assert_eq!((summary.length, summary.data, summary.zero, summary.frames), (288, 5, (1 << 20) - 5, 2));
    assert!(disk.starts_with(b"hello\0") && disk[5..].iter().all(|&byte| byte == 0));
}

#[test]
fn stream_cut_anywhere_is_not_whole() {
    for end in 0..GOLDEN.len() {
        let error = restore(&GOLDEN[..end], &mut vec![0; 1 << 20]).unwrap_err();
        assert!(
            error.at == end as u64 && matches!(error.fault, FrameFault::Truncated { .. }),
            "{end}: {error}"
        );
    }
    let cut = restore(&GOLDEN[..210], &mut vec![0; 1 << 20]).unwrap_err().to_string();
    assert_eq!(
        cut,
        "frame 2, byte 210 of the stream: the stream ends in a header, before its stop frame: it is not whole"
    );
}

#[test]
fn bytes_after_the_stop_frame_are_refused() {
    let error = restore(&[GOLDEN, b"\n"].concat(), &mut vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error, FrameError { frame: 4, at: GOLDEN.len() as u64, fault: FrameFault::Trailing });
}

#[test]
fn writer_refuses_what_a_reader_would() {
    let full = Meta::full(100, 10, "");
    let data = |range| (range, Some(1));
    let zero = |range| (range, None);
    let refused = |meta: &Meta, parts: &[Part]| write(meta, parts).unwrap_err();
    assert_eq!(refused(&full, &[data(0..10), zero(11..100)]), FrameFault::Gap { range: 10..11 });
    assert_eq!(refused(&full, &[data(0..10), zero(10..99)]), FrameFault::Gap { range: 99..100 });
    assert_eq!(refused(&full, &[data(0..10), zero(9..100)]), FrameFault::Overlap { start: 9, expected: 10 });
    assert_eq!(
        refused(&full, &[data(0..10), zero(10..101)]),
        FrameFault::PastEnd { start: 10, length: 91, size: 100 }
    );
    assert_eq!(refused(&full, &[zero(0..0)]), FrameFault::Empty { kind: FrameKind::Zero, start: 0 });
    assert_eq!(refused(&full, &[data(0..11)]), FrameFault::TooMuchData { expected: 10 });
    assert_eq!(refused(&full, &[zero(0..100)]), FrameFault::TooLittleData { expected: 10, got: 0 });
    let sizes = FrameFault::Meta(MetaError::DataSize { virtual_size: 9, data_size: 10 });
    assert_eq!(refused(&Meta::full(9, 10, ""), &[]), sizes);
    let mut limit = full.clone();
    limit.data_size_is_limit = true;
    assert!(write(&limit, &[zero(0..100)]).is_ok());
}

/// A stream by hand: the JSON of its meta frame, and the frames after it. The checksum is that of
/// the bytes.
fn by_hand(meta: &str, frames: &[&str]) -> Vec<u8> {
    let mut stream = format!("meta {:016x} {:016x}\r\n{meta}\r\n", 0, meta.len());
    stream.extend(frames.iter().copied());
    if frames.last().is_some_and(|frame| frame.starts_with("stop")) {
        return stream.into_bytes();
    }
    let sum = xxhash_rust::xxh3::xxh3_128(stream.as_bytes());
    stream += &format!("stop {:016x} {:016x}\r\n", sum >> 64, sum & u128::from(u64::MAX));
    stream.into_bytes()
}

fn frame(kind: &str, start: u64, length: u64, payload: &str) -> String {
    format!("{kind} {start:016x} {length:016x}\r\n{payload}")
}

/// Each fault that a reader names is found in its frame and at its byte, and nothing else is wrong
/// there.
#[test]
fn every_fault_has_its_frame_and_its_byte() {
    let full =
        r#"{"virtual-size": 16, "data-size": 4, "date": "", "incremental": false, "checksum": "xxh3-128"}"#;
    let plain = full.replace(", \"checksum\": \"xxh3-128\"", "");
    let grown = full.replace("false", "true, \"parent-size\": 8");
    let (data, zero) = (frame("data", 0, 4, "four\r\n"), frame("zero", 4, 12, ""));
    let stop = frame("stop", 0, 0, "");
    assert!(restore(&by_hand(full, &[&data, &zero]), &mut [9; 16]).is_ok());
    assert!(restore(&by_hand(&plain, &[&data, &zero, &stop]), &mut [9; 16]).is_ok());
    let on_grown = frame("zero", 8, 8, "");
    assert!(restore(&by_hand(&grown, &[&data, &on_grown]), &mut [9; 16]).is_ok());

    #[track_caller]
    fn fails(meta: &str, frames: &[&str], frame: u64, fault: FrameFault) {
        let stream = by_hand(meta, frames);
        let error = restore(&stream, &mut [9; 16]).unwrap_err();
        let before = usize::try_from(frame).unwrap().saturating_sub(1).min(frames.len());
        let at = if frame == 0 { 40 } else { 42 + meta.len() + frames[..before].concat().len() };
        assert_eq!(error, FrameError { frame, at: at as u64, fault });
    }
    let meta = MetaError::DataSize { data_size: 4, virtual_size: 3 };
    fails(&full.replace("16", "3"), &[&data], 0, FrameFault::Meta(meta));
    fails(full, &[&data, &zero.replace("zero", "Zero")], 2, FrameFault::Header);
    let kind = FrameKind::Meta;
    fails(full, &[&data, &frame("meta", 0, 2, "{}\r\n"), &zero], 2, FrameFault::OutOfPlace { kind });
    let empty = FrameFault::Empty { kind: FrameKind::Zero, start: 4 };
    fails(full, &[&data, &frame("zero", 4, 0, ""), &zero], 2, empty);
    let back = FrameFault::Overlap { start: 3, expected: 4 };
    fails(full, &[&data, &frame("zero", 3, 13, "")], 2, back);
    let beyond = FrameFault::PastEnd { start: 4, length: 13, size: 16 };
    fails(full, &[&data, &frame("zero", 4, 13, "")], 2, beyond);
    fails(full, &[&data, &frame("zero", 5, 11, "")], 2, FrameFault::Gap { range: 4..5 });
    fails(full, &[&data, &frame("zero", 4, 11, "")], 3, FrameFault::Gap { range: 15..16 });
    let left_out = |range| FrameFault::GrowthGap { range, parent_size: 8 };
    fails(&grown, &[&data, &frame("zero", 10, 6, "")], 2, left_out(8..10));
    fails(&grown, &[&data], 2, left_out(8..16));
    let more = [&frame("data", 0, 5, "fours\r\n"), &frame("zero", 5, 11, "")];
    fails(full, &more.map(String::as_str), 1, FrameFault::TooMuchData { expected: 4 });
    let less = FrameFault::TooLittleData { expected: 4, got: 0 };
    fails(full, &[&frame("zero", 0, 16, "")], 2, less.clone());
    fails(&plain, &[&frame("zero", 0, 16, ""), &stop], 2, less);
    fails(full, &[&data, &zero, &stop], 3, FrameFault::NoChecksum);
    fails(&plain, &[&data, &zero, &frame("stop", 0, 1, "")], 3, FrameFault::Header);

    let computed = xxhash_rust::xxh3::xxh3_128(&by_hand(full, &[&data, &zero])[..42 + full.len() + 46 + 40]);
    let (stated, computed) = (Checksum::new(7 << 64 | 5), Checksum::new(computed));
    fails(full, &[&data, &zero, &frame("stop", 7, 5, "")], 3, FrameFault::Checksum { stated, computed });

    // these are found inside of a frame
    let error = |stream: &[u8]| restore(stream, &mut [9; 16]).unwrap_err();
    let longer = by_hand(full, &[&frame("data", 0, 4, "fours\r\n"), &zero]);
    let at = (42 + full.len() + 44) as u64;
    assert_eq!(error(&longer), FrameError { frame: 1, at, fault: FrameFault::Terminator });
    let first = FrameError { frame: 0, at: 0, fault: FrameFault::OutOfPlace { kind: FrameKind::Data } };
    assert_eq!(error(data.as_bytes()), first);
    let large = FrameError { frame: 0, at: 0, fault: FrameFault::MetaTooLarge { length: 65537 } };
    assert_eq!(error(frame("meta", 0, 65537, "").as_bytes()), large);
}

/// The writer has the reader's bounds, to the byte.
#[test]
fn names_are_as_long_as_a_reader_takes_and_no_longer() {
    let mut meta = Meta::full(0, 0, "");
    let room = 65536 - meta.to_json().len() - ",\n    \"checkpoint\": \"\"".len();
    meta.checkpoint = Some("n".repeat(room));
    let stream = write(&meta, &[]).unwrap();
    assert_eq!(restore(&stream, &mut []).map(|summary| summary.length), Ok(stream.len() as u64));
    for longer in ["n".repeat(room + 1), "\u{1}".repeat(11_000), "\u{1f600}".repeat(6_000)] {
        meta.checkpoint = Some(longer);
        let error = write(&meta, &[]).unwrap_err();
        assert!(matches!(error, FrameFault::MetaTooLarge { length } if length > 65536), "{error}");
    }
    let mut grown = Meta::incremental(16, 0, "");
    grown.parent_size = Some(8);
    assert_eq!(write(&grown, &[(8..15, None)]), Err(FrameFault::GrowthGap { range: 15..16, parent_size: 8 }));
    assert_eq!(write(&grown, &[(9..16, None)]), Err(FrameFault::GrowthGap { range: 8..9, parent_size: 8 }));
    assert!(write(&grown, &[(8..16, None)]).is_ok());
    grown.incremental = false;
    let full = MetaError::FullWithParent { key: "parent-size" };
    assert_eq!(write(&grown, &[(0..16, None)]), Err(FrameFault::Meta(full)));
}

const SIZE: u64 = 64;

/// Frames that ascend, over all of the disk or with gaps.
fn parts(full: bool) -> impl Strategy<Value = Vec<Part>> {
    prop::collection::vec(
        (1_u64..9, prop_oneof![Just(None), (1_u8..=255).prop_map(Some)], any::<bool>()),
        0..16,
    )
    .prop_map(move |runs| {
        let mut parts = Vec::new();
        let mut start = 0;
        let last = (SIZE, None, false);
        for (length, byte, skip) in runs.into_iter().chain(full.then_some(last)) {
            let end = (start + length).min(SIZE);
            if start < end && (full || !skip) {
                parts.push((start..end, byte));
            }
            start = end;
        }
        parts
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn full_and_incrementals_restore_the_disk(
        full in parts(true),
        changes in prop::collection::vec(parts(false), 0..4),
    ) {
        let (mut disk, mut restored) = (vec![0xa5; SIZE as usize], vec![0x5a; SIZE as usize]);
        for (nth, parts) in [full].iter().chain(&changes).enumerate() {
            let mut sizes = [0, 0];
            for (range, byte) in parts {
                disk[range.start as usize..range.end as usize].fill(byte.unwrap_or(0));
                sizes[usize::from(byte.is_some())] += range.end - range.start;
            }
            let mut meta = Meta::full(SIZE, sizes[1], "now");
            meta.incremental = nth > 0;
            let stream = write(&meta, parts).unwrap();
            let summary = restore(&stream, &mut restored).unwrap();
            prop_assert_eq!([summary.zero, summary.data], sizes);
            prop_assert_eq!(summary.frames, parts.len() as u64);
            prop_assert_eq!(&restored, &disk);
        }
    }
}
