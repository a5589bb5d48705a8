//! How much to ask at a time, learned from the replies.

use super::options::SurveyOptions;
use super::pass::STRIDE;

/// After a reply that did not fit the budget, so many must fit before more is asked again.
const CAUTION: u32 = 8;

/// With several requests in flight, replies of about so many bytes are asked for: large enough that their number costs nothing, small enough that the
/// server can work on the next while one is taken in.
const HANDY: u64 = 256 << 10;

/// The length of the next request, in bytes, and the payload that its reply will be likely to have.
#[derive(Debug)]
pub(super) struct Step {
    length: u64,
    /// So many replies must fit before the length grows again.
    caution: u32,
    /// Bytes of payload: as many as the largest of the last replies had.
    expected: u64,
    /// Whether any reply has shown how far they reach.
    known: bool,
}

impl Step {
    pub(super) fn new(longest: u64) -> Self {
        Self { length: longest, caution: 0, expected: 0, known: false }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// A reply had, or would have had, so many bytes of payload.
    pub(super) fn expect(&mut self, payload: u64) {
        self.expected = payload.max(self.expected - self.expected / 8);
    }

    /// A reply about `asked` bytes was too large.
    pub(super) fn halve(&mut self, asked: u64) {
        self.length = asked / 2;
        self.caution = CAUTION;
    }

    /// A reply described so many bytes of those that were asked. Where it is short, a server with a limit on its replies (qemu: 131,072 extents in each
    /// context) gives no more at a time. With one request in flight asking for more does no harm; with several, each should be one reply long.
    pub(super) fn learn(&mut self, described: u64, asked: u64, payload: u64, options: &SurveyOptions) {
        self.known = true;
        self.caution = self.caution.saturating_sub(1);
        let ahead = options.width() > 1;
        if ahead && payload > HANDY {
            let pieces = payload.div_ceil(HANDY);
            self.length = self.length.min((described / pieces).max(STRIDE));
        } else if ahead && described < asked {
            self.length = self.length.min(described.max(asked / 4).max(STRIDE));
        } else if self.caution == 0 && (!ahead || asked >= self.length / 2) {
            self.length = self.length.saturating_mul(2).min(options.max_request);
        }
    }
}
