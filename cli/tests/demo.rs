//! The first thing that a newcomer sees: the map that ships with the crate. It must be the map of the
//! captured replies, whichever form they came in, and no script may get it by mistake.

mod support;

use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::{parse_compact, parse_extended};
use nbd_extents::{Allocation, Dirtiness, Extent, StreamError};
use serde_json::{Value, json};
use support::run::map;

const COMPACT: &str = include_str!("../demo/compact.hex");
const EXTENDED: &str = include_str!("../demo/extended.hex");

/// The answer of ovirt-imageio for this disk: start, length, dirty, zero.
const IMAGEIO: [(u64, u64, bool, bool); 8] = [
    (0, 1_048_576, false, false),
    (1_048_576, 65_536, true, false),
    (1_114_112, 983_040, false, true),
    (2_097_152, 1_048_576, true, true),
    (3_145_728, 1_048_576, false, true),
    (4_194_304, 524_288, true, true),
    (4_718_592, 524_288, false, false),
    (5_242_880, 1_048_576, false, true),
];

/// The payloads of a capture: allocation, depth, bitmap.
fn payloads(capture: &str) -> Vec<Vec<u8>> {
    let hex = capture.lines().filter_map(|line| line.strip_prefix("payload "));
    hex.map(|hex| {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    })
    .collect()
}

/// Merges the flags of allocation and bitmap.
fn merge<A, B>(allocation: A, bitmap: B) -> Vec<(u64, u64, bool, bool)>
where
    A: ExtentStream<Status = u64, Error = StreamError>,
    B: ExtentStream<Status = u64, Error = StreamError>,
{
    let zero = allocation.map_status(Allocation::from_flags);
    let dirty = bitmap.map_status(Dirtiness::from_flags);
    let merged = zero.merge(dirty, |zero, dirty| (dirty.is_dirty(), zero.is_zero())).coalesce();
    let row = |extent: Extent<(bool, bool)>| {
        (extent.start(), extent.length(), extent.status().0, extent.status().1)
    };
    merged.collect_vec().unwrap().into_iter().map(row).collect()
}

#[test]
fn the_demo_prints_imageios_list() {
    let expected: Vec<Value> = IMAGEIO
        .iter()
        .map(|(start, length, dirty, zero)| {
            json!({"start": start, "length": length, "dirty": dirty, "zero": zero})
        })
        .collect();
    map(&["--demo", "--json"]).prints(&expected);
}

#[test]
fn what_a_backup_does_with_the_demos_disk() {
    let rows = [
        (0, 1_048_576, "skip"),
        (1_048_576, 65_536, "copy"),
        (1_114_112, 983_040, "skip"),
        (2_097_152, 1_048_576, "zero"),
        (3_145_728, 1_048_576, "skip"),
        (4_194_304, 524_288, "zero"),
        (4_718_592, 1_572_864, "skip"),
    ];
    let rows =
        rows.map(|(start, length, action)| json!({"start": start, "length": length, "action": action}));
    map(&["--demo", "--actions", "--json"]).prints(&rows);
    let totals = json!({"copy": 65_536, "zero": 1_572_864, "skip": 4_653_056, "size": 6_291_456});
    assert_eq!(map(&["--demo", "--totals", "--json"]).json(), totals);
    let lines = map(&["--demo", "--totals"]).stdout;
    let words: Vec<_> = lines.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(words, ["copy", "zero", "skip", "size"]);
    map(&["--demo", "--totals", "--actions"]).fails(2);
}

#[test]
fn both_captures_merge_to_the_same_map() {
    let [compact, extended] = [COMPACT, EXTENDED].map(payloads);
    let compact: Vec<_> = compact.iter().map(|payload| parse_compact(payload).unwrap()).collect();
    let extended: Vec<_> = extended.iter().map(|payload| parse_extended(payload).unwrap()).collect();
    let from_compact = merge(place(compact[0].descriptors(), 0), place(compact[2].descriptors(), 0));
    let from_extended = merge(place(extended[0].descriptors(), 0), place(extended[2].descriptors(), 0));
    assert_eq!(from_compact, IMAGEIO);
    assert_eq!(from_extended, IMAGEIO);
}

#[test]
fn the_picture_and_a_word_on_where_it_comes_from() {
    let run = map(&["--demo"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("ship with the program"), "{run}");
    let strip = run.stdout.lines().find(|line| line.starts_with('|')).expect("a strip");
    assert_eq!(strip.len(), 80, "as wide as a terminal that is not there");
    assert!(["#", "0", "=", "."].iter().all(|mark| strip.contains(mark)), "{strip}");
    assert!(!run.stdout.contains('\x1b'), "colour only on a terminal: {run}");
}

#[test]
fn the_demo_is_only_had_by_asking_for_it() {
    for arguments in
        [&[][..], &["--json"], &["--bitmap", "b0"], &["", "--json"], &["--demo", "--bitmap-first"]]
    {
        map(arguments).fails(2);
    }
    map(&["--demo", "nbd://localhost"]).fails(2);
}
