//! A disk with more extents than one reply of qemu holds (131072 a context): what lies past the end
//! of the shorter context's answer must not be lost. A client that goes on from the longer one
//! loses the second of the two dirty ranges here.

mod support;

use core::ops::Range;

use serde_json::Value;
use support::run::map;
use testkit::image::{KIB, MIB, Recipe, Step};
use testkit::model::{dirty_extent, join, zero_extent};
use testkit::server::{Server, folder};
use testkit::tools;

const CLUSTER: u64 = 4 * KIB;
const CLUSTERS: u64 = 1200 * MIB / CLUSTER;
const WRITTEN: u64 = 300_000;
const GRANULARITY: u64 = 64 * KIB;
const DIRTY: [u64; 2] = [MIB, 1100 * MIB];

/// Every other cluster is written; after that a bitmap, and two clusters written once more.
fn recipe() -> Recipe {
    let again = DIRTY.map(|at| Step::Write { at, length: CLUSTER });
    let mut steps: Vec<Step> = (0..WRITTEN)
        .step_by(2)
        .map(|cluster| Step::Write { at: cluster * CLUSTER, length: CLUSTER })
        .collect();
    steps.push(Step::Bitmap { name: "b0", granularity: GRANULARITY });
    steps.extend(again);
    Recipe::qcow2(CLUSTER, CLUSTERS * CLUSTER, steps)
}

fn clusters() -> impl Iterator<Item = Range<u64>> {
    (0..CLUSTERS).map(|cluster| cluster * CLUSTER..(cluster + 1) * CLUSTER)
}

fn is_zero(cluster: &Range<u64>) -> bool {
    let number = cluster.start / CLUSTER;
    number % 2 == 1 || number >= WRITTEN
}

fn is_dirty(cluster: &Range<u64>) -> bool {
    DIRTY.iter().any(|at| (*at..at + GRANULARITY).contains(&cluster.start))
}

fn zero_list() -> Vec<Value> {
    let known = clusters().map(|cluster| (cluster.clone(), (is_zero(&cluster), is_zero(&cluster))));
    join(known).into_iter().map(zero_extent).collect()
}

fn dirty_list(bitmap_first: bool) -> Vec<Value> {
    let known = clusters().map(|cluster| {
        let dirty = is_dirty(&cluster);
        let zero = is_zero(&cluster) && (dirty || !bitmap_first);
        (cluster, (dirty, zero))
    });
    join(known).into_iter().map(dirty_extent).collect()
}

#[test]
fn both_dirty_ranges_are_there_when_a_reply_cannot_hold_the_disk() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let server = Server::qemu_nbd(&recipe().make(folder.path()), &["b0"]);
    let uri = server.uri("");

    let together = dirty_list(false);
    assert!(together.len() > 2 * 131_072, "more than two replies: {}", together.len());
    map(&[&uri, "--json", "--bitmap", "b0"]).prints(&together);
    map(&[&uri, "--json", "--bitmap", "b0", "--compact"]).prints(&together);

    let first = dirty_list(true);
    map(&[&uri, "--json", "--bitmap", "b0", "--bitmap-first"]).prints(&first);
    map(&[&uri, "--json", "--bitmap", "b0", "--bitmap-first", "--compact"]).prints(&first);

    map(&[&uri, "--json"]).prints(&zero_list());
}
