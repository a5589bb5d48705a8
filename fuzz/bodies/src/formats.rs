//! `formats`: a byte for the format, one for the options, one for a second format, sizes of pieces,
//! and the rest is text of the first format. Asserts that pieces make no difference, that the
//! extents are in order and cover the disk if its size is given, that an error lies in the input
//! and can be printed, that the list can be written and reads the same again, that a second format
//! makes no byte clean or zero that was not, and that a map and a merge of the list with itself agree.

use std::io;

use super::bytes::Bytes;
use super::pieces::Cuts;
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{Extent, MAX_END};
use nbd_extents_formats::csi::Unallocated;
use nbd_extents_formats::{
    Assume, Attribute, Attributes, ConvertError, Format, ImageLayer, ListReadError, ListReader,
    ListWriteError, Loss, ReadOptions, WriteOptions, actions, kubevirt, merge,
};

const SIZES: [u64; 4] = [6_291_456, 0, 1 << 20, MAX_END];

pub fn formats(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (which, bits, second) = (usize::from(bytes.u8()), bytes.u8(), usize::from(bytes.u8()));
    let pieces = Cuts::read(&mut bytes);
    let text = bytes.rest();
    let second = Format::ALL[second % Format::ALL.len()];
    let format = Format::ALL.get(which % (Format::ALL.len() + 1)).copied();
    let sized = bits & 16 != 0 || format == Some(Format::Extentlist);
    let options = ReadOptions {
        size: sized.then_some(SIZES[usize::from(bits & 3)]),
        starting_offset: if bits & 4 == 0 { 0 } else { 4096 },
        unallocated: if bits & 8 == 0 { Unallocated::Undefined } else { Unallocated::Zero },
    };
    match format {
        Some(format) => list(format, options, second, &pieces, text),
        None => {
            whole_and_in_pieces(&|input| actions::read(input, options), &pieces, text);
        }
    }
    let _ = kubevirt::next_offset(text);
}

/// A text that arrives in pieces.
pub struct PieceReader<'a> {
    pieces: &'a Cuts,
    nth: usize,
    left: &'a [u8],
}

impl io::Read for PieceReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.pieces.size(self.nth).min(self.left.len()).min(out.len());
        let (piece, left) = self.left.split_at(size);
        out[..size].copy_from_slice(piece);
        (self.left, self.nth) = (left, self.nth + 1);
        Ok(size)
    }
}

/// The result of reading a text: its extents, and the error if it ends with one.
fn all<T: Copy>(mut reader: ListReader<PieceReader<'_>, T>) -> (Vec<Extent<T>>, Option<ListReadError>) {
    let mut extents = Vec::new();
    loop {
        match reader.next_extent() {
            Ok(Some(extent)) => extents.push(extent),
            Ok(None) => return (extents, None),
            Err(error) => return (extents, Some(error)),
        }
    }
}

/// The extents, and `true` if they are complete; the same whatever the pieces.
fn whole_and_in_pieces<'a, T: Copy + PartialEq + core::fmt::Debug>(
    read: &dyn Fn(PieceReader<'a>) -> ListReader<PieceReader<'a>, T>,
    pieces: &'a Cuts,
    text: &'a [u8],
) -> (Vec<Extent<T>>, bool) {
    let with = |pieces| all(read(PieceReader { pieces, nth: 0, left: text }));
    let whole = with(&Cuts::Whole);
    assert_eq!(with(pieces), whole);
    assert_eq!(with(&Cuts::Bytewise), whole);
    let (extents, error) = whole;
    for pair in extents.windows(2) {
        assert_eq!(pair[0].end(), pair[1].start(), "every byte once");
    }
    if let Some(error) = &error {
        let ListReadError::List { at, .. } = error else { panic!("{error}") };
        let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
        let line = lines[usize::try_from(at.line - 1).unwrap()];
        assert!(at.column > 0 && at.column <= line.len() as u64 + 1, "{error}");
        assert!(!error.to_string().contains(|c: char| c.is_control()), "{error}");
    }
    (extents, error.is_none())
}

fn list(format: Format, options: ReadOptions, second: Format, pieces: &Cuts, text: &[u8]) {
    let (extents, whole) = whole_and_in_pieces(&|input| format.read(input, options), pieces, text);
    if !whole {
        return;
    }
    if let Some(size) = options.size {
        let covered = extents.first().map(Extent::start)..extents.last().map(Extent::end);
        let asked = options.starting_offset < size;
        assert_eq!(covered, if asked { Some(options.starting_offset)..Some(size) } else { None..None });
    }
    let Some(last) = extents.last() else { return };
    let size = last.end();
    let said = from_iter(extents.clone()).coalesce().collect_vec().unwrap();
    assert!(format.read(text, options).into_map().unwrap().extents().eq(said.iter().copied()));
    let twice = merge(format.read(text, options), format.read(text, options)).coalesce().collect_vec();
    assert_eq!(twice.as_ref(), Ok(&said), "{format} merged with itself");

    // the same again; but a list of allocated blocks has no form for zeroes added by the caller
    let brought = format == Format::CsiAllocated && options.unallocated == Unallocated::Zero;
    let numbered = |extent: &Extent<Attributes>| {
        !matches!(extent.status().layer, None | Some(ImageLayer::Present | ImageLayer::Backing))
    };
    match again(format, &extents, size, Loss::Refuse) {
        Ok(same) => assert_eq!(same, said, "{format}"),
        Err(ListWriteError::Lost { lost, .. }) => {
            assert!(brought && lost.contains(&Attribute::Zero), "{format}");
        }
        // a depth without a meaning is not written as one
        Err(ListWriteError::Unknown { attribute: Attribute::Layer, .. }) => {
            assert!(!said.iter().all(numbered), "{format}");
        }
        // a list that was requested from an offset on cannot be written: it would name holes before
        // it
        Err(ListWriteError::Extents(_)) => {
            assert!(format == Format::Extentlist && options.starting_offset > 0, "{format}");
        }
        Err(error) => panic!("{format}: {error}"),
    }
    let Ok(heard) = again(second, &extents, size, Loss::Allow) else { return };
    let both = from_iter(said).merge(from_iter(heard), |said, heard| (*said, *heard));
    for (said, heard) in both.collect_vec().unwrap().into_iter().map(Extent::into_status) {
        assert!(heard.dirty != Some(false) || said.dirty == Some(false), "{format} to {second}");
        assert!(heard.zero != Some(true) || said.zero == Some(true), "{format} to {second}");
    }
}

/// Written in a format and read again.
fn again(
    to: Format,
    extents: &[Extent<Attributes>],
    size: u64,
    loss: Loss,
) -> Result<Vec<Extent<Attributes>>, ListWriteError> {
    let assume = if loss == Loss::Allow { Assume { dirty: true, data: true } } else { Assume::default() };
    let page = 3.try_into().unwrap();
    let options = WriteOptions { size: Some(size), loss, assume, page, ..WriteOptions::default() };
    let mut text = Vec::new();
    match to.writer(&mut text, options).write_all(from_iter(extents.to_vec())) {
        Ok(_) => {}
        Err(ConvertError::Write(error)) => return Err(error),
        Err(other) => panic!("{other}"),
    }
    let starting_offset = extents.first().map_or(0, Extent::start);
    let options = ReadOptions { size: Some(size), starting_offset, ..ReadOptions::default() };
    let read = to.read(&text[..], options).coalesce().collect_vec();
    Ok(read.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text))))
}
