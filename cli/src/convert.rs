//! `convert`: the extent list of one program as that of another, or two lists about one disk as
//! one. A list that would lose its meaning is refused.

use core::num::NonZeroU64;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Extent, StreamError};
use nbd_extents_formats::csi::{Blocks, Unallocated};
use nbd_extents_formats::{
    Assume, Decode, Extents, Facts, Format, InputError, IoInput, IoText, Loss, OutputError, ReadOptions,
    WriteError, WriteOptions, read, write,
};

use crate::failure::Failure;
use crate::output::{Output, remark};
use crate::values::{parse_length, parse_size};

/// Turns the extent list of one program into that of another: stdin to stdout
///
/// With --with two lists about the same disk become one.
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbd-extents map --demo --json |
    nbd-extents convert --from imageio-dirty --to nbdinfo-dirty --lossy"))]
pub(crate) struct Args {
    /// The format of standard input
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    from: Format,
    /// The format of standard output
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    to: Format,
    /// A second list about the same disk, from a file
    ///
    /// Where both know whether bytes are dirty, they are if one of them says so; where both know
    /// whether they are zero, they are if both say so.
    #[arg(long, num_args = 2, value_names = ["FORMAT", "FILE"])]
    with: Option<Vec<String>>,
    /// The size of the disk, which the input has to cover
    #[arg(long, value_name = "N", value_parser = parse_size)]
    size: Option<u64>,
    /// Leave out what the target cannot say, and name it on stderr
    #[arg(long)]
    lossy: bool,
    /// Take what the input does not say for dirty, or for data; may be repeated
    #[arg(long, value_name = "WHAT", value_enum)]
    assume: Vec<Assumed>,
    /// The byte from which on a csi list was asked for
    #[arg(long, value_name = "N", value_parser = parse_size, default_value = "0")]
    starting_offset: u64,
    /// The CSI driver promises that blocks not allocated read as zero
    #[arg(long)]
    unallocated_is_zero: bool,
    /// Write a csi list of blocks of this size; without, of ranges of any size
    #[arg(long, value_name = "N", value_parser = parse_length)]
    block: Option<NonZeroU64>,
    /// Rows on a page of KubeVirt, or in a record of csi
    #[arg(long, value_name = "N", default_value = "1000")]
    page: NonZeroU64,
}

/// What may be taken for known: nobody can assume that bytes are clean or zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Assumed {
    Dirty,
    Data,
}

/// Does what the command line asks.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut encoder = args.to.encoder(&args.write_options()).map_err(|error| missing_option(&error))?;
    let first = args.input(args.from, Box::new(io::stdin().lock()), None)?;
    let mut out = IoText::new(Output::streamed());
    let written = match &args.with {
        None => write(first, &mut *encoder, &mut out).map_err(|error| failure(error, ["", ""])),
        Some(with) => {
            let second = args.second(with)?;
            let names = [STDIN, second.name.as_deref().unwrap_or_default()].map(str::to_owned);
            let first = Input { name: Some(STDIN.to_owned()), ..first };
            write(first.merge(second, both), &mut *encoder, &mut out)
                .map_err(|error| failure(error, names.each_ref().map(String::as_str)))
        }
    };
    match (written, out.take_error()) {
        (Ok(()), None) => out.into_inner()?.finish()?,
        (_, Some(error)) => return Err(error.into()),
        (Err(failure), None) => return Err(failure),
    }
    if !encoder.lost().is_empty() {
        remark(format_args!("left out: {}", encoder.lost()));
    }
    Ok(())
}

/// Takes the name of a format. clap lists those that there are, and suggests the nearest.
fn formats() -> impl TypedValueParser<Value = Format> {
    let names = Format::ALL.iter().map(|format| format.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Format>())
}

impl Args {
    /// A list to be read. `name` is how its faults are told from those of the other list.
    fn input(&self, format: Format, bytes: Box<dyn BufRead>, name: Option<String>) -> Result<Input, Failure> {
        let options = ReadOptions {
            size: self.size,
            starting_offset: self.starting_offset,
            unallocated: if self.unallocated_is_zero { Unallocated::Zero } else { Unallocated::Undefined },
        };
        let decoder = format.decoder(&options).map_err(|error| missing_option(&error))?;
        Ok(Input { extents: read(decoder, IoInput::new(bytes)), name, size: self.size, end: None })
    }

