//! What packagers install beside the program: completions for shells, and man pages.

use std::io::Write as _;

use clap::CommandFactory as _;

use crate::Program;
use crate::failure::Failure;
use crate::output::Output;

/// Writes completions for a shell to stdout
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbd-extents completions bash > nbd-extents.bash"))]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Writes a man page to stdout: of the program, or of one of its commands
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbd-extents man > nbd-extents.1"))]
pub(crate) struct ManArgs {
    /// The command that the page is about
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(COMMANDS))]
    command: Option<String>,
}

/// All commands, in the order of the help.
const COMMANDS: [&str; 9] =
    ["map", "info", "backup", "restore", "verify", "convert", "chain", "completions", "man"];

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Program::command(), "nbd-extents", &mut script);
    print(&script)
}

pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let mut program = Program::command();
    program.build();
    let page = match &args.command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            // Built, it has the name of its page, as of git's: nbd-extents-map.
            Some(command) => command.clone(),
            None => return Err(Failure::usage(format!("there is no command {name}"))),
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    print(&text)
}

/// Prints a text of which nothing is lost where its reader has gone.
fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = Output::held();
    out.write_all(text)?;
    match out.finish() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
