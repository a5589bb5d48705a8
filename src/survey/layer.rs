//! One context's checked answer, as a stream of extents decoded straight from its payload.

use alloc::sync::Arc;

use super::budget::Payload;
use super::contexts::ContextKind;
use super::rules::Usable;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;
use crate::stream::ExtentSource;
use crate::wire::{Compact, Descriptor, Extended, Form, RawDescriptor};

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

/// The origin of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A reply.
    Server,
    /// Joined from retained answers: flags may carry [`DISPUTED`].
    Retained,
}

/// Marks bytes about which replies disagreed, in retained layers and in packed answers. No flag that
/// is known and no bit of a status is as high.
pub(super) const DISPUTED: u64 = 1 << 63;

/// The usable descriptors of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) enum List<'a> {
    Compact(&'a [Compact]),
    Extended(&'a [Extended]),
}

impl List<'_> {
    #[inline]
    fn get(&self, nth: usize) -> Option<Descriptor> {
        match self {
            Self::Compact(list) => list.get(nth).map(|raw| raw.read()),
            Self::Extended(list) => list.get(nth).map(|raw| raw.read()),
        }
    }
}

/// The position of a reader in a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerCursor {
    /// The index of the next descriptor.
    index: usize,
    /// The offset at which it starts; `u64::MAX` once the list is exhausted.
    pub(super) position: u64,
    /// The end of the usable bytes: no descriptor reaches beyond it.
    end: u64,
}

impl LayerCursor {
    /// Advances over the next descriptor. Returns its flags, or `None` at the end.
    #[inline]
    pub(super) fn next(&mut self, list: &List<'_>) -> Option<u64> {
        let Some(Descriptor { length, flags }) = list.get(self.index) else {
            self.position = u64::MAX;
            return None;
        };
        self.index += 1;
        self.position = self.position.saturating_add(length).min(self.end);
        Some(flags)
    }

    /// Decodes as many descriptors as the slices hold: their ends, and `say` applied to their
    /// flags. Returns their number.
    #[inline]
    pub(super) fn next_block<T>(
        &mut self,
        list: &List<'_>,
        ends: &mut [u64],
        said: &mut [T],
        say: impl Fn(u64) -> T,
    ) -> usize {
        match list {
            List::Compact(list) => self.next_block_raw(list, ends, said, say),
            List::Extended(list) => self.next_block_raw(list, ends, said, say),
        }
    }

    #[inline]
    fn next_block_raw<R: RawDescriptor, T>(
        &mut self,
        list: &[R],
        ends: &mut [u64],
        said: &mut [T],
        say: impl Fn(u64) -> T,
    ) -> usize {
        // a block cursor that is exhausted stands beyond the list: nothing is left then
        let rest = list.get(self.index..).unwrap_or_default();
        let mut position = self.position;
        for ((raw, end), said) in rest.iter().zip(&mut *ends).zip(said) {
            let Descriptor { length, flags } = raw.read();
            position = position.saturating_add(length).min(self.end);
            *end = position;
            *said = say(flags);
        }
        let count = rest.len().min(ends.len());
        self.position = position;
        self.index += count;
        count
    }
}

/// The usable descriptors of one payload at their offsets. Clones share the payload.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    payload: Arc<Payload>,
    origin: Origin,
    form: Form,
    meaning: ContextKind,
    descriptors: usize,
    cursor: LayerCursor,
}

impl Layer {
    /// Creates the layer of a context's list in a reply that starts at `start`.
    pub(super) fn new(
        payload: Payload,
        form: Form,
        meaning: ContextKind,
        start: u64,
        usable: Usable,
    ) -> Self {
        let Usable { descriptors, end } = usable;
        let cursor = LayerCursor { index: 0, position: start, end };
        Self { payload: Arc::new(payload), origin: Origin::Server, form, meaning, descriptors, cursor }
    }

    /// Creates a layer from a retained list in the extended form.
    pub(super) fn of_retained(payload: Payload, meaning: ContextKind, start: u64, usable: Usable) -> Self {
        Self { origin: Origin::Retained, ..Self::new(payload, Form::Extended, meaning, start, usable) }
    }

    /// The flags of a descriptor without meaningless bits, but with the mark.
    pub(super) fn known_flags(&self, flags: u64) -> u64 {
        match self.origin {
            Origin::Server => self.meaning.known_flags(flags),
            Origin::Retained => flags,
        }
    }

    /// The end of the described bytes.
    pub(super) fn end(&self) -> u64 {
        self.cursor.end
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
        let (start, end) = (self.cursor.position, self.cursor.end);
        let (beyond, all) = (end.saturating_sub(offset.max(start)), end.saturating_sub(start).max(1));
        let bytes = u128::from(self.bytes() as u64) * u128::from(beyond) / u128::from(all);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The number of usable descriptors.
    pub(super) fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// The number of descriptors still to be read.
    pub(super) fn left(&self) -> usize {
        self.descriptors - self.cursor.index
    }

    /// Skips the descriptors that end at or before `offset`.
    pub(super) fn skip_to(&mut self, offset: u64) {
        let list = self.list();
        let mut cursor = self.cursor;
        let mut kept = cursor;
        while cursor.next(&list).is_some() && cursor.position <= offset {
            kept = cursor;
        }
        self.cursor = kept;
    }

    /// The usable descriptors.
    #[inline]
    pub(super) fn list(&self) -> List<'_> {
        let list = self.payload.as_slice().get(self.form.header_size()..).unwrap_or_default();
        debug_assert!(
            list.len() >= self.descriptors * self.form.descriptor_size(),
            "rules have counted the descriptors of a whole payload"
        );
        match self.form {
            Form::Compact => List::Compact(first(list.as_chunks().0, self.descriptors)),
            Form::Extended => List::Extended(first(list.as_chunks().0, self.descriptors)),
        }
    }

    /// The position at which the layer is read.
    pub(super) fn cursor(&self) -> LayerCursor {
        self.cursor
    }

    /// True if some flags may be marked as disputed.
    pub(super) fn may_be_disputed(&self) -> bool {
        self.origin == Origin::Retained
    }

    /// The meaning of its flags, apart from the mark.
    pub(super) fn meaning(&self) -> ContextKind {
        self.meaning
    }

    /// The meaning of flags.
    #[inline]
    pub(super) fn answer(&self, flags: u64) -> Answer {
        match self.origin {
            Origin::Server => Answer::new(self.meaning.status(flags)),
            Origin::Retained => {
                Answer { status: self.meaning.status(flags & !DISPUTED), disputed: flags & DISPUTED != 0 }
            }
        }
    }
}

fn first<R>(list: &[R], count: usize) -> &[R] {
    list.get(..count).unwrap_or(list)
}

/// Yields the raw flags: [`Layer::answer`] gives them their meaning.
impl ExtentSource for Layer {
    type Status = u64;
    type Error = StreamError;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<u64>>, StreamError> {
        let mut cursor = self.cursor;
        let Some(flags) = cursor.next(&self.list()) else {
            return Ok(None);
        };
        let extent = Extent::from_range(self.cursor.position..cursor.position, flags)?;
        self.cursor = cursor;
        Ok(Some(extent))
    }
}
