//! Standard output, written in long pieces, and remarks on standard error.

use core::fmt::Display;
use std::io::{self, StdoutLock, Write};

use crate::values::human;

/// A text for people is held back up to this size, in bytes: some 15,000 lines of a map.
const HELD: usize = 1 << 20;
/// A script gets its input in pieces of this size, in bytes.
const PIECE: usize = 64 << 10;

/// Prints a remark on a run that goes well. A reader of stderr that has gone away misses nothing
/// that it needs.
pub(crate) fn remark(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "nbd-extents: {text}");
}

/// Says which part of a target stays as it is, where it is larger than `what`, of `size` bytes.
pub(crate) fn remark_on_tail(target: u64, size: u64, what: &str) {
    if target > size {
        let tail = human(target - size);
        remark(format_args!(
            "the target is {tail} larger than the {what}: from byte {size} on it stays as it is"
        ));
    }
}

/// Standard output, with the bytes not yet written.
pub(crate) struct Output {
    out: StdoutLock<'static>,
    bytes: Vec<u8>,
    /// The most bytes that wait.
    most: usize,
    /// Whether the waiting bytes are dropped when the command fails.
    is_void_on_failure: bool,
}

impl Output {
    /// For people: a command that fails leaves neither a heading nor half a table.
    pub(crate) fn held() -> Self {
        Self::new(HELD, true)
    }

    /// For scripts: a command that fails leaves the extents found until then, in a list that stays
    /// open.
    pub(crate) fn streamed() -> Self {
        Self::new(PIECE, false)
    }

    fn new(most: usize, is_void_on_failure: bool) -> Self {
        Self { out: io::stdout().lock(), bytes: Vec::new(), most, is_void_on_failure }
    }

    /// Writes the waiting bytes.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.write_waiting()?;
        self.out.flush()
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        // Taken first, so that bytes which cannot be written are not tried again on drop.
        let bytes = core::mem::take(&mut self.bytes);
        self.out.write_all(&bytes)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            self.write_waiting()?;
        }
        // a piece that is long enough already needs no copy
        if bytes.len() >= self.most {
            self.out.write_all(bytes)?;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    /// Does nothing: the command can still fail, and the waiting bytes are dropped then.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_void_on_failure {
            let _ = self.write_waiting().and_then(|()| self.out.flush());
        }
    }
}
