//! `sparse_stream`: the input is the pieces of a stream, and the stream.
//!
//! Asserts that a reader gives the same result whatever the pieces, including events, errors and
//! their places; that it accepts a stream exactly when a slow reader of the whole does; and that an
//! accepted stream can be written again. Most inputs have a wrong checksum, so the same stream with
//! the right one is read as well. Then the input is a list of frames: those that a writer accepts
//! are read back.

use super::bytes::Bytes;
use super::pieces::Cuts;
use nbd_extents_backup::sparse_stream::{
    Contents, Event, FrameError, FrameFault, Meta, Reader, StreamEnds, Summary, Writer,
};
use xxhash_rust::xxh3::xxh3_128;

/// An event, with the payload of a frame as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Meta(Meta),
    Data(u64, Vec<u8>),
    Zero(u64, u64),
    Stop,
}

pub fn sparse_stream(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let pieces = Cuts::read(&mut bytes);
    let stream = bytes.rest();
    let _ = check(stream, &pieces);
    if let Some(sealed) = sealed(stream) {
        let _ = check(&sealed, &pieces);
    }
    written(&mut Bytes::new(data), &pieces);
}

fn check(stream: &[u8], pieces: &Cuts) -> Result<Summary, FrameError> {
    let whole = read(stream, &Cuts::Whole);
    assert_eq!(read(stream, &Cuts::Bytewise), whole);
    assert_eq!(read(stream, pieces), whole);
    let (said, end) = whole;
    let contents = Contents::read(stream);
    assert_eq!(contents.is_ok(), end.is_ok());
    if let Ok(contents) = contents {
        assert_eq!(Ok(contents.summary()), end);
        let ends = StreamEnds::read(std::io::Cursor::new(stream)).unwrap();
        assert_eq!((&ends.meta, ends.checksum), (contents.meta(), contents.summary().checksum));
    }
    let slow = slow(stream);
    assert_eq!(end.as_ref().ok().map(|_| &said), slow.as_ref(), "{end:?}");
    if let Ok(summary) = end {
        assert_eq!(summary.length, stream.len() as u64);
        write_again(&said);
    }
    end
}

/// The same stream with the checksum of its bytes, if it ends with a stop frame.
fn sealed(stream: &[u8]) -> Option<Vec<u8>> {
    let (before, stop) = stream.split_last_chunk::<40>()?;
    if !stop.starts_with(b"stop ") {
        return None;
    }
    let sum = xxh3_128(before);
    let stop = format!("stop {:016x} {:016x}\r\n", sum >> 64, sum & u128::from(u64::MAX));
    Some([before, stop.as_bytes()].concat())
}

