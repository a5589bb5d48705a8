//! `formats`: a byte for the format, one for the options, one for a second format, sizes of pieces, and the rest is text of the first format. Asserts that
//! pieces make no difference, that the extents are in order, that an error lies in the input and can be printed, that what was read can be written and
//! reads the same again, and that what a second format makes of it is never less safe.

use super::bytes::Bytes;
use super::pieces::Pieces;
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{Allocation, Depth, Dirtiness, Extent, MAX_END};
use nbd_extents_formats::csi::Unallocated;
use nbd_extents_formats::nbdinfo::Totals;
use nbd_extents_formats::{
    Assume, Decode, Fact, Facts, Format, Layer, Loss, ReadError, ReadOptions, WriteError, WriteOptions,
    actions, read, write,
};

const SIZES: [u64; 4] = [6_291_456, 0, 1 << 20, MAX_END];

pub fn formats(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (which, options, second) = (usize::from(bytes.u8()), bytes.u8(), usize::from(bytes.u8()));
    let pieces = Pieces::read(&mut bytes);
    let text = bytes.rest();
    let options = ReadOptions {
        size: Some(SIZES[usize::from(options & 3)]),
        starting_offset: if options & 4 == 0 { 0 } else { 4096 },
        unallocated: if options & 8 == 0 { Unallocated::Undefined } else { Unallocated::Zero },
    };
    let second = Format::ALL[second % Format::ALL.len()];
    match Format::ALL.get(which % (Format::ALL.len() + 4)) {
        Some(&format) => list(format, &options, second, &pieces, text),
        None => match which % (Format::ALL.len() + 4) - Format::ALL.len() {
            0 => totals(Totals::<Allocation>::from_text(text), Totals::<Allocation>::from_json(text)),
            1 => totals(Totals::<Dirtiness>::from_text(text), Totals::<Dirtiness>::from_json(text)),
            2 => totals(Totals::<Depth>::from_text(text), Totals::<Depth>::from_json(text)),
            _ => drop(whole_and_in_pieces(actions::Reader::new, &pieces, text)),
        },
    }
}

/// Everything that a reader makes of a text: its extents, and the error if it ends with one.
fn all<D: Decode>(mut decoder: D, pieces: &Pieces, text: &[u8]) -> (Vec<Extent<D::Row>>, Option<ReadError>) {
    let (mut extents, mut left, mut nth) = (Vec::new(), text, 0);
    while !left.is_empty() {
        let (mut piece, later) = left.split_at(pieces.size(nth).min(left.len()));
        (left, nth) = (later, nth + 1);
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(extent)) => extents.push(extent),
                Ok(None) => break,
                Err(error) => return (extents, Some(error)),
            }
        }
        assert!(piece.is_empty(), "a reader that wants more has taken all");
    }
    loop {
        match decoder.end() {
            Ok(Some(extent)) => extents.push(extent),
            Ok(None) => return (extents, None),
            Err(error) => return (extents, Some(error)),
        }
    }
}

/// The extents and whether they are all there; the same whatever the pieces.
fn whole_and_in_pieces<D: Decode<Row: PartialEq + core::fmt::Debug>>(
    decoder: impl Fn() -> D,
    pieces: &Pieces,
    text: &[u8],
) -> (Vec<Extent<D::Row>>, bool) {
    let whole = all(decoder(), &Pieces::Whole, text);
    assert_eq!(all(decoder(), pieces, text), whole);
    assert_eq!(all(decoder(), &Pieces::Bytewise, text), whole);
    let (extents, error) = whole;
    for pair in extents.windows(2) {
        assert_eq!(pair[0].end(), pair[1].start(), "every byte once");
    }
    if let Some(error) = &error {
        assert!(error.at.byte <= text.len() as u64 && error.at.line > 0, "{error}");
        let lines = 1 + text.iter().filter(|&&byte| byte == b'\n').count() as u64;
        assert!(error.at.line <= lines && !error.to_string().contains(|c: char| c.is_control()), "{error}");
    }
    (extents, error.is_none())
}

fn list(format: Format, options: &ReadOptions, second: Format, pieces: &Pieces, text: &[u8]) {
    let decoder = || format.decoder(options).unwrap();
    let (extents, whole) = whole_and_in_pieces(decoder, pieces, text);
    let Some(last) = extents.last().filter(|_| whole) else { return };
    let size = last.end();
    let said = from_iter(extents.clone()).coalesce().collect_vec().unwrap();

    // the same again; but a list of allocated blocks cannot say the zeroes that the caller brought
    let brought = format == Format::CsiAllocated && options.unallocated == Unallocated::Zero;
    let numbered = |extent: &Extent<Facts>| !matches!(extent.status().layer, None | Some(Layer::Present));
    match again(format, &extents, size, Loss::Refuse) {
        Ok(same) => assert_eq!(same, said, "{format}"),
        Err(WriteError::Lost { lost, .. }) => assert!(brought && lost.contains(Fact::Zero), "{format}"),
        // a depth that means nothing to anybody, or none (qemu before 6.1), is not written as one
        Err(WriteError::Unknown { fact: Fact::Layer, .. }) => assert!(!said.iter().all(numbered), "{format}"),
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
    extents: &[Extent<Facts>],
    size: u64,
    loss: Loss,
) -> Result<Vec<Extent<Facts>>, WriteError> {
    let assume = if loss == Loss::Allow { Assume { dirty: true, data: true } } else { Assume::default() };
    let page = 3.try_into().unwrap();
    let options = WriteOptions { size: Some(size), loss, assume, page, ..WriteOptions::default() };
    let mut text = String::new();
    write(from_iter(extents.to_vec()), &mut *to.encoder(&options)?, &mut text).map_err(
        |error| match error {
            nbd_extents_formats::OutputError::Format(error) => error,
            other => panic!("{other:?}"),
        },
    )?;
    let starting_offset = extents.first().map_or(0, Extent::start);
    let options = ReadOptions { size: Some(size), starting_offset, ..ReadOptions::default() };
    let stream = read(to.decoder(&options).unwrap(), text.as_bytes());
    Ok(stream.coalesce().collect_vec().unwrap_or_else(|error| panic!("{to}: {error}: {text}")))
}

/// Totals that were read are written so that they read the same.
fn totals<C>(text: Result<Totals<C>, ReadError>, json: Result<Totals<C>, ReadError>)
where
    C: nbd_extents_formats::nbdinfo::Context + PartialEq + core::fmt::Debug,
{
    for totals in [text, json].into_iter().flatten() {
        assert_eq!(Totals::from_text(totals.text().to_string().as_bytes()).as_ref(), Ok(&totals));
        assert_eq!(Totals::from_json(totals.json().to_string().as_bytes()).as_ref(), Ok(&totals));
    }
}
