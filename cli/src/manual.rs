//! The files that packagers install beside the program: completions for shells, and man pages.

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
const COMMANDS: [&str; 10] =
    ["map", "info", "copy", "backup", "restore", "verify", "convert", "chain", "completions", "man"];

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Program::command(), "nbd-extents", &mut script);
    // For bash, clap_complete 4.6 takes the hyphen of the program's name for the start of a command
    // in one of two places, and then completes no command's options.
    let script = String::from_utf8_lossy(&script).replace("nbd__subcmd__extents", "nbd__extents");
    print(&script)
}

pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    // `help` has no page of its own.
    let mut program = Program::command().disable_help_subcommand(true);
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
    let source = concat!("nbd-extents ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(page).source(source).render(&mut text)?;
    print(&with_sections(&String::from_utf8_lossy(&text)))
}

/// Makes sections of the two parts of a help text's end, under the names that man pages give them.
fn with_sections(page: &str) -> String {
    page.replace(".SH EXTRA\nExample:\n", ".SH EXAMPLES\n.nf\n")
        .replace("\n\nExit codes:\n", "\n.fi\n.SH EXIT STATUS\n.nf\n")
        .replace("\n.SH VERSION\n", "\n.fi\n.SH VERSION\n")
}

/// Prints a text. A reader that goes away has seen enough.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = Output::held();
    out.write_all(text.as_bytes())?;
    match out.finish() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
