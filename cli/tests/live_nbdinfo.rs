//! `map --format nbdinfo` prints what nbdinfo prints of the same export, to the byte: `nbdinfo
//! --map --json`, and with `--totals` what `nbdinfo --map --totals --json` does.
#![cfg(unix)]

mod support;

use core::time::Duration;
use std::process::Command;

use support::run::map;
use testkit::command::succeed;
use testkit::image::{KIB, MIB, Recipe, Step};
use testkit::server::{Server, folder};
use testkit::{random, tools};

const BITMAPS: [&str; 2] = ["b0", "b1"];

fn nbdinfo(uri: &str, options: &[&str]) -> String {
    let mut nbdinfo = Command::new("nbdinfo");
    succeed(nbdinfo.args(options).args(["--json", uri]), "", Duration::from_secs(60)).stdout
}

/// Compares the map and the totals of the allocation and of each of these bitmaps, with both kinds
/// of headers.
fn check(uri: &str, bitmaps: &[&str]) {
    for totals in [&[][..], &["--totals"]] {
        for headers in [&[][..], &["--compact"]] {
            let ours = |more: &[&str]| {
                let run = map(&[&[uri, "--format", "nbdinfo"], totals, headers, more].concat());
                assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run}");
                run.stdout
            };
            assert_eq!(ours(&[]), nbdinfo(uri, &[&["--map"], totals].concat()), "{totals:?} {headers:?}");
            for name in bitmaps {
                let context = format!("--map=qemu:dirty-bitmap:{name}");
                let theirs = nbdinfo(uri, &[&[context.as_str()], totals].concat());
                assert_eq!(ours(&["--bitmap", name]), theirs, "{name} {totals:?} {headers:?}");
            }
        }
    }
}

#[test]
fn random_disks() {
    if !tools::require_qemu() || !tools::require(&["nbdinfo"]) {
        return;
    }
    for seed in 0..6 {
        let folder = folder();
        let odd = seed % 2 * 512;
        let recipe = match seed {
            0..=3 => random::qcow2(seed, 4 * KIB, 4 * MIB + odd),
            _ => random::backed(seed, 64 * KIB, 6 * MIB + odd, 3 * MIB),
        };
        let server = Server::qemu_nbd(&recipe.make(folder.path()), &BITMAPS);
        check(&server.uri(""), &BITMAPS);
    }
}

#[test]
fn disks_of_one_extent() {
    if !tools::require_qemu() || !tools::require(&["nbdinfo"]) {
        return;
    }
    for steps in
        [vec![], vec![Step::Write { at: 0, length: 2 * MIB }], vec![Step::Zero { at: 0, length: 2 * MIB }]]
    {
        let folder = folder();
        let steps = [&[Step::bitmap("b0")], &steps[..]].concat();
        let server = Server::qemu_nbd(&Recipe::qcow2(64 * KIB, 2 * MIB, steps).make(folder.path()), &["b0"]);
        check(&server.uri(""), &["b0"]);
    }
}

/// A server with one context alone, which answers beyond the end of a request; and disks of no byte
/// and of many.
#[test]
fn nbdkit() {
    if !tools::require(&["nbdkit", "nbdinfo"]) {
        return;
    }
    for plugin in [
        &["null", "0"][..],
        &["null", "1049577"],
        &["memory", "2T"],
        &["data", "data=(1)*32768 @0x100000 (2)*1001", "size=1049577"],
        &["sparse-random", "seed=3", "percent=40", "size=8M"],
    ] {
        check(&Server::nbdkit(&[], plugin).uri(""), &[]);
    }
}
