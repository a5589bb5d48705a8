//! One request of a plan.

use core::fmt;
use core::ops::Range;

/// One request: copy these bytes, or make them zero. Bytes in no step stay unchanged.
///
/// ```
/// use nbd_extents::plan::PlanStep;
///
/// let step = PlanStep::Zero { range: 4096..8192, may_unmap: true };
/// assert_eq!((step.start(), step.end(), step.length()), (4096, 8192, 4096));
/// assert_eq!(step.to_string(), "zero 4096..8192");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PlanStep {
    /// Read the bytes, and write or store them.
    Copy {
        /// The bytes.
        range: Range<u64>,
    },
    /// Make the bytes read as zero, or record that they do.
    Zero {
        /// The bytes.
        range: Range<u64>,
        /// True if they may lose their allocated space (`NBD_CMD_WRITE_ZEROES` without NO_HOLE).
        may_unmap: bool,
    },
}

impl PlanStep {
    /// The bytes that the step covers.
    #[must_use]
    pub const fn range(&self) -> &Range<u64> {
        match self {
            Self::Copy { range } | Self::Zero { range, .. } => range,
        }
    }

    /// The first byte.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.range().start
    }

    /// The end of the step: the first byte after it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.range().end
    }

    /// The length in bytes; never 0 in a plan.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.end().saturating_sub(self.start())
    }
}

impl fmt::Display for PlanStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Copy { .. } => "copy",
            Self::Zero { .. } => "zero",
        };
        write!(f, "{word} {}..{}", self.start(), self.end())
    }
}
