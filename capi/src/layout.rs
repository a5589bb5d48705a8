//! The structs and numbers that the header shows, as C lays them out.

/// Marked as changed by a bitmap. The other flags of [`nbdx_extent`] follow.
pub const NBDX_DIRTY: u32 = 1;
/// Reads as zeroes.
pub const NBDX_ZERO: u32 = 2;
/// A hole, which alone says nothing about its content.
pub const NBDX_HOLE: u32 = 4;
/// A bitmap was asked, so that `NBDX_DIRTY` means something.
pub const NBDX_DIRTY_KNOWN: u32 = 16;
/// `base:allocation` was asked, so that `NBDX_ZERO` means something.
pub const NBDX_ZERO_KNOWN: u32 = 32;
/// `base:allocation` was asked, so that `NBDX_HOLE` means something.
pub const NBDX_HOLE_KNOWN: u32 = 64;
/// `qemu:allocation-depth` was asked and its answer is not in doubt.
pub const NBDX_DEPTH_KNOWN: u32 = 128;

/// Read the bytes and store them. The actions of [`nbdx_action`] follow.
pub const NBDX_COPY: u32 = 1;
/// Make the bytes read as zero.
pub const NBDX_WRITE_ZEROES: u32 = 2;
/// Leave the bytes as they are.
pub const NBDX_SKIP: u32 = 3;
/// The layer does not hold the bytes.
pub const NBDX_ABSENT: u32 = 4;
/// A flag of [`nbdx_action`]: the zeroes need no space.
pub const NBDX_MAY_UNMAP: u32 = 1;

/// Zeroes need no space on the target. The ways of treating zeroes follow.
pub const NBDX_ZEROES_MAY_UNMAP: i32 = 0;
/// Zeroes need no space where the source has a hole.
pub const NBDX_ZEROES_KEEP_HOLES: i32 = 1;
/// Zeroes get space.
pub const NBDX_ZEROES_ALLOCATE: i32 = 2;
/// Zeroes are copied like data.
pub const NBDX_ZEROES_AS_DATA: i32 = 3;

/// A request about all contexts. The topics of requests follow.
pub const NBDX_TOPIC_ALL: i32 = 0;
/// A request about the bitmaps alone.
pub const NBDX_TOPIC_BITMAPS: i32 = 1;
/// A request about all contexts but the bitmaps.
pub const NBDX_TOPIC_DETAILS: i32 = 2;

/// A range of the disk and its status.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nbdx_extent {
    /// The first byte.
    pub start: u64,
    /// The length in bytes, never 0.
    pub length: u64,
    /// `NBDX_DIRTY` and the others.
    pub flags: u32,
    /// The layer that holds the bytes, 0 for none.
    pub depth: u32,
    /// Bit `i`: bitmap `i` marks the bytes as changed.
    pub bitmaps: u32,
    /// 0.
    pub reserved: u32,
}

/// A (length, flags) pair of a reply, as libnbd's `nbd_extent`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nbdx_entry {
    /// The length in bytes.
    pub length: u64,
    /// The flags of the context.
    pub flags: u64,
}

/// A point at which a survey can be resumed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nbdx_resume_point {
    /// The first byte that was not read.
    pub offset: u64,
    /// The end of the survey's range.
    pub end: u64,
    /// The size of the export.
    pub export_size: u64,
}

/// The cost of a survey.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nbdx_stats {
    /// Requests made.
    pub requests: u64,
    /// Replies used.
    pub replies: u64,
    /// Replies not used.
    pub failed: u64,
    /// Descriptors in the replies used.
    pub descriptors: u64,
    /// Bytes that the requests asked about, all together.
    pub asked_bytes: u64,
    /// Extents read.
    pub extents: u64,
    /// Extents where two answers disagreed and the safer one was taken.
    pub disagreements: u64,
    /// The most bytes of payload held at one time.
    pub peak_bytes: u64,
    /// The most requests in flight at one time.
    pub peak_in_flight: u64,
    /// All deviations that were forgiven.
    pub forgiven: u64,
}

/// How often one kind of deviation was forgiven.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nbdx_forgiven {
    /// The row of the table of server behaviour.
    pub row: u64,
    /// How often.
    pub count: u64,
}

/// The bytes and extents of one status in a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nbdx_total {
    /// The bytes with this status.
    pub bytes: u64,
    /// The extents with this status.
    pub extents: u64,
    /// As in [`nbdx_extent`].
    pub flags: u32,
    /// As in [`nbdx_extent`].
    pub depth: u32,
    /// As in [`nbdx_extent`].
    pub bitmaps: u32,
    /// 0.
    pub reserved: u32,
}

/// A range where two maps differ. A side without flags says nothing about it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nbdx_change {
    /// The first byte.
    pub start: u64,
    /// The length in bytes.
    pub length: u64,
    /// The flags in the first map.
    pub before_flags: u32,
    /// The depth in the first map.
    pub before_depth: u32,
    /// The bitmaps in the first map.
    pub before_bitmaps: u32,
    /// Whether the first map describes the range.
    pub in_before: u32,
    /// The flags in the second map.
    pub after_flags: u32,
    /// The depth in the second map.
    pub after_depth: u32,
    /// The bitmaps in the second map.
    pub after_bitmaps: u32,
    /// Whether the second map describes the range.
    pub in_after: u32,
}

/// An action for a range of the disk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nbdx_action {
    /// The first byte.
    pub start: u64,
    /// The length in bytes.
    pub length: u64,
    /// `NBDX_COPY` and the others.
    pub action: u32,
    /// `NBDX_MAY_UNMAP`.
    pub flags: u32,
}

/// Bytes of each action, and the requests of a plan.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nbdx_totals {
    /// Bytes to copy.
    pub copy: u64,
    /// Bytes to zero.
    pub zero: u64,
    /// Bytes to leave alone.
    pub skip: u64,
    /// Bytes that the layer does not hold.
    pub absent: u64,
    /// Requests that copy; 0 outside of plans.
    pub copies: u64,
    /// Requests that zero; 0 outside of plans.
    pub zeroes: u64,
}
