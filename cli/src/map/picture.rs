//! The strip: the whole disk on one line, as wide as the terminal.
//!
//! Each cell shows the most important thing in its part of the disk, so that one dirty block on a
//! large disk is seen. The marks differ without colour; colour is added only on a terminal, and
//! never against NO_COLOR.

use core::ops::Range;
use std::io::{self, IsTerminal, Write};

use nbd_extents::Extent;

use super::view::{RangeKind, Shown, View};

/// The width where there is no terminal.
const DEFAULT_WIDTH: u16 = 80;

/// A strip being drawn.
pub(super) struct Strip {
    range: Range<u64>,
    cells: Vec<Option<RangeKind>>,
    view: View,
    colour: bool,
}

impl Strip {
    pub(super) fn new(range: Range<u64>, view: View) -> Self {
        let terminal = io::stdout().is_terminal();
        let width = terminal_size::terminal_size().filter(|_| terminal);
        let width = width.map_or(DEFAULT_WIDTH, |(terminal_size::Width(width), _)| width).max(3);
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let cells = vec![None; (usize::from(width) - 2).min(bytes)];
        Self { range, cells, view, colour: terminal && !no_color }
    }

    /// Adds an extent: each cell that it touches keeps the more important kind.
    pub(super) fn add(&mut self, extent: &Extent<Shown>) {
        let first = self.cell_of(extent.start());
        let last = self.cell_of(extent.end() - 1);
        let kind = Some(extent.status().kind());
        for cell in self.cells.iter_mut().take(last.saturating_add(1)).skip(first) {
            *cell = (*cell).max(kind);
        }
    }

    /// The cell in which a byte lies.
    fn cell_of(&self, byte: u64) -> usize {
        let length = u128::from(self.range.end - self.range.start).max(1);
        let cells = self.cells.len() as u128;
        let cell = u128::from(byte.saturating_sub(self.range.start)) * cells / length;
        usize::try_from(cell).unwrap_or(usize::MAX)
    }

    /// Draws the strip, and its legend below.
    pub(super) fn draw(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"|")?;
        for run in self.cells.chunk_by(|a, b| a == b) {
            self.draw_run(run, out)?;
        }
        writeln!(out, "|\n{}", self.legend())
    }

    fn draw_run(&self, run: &[Option<RangeKind>], out: &mut impl Write) -> io::Result<()> {
        let kind = run.first().copied().flatten();
        let (mark, colour) = kind.map_or((' ', "0"), mark);
        let marks: String = run.iter().map(|_| mark).collect();
        if self.colour { write!(out, "\x1b[{colour}m{marks}\x1b[0m") } else { write!(out, "{marks}") }
    }

    /// The marks that appear, with their words.
    fn legend(&self) -> String {
        use RangeKind::{CleanData, CleanZero, DirtyData, DirtyZero};
        let words: &[(RangeKind, &str)] = match self.view {
            View::Change => &[
                (DirtyData, "dirty data"),
                (DirtyZero, "dirty zeroes"),
                (CleanData, "clean data"),
                (CleanZero, "clean zeroes"),
            ],
            View::Actions => &[(DirtyData, "copy"), (DirtyZero, "zero"), (CleanZero, "skip")],
            View::Content => &[(DirtyData, "data"), (DirtyZero, "zeroes"), (CleanZero, "unallocated zeroes")],
        };
        let appear = words.iter().filter(|(kind, _)| self.cells.contains(&Some(*kind)));
        let parts: Vec<String> = appear.map(|(kind, words)| format!(" {} {words}", mark(*kind).0)).collect();
        parts.join("  ")
    }
}

/// The mark of a kind, and the colour that a terminal adds.
const fn mark(kind: RangeKind) -> (char, &'static str) {
    match kind {
        RangeKind::DirtyData => ('#', "1;31"),
        RangeKind::DirtyZero => ('0', "33"),
        RangeKind::CleanData => ('=', "34"),
        RangeKind::CleanZero => ('.', "2"),
    }
}