/// The result of a reader for a stream in such pieces: its events, and its end.
fn read(stream: &[u8], pieces: &Cuts) -> (Vec<Said>, Result<Summary, FrameError>) {
    let mut reader = Reader::new();
    let mut said: Vec<Said> = Vec::new();
    let mut rest = stream;
    for nth in 0.. {
        let (mut piece, later) = rest.split_at(pieces.size(nth).min(rest.len()));
        rest = later;
        loop {
            let event = match reader.next(&mut piece) {
                Ok(Some(event)) => event,
                Ok(None) => break assert!(piece.is_empty()),
                Err(error) => {
                    assert_eq!(reader.next(&mut &b"more"[..]), Err(error.clone()));
                    assert_eq!(reader.finish(), Err(error.clone()));
                    return (said, Err(error));
                }
            };
            match (event, said.last_mut()) {
                (Event::Meta(meta), _) => said.push(Said::Meta(meta)),
                (Event::Data { range }, _) => said.push(Said::Data(range.start, Vec::new())),
                (Event::Payload { offset, bytes }, Some(Said::Data(start, payload))) => {
                    assert!(!bytes.is_empty());
                    assert_eq!(*start + payload.len() as u64, offset);
                    payload.extend_from_slice(bytes);
                }
                (Event::Zero { range }, _) => said.push(Said::Zero(range.start, range.end - range.start)),
                (Event::Stop, _) => said.push(Said::Stop),
                (event, last) => panic!("{event:?} after {last:?}"),
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    assert_eq!(reader.consumed(), stream.len() as u64);
    (said, reader.finish())
}

/// Reads a stream held as a whole; `None` if it is not valid.
fn slow(stream: &[u8]) -> Option<Vec<Said>> {
    let mut rest = stream;
    let mut cut = |count: usize| -> Option<&[u8]> {
        let (now, later) = rest.split_at_checked(count)?;
        rest = later;
        Some(now)
    };
    let header = |bytes: &[u8]| -> Option<([u8; 4], u64, u64)> {
        let text = core::str::from_utf8(bytes).ok()?;
        let fields: Vec<&str> = text.strip_suffix("\r\n")?.split(' ').collect();
        let &[word, start, length] = &fields[..] else { return None };
        let plain = |field: &str| field.len() == 16 && field.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = |field| plain(field).then(|| u64::from_str_radix(field, 16).unwrap());
        Some((word.as_bytes().try_into().ok()?, number(start)?, number(length)?))
    };
    let (word, start, length) = header(cut(40)?)?;
    if word != *b"meta" || start != 0 || length == 0 || length > 65536 {
        return None;
    }
    let meta = Meta::from_json(cut(length as usize)?).ok()?;
    let mut said = vec![Said::Meta(meta.clone())];
    if cut(2)? != b"\r\n" {
        return None;
    }
    let (mut position, mut data) = (0, 0);
    let whole_from = if meta.incremental { meta.parent_size.unwrap_or(u64::MAX) } else { 0 };
    loop {
        let at = stream.len() - rest.len();
        let mut cut = |count: usize| -> Option<&[u8]> {
            let (now, later) = rest.split_at_checked(count)?;
            rest = later;
            Some(now)
        };
        let (word, start, length) = header(cut(40)?)?;
        let next = if &word == b"stop" { meta.virtual_size } else { start };
        if next > whole_from.max(position) {
            return None;
        }
        if &word == b"stop" {
            said.push(Said::Stop);
            let sum = if meta.checksum.is_some() { xxh3_128(&stream[..at]) } else { 0 };
            let exact = !meta.data_size_is_limit && (!meta.incremental || meta.checksum.is_some());
            let right = (u128::from(start) << 64 | u128::from(length)) == sum
                && (sum > 0 || meta.checksum.is_none())
                && (data == meta.data_size || !exact);
            return (right && rest.is_empty()).then_some(said);
        }
        let end = start.checked_add(length)?;
        if length == 0 || start < position || end > meta.virtual_size {
            return None;
        }
        position = end;
        match &word {
            b"zero" => said.push(Said::Zero(start, length)),
            b"data" => {
                data += length;
                if data > meta.data_size {
                    return None;
                }
                said.push(Said::Data(start, cut(usize::try_from(length).ok()?)?.to_vec()));
                if cut(2)? != b"\r\n" {
                    return None;
                }
            }
            _ => return None,
        }
    }
}

/// Events that were read can be written, and read the same. The meta states the exact amount of
/// data, where it may have stated more.
fn write_again(said: &[Said]) {
    let Some((Said::Meta(meta), frames)) = said.split_first() else { panic!("{said:?}") };
    let mut meta = meta.clone();
    let sizes =
        frames.iter().map(|said| if let Said::Data(_, payload) = said { payload.len() as u64 } else { 0 });
    meta.data_size = sizes.sum();
    let (mut writer, mut stream) = Writer::new(&meta).unwrap();
    for frame in &frames[..frames.len() - 1] {
        let frame = match frame {
            Said::Data(start, payload) => writer.data(*start, payload),
            Said::Zero(start, length) => writer.zero(*start..start + length),
            other => panic!("{other:?} in the middle"),
        };
        stream.extend(frame.unwrap().parts().concat());
    }
    stream.extend(writer.stop().unwrap().parts().concat());
    let (again, end) = read(&stream, &Cuts::Whole);
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(again[0], Said::Meta(meta));
    assert_eq!(again[1..], *frames);
}

/// Gives frames to a writer as the input says. Those that it accepts make a stream that the reader
/// accepts, and one with a stop frame is complete.
fn written(bytes: &mut Bytes<'_>, pieces: &Cuts) {
    let size = u64::from(bytes.u8());
    let mut meta = Meta::full(size, u64::from(bytes.u8()), String::from_utf8_lossy(bytes.take(2)));
    let bits = bytes.u8();
    (meta.incremental, meta.data_size_is_limit) = (bits & 1 > 0, bits & 2 > 0);
    meta.parent = (bits & 4 > 0).then(|| String::from_utf8_lossy(bytes.take(4)).into_owned());
    meta.parent_size = (bits & 8 > 0).then(|| u64::from(bytes.u8()));
    let meta = if bits & 16 > 0 { meta.without_checksum() } else { meta };
    let Ok((mut writer, mut stream)) = Writer::new(&meta) else {
        let of_a_parent = meta.parent.is_some() || meta.parent_size.is_some();
        return assert!(meta.data_size > size || (!meta.incremental && of_a_parent));
    };
    let mut said = vec![Said::Meta(meta.clone())];
    while !bytes.is_empty() {
        // most often right after the frame before, sometimes up to 4 bytes beside it
        let start = writer.position().wrapping_add_signed(i64::from(bytes.u8() as i8) / 32);
        let length = u64::from(bytes.u8() % 32);
        let (frame, said_now) = if bytes.u8().is_multiple_of(2) {
            (writer.zero(start..start.saturating_add(length)), Said::Zero(start, length))
        } else {
            let payload = bytes.take(length as usize);
            (writer.data(start, payload), Said::Data(start, payload.to_vec()))
        };
        if let Ok(frame) = frame {
            stream.extend(frame.parts().concat());
            said.push(said_now);
        }
    }
    let (unfinished, end) = read(&stream, pieces);
    assert_eq!(unfinished, said);
    assert!(matches!(&end, Err(error) if matches!(error.fault, FrameFault::Truncated { .. })), "{end:?}");
    if let Ok(frame) = writer.stop() {
        stream.extend(frame.parts().concat());
        check(&stream, pieces).unwrap();
    }
}
