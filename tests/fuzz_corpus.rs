//! The bodies of the fuzz targets about extents, over the committed corpus (`fuzz/corpus`) and inputs made from it. A failure names the
//! input; `cargo fuzz run -s none NAME` finds more. Not part of the published package, which has no `fuzz` folder.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "the models are small")]
#![allow(unreachable_pub, reason = "the bodies are a library in fuzz/")]
#![allow(dead_code, reason = "each crate uses its part of what the bodies share")]

#[path = "../fuzz/bodies/bytes.rs"]
mod bytes;
#[path = "../fuzz/bodies/chains.rs"]
mod chains;
#[path = "../fuzz/bodies/formats.rs"]
mod formats;
#[path = "../fuzz/bodies/kernel.rs"]
mod kernel;
#[path = "../fuzz/bodies/pieces.rs"]
mod pieces;
#[path = "../fuzz/bodies/plans.rs"]
mod plans;
#[path = "../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../fuzz/bodies/sparse_stream.rs"]
mod sparse_stream;
#[path = "../fuzz/bodies/streams/mod.rs"]
mod streams;
#[path = "../fuzz/bodies/survey/mod.rs"]
mod survey;
#[path = "../fuzz/bodies/wire.rs"]
mod wire;

use replay::replay;

#[test]
fn wire() {
    replay("wire", wire::wire);
}

#[test]
fn streams() {
    replay("streams", streams::streams);
}

#[test]
fn kernel() {
    replay("kernel", kernel::kernel);
}

#[test]
fn survey() {
    replay("survey", survey::survey);
}

#[test]
fn sparse_stream() {
    replay("sparse_stream", sparse_stream::sparse_stream);
}

#[test]
fn chains() {
    replay("chains", chains::chains);
}

#[test]
fn plans() {
    replay("plans", plans::plans);
}

#[test]
fn formats() {
    replay("formats", formats::formats);
}
