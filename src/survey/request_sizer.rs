//! The length of the next request, learned from the replies.

use core::mem;

use super::options::{FIRST_EXTENDED_REQUEST, SurveyOptions};
use super::pass::STRIDE;

/// After a reply that did not fit the budget, this number of replies must fit before requests grow.
const CAUTION: u32 = 8;

/// With several requests in flight, the sizer aims at replies of about this many bytes: large
/// enough that the cost of each reply does not matter, small enough that the server can work on the
/// next while one is read.
const HANDY: u64 = 256 << 10;

/// With one request in flight, a reply may hold this many bytes of payload that will be sent again.
const WASTE: u64 = 1 << 10;
/// The shortest request, in bytes, that waste leads to.
const LEAST: u64 = 4 << 10;

/// The length of the next request, in bytes, and the payload expected in its reply.
#[derive(Debug)]
pub(super) struct RequestSizer {
    pub(super) length: u64,
    /// The number of replies that must fit before the length grows again.
    caution: u32,
    /// The expected bytes of payload: the largest recent reply, with decay.
    pub(super) expected: u64,
    /// True once a reply has shown which range one reply covers.
    pub(super) known: bool,
    /// True if most of the last reply will be sent again.
    was_wasteful: bool,
}

impl RequestSizer {
    pub(super) fn new(longest: u64) -> Self {
        Self { length: longest, caution: 0, expected: 0, known: false, was_wasteful: false }
    }

    /// Records the bytes of payload that a reply had, or would have had.
    pub(super) fn expect(&mut self, payload: u64) {
        self.expected = payload.max(self.expected - self.expected / 8);
    }

    /// Shrinks the requests after a reply about `asked` bytes that was too large.
    pub(super) fn halve(&mut self, asked: u64) {
        self.length = asked / 2;
        self.caution = CAUTION;
    }

    /// Adapts the length to a reply that described `described` of the `asked` bytes.
    ///
    /// A short reply shows the server's limit on its replies (qemu: 131,072 extents in each
    /// context). With one request in flight, asking for more does no harm; with several, each
    /// request should cover one reply.
    ///
    /// `unused` bytes of the payload lay beyond the range that all contexts described: the next
    /// reply will repeat them. If that is most of two replies in a row, the length shrinks.
    /// Otherwise a server whose contexts cover very different ranges would repeat the longer one
    /// for every few extents.
    pub(super) fn learn(
        &mut self,
        described: u64,
        asked: u64,
        payload: u64,
        unused: u64,
        options: &SurveyOptions,
    ) {
        self.known = true;
        self.caution = self.caution.saturating_sub(1);
        let ahead = options.width() > 1;
        // a single wasteful reply may be an exception
        let wasteful = !ahead && unused > WASTE.max(payload / 2);
        let again = mem::replace(&mut self.was_wasteful, wasteful);
        if wasteful && again {
            self.length = self.length.min(described.saturating_mul(2).max(LEAST));
        } else if ahead && payload > HANDY {
            let pieces = payload.div_ceil(HANDY);
            self.length = self.length.min((described / pieces).max(STRIDE));
        } else if ahead && described < asked {
            self.length = self.length.min(described.max(asked / 4).max(STRIDE));
        } else if self.caution == 0 && (!ahead || asked >= self.length / 2) {
            self.length = self.length.saturating_mul(growth(asked, payload)).min(options.max_request);
        }
    }
}

