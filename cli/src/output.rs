//! Standard output, which is written in long pieces.

use std::io::{self, StdoutLock, Write};

/// The first bytes of a text are held back, up to this: some 15,000 lines of a map.
const HELD: usize = 1 << 20;
/// What a script reads comes in pieces of this.
const PIECE: usize = 64 << 10;

/// Standard output, of which the last bytes have not been written yet.
pub(crate) struct Output {
    out: StdoutLock<'static>,
    bytes: Vec<u8>,
    /// How many bytes wait at most.
    most: usize,
    /// Whether those that wait are thrown away when the command fails.
    is_void_on_failure: bool,
}

impl Output {
    /// For people: a command that fails leaves neither a heading nor half a table.
    pub(crate) fn held() -> Self {
        Self::new(HELD, true)
    }

    /// For scripts: a command that fails leaves what was found, in a form that is not finished.
    pub(crate) fn streamed() -> Self {
        Self::new(PIECE, false)
    }

    fn new(most: usize, is_void_on_failure: bool) -> Self {
        Self { out: io::stdout().lock(), bytes: Vec::new(), most, is_void_on_failure }
    }

    /// Writes the rest.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.write_waiting()?;
        self.out.flush()
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        // Whether or not they can be written, they are not tried again.
        let bytes = core::mem::take(&mut self.bytes);
        self.out.write_all(&bytes)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            self.write_waiting()?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Does nothing, since the waiting bytes may yet turn out to be void.
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
