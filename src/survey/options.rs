//! What the handshake settled, and what the caller decides: everything that shapes a survey before its first request.

use core::ops::Range;

use super::error::SurveyError;
use crate::extent::MAX_END;
use crate::wire::Form;

/// Requests in the compact form ask about at most this many bytes: 2 GiB. The field would hold almost twice that, but lengths near its
/// end have crashed servers (CVE-2025-47711).
pub(super) const MAX_COMPACT_REQUEST: u64 = 1 << 31;
/// The first request in the extended form asks about at most this many bytes: 128 GiB, which a server can answer within a usual deadline even
/// when it has to read all the metadata. Later ones grow with what the answers reach.
pub(super) const FIRST_EXTENDED_REQUEST: u64 = 1 << 37;
/// Bytes of payload held at one time unless the caller says otherwise.
const DEFAULT_BUDGET: usize = 32 << 20;
/// Descriptors in a chunk unless the caller says otherwise: the protocol's own recommendation, 2^20.
const DEFAULT_MAX_DESCRIPTORS: usize = 1 << 20;
/// Replies without real progress that are borne unless the caller says otherwise.
const DEFAULT_MAX_STALLED: u32 = 1024;
/// How often a failing range is asked again unless the caller says otherwise.
const DEFAULT_MAX_RETRIES: u32 = 3;
/// Requests in flight at one time unless the caller says otherwise: as many as qemu and nbdkit work on for one connection. Against nbdkit with
/// answers that take 5 ms, 8 were 7.5 times as fast as one, 16 were 13.7 times, and more than 16 no faster.
const DEFAULT_IN_FLIGHT: usize = 16;
/// The minimum block size where the server names none. The protocol advises clients to assume 512.
const DEFAULT_BLOCK: u32 = 512;

/// How to take deviations from the protocol that do no harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// Correct and count what real servers get wrong, as long as no byte can be lost by it.
    #[default]
    Lenient,
    /// Reject whatever violates a MUST of the protocol.
    Strict,
}

impl Strictness {
    /// Whether violations are rejected.
    #[must_use]
    pub const fn is_strict(self) -> bool {
        matches!(self, Self::Strict)
    }
}

/// What the handshake settled about an export, as far as a survey needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportParams {
    pub(super) size: u64,
    pub(super) form: Form,
    /// What the server announced.
    pub(super) min_block: Option<u32>,
    /// What holds where it announced nothing.
    pub(super) assumed_block: u32,
    pub(super) read_only: bool,
}

impl ExportParams {
    /// A connection to an export of `size` bytes whose block status comes in `form`. It counts as writable until
    /// [`read_only`](Self::read_only) says otherwise, and as having blocks of 512 bytes.
    ///
    /// # Errors
    ///
    /// [`SurveyError::TooLarge`] for a size above [`MAX_END`].
    pub const fn new(size: u64, form: Form) -> Result<Self, SurveyError> {
        if size > MAX_END {
            return Err(SurveyError::TooLarge { size });
        }
        Ok(Self { size, form, min_block: None, assumed_block: DEFAULT_BLOCK, read_only: false })
    }

    /// The minimum block size that the server announced (`NBD_INFO_BLOCK_SIZE`), in bytes.
    ///
    /// Every request then is whole blocks, as the protocol demands. Where the size of the export is no
    /// multiple of it, no request can reach the bytes beyond the last whole block: they get the safe
    /// status (data, dirty), and [`SurveyStats::assumed_bytes`](crate::SurveyStats) counts them.
    ///
    /// # Errors
    ///
    /// [`SurveyError::BlockSize`] unless it is a power of two from 1 to 65536.
    pub const fn min_block(mut self, bytes: u32) -> Result<Self, SurveyError> {
        if !is_block_size(bytes) {
            return Err(SurveyError::BlockSize { got: bytes });
        }
        self.min_block = Some(bytes);
        Ok(self)
    }

