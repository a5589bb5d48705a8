//! Tests that need the inside: every function of the header stops a panic, and the numbers of the header
//! are those of the code. The behaviour in C is tested in C, in `tests/`.

use core::ffi::{CStr, c_char};
use core::mem::offset_of;
use core::ptr::{null, null_mut};

use super::layout::*;
use super::{border, library, map, options, plan, policy, survey};

use peak_alloc::PeakAlloc;

/// Counts for `random_calls`; the few other tests of this program hold some kilobytes beside it.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
/// The most bytes that 200 calls hold, in lists of at most eight entries.
const MOST_HELD: usize = 1 << 20;

const HEADER: &str = include_str!("../include/nbd_extents.h");

/// Makes every guarded call panic while it lives.
struct Faults;

impl Faults {
    fn on() -> Self {
        border::FAULT.set(true);
        Self
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        border::FAULT.set(false);
    }
}

fn text(message: *const c_char) -> String {
    // SAFETY: every message of the library is a string with an end
    unsafe { CStr::from_ptr(message) }.to_str().unwrap().to_owned()
}

/// One object of each kind, as C would make them.
struct Objects {
    options: *mut options::nbdx_options,
    survey: *mut survey::nbdx_survey,
    policy: *mut policy::nbdx_policy,
    map: *mut map::nbdx_map,
    plan: *mut plan::nbdx_plan,
}

impl Objects {
    fn new() -> Self {
        let context = c"base:allocation".as_ptr();
        // SAFETY: the pointers are valid for the counts
        unsafe {
            let policy = policy::nbdx_policy_full(0);
            let map = map::nbdx_map_new(0, 0);
            Self {
                options: options::nbdx_options_new(4096),
                survey: survey::nbdx_survey_new(4096, &context, 1),
                policy,
                map,
                plan: plan::nbdx_plan_new(map, policy, 512),
            }
        }
    }

    fn free(self) {
        // SAFETY: each was made by the library and is used no more
        unsafe {
            options::nbdx_options_free(self.options);
            survey::nbdx_survey_free(self.survey);
            policy::nbdx_policy_free(self.policy);
            map::nbdx_map_free(self.map);
            plan::nbdx_plan_free(self.plan);
        }
    }
}

/// The return value of a function, as the guard decides it.
enum Returned {
    Number(isize),
    Pointer(*const u8),
    Message(*const c_char),
    Nothing,
}

