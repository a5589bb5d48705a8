//! The results of the handshake and the choices of the caller: all parameters of a survey.

use core::ops::Range;

use super::error::SurveyError;
use crate::extent::MAX_END;
use crate::wire::Form;

/// The longest request in the compact form: 2 GiB. The field holds almost twice that, but lengths
/// near its end have crashed servers (CVE-2025-47711).
pub(super) const MAX_COMPACT_REQUEST: u64 = 1 << 31;
/// The longest first request in the extended form: 128 GiB, which a server can answer within a
/// usual deadline even if it has to read all the metadata. Later requests grow with the range that
/// replies cover.
pub(super) const FIRST_EXTENDED_REQUEST: u64 = 1 << 37;
/// The default limit on the bytes of payload held at one time.
const DEFAULT_BUDGET: usize = 32 << 20;
/// The default limit on the descriptors of a chunk: the protocol's own recommendation, 2^20.
const DEFAULT_MAX_DESCRIPTORS: usize = 1 << 20;
/// The default limit on consecutive replies without real progress.
const DEFAULT_MAX_STALLED: u32 = 1024;
/// The default number of retries of a failing range.
const DEFAULT_MAX_RETRIES: u32 = 3;
/// The default number of requests in flight: qemu and nbdkit work on this many for one connection.
/// Against nbdkit with replies that take 5 ms, 8 were 7.5 times as fast as one, 16 were 13.7 times,
/// and more than 16 no faster.
const DEFAULT_IN_FLIGHT: usize = 16;
/// The minimum block size if the server announces none. The protocol advises clients to assume 512.
const DEFAULT_BLOCK: u32 = 512;

/// The treatment of harmless deviations from the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// Corrects and counts errors of real servers, as long as no byte can be lost.
    #[default]
    Lenient,
    /// Rejects every violation of a MUST of the protocol.
    Strict,
}

impl Strictness {
    /// True if violations are rejected.
    #[must_use]
    pub const fn is_strict(self) -> bool {
        matches!(self, Self::Strict)
    }
}

/// The results of the handshake that a survey needs to know about an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportParams {
    pub(super) size: u64,
    pub(super) form: Form,
    /// The minimum that the server announced.
    pub(super) min_block: Option<u32>,
    /// The block size if the server announced none.
    pub(super) assumed_block: u32,
    pub(super) read_only: bool,
}

impl ExportParams {
    /// The parameters of an export of `size` bytes whose block status comes in `form`.
    ///
    /// The export counts as writable until [`read_only`](Self::read_only) says otherwise, and has
    /// blocks of 512 bytes.
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
    /// Every request then covers whole blocks, as the protocol demands. If the size of the export
    /// is no multiple of the block size, no request can reach the bytes beyond the last whole
    /// block: they get the safe status (data, dirty), and
    /// [`SurveyStats::assumed_bytes`](crate::SurveyStats) counts them.
    ///
    /// # Errors
    ///
    /// [`SurveyError::BlockSize`] unless it is a power of two from 1 to 65536.
    pub fn min_block(mut self, bytes: u32) -> Result<Self, SurveyError> {
        self.min_block = Some(check_block(bytes)?);
        Ok(self)
    }

    /// The block size in bytes for servers that announce none: 512 unless set.
    ///
    /// Requests are aligned to it, as the protocol advises.
    ///
    /// The last request may end within a block, at the end of the export. A reply that ends within
    /// a block is rounded: the rest of the block gets the safe status. With blocks of 1 byte every
    /// reply is used unrounded, which suits disks that are described to the byte.
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
    pub fn assumed_block(mut self, bytes: u32) -> Result<Self, SurveyError> {
        self.assumed_block = check_block(bytes)?;
        Ok(self)
    }

    /// The block size in bytes to which requests are aligned.
    pub(super) fn block(&self) -> u64 {
        u64::from(self.min_block.unwrap_or(self.assumed_block))
    }

    /// The end of the bytes that a request may cover.
    pub(super) fn reachable(&self) -> u64 {
        self.size - self.size % self.min_block.map_or(1, u64::from)
    }

    /// States whether the server set `NBD_FLAG_READ_ONLY`.
    #[must_use]
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }
}

/// NBD protocol, "Block size constraints": a minimum is a power of two up to 64 KiB.
fn check_block(bytes: u32) -> Result<u32, SurveyError> {
    let valid = bytes.is_power_of_two() && bytes <= 1 << 16;
    if valid { Ok(bytes) } else { Err(SurveyError::BlockSize { got: bytes }) }
}

