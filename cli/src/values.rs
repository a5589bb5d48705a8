//! Values of the command line, and the form in which sizes are shown.

use core::num::NonZeroU64;
use core::time::Duration;

use std::path::Path;

use nbd_client::Uri;
use nbd_client::uri::UriError;

/// Reads a number of bytes, with an optional binary unit: `4096`, `64K`, `10G`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) => (digits, 10 * (1 + "KMGT".find(&text[digits.len()..]).unwrap_or(0))),
        None => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(
            "expected a number of bytes, such as 4096, 64K or 10G (K, M, G and T are binary)".to_owned()
        );
    }
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| format!("too large: at most {} bytes", u64::MAX))
}

/// Reads a number of bytes that is not 0.
pub(crate) fn parse_length(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(parse_size(text)?).ok_or_else(|| "expected at least 1 byte".to_owned())
}

/// Reads a block size: a power of two up to 64K.
pub(crate) fn parse_block(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text)?;
    match u32::try_from(bytes) {
        Ok(block) if block.is_power_of_two() && block <= 1 << 16 => Ok(block),
        _ => Err("expected a power of two from 1 to 64K".to_owned()),
    }
}

/// Reads a positive number of seconds, with or without decimals.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let timeout = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match timeout {
        Some(timeout) if !timeout.is_zero() => Ok(timeout),
        _ => Err("expected a number of seconds above 0, such as 30 or 0.5".to_owned()),
    }
}

/// Reads an NBD URI.
pub(crate) fn parse_uri(text: &str) -> Result<Uri, String> {
    text.parse::<Uri>().map_err(|error| match error {
        UriError::NoScheme(_) => format!("{error} ({})", uri_hint(text)),
        error => error.to_string(),
    })
}

/// A guess at the meaning of a text that is no URI.
fn uri_hint(text: &str) -> &'static str {
    let path = Path::new(text);
    if text.starts_with("nbd:") {
        "qemu's nbd:unix:PATH is nbd+unix:///?socket=PATH here, and its nbd:HOST:PORT is nbd://HOST:PORT"
    } else if path.is_file() {
        "it is a file: the URI of the export comes first; `verify` and `chain` show backups, and qemu-nbd \
            serves an image"
    } else if path.exists() {
        "the URI of a server's socket is nbd+unix:///EXPORT?socket=PATH"
    } else {
        "the URI comes first, and files after it: nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH"
    }
}

/// A number of bytes for people, rounded to a tenth: `512 B`, `64 KiB`, `1.5 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut exponent = bytes.checked_ilog2().map_or(0, |log| log / 10);
    let mut tenths = tenths(bytes, exponent);
    if tenths >= 10_240 {
        // 1023.97 KiB rounds to 1024.0 KiB, which is 1 MiB.
        exponent += 1;
        tenths = 10;
    }
    let unit = UNITS.get(exponent as usize).copied().unwrap_or("EiB");
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

/// Tenths of `1024^exponent` bytes, rounded.
fn tenths(bytes: u64, exponent: u32) -> u128 {
    let unit = 1_u128 << (10 * exponent);
    (u128::from(bytes) * 10 + unit / 2) / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_not_cut() {
        let shown = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1_256_277_934, "1.2 GiB"), // 1.17 GiB
            (1_048_575, "1 MiB"),
            (u64::MAX, "16 EiB"),
            (3_040_870, "2.9 MiB"),
        ];
        for (bytes, text) in shown {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn units_are_binary_and_what_is_too_large_is_refused() {
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("16777215T"), Ok(16_777_215 << 40));
        for text in ["", "K", "1k", "-1", "1.5", "16777216T", "99999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
