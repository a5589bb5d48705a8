//! The options of the commands that survey an export, and the remark on ranges that no server
//! described.

use nbd_client::Surveyor;
use nbd_client::survey::SurveyorError;
use nbd_extents::{SurveyOptions, SurveyStats};

use crate::output::remark;
use crate::values::{human, parse_block};

/// The options of a survey.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Survey")]
pub(crate) struct SurveyArgs {
    /// Take a range for data, and for dirty, when the server keeps failing to describe it
    ///
    /// For servers whose block status fails although reads work. The run says how many bytes that
    /// were. An incremental reads them all.
    #[arg(long)]
    pub(crate) safe_on_failure: bool,
    /// The block size of a server that announces none, in bytes: 512 unless set
    ///
    /// An answer that cuts a block is rounded to the safe one: data, and dirty. With 1 nothing is
    /// rounded.
    #[arg(long, value_name = "N", value_parser = parse_block)]
    pub(crate) assume_block_size: Option<u32>,
}

impl SurveyArgs {
    /// The options for a survey over these connections, of a writable export as well.
    pub(crate) fn options(&self, surveyor: &Surveyor) -> Result<SurveyOptions, SurveyorError> {
        let mut options = surveyor.survey_options()?.allow_writable();
        if self.safe_on_failure {
            options = options.safe_on_failure();
        }
        match self.assume_block_size {
            Some(bytes) => Ok(options.assumed_block(bytes)?),
            None => Ok(options),
        }
    }

    /// Says on stderr which bytes were taken for data because the server did not describe them: the
    /// whole export where it has no block status, and with `--safe-on-failure` the count of the rest.
    pub(crate) fn remark_on_assumed(&self, assumes_data: bool, stats: &SurveyStats) {
        if assumes_data {
            remark("the server has no block status: all of the export is taken for data");
        } else if self.safe_on_failure && stats.assumed_bytes > 0 {
            let (bytes, size) = (stats.assumed_bytes, human(stats.assumed_bytes));
            remark(format_args!(
                "the server did not describe {bytes} bytes ({size}): they are taken for data, and for dirty"
            ));
        }
    }
}
