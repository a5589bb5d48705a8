//! The default form: a line an extent, then the strip, then a summary.

use core::ops::Range;
use std::io::{self, Write};

use nbd_extents::Extent;

use crate::picture::Strip;
use crate::view::{Shown, View};

/// A table in the making.
pub(crate) struct Table<W> {
    out: W,
    strip: Strip,
    extents: u64,
    /// Bytes of each status seen, in the order in which they came.
    totals: Vec<(Shown, u64)>,
}

impl<W: Write> Table<W> {
    pub(crate) fn new(mut out: W, range: Range<u64>, view: View) -> io::Result<Self> {
        writeln!(out, "{:>20} {:>20} {:>11}  status", "start", "length", "")?;
        Ok(Self { out, strip: Strip::new(range, view), extents: 0, totals: Vec::new() })
    }

    pub(crate) fn push(&mut self, extent: &Extent<Shown>) -> io::Result<()> {
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

    pub(crate) fn finish(mut self) -> io::Result<()> {
        writeln!(self.out)?;
        self.strip.draw(&mut self.out)?;
        write!(self.out, "\n {} extent{}", self.extents, if self.extents == 1 { "" } else { "s" })?;
        for (nth, (status, bytes)) in self.totals.iter().enumerate() {
            write!(self.out, "{} {} {}", if nth == 0 { ":" } else { "," }, human(*bytes), status.words())?;
        }
        writeln!(self.out)
    }
}

/// A number of bytes for people: `512 B`, `64 KiB`, `1.5 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let exponent = bytes.checked_ilog2().map_or(0, |log| log / 10) as usize;
    let unit = UNITS.get(exponent).copied().unwrap_or("EiB");
    let whole = 1_u64 << (10 * exponent);
    if bytes.is_multiple_of(whole) {
        return format!("{} {unit}", bytes / whole);
    }
    let tenths = u128::from(bytes) * 10 / u128::from(whole);
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}