/// Every function of the header, called on objects that are whole. `nbdx_version` has nothing that could
/// panic: it returns a constant.
fn call(name: &str, o: &Objects) -> Returned {
    use Returned::*;
    let context = c"base:allocation".as_ptr();
    let names = &raw const context;
    let (mut a, mut b, mut c, mut d, mut bits) = (0, 0, 0, 0, 0);
    let (mut extent, mut action, mut change) = Default::default();
    let (mut total, mut totals, mut stats) = Default::default();
    let (mut forgiven, mut point) = (nbdx_forgiven::default(), nbdx_resume_point::default());
    let entry = nbdx_entry { length: 4096, flags: 0 };
    let pair = [4096_u32, 0];
    // SAFETY: the pointers are valid for the counts, and the objects are alive
    unsafe {
        match name {
            "nbdx_version" => Message(library::nbdx_version()),
            "nbdx_last_error" => Message(library::nbdx_last_error()),
            "nbdx_survey_new" => Pointer(survey::nbdx_survey_new(4096, names, 1).cast()),
            "nbdx_survey_with_options" => Pointer(survey::nbdx_survey_with_options(o.options).cast()),
            "nbdx_survey_next_request" => {
                Number(survey::nbdx_survey_next_request(o.survey, &mut a, &mut b, &mut c) as isize)
            }
            "nbdx_survey_extents32" => {
                Number(survey::nbdx_survey_extents32(o.survey, 1, context, 0, pair.as_ptr(), 2) as isize)
            }
            "nbdx_survey_extents64" => {
                Number(survey::nbdx_survey_extents64(o.survey, 1, context, 0, (&raw const entry).cast(), 1)
                    as isize)
            }
            "nbdx_survey_reply_done" => Number(survey::nbdx_survey_reply_done(o.survey, 1) as isize),
            "nbdx_survey_reply_failed" => Number(survey::nbdx_survey_reply_failed(o.survey, 1) as isize),
            "nbdx_survey_read" => Number(survey::nbdx_survey_read(o.survey, &mut extent, 1)),
            "nbdx_survey_complete" => Number(survey::nbdx_survey_complete(o.survey) as isize),
            "nbdx_survey_error" => Message(survey::nbdx_survey_error(o.survey)),
            "nbdx_survey_free" => {
                survey::nbdx_survey_free(survey::nbdx_survey_new(4096, names, 1));
                Nothing
            }
            "nbdx_survey_request_topic" => Number(survey::nbdx_survey_request_topic(o.survey, 1) as isize),
            "nbdx_survey_bitmaps" => Number(survey::nbdx_survey_bitmaps(o.survey, &mut bits) as isize),
            "nbdx_survey_resume_point" => {
                Number(survey::nbdx_survey_resume_point(o.survey, &mut point) as isize)
            }
            "nbdx_survey_stats" => Number(survey::nbdx_survey_stats(o.survey, &mut stats) as isize),
            "nbdx_survey_forgiven" => Number(survey::nbdx_survey_forgiven(o.survey, &mut forgiven, 1)),
            "nbdx_options_new" => Pointer(options::nbdx_options_new(4096).cast()),
            "nbdx_options_require" => Number(options::nbdx_options_require(o.options, context) as isize),
            "nbdx_options_optional" => Number(options::nbdx_options_optional(o.options, context, 1) as isize),
            "nbdx_options_writable" => Number(options::nbdx_options_writable(o.options) as isize),
            "nbdx_options_bitmap_first" => Number(options::nbdx_options_bitmap_first(o.options) as isize),
            "nbdx_options_block_size" => Number(options::nbdx_options_block_size(o.options, 512) as isize),
            "nbdx_options_range" => Number(options::nbdx_options_range(o.options, 0, 512) as isize),
            "nbdx_options_resume" => {
                point = nbdx_resume_point { offset: 0, end: 4096, export_size: 4096 };
                Number(options::nbdx_options_resume(o.options, &raw const point) as isize)
            }
            "nbdx_options_max_request" => Number(options::nbdx_options_max_request(o.options, 512) as isize),
            "nbdx_options_in_flight" => Number(options::nbdx_options_in_flight(o.options, 1) as isize),
            "nbdx_options_budget" => Number(options::nbdx_options_budget(o.options, 512) as isize),
            "nbdx_options_max_entries" => Number(options::nbdx_options_max_entries(o.options, 512) as isize),
            "nbdx_options_strict" => Number(options::nbdx_options_strict(o.options) as isize),
            "nbdx_options_one_extent" => Number(options::nbdx_options_one_extent(o.options) as isize),
            "nbdx_options_error" => Message(options::nbdx_options_error(o.options)),
            "nbdx_options_free" => {
                options::nbdx_options_free(options::nbdx_options_new(4096));
                Nothing
            }
            "nbdx_policy_full" => Pointer(policy::nbdx_policy_full(1).cast()),
            "nbdx_policy_incremental" => Pointer(policy::nbdx_policy_incremental(512, 512, 1, 0).cast()),
            "nbdx_policy_single_layer" => Pointer(policy::nbdx_policy_single_layer().cast()),
            "nbdx_policy_zeroes" => Number(policy::nbdx_policy_zeroes(o.policy, 1) as isize),
            "nbdx_policy_error" => Message(policy::nbdx_policy_error(o.policy)),
            "nbdx_policy_free" => {
                policy::nbdx_policy_free(policy::nbdx_policy_full(0));
                Nothing
            }
            "nbdx_map_new" => Pointer(map::nbdx_map_new(0, 0).cast()),
            "nbdx_map_read_survey" => Number(map::nbdx_map_read_survey(o.map, o.survey)),
            "nbdx_map_append" => {
                extent = nbdx_extent { length: 512, ..nbdx_extent::default() };
                Number(map::nbdx_map_append(o.map, &raw const extent, 1) as isize)
            }
            "nbdx_map_covers" => Number(map::nbdx_map_covers(o.map, 0, 0) as isize),
            "nbdx_map_get" => Number(map::nbdx_map_get(o.map, 0, &mut extent) as isize),
            "nbdx_map_read" => Number(map::nbdx_map_read(o.map, 0, &mut extent, 1)),
            "nbdx_map_actions" => Number(map::nbdx_map_actions(o.map, o.policy, 0, &mut action, 1)),
            "nbdx_map_action_totals" => {
                Number(map::nbdx_map_action_totals(o.map, o.policy, &mut totals) as isize)
            }
            "nbdx_map_totals" => Number(map::nbdx_map_totals(o.map, &mut total, 1)),
            "nbdx_map_diff" => Number(map::nbdx_map_diff(o.map, o.map, 0, &mut change, 1)),
            "nbdx_map_measure" => {
                Number(map::nbdx_map_measure(o.map, &mut a, &mut b, &mut c, &mut d) as isize)
            }
            "nbdx_map_error" => Message(map::nbdx_map_error(o.map)),
            "nbdx_map_free" => {
                map::nbdx_map_free(map::nbdx_map_new(0, 0));
                Nothing
            }
            "nbdx_plan_new" => Pointer(plan::nbdx_plan_new(o.map, o.policy, 512).cast()),
            "nbdx_plan_max_copy" => Number(plan::nbdx_plan_max_copy(o.plan, 512) as isize),
            "nbdx_plan_max_zero" => Number(plan::nbdx_plan_max_zero(o.plan, 512) as isize),
            "nbdx_plan_join_gaps" => Number(plan::nbdx_plan_join_gaps(o.plan, 512) as isize),
            "nbdx_plan_dirty_only" => Number(plan::nbdx_plan_dirty_only(o.plan) as isize),
            "nbdx_plan_resume" => Number(plan::nbdx_plan_resume(o.plan, 0, 0) as isize),
            "nbdx_plan_read" => Number(plan::nbdx_plan_read(o.plan, &mut action, 1)),
            "nbdx_plan_position" => Number(plan::nbdx_plan_position(o.plan, &mut a, &mut b) as isize),
            "nbdx_plan_totals" => Number(plan::nbdx_plan_totals(o.plan, &mut totals) as isize),
            "nbdx_plan_error" => Message(plan::nbdx_plan_error(o.plan)),
            "nbdx_plan_free" => {
                plan::nbdx_plan_free(plan::nbdx_plan_new(o.map, o.policy, 512));
                Nothing
            }
            other => panic!("{other} stands in the header; this test does not know it"),
        }
    }
}

