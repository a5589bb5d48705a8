//! `convert` as a script sees it: what it prints, and how it ends.
#![cfg(unix)]

mod support;

use support::run::run;

/// Runs `convert`, and gives the exit code, stdout and stderr.
fn convert(args: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let done = run("convert", args, str::from_utf8(input).unwrap());
    (done.code, done.stdout, done.stderr)
}

/// Lists that other programs printed, from the data of the formats crate.
fn data(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../formats/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn one_program_s_file_becomes_another_s() {
    let bitmap = data("nbdinfo-dirty.json");
    let (code, out, error) = convert(&["--from", "nbdinfo-dirty-json", "--to", "qemu-img-dirty"], &bitmap);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(out.as_bytes(), data("qemu-img-dirty.json"));
    let (code, out, _) =
        convert(&["--from", "nbdinfo-dirty-json", "--to", "csi-delta", "--size", "6M"], &bitmap);
    assert_eq!((code, out.as_bytes()), (Some(0), &*data("csi-delta-variable.json")));
    let csi = [
        "--from",
        "nbdinfo-dirty-json",
        "--to",
        "csi-delta",
        "--size",
        "6M",
        "--block",
        "64K",
        "--page",
        "10",
    ];
    assert_eq!(convert(&csi, &bitmap).1.as_bytes(), data("csi-delta-fixed.json"));
}

/// Two programs call two things a hole: the message says which of them is lost.
#[test]
fn the_two_holes_are_told_apart() {
    let image = r#"[{"start": 0, "length": 512, "depth": 1, "present": false, "zero": true, "data": false}]"#;
    let (code, list, error) =
        convert(&["--from", "qemu-img", "--to", "imageio-zero", "--lossy"], image.as_bytes());
    assert_eq!(code, Some(0), "{error}");
    assert!(list.contains(r#""hole": true"#) && error.contains("left out: hole,"), "{list}{error}");
    assert!(error.contains("hole is the HOLE flag") && error.contains("imageio-zero says"), "{error}");
    let zero = r#"[{"start": 0, "length": 512, "zero": true, "hole": true}]"#;
    let (code, _, error) =
        convert(&["--from", "imageio-zero", "--to", "nbdinfo-allocation"], zero.as_bytes());
    assert_eq!(code, Some(3));
    assert!(
        error.contains("cannot say \"layer\"") && error.contains("imageio-zero says \"hole\""),
        "{error}"
    );
    assert!(error.ends_with(" (--lossy leaves it out)\n"), "{error}");
}

#[test]
fn what_would_be_lost_is_named() {
    let map = data("imageio-dirty.json");
    let (code, out, error) = convert(&["--from", "imageio-dirty", "--to", "nbdinfo-dirty"], &map);
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert_eq!(
        error,
        "nbd-extents: nbdinfo-dirty cannot say \"zero\", which is known of the bytes from 0 on \
            (--lossy leaves it out)\n"
    );
    let (code, out, error) = convert(&["--from", "imageio-dirty", "--to", "nbdinfo-dirty", "--lossy"], &map);
    assert_eq!((code, error.as_str()), (Some(0), "nbd-extents: left out: zero\n"));
    assert_eq!(out.as_bytes(), data("nbdinfo-dirty.txt"), "neighbours are joined");
}

#[test]
fn what_is_not_known_is_assumed_only_when_told_and_only_what_is_safe() {
    let map = b"[{\"start\": 0, \"length\": 512, \"zero\": true}]";
    let args = ["--from", "imageio-zero", "--to", "imageio-dirty"];
    let (code, out, error) = convert(&args, map);
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(
        error.starts_with("nbd-extents: imageio-dirty must say \"dirty\", which is not known"),
        "{error}"
    );
    assert!(error.contains("(--assume dirty "), "{error}");
    let (code, out, _) = convert(&[&args[..], &["--assume", "dirty"]].concat(), map);
    assert_eq!(code, Some(0));
    assert_eq!(out, r#"[{"start": 0, "length": 512, "dirty": true, "zero": true}]"#);
    assert_eq!(convert(&[&args[..], &["--assume", "clean"]].concat(), map).0, Some(2));
    // no option makes the layer known, so none is named
    let (code, _, error) = convert(&["--from", "imageio-zero", "--to", "nbdinfo-depth", "--lossy"], map);
    assert_eq!(code, Some(3));
    assert!(error.ends_with("base:allocation does not\n"), "{error}");
    assert!(error.contains("must say \"layer\", which is not known of the bytes from 0 on: which image"));
}

#[test]
fn exit_codes() {
    let ends = |args: &[&str], input: &[u8]| {
        let (code, out, error) = convert(args, input);
        assert!(
            !out.ends_with(']')
                && (error.lines().count() == 1 && error.starts_with("nbd-extents: ")
                    || code == Some(2) && error.starts_with("error: ")),
            "{out} {error}"
        );
        code
    };
    assert_eq!(ends(&["--from", "imageio-dirty"], b""), Some(2));
    assert_eq!(ends(&["--from", "imageio-dirty", "--to", "ext4"], b""), Some(2));
    assert_eq!(ends(&["--from", "extentlist", "--to", "imageio-zero"], b""), Some(2), "no --size");
    assert_eq!(
        ends(&["--from", "nbdinfo-dirty", "--to", "csi-delta", "--size", "1M", "--block", "0"], b""),
        Some(2)
    );
    assert_eq!(ends(&["--from", "imageio-dirty", "--to", "imageio-dirty"], b"[{]"), Some(5));
    let cut = data("imageio-dirty.json");
    assert_eq!(
        ends(&["--from", "imageio-dirty", "--to", "imageio-dirty"], cut.split_last().unwrap().1),
        Some(5)
    );
}

/// Two lists about the disk of the captures: dirty or clean, and zero or data.
const DIRTY: &str =
    r#"[{"start": 0, "length": 4096, "dirty": true}, {"start": 4096, "length": 8192, "dirty": false}]"#;
const ZERO: &str =
    r#"[{"start": 0, "length": 8192, "zero": true}, {"start": 8192, "length": 4096, "zero": false}]"#;

/// Converts a list of ovirt-imageio about dirty ranges, with a list about zeroes from a file.
fn convert_with(zero: &str, more: &[&str], dirty: &str) -> (Option<i32>, String, String) {
    let folder = testkit::server::folder();
    let file = folder.path().join("zero.json");
    std::fs::write(&file, zero).unwrap();
    let file = file.to_str().unwrap();
    let args = ["--from", "imageio-dirty", "--with", "imageio-zero", file, "--to", "imageio-dirty"];
    let (code, out, error) = convert(&[&args[..], more].concat(), dirty.as_bytes());
    (code, out, error.replace(file, "FILE"))
}

/// The purpose of the project: cut at different places, each of its own meaning, one list comes
/// out.
#[test]
fn two_lists_about_one_disk_become_one() {
    let (code, out, error) = convert_with(ZERO, &["--size", "12K"], DIRTY);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let merged = concat!(
        r#"[{"start": 0, "length": 4096, "dirty": true, "zero": true}, "#,
        r#"{"start": 4096, "length": 4096, "dirty": false, "zero": true}, "#,
        r#"{"start": 8192, "length": 4096, "dirty": false, "zero": false}]"#
    );
    assert_eq!(out, merged);
}

/// Two lists that say the same thing and differ: dirty, and not zero, is the safer answer.
#[test]
fn where_two_lists_differ_the_safer_answer_holds() {
    let folder = testkit::server::folder();
    let file = folder.path().join("other.json");
    let row = |dirty, zero| format!(r#"[{{"start": 0, "length": 512, "dirty": {dirty}, "zero": {zero}}}]"#);
    for (one, other) in [((true, true), (false, false)), ((false, false), (true, true))] {
        std::fs::write(&file, row(other.0, other.1)).unwrap();
        let args = ["--from", "imageio-dirty", "--to", "imageio-dirty", "--with", "imageio-dirty"];
        let args = [&args[..], &[file.to_str().unwrap()]].concat();
        assert_eq!(convert(&args, row(one.0, one.1).as_bytes()).1, row(true, false));
    }
}

#[test]
fn error_says_which_of_two_lists_it_is_about() {
    let says = |zero: &str, more: &[&str], dirty: &str, code: i32, words: &str| {
        let (got, out, error) = convert_with(zero, more, dirty);
        assert_eq!(got, Some(code), "{error}");
        assert!(error.starts_with(&format!("nbd-extents: {words}")) && error.lines().count() == 1, "{error}");
        assert!(!out.ends_with(']'), "{out}");
    };
    says(ZERO, &[], "[{", 5, "standard input: imageio-dirty, line 1");
    says("[{", &[], DIRTY, 5, "FILE: imageio-zero, line 1");
    says("[]", &[], DIRTY, 5, "FILE: imageio-zero, line 1, column 3: the list is empty");
    says(
        ZERO,
        &["--size", "16K"],
        DIRTY,
        5,
        "standard input: imageio-dirty, line 1, column 95: bytes 12288..16384 have no status",
    );
    let short = &ZERO.replace(r#", {"start": 8192, "length": 4096, "zero": false}"#, "");
    says(short, &[], DIRTY, 5, "FILE: bytes 8192..12288 are missing, which standard input describes");
    let short = &DIRTY.replace(r#", {"start": 4096, "length": 8192, "dirty": false}"#, "");
    says(ZERO, &[], short, 5, "standard input: bytes 4096..8192 are missing, which FILE describes");
    let (code, _, error) = convert(
        &["--from", "imageio-dirty", "--with", "imageio-zero", "/none", "--to", "imageio-dirty"],
        DIRTY.as_bytes(),
    );
    assert_eq!(
        (code, error.as_str()),
        (Some(3), "nbd-extents: /none: No such file or directory (os error 2)\n")
    );
}

/// B5 of the faults found from outside: a program that failed in the pipe does not become "nothing
/// is dirty".
#[test]
fn empty_input_is_right_only_for_an_empty_disk() {
    let lists = [("nbdinfo-dirty", ""), ("imageio-dirty", "[]"), ("nbdinfo-dirty-json", "[]")];
    for (format, list) in lists {
        let convert = |more: &[&str]| {
            convert(
                &[&["--from", format, "--to", "nbdinfo-dirty-json", "--lossy"], more].concat(),
                list.as_bytes(),
            )
        };
        for size in [&[][..], &["--size", "1M"]] {
            let (code, out, error) = convert(size);
            assert_eq!(code, Some(5), "{format}: {error}");
            assert!(!out.trim_end().ends_with(']') && error.contains(" is empty"), "{out} {error}");
        }
        let (code, out, error) = convert(&["--size", "0"]);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{format}");
        assert_eq!(out.split_whitespace().collect::<String>(), "[]");
    }
    // A program that fails before it prints its JSON leaves nothing at all.
    assert_eq!(convert(&["--from", "imageio-dirty", "--to", "qemu-img-dirty"], b"").0, Some(5));
}

/// A list that stops short of the disk, or starts within it, leaves bytes out, whichever format it
/// is in.
#[test]
fn size_demands_coverage_of_every_format() {
    let lists = [
        ("imageio-dirty", r#"[{"start": 0, "length": 4096, "dirty": true}]"#),
        ("imageio-zero", r#"[{"start": 0, "length": 4096, "zero": true}]"#),
        ("nbdinfo-dirty", "         0        4096    1  dirty\n"),
        ("nbdinfo-allocation", "         0        4096    3  hole,zero\n"),
    ];
    for (format, list) in lists {
        let to = if format.ends_with("dirty") { "nbdinfo-dirty" } else { "nbdinfo-allocation" };
        let convert =
            |size| convert(&["--from", format, "--to", to, "--size", size, "--lossy"], list.as_bytes());
        assert_eq!(convert("4096").0, Some(0), "{format}: {}", convert("4096").2);
        for size in ["8192", "2048"] {
            let (code, _, error) = convert(size);
            assert_eq!(code, Some(5), "{format} {size}: {error}");
            assert!(error.contains("4096"), "{format} {size}: {error}");
        }
    }
}
