//! Resuming an interrupted survey.

use super::error::SurveyError;
use super::options::SurveyOptions;

/// The point from which a survey can resume: see
/// [`Survey::resume_point`](crate::Survey::resume_point).
///
/// ```
/// use nbd_extents::wire::Form;
/// use nbd_extents::{Context, Contexts, ExportParams, ResumePoint, Survey, SurveyOptions};
///
/// let contexts =
///     Contexts::new().require(Context::Allocation)?.negotiate([(0, "base:allocation")])?;
/// let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
/// let survey = Survey::together(SurveyOptions::new(export), contexts)?;
/// assert_eq!(
///     survey.resume_point(),
///     ResumePoint { offset: 0, end: 8192, export_size: 8192 }
/// );
/// # Ok::<(), nbd_extents::SurveyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResumePoint {
    /// The first byte that was not yielded.
    pub offset: u64,
    /// The end of the survey's range, in bytes.
    pub end: u64,
    /// The size of the export, in bytes.
    pub export_size: u64,
}

impl SurveyOptions {
    /// Resumes an interrupted survey on a new connection: surveys the rest of its range.
    ///
    /// The new survey keeps nothing of the old one's replies. Set the other options anew, and
    /// negotiate the contexts by name, since their ids may differ.
    ///
    /// # Errors
    ///
    /// [`SurveyError::SizeChanged`] when the size of the export has changed,
    /// [`SurveyError::OutOfRange`] when the point lies outside it.
    ///
    /// ```
    /// use nbd_extents::wire::Form;
    /// use nbd_extents::{ExportParams, ResumePoint, SurveyOptions};
    ///
    /// let point = ResumePoint { offset: 1 << 20, end: 6 << 20, export_size: 6 << 20 };
    /// let export = ExportParams::new(6 << 20, Form::Extended)?;
    /// let options = SurveyOptions::new(export).resume(point)?;
    /// # let _ = options;
    /// let grown = ExportParams::new(7 << 20, Form::Extended)?;
    /// assert!(SurveyOptions::new(grown).resume(point).is_err());
    /// # Ok::<(), nbd_extents::SurveyError>(())
    /// ```
    pub fn resume(self, point: ResumePoint) -> Result<Self, SurveyError> {
        let got = self.export.size;
        if got != point.export_size {
            return Err(SurveyError::SizeChanged { expected: point.export_size, got });
        }
        self.range(point.offset..point.end)
    }
}
