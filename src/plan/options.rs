//! The options of a plan.

use super::{BlockSize, PlanError, PlanPosition};
use crate::action::Action;
use crate::extent::MAX_END;

/// The bytes that a plan may touch.
///
/// ```
/// use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions};
/// use nbd_extents::stream::from_iter;
/// use nbd_extents::{Action, Extent};
///
/// let actions =
///     [Extent::new(0, 1000, Action::Skip)?, Extent::new(1000, 3096, Action::Copy)?];
/// let options = PlanOptions::new(4096, BlockSize::SECTOR)?;
/// let first = |access| {
///     Plan::new(from_iter(actions), options.access(access)).next().unwrap().unwrap()
/// };
/// assert_eq!(first(Access::All).to_string(), "copy 512..4096");
/// assert_eq!(first(Access::DirtyOnly).to_string(), "copy 1000..4096");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// All that are not [absent](Action::Absent): a block is copied whole, including its clean
    /// bytes.
    #[default]
    All,
    /// Only those that are not [skipped](Action::Skip).
    ///
    /// For exports where a clean byte cannot be read, such as qemu's snapshot-access. A request
    /// then ends at a clean byte, even within a block; with blocks no larger than the bitmap's
    /// granularity that does not happen.
    DirtyOnly,
}

impl Access {
    /// True if bytes with this action may be read and written along with others.
    pub(super) fn may_touch(self, action: Action) -> bool {
        match action {
            Action::Copy | Action::Zero { .. } => true,
            Action::Skip => self == Self::All,
            Action::Absent => false,
        }
    }
}

/// The size of the disk, the block size, and the limits on requests.
///
/// The defaults: copies up to 32 MiB (the limit of an NBD server that announces no maximum), zeroes
/// up to 1 GiB (they carry no payload), no gap joined, [`Access::All`]. If a block is larger than
/// these, a request is one block.
///
/// ```
/// use nbd_extents::plan::{Access, BlockSize, PlanOptions};
///
/// let options = PlanOptions::new(10 << 30, BlockSize::new(65536)?)?
///     .max_copy(4 << 20)?
///     .max_zero(1 << 30)?
///     .join_gaps(128 << 10)
///     .access(Access::DirtyOnly);
/// # let _ = options;
/// # Ok::<(), nbd_extents::plan::PlanError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanOptions {
    pub(super) size: u64,
    pub(super) block: BlockSize,
    pub(super) min_block: BlockSize,
    pub(super) max_copy: u64,
    pub(super) max_zero: u64,
    pub(super) join_gaps: u64,
    pub(super) access: Access,
    /// The offset at which the plan starts.
    pub(super) start: u64,
}

impl PlanOptions {
    const MAX_COPY: u64 = 32 << 20;
    const MAX_ZERO: u64 = 1 << 30;

    /// The options for a disk of `size` bytes, in blocks of size `block`.
    ///
    /// # Errors
    ///
    /// [`PlanError::TooLarge`] above [`MAX_END`].
    pub const fn new(size: u64, block: BlockSize) -> Result<Self, PlanError> {
        if size > MAX_END {
            return Err(PlanError::TooLarge { size });
        }
        let bytes = block.bytes();
        Ok(Self {
            size,
            block,
            min_block: BlockSize::BYTE,
            max_copy: if bytes > Self::MAX_COPY { bytes } else { Self::MAX_COPY },
            max_zero: if bytes > Self::MAX_ZERO { bytes } else { Self::MAX_ZERO },
            join_gaps: 0,
            access: Access::All,
            start: 0,
        })
    }

    /// Sets the longest copy, in bytes; only whole blocks of it are used.
    ///
    /// # Errors
    ///
    /// [`PlanError::MaxRequest`] when it does not hold a block.
    pub const fn max_copy(mut self, bytes: u64) -> Result<Self, PlanError> {
        if bytes < self.block.bytes() {
            return Err(PlanError::MaxRequest { max: bytes, block: self.block });
        }
        self.max_copy = bytes;
        Ok(self)
    }

    /// Sets the longest zero request, in bytes; only whole blocks of it are used.
    ///
    /// # Errors
    ///
    /// [`PlanError::MaxRequest`] when it does not hold a block.
    pub const fn max_zero(mut self, bytes: u64) -> Result<Self, PlanError> {
        if bytes < self.block.bytes() {
            return Err(PlanError::MaxRequest { max: bytes, block: self.block });
        }
        self.max_zero = bytes;
        Ok(self)
    }

