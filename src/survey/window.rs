//! A stretch of the disk that all contexts of a reply describe, merged while it is read.

use alloc::sync::Arc;
use core::ops::Range;

use smallvec::SmallVec;

use super::layer::{Answer, Layer};
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;
use crate::stream::{ExtentStream, MergeAll, merge_all};

/// One context's part in a window: its layer, and what holds for the bytes that it leaves out.
pub(super) type Part = (Layer, Status);

/// What a reply told, one part a context, and what rests told before it. Several pieces may be read from it.
pub(super) type Told = SmallVec<[Part; 4]>;

/// A part as a stream that covers the window exactly. A layer has no gaps: only what lies behind its end is to be filled.
#[derive(Clone, Debug)]
struct Covering {
    layer: Layer,
    elsewhere: Answer,
    /// What has not been read yet.
    left: Range<u64>,
}

impl ExtentStream for Covering {
    type Status = Answer;
    type Error = StreamError;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<Answer>>, StreamError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let next = match self.layer.next_within(&self.left) {
            Some(extent) => extent.map(|flags| self.layer.answer(flags)),
            None => Extent::from_range(self.left.clone(), self.elsewhere)?,
        };
        self.left.start = next.end();
        Ok(Some(next))
    }
}

/// The merged extents of a window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    merged: MergeAll<Covering, fn(Answer, &Answer) -> Answer>,
    /// What is known of the whole window from elsewhere: the bitmaps, when the details are asked apart.
    known: Answer,
}

impl Window {
    pub(super) fn new(range: &Range<u64>, parts: impl IntoIterator<Item = Part>, known: Answer) -> Self {
        let streams = parts.into_iter().map(|(layer, elsewhere)| Covering {
            layer,
            elsewhere: Answer::new(elsewhere),
            left: range.clone(),
        });
        let merged = merge_all(streams, Answer::join as fn(Answer, &Answer) -> Answer);
        Self { merged, known }
    }

    pub(super) fn next_extent(&mut self) -> Result<Option<Extent<Answer>>, StreamError> {
        let next = self.merged.next_extent()?;
        Ok(next.map(|extent| extent.map(|answer| answer.join(&self.known))))
    }
}

/// The window that is read, and the reply behind it: the next window may be of the same reply, and goes on where this one ends.
#[derive(Debug, Default)]
pub(super) struct Reader {
    window: Option<Window>,
    reply: Option<Open>,
}

#[derive(Debug)]
struct Open {
    told: Arc<Told>,
    /// The same parts, without the descriptors that lie before the window.
    parts: Told,
}

impl Reader {
    /// Goes on to another window.
    pub(super) fn open(&mut self, range: &Range<u64>, told: Arc<Told>, known: Answer) {
        let mut reply = match self.reply.take() {
            Some(open) if Arc::ptr_eq(&open.told, &told) => open,
            _ => Open { parts: Told::clone(&told), told },
        };
        for (layer, _) in &mut reply.parts {
            layer.skip_to(range.start);
        }
        self.window = Some(Window::new(range, reply.parts.iter().cloned(), known));
        self.reply = Some(reply);
    }

    /// The next extent of the window; at its end `None`.
    pub(super) fn next_extent(&mut self) -> Result<Option<Extent<Answer>>, StreamError> {
        let Some(window) = &mut self.window else { return Ok(None) };
        let next = window.next_extent()?;
        if next.is_none() {
            self.window = None;
        }
        Ok(next)
    }

    /// Lets go of a reply that no piece is left of, so that it does not count any more.
    pub(super) fn rest(&mut self) {
        self.reply.take_if(|open| Arc::strong_count(&open.told) == 1);
    }
}
