//! Runs each fuzz target over its committed corpus (`fuzz/corpus`) and over inputs made from it.
//! A failure names the input; `cargo fuzz run -s none NAME` finds more.

use std::collections::BTreeSet;
use std::path::Path;

use nbd_extents_fuzz_bodies as bodies;
use nbd_extents_fuzz_bodies::replay::replay;
use testkit::behaviour::rows;

/// The rows whose shortest case is too long for a corpus, with the reason.
const WITHOUT_SEED: [(&str, &str); 1] = [("87", "8193 chunks, 240 kB; `bounds.rs` makes them")];

/// Rows of SERVER-BEHAVIOUR.md are where fuzzing starts, and what `bounds.rs` measures.
#[test]
fn each_row_of_the_table_has_a_seed() {
    let mut seeds = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for target in std::fs::read_dir(folder).unwrap() {
        for file in std::fs::read_dir(target.unwrap().path()).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            // `row-03-04-05-malformed` is of three rows
            let numbers = name.strip_prefix("row-").unwrap_or_default().split('-');
            seeds.extend(numbers.map_while(|part| part.parse::<u32>().ok()));
        }
    }
    let numbers = rows().into_keys().map(|row| row.trim_end_matches(char::is_alphabetic).to_owned());
    let missing: BTreeSet<String> = numbers.filter(|row| !seeds.contains(&row.parse().unwrap())).collect();
    assert_eq!(missing, WITHOUT_SEED.map(|(row, _)| row.to_owned()).into());
}

#[test]
fn chains() {
    replay("chains", bodies::chains::chains);
}

#[test]
fn formats() {
    replay("formats", bodies::formats::formats);
}

#[test]
fn handshake() {
    replay("handshake", bodies::handshake::handshake);
}

#[test]
fn kernel() {
    replay("kernel", bodies::kernel::kernel);
}

#[test]
fn plans() {
    replay("plans", bodies::plans::plans);
}

#[test]
fn server_text() {
    replay("server_text", bodies::server_text::server_text);
}

#[test]
fn session() {
    replay("session", bodies::session::session);
}

#[test]
fn sparse_stream() {
    replay("sparse_stream", bodies::sparse_stream::sparse_stream);
}

#[test]
fn streams() {
    replay("streams", bodies::streams::streams);
}

#[test]
fn survey() {
    replay("survey", bodies::survey::survey);
}

#[test]
fn tls() {
    replay("tls", bodies::tls::tls);
}

#[test]
fn uri() {
    replay("uri", bodies::uri::uri);
}

#[test]
fn wire() {
    replay("wire", bodies::wire::wire);
}