    /// Sets the longest gap, in bytes, that is read through between two copies.
    ///
    /// A good value is the number of bytes that can be read in the time that another request takes.
    /// Zeroes in such a gap are copied as data. A gap of more than 8 pieces (skip, zero, skip, ...)
    /// is not joined: a plan holds no more.
    ///
    /// ```
    /// use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::{Action, Extent};
    ///
    /// let actions = [
    ///     Extent::new(0, 4096, Action::Copy)?,
    ///     Extent::new(4096, 512, Action::Skip)?,
    ///     Extent::new(4608, 3584, Action::Copy)?,
    /// ];
    /// let options = PlanOptions::new(8192, BlockSize::SECTOR)?;
    /// let requests = |options| Plan::new(from_iter(actions), options).count();
    /// assert_eq!((requests(options), requests(options.join_gaps(512))), (2, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn join_gaps(mut self, bytes: u64) -> Self {
        self.join_gaps = bytes;
        self
    }

    /// Sets the smallest block that the server reads and writes: a byte unless set.
    ///
    /// Under [`Access::DirtyOnly`] requests end at clean bytes, even within a [block](Self::new).
    /// But if an old size or a range given by the caller cuts a block of the server, the block is
    /// copied whole: the server would reject a smaller request. (A bitmap never cuts one.) Only
    /// [absent](Action::Absent) bytes remain untouched.
    ///
    /// # Errors
    ///
    /// [`PlanError::MinBlock`] when it is larger than the block size of the plan.
    ///
    /// ```
    /// use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions};
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::{Action, Extent};
    ///
    /// // the disk has grown, and its old size was no whole block
    /// let actions = [Extent::new(0, 707, Action::Skip)?, Extent::new(707, 7485, Action::Copy)?];
    /// let options = PlanOptions::new(8192, BlockSize::new(4096)?)?.access(Access::DirtyOnly);
    /// let first = |options| Plan::new(from_iter(actions), options).next().unwrap().unwrap();
    /// assert_eq!(first(options).to_string(), "copy 707..8192");
    /// assert_eq!(first(options.min_block(BlockSize::SECTOR)?).to_string(), "copy 512..8192");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn min_block(mut self, block: BlockSize) -> Result<Self, PlanError> {
        if block.bytes() > self.block.bytes() {
            return Err(PlanError::MinBlock { min: block, block: self.block });
        }
        self.min_block = block;
        Ok(self)
    }

    /// Sets the bytes that may be touched.
    #[must_use]
    pub const fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Resumes an interrupted plan.
    ///
    /// With the options of the first plan the steps are the same; with others they are different
    /// steps with the same result.
    ///
    /// # Errors
    ///
    /// [`PlanError::SizeChanged`] when the size of the disk has changed, [`PlanError::Position`]
    /// when the position lies beyond its end.
    ///
    /// ```
    /// use nbd_extents::plan::{BlockSize, PlanOptions, PlanPosition};
    ///
    /// let saved = PlanPosition { offset: 4096, size: 1 << 20 };
    /// assert!(PlanOptions::new(1 << 20, BlockSize::SECTOR)?.resume(saved).is_ok());
    /// assert!(PlanOptions::new(2 << 20, BlockSize::SECTOR)?.resume(saved).is_err());
    /// # Ok::<(), nbd_extents::plan::PlanError>(())
    /// ```
    pub const fn resume(mut self, position: PlanPosition) -> Result<Self, PlanError> {
        if position.size != self.size {
            return Err(PlanError::SizeChanged { expected: position.size, got: self.size });
        }
        if position.offset > self.size {
            return Err(PlanError::Position { offset: position.offset, size: self.size });
        }
        self.start = position.offset;
        Ok(self)
    }

    /// The size of the disk, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The block size.
    #[must_use]
    pub const fn block(&self) -> BlockSize {
        self.block
    }

    /// The latest end of a request that starts at `start`. It lies on a block boundary and above
    /// `start`, since `max` holds at least a block.
    pub(super) const fn limit(&self, start: u64, max: u64) -> u64 {
        self.block.floor(start.saturating_add(max))
    }
}
