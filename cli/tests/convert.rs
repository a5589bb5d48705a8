//! `convert` as a script sees it: what it prints, and how it ends.
#![cfg(unix)]

mod support;

use support::run::run;

/// Runs `convert`, and gives the exit code, stdout and stderr.
fn convert(args: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let done = run("convert", args, str::from_utf8(input).unwrap());
    (done.code, done.stdout, done.stderr)
}

/// What the other programs printed, as the crate of the formats keeps it.
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

#[test]
fn what_would_be_lost_is_named() {
    let map = data("imageio-dirty.json");
    let (code, out, error) = convert(&["--from", "imageio-dirty", "--to", "nbdinfo-dirty"], &map);
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert_eq!(
        error,
        "nbd-extents: the format cannot say \"zero\", which is known of the bytes from 0 on (--lossy leaves it out)\n"
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
    assert!(error.starts_with("nbd-extents: the format must say \"dirty\", which is not known"), "{error}");
    let (code, out, _) = convert(&[&args[..], &["--assume", "dirty"]].concat(), map);
    assert_eq!(code, Some(0));
    assert_eq!(out, r#"[{"start": 0, "length": 512, "dirty": true, "zero": true}]"#);
    assert_eq!(convert(&[&args[..], &["--assume", "clean"]].concat(), map).0, Some(2));
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
