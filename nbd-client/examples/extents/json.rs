//! The JSON forms: ovirt-imageio's two, key for key, and our own of actions. Written while the extents come, so that no map is ever held in memory, and closed only when all
//! of it is there.

use std::io::{self, Write};

use nbd_extents::Extent;

use crate::view::Shown;

/// One JSON array in the making. Dropped without [`finish`](Self::finish), it stays open, and no parser takes it for a whole map.
pub(crate) struct Array<W> {
    out: W,
    separator: &'static str,
}

impl<W: Write> Array<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, separator: "[" }
    }

    pub(crate) fn push(&mut self, extent: &Extent<Shown>) -> io::Result<()> {
        self.write(&[self.separator, "{\"start\": "])?;
        self.number(extent.start())?;
        self.write(&[", \"length\": "])?;
        self.number(extent.length())?;
        self.separator = ", ";
        match *extent.status() {
            Shown::Change { dirty, zero } => {
                self.write(&[", \"dirty\": ", word(dirty), ", \"zero\": ", word(zero), "}"])
            }
            Shown::Content { zero, hole } => {
                self.write(&[", \"zero\": ", word(zero), ", \"hole\": ", word(hole), "}"])
            }
            Shown::Action(action) => write!(self.out, ", \"action\": \"{action}\"}}"),
        }
    }

    /// Piece by piece: format strings would take longer than the merge of a whole disk.
    fn write(&mut self, pieces: &[&str]) -> io::Result<()> {
        pieces.iter().try_for_each(|piece| self.out.write_all(piece.as_bytes()))
    }

    fn number(&mut self, number: u64) -> io::Result<()> {
        self.out.write_all(itoa::Buffer::new().format(number).as_bytes())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(if self.separator == "[" { b"[]\n" } else { b"]\n" })
    }
}

const fn word(truth: bool) -> &'static str {
    if truth { "true" } else { "false" }
}
