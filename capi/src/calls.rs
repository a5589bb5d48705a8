//! Random calls of the C interface, for the fuzz target `c_interface`. It stands here because calling the
//! interface is unsafe.
//!
//! The input is a list of calls: a byte chooses the function, the next ones its arguments. Any argument
//! may be NULL, of the wrong object, out of order or huge, as long as buffers are as long as they are said
//! to be. Buffers have exactly that length, so that AddressSanitizer sees a step beyond them.
//!
//! Asserted: a call that fails leaves a message with the thread, one that succeeds leaves none; no call
//! writes more than there is room for; extents and actions ascend without a gap; a survey that calls itself
//! complete has been read to the end of its range.
#![allow(clippy::undocumented_unsafe_blocks, reason = "all calls are of one kind: see the first lines")]
#![allow(missing_debug_implementations, clippy::missing_panics_doc, reason = "asserting is its work")]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "it runs in tests alone")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers from the input")]

use core::ffi::{CStr, c_char, c_int};
use core::ptr::{null, null_mut};

use super::layout::*;
use super::library::nbdx_last_error;
use super::map::*;
use super::options::*;
use super::plan::*;
use super::policy::*;
use super::survey::*;

/// The most calls of one input, so that a long input is not a slow one.
const CALLS: usize = 200;

/// The names that contexts get: good, unknown, and none at all.
const NAMES: [Option<&CStr>; 8] = [
    Some(c"base:allocation"),
    Some(c"qemu:dirty-bitmap:a"),
    Some(c"qemu:dirty-bitmap:b"),
    Some(c"qemu:allocation-depth"),
    Some(c"qemu:dirty-bitmap:"),
    Some(c"\xff\xfe"),
    Some(c""),
    None,
];

/// The input, read from the front; zeroes after its end.
struct CallBytes<'a>(&'a [u8]);

impl CallBytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number of bytes: mostly a few blocks, at times one that nothing has.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => 1 << 63,
            253 => i64::MAX.unsigned_abs(),
            252 => u64::from(u32::MAX),
            251 => 1,
            byte => u64::from(byte) * 512,
        }
    }

    fn name(&mut self) -> *const c_char {
        let name = NAMES.get(usize::from(self.byte() % 16)).copied().unwrap_or(NAMES[0]);
        name.map_or(null(), CStr::as_ptr)
    }

    /// A number of entries that a buffer really has.
    fn count(&mut self) -> usize {
        usize::from(self.byte() % 9)
    }

    fn set(&mut self) -> c_int {
        c_int::from(self.byte() & 1)
    }
}

/// An object of each kind; NULL until a call makes it.
struct World {
    options: *mut nbdx_options,
    survey: *mut nbdx_survey,
    /// The start that the next extent of the survey must have, once it has given one.
    position: Option<u64>,
    /// The requests that were made, ended or not.
    requests: Vec<(u64, u64, u64)>,
    map: *mut nbdx_map,
    other: *mut nbdx_map,
    policy: *mut nbdx_policy,
    plan: *mut nbdx_plan,
}

impl Drop for World {
    fn drop(&mut self) {
        unsafe {
            nbdx_options_free(self.options);
            nbdx_survey_free(self.survey);
            nbdx_map_free(self.map);
            nbdx_map_free(self.other);
            nbdx_policy_free(self.policy);
            nbdx_plan_free(self.plan);
        }
    }
}

fn message_is_empty() -> bool {
    unsafe { CStr::from_ptr(nbdx_last_error()) }.is_empty()
}

/// A result below 0 comes with a message, any other without.
fn check(result: isize, least: isize, most: isize) {
    assert_eq!(message_is_empty(), result >= 0, "{result}");
    assert!((least.min(-1)..=most).contains(&result), "{result} is not within {least}..={most}");
}

fn check_code(code: c_int) {
    check(code as isize, -1, 1);
}

