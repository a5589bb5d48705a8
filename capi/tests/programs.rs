//! C programs against the library, shared and static. Each says in its first lines what it protects.

mod support;

use support::{Linking, run};

#[test]
fn misuse_is_an_error_with_a_message() {
    run("misuse.c", Linking::Shared);
    run("misuse.c", Linking::Static);
}

#[test]
fn random_disks_are_those_of_the_model() {
    assert_eq!(run("random_disks.c", Linking::Shared), "300 disks\n");
}

#[test]
fn ceph_keeps_holes_of_undefined_content() {
    if std::process::Command::new("g++").arg("--version").output().is_err() {
        eprintln!("not tried: g++ is missing (ci/capi tries it)");
        return;
    }
    run("drop_in_ceph.cpp", Linking::Shared);
}
