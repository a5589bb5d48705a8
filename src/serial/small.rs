//! The forms of types without memory of their own: extents, flags of one context, actions, sets of
//! bitmaps, positions.

use core::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::through;
use crate::action::Action;
use crate::error::ExtentError;
use crate::extent::Extent;
use crate::plan::PlanPosition;
use crate::status::{Allocation, Bitmaps, Depth, Dirtiness};

through! {
    ExtentForm<T> => Extent<T>, T;
    Flags => Allocation;
    Flags => Dirtiness;
    Flags => Depth;
    Set => Bitmaps;
    ActionForm => Action;
    Position => PlanPosition;
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Extent", deny_unknown_fields)]
struct ExtentForm<T> {
    start: u64,
    length: u64,
    status: T,
}

impl<T: Clone> From<&Extent<T>> for ExtentForm<T> {
    fn from(extent: &Extent<T>) -> Self {
        Self { start: extent.start(), length: extent.length(), status: extent.status().clone() }
    }
}

impl<T> TryFrom<ExtentForm<T>> for Extent<T> {
    type Error = ExtentError;

    fn try_from(form: ExtentForm<T>) -> Result<Self, ExtentError> {
        Self::new(form.start, form.length, form.status)
    }
}

/// The flags of one context: the number on the wire.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Flags(u64);

macro_rules! flags {
    ($($type:ty)*) => {$(
        impl From<&$type> for Flags {
            fn from(value: &$type) -> Self {
                Self(value.flags())
            }
        }

        impl TryFrom<Flags> for $type {
            type Error = Infallible;

            fn try_from(form: Flags) -> Result<Self, Infallible> {
                Ok(Self::from_flags(form.0))
            }
        }
    )*};
}
flags!(Allocation Dirtiness Depth);

/// Bit *i* is bitmap *i*.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Set(pub(super) u32);

impl From<&Bitmaps> for Set {
    fn from(bitmaps: &Bitmaps) -> Self {
        Self(bitmaps.bits())
    }
}

impl TryFrom<Set> for Bitmaps {
    type Error = Infallible;

    fn try_from(form: Set) -> Result<Self, Infallible> {
        Ok(Self::from_bits(form.0))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Action", rename_all = "lowercase", deny_unknown_fields)]
enum ActionForm {
    Copy,
    Zero { may_unmap: bool },
    Skip,
    Absent,
}

impl From<&Action> for ActionForm {
    fn from(action: &Action) -> Self {
        match *action {
            Action::Copy => Self::Copy,
            Action::Zero { may_unmap } => Self::Zero { may_unmap },
            Action::Skip => Self::Skip,
            Action::Absent => Self::Absent,
        }
    }
}

impl TryFrom<ActionForm> for Action {
    type Error = Infallible;

    fn try_from(form: ActionForm) -> Result<Self, Infallible> {
        Ok(match form {
            ActionForm::Copy => Self::Copy,
            ActionForm::Zero { may_unmap } => Self::Zero { may_unmap },
            ActionForm::Skip => Self::Skip,
            ActionForm::Absent => Self::Absent,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "PlanPosition", deny_unknown_fields)]
struct Position {
    offset: u64,
    size: u64,
}

impl From<&PlanPosition> for Position {
    fn from(position: &PlanPosition) -> Self {
        Self { offset: position.offset, size: position.size }
    }
}

impl TryFrom<Position> for PlanPosition {
    type Error = Infallible;

    fn try_from(form: Position) -> Result<Self, Infallible> {
        Ok(Self { offset: form.offset, size: form.size })
    }
}
