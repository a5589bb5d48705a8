//! The two sources of streams, with input that their callers cannot guarantee.

use super::super::bytes::Bytes;
use nbd_extents::stream::{ExtentStream, from_iter, place};
use nbd_extents::wire::{Descriptor, Descriptors, Pair64};
use nbd_extents::{Extent, ExtentError, MAX_END, StreamError};

/// `from_iter` reads up to the first extent that is out of order.
pub fn unsorted(bytes: &mut Bytes<'_>) {
    let count = bytes.u8() % 16;
    let next = |_| Extent::new(u64::from(bytes.u8()), u64::from(bytes.u8()).max(1), ()).unwrap();
    let list: Vec<Extent<()>> = (0..count).map(next).collect();
    let fault = (1..list.len()).find(|&nth| list[nth].start() < list[nth - 1].end());
    let mut stream = from_iter(list.clone());
    for extent in &list[..fault.unwrap_or(list.len())] {
        assert_eq!(stream.next_extent(), Ok(Some(*extent)));
    }
    let expected = match fault {
        None => Ok(None),
        Some(nth) => Err(StreamError::Overlap { start: list[nth].start(), expected: list[nth - 1].end() }),
    };
    assert_eq!(stream.next_extent(), expected);
}

/// `place` never makes an invalid extent, and names the descriptor that would be one.
pub fn placed(bytes: &mut Bytes<'_>) {
    let start = bytes.u64();
    let mut list: Vec<Pair64> = Vec::new();
    while !bytes.is_empty() {
        list.push((bytes.u64(), bytes.u64()));
    }
    let mut stream = place(Descriptors::new(&list), start);
    let mut at = u128::from(start);
    for Descriptor { length, flags } in Descriptors::new(&list) {
        let end = at + u128::from(length);
        let here = u64::try_from(at).unwrap();
        assert_eq!(stream.position(), here);
        let expected = if length == 0 {
            Err(StreamError::Extent(ExtentError::Empty { start: here }))
        } else if end > u128::from(MAX_END) {
            Err(StreamError::Extent(ExtentError::TooLarge { start: here, length }))
        } else {
            Ok(Some(Extent::new(here, length, flags).unwrap()))
        };
        let failed = expected.is_err();
        assert_eq!(stream.next_extent(), expected);
        if failed {
            assert_eq!(stream.position(), here);
            return;
        }
        at = end;
    }
    assert_eq!(stream.next_extent(), Ok(None));
}
