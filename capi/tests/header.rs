//! Holds the header against the code: the prototypes and structs that cbindgen reads out of `src/` are
//! those of `include/nbd_extents.h`, to the name of each argument, and the shared library exports exactly
//! these functions. The header is written by hand, for readers; cbindgen would drop its order and example.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use support::declarations;

fn generated() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        style: cbindgen::Style::Type,
        usize_is_size_t: true,
        no_includes: true,
        documentation: false,
        ..cbindgen::Config::default()
    };
    // the header gives the constants by `#define`
    config.export.item_types =
        vec![cbindgen::ItemType::Functions, cbindgen::ItemType::Structs, cbindgen::ItemType::OpaqueItems];
    config.export.include = vec!["nbdx_entry".into()];
    // whole-crate parsing would call cargo: the files are enough
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in ["layout", "library", "map", "options", "plan", "policy", "survey"] {
        builder = builder.with_src(Path::new(folder).join("src").join(file).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    // `isize` is `ssize_t` wherever POSIX is; cbindgen takes C's other name for it
    String::from_utf8(header).unwrap().replace("ptrdiff_t", "ssize_t")
}

#[test]
fn the_header_declares_what_the_code_defines() {
    let written = declarations(support::HEADER);
    let generated = declarations(&generated());
    assert!(generated.len() > 60, "{generated:#?}");
    let missing: Vec<_> = generated.difference(&written).collect();
    let unknown: Vec<_> = written.difference(&generated).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing in the header: {missing:#?}\nonly in the header: {unknown:#?}"
    );
}

/// `symbols.txt` is the binary interface: a name that vanishes from it needs another soname.
#[test]
fn the_library_exports_the_symbol_list() {
    let listed: BTreeSet<_> = include_str!("../symbols.txt").lines().map(str::to_owned).collect();
    let library = support::library();
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&library.shared).output().unwrap();
    assert!(output.status.success(), "nm {}", library.shared.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<_> =
        text.lines().filter_map(|line| line.split(" T ").nth(1)).map(str::to_owned).collect();
    assert_eq!(exported, listed);
}

#[test]
fn the_shared_library_has_its_soname() {
    let library = support::library();
    let output = Command::new("readelf").arg("-d").arg(&library.shared).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("[libnbd_extents.so.0]"), "{text}");
}

/// As the header promises: C99 to C++20, with nothing but itself included.
#[test]
fn the_header_stands_alone_in_every_language() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/nbd_extents.h");
    for (compiler, language, standards) in [
        ("gcc", "c", &["c99", "c11", "c17", "c2x"][..]),
        ("g++", "c++", &["c++98", "c++11", "c++17", "c++20"][..]),
    ] {
        if Command::new(compiler).arg("--version").output().is_err() {
            assert_eq!(compiler, "g++", "these tests need gcc");
            eprintln!("not tried: {compiler} is missing");
            continue;
        }
        for standard in standards {
            let output = Command::new(compiler)
                .args(["-fsyntax-only", "-Wall", "-Wextra", "-pedantic", "-Werror"])
                .args([&format!("-std={standard}"), "-x", language])
                .arg(&header)
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{compiler} -std={standard}: {errors}");
        }
    }
}
