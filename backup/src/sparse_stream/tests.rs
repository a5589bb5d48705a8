//! Streams as a chain, their ends, and their figures: what the bytes of a stream (`tests/sparse_stream.rs`)
//! do not show.

use super::*;
use nbd_extents::chain::{ChainError, Checksum};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Action, MAX_END};
use std::io::{self, Cursor, ErrorKind, Read};

/// A whole stream of these frames: `Some` is the byte of which a data frame is made.
fn stream(meta: &Meta, frames: &[(u64, u64, Option<u8>)]) -> Vec<u8> {
    let (mut writer, mut stream) = Writer::new(meta).unwrap();
    for &(start, length, byte) in frames {
        let data = vec![byte.unwrap_or(0); usize::try_from(length).unwrap()];
        let frame =
            if byte.is_some() { writer.data(start, &data) } else { writer.zero(start..start + length) };
        stream.extend(frame.unwrap().parts().concat());
        assert_eq!(writer.position(), start + length);
    }
    stream.extend(writer.stop().unwrap().parts().concat());
    stream
}

/// A day's backup of a disk of 4096 bytes: everything is zero in a full one, and nothing has
/// changed in an incremental.
fn day(name: &str, parent: Option<&str>) -> Meta {
    let mut meta = Meta::full(4096, 0, "today");
    meta.checkpoint = Some(name.into());
    meta.incremental = parent.is_some();
    meta.parent = parent.filter(|name| !name.is_empty()).map(Into::into);
    meta
}

fn contents(meta: &Meta) -> Contents {
    let zeroes = [(0, meta.virtual_size, None)];
    Contents::read(&stream(meta, if meta.incremental { &[] } else { &zeroes })[..]).unwrap()
}

#[test]
fn chains_are_whole_or_the_stream_at_fault_is_named() {
    let (monday, tuesday, wednesday) = (day("m", None), day("t", Some("m")), day("w", Some("t")));
    let nameless = day("n", Some(""));
    let of = |metas: &[&Meta]| metas.iter().map(|meta| contents(meta)).collect::<Vec<_>>();
    let fault = |metas: &[&Meta], base: Option<&str>| chain(&of(metas), base).err();
    assert_eq!(fault(&[&monday, &tuesday, &wednesday], None), None);
    assert_eq!(fault(&[&tuesday, &wednesday], Some("m")), None);
    let at = |metas: &[&Meta], base| fault(metas, base).unwrap().position();
    assert_eq!(at(&[], None), None);
    assert_eq!(at(&[&tuesday], None), Some(0));
    assert_eq!(at(&[&tuesday], Some("x")), Some(0));
    assert_eq!(at(&[&monday], Some("m")), Some(0), "a full backup on top of another state");
    assert_eq!(at(&[&monday, &wednesday], None), Some(1));
    assert_eq!(at(&[&monday, &tuesday, &monday], None), Some(2));
    let error = fault(&[&nameless], Some("m")).unwrap();
    assert_eq!(error, StreamChainError::NoParentName { base: "m".into() });
    assert_eq!(error.position(), Some(0));
    // The third has grown, and nobody has the bytes beyond the second.
    let mut grown = day("g", Some("t"));
    grown.virtual_size = 8192;
    let error = fault(&[&monday, &tuesday, &grown], None).unwrap();
    assert!(matches!(error, StreamChainError::Extents(_)), "{error}");
    assert_eq!(error.position(), Some(2));
}

/// The library speaks of layers and their positions, which no user of backups has seen.
#[test]
fn faults_of_a_chain_are_told_in_the_words_of_backups() {
    let (monday, tuesday, wednesday) = (day("m", None), day("t", Some("m")), day("w\n", Some("t")));
    let mut grown = tuesday.clone();
    grown.virtual_size = 8192;
    for (metas, message) in [
        (&[][..], "a chain needs at least one backup"),
        (&[&tuesday], "checkpoint t stands on checkpoint m, which is missing"),
        (&[&monday, &wednesday], r"checkpoint w\n stands on checkpoint t, which is missing"),
        (
            &[&monday, &grown],
            "it leaves out bytes 4096..8192, which lie beyond the end of the backup before it",
        ),
    ] {
        let streams: Vec<_> = metas.iter().map(|meta| contents(meta)).collect();
        assert_eq!(chain(&streams, None).err().unwrap().to_string(), message);
    }
}

