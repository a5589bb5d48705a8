//! The default form: a line an extent, then the strip, then a summary.

use core::ops::Range;
use std::io::{self, Write};

use nbd_extents::Extent;

use super::picture::Strip;
use super::view::{Shown, View};
use crate::values::human;

/// A table in the making.
pub(super) struct Table<W> {
    out: W,
    strip: Strip,
    extents: u64,
    /// Bytes of each status seen, in the order in which they came.
    totals: Vec<(Shown, u64)>,
}

impl<W: Write> Table<W> {
    pub(super) fn new(mut out: W, range: Range<u64>, view: View) -> io::Result<Self> {
        writeln!(out, "{:>20} {:>20} {:>11}  status", "start", "length", "")?;
        Ok(Self { out, strip: Strip::new(range, view), extents: 0, totals: Vec::new() })
    }

    pub(super) fn push(&mut self, extent: &Extent<Shown>) -> io::Result<()> {
        self.strip.add(extent);
        self.extents += 1;
        let status = *extent.status();
        match self.totals.iter_mut().find(|(seen, _)| *seen == status) {
            Some((_, bytes)) => *bytes += extent.length(),
            None => self.totals.push((status, extent.length())),
        }
        let (start, length) = (extent.start(), extent.length());
        writeln!(self.out, "{start:>20} {length:>20} {:>11}  {}", human(length), status.words())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        writeln!(self.out)?;
        self.strip.draw(&mut self.out)?;
        write!(self.out, "\n {} extent{}", self.extents, if self.extents == 1 { "" } else { "s" })?;
        for (nth, (status, bytes)) in self.totals.iter().enumerate() {
            write!(self.out, "{} {} {}", if nth == 0 { ":" } else { "," }, human(*bytes), status.words())?;
        }
        writeln!(self.out)
    }
}