/// The range, the limits and the tolerance of a survey.
///
/// Start from [`SurveyOptions::new`] and change what differs.
///
/// ```
/// use nbd_extents::wire::Form;
/// use nbd_extents::{ExportParams, SurveyOptions};
///
/// let export =
///     ExportParams::new(10 << 30, Form::Extended)?.min_block(4096)?.read_only(true);
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
    /// The options for the whole export, lenient, with the default limits.
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

    /// Surveys only `range`, in bytes.
    ///
    /// The range may start and end anywhere in the export; the survey aligns its requests.
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

    /// Sets the assumed block size, as [`ExportParams::assumed_block`], of options that a client has
    /// made.
    ///
    /// # Errors
    ///
    /// [`SurveyError::BlockSize`] unless it is a power of two up to 64 KiB.
    ///
    /// ```
    /// use nbd_extents::wire::Form;
    /// use nbd_extents::{ExportParams, SurveyOptions};
    ///
    /// let options = SurveyOptions::new(ExportParams::new(32, Form::Compact)?);
    /// assert!(options.clone().assumed_block(1).is_ok());
    /// assert!(options.assumed_block(3).is_err());
    /// # Ok::<(), nbd_extents::SurveyError>(())
    /// ```
    pub fn assumed_block(mut self, bytes: u32) -> Result<Self, SurveyError> {
        self.export.assumed_block = check_block(bytes)?;
        Ok(self)
    }

    /// Sets the treatment of harmless deviations: lenient unless set.
    #[must_use]
    pub const fn strictness(mut self, strictness: Strictness) -> Self {
        self.strictness = strictness;
        self
    }

    /// The bytes of payload that the survey may hold at one time: 32 MiB unless set.
    ///
    /// The budget covers all contexts. When a reply does not fit, the survey makes smaller
    /// requests.
    #[must_use]
    pub const fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// The limit on outstanding requests: 16 unless set, at least 1.
    ///
    /// With more than one, the survey requests the next ranges before the last reply has come. This
    /// helps where replies take long: over a network, or when the server reads the metadata of a
    /// fragmented image. Replies may come in any order; early ones wait, within the budget, for
    /// those before them. If the budget is too small for all of them, the survey makes fewer
    /// requests. On a writable export it makes one at a time, whatever is set here: each reply is
    /// compared with earlier ones about the same bytes.
    #[must_use]
    pub const fn in_flight(mut self, requests: usize) -> Self {
        self.in_flight = requests;
        self
    }

    /// In a bitmap-first survey, joins requests for details over short clean gaps.
    ///
    /// A gap may have at most `bytes` bytes: 0 unless set. This saves requests where small dirty
    /// ranges lie close together. The details of the gap itself are not used.
    ///
    /// Not for exports on which a request for a clean byte fails, such as qemu's snapshot-access
    /// node. It has no effect on a writable export.
    #[must_use]
    pub const fn join_details(mut self, bytes: u64) -> Self {
        self.join_details = bytes;
        self
    }

    /// The actual limit on requests in flight.
    pub(super) fn width(&self) -> usize {
        if self.export.read_only { self.in_flight.max(1) } else { 1 }
    }

    /// The number of descriptors that a chunk may hold: 2^20 unless set.
    ///
    /// The client's own limit on the bytes of a chunk holds as well.
    #[must_use]
    pub const fn max_descriptors(mut self, descriptors: usize) -> Self {
        self.max_descriptors = descriptors;
        self
    }

    /// The limit on the bytes of a request.
    ///
    /// Unless set, requests grow to the range that replies cover. A request never exceeds 2 GiB in
    /// the compact form. It covers at least one block, and at first at most 128 GiB.
    #[must_use]
    pub fn max_request(mut self, bytes: u64) -> Self {
        self.max_request = match self.export.form {
            Form::Compact => bytes.min(MAX_COMPACT_REQUEST),
            Form::Extended => bytes,
        };
        self
    }

    /// The limit on replies with almost no progress: 1024 unless set.
    ///
    /// Such a reply describes fewer than 512 bytes of its request, or exceeds the budget; a reply
    /// that advances by 64 KiB resets the count. More of them end the survey with
    /// [`SurveyError::Stalled`].
    #[must_use]
    pub const fn max_stalled_replies(mut self, replies: u32) -> Self {
        self.max_stalled_replies = replies;
        self
    }

    /// The number of times that a failed range is requested again: 3 unless set.
    ///
    /// One more failure ends the survey with [`SurveyError::Failing`].
    #[must_use]
    pub const fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Assumes the safe status for a range whose request keeps failing.
    ///
    /// Without this the survey ends. The safe status is data, dirty, depth unknown.
    /// [`SurveyStats::assumed_bytes`](crate::SurveyStats) counts these bytes.
    ///
    /// For servers whose block status fails although reads work. Off by default: an incremental
    /// then reads the whole range, and nobody may notice why.
    ///
    /// ```
    /// use nbd_extents::wire::Form;
    /// use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyOptions};
    ///
    /// let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
    /// let contexts =
    ///     Contexts::new().require(Context::Allocation)?.require(Context::bitmap("b0"))?;
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

    /// Permits an export that is not read-only.
    ///
    /// Its status may change while the survey runs. If two replies disagree about the same bytes,
    /// the safer one holds, but the result is no snapshot of any one moment.
    #[must_use]
    pub const fn allow_writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// Requests one extent at a time (`NBD_CMD_FLAG_REQ_ONE`), for servers that answer more slowly.
    #[must_use]
    pub const fn one_extent(mut self) -> Self {
        self.one_extent = true;
        self
    }
}
