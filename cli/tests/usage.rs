//! Wrong usage prints the whole of clap's message: the names that are missing, the values that are
//! possible and the nearest to the one given, and where help is found. Nothing is sent to any
//! server.
#![cfg(unix)]

mod support;

use support::run::run;

/// The command line is refused, and the message holds these words.
#[track_caller]
fn refused(line: &str, words: &[&str]) {
    let mut arguments = line.split(' ');
    let command = arguments.next().unwrap();
    let run = run(command, &arguments.collect::<Vec<_>>(), "");
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run}");
    assert!(run.stderr.starts_with("error: "), "{run}");
    for word in words.iter().chain(&["'--help'"]) {
        assert!(run.stderr.contains(word), "no {word:?}: {run}");
    }
}

#[test]
fn missing_arguments_are_named() {
    refused(
        "convert",
        &["not provided:\n  --from <FORMAT>\n  --to <FORMAT>\n", "Usage: nbd-extents convert"],
    );
    refused("map", &["<URI>", "Usage: nbd-extents map"]);
    refused("backup", &["<URI>", "<FILE>"]);
    refused("restore nbd://host", &["<FILES>..."]);
    refused("verify", &["<FILES>..."]);
    refused("chain", &["<FILES>..."]);
    refused("completions", &["<SHELL>"]);
    refused("convert --from extentlist --to imageio-zero", &["size of the disk", "--size <N>"]);
}

#[test]
fn misspelt_names_are_corrected() {
    refused("convrt", &["unrecognized subcommand", "similar subcommand exists: 'convert'"]);
    refused("map --demo --fromat json", &["unexpected argument", "similar argument exists: '--format'"]);
    refused("map --demo --format jsn", &["table, json, nbdinfo", "similar value exists: 'json'"]);
    refused("convert --from imagio-zero --to qemu-img", &["similar value exists: 'imageio-zero'"]);
    refused("man mpa", &["map, info, copy, backup, restore, verify, convert, chain, completions, man"]);
}

#[test]
fn unknown_formats_list_the_known_ones() {
    let formats =
        ["imageio-zero", "imageio-dirty", "nbdinfo-allocation", "qemu-img", "csi-delta", "extentlist"];
    refused("convert --from ext4 --to qemu-img", &formats);
    refused("convert --from qemu-img --to ext4", &formats);
    refused("convert --from qemu-img --to qemu-img --with ext4 /none", &formats);
    refused("map --demo --format ext4", &["table, json, nbdinfo"]);
}

#[test]
fn options_that_do_not_go_together_are_named() {
    refused("map --demo nbd://host", &["--demo", "[URI]"]);
    refused("copy nbd://one nbd://other --bitmap-first", &["--bitmap <NAME>"]);
    refused("verify - -", &["cannot be named twice"]);
    refused("chain - disk.monday -", &["cannot be named twice"]);
    refused("map --demo --json --format table", &["--json", "--format <FORMAT>"]);
    refused("map --demo --actions --totals", &["--actions", "--totals"]);
    refused("map nbd://host --bitmap b --previous-size 1M", &["<--actions|--totals>"]);
    refused("map nbd://host --bitmap-first", &["--bitmap <NAME>"]);
    refused("map nbd://host --bitmap b --actions --grown", &["--previous-size <N>"]);
    refused("map nbd://host --format nbdinfo --bitmap a --bitmap b", &["nbdinfo", "one '--bitmap'"]);
    refused("map nbd://host --format nbdinfo --actions", &["nbdinfo", "'--actions'"]);
    refused("backup nbd://host f --bitmap b --grown", &["--grown", "--previous-size <N>"]);
    refused("backup nbd://host f --after g", &["--bitmap <NAME>"]);
    refused("backup nbd://host f --bitmap b --after g --parent p", &["--after <FILE>", "--parent <NAME>"]);
    refused("backup nbd://host f --bitmap b --parent p", &["--previous-size <N>"]);
    refused("backup nbd://host f --quiet --progress json", &["--quiet", "--progress <FORMAT>"]);
    refused("restore nbd://host f -", &["'-'"]);
}

#[test]
fn values_that_are_none_say_which_ones_are() {
    refused("map nbd://host --offset 1k", &["'1k'", "--offset <N>", "64K"]);
    refused("map nbd://host --length 0", &["--length <N>", "at least 1 byte"]);
    refused("map nbd://host --timeout 0", &["--timeout <SECONDS>", "above 0"]);
    refused("map nbd://host --request-timeout soon", &["--request-timeout <SECONDS>", "0.5"]);
    refused("backup nbd://host f --connections 0", &["--connections <N>", "1..=255"]);
}

/// The parameters of the NBD URI specification that ask for TLS: on a plain URI they would promise
/// an encryption that is not there.
#[test]
fn parameters_of_tls_are_told_from_unknown_ones() {
    for parameter in ["tls-type=x509", "tls-hostname=host", "tls-verify-peer=0", "tls-certificates=/pki"] {
        let name = parameter.split_once('=').unwrap().0;
        refused(&format!("map nbd://host/?{parameter}"), &[name, "goes with nbds://", "there is no TLS"]);
    }
    refused("map nbd://host/?soket=x", &["soket"]);
}
