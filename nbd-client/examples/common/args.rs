//! What the command lines have in common.

use core::time::Duration;

use nbd_extents::Bitmaps;
use nbd_extents::action::{Baseline, BaselineError, Incremental};

/// What is known of the backup before, which an incremental stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Previous {
    /// Nothing was said: the disk is taken to have had its present size.
    Unsaid,
    /// The disk had so many bytes, and must have as many now.
    Same(u64),
    /// The disk had so many bytes, and may have grown.
    Grown(u64),
}

impl Previous {
    /// The policy of an incremental of a disk that has `size` bytes now.
    pub(crate) const fn incremental(self, bitmaps: Bitmaps, size: u64) -> Result<Incremental, BaselineError> {
        match self {
            Self::Unsaid => Incremental::new(Baseline::new(size, bitmaps), size),
            Self::Same(then) => Incremental::new(Baseline::new(then, bitmaps), size),
            Self::Grown(then) => Incremental::new_or_grown(Baseline::new(then, bitmaps), size),
        }
    }
}

/// Bytes, with an optional binary unit: `4096`, `64K`, `10G`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) => (digits, 10 * (1 + "KMGT".find(&text[digits.len()..]).unwrap_or(0))),
        None => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a number of bytes, with or without K, M, G, T".to_owned());
    }
    let number: u64 = digits.parse().map_err(|_| "too large".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() => Ok(timeout),
        _ => Err("not a positive number of seconds".to_owned()),
    }
}

/// clap's message on one line, without its heading and hints.
pub(crate) fn first_line(message: &str) -> String {
    let lines: Vec<&str> = message.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let line = lines.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
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