/// A stream that is applied while it is read is judged by its first frame, as the whole would be.
#[test]
fn the_first_frame_says_whether_a_chain_can_begin_with_it() {
    let (full, tuesday, nameless) = (day("m", None), day("t", Some("m")), day("n", Some("")));
    assert_eq!(check_first(&full, None), Ok(()));
    assert_eq!(check_first(&tuesday, Some("m")), Ok(()));
    assert!(check_first(&tuesday, Some("x")).is_err() && check_first(&tuesday, None).is_err());
    assert!(check_first(&full, Some("m")).is_err());
    assert!(matches!(check_first(&nameless, Some("m")), Err(StreamChainError::NoParentName { .. })));
    assert!(matches!(check_first(&nameless, None), Err(StreamChainError::Chain(ChainError::NoFull { .. }))));
    // The base has the size that the stream gives its parent.
    let mut grown = tuesday;
    (grown.virtual_size, grown.parent_size) = (8192, Some(4096));
    assert_eq!(check_first(&grown, Some("m")), Ok(()));
}

/// An input that is interrupted, brings a few bytes at a time, and may fail after some of them.
struct Slow<'a> {
    bytes: &'a [u8],
    step: usize,
    calls: usize,
    fails: bool,
}

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls % 2 == 1 {
            return Err(ErrorKind::Interrupted.into());
        }
        if self.fails && self.bytes.is_empty() {
            return Err(ErrorKind::TimedOut.into());
        }
        let count = self.step.min(self.bytes.len()).min(buffer.len());
        let (now, later) = self.bytes.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.bytes = later;
        Ok(count)
    }
}

#[test]
fn a_stream_is_the_same_however_its_bytes_come() {
    let meta = Meta::incremental(1 << 20, 30, "now");
    let bytes = stream(&meta, &[(512, 10, Some(1)), (522, 20, Some(2)), (4096, 512, None)]);
    let action = |at| {
        let contents = Contents::read(&bytes[..]).unwrap();
        contents
            .map()
            .stream()
            .into_iter()
            .map(Result::unwrap)
            .find(|it| it.end() > at)
            .map(|it| *it.status())
    };
    assert_eq!(action(0), Some(Action::Skip));
    assert_eq!(action(512), Some(Action::Copy));
    assert_eq!(action(541), Some(Action::Copy));
    assert_eq!(action(542), Some(Action::Skip));
    assert_eq!(action(4096), Some(Action::Zero { may_unmap: true }));
    let whole = Contents::read(&bytes[..]).unwrap();
    assert_eq!((whole.meta(), whole.summary().length), (&meta, bytes.len() as u64));
    assert_eq!((whole.summary().data, whole.summary().zero, whole.summary().frames), (30, 512, 3));
    for step in [1, 2, 7, 41, 1000] {
        let slow = || Slow { bytes: &bytes, step, calls: 0, fails: false };
        let contents = Contents::read(slow()).unwrap();
        assert!(contents.map() == whole.map() && contents.summary() == whole.summary());
        let (mut events, mut payload) = (0, Vec::new());
        let summary = read(slow(), |event| {
            if let Event::Payload { offset, bytes } = event {
                payload.extend((offset..).zip(bytes.iter().copied()));
            } else {
                events += 1;
            }
            Ok::<(), ContentsError>(())
        });
        assert_eq!(summary.unwrap(), whole.summary());
        assert_eq!(events, 5, "meta, two of data, zeroes, stop");
        let expected = (512..522).map(|at| (at, 1)).chain((522..542).map(|at| (at, 2)));
        assert!(payload.into_iter().eq(expected));
        let failing = Slow { bytes: &bytes[..200], step, calls: 0, fails: true };
        let error = Contents::read(failing).unwrap_err();
        assert!(
            matches!(&error, ContentsError::Input(cause) if cause.kind() == ErrorKind::TimedOut),
            "{error}"
        );
    }
    let refused = read(&bytes[..], |_| Err::<(), ContentsError>(io::Error::from(ErrorKind::Other).into()));
    assert!(matches!(refused, Err(ContentsError::Input(_))), "the consumer's error");
    assert!(matches!(Contents::read(&b""[..]), Err(ContentsError::Frame(_))));
    let cut = Contents::read(&bytes[..bytes.len() - 1]).unwrap_err();
    assert!(matches!(cut, ContentsError::Frame(FrameError { fault: FrameFault::Truncated { .. }, .. })));
}

