//! The order whose cost follows the change instead of the disk: the bitmaps over the whole range,
//! and the other contexts only inside dirty ranges.
//!
//! ```text
//! bitmaps   |=clean=|==dirty==|==clean==|=dirty=|...            asked ahead
//!                   |         |         |       |
//! details   |settled|  asked  | settled | asked |               as the bitmaps tell
//! ```
//!
//! The pass of the details also holds the clean ranges, as settled pieces, so that it yields
//! everything in order.

use super::error::SurveyError;
use super::layer::Answer;
use super::pass::{Pass, PassContext};
use super::request::{Request, RequestId};
use super::window::ExtentSink;
use crate::error::StreamError;
use crate::extent::Extent;

/// The two passes of a bitmap-first survey.
#[derive(Debug)]
pub(super) struct BitmapFirst {
    pub(super) bitmaps: Pass,
    pub(super) details: Pass,
}

impl BitmapFirst {
    pub(super) fn new(bitmaps: Pass, details: Pass) -> Self {
        Self { bitmaps, details }
    }

    /// True if only the bitmaps are left: nothing else holds any of the budget.
    pub(super) fn is_down_to_bitmaps(&self) -> bool {
        self.details.is_empty()
    }

    /// Returns the next request: the details of a dirty range, or more of the bitmaps.
    ///
    /// With several requests in flight, the bitmaps have priority as soon as no answer of them
    /// awaits follow-up.
    pub(super) fn next_request(
        &mut self,
        id: RequestId,
        cx: &mut PassContext<'_>,
    ) -> Result<Option<Request>, SurveyError> {
        let (asked, awaited) = (self.details.in_flight(), self.bitmaps.in_flight());
        let ahead = cx.options.width() > 1 && !self.bitmaps.is_provided();
        let bitmaps = |order: &mut Self, cx: &mut PassContext<'_>| {
            if order.details.is_full() {
                return Ok(None);
            }
            cx.elsewhere = asked;
            cx.alone = order.is_down_to_bitmaps();
            order.bitmaps.next_request(id, cx)
        };
        if ahead && let Some(request) = bitmaps(self, cx)? {
            return Ok(Some(request));
        }
        cx.elsewhere = awaited;
        cx.alone = true;
        match self.details.next_request(id, cx)? {
            Some(request) => Ok(Some(request)),
            None => bitmaps(self, cx),
        }
    }

    /// Gives extents to the sink in order, with their details or clean: see [`Pass::read`].
    pub(super) fn read(&mut self, sink: &mut impl ExtentSink) -> Result<bool, StreamError> {
        loop {
            if self.details.read(sink)? {
                return Ok(true);
            }
            if !self.follow_up()? {
                return Ok(false);
            }
        }
    }

    /// Hands the bitmaps' answers to the pass of the details. Returns `true` if there were any.
    pub(super) fn follow_up(&mut self) -> Result<bool, StreamError> {
        let mut any = false;
        while !self.details.is_full() && self.bitmaps.read(&mut FollowUp(&mut self.details))? {
            any = true;
        }
        Ok(any)
    }
}

/// The pass of the details, which takes the bitmaps' answers: dirty ranges to request, clean ranges
/// as settled.
struct FollowUp<'a>(&'a mut Pass);

impl ExtentSink for FollowUp<'_> {
    fn take(&mut self, extent: Extent<Answer>) -> bool {
        if extent.status().status.dirty() == Some(true) {
            self.0.ask_about(extent.range(), *extent.status());
        } else {
            self.0.settle(&extent);
        }
        !self.0.is_full()
    }
}
