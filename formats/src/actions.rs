//! Our own form: what a backup does with each range. [`Totals`](nbd_extents::action::Totals) sums
//! it up.
//!
//! `nbd-extents map` prints it with `--actions --json`, and its two other forms are
//! [ovirt-imageio's](super::imageio):
//!
//! ```text
//! [{"start": 0, "length": 1048576, "action": "skip"}, {"start": 1048576, "length": 65536, "action": "copy"}]
//! ```
//!
//! This is version 1 of it. Fields may be added without notice, so a reader passes over
//! those that it does not know; a new word for an action, or a new meaning of one, is another
//! version.
//!
//! | field | content |
//! |---|---|
//! | `start` | the first byte of the range, counted from the start of the disk; a whole number below 2^63 |
//! | `length` | how many bytes; a whole number, not 0. Each range starts where the one before it ends |
//! | `action` | `"copy"`: read and store. `"zero"`: write zeroes, without reading. `"skip"`: leave as it is. `"absent"`: the layer does not hold it |
//!
//! Neighbours have different actions. With `--totals --json` the program prints one object instead,
//! of the same version:
//!
//! ```text
//! {"copy": 65536, "zero": 1572864, "skip": 4653056, "size": 6291456}
//! ```
//!
//! | field | content |
//! |---|---|
//! | `copy`, `zero`, `skip` | the bytes with that action |
//! | `size` | the bytes that were looked at, all together |
//!
//! Whether zeroes may be unmapped is the policy's to say, and is not in the text.

use std::fmt;
use std::io::{Read, Write};

use nbd_extents::action::Action;
use serde::{Deserialize, Serialize};

use crate::objects::{Fields, FlatObject};
use crate::row::row;
use crate::spec::{Style, rows};
use crate::{ListReader, ListWriter, ReadOptions, WriteOptions};

/// An [`Action`] in one word.
///
/// ```
/// use nbd_extents::Action;
/// use nbd_extents_formats::actions::ActionKind;
///
/// assert_eq!(ActionKind::from(Action::Zero { may_unmap: false }), ActionKind::Zero);
/// assert_eq!(ActionKind::Absent.to_string(), "absent");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// Read and store.
    Copy,
    /// Write zeroes.
    Zero,
    /// Leave as it is.
    Skip,
    /// The layer does not hold it.
    Absent,
}

impl From<Action> for ActionKind {
    fn from(action: Action) -> Self {
        match action {
            Action::Copy => Self::Copy,
            Action::Zero { .. } => Self::Zero,
            Action::Skip => Self::Skip,
            Action::Absent => Self::Absent,
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Reads the list.
///
/// ```
/// use nbd_extents::stream::ExtentStream;
/// use nbd_extents_formats::{ReadOptions, actions};
///
/// let json = br#"[{"start": 0, "length": 512, "action": "zero"}]"#;
/// let rows = actions::read(&json[..], ReadOptions::default()).collect_vec()?;
/// assert_eq!(*rows[0].status(), actions::ActionKind::Zero);
/// # Ok::<(), nbd_extents_formats::ListReadError>(())
/// ```
pub fn read<R: Read>(input: R, options: ReadOptions) -> ListReader<R, ActionKind> {
    let read = |fields: &Fields| {
        let kind = fields.value(2).and_then(|kind| ActionKind::deserialize(kind).ok());
        kind.ok_or_else(|| fields.wrong(2, "\"copy\", \"zero\", \"skip\" or \"absent\""))
    };
    let decoder = FlatObject { fields: &["start", "length", "action"], read }.array(false);
    ListReader::new("actions", decoder, input, options)
}

/// Writes the list.
///
/// ```
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use nbd_extents::{Action, Extent};
/// use nbd_extents_formats::{WriteOptions, actions};
///
/// let decided = from_iter([Extent::new(0, 512, Action::Zero { may_unmap: true })?]);
/// let mut json = Vec::new();
/// let writer = actions::writer(&mut json, WriteOptions::default());
/// writer.write_all(decided.map_status(actions::ActionKind::from))?;
/// assert_eq!(json, br#"[{"start": 0, "length": 512, "action": "zero"}]"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn writer<W: Write>(out: W, options: WriteOptions) -> ListWriter<W, ActionKind> {
    let encoder = rows(Style::PYTHON, |kind: &ActionKind, start, length, out| {
        let kind = kind.to_string();
        row!(out, "{\"start\": ", start, ", \"length\": ", length, ", \"action\": \"", &*kind, "\"}");
    });
    ListWriter::new(encoder, out, options)
}
