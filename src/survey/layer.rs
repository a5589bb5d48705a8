//! One context's checked answer, as a stream of extents decoded straight from its payload.

use alloc::sync::Arc;

use super::budget::Payload;
use super::rules::Usable;
use crate::contexts::ContextKind;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;
use crate::stream::ExtentSource;
use crate::wire::{Form, RawDescriptor};

/// The status of some bytes, and whether two replies disagreed about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) disputed: bool,
}

impl Answer {
    pub(super) fn new(status: Status) -> Self {
        Self { status, disputed: false }
    }

    /// Combines the status with one that is not disputed.
    pub(super) fn combine(self, other: Status) -> Self {
        Self { status: self.status.combine(other), ..self }
    }

    #[inline]
    pub(super) fn pack(self) -> PackedAnswer {
        let [bitmaps, rest] = self.status.pack();
        [bitmaps, rest | if self.disputed { DISPUTED } else { 0 }]
    }

    #[inline]
    pub(super) fn unpack([bitmaps, rest]: PackedAnswer) -> Self {
        Self { status: Status::unpack([bitmaps, rest & !DISPUTED]), disputed: rest & DISPUTED != 0 }
    }

    /// Joins two answers about the same bytes; the safer one holds.
    pub(super) fn join(self, other: &Self) -> Self {
        Self {
            status: self.status.combine(other.status),
            disputed: self.disputed || other.disputed || self.status.contradicts(other.status),
        }
    }
}

/// An [`Answer`] in two numbers: a status as [`Status::pack`] returns it, and a mark. Answers about
/// disjoint parts of a status join by an OR.
pub(super) type PackedAnswer = [u64; 2];

/// Marks bytes about which replies disagreed, in retained layers and in packed answers. No flag that
/// is known and no bit of a status is as high.
pub(super) const DISPUTED: u64 = 1 << 63;

/// The meaning of a layer's flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning {
    pub(super) kind: ContextKind,
    /// True for a layer of an earlier reply: nothing is said of the bytes beyond its end.
    pub(super) retained: bool,
    /// Joined from several replies: flags may carry [`DISPUTED`], and have no meaningless bits.
    joined: bool,
}

impl Meaning {
    #[inline]
    pub(super) fn answer(self, flags: u64) -> Answer {
        let mark = if self.joined { DISPUTED } else { 0 };
        Answer { status: self.kind.status(flags & !mark), disputed: flags & mark != 0 }
    }

    /// The flags without meaningless bits, but with the mark.
    fn known_flags(self, flags: u64) -> u64 {
        if self.joined { flags } else { self.kind.known_flags(flags) }
    }

    /// The answer about the bytes that the layer does not describe.
    pub(super) fn elsewhere(self) -> Answer {
        Answer::new(if self.retained { Status::UNKNOWN } else { self.kind.safe_status() })
    }
}

/// Room for decoded descriptors: their ends, and a value for the flags of each.
pub(super) type Cuts<'a, T> = (&'a mut [u64], &'a mut [T]);

/// The usable descriptors of one payload at their offsets, and the place from which they are read
/// on. Clones share the payload.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    payload: Arc<Payload>,
    form: Form,
    pub(super) meaning: Meaning,
    usable: Usable,
    /// The index of the next descriptor.
    index: usize,
    /// The offset at which it starts.
    position: u64,
}

impl Layer {
    /// Creates the layer of a context's list in a reply that starts at `start`.
    pub(super) fn new(payload: Payload, form: Form, kind: ContextKind, start: u64, usable: Usable) -> Self {
        debug_assert!(
            payload.as_slice().len() >= form.header_size() + usable.descriptors * form.descriptor_size(),
            "rules have counted the descriptors of a whole payload"
        );
        let (payload, meaning) = (Arc::new(payload), Meaning { kind, retained: false, joined: false });
        Self { payload, form, meaning, usable, index: 0, position: start }
    }

    /// Creates a layer of retained answers, joined in the extended form.
    pub(super) fn joined(payload: Payload, kind: ContextKind, start: u64, usable: Usable) -> Self {
        let meaning = Meaning { kind, retained: true, joined: true };
        Self { meaning, ..Self::new(payload, Form::Extended, kind, start, usable) }
    }

