//! A complete case for a survey: a disk, the granted contexts, and all choices of the caller. And
//! the expected result.

use core::ops::Range;

use nbd_extents::wire::Form;
use nbd_extents::{Context, Contexts, ExportParams, Negotiated, Status, Survey, SurveyError, SurveyOptions};
use proptest::prelude::*;
use proptest::sample::Index;

use super::dense::Dense;
use super::server::{Seen, Server, Source};
use super::style::{Style, styles};

/// The order of the survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Together,
    BitmapFirst,
}

/// A context that the caller wants.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) context: Context,
    /// `None`: it is optional, and the server does not have it.
    pub(crate) flags: Option<Vec<u64>>,
}

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) size: usize,
    pub(crate) wants: Vec<Want>,
    pub(crate) order: Order,
    pub(crate) form: Form,
    pub(crate) min_block: usize,
    /// Replies end at multiples of this: `min_block`, or 1 for a server with odd cuts.
    pub(crate) grain: usize,
    pub(crate) range: Range<usize>,
    pub(crate) max_request: Option<u64>,
    pub(crate) budget: Option<usize>,
    pub(crate) one_extent: bool,
    pub(crate) writable: bool,
    pub(crate) in_flight: usize,
    pub(crate) join_details: u64,
    /// The order in which the replies to several requests continue.
    pub(crate) schedule: Vec<u8>,
    pub(crate) styles: Vec<Style>,
    /// The order in which the server grants, and its first id.
    pub(crate) granting: usize,
    pub(crate) first_id: u32,
}

impl Setup {
    /// The contexts that the caller wants, in its order.
    pub(crate) fn contexts(&self) -> Contexts {
        self.wants.iter().fold(Contexts::new(), |contexts, want| {
            let context = want.context.clone();
            if want.flags.is_some() { contexts.require(context) } else { contexts.optional(context) }.unwrap()
        })
    }