/// The factor by which the next request may be longer than one that was described completely.
///
/// An export of exabytes would take millions of requests of 128 GiB. If a few descriptors answer
/// such a request, the next asks for up to 1,024 times as many bytes: its reply would still be
/// small.
fn growth(asked: u64, payload: u64) -> u64 {
    if asked < FIRST_EXTENDED_REQUEST { 2 } else { (HANDY / payload.max(1)).clamp(2, 1024) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::ExportParams;
    use crate::wire::Form;

    const MIB: u64 = 1 << 20;
    const LONGEST: u64 = 1 << 30;

    fn options(in_flight: usize) -> SurveyOptions {
        let export = ExportParams::new(1 << 40, Form::Extended).unwrap().read_only(true);
        SurveyOptions::new(export).max_request(LONGEST).in_flight(in_flight)
    }

    /// The length after a reply of `payload` bytes that described `described` of `asked` bytes,
    /// starting from `length`.
    fn after(length: u64, described: u64, asked: u64, payload: u64, in_flight: usize) -> u64 {
        let mut step = RequestSizer::new(length);
        step.learn(described, asked, payload, 0, &options(in_flight));
        assert!(step.known);
        step.length
    }

    #[test]
    fn one_at_a_time_asks_for_more_whatever_comes() {
        assert_eq!(after(MIB, MIB, MIB, 100, 1), 2 * MIB);
        assert_eq!(after(MIB, 512, MIB, 100, 1), 2 * MIB);
        assert_eq!(after(MIB, MIB, MIB, 10 * HANDY, 1), 2 * MIB);
        assert_eq!(after(MIB, MIB, 512, 100, 1), 2 * MIB);
        assert_eq!(after(LONGEST, MIB, MIB, 100, 1), LONGEST, "but not beyond the limit");
    }

    #[test]
    fn ahead_each_request_is_to_be_one_reply_of_a_handy_size() {
        assert_eq!(after(MIB, MIB, MIB, HANDY, 2), 2 * MIB, "that size is handy");
        assert_eq!(after(MIB, MIB, MIB, HANDY + 1, 2), MIB / 2);
        assert_eq!(after(8 * MIB, 6 * MIB, 8 * MIB, 3 * HANDY, 2), 2 * MIB);
        assert_eq!(after(MIB, MIB, MIB, 1000 * HANDY, 2), STRIDE, "not below a stride");
        assert_eq!(after(MIB, 64 * MIB, 64 * MIB, 2 * HANDY, 2), MIB, "and never more than before");
    }

    #[test]
    fn ahead_a_short_reply_shows_how_far_they_reach() {
        assert_eq!(after(8 * MIB, 3 * MIB, 8 * MIB, 100, 2), 3 * MIB);
        assert_eq!(after(8 * MIB, MIB, 8 * MIB, 100, 2), 2 * MIB, "one alone may be shorter than others");
        assert_eq!(after(MIB / 8, 512, MIB / 8, 100, 2), STRIDE);
        assert_eq!(after(MIB, 3 * MIB, 8 * MIB, 100, 2), MIB);
    }

    #[test]
    fn ahead_more_is_asked_when_as_much_was_answered() {
        assert_eq!(after(MIB, MIB / 2, MIB / 2, 100, 2), 2 * MIB);
        assert_eq!(
            after(MIB, MIB / 2 - 1, MIB / 2 - 1, 100, 2),
            MIB,
            "a small request says nothing of large ones"
        );
        assert_eq!(after(LONGEST, LONGEST, LONGEST, 100, 2), LONGEST);
    }

    #[test]
    fn replies_of_which_most_will_be_sent_again_are_made_shorter() {
        let described = 8192;
        let length = |unused| {
            let mut step = RequestSizer::new(MIB);
            step.learn(described, MIB, 8 * WASTE, unused, &options(1));
            step.learn(described, MIB, 8 * WASTE, unused, &options(1));
            step.length
        };
        assert_eq!(length(4 * WASTE), 4 * MIB, "half of a reply is not most of it");
        assert_eq!(length(4 * WASTE + 1), 2 * described);
    }

    #[test]
    fn huge_exports_are_asked_about_in_longer_strides() {
        assert_eq!(growth(FIRST_EXTENDED_REQUEST - 1, 1), 2);
        assert_eq!(growth(FIRST_EXTENDED_REQUEST, 0), 1024);
        assert_eq!(growth(FIRST_EXTENDED_REQUEST, HANDY / 100), 100);
        assert_eq!(growth(FIRST_EXTENDED_REQUEST, HANDY), 2);
    }

    #[test]
    fn after_one_too_many_it_waits() {
        let mut step = RequestSizer::new(MIB);
        step.halve(MIB);
        for _ in 1..CAUTION {
            step.learn(MIB / 2, MIB / 2, 100, 0, &options(2));
            assert_eq!(step.length, MIB / 2);
        }
        step.learn(MIB / 2, MIB / 2, 100, 0, &options(2));
        assert_eq!(step.length, MIB);
    }

    #[test]
    fn what_a_reply_will_have_is_remembered_for_a_while() {
        let mut step = RequestSizer::new(MIB);
        step.expect(8000);
        assert_eq!(step.expected, 8000);
        step.expect(10);
        assert_eq!(step.expected, 7000);
        step.expect(7001);
        assert_eq!(step.expected, 7001);
    }
}