/// Where each action ends and the next one starts.
fn ends_and_starts(actions: &[nbdx_action]) -> impl Iterator<Item = (u64, u64)> {
    let pairs = actions.iter().zip(actions.iter().skip(1));
    pairs.map(|(action, next)| (action.start + action.length, next.start))
}

/// Puts a new object in the place of the old one, which is freed.
fn replace<T>(place: &mut *mut T, made: *mut T, free: unsafe extern "C" fn(*mut T)) {
    assert_eq!(message_is_empty(), !made.is_null());
    let old = core::mem::replace(place, made);
    unsafe { free(old) };
}

impl World {
    fn request(&self, input: &mut CallBytes<'_>) -> (u64, u64, u64) {
        let chosen = usize::from(input.byte());
        let fallback = (chosen as u64, 0, 4096);
        self.requests.iter().rev().nth(chosen).copied().unwrap_or(fallback)
    }

    fn call(&mut self, input: &mut CallBytes<'_>) {
        match input.byte() % 40 {
            0..=3 => self.make(input),
            4..=9 => self.choose(input),
            10..=27 => self.survey(input),
            28..=34 => self.ask_map(input),
            _ => self.ask_plan(input),
        }
    }

    fn make(&mut self, input: &mut CallBytes<'_>) {
        unsafe {
            match input.byte() % 8 {
                0 => {
                    let made = nbdx_options_new(input.number());
                    replace(&mut self.options, made, nbdx_options_free);
                }
                1 => {
                    let names: Vec<_> = (0..input.count()).map(|_| input.name()).collect();
                    let count = if input.byte() == 255 { usize::MAX } else { names.len() };
                    let made = nbdx_survey_new(input.number(), names.as_ptr(), count);
                    self.new_survey(made);
                }
                2 => self.new_survey(nbdx_survey_with_options(self.options)),
                3 => {
                    let made = nbdx_map_new(input.number(), u32::from(input.byte()));
                    replace(&mut self.map, made, nbdx_map_free);
                }
                4 => {
                    replace(&mut self.policy, nbdx_policy_full(input.set()), nbdx_policy_free);
                    check_code(nbdx_policy_zeroes(self.policy, c_int::from(input.byte())));
                }
                5 => {
                    let (then, now) = (input.number(), input.number());
                    let made = nbdx_policy_incremental(then, now, u32::from(input.byte()), input.set());
                    replace(&mut self.policy, made, nbdx_policy_free);
                }
                6 => replace(&mut self.policy, nbdx_policy_single_layer(), nbdx_policy_free),
                _ => {
                    let made = nbdx_plan_new(self.map, self.policy, input.number());
                    replace(&mut self.plan, made, nbdx_plan_free);
                }
            }
        }
    }

    fn new_survey(&mut self, made: *mut nbdx_survey) {
        replace(&mut self.survey, made, nbdx_survey_free);
        self.position = None;
        self.requests.clear();
    }

    fn choose(&mut self, input: &mut CallBytes<'_>) {
        let o = self.options;
        check_code(unsafe {
            match input.byte() % 13 {
                0..=2 => nbdx_options_require(o, input.name()),
                3 => nbdx_options_optional(o, input.name(), input.set()),
                4 => nbdx_options_writable(o),
                5 => nbdx_options_bitmap_first(o),
                6 => nbdx_options_block_size(o, u32::from(input.byte()) << 4),
                7 => nbdx_options_range(o, input.number(), input.number()),
                8 => {
                    let [offset, end, export_size] = [input.number(), input.number(), input.number()];
                    nbdx_options_resume(o, &nbdx_resume_point { offset, end, export_size })
                }
                9 => nbdx_options_max_request(o, input.number()),
                10 => nbdx_options_in_flight(o, input.count()),
                11 => nbdx_options_budget(o, usize::from(input.byte()) * 16),
                _ if input.set() == 0 => nbdx_options_strict(o),
                _ => nbdx_options_one_extent(o),
            }
        });
    }

