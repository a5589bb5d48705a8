//! `sparse_stream`: backs up and restores the disk of an NBD server as one stream of frames, in ovirt-imageio's format.
//!
//! ```text
//! download   survey -> actions -> one map -> plan -> reads, several in flight -> frames on stdout
//! upload     frames on stdin -> writes and zeroes, several in flight -> flush
//! verify     frames -> are they whole, and do they follow each other?
//! ```
//!
//! See `cli` for the options and `common::failure` for the exit codes.

extern crate alloc;

mod cli;
#[path = "../common/mod.rs"]
mod common;
mod download;
mod input;
mod output;
mod progress;
mod pump;
mod target;
mod upload;
mod verify;

use std::process::ExitCode;

use cli::Command;
use common::failure::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report("sparse_stream"),
    }
}

fn run() -> Result<(), Failure> {
    match cli::parse(std::env::args_os())? {
        Some(Command::Download(job)) => download::run(&job),
        Some(Command::Upload(job)) => upload::run(&job),
        Some(Command::Verify(files)) => verify::run(&files),
        None => Ok(()), // --help or --version has been answered
    }
}
