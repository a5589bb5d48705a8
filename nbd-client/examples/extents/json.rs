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
        let (start, length) = (extent.start(), extent.length());
        write!(self.out, "{}{{\"start\": {start}, \"length\": {length}", self.separator)?;
        self.separator = ", ";
        match *extent.status() {
            Shown::Change { dirty, zero } => write!(self.out, ", \"dirty\": {dirty}, \"zero\": {zero}}}"),
            Shown::Content { zero, hole } => write!(self.out, ", \"zero\": {zero}, \"hole\": {hole}}}"),
            Shown::Action(action) => write!(self.out, ", \"action\": \"{action}\"}}"),
        }
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(if self.separator == "[" { b"[]\n" } else { b"]\n" })
    }
}
