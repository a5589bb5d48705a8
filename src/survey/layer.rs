//! One context's checked answer, as a stream of extents read straight from its payload.

use alloc::sync::Arc;

use super::budget::Payload;
use super::contexts::ContextKind;
use super::rules::Usable;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;
use crate::stream::ExtentStream;
use crate::wire::{Compact, Descriptor, Extended, Form, RawDescriptor};

/// What is known of some bytes, and whether two replies disagreed about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) disputed: bool,
}

impl Answer {
    pub(super) fn new(status: Status) -> Self {
        Self { status, disputed: false }
    }

    /// The same with a status that is not disputed.
    pub(super) fn combine(self, other: Status) -> Self {
        Self { status: self.status.combine(other), ..self }
    }

    /// Joins two answers about the same bytes; the safer one holds.
    pub(super) fn join(self, other: &Self) -> Self {
        Self {
            status: self.status.combine(other.status),
            disputed: self.disputed || other.disputed || self.status.contradicts(other.status),
        }
    }
}

/// Where a payload comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A reply.
    Server,
    /// Joined from the rests of earlier replies: flags may carry [`DISPUTED`].
    Rests,
}

/// Marks, in joined rests, bytes about which replies disagreed.
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

/// Where a layer is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The next descriptor.
    pub(super) next: usize,
    /// Where it starts; behind the last, once it is known that nothing follows, the end of all that there can be.
    pub(super) position: u64,
    /// No descriptor reaches farther.
    end: u64,
}

impl Place {
    /// Goes over the next descriptor. Returns its flags; `None` at the end.
    #[inline]
    pub(super) fn go_on(&mut self, list: &List<'_>) -> Option<u64> {
        let Some(Descriptor { length, flags }) = list.get(self.next) else {
            self.position = u64::MAX;
            return None;
        };
        self.next += 1;
        self.position = self.position.saturating_add(length).min(self.end);
        Some(flags)
    }

    /// Goes over as many descriptors as there is room for: where each ends, and what `say` makes of its flags. Returns how many there were.
    #[inline]
    pub(super) fn go_over<T>(
        &mut self,
        list: &List<'_>,
        ends: &mut [u64],
        said: &mut [T],
        say: impl Fn(u64) -> T,
    ) -> usize {
        match list {
            List::Compact(list) => self.go_over_raw(list, ends, said, say),
            List::Extended(list) => self.go_over_raw(list, ends, said, say),
        }
    }

    #[inline]
    fn go_over_raw<R: RawDescriptor, T>(
        &mut self,
        list: &[R],
        ends: &mut [u64],
        said: &mut [T],
        say: impl Fn(u64) -> T,
    ) -> usize {
        let rest = list.get(self.next..).unwrap_or_default();
        let mut position = self.position;
        for ((raw, end), said) in rest.iter().zip(&mut *ends).zip(said) {
            let Descriptor { length, flags } = raw.read();
            position = position.saturating_add(length).min(self.end);
            *end = position;
            *said = say(flags);
        }
        let count = rest.len().min(ends.len());
        self.position = position;
        self.next += count;
        count
    }

    /// Goes over descriptors up to the one that describes the byte at `offset`. Returns its flags; `None` when the list ends before.
    #[inline]
    pub(super) fn go_behind(&mut self, offset: u64, list: &List<'_>) -> Option<u64> {
        loop {
            let flags = self.go_on(list);
            if self.position > offset {
                return flags;
            }
        }
    }
}

/// The usable descriptors of one payload at their offsets. Cloning shares the payload.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    payload: Arc<Payload>,
    origin: Origin,
    form: Form,
    meaning: ContextKind,
    descriptors: usize,
    place: Place,
}

impl Layer {
    /// A context's answer in a reply about bytes from `start` on.
    pub(super) fn new(
        payload: Payload,
        form: Form,
        meaning: ContextKind,
        start: u64,
        usable: Usable,
    ) -> Self {
        let Usable { descriptors, end } = usable;
        let place = Place { next: 0, position: start, end };
        Self { payload: Arc::new(payload), origin: Origin::Server, form, meaning, descriptors, place }
    }

    /// Joined rests, in the extended form.
    pub(super) fn of_rests(payload: Payload, meaning: ContextKind, start: u64, usable: Usable) -> Self {
        Self { origin: Origin::Rests, ..Self::new(payload, Form::Extended, meaning, start, usable) }
    }

    /// The flags of a descriptor, without what has no meaning but with the mark.
    pub(super) fn known_flags(&self, flags: u64) -> u64 {
        match self.origin {
            Origin::Server => self.meaning.known_flags(flags),
            Origin::Rests => flags,
        }
    }

    /// The byte behind the last that is described.
    pub(super) fn end(&self) -> u64 {
        self.place.end
    }

    /// Whether its payload counts against the budget.
    pub(super) fn is_counted(&self) -> bool {
        self.payload.is_counted()
    }

    /// The bytes of its payload.
    pub(super) fn bytes(&self) -> usize {
        self.payload.as_slice().len()
    }

    /// About how many bytes of the payload are about bytes beyond `offset`, as if descriptors were alike.
    pub(super) fn bytes_beyond(&self, offset: u64) -> u64 {
        let (start, end) = (self.place.position, self.place.end);
        let (beyond, all) = (end.saturating_sub(offset.max(start)), end.saturating_sub(start).max(1));
        let bytes = u128::from(self.bytes() as u64) * u128::from(beyond) / u128::from(all);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The descriptors that are used.
    pub(super) fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// The descriptors that are still to be read.
    pub(super) fn left(&self) -> usize {
        self.descriptors - self.place.next
    }

    /// Passes over the descriptors that end at or before `offset`.
    pub(super) fn skip_to(&mut self, offset: u64) {
        let list = self.list();
        let mut next = self.place;
        let mut kept = next;
        while next.go_on(&list).is_some() && next.position <= offset {
            kept = next;
        }
        self.place = kept;
    }

    /// All usable descriptors.
    #[inline]
    pub(super) fn list(&self) -> List<'_> {
        let list = self.payload.as_slice().get(self.form.header_size()..).unwrap_or_default();
        match self.form {
            Form::Compact => List::Compact(first(list.as_chunks().0, self.descriptors)),
            Form::Extended => List::Extended(first(list.as_chunks().0, self.descriptors)),
        }
    }

    /// Where it is read.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Whether some of its flags may be marked as disputed.
    pub(super) fn may_be_disputed(&self) -> bool {
        self.origin == Origin::Rests
    }

    /// What its flags mean, but for the mark.
    pub(super) fn meaning(&self) -> ContextKind {
        self.meaning
    }

    /// What flags mean.
    #[inline]
    pub(super) fn answer(&self, flags: u64) -> Answer {
        match self.origin {
            Origin::Server => Answer::new(self.meaning.status(flags)),
            Origin::Rests => {
                Answer { status: self.meaning.status(flags & !DISPUTED), disputed: flags & DISPUTED != 0 }
            }
        }
    }
}

fn first<R>(list: &[R], count: usize) -> &[R] {
    list.get(..count).unwrap_or(list)
}

/// The raw flags: [`Layer::answer`] gives them their meaning.
impl ExtentStream for Layer {
    type Status = u64;
    type Error = StreamError;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<u64>>, StreamError> {
        let mut place = self.place;
        let Some(flags) = place.go_on(&self.list()) else {
            return Ok(None);
        };
        let extent = Extent::from_range(self.place.position..place.position, flags)?;
        self.place = place;
        Ok(Some(extent))
    }
}