#[test]
fn facts_that_a_stream_does_not_state_are_listed() {
    let facts = |meta: &Meta| contents(meta).unchecked().collect::<Vec<_>>();
    let (bytes, size) = (StreamFact::Bytes, StreamFact::DataSize);
    let full = Meta::full(4096, 0, "");
    let limited = Meta { data_size_is_limit: true, ..full.clone() };
    assert_eq!(facts(&full), []);
    assert_eq!(facts(&limited), [], "no frame is missing where the checksum is right");
    assert_eq!(facts(&full.without_checksum()), [bytes]);
    assert_eq!(facts(&limited.without_checksum()), [bytes, size]);
    let texts = [bytes, size].map(|fact| fact.to_string());
    assert!(
        texts.iter().all(|text| text.starts_with("it") || text.starts_with("that")) && texts[0] != texts[1]
    );
}

#[test]
fn the_ends_of_a_stream_are_its_first_and_its_last_frame() {
    let ends = |bytes: &[u8]| StreamEnds::read(Cursor::new(bytes));
    let fault = |bytes: &[u8]| match ends(bytes) {
        Err(ContentsError::Frame(error)) => error,
        other => panic!("{other:?}"),
    };
    let meta = Meta::incremental(4096, 0, "now");
    let whole = stream(&meta, &[(0, 512, None)]);
    let read = ends(&whole).unwrap();
    assert_eq!((&read.meta, read.checksum), (&meta, contents_checksum(&whole)));
    let plain = meta.clone().without_checksum();
    let bare = stream(&plain, &[]);
    assert_eq!(ends(&bare).unwrap(), StreamEnds { meta: plain, checksum: None });
    // No stop frame at the end: cut, or something after it, or a stop frame that is part of the first.
    let meta_alone = &bare[..bare.len() - HEADER_SIZE];
    let json_alone = &meta_alone[..meta_alone.len() - 2];
    let (header, stop) = (&meta_alone[..10], &bare[bare.len() - HEADER_SIZE..]);
    for bytes in [
        meta_alone.to_vec(),
        json_alone.to_vec(),
        [json_alone, stop].concat(),
        whole[..whole.len() - 1].to_vec(),
        [&whole[..], b"\n"].concat(),
        whole[..whole.len() - HEADER_SIZE].to_vec(),
    ] {
        let error = ends(&bytes).unwrap_err();
        let expected = bytes.len() as u64;
        assert!(matches!(error, ContentsError::NoStop { length } if length == expected), "{error}");
    }
    assert!(matches!(fault(header).fault, FrameFault::Truncated { part: FramePart::Header }));
    assert!(matches!(fault(b"").fault, FrameFault::Truncated { part: FramePart::Between }));
    // The two ends contradict each other.
    let contradiction = |bytes: &[u8]| match ends(bytes) {
        Err(ContentsError::Stop { length, fault }) if length == bytes.len() as u64 => fault,
        other => panic!("{other:?}"),
    };
    let without = [&whole[..whole.len() - HEADER_SIZE], stop].concat();
    assert_eq!(contradiction(&without), FrameFault::NoChecksum);
    let with = [meta_alone, &whole[whole.len() - HEADER_SIZE..]].concat();
    assert_eq!(contradiction(&with), FrameFault::Header);
}

