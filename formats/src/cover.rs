//! The order of ranges, checked on the way in and on the way out: each where the last one ended, or, in the formats that list only some ranges, behind it.

use nbd_extents::Extent;
use nbd_extents::StreamError;

/// Where the last range ended.
#[derive(Clone, Debug)]
pub(super) struct Cover {
    position: Option<u64>,
}

impl Cover {
    /// The first range may start anywhere.
    pub(super) const fn anywhere() -> Self {
        Self { position: None }
    }

    /// The first range starts here.
    pub(super) const fn from(start: u64) -> Self {
        Self { position: Some(start) }
    }

    /// Where the last range ended, or where the first must start if anybody has said so.
    pub(super) const fn position(&self) -> Option<u64> {
        self.position
    }

    /// A range that must start where the last one ended.
    pub(super) fn next<T>(&mut self, start: u64, length: u64, row: T) -> Result<Extent<T>, StreamError> {
        match self.position {
            Some(position) if start > position => Err(StreamError::Gap { range: position..start }),
            _ => self.next_behind(start, length, row),
        }
    }

    /// A range that must not start before the last one ended.
    pub(super) fn next_behind<T>(
        &mut self,
        start: u64,
        length: u64,
        row: T,
    ) -> Result<Extent<T>, StreamError> {
        let extent = Extent::new(start, length, row)?;
        match self.position {
            Some(expected) if start < expected => Err(StreamError::Overlap { start, expected }),
            _ => {
                self.position = Some(extent.end());
                Ok(extent)
            }
        }
    }
}
