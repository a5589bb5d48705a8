//! How to survey: contexts, range, limits, tolerance.

use core::ffi::{c_char, c_int};
use core::ops::Range;

use nbd_extents::wire::Form;
use nbd_extents::{
    Context, Contexts, ExportParams, ResumePoint, Strictness, Survey, SurveyError, SurveyOptions,
};

use super::border::{self, CallFailure, Journal, Object};
use super::layout::nbdx_resume_point;
use super::status;

/// Everything that shapes a survey before its first request.
#[derive(Debug)]
pub struct nbdx_options {
    journal: Journal,
    chosen: Chosen,
}

impl Object for nbdx_options {
    const NAME: &'static str = "options";

    fn journal(&self) -> &Journal {
        &self.journal
    }
}

/// The choices, each valid by itself.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    size: u64,
    contexts: Contexts,
    /// The names that the server granted.
    granted: Vec<String>,
    writable: bool,
    bitmap_first: bool,
    min_block: Option<u32>,
    range: Option<Range<u64>>,
    resume: Option<ResumePoint>,
    max_request: Option<u64>,
    in_flight: Option<usize>,
    budget: Option<usize>,
    max_entries: Option<usize>,
    strict: bool,
    one_extent: bool,
}

impl Chosen {
    pub(crate) fn new(size: u64) -> Result<Self, CallFailure> {
        ExportParams::new(size, Form::Compact)?;
        Ok(Self {
            size,
            contexts: Contexts::new(),
            granted: Vec::new(),
            writable: false,
            bitmap_first: false,
            min_block: None,
            range: None,
            resume: None,
            max_request: None,
            in_flight: None,
            budget: None,
            max_entries: None,
            strict: false,
            one_extent: false,
        })
    }

    /// Adds a context; one that is optional and was not granted only keeps its place among the bitmaps.
    pub(crate) fn add(&mut self, name: &str, optional: bool, granted: bool) -> Result<(), CallFailure> {
        let context: Context = name.parse()?;
        let contexts = self.contexts.clone();
        self.contexts = if optional { contexts.optional(context)? } else { contexts.require(context)? };
        if granted {
            self.granted.push(name.to_owned());
        }
        Ok(())
    }

    /// The names of all contexts that the survey asks about.
    pub(crate) fn granted(&self) -> Vec<String> {
        self.granted.clone()
    }

    /// The granted bitmaps, as bits.
    pub(crate) fn bitmaps(&self) -> u32 {
        let context = |name: &String| name.parse().ok();
        let leaf = |context| match context {
            Context::Bitmap(leaf) => Some(leaf),
            _ => None,
        };
        let names = self.granted.iter().filter_map(context).filter_map(leaf);
        self.contexts.bitmap_set(names).map_or(0, status::mask)
    }

    /// The most numbers of (length, flags) pairs that one reply may have for a context.
    pub(crate) fn max_entries(&self) -> usize {
        self.max_entries.unwrap_or(DEFAULT_MAX_ENTRIES)
    }

    pub(crate) fn survey(&self) -> Result<Survey, CallFailure> {
        let negotiated = self.contexts.negotiate_names(self.granted.iter().map(String::as_str))?;
        let options = self.options()?;
        if self.bitmap_first {
            let (bitmaps, details) = negotiated.split();
            return Ok(Survey::bitmap_first(options, bitmaps, details)?);
        }
        Ok(Survey::together(options, negotiated)?)
    }

    fn options(&self) -> Result<SurveyOptions, SurveyError> {
        let mut export = ExportParams::new(self.size, Form::Compact)?.read_only(!self.writable);
        if let Some(block) = self.min_block {
            export = export.min_block(block)?;
        }
        let mut options = SurveyOptions::new(export).max_descriptors(self.max_entries());
        if let Some(range) = &self.range {
            options = options.range(range.clone())?;
        }
        if let Some(point) = self.resume {
            options = options.resume(point)?;
        }
        if let Some(bytes) = self.max_request {
            options = options.max_request(bytes);
        }
        if let Some(requests) = self.in_flight {
            options = options.in_flight(requests);
        }
        if let Some(bytes) = self.budget {
            options = options.budget(bytes);
        }
        if self.strict {
            options = options.strictness(Strictness::Strict);
        }
        if self.one_extent {
            options = options.one_extent();
        }
        Ok(if self.writable { options.allow_writable() } else { options })
    }
}

/// The protocol's own recommendation for the descriptors of one chunk.
const DEFAULT_MAX_ENTRIES: usize = 1 << 20;

/// Changes the options by `work`, which returns nothing but whether it failed.
///
/// # Safety
///
/// As the header says.
unsafe fn choose(
    options: *mut nbdx_options,
    work: impl FnOnce(&mut Chosen) -> Result<(), CallFailure>,
) -> c_int {
    // SAFETY: as the header says
    unsafe { border::change(options, |options: &mut nbdx_options| work(&mut options.chosen).map(|()| 0)) }
}