fn contents_checksum(bytes: &[u8]) -> Option<Checksum> {
    Contents::read(bytes).unwrap().summary().checksum
}

#[test]
fn a_reader_counts_what_it_has_taken() {
    let meta = Meta::full(1 << 20, 5, "now");
    let bytes = stream(&meta, &[(0, 5, Some(7)), (5, (1 << 20) - 5, None)]);
    let (mut reader, mut input) = (Reader::new(), &bytes[..]);
    assert_eq!((reader.meta(), reader.summary()), (None, Summary::default()));
    while let Some(event) = reader.next(&mut input).unwrap() {
        assert_eq!(reader.consumed(), (bytes.len() - input.len()) as u64);
        let summary = reader.summary();
        assert_eq!(summary.length, reader.consumed());
        let figures = (summary.data, summary.zero, summary.frames, summary.checksum.is_some());
        let expected = match event {
            Event::Meta(_) => (0, 0, 0, false),
            Event::Data { .. } | Event::Payload { .. } => (5, 0, 1, false),
            Event::Zero { .. } => (5, (1 << 20) - 5, 2, false),
            Event::Stop => (5, (1 << 20) - 5, 2, true),
        };
        assert_eq!(figures, expected, "{event:?}");
    }
    assert_eq!(reader.meta(), Some(&meta));
    assert_eq!(reader.finish().unwrap().length, bytes.len() as u64);
}

/// A stream that ends early names the part of the frame, to the byte, and later calls fail alike.
#[test]
fn a_stream_that_ends_early_says_in_which_part() {
    let bytes = stream(&Meta::full(5, 5, "now"), &[(0, 5, Some(7))]);
    let json = Meta::full(5, 5, "now").to_json().len();
    let ends = |end: usize| {
        let mut reader = Reader::new();
        let mut input = &bytes[..end];
        while reader.next(&mut input).unwrap().is_some() {}
        let error = reader.finish().unwrap_err();
        let FrameFault::Truncated { part } = error.fault else { panic!("{error}") };
        (error.frame, part)
    };
    let data = 40 + json + 2;
    for (end, frame, part) in [
        (0, 0, FramePart::Between),
        (1, 0, FramePart::Header),
        (39, 0, FramePart::Header),
        (40, 0, FramePart::Meta),
        (40 + json - 1, 0, FramePart::Meta),
        (40 + json, 0, FramePart::Terminator),
        (40 + json + 1, 0, FramePart::Terminator),
        (data, 1, FramePart::Between),
        (data + 40, 1, FramePart::Payload),
        (data + 44, 1, FramePart::Payload),
        (data + 45, 1, FramePart::Terminator),
        (data + 47, 2, FramePart::Between),
        (data + 48, 2, FramePart::Header),
    ] {
        assert_eq!(ends(end), (frame, part), "{end}");
    }
    let mut reader = Reader::new();
    let error = reader.next(&mut &[b'x'; 40][..]).unwrap_err();
    assert_eq!(reader.next(&mut &bytes[..]).unwrap_err(), error);
    assert_eq!(reader.finish().unwrap_err(), error);
}

/// The first header is that of a meta frame at 0 whose length is neither 0 nor too long.
#[test]
fn the_header_of_the_meta_frame_is_checked() {
    let fault = |start: u64, length: u64| {
        let header = format!("meta {start:016x} {length:016x}\r\n");
        let result = Reader::new().next(&mut header.as_bytes()).map(|_| ());
        result.err().map(|error| error.fault)
    };
    assert_eq!(fault(0, 1), None);
    assert_eq!(fault(0, 65536), None);
    assert_eq!(fault(0, 0), Some(FrameFault::Header));
    assert_eq!(fault(1, 1), Some(FrameFault::Header));
    assert_eq!(fault(1, 0), Some(FrameFault::Header));
    assert_eq!(fault(0, 65537), Some(FrameFault::MetaTooLarge { length: 65537 }));
}

