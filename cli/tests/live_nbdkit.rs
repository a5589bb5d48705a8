//! The program against `nbdkit`, which answers beyond what it was asked, now and then with an
//! extent too many, and has neither extended headers nor allocation depth.

mod support;

use serde_json::{Value, json};
use support::check::Disk;
use support::run::map;
use testkit::model::Model;
use testkit::server::Server;
use testkit::tools;

/// Serves what the parameters say, and checks every way to ask about it.
fn check_plugin(seed: u64, plugin: &[&str]) {
    if tools::require(&["nbdkit"]) {
        check(seed, &Server::nbdkit(&[], plugin));
    }
}

fn check(seed: u64, server: &Server) -> Model {
    let model = Model::ask(server.socket(), "", &[]);
    let disk = Disk { server, export: "", model };
    disk.check_zero_everywhere(seed);
    disk.model
}

fn extent(start: u64, length: u64, zero: bool) -> Value {
    json!({"start": start, "length": length, "zero": zero, "hole": false})
}

// The data plugin looks for zeroes within its pages of 32 KiB, as far as a request goes: where a
// page is data only in part, its answer depends on the request. So all pages here are data
// throughout, or holes.

#[test]
fn data_plugin_with_scattered_pages() {
    check_plugin(1, &["data", "data=(1)*32768 @0x30000 (2)*98304 @0x200000 (3)*65536", "size=4M"]);
}

#[test]
fn data_plugin_with_data_up_to_an_odd_end() {
    check_plugin(2, &["data", "data=(1)*32768 @0x100000 (2)*1001", "size=1049577"]);
}

#[test]
fn data_plugin_with_a_hole_up_to_an_odd_end() {
    check_plugin(3, &["data", "data=@0x10000 (1)*32768", "size=1049577"]);
}

#[test]
fn sparse_random_plugin() {
    check_plugin(4, &["sparse-random", "seed=3", "percent=40", "size=8M"]);
}

#[test]
fn sparse_random_plugin_with_single_blocks() {
    check_plugin(5, &["sparse-random", "seed=4", "percent=50", "runlength=4096", "size=8M"]);
}

#[test]
fn null_plugin() {
    check_plugin(6, &["null", "size=4M"]);
}

#[test]
fn null_plugin_with_an_odd_size() {
    check_plugin(7, &["null", "size=1000001"]);
}

#[test]
fn disk_of_many_gibibytes_is_one_extent() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let server = Server::nbdkit(&[], &["null", "size=1T"]);
    let size = 1 << 40;
    map(&[&server.uri(""), "--json"]).prints(&[extent(0, size, true)]);
    let (offset, length) = ("4294967295", "8589934593");
    let part = extent(4_294_967_295, 8_589_934_593, true);
    map(&[&server.uri(""), "--json", "--offset", offset, "--length", length]).prints(&[part]);
}

#[test]
fn end_of_the_largest_disk_there_can_be() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let server = Server::nbdkit(&[], &["null", "size=9223372036854775807"]);
    let start = u64::try_from(i64::MAX).unwrap() - 1000;
    map(&[&server.uri(""), "--json", "--offset", &start.to_string()]).prints(&[extent(start, 1000, true)]);
}

#[test]
fn empty_disk_is_an_empty_list() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let server = Server::nbdkit(&[], &["null", "size=0"]);
    map(&[&server.uri(""), "--json"]).prints(&[]);
    map(&[&server.uri(""), "--json", "--offset", "0", "--length", "1"]).fails(2);
}

/// A plugin in shell: `extents` prints the whole table at each call, or does as it is told.
fn plugin(size: u64, extents: &str) -> String {
    format!(
        "#!/bin/sh\n\
         case \"$1\" in\n\
         get_size) echo {size} ;;\n\
         pread) dd if=/dev/zero count=$3 iflag=count_bytes 2>/dev/null ;;\n\
         can_extents) exit 0 ;;\n\
         thread_model) echo parallel ;;\n\
         extents) {extents} ;;\n\
         *) exit 2 ;;\n\
         esac\n"
    )
}

#[test]
fn extents_that_begin_anywhere_and_holes_that_are_not_zero() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let table = "printf '0 1000 hole,zero\\n1000 4001 hole\\n5001 4095 zero\\n9096 904\\n10000 1 \
        zero\\n10001 2287\\n'";
    let model = check(8, &Server::nbdkit_script(&plugin(12288, table)));
    let truth = [
        extent(0, 1000, true),
        extent(1000, 4001, false),
        extent(5001, 4095, true),
        extent(9096, 904, false),
        extent(10000, 1, true),
        extent(10001, 2287, false),
    ];
    assert_eq!(model.zero_list(&(0..12288)), truth);
}

#[test]
fn plugin_that_knows_no_extents_is_all_data() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let script = plugin(12288, "exit 2").replace("can_extents) exit 0", "can_extents) exit 3");
    let server = Server::nbdkit_script(&script);
    map(&[&server.uri(""), "--json"]).prints(&[extent(0, 12288, false)]);
}

#[test]
fn request_that_the_plugin_fails_is_the_servers_error() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let server = Server::nbdkit_script(&plugin(12288, "echo EIO the disk is on fire >&2; exit 1"));
    map(&[&server.uri(""), "--json"]).fails(5);
}

#[test]
fn request_that_fails_halfway_leaves_no_finished_list() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let half = "if [ \"$4\" -lt 4294967296 ]; then echo 0 5368709120; else echo EIO >&2; exit 1; fi";
    let server = Server::nbdkit_script(&plugin(8 << 30, half));
    map(&[&server.uri(""), "--json"]).fails(5);
}

#[test]
fn bitmap_of_a_server_that_has_none_is_not_there() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let server = Server::nbdkit(&[], &["null", "size=1M"]);
    map(&[&server.uri(""), "--json", "--bitmap", "b0"]).fails_saying(3, &["b0", "base:allocation"]);
}

#[test]
fn server_without_structured_replies_has_no_status_to_give() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let server = Server::nbdkit(&["--no-sr"], &["null", "size=1M"]);
    map(&[&server.uri(""), "--json"]).fails_saying(3, &["base:allocation"]);
}
