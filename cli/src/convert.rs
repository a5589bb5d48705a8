//! `convert`: the extent list of one program as that of another, or two lists about one disk as
//! one. A list that would lose its meaning is refused.

use core::num::NonZeroU64;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use nbd_extents::stream::ExtentStream;
use nbd_extents_formats::csi::{Blocks, Unallocated};
use nbd_extents_formats::{
    Assume, Attribute, ConvertError, Fault, Format, ListReadError, ListWriteError, Loss, MergeError,
    ReadOptions, WriteOptions, merge,
};

use crate::failure::Failure;
use crate::output::{Output, remark};
use crate::values::{parse_length, parse_size};

/// Turns the extent list of one program into that of another: stdin to stdout
///
/// --with merges a second list about the same disk into the first. The output equals, byte for byte,
/// what the other program writes: that of ovirt-imageio has no end of line.
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbd-extents map --demo --json |
    nbd-extents convert --from imageio-dirty --to nbdinfo-dirty --lossy"))]
pub(crate) struct ConvertArgs {
    /// The format of standard input
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    from: Format,
    /// The format of standard output: one of those of --from
    #[arg(long, value_name = "FORMAT", value_parser = formats(), hide_possible_values = true)]
    to: Format,
    /// A second list about the same disk, from a file
    ///
    /// If both lists know whether bytes are dirty, the bytes are dirty if one list says so. If both
    /// know whether bytes are zero, the bytes are zero only if both say so.
    #[arg(long, num_args = 2, value_names = ["FORMAT", "FILE"])]
    with: Option<Vec<String>>,
    /// The size of the disk, which the input has to cover
    #[arg(long, value_name = "N", value_parser = parse_size)]
    size: Option<u64>,
    /// Leave out attributes that the format has no words for, and name them on stderr
    #[arg(long)]
    lossy: bool,
    /// Assume that bytes are dirty, or data, if the input says nothing of it; may be repeated
    #[arg(long, value_name = "WHAT", value_enum)]
    assume: Vec<Assumed>,
    /// The offset from which a csi list was requested
    #[arg(long, value_name = "N", value_parser = parse_size, default_value = "0")]
    starting_offset: u64,
    /// Take blocks that a csi-allocated list leaves out for zero: the driver promises it
    #[arg(long)]
    unallocated_is_zero: bool,
    /// Write a csi list with blocks of N bytes, instead of ranges of any length
    #[arg(long, value_name = "N", value_parser = parse_length)]
    block: Option<NonZeroU64>,
    /// The rows on a page of a kubevirt list, or in a record of a csi list
    #[arg(long, value_name = "N", default_value = "1000")]
    page: NonZeroU64,
}

/// An attribute that the user may assume. Nobody can assume that bytes are clean or zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Assumed {
    Dirty,
    Data,
}

/// Does what the command line asks.
pub(crate) fn run(args: &ConvertArgs) -> Result<(), Failure> {
    let mut out = Output::streamed();
    let writer = args.to.writer(&mut out, args.write_options());
    let first = args.from.read(io::stdin().lock(), args.read_options());
    let lost = match &args.with {
        None => writer.write_all(first.map_err(unreadable)),
        Some(with) => {
            let (format, name) = second(with)?;
            let file = File::open(name).map_err(|error| Failure::input(Path::new(name), &error))?;
            let second = format.read(file, args.read_options());
            writer.write_all(merge(first, second).map_err(|error| unmergeable(error, name)))
        }
    };
    let lost = lost.map_err(failure)?;
    out.finish()?;
    if !lost.is_empty() {
        let names: Vec<String> = lost.iter().map(ToString::to_string).collect();
        remark(format!("left out: {}{}", names.join(","), explain(&lost)));
    }
    Ok(())
}

/// Takes the name of a format. clap lists those that there are, and suggests the nearest.
fn formats() -> impl TypedValueParser<Value = Format> {
    let names = Format::ALL.iter().map(|format| PossibleValue::new(format.name()).help(format.about()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Format>())
}

impl ConvertArgs {
    const fn read_options(&self) -> ReadOptions {
        ReadOptions {
            size: self.size,
            starting_offset: self.starting_offset,
            unallocated: if self.unallocated_is_zero { Unallocated::Zero } else { Unallocated::Undefined },
        }
    }

    fn write_options(&self) -> WriteOptions {
        let assume = Assume {
            dirty: self.assume.contains(&Assumed::Dirty),
            data: self.assume.contains(&Assumed::Data),
        };
        WriteOptions {
            size: self.size,
            blocks: self.block.map_or(Blocks::Variable, Blocks::Fixed),
            page: self.page,
            loss: if self.lossy { Loss::Allow } else { Loss::Refuse },
            assume,
        }
    }
}

/// Says which of two things is meant: both are called a hole by one program or another.
fn explain(lost: &BTreeSet<Attribute>) -> &'static str {
    if lost.contains(&Attribute::Hole) || lost.contains(&Attribute::Layer) {
        "; hole is the HOLE flag of base:allocation, layer the image that holds the bytes: where none does, \
            imageio-zero says \"hole\""
    } else {
        ""
    }
}

/// The name of the first of two lists.
const STDIN: &str = "standard input";

/// The list of `--with FORMAT FILE`.
fn second(with: &[String]) -> Result<(Format, &str), Failure> {
    let [format, file] = with else {
        return Err(crate::wrong_usage("convert", "'--with' takes a format and a file"));
    };
    match format.parse() {
        Ok(format) => Ok((format, file)),
        Err(error) => Err(crate::wrong_usage("convert", &format!("'--with {format}': {error}"))),
    }
}

fn missing_size(format: &str) -> Failure {
    crate::wrong_usage("convert", &format!("{format} needs the size of the disk: '--size <N>'"))
}

fn unreadable(error: ListReadError) -> Failure {
    match error {
        ListReadError::List { fault: Fault::SizeNeeded, format, .. } => missing_size(format),
        ListReadError::List { fault: Fault::Input { .. }, .. } => Failure::other(error.to_string()),
        error => Failure::broken(error.to_string()),
    }
}

fn unmergeable(error: MergeError, second: &str) -> Failure {
    match error {
        MergeError::First(error) => unreadable(error).about(STDIN),
        MergeError::Second(error) => unreadable(error).about(second),
        MergeError::Uneven { range, silent } => {
            let (silent, other) = if silent == 0 { (STDIN, second) } else { (second, STDIN) };
            Failure::broken(format!(
                "{silent}: bytes {}..{} are missing, which {other} describes",
                range.start, range.end
            ))
        }
        error => Failure::broken(error.to_string()),
    }
}

fn failure(error: ConvertError<Failure>) -> Failure {
    let error = match error {
        ConvertError::Read(failure) => return failure,
        ConvertError::Write(error) => error,
    };
    let hint = match error {
        ListWriteError::Output(error) => return error.into(),
        ListWriteError::SizeNeeded { format } => return missing_size(format),
        ListWriteError::Lost { ref lost, .. } => {
            let hint = format!("{} (--lossy leaves it out)", explain(lost));
            return Failure::not_there(error.to_string()).hint(&hint);
        }
        ListWriteError::Unknown { attribute: Attribute::Dirty, .. } => " (--assume dirty takes it for dirty)",
        ListWriteError::Unknown { attribute: Attribute::Zero, .. } => " (--assume data takes it for data)",
        ListWriteError::Unknown { attribute: Attribute::Layer, .. } => {
            ": which image holds the bytes only lists of an image say, and base:allocation does not"
        }
        _ => "",
    };
    Failure::not_there(error.to_string()).hint(hint)
}
