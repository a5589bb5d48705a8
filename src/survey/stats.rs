//! The cost of a survey, and the deviations that it forgave.

/// Counters of one survey.
///
/// ```
/// use nbd_extents::wire::Form;
/// use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyOptions};
///
/// let contexts =
///     Contexts::new().require(Context::Allocation)?.negotiate([(0, "base:allocation")])?;
/// let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
/// let mut survey = Survey::together(SurveyOptions::new(export), contexts)?;
/// let request = survey.next_request()?.unwrap();
/// survey.chunk(request.id(), [0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 3])?;
/// survey.reply_done(request.id())?;
/// while survey.next_extent()?.is_some() {}
/// let stats = survey.complete()?;
/// assert_eq!(
///     (stats.requests, stats.descriptors, stats.asked_bytes, stats.extents),
///     (1, 1, 8192, 1)
/// );
/// assert_eq!(stats.forgiven, Default::default(), "the server kept to the protocol");
/// # Ok::<(), nbd_extents::SurveyError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurveyStats {
    /// Requests made.
    pub requests: u64,
    /// Replies that were used.
    pub replies: u64,
    /// Replies that were not used: the server failed them, they broke the protocol, or they did not
    /// fit the budget.
    pub failed: u64,
    /// Descriptors in the replies that were used.
    pub descriptors: u64,
    /// Bytes of payload in the replies that were used.
    pub payload_bytes: u64,
    /// The sum of the lengths of all requests, in bytes.
    pub asked_bytes: u64,
    /// The part of these requested inside dirty ranges only, for all contexts but the bitmaps: see
    /// [`Survey::bitmap_first`](crate::Survey::bitmap_first).
    pub detail_bytes: u64,
    /// Extents yielded.
    pub extents: u64,
    /// Extents with the safer of two statuses.
    ///
    /// Two replies about the same bytes disagreed, or an earlier one had been forgotten. More than
    /// 0 only on an export that changes.
    pub disagreements: u64,
    /// The number of times that retained answers of a changing export were forgotten.
    ///
    /// This happens for lack of room or because retaining them costs too much work. Their bytes get
    /// the safe status.
    pub retained_coarsened: u64,
    /// Answered pieces that were dropped to make room for an earlier one, and requested again.
    ///
    /// More than 0 only with several requests in flight.
    pub dropped: u64,
    /// Bytes that got the safe status because the server did not describe them.
    ///
    /// Their request failed again and again
    /// ([`safe_on_failure`](crate::SurveyOptions::safe_on_failure)), or they lie beyond the last
    /// whole block of the announced minimum, where no request may reach. In a bitmap-first survey a
    /// byte counts once for its bitmaps and once for its details.
    pub assumed_bytes: u64,
    /// The most requests in flight at one time.
    pub peak_in_flight: usize,
    /// The most bytes of payload held at one time.
    pub peak_bytes: usize,
    /// The deviations that a lenient survey accepted.
    pub forgiven: Forgiven,
}

/// Deviations that a lenient survey corrects and counts.
///
/// Each names a row of the table in the repository's `SERVER-BEHAVIOUR.md`.
///
/// ```
/// # use nbd_extents::wire::Form;
/// # use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyOptions};
/// # let contexts = Contexts::new()
/// #     .require(Context::Allocation)?
/// #     .negotiate([(0, "base:allocation")])?;
/// # let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
/// let mut survey = Survey::together(SurveyOptions::new(export), contexts)?;
/// let request = survey.next_request()?.unwrap();
/// // data up to byte 16384, on an export of 8192
/// survey.chunk(request.id(), [0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0])?;
/// survey.reply_done(request.id())?;
/// assert!(survey.next_extent()?.is_some_and(|extent| extent.end() == 8192));
/// assert_eq!(survey.complete()?.forgiven.beyond_export, 1);
/// # Ok::<(), nbd_extents::SurveyError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forgiven {
    /// Lists cut off before a descriptor of length 0 (row 2).
    pub zero_lengths: u64,
    /// Chunks about a context that was not negotiated (row 6).
    pub unknown_contexts: u64,
    /// Lists that reached beyond the end of the export (row 12).
    pub beyond_export: u64,
    /// One extra descriptor that starts at the end of the request, as nbdkit 1.32 sends it (row
    /// 14).
    pub extra_descriptors: u64,
    /// Lists that continued although they had passed the end of the request (row 15).
    pub overlong_lists: u64,
    /// Flags with upper bits that a 32-bit context does not have (row 21).
    pub wide_flags: u64,
    /// Blocks whose rest got the safe status because replies ended within the block (row 23).
    pub split_blocks: u64,
    /// Answers to a request for one extent that held more or longer ones (row 48).
    pub not_one: u64,
}

impl Forgiven {
    /// Each count with the number of its row in `SERVER-BEHAVIOUR.md`.
    ///
    /// ```
    /// use nbd_extents::SurveyStats;
    ///
    /// let stats = SurveyStats::default();
    /// assert!(stats.forgiven.by_row().any(|(row, count)| row == 14 && count == 0));
    /// ```
    pub fn by_row(&self) -> impl Iterator<Item = (u8, u64)> + use<> {
        [
            (2, self.zero_lengths),
            (6, self.unknown_contexts),
            (12, self.beyond_export),
            (14, self.extra_descriptors),
            (15, self.overlong_lists),
            (21, self.wide_flags),
            (23, self.split_blocks),
            (48, self.not_one),
        ]
        .into_iter()
    }

    /// The sum of all counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_row().map(|(_, count)| count).sum()
    }
}
