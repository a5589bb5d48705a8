//! The order that makes the cost follow the change instead of the disk: the bitmaps over the whole range, and everything else only
//! inside dirty ranges.

use alloc::collections::VecDeque;

use super::layer::Answer;
use super::options::SurveyOptions;
use super::pass::Pass;
use super::request::{Request, RequestId};
use super::window::Window;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;

/// The two passes of a bitmap-first survey.
#[derive(Debug)]
pub(super) struct BitmapFirst {
    pub(super) bitmaps: Pass,
    /// What the bitmaps said and has not been followed up yet.
    answered: VecDeque<Window>,
    pub(super) details: Pass,
    /// What the bitmaps say of the range that the details are about.
    pub(super) run: Answer,
}

impl BitmapFirst {
    pub(super) fn new(bitmaps: Pass, details: Pass) -> Self {
        Self { bitmaps, answered: VecDeque::new(), details, run: Answer::new(Status::UNKNOWN) }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.bitmaps.is_waiting() || self.details.is_waiting()
    }

    /// Takes the bitmaps' answer, to be followed up.
    pub(super) fn push(&mut self, window: Window) {
        self.answered.push_back(window);
    }

    /// What to ask next: the details of the dirty range at hand, or, when all answers are followed up, more of the bitmaps.
    pub(super) fn next_request(&mut self, id: RequestId, options: &SurveyOptions) -> Option<Request> {
        if self.is_waiting() {
            return None;
        }
        self.details.next_request(id, options).or_else(|| self.bitmaps.next_request(id, options))
    }

    /// Follows the bitmaps' answers up to the next dirty range, which becomes the next to be asked about. Returns each clean extent on the way:
    /// there is nothing more to learn of it.
    pub(super) fn follow_up(&mut self) -> Result<Option<Extent<Answer>>, StreamError> {
        if self.is_waiting() || !self.details.is_over() {
            return Ok(None);
        }
        match self.next_bitmap_extent()? {
            Some(extent) if extent.status().status.dirty() == Some(true) => {
                self.run = *extent.status();
                self.details.restart(extent.range());
                Ok(None)
            }
            clean_or_none => Ok(clean_or_none),
        }
    }

    fn next_bitmap_extent(&mut self) -> Result<Option<Extent<Answer>>, StreamError> {
        while let Some(window) = self.answered.front_mut() {
            if let Some(extent) = window.next_extent()? {
                return Ok(Some(extent));
            }
            self.answered.pop_front();
        }
        Ok(None)
    }
}
