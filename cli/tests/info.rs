//! `info` against real servers: size, block sizes, flags, contexts, headers and TLS of one export,
//! and with `--list` of all.
#![cfg(unix)]

mod support;

use serde_json::json;
use support::run::{Run, run};
use testkit::image::{KIB, MIB, Recipe, Step};
use testkit::server::{Server, folder};
use testkit::tools;

fn info(arguments: &[&str]) -> Run {
    let done = run("info", arguments, "");
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done}");
    done
}

/// The first line of the text that has this name.
fn line<'a>(run: &'a Run, name: &str) -> &'a str {
    let mut values = run.stdout.lines().filter_map(|line| line.strip_prefix(name));
    values.next().unwrap_or_else(|| panic!("no {name} in {run}")).trim_start()
}

#[test]
fn export_of_qemu_nbd() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let recipe = Recipe::qcow2(64 * KIB, 4 * MIB, vec![Step::bitmap("b0")]);
    let server = Server::qemu_nbd(&recipe.make(folder.path()), &["b0"]);
    let uri = server.uri("");
    let contexts = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0"];

    let value = info(&[&uri, "--json"]).json();
    assert_eq!(value["size"], 4 * MIB);
    assert_eq!(value["block_size"]["maximum"], 32 * MIB);
    assert_eq!(value["contexts"], json!(contexts));
    assert_eq!(value["tls"], json!(false));
    let flags = value["flags"].as_array().unwrap();
    assert!(flags.contains(&json!("read-only")) && flags.contains(&json!("multi-conn")), "{flags:?}");
    assert_eq!(info(&[&uri, "--json", "--compact"]).json()["headers"], "structured");

    let text = info(&[&uri]);
    assert_eq!(line(&text, "size"), "4194304 (4 MiB)");
    assert!(line(&text, "block sizes").contains("maximum 33554432"), "{text}");
    assert!(line(&text, "flags").contains("read-only"), "{text}");
    assert_eq!(line(&text, "TLS"), "no");
    let shown: Vec<&str> = text.stdout.lines().filter_map(|line| line.strip_prefix("context")).collect();
    assert_eq!(shown.iter().map(|name| name.trim_start()).collect::<Vec<_>>(), contexts);
}

/// The URI names an export that is not there: with `--list` that does not matter.
#[test]
fn list_shows_every_export_whichever_the_uri_names() {
    if !tools::require_qemu() || !tools::require(&["qemu-storage-daemon"]) {
        return;
    }
    let folder = folder();
    let place = |name: &str| {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        place
    };
    let source = Recipe::qcow2(64 * KIB, 2 * MIB, vec![Step::bitmap("b0")]).make(&place("source"));
    let scratch = Recipe::qcow2(64 * KIB, 2 * MIB, vec![]).make(&place("scratch"));
    let server = Server::fleecing(&source, &scratch, "b0");
    let list = info(&[&server.uri("none"), "--list", "--json"]).list();
    let mut exports: Vec<_> = list.iter().map(|export| export["export"].as_str().unwrap()).collect();
    exports.sort_unstable();
    assert_eq!(exports, ["guest", "snap"]);
    assert!(list.iter().all(|export| export["size"] == 2 * MIB), "{list:?}");
    let text = info(&[&server.uri(""), "--list"]);
    assert_eq!(text.stdout.split("\n\n").count(), 2, "{text}");

    let unknown = run("info", &[&server.uri("none")], "");
    unknown.fails_saying(3, &["\"none\"", "\"guest\"", "\"snap\""]);
}
