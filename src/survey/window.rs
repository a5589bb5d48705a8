//! A stretch of the disk that all contexts of a reply describe, merged while it is read.

use core::ops::Range;

use super::layer::{Answer, Answers, Layer};
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;
use crate::stream::{Clip, ExtentStream, Fill, MergeAll, merge_all};

/// One context's part in a window: its layer, and what holds for the bytes that it leaves out.
pub(super) type Part = (Layer, Status);

/// A part as a stream that covers the window exactly.
type Covering = Fill<Clip<Answers>>;

/// The merged extents of a window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    merged: MergeAll<Covering, fn(Answer, &Answer) -> Answer>,
    /// What is known of the whole window from elsewhere: the bitmaps, when the details are asked apart.
    known: Answer,
}

impl Window {
    pub(super) fn new(range: &Range<u64>, parts: impl IntoIterator<Item = Part>, known: Answer) -> Self {
        let streams = parts.into_iter().map(|(layer, elsewhere)| {
            Answers(layer).clip(range.clone()).fill(range.clone(), Answer::new(elsewhere))
        });
        let merged = merge_all(streams, Answer::join as fn(Answer, &Answer) -> Answer);
        Self { merged, known }
    }

    pub(super) fn next_extent(&mut self) -> Result<Option<Extent<Answer>>, StreamError> {
        let next = self.merged.next_extent()?;
        Ok(next.map(|extent| extent.map(|answer| answer.join(&self.known))))
    }
}