/// The functions that the header declares.
fn declared() -> Vec<&'static str> {
    let code = HEADER.split_once("#ifndef NBD_EXTENTS_H").unwrap().1;
    let starts = |line: &&str| !line.starts_with([' ', '/', '#', '}', '*']);
    let name = |line: &'static str| {
        let before = line.split_once('(')?.0;
        Some(before.rsplit([' ', '*']).next().unwrap())
    };
    code.lines().filter(starts).filter_map(name).filter(|name| name.starts_with("nbdx_")).collect()
}

#[test]
fn every_entry_is_guarded() {
    let names = declared();
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        // without the fault the call does not fail by a guard, so that what fails below is the guard
        let whole = Objects::new();
        call(name, &whole);
        assert!(!text(library::nbdx_last_error()).contains("fault"), "{name}");
        whole.free();

        let objects = Objects::new();
        let returned = {
            let _faults = Faults::on();
            call(name, &objects)
        };
        let fault = "a fault in nbd_extents, please report it: the test asks for a panic";
        match returned {
            Returned::Number(number) => {
                assert_eq!(number, -1, "{name}");
                assert_eq!(text(library::nbdx_last_error()), fault, "{name}");
                // the object fails from now on, and can be freed
                assert!(matches!(call(name, &objects), Returned::Number(-1)), "{name}");
                let message = text(library::nbdx_last_error());
                assert!(message.ends_with("hit a fault in nbd_extents: free it"), "{name}: {message}");
            }
            Returned::Pointer(pointer) => {
                assert!(pointer.is_null(), "{name}");
                assert_eq!(text(library::nbdx_last_error()), fault, "{name}");
            }
            Returned::Message(message) => {
                assert!(["", env!("CARGO_PKG_VERSION")].contains(&&*text(message)), "{name}");
            }
            Returned::Nothing => {}
        }
        objects.free();
    }
}

