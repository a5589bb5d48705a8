//! The parameters of a case, fixed before the first request.
//!
//! ```text
//! 0  size:2         (modulo 2049) the size of the export, in bytes
//! 2  range:2 2      (modulo size + 1) two offsets in any order
//! 6  block:1        (modulo 14) the minimum block size is 2 to the power of it
//! 7  flags:1        1 extended headers, 2 strict, 4 writable, 8 one extent, 16 bitmap first, 32 depth,
//!                   64 a second bitmap, 128 the largest export, of which the last bytes are used
//! 8  budget:2       0 is the default
//! 10 request:2      the longest request; 0 is the default
//! 12 descriptors:1  the longest list; 0 is the default
//! 13 granting:1     rotates the order in which the server grants contexts (modulo their
//!                   number); / 16 is the number of requests in flight beyond the first
//! ```

use core::ops::Range;

use super::super::bytes::Bytes;
use nbd_extents::wire::Form;
use nbd_extents::{
    Context, Contexts, ExportParams, MAX_END, Negotiated, Strictness, Survey, SurveyError, SurveyOptions,
};

/// The ids of the contexts, as qemu gives them.
pub const ALLOCATION: u32 = 0;
pub const DEPTH: u32 = 1;
pub const BITMAP: u32 = 2;
pub const SECOND_BITMAP: u32 = 3;

/// A case. All offsets but `base` count from `base`.
#[derive(Clone, Debug)]
pub struct SurveyCase {
    /// The bytes before this offset of the export are not touched.
    pub base: u64,
    pub size: usize,
    pub range: Range<usize>,
    pub block: usize,
    pub form: Form,
    pub strict: bool,
    pub writable: bool,
    pub one_extent: bool,
    pub bitmap_first: bool,
    pub ids: Vec<u32>,
    pub budget: Option<usize>,
    pub max_request: Option<u64>,
    pub max_descriptors: Option<usize>,
    /// The limit on requests in flight.
    pub in_flight: usize,
}

impl SurveyCase {
    pub fn read(bytes: &mut Bytes<'_>) -> Self {
        let size = bytes.below(2049);
        let ends = [bytes.below(size + 1), bytes.below(size + 1)];
        let block = 1 << (bytes.u8() % 14);
        let flags = bytes.u8();
        let flag = |bit: u8| flags >> bit & 1 == 1;
        let some = |number: usize| (number > 0).then_some(number);
        let largest = MAX_END - size as u64;
        let base = if flag(7) { largest - largest % (1 << 16) } else { 0 };
        let [budget, max_request] = [bytes.u16(), bytes.u16()].map(usize::from).map(some);
        let max_descriptors = some(usize::from(bytes.u8()));
        let mut ids = vec![ALLOCATION, BITMAP];
        ids.extend(flag(5).then_some(DEPTH));
        ids.extend(flag(6).then_some(SECOND_BITMAP));
        let granting = usize::from(bytes.u8());
        let in_flight = granting / 16 + 1;
        let granting = granting % ids.len();
        ids.rotate_left(granting);
        Self {
            base,
            size,
            range: ends[0].min(ends[1])..ends[0].max(ends[1]),
            block,
            form: if flag(0) { Form::Extended } else { Form::Compact },
            strict: flag(1),
            writable: flag(2),
            one_extent: flag(3),
            bitmap_first: flag(4),
            ids,
            budget,
            max_request: max_request.map(|bytes| bytes as u64),
            max_descriptors,
            in_flight,
        }
    }

    /// The size of the export.
    pub fn export_size(&self) -> u64 {
        self.base + self.size as u64
    }

    /// The actual limit on simultaneous requests.
    pub fn width(&self) -> usize {
        if self.writable { 1 } else { self.in_flight }
    }

    pub fn is_bitmap(id: u32) -> bool {
        id == BITMAP || id == SECOND_BITMAP
    }

    pub fn survey(&self) -> Survey {
        let options = self.options().unwrap();
        let negotiated = self.negotiated();
        if self.bitmap_first {
            let (bitmaps, details) = negotiated.split();
            Survey::bitmap_first(options, bitmaps, details).unwrap()
        } else {
            Survey::together(options, negotiated).unwrap()
        }
    }

    fn options(&self) -> Result<SurveyOptions, SurveyError> {
        let export = ExportParams::new(self.export_size(), self.form)?;
        // an announced minimum leaves the tail out of reach, which tests of the library cover
        let block = u32::try_from(self.block).unwrap();
        let whole = self.export_size().is_multiple_of(u64::from(block));
        let export = if whole { export.min_block(block)? } else { export.assumed_block(block)? };
        let export = export.read_only(!self.writable);
        let range = self.base + self.range.start as u64..self.base + self.range.end as u64;
        // an input may fail one range any number of times
        let mut options =
            SurveyOptions::new(export).range(range)?.in_flight(self.in_flight).max_retries(u32::MAX);
        if self.strict {
            options = options.strictness(Strictness::Strict);
        }
        if self.writable {
            options = options.allow_writable();
        }
        if self.one_extent {
            options = options.one_extent();
        }
        if let Some(bytes) = self.budget {
            options = options.budget(bytes);
        }
        if let Some(bytes) = self.max_request {
            options = options.max_request(bytes);
        }
        if let Some(descriptors) = self.max_descriptors {
            options = options.max_descriptors(descriptors);
        }
        Ok(options)
    }

    fn negotiated(&self) -> Negotiated {
        let wanted = Contexts::new().require(Context::Allocation).unwrap();
        let wanted = wanted.optional(Context::Depth).unwrap().require(Context::bitmap("b0")).unwrap();
        let wanted = wanted.optional(Context::bitmap("b1")).unwrap();
        let name = |id: u32| match id {
            ALLOCATION => "base:allocation",
            DEPTH => "qemu:allocation-depth",
            BITMAP => "qemu:dirty-bitmap:b0",
            _ => "qemu:dirty-bitmap:b1",
        };
        wanted.negotiate(self.ids.iter().map(|&id| (id, name(id)))).unwrap()
    }
}
