//! Where the bytes of one range come from.

use core::fmt;

use crate::action::Action;

/// The source of the bytes of a range. Layers are counted in their chain, the oldest being 0.
///
/// ```
/// use nbd_extents::chain::Source;
///
/// let hidden = Source::Zero { layer: 2, may_unmap: true };
/// assert_eq!(hidden.to_string(), "zero by layer 2");
/// assert_eq!((hidden.layer(), Source::Below.layer()), (Some(2), None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A layer has stored the bytes.
    Copy {
        /// The layer to read them from.
        layer: usize,
    },
    /// The bytes are zeroes.
    Zero {
        /// The layer that recorded that they were zeroed, or in which the disk grew by them.
        layer: usize,
        /// Whether the range may be left without allocated space.
        may_unmap: bool,
    },
    /// None of the merged layers has an action for the range; it is as in the layer below them.
    /// Only where incrementals are merged without their full backup.
    Below,
}

impl Source {
    /// The layer that serves the range; `None` for [`Source::Below`].
    #[must_use]
    pub const fn layer(self) -> Option<usize> {
        match self {
            Self::Copy { layer } | Self::Zero { layer, .. } => Some(layer),
            Self::Below => None,
        }
    }

    /// The action for this range in one layer that stands for the whole merge.
    ///
    /// With it the result of one merge can be a layer of the next.
    ///
    /// ```
    /// use nbd_extents::Action;
    /// use nbd_extents::chain::Source;
    ///
    /// assert_eq!(Source::Copy { layer: 7 }.action(), Action::Copy);
    /// assert_eq!(Source::Below.action(), Action::Skip);
    /// ```
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Copy { .. } => Action::Copy,
            Self::Zero { may_unmap, .. } => Action::Zero { may_unmap },
            Self::Below => Action::Skip,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { layer } => write!(f, "copy from layer {layer}"),
            Self::Zero { layer, .. } => write!(f, "zero by layer {layer}"),
            Self::Below => f.write_str("below"),
        }
    }
}
