//! `nbd-extents`: which ranges of a disk are dirty, zero or data, asked of an NBD server; and what
//! a backup makes of that.
//!
//! One file a command. [`connection`] has the options of all that connect, [`failure`] the exit
//! codes, [`streams`] the reading of backups.

#![forbid(unsafe_code)]
// They panic where nobody reads; `output` has the ways that do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod help;

mod backup;
mod chain;
mod connection;
mod convert;
mod copy;
mod failure;
mod info;
mod manual;
mod map;
mod output;
mod progress;
mod restore;
#[cfg(unix)]
mod signals;
mod streams;
mod survey;
mod values;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};

use failure::Failure;

/// Shows which ranges of an NBD export are dirty, zero or data, and copies, backs up and restores it
/// by that
#[derive(Debug, Parser)]
#[command(name = "nbd-extents", version, term_width = 80, arg_required_else_help = true)]
#[command(after_help = example!("  nbd-extents map --demo"))]
struct Program {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Map(Box<map::MapArgs>),
    Info(Box<info::InfoArgs>),
    Copy(Box<copy::CopyArgs>),
    Backup(Box<backup::BackupArgs>),
    Restore(Box<restore::RestoreArgs>),
    Verify(verify::VerifyArgs),
    Convert(convert::ConvertArgs),
    Chain(chain::ChainArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

impl Subcommands {
    fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Map(args) => map::run(args),
            Self::Info(args) => info::run(args),
            Self::Copy(args) => copy::run(args),
            Self::Backup(args) => backup::run(args),
            Self::Restore(args) => restore::run(args),
            Self::Verify(args) => verify::run(args),
            Self::Convert(args) => convert::run(args),
            Self::Chain(args) => chain::run(args),
            Self::Completions(args) => manual::completions(args),
            Self::Man(args) => manual::man(args),
        }
    }
}

fn main() -> ExitCode {
    match Program::try_parse() {
        Ok(program) => program.command.run().map_or_else(Failure::report, |()| ExitCode::SUCCESS),
        Err(mut answer) => {
            drop_harmful_tip(&mut answer);
            let printed = answer.print();
            if answer.use_stderr() {
                return ExitCode::from(failure::USAGE);
            }
            match printed {
                // Help and version come this way. A reader that has gone (`--help | true`) has seen
                // enough.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Failure::from(error).report(),
                _ => ExitCode::SUCCESS,
            }
        }
    }
}

/// Removes clap's advice to pass an option that does not exist as a value: `-- --output` would be the
/// name of a file.
fn drop_harmful_tip(error: &mut clap::Error) {
    if error.kind() != ErrorKind::UnknownArgument {
        return;
    }
    if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().contains("as a value"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
}

/// A combination of options that clap's rules cannot express, reported as clap reports the others.
fn wrong_usage(command: &str, message: &str) -> Failure {
    let mut program = Program::command();
    program.build();
    let error = match program.find_subcommand_mut(command) {
        Some(command) => command.error(ErrorKind::ArgumentConflict, message),
        None => program.error(ErrorKind::ArgumentConflict, message),
    };
    Failure::of_clap(&error)
}
