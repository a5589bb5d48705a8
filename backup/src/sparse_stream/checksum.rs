//! The checksum over a stream, and the algorithms that a meta frame can name.

use std::fmt;

use nbd_extents::chain::Checksum;
use serde::{Deserialize, Serialize};
use twox_hash::xxhash3_128;

/// How the checksum of a stream is computed.
///
/// It guards against accidents: a flipped bit, a lost frame, files that are mixed up. It is no
/// signature, and whoever can change a stream can compute its checksum again.
///
/// ```
/// use nbd_extents_backup::sparse_stream::ChecksumAlgorithm;
///
/// assert_eq!(ChecksumAlgorithm::Xxh3.to_string(), "xxh3-128");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChecksumAlgorithm {
    /// XXH3 with 128 bits, seed 0 and the default secret: as fast as memory, and nothing to
    /// configure.
    #[serde(rename = "xxh3-128")]
    Xxh3,
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xxh3 => "xxh3-128",
        })
    }
}

/// The checksum over the bytes seen until now.
#[derive(Clone)]
pub(super) struct Hasher(xxhash3_128::Hasher);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(xxhash3_128::Hasher::new())
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(super) fn checksum(&self) -> Checksum {
        Checksum::new(self.0.finish_128())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hasher").field(&self.checksum()).finish()
    }
}