    fn survey(&mut self, input: &mut CallBytes<'_>) {
        let survey = self.survey;
        unsafe {
            match input.byte() % 14 {
                0..=2 => {
                    let (mut id, mut offset, mut length) = (0, 0, 0);
                    let code = nbdx_survey_next_request(survey, &mut id, &mut offset, &mut length);
                    check_code(code);
                    if code == 1 {
                        assert!(length > 0 && length <= 1 << 31, "{length}");
                        self.requests.push((id, offset, length));
                    }
                }
                3..=6 => self.entries(input),
                7 | 8 => check_code(nbdx_survey_reply_done(survey, self.request(input).0)),
                9 => check_code(nbdx_survey_reply_failed(survey, self.request(input).0)),
                10 => self.read_survey(input),
                11 => {
                    let code = nbdx_survey_complete(survey);
                    check_code(code);
                    let mut point = nbdx_resume_point::default();
                    if code == 0 && nbdx_survey_resume_point(survey, &mut point) == 0 {
                        assert_eq!(point.offset, point.end);
                    }
                }
                12 => {
                    let mut stats = nbdx_stats::default();
                    check_code(nbdx_survey_stats(survey, &mut stats));
                    assert!(stats.requests >= stats.replies + stats.failed);
                    check(nbdx_survey_forgiven(survey, null_mut(), 0), 0, 64);
                    let mut bitmaps = 0;
                    check_code(nbdx_survey_bitmaps(survey, &mut bitmaps));
                    check(nbdx_survey_request_topic(survey, self.request(input).0) as isize, 0, 2);
                }
                _ => {
                    check(nbdx_map_read_survey(self.map, survey), 0, isize::MAX);
                    self.position = None;
                }
            }
        }
    }

    /// A part of a reply: sound at times, anything at others.
    fn entries(&mut self, input: &mut CallBytes<'_>) {
        let (id, start, length) = self.request(input);
        let offset = if input.byte() == 255 { input.number() } else { start };
        let name = input.name();
        let mut pairs: Vec<_> =
            (0..input.count()).map(|_| (input.number(), u64::from(input.byte() % 4))).collect();
        if input.set() == 0 {
            // the whole range of the request
            pairs = vec![(length / 2, u64::from(input.byte() % 4)), (length - length / 2, 0)];
        }
        let missing = input.byte() == 255;
        unsafe {
            if input.set() == 0 {
                let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
                let mut list: Vec<_> =
                    pairs.iter().flat_map(|&(length, flags)| [narrow(length), narrow(flags)]).collect();
                if input.byte() == 255 {
                    list.pop();
                }
                let list: Box<[u32]> = list.into();
                let entries = if missing { null() } else { list.as_ptr() };
                check_code(nbdx_survey_extents32(self.survey, id, name, offset, entries, list.len()));
            } else {
                let list: Box<[_]> =
                    pairs.iter().map(|&(length, flags)| nbdx_entry { length, flags }).collect();
                let entries = if missing { null() } else { list.as_ptr().cast() };
                let count = if input.byte() == 255 { usize::MAX } else { list.len() };
                check_code(nbdx_survey_extents64(self.survey, id, name, offset, entries, count));
            }
        }
    }

    fn read_survey(&mut self, input: &mut CallBytes<'_>) {
        let mut out: Box<[_]> = vec![nbdx_extent::default(); input.count()].into();
        let read = unsafe { nbdx_survey_read(self.survey, out.as_mut_ptr(), out.len()) };
        check(read, 0, out.len() as isize);
        for extent in out.iter().take(usize::try_from(read).unwrap_or(0)) {
            assert!(extent.length > 0 && extent.reserved == 0);
            assert!(self.position.is_none_or(|position| position == extent.start));
            self.position = extent.start.checked_add(extent.length);
        }
        // what the extents say can be put into a map that knows the same bitmaps, or is refused
        let code = unsafe { nbdx_map_append(self.map, out.as_ptr(), usize::try_from(read).unwrap_or(0)) };
        check_code(code);
    }

