//! How a copy is made.

use nbd_extents::plan::Access;

use crate::pipeline::PipelineOptions;

/// How a copy is made.
///
/// ```
/// use nbd_client::copy::CopyOptions;
///
/// let options = CopyOptions::new().rate(Some(50 << 20)).verify(true);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct CopyOptions {
    pub(super) pipeline: PipelineOptions,
    pub(super) rate: Option<u64>,
    pub(super) verify: bool,
    pub(super) access: Access,
}

impl Default for CopyOptions {
    /// See [`CopyOptions::new`].
    fn default() -> Self {
        Self {
            pipeline: PipelineOptions::default().requests(64).bytes(16 << 20),
            rate: None,
            verify: false,
            access: Access::All,
        }
    }
}

impl CopyOptions {
    /// 64 requests of up to 256 KiB for each lane and 16 MiB for all of them, as fast as it goes,
    /// not read back, on a source whose clean bytes can be read.
    pub fn new() -> Self {
        Self::default()
    }

    /// The requests in flight on each lane, and the bytes held by all lanes.
    pub const fn pipeline(self, pipeline: PipelineOptions) -> Self {
        Self { pipeline, ..self }
    }

    /// The most bytes to copy in a second; `None` is no limit. Zeroes do not count.
    pub const fn rate(self, bytes: Option<u64>) -> Self {
        Self { rate: bytes, ..self }
    }

    /// Whether everything written is read back and compared.
    pub const fn verify(self, verify: bool) -> Self {
        Self { verify, ..self }
    }

    /// Which bytes of the source may be read beside those that are copied, to fill the target's
    /// blocks. With [`Access::DirtyOnly`] such a block is read from the target, and modified.
    pub const fn access(self, access: Access) -> Self {
        Self { access, ..self }
    }
}