    /// The end of the described bytes.
    pub(super) fn end(&self) -> u64 {
        self.usable.end
    }

    /// True if its payload counts against the budget.
    pub(super) fn is_counted(&self) -> bool {
        self.payload.is_counted()
    }

    /// The size of its payload, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.payload.as_slice().len()
    }

    /// Estimates the bytes of payload that describe the disk beyond `offset`, as if all descriptors
    /// were alike.
    pub(super) fn bytes_beyond(&self, offset: u64) -> u64 {
        let (start, end) = (self.position, self.end());
        let (beyond, all) = (end.saturating_sub(offset.max(start)), end.saturating_sub(start).max(1));
        let bytes = u128::from(self.bytes() as u64) * u128::from(beyond) / u128::from(all);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The number of usable descriptors.
    pub(super) fn descriptors(&self) -> usize {
        self.usable.descriptors
    }

    /// The number of descriptors still to be read.
    pub(super) fn left(&self) -> usize {
        self.descriptors() - self.index
    }

    /// Skips the descriptors that end at or before `offset`.
    pub(super) fn skip_to(&mut self, offset: u64) {
        let mut kept = (self.index, self.position);
        // a block of one descriptor at a time, since it may be the one to keep
        while self.next_block((&mut [0], &mut [0]), |flags| flags) > 0 && self.position <= offset {
            kept = (self.index, self.position);
        }
        (self.index, self.position) = kept;
    }

    /// Reads as many descriptors as `cuts` has room for: their ends, and `show` applied to their flags.
    /// Returns their number.
    #[inline]
    pub(super) fn next_block<T>(&mut self, cuts: Cuts<'_, T>, show: impl Fn(u64) -> T) -> usize {
        let Self { payload, form, usable, index, position, .. } = self;
        let list = payload.as_slice().get(form.header_size()..).unwrap_or_default();
        let left = *index..usable.descriptors;
        let count = match form {
            Form::Compact => decode(list.as_chunks::<8>().0.get(left), position, usable.end, cuts, show),
            Form::Extended => decode(list.as_chunks::<16>().0.get(left), position, usable.end, cuts, show),
        };
        *index += count;
        count
    }
}

/// Decodes the front of a list that starts at `position`. Only the last descriptor of the list may
/// reach beyond `most`, and is cut there.
#[inline]
fn decode<R: RawDescriptor, T>(
    list: Option<&[R]>,
    position: &mut u64,
    most: u64,
    (ends, shown): Cuts<'_, T>,
    show: impl Fn(u64) -> T,
) -> usize {
    let list = list.unwrap_or_default();
    let count = list.len().min(ends.len());
    let mut next = *position;
    for ((raw, end), shown) in list.iter().zip(&mut *ends).zip(shown) {
        let descriptor = raw.read();
        // `Rules` have found that no sum overflows
        next = next.wrapping_add(descriptor.length);
        (*end, *shown) = (next, show(descriptor.flags));
    }
    *position = next.min(most);
    if let Some(end) = count.checked_sub(1).and_then(|last| ends.get_mut(last)) {
        *end = *position;
    }
    count
}

/// Yields the flags without meaningless bits, but with the mark.
impl ExtentSource for Layer {
    type Status = u64;
    type Error = StreamError;

    fn pull(&mut self) -> Result<Option<Extent<u64>>, StreamError> {
        let (start, meaning, mut flags) = (self.position, self.meaning, [0]);
        if self.next_block((&mut [0], &mut flags), |flags| meaning.known_flags(flags)) == 0 {
            return Ok(None);
        }
        Ok(Some(Extent::from_range(start..self.position, flags[0])?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// The estimate decides which answer is given up for one that is awaited.
    #[test]
    fn bytes_beyond_an_offset_are_a_share_of_the_payload() {
        let usable = Usable { descriptors: 5, end: 1400 };
        let payload = Payload::uncounted(vec![0; Form::Compact.header_size() + 40]);
        let layer = Layer::new(payload, Form::Compact, ContextKind::Allocation, 1000, usable);
        let shares = [(0, 44), (1000, 44), (1100, 33), (1300, 11), (1400, 0), (5000, 0)];
        for (offset, bytes) in shares {
            assert_eq!(layer.bytes_beyond(offset), bytes, "beyond {offset}");
        }
    }
}
