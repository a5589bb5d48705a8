//! `extents`: which ranges of a disk are dirty or clean, zero or data, asked of an NBD server and merged into one map.
//!
//! Without arguments it shows a map made from replies of a real qemu-nbd that ship with the crate. See `cli` for the options, `common::failure` for the exit
//! codes, and [`survey`](crate::live::survey) for how little it takes to use the libraries.

mod cli;
#[path = "../common/mod.rs"]
mod common;
mod demo;
mod info;
mod json;
mod live;
mod picture;
mod report;
mod table;
mod view;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use cli::Command;
use common::failure::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report("extents"),
    }
}

fn run() -> Result<(), Failure> {
    let Some(command) = cli::parse(std::env::args_os())? else {
        return Ok(()); // --help or --version has been answered
    };
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match command {
        Command::Demo(content, shape) => demo::run(content, shape, &mut out)?,
        Command::Live(job) => live::run(&job, &mut out)?,
    }
    out.flush()?;
    Ok(())
}
