//! C programs against the library, shared and static. Each says in its first lines what it protects.

mod support;

use support::{Linking, run};

#[test]
fn misuse_is_an_error_with_a_message() {
    run("misuse.c", Linking::Shared, &[]);
    run("misuse.c", Linking::Static, &[]);
}

#[test]
fn random_disks_are_those_of_the_model() {
    assert_eq!(run("random_disks.c", Linking::Shared, &[]), "300 disks\n");
}

#[test]
fn ceph_keeps_holes_of_undefined_content() {
    if std::process::Command::new("g++").arg("--version").output().is_err() {
        eprintln!("not tried: g++ is missing (ci/capi tries it)");
        return;
    }
    run("drop_in_ceph.cpp", Linking::Shared, &[]);
}

/// Captured replies of qemu-nbd 10.0.2 for the demo's disk: both forms give the same map.
#[test]
fn captured_replies_give_the_map_of_the_disk() {
    let map = "0 1048576 clean data depth 1\n\
               1048576 65536 dirty data depth 1\n\
               1114112 983040 clean zero hole depth 0\n\
               2097152 1048576 dirty zero hole depth 1\n\
               3145728 1048576 clean zero hole depth 0\n\
               4194304 524288 dirty zero hole depth 1\n\
               4718592 524288 clean data depth 1\n\
               5242880 1048576 clean zero hole depth 0\n";
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/demo");
    assert_eq!(run("captured.c", Linking::Shared, &[&format!("{demo}/extended.hex"), "64"]), map);
    assert_eq!(run("captured.c", Linking::Shared, &[&format!("{demo}/compact.hex"), "32"]), map);
}