#[test]
fn the_highest_facts_that_can_be() {
    let mut meta = Meta::incremental(MAX_END, MAX_END, "");
    meta.parent_size = Some(MAX_END);
    assert_eq!(meta.check(), Ok(()));
    assert_eq!(Meta::from_json(meta.to_json().as_bytes()), Ok(meta.clone()));
    meta.parent_size = Some(MAX_END + 1);
    assert_eq!(meta.check(), Err(MetaError::DiskSize { key: "parent-size", size: MAX_END + 1 }));
    meta.virtual_size = MAX_END + 1;
    assert_eq!(meta.check(), Err(MetaError::DiskSize { key: "virtual-size", size: MAX_END + 1 }));
    let full = Meta { parent_checksum: Some(Checksum::new(1)), ..Meta::full(0, 0, "") };
    assert_eq!(full.check(), Err(MetaError::FullWithParent { key: "parent-checksum" }));
    assert_eq!(Meta { incremental: true, ..full }.check(), Ok(()));
}

#[test]
fn the_follower_of_a_stream_takes_its_names() {
    let mut monday = day("m", None);
    monday.disk = Some("vda".into());
    let previous = StreamEnds { meta: monday, checksum: Some(Checksum::new(5)) };
    let mut tuesday = Meta::full(8192, 0, "");
    tuesday.follow(&previous);
    let layer = tuesday.layer(Some(Checksum::new(6)));
    let parent = layer.parent.unwrap();
    assert_eq!(
        (layer.disk, layer.id, layer.size, layer.checksum),
        (Some("vda"), None, 8192, Some(Checksum::new(6)))
    );
    assert_eq!((parent.id, parent.size, parent.checksum), (Some("m"), Some(4096), Some(Checksum::new(5))));
    assert!(day("m", None).layer(None).parent.is_none());
    for (incremental, is_limit, has_checksum, exact) in [
        (false, false, true, true),
        (false, false, false, true),
        (false, true, true, false),
        (true, false, true, true),
        (true, false, false, false),
        (true, true, true, false),
    ] {
        let mut meta = Meta::full(1, 1, "");
        (meta.incremental, meta.data_size_is_limit) = (incremental, is_limit);
        let meta = if has_checksum { meta } else { meta.without_checksum() };
        assert_eq!(meta.is_data_size_exact(), exact, "{meta:?}");
    }
}

/// Terminals and programs show an error's source after it, so that it must be there once.
#[test]
fn errors_name_their_causes() {
    use std::error::Error;

    let meta = FrameFault::Meta(MetaError::NoObject);
    let with_cause = FrameError { frame: 0, at: 40, fault: meta };
    assert_eq!(with_cause.source().map(ToString::to_string), Some(MetaError::NoObject.to_string()));
    assert!(FrameError { frame: 0, at: 0, fault: FrameFault::Header }.source().is_none());
    assert_eq!(ChecksumAlgorithm::Xxh3.to_string(), "xxh3-128");
    let json = Meta::full(0, 0, "").to_json();
    assert!(json.contains("\"checksum\": \"xxh3-128\""), "{json}");
}

/// The state of a checksum is opaque; what it stands at can be seen.
#[test]
fn a_checksum_under_way_is_shown() {
    let mut hasher = checksum::Hasher::new();
    hasher.update(b"bytes");
    let checksum = hasher.checksum();
    assert_eq!(checksum, Checksum::new(xxhash_rust::xxh3::xxh3_128(b"bytes")));
    assert_eq!(format!("{hasher:?}"), format!("Hasher({checksum:?})"));
}
