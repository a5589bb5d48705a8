//! The form of a [`Status`]: the answer of each context, or null without one.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::small::Set;
use super::through;
use crate::status::{Allocation, Bitmaps, Depth, Dirtiness, Status};

through! {
    StatusForm => Status;
}

/// The number for a depth in doubt: on the wire, too, it has no defined meaning.
const DOUBT: u64 = 1 << 32;

#[derive(Serialize, Deserialize)]
#[serde(rename = "Status", deny_unknown_fields)]
struct StatusForm {
    zero: Option<bool>,
    hole: Option<bool>,
    asked: Set,
    dirty: Set,
    depth: Option<u64>,
}

/// Why a form is not that of any status.
enum Impossible {
    HalfAllocation,
    DirtyUnasked { asked: u32, dirty: u32 },
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalfAllocation => f.write_str("a status that knows only one of zero and hole"),
            Self::DirtyUnasked { asked, dirty } => {
                write!(f, "a status with dirty bitmaps ({dirty:#x}) that were not asked ({asked:#x})")
            }
        }
    }
}

impl From<&Status> for StatusForm {
    fn from(status: &Status) -> Self {
        let doubt = status.depth_in_doubt().then_some(DOUBT);
        Self {
            zero: status.zero(),
            hole: status.hole(),
            asked: Set::from(&status.asked_set()),
            dirty: Set::from(&status.dirty_set()),
            depth: status.depth().map(u64::from).or(doubt),
        }
    }
}

impl TryFrom<StatusForm> for Status {
    type Error = Impossible;

    fn try_from(form: StatusForm) -> Result<Self, Impossible> {
        let (asked, dirty) = (form.asked.0, form.dirty.0);
        if dirty & !asked != 0 {
            return Err(Impossible::DirtyUnasked { asked, dirty });
        }
        let mut status = match (form.zero, form.hole) {
            (Some(zero), Some(hole)) => {
                let flags = u64::from(hole) | u64::from(zero) << 1;
                Self::UNKNOWN.with_allocation(Allocation::from_flags(flags))
            }
            (None, None) => Self::UNKNOWN,
            _ => return Err(Impossible::HalfAllocation),
        };
        let dirty = Bitmaps::from_bits(dirty);
        for index in Bitmaps::from_bits(asked).indices() {
            let flags = u64::from(dirty.contains(index));
            status = status.with_bitmap(index, Dirtiness::from_flags(flags));
        }
        Ok(form.depth.map_or(status, |depth| status.with_depth(Depth::from_flags(depth))))
    }
}
