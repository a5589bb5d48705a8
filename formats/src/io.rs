//! The reader and writer traits of std, for the formats. With the feature `std`.

use std::fmt;
use std::io::{self, BufRead, Write};

use super::stream::Input;

/// Anything that is [`BufRead`], as an [`Input`].
///
/// ```
/// use nbd_extents_formats::{IoInput, imageio};
/// use nbd_extents::stream::ExtentStream;
///
/// let file = std::io::Cursor::new(r#"[{"start": 0, "length": 512, "zero": true}]"#);
/// let zero = nbd_extents_formats::read(imageio::ZeroReader::new(), IoInput::new(file)).collect_vec()?;
/// assert!(zero[0].status().zero);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct IoInput<R>(R);

impl<R: BufRead> IoInput<R> {
    /// Reads from `input`.
    pub const fn new(input: R) -> Self {
        Self(input)
    }
}

impl<R: BufRead> Input for IoInput<R> {
    type Error = io::Error;

    fn bytes(&mut self) -> io::Result<&[u8]> {
        // an interrupted read is tried again, as by all of std
        while let Err(error) = self.0.fill_buf() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.0.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}

/// Anything that is [`Write`], as the text sink of a writer. It keeps the error that `std::fmt` cannot carry.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Encode, IoText, imageio};
///
/// let mut out = IoText::new(Vec::new());
/// let mut writer = imageio::ZeroWriter::new();
/// writer.extent(&Extent::new(0, 512, imageio::Zero { zero: true, hole: None })?, &mut out)?;
/// writer.finish(&mut out)?;
/// assert_eq!(out.into_inner()?, br#"[{"start": 0, "length": 512, "zero": true}]"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct IoText<W> {
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> IoText<W> {
    /// Writes to `out`, which should be buffered.
    pub const fn new(out: W) -> Self {
        Self { out, error: None }
    }

    /// What it writes to, unless writing has failed.
    ///
    /// # Errors
    ///
    /// The first error of writing.
    pub fn into_inner(self) -> io::Result<W> {
        match self.error {
            None => Ok(self.out),
            Some(error) => Err(error),
        }
    }

    /// The first error of writing, if there was one.
    pub const fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }
}

impl<W: Write> fmt::Write for IoText<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.write_all(text.as_bytes()).map_err(|error| {
            self.error.get_or_insert(error);
            fmt::Error
        })
    }
}
