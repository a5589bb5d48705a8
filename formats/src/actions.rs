//! Our own form: what a backup does with each range. [`Totals`](nbd_extents::action::Totals) sums it up.
//!
//! The example `extents` prints it with `--actions --json`, and its two other forms are [ovirt-imageio's](super::imageio):
//!
//! ```text
//! [{"start": 0, "length": 1048576, "action": "skip"}, {"start": 1048576, "length": 65536, "action": "copy"}]
//! ```
//!
//! This is version [`VERSION`] of it. Fields may be added without notice, so a reader passes over those that it does not know; a new word for an action, or
//! a new meaning of one, is another version.
//!
//! | field | what it holds |
//! |---|---|
//! | `start` | the first byte of the range, counted from the start of the disk; a whole number below 2^63 |
//! | `length` | how many bytes; a whole number, not 0. Each range starts where the one before it ends |
//! | `action` | `"copy"`: read and store. `"zero"`: write zeroes, without reading. `"skip"`: leave as it is. `"absent"`: the layer does not hold it |
//!
//! Neighbours have different actions. With `--totals --json` the example prints one object instead, of the same version:
//!
//! ```text
//! {"copy": 65536, "zero": 1572864, "skip": 4653056, "size": 6291456}
//! ```
//!
//! | field | what it holds |
//! |---|---|
//! | `copy`, `zero`, `skip` | the bytes with that action |
//! | `size` | the bytes that were looked at, all together |
//!
//! Whether zeroes may be unmapped is the policy's to say, and is not in the text.

use std::fmt;

use super::error::Fault;
use super::list::{InList, ListReader, ListWriter, Style};
use super::record::Record;
use nbd_extents::action::Action;

/// The version of the form. It changes only when a program that reads the form would have to.
pub const VERSION: u32 = 1;

/// Reads the form.
///
/// ```
/// use nbd_extents_formats::actions::{Reader, Word};
/// use nbd_extents_formats::Decode;
///
/// let extent = Reader::new().next(&mut &br#"[{"start": 0, "length": 512, "action": "zero"}]"#[..])?;
/// assert_eq!(extent.map(|extent| *extent.status()), Some(Word::Zero));
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
pub type Reader = ListReader<Word>;
/// Writes the form.
///
/// ```
/// use nbd_extents_formats::{actions};
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use nbd_extents::{Action, Extent};
///
/// let decided = from_iter([Extent::new(0, 512, Action::Zero { may_unmap: true })?]);
/// let mut out = String::new();
/// nbd_extents_formats::write(decided.map_status(actions::Word::from), &mut actions::Writer::new(), &mut out)?;
/// assert_eq!(out, r#"[{"start": 0, "length": 512, "action": "zero"}]"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Writer = ListWriter<Word>;

/// An [`Action`] in one word.
///
/// ```
/// use nbd_extents::Action;
/// use nbd_extents_formats::actions::Word;
///
/// assert_eq!(Word::from(Action::Zero { may_unmap: false }), Word::Zero);
/// assert_eq!(Word::Absent.to_string(), "absent");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// Read and store.
    Copy,
    /// Write zeroes.
    Zero,
    /// Leave as it is.
    Skip,
    /// The layer does not hold it.
    Absent,
}

impl From<Action> for Word {
    fn from(action: Action) -> Self {
        match action {
            Action::Copy => Self::Copy,
            Action::Zero { .. } => Self::Zero,
            Action::Skip => Self::Skip,
            Action::Absent => Self::Absent,
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copy => "copy",
            Self::Zero => "zero",
            Self::Skip => "skip",
            Self::Absent => "absent",
        })
    }
}

impl InList for Word {
    const FIELDS: &'static [&'static str] = &["start", "length", "action"];
    const STYLE: Style = Style::PYTHON;

    fn read(record: &Record) -> Result<Self, Fault> {
        let words = ["copy", "zero", "skip", "absent"];
        Ok(match record.word(2, &words, "\"copy\", \"zero\", \"skip\" or \"absent\"")? {
            0 => Self::Copy,
            1 => Self::Zero,
            2 => Self::Skip,
            _ => Self::Absent,
        })
    }

    fn write(&self, start: u64, length: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{{\"start\": {start}, \"length\": {length}, \"action\": \"{self}\"}}")
    }
}