    /// The block size in bytes that requests are aligned to where the server announced none: 512 unless
    /// set, as the protocol advises.
    ///
    /// The last request may end within a block, at the end of the export. An answer that ends within a
    /// block is rounded: the rest of the block gets the safe status. With blocks of 1 byte every answer is
    /// taken as it is, which suits disks that are described to the byte.
    ///
    /// # Errors
    ///
    /// As [`min_block`](Self::min_block).
    ///
    /// ```
    /// use nbd_extents::wire::Form;
    /// use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyOptions};
    ///
    /// let export = ExportParams::new(32, Form::Compact)?.read_only(true).assumed_block(1)?;
    /// let contexts = Contexts::new().require(Context::Allocation)?;
    /// let granted = contexts.negotiate_names(["base:allocation"])?;
    /// let mut survey = Survey::together(SurveyOptions::new(export), granted)?;
    /// let first = survey.next_request()?.unwrap();
    /// survey.extents32(first.id(), "base:allocation", 0, &[1, 3, 1, 0])?;
    /// survey.reply_done(first.id())?;
    /// assert_eq!(survey.next_extent()?.unwrap().to_string(), "0..1 zero,hole");
    /// assert_eq!(survey.next_request()?.unwrap().offset(), 2);
    /// # Ok::<(), nbd_extents::SurveyError>(())
    /// ```
    pub const fn assumed_block(mut self, bytes: u32) -> Result<Self, SurveyError> {
        if !is_block_size(bytes) {
            return Err(SurveyError::BlockSize { got: bytes });
        }
        self.assumed_block = bytes;
        Ok(self)
    }

    /// The block size that requests keep to, in bytes.
    pub(super) fn block(&self) -> u64 {
        u64::from(self.min_block.unwrap_or(self.assumed_block))
    }

    /// The end of the bytes that a request may ask about.
    pub(super) fn reachable(&self) -> u64 {
        match self.min_block {
            Some(block) => self.size - self.size % u64::from(block),
            None => self.size,
        }
    }

    /// Whether the server said `NBD_FLAG_READ_ONLY`.
    #[must_use]
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }
}

/// NBD protocol, "Block size constraints": a minimum is a power of two up to 64 KiB.
const fn is_block_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && bytes <= 1 << 16
}

/// How to survey: the range, the limits and the tolerance. Start from [`SurveyOptions::new`] and change what differs.
///
/// ```
/// use nbd_extents::wire::Form;
/// use nbd_extents::{ExportParams, SurveyOptions};
///
/// let export = ExportParams::new(10 << 30, Form::Extended)?.min_block(4096)?.read_only(true);
/// let options = SurveyOptions::new(export).range(0..1 << 30)?.budget(8 << 20);
/// # let _ = options;
/// # Ok::<(), nbd_extents::SurveyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SurveyOptions {
    pub(super) export: ExportParams,
    pub(super) range: Range<u64>,
    pub(super) strictness: Strictness,
    pub(super) budget: usize,
    pub(super) max_descriptors: usize,
    pub(super) max_request: u64,
    pub(super) max_stalled_replies: u32,
    pub(super) writable: bool,
    pub(super) one_extent: bool,
    pub(super) in_flight: usize,
    pub(super) join_details: u64,
    pub(super) max_retries: u32,
    pub(super) safe_on_failure: bool,
}

impl SurveyOptions {
    /// The whole export, lenient, with the default limits.
    #[must_use]
    pub const fn new(export: ExportParams) -> Self {
        Self {
            export,
            range: 0..export.size,
            strictness: Strictness::Lenient,
            budget: DEFAULT_BUDGET,
            max_descriptors: DEFAULT_MAX_DESCRIPTORS,
            max_request: match export.form {
                Form::Compact => MAX_COMPACT_REQUEST,
                Form::Extended => MAX_END,
            },
            max_stalled_replies: DEFAULT_MAX_STALLED,
            writable: false,
            one_extent: false,
            in_flight: DEFAULT_IN_FLIGHT,
            join_details: 0,
            max_retries: DEFAULT_MAX_RETRIES,
            safe_on_failure: false,
        }
    }

    /// Surveys only `range` (bytes). It may start and end anywhere in the export; requests are aligned by the survey.
    ///
    /// # Errors
    ///
    /// [`SurveyError::OutOfRange`] when the range is inverted or ends beyond the export.
    pub fn range(mut self, range: Range<u64>) -> Result<Self, SurveyError> {
        if range.start > range.end || range.end > self.export.size {
            return Err(SurveyError::OutOfRange { range, size: self.export.size });
        }
        self.range = range;
        Ok(self)
    }

    /// Lenient or strict.
    #[must_use]
    pub const fn strictness(mut self, strictness: Strictness) -> Self {
        self.strictness = strictness;
        self
    }