/// The numbers of `#define NBDX_...`.
#[test]
fn the_header_has_the_numbers_of_the_code() {
    let numbers = [
        ("NBDX_DIRTY", i64::from(NBDX_DIRTY)),
        ("NBDX_ZERO", NBDX_ZERO.into()),
        ("NBDX_HOLE", NBDX_HOLE.into()),
        ("NBDX_DIRTY_KNOWN", NBDX_DIRTY_KNOWN.into()),
        ("NBDX_ZERO_KNOWN", NBDX_ZERO_KNOWN.into()),
        ("NBDX_HOLE_KNOWN", NBDX_HOLE_KNOWN.into()),
        ("NBDX_DEPTH_KNOWN", NBDX_DEPTH_KNOWN.into()),
        ("NBDX_TOPIC_ALL", NBDX_TOPIC_ALL.into()),
        ("NBDX_TOPIC_BITMAPS", NBDX_TOPIC_BITMAPS.into()),
        ("NBDX_TOPIC_DETAILS", NBDX_TOPIC_DETAILS.into()),
        ("NBDX_COPY", NBDX_COPY.into()),
        ("NBDX_WRITE_ZEROES", NBDX_WRITE_ZEROES.into()),
        ("NBDX_SKIP", NBDX_SKIP.into()),
        ("NBDX_ABSENT", NBDX_ABSENT.into()),
        ("NBDX_MAY_UNMAP", NBDX_MAY_UNMAP.into()),
        ("NBDX_ZEROES_MAY_UNMAP", NBDX_ZEROES_MAY_UNMAP.into()),
        ("NBDX_ZEROES_KEEP_HOLES", NBDX_ZEROES_KEEP_HOLES.into()),
        ("NBDX_ZEROES_ALLOCATE", NBDX_ZEROES_ALLOCATE.into()),
        ("NBDX_ZEROES_AS_DATA", NBDX_ZEROES_AS_DATA.into()),
    ];
    let define = |line: &'static str| {
        let mut words = line.strip_prefix("#define NBDX_")?.split_whitespace();
        Some((words.next()?, words.next()?.parse::<i64>().unwrap()))
    };
    let defined: Vec<_> = HEADER.lines().filter_map(define).collect();
    let expected: Vec<_> =
        numbers.iter().map(|&(name, number)| (name.strip_prefix("NBDX_").unwrap(), number)).collect();
    assert_eq!(defined, expected);
}

/// The layout that the header promises by its order of fields, and libnbd's for an entry.
#[test]
fn structs_have_no_hidden_bytes() {
    assert_eq!((size_of::<nbdx_extent>(), offset_of!(nbdx_extent, reserved)), (32, 28));
    assert_eq!((size_of::<nbdx_entry>(), align_of::<nbdx_entry>()), (16, 8));
    assert_eq!((size_of::<nbdx_action>(), size_of::<nbdx_change>()), (24, 48));
    assert_eq!((size_of::<nbdx_total>(), size_of::<nbdx_totals>()), (32, 48));
    assert_eq!((size_of::<nbdx_stats>(), size_of::<nbdx_resume_point>()), (80, 24));
}

#[test]
fn messages_of_null_objects_are_messages() {
    // SAFETY: NULL is what the functions must bear
    let messages = unsafe {
        [
            survey::nbdx_survey_error(null()),
            options::nbdx_options_error(null()),
            policy::nbdx_policy_error(null()),
            map::nbdx_map_error(null()),
            plan::nbdx_plan_error(null()),
        ]
    };
    for message in messages {
        assert_eq!(text(message), "the object is NULL");
    }
    // SAFETY: NULL is what the functions must bear
    unsafe {
        survey::nbdx_survey_free(null_mut());
        options::nbdx_options_free(null_mut());
        policy::nbdx_policy_free(null_mut());
        map::nbdx_map_free(null_mut());
        plan::nbdx_plan_free(null_mut());
    }
}

/// The fuzz target over its corpus, and over inputs made from it, while an allocator counts: objects
/// hold memory for what they were given, not for the numbers that a call claims.
#[test]
fn random_calls() {
    nbd_extents_fuzz_bodies::replay::replay("c_interface", |data| {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        super::calls::calls(data);
        let held = MEMORY.peak_usage().saturating_sub(before);
        assert!(held <= MOST_HELD, "{held} bytes for an input of {}", data.len());
    });
}

/// A call that uses two objects and panics halfway leaves neither to be relied on.
#[test]
fn a_panic_breaks_the_second_object_too() {
    let objects = Objects::new();
    // SAFETY: the object is alive, and nothing else uses it
    let survey = unsafe { &mut *objects.survey };
    let _ = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
        border::suspect(survey, |_| panic!("the test asks for a panic"));
    }));
    // SAFETY: as above
    unsafe {
        assert_eq!(survey::nbdx_survey_complete(objects.survey), -1);
        assert!(text(survey::nbdx_survey_error(objects.survey)).contains("free it"));
    }
    objects.free();
}

/// The header: any thread may use any object, one at a time.
#[test]
fn objects_move_between_threads() {
    const fn moves<T: Send>() {}
    moves::<options::nbdx_options>();
    moves::<survey::nbdx_survey>();
    moves::<policy::nbdx_policy>();
    moves::<map::nbdx_map>();
    moves::<plan::nbdx_plan>();
}
