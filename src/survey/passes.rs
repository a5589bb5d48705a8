//! The passes of a survey: one over all contexts; or, so that the cost follows the change instead of
//! the disk, the bitmaps over the whole range, and the other contexts only inside dirty ranges.
//!
//! ```text
//! bitmaps   |=clean=|==dirty==|==clean==|=dirty=|...            asked ahead
//!                   |         |         |       |
//! main      |settled|  asked  | settled | asked |               as the bitmaps tell
//! ```
//!
//! The main pass also holds the clean ranges, as settled pieces, so that it yields everything in
//! order.

use alloc::boxed::Box;
use core::iter::once;

use super::error::SurveyError;
use super::pass::{Pass, PassContext};
use super::queue::{MOST, Queue};
use super::request::{Request, RequestId};
use crate::error::StreamError;

/// The passes of a survey.
#[derive(Debug)]
pub(super) struct Passes {
    /// Asks about all contexts, or with `bitmaps` about the others.
    pub(super) main: Box<Pass>,
    pub(super) bitmaps: Option<BitmapPass>,
}

/// The pass of the bitmaps, and its answers on the way to the main pass.
#[derive(Debug)]
pub(super) struct BitmapPass {
    pub(super) pass: Box<Pass>,
    pub(super) answers: Queue,
}

impl Passes {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pass> {
        once(&self.main).chain(self.bitmaps.as_ref().map(|bitmaps| &bitmaps.pass)).map(|pass| &**pass)
    }

    /// The pass that awaits this reply, if any does.
    pub(super) fn awaiting(&mut self, id: RequestId, cx: &mut PassContext) -> Option<&mut Pass> {
        let Self { main, bitmaps } = self;
        let of_bitmaps = bitmaps.as_mut().map(|bitmaps| &mut *bitmaps.pass).filter(|pass| pass.awaits(id));
        cx.unread = main.is_unread() || of_bitmaps.as_ref().is_some_and(|pass| pass.is_unread());
        // The main pass never waits for the bitmaps to free budget. They wait for it, unless it
        // holds nothing.
        cx.alone = of_bitmaps.is_none() || main.is_empty();
        Some(of_bitmaps.unwrap_or(main)).filter(|pass| pass.awaits(id))
    }

    /// Returns the next request of the main pass, or else of the bitmaps.
    ///
    /// If several requests may be in flight, the bitmaps go first while their next range is still
    /// to be requested: the main pass waits for that answer.
    pub(super) fn next_request(
        &mut self,
        id: RequestId,
        cx: &mut PassContext,
    ) -> Result<Option<Request>, SurveyError> {
        let ahead = cx.options.width() > 1;
        if ahead
            && self.bitmaps.as_ref().is_some_and(|bitmaps| !bitmaps.pass.is_provided())
            && let Some(request) = self.next_of_bitmaps(id, cx)?
        {
            return Ok(Some(request));
        }
        cx.elsewhere = self.bitmaps.as_ref().map_or(0, |bitmaps| bitmaps.pass.in_flight());
        // the bitmaps' replies are held until the main pass has advanced: they free nothing for it
        (cx.alone, cx.unread) = (true, self.main.is_unread());
        match self.main.next_request(id, cx)? {
            Some(request) => Ok(Some(request)),
            None => self.next_of_bitmaps(id, cx),
        }
    }

    /// Returns the next request of the bitmaps, unless the main pass can hold none of its answers.
    fn next_of_bitmaps(
        &mut self,
        id: RequestId,
        cx: &mut PassContext,
    ) -> Result<Option<Request>, SurveyError> {
        cx.elsewhere = self.main.in_flight();
        cx.alone = self.main.is_empty();
        match &mut self.bitmaps {
            Some(bitmaps) if self.main.room() > 0 => {
                cx.unread = self.main.is_unread() || bitmaps.pass.is_unread();
                bitmaps.pass.next_request(id, cx)
            }
            _ => Ok(None),
        }
    }

    /// Moves extents to the queue in order, as [`Pass::read`]. In a bitmap-first survey the main pass
    /// waits for the bitmaps' pass, which tells it the dirty ranges that need details.
    pub(super) fn read(&mut self, queue: &mut Queue) -> Result<bool, StreamError> {
        loop {
            if self.main.read(queue, MOST)? {
                return Ok(true);
            }
            if !self.follow_up()? {
                return Ok(false);
            }
        }
    }

    /// Hands the bitmaps' answers to the main pass. Returns `true` if there were any.
    pub(super) fn follow_up(&mut self) -> Result<bool, StreamError> {
        let Self { main, bitmaps: Some(BitmapPass { pass, answers }) } = self else { return Ok(false) };
        let mut any = false;
        while main.room() > 0 && pass.read(answers, main.room())? {
            any = true;
            while let Some(answer) = answers.pop() {
                main.follow_up(&answer);
            }
        }
        Ok(any)
    }
}
