//! An action and its reason: the answer to "why is this range copied?".

use core::fmt;

use super::Action;
use crate::status::Status;

/// The decision of a policy about a range: the action, and its reason.
///
/// ```
/// use nbd_extents::action::{Cause, Content, Full, Policy, Reason};
/// use nbd_extents::{Action, Allocation, Extent, Status};
///
/// let hole =
///     Extent::new(0, 4096, Status::UNKNOWN.with_allocation(Allocation::from_flags(1)))?;
/// let decision = Full::new().decide(&hole)?;
/// assert_eq!(decision.action, Action::Copy);
/// assert_eq!(
///     decision.reason,
///     Reason::Needed { cause: Cause::Full, content: Content::UndefinedHole }
/// );
/// assert_eq!(
///     decision.to_string(),
///     "copy: the backup is full, and this is a hole that is not said to read as zero"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The action.
    pub action: Action,
    /// The reason.
    pub reason: Reason,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.reason)
    }
}

/// The complete answer to "why is this range copied?": the action, the reason and the status.
///
/// See [`StatusStream::explain`](super::StatusStream::explain).
///
/// ```
/// use nbd_extents::action::{Explanation, Full, Policy};
/// use nbd_extents::{Allocation, Extent, Status};
///
/// let status = Status::UNKNOWN.with_allocation(Allocation::DATA);
/// let decision = Full::new().decide(&Extent::new(0, 4096, status)?)?;
/// let explanation = Explanation { status, decision };
/// assert_eq!(explanation.to_string(), "copy: the backup is full, and holds data (data)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Explanation {
    /// The status of the range.
    pub status: Status,
    /// The decision of the policy.
    pub decision: Decision,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.decision, self.status)
    }
}

/// Why a policy chose an action.
///
/// ```
/// use nbd_extents::action::{Cause, Content, Reason};
///
/// assert_eq!(Reason::Clean.to_string(), "unchanged since the previous backup");
/// let needed = Reason::Needed { cause: Cause::Dirty, content: Content::Zero };
/// assert_eq!(needed.to_string(), "changed since the previous backup, and reads as zero");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Copied or zeroed: the backup needs the bytes.
    Needed {
        /// Why it needs them.
        cause: Cause,
        /// The content of the bytes.
        content: Content,
    },
    /// Skipped: unchanged since the previous backup.
    Clean,
    /// Skipped: the bytes read as zero, and so does the target.
    ZeroOnTarget,
    /// Recorded as zero although it is not: left out on purpose. See
    /// [`Policy::excluding`](super::Policy::excluding).
    LeftOut,
    /// Absent: the layer does not hold the bytes.
    NotInLayer,
    /// A reason given by a policy of the caller.
    Other(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Needed { cause, content } => write!(f, "{cause}, and {content}"),
            Self::Clean => f.write_str("unchanged since the previous backup"),
            Self::ZeroOnTarget => f.write_str("reads as zero, and the target does already"),
            Self::LeftOut => f.write_str("left out on purpose, so that a restore reads zeroes"),
            Self::NotInLayer => f.write_str("not in this layer"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// Why a backup needs some bytes.
///
/// ```
/// assert_eq!(
///     nbd_extents::action::Cause::Grown.to_string(),
///     "beyond the end of the previous backup"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It needs all bytes.
    Full,
    /// It needs all bytes that the layer holds, and the layer holds these.
    InLayer,
    /// They have changed since the previous backup.
    Dirty,
    /// They lie beyond the end of the previous backup.
    Grown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the backup is full",
            Self::InLayer => "this layer holds it",
            Self::Dirty => "changed since the previous backup",
            Self::Grown => "beyond the end of the previous backup",
        })
    }
}

/// The content of some bytes, as reported by the server.
///
/// ```
/// assert_eq!(nbd_extents::action::Content::Data.to_string(), "holds data");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Content {
    /// Data.
    Data,
    /// A hole without the ZERO bit: the protocol promises nothing about its content.
    UndefinedHole,
    /// Unknown: `base:allocation` has no answer.
    Unknown,
    /// Zero, but the policy treats zeroes [as data](super::Zeroes::AsData).
    IgnoredZero,
    /// Zero.
    Zero,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "holds data",
            Self::UndefinedHole => "this is a hole that is not said to read as zero",
            Self::Unknown => "not known to read as zero",
            Self::IgnoredZero => "the policy takes its zeroes for data",
            Self::Zero => "reads as zero",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Allocation, BitmapIndex, Dirtiness};
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn an_explanation_is_a_sentence() {
        let status = Status::UNKNOWN
            .with_allocation(Allocation::DATA)
            .with_bitmap(BitmapIndex::FIRST, Dirtiness::DIRTY);
        let reason = Reason::Needed { cause: Cause::Dirty, content: Content::Data };
        let decision = Decision { action: Action::Copy, reason };
        let why = Explanation { status, decision }.to_string();
        assert_eq!(why, "copy: changed since the previous backup, and holds data (dirty,data)");
    }

    #[test]
    fn every_reason_has_words_of_its_own() {
        let causes = [Cause::Full, Cause::InLayer, Cause::Dirty, Cause::Grown];
        let contents =
            [Content::Data, Content::UndefinedHole, Content::Unknown, Content::IgnoredZero, Content::Zero];
        let needed =
            causes.iter().flat_map(|&cause| contents.map(|content| Reason::Needed { cause, content }));
        let others = [Reason::Clean, Reason::ZeroOnTarget, Reason::NotInLayer, Reason::Other("by hand")];
        let mut seen: alloc::vec::Vec<_> = needed.chain(others).map(|reason| format!("{reason}")).collect();
        let count = seen.len();
        assert!(
            seen.contains(&"the backup is full, and this is a hole that is not said to read as zero".into())
        );
        assert!(seen.contains(&"by hand".into()));
        seen.sort();
        seen.dedup();
        assert_eq!((seen.len(), count), (24, 24));
    }
}