    /// The list of `--with FORMAT FILE`.
    fn second(&self, with: &[String]) -> Result<Input, Failure> {
        let [format, file] = with else {
            return Err(crate::wrong_usage("convert", "'--with' takes a format and a file"));
        };
        let Ok(format) = format.parse::<Format>() else {
            let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
            let wrong = format!("'--with {format}' names no format; there are {}", names.join(", "));
            return Err(crate::wrong_usage("convert", &wrong));
        };
        let path = Path::new(file);
        let bytes = File::open(path).map_err(|error| Failure::file(path, &error))?;
        self.input(format, Box::new(BufReader::with_capacity(1 << 16, bytes)), Some(file.clone()))
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

fn missing_option(error: &WriteError) -> Failure {
    crate::wrong_usage("convert", &format!("{error}: '--size <N>'"))
}

/// The name of the first of two lists.
const STDIN: &str = "standard input";

/// Why a list cannot be read, or two lists cannot be merged.
enum ListError {
    /// The failure names the list.
    Read(Failure),
    Merge(StreamError),
}

impl From<StreamError> for ListError {
    fn from(error: StreamError) -> Self {
        Self::Merge(error)
    }
}

/// One list as a stream, whose faults say which list they are of.
struct Input {
    extents: Extents<Box<dyn Decode<Row = Facts>>, IoInput<Box<dyn BufRead>>>,
    name: Option<String>,
    /// The size of the disk, where it was given: the list has to reach it.
    size: Option<u64>,
    /// The end of the last extent read.
    end: Option<u64>,
}

impl Input {
    fn fault(&self, failure: Failure) -> ListError {
        ListError::Read(match &self.name {
            Some(name) => failure.about(name),
            None => failure,
        })
    }

    /// Whether the list may end here. One without any extent comes from a program that failed,
    /// unless the disk is empty: taken at its word, nothing would be dirty.
    fn check_end(&self) -> Result<(), ListError> {
        let fault = match (self.end, self.size) {
            (None, Some(0)) => return Ok(()),
            (None, _) => {
                "the list is empty, as if its program had failed (--size 0 for an empty disk)".to_owned()
            }
            (Some(end), Some(size)) if end != size => {
                format!("the list ends at byte {end}, and the disk has {size} bytes")
            }
            _ => return Ok(()),
        };
        Err(self.fault(Failure::broken(fault)))
    }
}

impl ExtentStream for Input {
    type Status = Facts;
    type Error = ListError;

    fn next_extent(&mut self) -> Result<Option<Extent<Facts>>, ListError> {
        match self.extents.next_extent() {
            Ok(Some(extent)) => {
                let starts_late = self.end.is_none() && self.size.is_some() && extent.start() > 0;
                if starts_late {
                    let start = extent.start();
                    return Err(
                        self.fault(Failure::broken(format!("the list begins at byte {start}, not at 0")))
                    );
                }
                self.end = Some(extent.end());
                Ok(Some(extent))
            }
            Ok(None) => self.check_end().map(|()| None),
            Err(error @ InputError::Input(_)) => Err(self.fault(Failure::other(error.to_string()))),
            Err(error) => Err(self.fault(Failure::broken(error.to_string()))),
        }
    }
}

/// What two lists say of the same bytes. Where both know a thing and differ, the safer answer
/// holds: dirty, not zero, or not known.
fn both(a: &Facts, b: &Facts) -> Facts {
    fn agreed<T: Copy + PartialEq>(a: Option<T>, b: Option<T>) -> Option<T> {
        match (a, b) {
            (Some(a), Some(b)) => (a == b).then_some(a),
            _ => a.or(b),
        }
    }
    Facts {
        zero: a.zero.zip(b.zero).map_or(a.zero.or(b.zero), |(a, b)| Some(a && b)),
        hole: if a.zero.and(b.zero).is_some() { a.hole && b.hole } else { a.hole || b.hole },
        dirty: a.dirty.zip(b.dirty).map_or(a.dirty.or(b.dirty), |(a, b)| Some(a || b)),
        layer: agreed(a.layer, b.layer),
        compressed: agreed(a.compressed, b.compressed),
        host_offset: agreed(a.host_offset, b.host_offset),
    }
}

/// `names` are those of the two lists that were merged.
fn failure(error: OutputError<ListError>, names: [&str; 2]) -> Failure {
    match error {
        OutputError::Stream(ListError::Read(failure)) => failure,
        OutputError::Stream(ListError::Merge(StreamError::Uneven { range, silent })) => {
            let (silent, other) = if silent == 0 { (names[0], names[1]) } else { (names[1], names[0]) };
            Failure::broken(format!(
                "{silent}: bytes {}..{} are missing, which {other} describes",
                range.start, range.end
            ))
        }
        OutputError::Stream(ListError::Merge(error)) => error.into(),
        OutputError::Format(error) => {
            let hint = match error {
                WriteError::Lost { .. } => " (--lossy leaves it out)",
                WriteError::Unknown { .. } => " (--assume may help)",
                _ => "",
            };
            Failure::not_there(error.to_string()).hint(hint)
        }
        _ => Failure::other("the list could not be written"),
    }
}