/// Options for a read-only export of `size` bytes.
#[unsafe(no_mangle)]
pub extern "C" fn nbdx_options_new(size: u64) -> *mut nbdx_options {
    border::make(|| Ok(nbdx_options { journal: Journal::default(), chosen: Chosen::new(size)? }))
}

/// Adds a context that the server has granted.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_require(options: *mut nbdx_options, context: *const c_char) -> c_int {
    // SAFETY: as the header says
    unsafe { choose(options, |chosen| chosen.add(border::text(context, "context")?, false, true)) }
}

/// Adds a context that the server may lack.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_optional(
    options: *mut nbdx_options,
    context: *const c_char,
    granted: c_int,
) -> c_int {
    let add = |chosen: &mut Chosen| {
        // SAFETY: as the header says
        let name = unsafe { border::text(context, "context") }?;
        chosen.add(name, true, granted != 0)
    };
    // SAFETY: as the header says
    unsafe { choose(options, add) }
}

/// Permits an export that can be written to meanwhile.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_writable(options: *mut nbdx_options) -> c_int {
    let allow = |chosen: &mut Chosen| {
        chosen.writable = true;
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, allow) }
}

/// Asks the bitmaps first, and the other contexts inside dirty ranges alone.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_bitmap_first(options: *mut nbdx_options) -> c_int {
    let order = |chosen: &mut Chosen| {
        chosen.bitmap_first = true;
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, order) }
}

/// Sets the minimum block size that the server announced.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_block_size(options: *mut nbdx_options, minimum: u32) -> c_int {
    let set = |chosen: &mut Chosen| {
        ExportParams::new(chosen.size, Form::Compact)?.min_block(minimum)?;
        chosen.min_block = Some(minimum);
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, set) }
}

/// Surveys a part of the export.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_range(options: *mut nbdx_options, offset: u64, length: u64) -> c_int {
    let set = |chosen: &mut Chosen| {
        let export = ExportParams::new(chosen.size, Form::Compact)?;
        let end = offset.checked_add(length).ok_or_else(|| {
            CallFailure::new(format_args!("{length} bytes from byte {offset} on end beyond 64 bits"))
        })?;
        SurveyOptions::new(export).range(offset..end)?;
        chosen.range = Some(offset..end);
        chosen.resume = None;
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, set) }
}

/// Surveys the rest of an interrupted survey.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_resume(
    options: *mut nbdx_options,
    point: *const nbdx_resume_point,
) -> c_int {
    let set = |chosen: &mut Chosen| {
        // SAFETY: as the header says
        let [point] = (unsafe { border::list(point, 1, "point") })? else {
            return Err(CallFailure::new("point is NULL"));
        };
        let nbdx_resume_point { offset, end, export_size } = *point;
        let point = ResumePoint { offset, end, export_size };
        SurveyOptions::new(ExportParams::new(chosen.size, Form::Compact)?).resume(point)?;
        chosen.resume = Some(point);
        chosen.range = None;
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, set) }
}

/// Limits how many bytes one request asks about.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_max_request(options: *mut nbdx_options, bytes: u64) -> c_int {
    let set = |chosen: &mut Chosen| {
        chosen.max_request = Some(bytes);
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, set) }
}

/// Limits how many requests are in flight at one time.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_in_flight(options: *mut nbdx_options, requests: usize) -> c_int {
    let set = |chosen: &mut Chosen| {
        chosen.in_flight = Some(requests);
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, set) }
}

/// Limits the bytes of replies that a survey holds at one time.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_budget(options: *mut nbdx_options, bytes: usize) -> c_int {
    let set = |chosen: &mut Chosen| {
        chosen.budget = Some(bytes);
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, set) }
}

/// Limits the (length, flags) pairs of one context in one reply.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_max_entries(options: *mut nbdx_options, pairs: usize) -> c_int {
    let set = |chosen: &mut Chosen| {
        chosen.max_entries = Some(pairs);
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, set) }
}

/// Refuses whatever breaks the protocol.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_strict(options: *mut nbdx_options) -> c_int {
    let set = |chosen: &mut Chosen| {
        chosen.strict = true;
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, set) }
}

/// Says that requests are sent with REQ_ONE: each is answered by one extent.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_one_extent(options: *mut nbdx_options) -> c_int {
    let set = |chosen: &mut Chosen| {
        chosen.one_extent = true;
        Ok(())
    };
    // SAFETY: as the header says
    unsafe { choose(options, set) }
}

/// The message of the last call on the options.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_error(options: *const nbdx_options) -> *const c_char {
    // SAFETY: as the header says
    unsafe { border::message(options) }
}

/// Frees the options.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_options_free(options: *mut nbdx_options) {
    // SAFETY: as the header says
    unsafe { border::destroy(options) }
}

/// The choices of options that C holds.
///
/// # Safety
///
/// As the header says.
pub(crate) unsafe fn chosen(options: *const nbdx_options) -> Result<Chosen, CallFailure> {
    // SAFETY: as the header says
    Ok(unsafe { border::other(options) }?.chosen.clone())
}