    /// The contexts of the server.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let mut bitmaps = 0;
        let mut sources = Vec::new();
        for (nth, want) in self.wants.iter().enumerate() {
            let id = self.first_id.wrapping_add(u32::try_from(nth).unwrap());
            let (context, bitmap) = (want.context.clone(), bitmaps);
            bitmaps += usize::from(matches!(context, Context::Bitmap(_)));
            sources.extend(want.flags.clone().map(|flags| Source { context, bitmap, id, flags }));
        }
        sources
    }

    pub(crate) fn server(&self) -> Server {
        Server {
            sources: self.sources(),
            form: self.form,
            min_block: self.min_block,
            max_request: self.max_request.unwrap_or(u64::MAX),
            grain: self.grain,
            styles: self.styles.clone(),
            snapshot_access: self.grain == self.min_block && self.join_details == 0,
            requests: 0,
            in_flight: if self.writable { 1 } else { self.in_flight },
            schedule: self.schedule.clone(),
            told: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// The granted contexts, in another order, with a name that nobody asked for.
    pub(crate) fn negotiated(&self) -> Negotiated {
        let sources = self.sources();
        let mut granted: Vec<_> = sources.iter().map(|s| (s.id, s.context.to_string())).collect();
        let count = granted.len();
        granted.rotate_left(self.granting % count);
        if self.granting % 2 == 1 {
            granted.reverse();
        }
        granted.push((0xffff_fffe, "x:not-asked-for".into()));
        self.contexts().negotiate(granted).unwrap()
    }

    pub(crate) fn options(&self) -> SurveyOptions {
        let export = ExportParams::new(self.size as u64, self.form).unwrap();
        // an announced minimum leaves the tail out of reach, which has tests of its own
        let block = u32::try_from(self.min_block).unwrap();
        let whole = self.size.is_multiple_of(self.min_block);
        let export = if whole { export.min_block(block) } else { export.assumed_block(block) }.unwrap();
        let range = self.range.start as u64..self.range.end as u64;
        let mut options = SurveyOptions::new(export.read_only(!self.writable)).range(range).unwrap();
        if let Some(bytes) = self.max_request {
            options = options.max_request(bytes);
        }
        if let Some(bytes) = self.budget {
            options = options.budget(bytes);
        }
        options = options.in_flight(self.in_flight).join_details(self.join_details);
        if self.one_extent {
            options = options.one_extent();
        }
        if self.writable {
            options = options.allow_writable();
        }
        options
    }

    pub(crate) fn survey(&self) -> Survey {
        self.survey_with(self.options()).unwrap()
    }

    /// The result for a writable export without the permission for it.
    pub(crate) fn options_without_permission(&self) -> Result<Survey, SurveyError> {
        let size = self.size as u64;
        self.survey_with(SurveyOptions::new(ExportParams::new(size, self.form)?))
    }

    pub(crate) fn survey_with(&self, options: SurveyOptions) -> Result<Survey, SurveyError> {
        match self.order {
            Order::Together => Survey::together(options, self.negotiated()),
            Order::BitmapFirst => {
                let (bitmaps, details) = self.negotiated().split();
                Survey::bitmap_first(options, bitmaps, details)
            }
        }
    }

    /// The expected status of each byte.
    pub(crate) fn truth(&self) -> Dense<Status> {
        let sources = self.sources();
        let at = |byte: usize| {
            let bitmaps = sources.iter().filter(|source| source.is_bitmap());
            let dirty = bitmaps.clone().any(|source| source.flags[byte] & 1 == 1);
            let asked = self.order == Order::Together || dirty;
            let told = sources.iter().filter(|source| asked || source.is_bitmap());
            told.fold(Status::UNKNOWN, |status, source| source.add(status, source.flags[byte]))
        };
        (0..self.size).map(|byte| self.range.contains(&byte).then(|| at(byte))).collect()
    }

    /// A budget with which no survey may fail: the largest reply about one block in every context
    /// fits. A server splits a block into bytes at worst, and may add one descriptor.
    pub(crate) fn enough(&self) -> usize {
        self.reply_about(self.min_block)
    }

    /// The largest possible reply.
    pub(crate) fn largest_reply(&self) -> usize {
        self.reply_about(self.size)
    }

    fn reply_about(&self, bytes: usize) -> usize {
        let chunk = self.form.header_size() + (bytes + 1) * self.form.descriptor_size();
        chunk * self.sources().len()
    }
}

/// Flags of each byte: runs whose lengths are multiples of `unit`, over and over.
fn flags_of(size: usize, unit: usize, runs: &[(u8, u64)]) -> Vec<u64> {
    let run = |&(length, flags): &(u8, u64)| core::iter::repeat_n(flags, usize::from(length) * unit);
    runs.iter().cycle().flat_map(run).take(size).collect()
}

fn runs() -> impl Strategy<Value = Vec<(u8, u64)>> {
    prop::collection::vec((1_u8..12, 0_u64..4), 1..10)
}

/// The disk of one case: up to `max` bytes.
fn wants(size: usize, block: usize) -> impl Strategy<Value = Vec<Want>> {
    let context = move || {
        let present = prop::bool::weighted(0.85);
        (runs(), prop::bool::ANY, present).prop_map(move |(runs, whole, present)| {
            present.then(|| flags_of(size, if whole { block } else { 1 }, &runs))
        })
    };
    let bitmaps = prop::collection::vec(context(), 1..4);
    (context(), prop::option::of(context()), bitmaps, 0_usize..4).prop_map(
        |(allocation, depth, bitmaps, place)| {
            let mut wants = vec![Want { context: Context::Allocation, flags: allocation }];
            wants.extend(depth.map(|flags| Want { context: Context::Depth, flags }));
            wants.extend(
                bitmaps
                    .into_iter()
                    .enumerate()
                    .map(|(n, flags)| Want { context: Context::bitmap(format!("b{n}")), flags }),
            );
            let count = wants.len();
            wants.rotate_left(place % count);
            wants
        },
    )
}

/// True if the server's contexts allow this order.
fn possible(order: Order, wants: &[Want]) -> bool {
    let mut there = wants.iter().filter(|want| want.flags.is_some());
    let is_bitmap = |want: &&Want| matches!(want.context, Context::Bitmap(_));
    match order {
        Order::Together => there.next().is_some(),
        Order::BitmapFirst => there.clone().any(|w| is_bitmap(&w)) && there.any(|w| !is_bitmap(&w)),
    }
}

/// The number of requests in flight, the gaps over which details are joined, and the order of
/// replies.
fn flights() -> impl Strategy<Value = (usize, u64, Vec<u8>)> {
    let in_flight = prop_oneof![2 => Just(1), 3 => 2_usize..7, 1 => Just(40)];
    let join = prop_oneof![3 => Just(0), 1 => 1_u64..60];
    (in_flight, join, prop::collection::vec(any::<u8>(), 1..12))
}

/// Any case: any disk, any cuts, any order, any range. The server's replies end at whole blocks,
/// unless `odd`.
pub(crate) fn setups(odd: bool) -> impl Strategy<Value = Setup> {
    let geometry = (1_usize..24, prop::sample::select(vec![1_usize, 8, 16]), 0_usize..16);
    geometry
        .prop_flat_map(move |(blocks, block, tail)| {
            let size = (blocks * 16 + tail % 16).max(1);
            let caller = (
                prop::sample::select(vec![Order::Together, Order::BitmapFirst]),
                prop::sample::select(vec![Form::Compact, Form::Extended]),
                prop::option::weighted(0.4, (any::<Index>(), any::<Index>())),
                prop::option::weighted(0.5, 0_u64..100),
                prop::option::weighted(0.4, prop_oneof![4_usize..200, 200_usize..2000]),
                prop::bool::weighted(0.1),
            );
            let server = (styles(), 0_usize..8, any::<u32>());
            (Just((size, block)), wants(size, block), caller, server, flights())
        })
        .prop_map(move |((size, block), wants, caller, (styles, granting, first_id), flight)| {
            let (order, form, range, max_request, budget, one_extent) = caller;
            let range = range.map_or(0..size, |(a, b)| {
                let (a, b) = (a.index(size + 1), b.index(size + 1));
                a.min(b)..a.max(b)
            });
            let (in_flight, join_details, schedule) = flight;
            let grain = if odd { 1 } else { block };
            let first_id = first_id % 0xffff_0000;
            Setup {
                size,
                wants,
                order,
                form,
                min_block: block,
                grain,
                range,
                max_request,
                budget,
                one_extent,
                writable: false,
                in_flight,
                join_details,
                schedule,
                styles,
                granting,
                first_id,
            }
        })
        .prop_filter("the server has too few contexts", |setup| possible(setup.order, &setup.wants))
        .prop_map(without_odd_single_extents)
}

/// With one extent per reply, a reply ends where the disk changes: within a block, unless the disk
/// consists of whole blocks.
fn without_odd_single_extents(mut setup: Setup) -> Setup {
    let (grain, size) = (setup.grain, setup.size);
    let whole = |flags: &Vec<u64>| (0..size).all(|at| at.is_multiple_of(grain) || flags[at] == flags[at - 1]);
    setup.one_extent &= setup.wants.iter().filter_map(|want| want.flags.as_ref()).all(whole);
    setup
}
