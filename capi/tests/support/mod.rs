//! The library as C programs get it: built by cargo as anyone would build it, and linked by gcc.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub(crate) const HEADER: &str = include_str!("../../include/nbd_extents.h");

/// The declarations of a header: comments, directives and white space do not count, `;` ends each.
pub(crate) fn declarations(header: &str) -> BTreeSet<String> {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        code.push_str(before);
        rest = comment.split_once("*/").unwrap().1;
    }
    code.push_str(rest);
    let is_code = |line: &&str| !line.trim_start().starts_with('#');
    let code: Vec<_> = code.lines().filter(is_code).collect();
    let code = code.join(" ").replace("extern \"C\" {", "");
    let code = code.split_whitespace().collect::<Vec<_>>().join(" ").replace("* ", "*");

    let mut found = BTreeSet::new();
    let (mut declaration, mut depth) = (String::new(), 0);
    for letter in code.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        if letter == ';' && depth == 0 {
            found.insert(declaration.trim().replace("( ", "(").to_owned());
            declaration.clear();
        } else {
            declaration.push(letter);
        }
    }
    found
}

/// The folders of the built libraries.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) shared: PathBuf,
    pub(crate) archive: PathBuf,
}

/// Builds the library, once. A test cannot depend on a library that Rust does not link, so cargo does not
/// build it by itself. It lies in the target folder that the tests lie in, and cargo's own lock is free
/// while tests run.
pub(crate) fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| build(&[]))
}

/// Builds the library with more arguments for cargo.
pub(crate) fn build(arguments: &[&str]) -> Library {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "nbd-extents-capi", "--message-format=json"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8(built.stdout).unwrap();
    let find = |end: &str| {
        let quoted = messages.split('"').filter(|word| word.ends_with(end)).map(PathBuf::from);
        let mut found = quoted.filter(|path| path.is_absolute());
        found.next_back().unwrap_or_else(|| panic!("cargo names no {end}:\n{messages}"))
    };
    Library { shared: find("/libnbd_extents.so"), archive: find("/libnbd_extents.a") }
}

/// Puts a link under the soname into a folder. The soname is not the name of the file that cargo builds,
/// so the loader would not find it.
pub(crate) fn link(shared: &Path, folder: &Path) {
    // it may be there already, made by another test
    let _ = std::os::unix::fs::symlink(shared, folder.join("libnbd_extents.so.0"));
}

/// How a program is linked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Linking {
    Shared,
    Static,
}

/// Compiles a program of `tests/c` with warnings as errors, runs it, and expects success.
pub(crate) fn run(source: &str, linking: Linking, arguments: &[&str]) -> String {
    let output = outcome(source, linking, arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{source}: {}\n{out}\n{err}", output.status);
    out
}

fn outcome(source: &str, linking: Linking, arguments: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = library();
    let work = Path::new(env!("CARGO_TARGET_TMPDIR"));
    link(&library.shared, work);
    let program = work.join(format!("{source}-{linking:?}"));
    let compiler = if source.ends_with(".cpp") { "g++" } else { "gcc" };
    let mut compile = Command::new(compiler);
    compile
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&program)
        .arg(folder.join("tests/c").join(source))
        .arg("-I")
        .arg(folder.join("include"));
    match linking {
        Linking::Shared => compile.arg(&library.shared),
        // the system libraries that Rust's standard library needs
        Linking::Static => compile.arg(&library.archive).args(["-ldl", "-lm"]),
    };
    let compiled = compile.output().unwrap();
    assert!(compiled.status.success(), "{source}: {}", text(&compiled.stderr));
    Command::new(program).args(arguments).env("LD_LIBRARY_PATH", work).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