    fn ask_map(&mut self, input: &mut CallBytes<'_>) {
        let map = self.map;
        let from = input.number();
        let capacity = input.count();
        unsafe {
            match input.byte() % 8 {
                0 => {
                    let mut out: Box<[_]> = vec![nbdx_extent::default(); capacity].into();
                    let read = nbdx_map_read(map, from, out.as_mut_ptr(), capacity);
                    check(read, 0, capacity as isize);
                }
                1 => {
                    let mut out: Box<[_]> = vec![nbdx_action::default(); capacity].into();
                    let read = nbdx_map_actions(map, self.policy, from, out.as_mut_ptr(), capacity);
                    check(read, 0, capacity as isize);
                    let read = out.get(..usize::try_from(read).unwrap_or(0)).unwrap_or_default();
                    assert!(ends_and_starts(read).all(|(end, start)| end == start));
                }
                2 => {
                    let mut out: Box<[_]> = vec![nbdx_change::default(); capacity].into();
                    let read = nbdx_map_diff(map, self.other, from, out.as_mut_ptr(), capacity);
                    check(read, 0, capacity as isize);
                }
                3 => {
                    let mut out: Box<[_]> = vec![nbdx_total::default(); capacity].into();
                    check(nbdx_map_totals(map, out.as_mut_ptr(), capacity), 0, isize::MAX);
                }
                4 => {
                    let mut extent = nbdx_extent::default();
                    check_code(nbdx_map_get(map, from, &mut extent));
                    check_code(nbdx_map_covers(map, from, input.number()));
                }
                5 => {
                    let mut totals = nbdx_totals::default();
                    check_code(nbdx_map_action_totals(map, self.policy, &mut totals));
                }
                6 => {
                    let [mut a, mut b, mut c, mut d] = [0; 4];
                    check_code(nbdx_map_measure(map, &mut a, &mut b, &mut c, &mut d));
                    assert!(a <= b);
                }
                _ => core::mem::swap(&mut self.map, &mut self.other),
            }
        }
    }

    fn ask_plan(&mut self, input: &mut CallBytes<'_>) {
        let plan = self.plan;
        unsafe {
            match input.byte() % 8 {
                0 => check_code(nbdx_plan_max_copy(plan, input.number())),
                1 => check_code(nbdx_plan_max_zero(plan, input.number())),
                2 => check_code(nbdx_plan_join_gaps(plan, input.number())),
                3 => check_code(nbdx_plan_dirty_only(plan)),
                4 => check_code(nbdx_plan_resume(plan, input.number(), input.number())),
                5 => {
                    let [mut offset, mut size] = [0; 2];
                    check_code(nbdx_plan_position(plan, &mut offset, &mut size));
                    let mut totals = nbdx_totals::default();
                    check_code(nbdx_plan_totals(plan, &mut totals));
                }
                _ => {
                    let capacity = input.count();
                    let mut out: Box<[_]> = vec![nbdx_action::default(); capacity].into();
                    let read = nbdx_plan_read(plan, out.as_mut_ptr(), capacity);
                    check(read, 0, capacity as isize);
                    let read = out.get(..usize::try_from(read).unwrap_or(0)).unwrap_or_default();
                    assert!(ends_and_starts(read).all(|(end, start)| end <= start));
                }
            }
        }
    }
}

/// Calls the interface as the input says.
pub fn calls(data: &[u8]) {
    let mut world = World {
        options: null_mut(),
        survey: null_mut(),
        position: None,
        requests: Vec::new(),
        map: null_mut(),
        other: null_mut(),
        policy: null_mut(),
        plan: null_mut(),
    };
    let mut input = CallBytes(data);
    for _ in 0..CALLS {
        if input.0.is_empty() {
            break;
        }
        world.call(&mut input);
    }
}
