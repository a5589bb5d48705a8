//! The checksum of a backup: 128 bits that stand for all of its bytes.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

/// The checksum of a backup: 128 bits, whatever the algorithm.
///
/// A chain compares checksums and never computes one. Written as 32 lower-case hexadecimal digits,
/// most significant first.
///
/// ```
/// use nbd_extents::chain::Checksum;
///
/// let checksum: Checksum = "000000000000000000000000000000ff".parse()?;
/// assert_eq!(checksum, Checksum::new(255));
/// assert_eq!(checksum.to_string(), "000000000000000000000000000000ff");
/// assert!("ff".parse::<Checksum>().is_err(), "32 digits, no fewer");
/// # Ok::<(), nbd_extents::chain::ChecksumError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(u128);

impl Checksum {
    /// The checksum with these bits.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits of the checksum.
    ///
    /// ```
    /// assert_eq!(nbd_extents::chain::Checksum::new(7).bits(), 7);
    /// ```
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

impl FromStr for Checksum {
    type Err = ChecksumError;

    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        // `from_str_radix` takes a sign, which is no digit
        let is_plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u128::from_str_radix(text, 16).ok().filter(|_| is_plain);
        bits.map(Self).ok_or(ChecksumError)
    }
}

/// A text that is no checksum: one has 32 hexadecimal digits.
///
/// ```
/// use nbd_extents::chain::Checksum;
///
/// let error = "abc".parse::<Checksum>().unwrap_err();
/// assert_eq!(error.to_string(), "a checksum has 32 hexadecimal digits");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a checksum has 32 hexadecimal digits")]
pub struct ChecksumError;
