//! Checks a whole disk: every way to ask, over ranges of every kind, against the model.

use core::ops::Range;

use super::run::{Run, map};
use testkit::image::MIB;
use testkit::model::{Model, SurveyOrder};
use testkit::random::Rng;
use testkit::server::Server;

/// Headers: what the server offers at best, or the compact ones of old.
const HEADERS: [&[&str]; 2] = [&[], &["--compact"]];

const BITMAPS: [&str; 2] = ["b0", "b1"];

/// An export, and what the model knows of it.
#[derive(Debug)]
pub(crate) struct Disk<'a> {
    pub(crate) server: &'a Server,
    pub(crate) export: &'a str,
    pub(crate) model: Model,
}

impl Disk<'_> {
    /// Without bitmaps, with one, with the other, and with both, in both orders and with both
    /// headers.
    pub(crate) fn check_all(&self, seed: u64) {
        for range in ranges(self.model.size(), seed) {
            self.check_zero(&range);
            for bitmaps in [&[0][..], &[1], &[0, 1]] {
                self.check_dirty(&range, bitmaps, SurveyOrder::Together);
                self.check_dirty(&range, bitmaps, SurveyOrder::BitmapFirst);
            }
        }
    }

    /// A server that keeps every MUST of the protocol loses nothing by being taken at its word.
    pub(crate) fn check_strict(&self) {
        let whole = 0..self.model.size();
        let zero = self.model.zero_list(&whole);
        self.run(&whole, &["--strict"]).prints(&zero);
        self.run(&whole, &["--strict", "--compact"]).prints(&zero);
        let dirty = self.model.dirty_list(&whole, &[0, 1], SurveyOrder::Together);
        self.run(&whole, &["--strict", "--bitmap", "b0", "--bitmap", "b1"]).prints(&dirty);
    }

    /// Without bitmaps, for servers that have none.
    pub(crate) fn check_zero_everywhere(&self, seed: u64) {
        for range in ranges(self.model.size(), seed) {
            self.check_zero(&range);
        }
    }

    pub(crate) fn check_zero(&self, range: &Range<u64>) {
        let before = self.model.zero_list(range);
        for headers in HEADERS {
            let run = self.run(range, headers);
            if run.list() != before {
                // what a file system holds of a raw file may settle under the server, which then
                // answers otherwise than it did: asked again, the model has to say what the run
                // said
                run.prints(&Model::ask(self.server.socket(), self.export, &[]).zero_list(range));
            }
        }
    }

    pub(crate) fn check_dirty(&self, range: &Range<u64>, bitmaps: &[usize], order: SurveyOrder) {
        let expected = self.model.dirty_list(range, bitmaps, order);
        for headers in HEADERS {
            let mut options = headers.to_vec();
            options.extend(name_bitmaps(bitmaps));
            if order == SurveyOrder::BitmapFirst {
                options.push("--bitmap-first");
            }
            self.run(range, &options).prints(&expected);
        }
    }

    fn run(&self, range: &Range<u64>, options: &[&str]) -> Run {
        let uri = self.server.uri(self.export);
        let (offset, length) = (range.start.to_string(), (range.end - range.start).to_string());
        let mut arguments = vec![uri.as_str(), "--json"];
        if *range != (0..self.model.size()) {
            arguments.extend(["--offset", &offset, "--length", &length]);
        }
        arguments.extend(options);
        map(&arguments)
    }
}

fn name_bitmaps(bitmaps: &[usize]) -> Vec<&'static str> {
    bitmaps.iter().flat_map(|bitmap| ["--bitmap", BITMAPS[*bitmap]]).collect()
}

/// The whole disk, and parts of it: aligned, unaligned, a single byte, the tail, and two by chance.
fn ranges(size: u64, seed: u64) -> Vec<Range<u64>> {
    let middle = size / 2;
    let mut ranges = vec![
        0..size,
        MIB.min(middle)..(3 * MIB).min(size),
        1..size - 1,
        middle + 1..middle + 2,
        size - 777..size,
    ];
    let mut rng = Rng::new(seed);
    for _ in 0..2 {
        let start = rng.below(size);
        ranges.push(start..start + 1 + rng.below(size - start));
    }
    ranges
}