    /// How many bytes of payload the survey may hold at one time, over all contexts: 32 MiB unless set. When a reply does not fit, smaller
    /// requests are made.
    #[must_use]
    pub const fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// How many requests may be outstanding at one time: 16 unless set, at least 1.
    ///
    /// With more than one the next ranges are asked before the last answer came, which helps where answers take long: over a network, or when the
    /// server reads the metadata of a fragmented image. Answers may come in any order; those that come early wait, within the budget, until what
    /// lies before them is answered. Where the budget does not hold so many, fewer are made. A survey of a writable export has one at a time
    /// whatever is set here: each answer is held against what earlier ones said of the same bytes.
    #[must_use]
    pub const fn in_flight(mut self, requests: usize) -> Self {
        self.in_flight = requests;
        self
    }

    /// In a bitmap-first survey, joins requests for details over clean gaps of at most so many bytes: 0 unless set. It saves requests where
    /// small dirty ranges lie close together. What is learned of the gap itself is not used.
    ///
    /// Not for exports on which asking about a clean byte fails, as on qemu's snapshot-access node. It has no effect on a writable export.
    #[must_use]
    pub const fn join_details(mut self, bytes: u64) -> Self {
        self.join_details = bytes;
        self
    }

    /// How many requests may really be in flight.
    pub(super) fn width(&self) -> usize {
        if self.export.read_only { self.in_flight.max(1) } else { 1 }
    }

    /// How many descriptors a chunk may hold: 2^20 unless set. A client has a limit of its own on the bytes of a chunk, which holds as well.
    #[must_use]
    pub const fn max_descriptors(mut self, descriptors: usize) -> Self {
        self.max_descriptors = descriptors;
        self
    }

    /// How many bytes a request may ask about: as many as the answers reach unless set, and never more than 2 GiB in the compact form. At least
    /// one block is asked about, and at most 128 GiB at first.
    #[must_use]
    pub fn max_request(mut self, bytes: u64) -> Self {
        self.max_request = match self.export.form {
            Form::Compact => bytes.min(MAX_COMPACT_REQUEST),
            Form::Extended => bytes,
        };
        self
    }

    /// How many replies may come that say next to nothing (less than 512 bytes of what was asked, or more than the budget takes) without one
    /// of 64 KiB in between: 1024 unless set. More of them end the survey with [`SurveyError::Stalled`].
    #[must_use]
    pub const fn max_stalled_replies(mut self, replies: u32) -> Self {
        self.max_stalled_replies = replies;
        self
    }

    /// How often a range is asked again after its request has failed: 3 times unless set. One that fails once
    /// more ends the survey with [`SurveyError::Failing`].
    #[must_use]
    pub const fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Takes the safe status (data, dirty, depth unknown) for a range whose request keeps failing, instead of
    /// ending the survey. [`SurveyStats::assumed_bytes`](crate::SurveyStats) counts these bytes.
    ///
    /// For servers whose block status fails although reads work. Off unless said: for an incremental it
    /// means that all of the range is read, and nobody may notice why.
    ///
    /// ```
    /// use nbd_extents::wire::Form;
    /// use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyOptions};
    ///
    /// let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
    /// let contexts = Contexts::new().require(Context::Allocation)?.require(Context::bitmap("b0"))?;
    /// let granted = contexts.negotiate_names(contexts.names())?;
    /// let options = SurveyOptions::new(export).max_retries(0).safe_on_failure();
    /// let mut survey = Survey::together(options, granted)?;
    /// let request = survey.next_request()?.unwrap();
    /// survey.reply_failed(request.id())?;
    /// assert_eq!(survey.next_extent()?.unwrap().to_string(), "0..8192 dirty,data");
    /// assert_eq!(survey.complete()?.assumed_bytes, 8192);
    /// # Ok::<(), nbd_extents::SurveyError>(())
    /// ```
    #[must_use]
    pub const fn safe_on_failure(mut self) -> Self {
        self.safe_on_failure = true;
        self
    }

    /// Permits an export that is not read-only. Its answers may change while the survey runs: where two of them disagree about the same bytes
    /// the safer one is taken, but the result is no snapshot of any one moment.
    #[must_use]
    pub const fn allow_writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// Asks for one extent at a time (`NBD_CMD_FLAG_REQ_ONE`), for servers that are slow to answer more.
    #[must_use]
    pub const fn one_extent(mut self) -> Self {
        self.one_extent = true;
        self
    }
}
