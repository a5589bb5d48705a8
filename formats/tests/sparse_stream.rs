//! Sparse streams to the byte, cut anywhere, and restored onto a dense disk. The pieces in which streams come are the fuzz target's
//! (`fuzz/bodies/src/sparse_stream.rs`), which `fuzz/bodies/tests/corpus.rs` runs.

use core::ops::Range;

use nbd_extents_formats::sparse_stream::{
    Event, FrameError, FrameFault, FrameWriteError, Meta, MetaError, Reader, Summary, Writer,
};
use proptest::prelude::*;

/// As imageio writes it, every byte.
const GOLDEN: &[u8] = b"meta 0000000000000000 0000000000000077\r\n\
{\n    \"virtual-size\": 1048576,\n    \"data-size\": 5,\n    \"date\": \"2020-07-09T20:33:34.349705\",\n    \"incremental\": false\n}\r\n\
data 0000000000000000 0000000000000005\r\nhello\r\n\
zero 0000000000000005 00000000000ffffb\r\n\
stop 0000000000000000 0000000000000000\r\n";

/// A frame of a small disk: where, and with which bytes; `None` is zeroes.
type Part = (Range<u64>, Option<u8>);

fn write(meta: &Meta, parts: &[Part]) -> Result<Vec<u8>, FrameWriteError> {
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
    assert_eq!(refused(&full, &[data(0..10), zero(11..100)]), FrameWriteError::Gap { range: 10..11 });
    assert_eq!(refused(&full, &[data(0..10), zero(10..99)]), FrameWriteError::Gap { range: 99..100 });
    assert_eq!(
        refused(&full, &[data(0..10), zero(9..100)]),
        FrameWriteError::Overlap { start: 9, expected: 10 }
    );
    assert_eq!(
        refused(&full, &[data(0..10), zero(10..101)]),
        FrameWriteError::PastEnd { end: 101, size: 100 }
    );
    assert_eq!(refused(&full, &[zero(0..0)]), FrameWriteError::Frame { start: 0, length: 0 });
    assert_eq!(refused(&full, &[data(0..11)]), FrameWriteError::DataSize { expected: 10, got: 11 });
    assert_eq!(refused(&full, &[zero(0..100)]), FrameWriteError::DataSize { expected: 10, got: 0 });
    let sizes = FrameWriteError::from(MetaError::DataSize { virtual_size: 9, data_size: 10 });
    assert_eq!(refused(&Meta::full(9, 10, ""), &[]), sizes);
    let mut limit = full.clone();
    limit.data_size_is_limit = true;
    assert!(write(&limit, &[zero(0..100)]).is_ok());
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
    fn full_and_incrementals_restore_the_disk(full in parts(true), changes in prop::collection::vec(parts(false), 0..4)) {
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
