//! `wire`: the input is the payload of a status chunk. Asserts, for both forms, that it is accepted
//! exactly when its length (and its count) are right, that every way of reading the descriptors
//! agrees with a slow reader, and that encoding gives the same bytes, or the error that the
//! descriptors deserve.

use nbd_extents::wire::{
    BlockStatus, Descriptor, Form, RawDescriptor, encode, encode_into, encoded_size, pairs, parse_compact,
    parse_extended,
};
use nbd_extents::{DecodeError, EncodeError};

pub fn wire(data: &[u8]) {
    compact(data);
    extended(data);
    flat(data);
}

fn compact(data: &[u8]) {
    let expected = slow(data, Form::Compact);
    match parse_compact(data) {
        Ok(status) => {
            let list = check(&status, data, expected.unwrap());
            round_trip(Form::Compact, status.context(), &list, data);
            widen(status.context(), &list, data);
        }
        Err(error) => assert_eq!(Some(error), expected.err()),
    }
}

fn extended(data: &[u8]) {
    let expected = slow(data, Form::Extended);
    match parse_extended(data) {
        Ok(status) => {
            let list = check(&status, data, expected.unwrap());
            round_trip(Form::Extended, status.context(), &list, data);
            let narrow = encode(Form::Compact, status.context(), list.iter().copied());
            assert_eq!(narrow.err(), unencodable(&list, u64::from(u32::MAX)));
        }
        Err(error) => assert_eq!(Some(error), expected.err()),
    }
}

/// The list from a slow reader, or its error.
fn slow(data: &[u8], form: Form) -> Result<Vec<Descriptor>, DecodeError> {
    let (header, descriptor) = (form.header_size(), form.descriptor_size());
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    let got = data.len();
    if got < header {
        return Err(DecodeError::Truncated { got, header });
    }
    let (head, list) = data.split_at(header);
    let rest = list.len() % descriptor;
    if rest > 0 {
        return Err(DecodeError::Ragged { got, descriptor, rest });
    }
    let context = u32::try_from(number(&head[..4])).unwrap();
    if list.is_empty() {
        return Err(DecodeError::Empty { context });
    }
    let claimed = number(&head[4..]);
    if form == Form::Extended && claimed != (list.len() / descriptor) as u64 {
        let claimed = u32::try_from(claimed).unwrap();
        return Err(DecodeError::Count { context, claimed, got: list.len() / descriptor });
    }
    let read = |raw: &[u8]| {
        let (length, flags) = raw.split_at(descriptor / 2);
        Descriptor { length: number(length), flags: number(flags) }
    };
    Ok(list.chunks(descriptor).map(read).collect())
}

/// All ways of reading agree.
fn check<R: RawDescriptor>(
    status: &BlockStatus<'_, R>,
    data: &[u8],
    list: Vec<Descriptor>,
) -> Vec<Descriptor> {
    assert_eq!(status.context().to_be_bytes(), data[..4]);
    assert_eq!(status.len(), list.len());
    assert_eq!(status.descriptors().len(), list.len());
    assert!(status.descriptors().eq(list.iter().copied()));
    assert!(status.descriptors().rev().eq(list.iter().rev().copied()));
    let folded = status.descriptors().fold(Vec::new(), |mut all, descriptor| {
        all.push(descriptor);
        all
    });
    assert_eq!(folded, list);
    let mut ends = status.descriptors();
    assert_eq!((ends.next(), ends.len()), (list.first().copied(), list.len() - 1));
    assert_eq!(ends.next_back(), list.get(1..).and_then(<[_]>::last).copied());
    list
}

/// The first fault of a list to be encoded with numbers of at most `widest`.
fn unencodable(list: &[Descriptor], widest: u64) -> Option<EncodeError> {
    list.iter().enumerate().find_map(|(index, &Descriptor { length, flags })| {
        if length == 0 {
            Some(EncodeError::ZeroLength { index })
        } else if length > widest || flags > widest {
            Some(EncodeError::TooWide { index, length, flags })
        } else {
            None
        }
    })
}

fn round_trip(form: Form, context: u32, list: &[Descriptor], data: &[u8]) {
    assert_eq!(encoded_size(form, list.len()), Some(data.len()));
    let fault = unencodable(list, u64::MAX);
    let encoded = encode(form, context, list.iter().copied());
    match &encoded {
        Ok(encoded) => assert_eq!(encoded, data),
        Err(error) => assert_eq!(Some(*error), fault),
    }
    let mut out = vec![0xa5; data.len() + 1];
    let used = encode_into(form, context, list.iter().copied(), &mut out);
    assert_eq!(used.ok(), encoded.ok().map(|encoded| encoded.len()));
    assert_eq!(out.last(), Some(&0xa5), "written beyond the end");
    if fault.is_none() {
        let short = encode_into(form, context, list.iter().copied(), &mut out[..data.len() - 1]);
        assert!(matches!(short, Err(EncodeError::NoRoom { needed, available })
            if needed <= data.len() && available == data.len() - 1 && available < needed));
    }
}

/// A compact list means the same in the extended form.
fn widen(context: u32, list: &[Descriptor], data: &[u8]) {
    let Ok(wide) = encode(Form::Extended, context, list.iter().copied()) else {
        return;
    };
    let parsed = parse_extended(&wide).unwrap();
    assert!(parsed.descriptors().eq(list.iter().copied()));
    let narrow = encode(Form::Compact, parsed.context(), parsed.descriptors());
    assert_eq!(narrow.as_deref(), Ok(data));
}

/// The input as the numbers that libnbd's callback gets.
fn flat(data: &[u8]) {
    let numbers: Vec<u32> = data.as_chunks().0.iter().map(|&number| u32::from_be_bytes(number)).collect();
    let whole = numbers.len().is_multiple_of(2);
    match pairs(&numbers) {
        Ok(list) => {
            assert!(whole);
            assert_eq!(list.len(), numbers.len() / 2);
            let again = list.flat_map(|Descriptor { length, flags }| [length, flags]);
            assert!(again.eq(numbers.iter().map(|&number| u64::from(number))));
        }
        Err(error) => {
            assert!(!whole);
            assert_eq!(error, DecodeError::OddPairs { got: numbers.len() });
        }
    }
}
