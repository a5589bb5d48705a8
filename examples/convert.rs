//! `convert`: turns the extent list of one program into that of another, and refuses what would lose its meaning.
//!
//! ```text
//! nbdinfo --map=qemu:dirty-bitmap:b0 --json nbd://host/disk | convert --from nbdinfo-dirty-json --to imageio-dirty
//! ```
//!
//! Reads stdin, writes stdout, and holds neither. Exit codes, with one line on stderr, and never a finished list on stdout: 2 wrong usage; 3 the target
//! cannot say what the input says (then `--lossy` leaves it out), or must say what the input does not (then `--assume` may help); 5 the input is
//! not what its format demands; 1 the rest.

use core::num::NonZeroU64;
use std::io::{self, BufReader, BufWriter, Write};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use nbd_extents_formats::csi::{Blocks, Unallocated};
use nbd_extents_formats::{
    Assume, EncodeFacts, Format, InputError, IoInput, IoText, Loss, OutputError, ReadOptions, WriteError,
    WriteOptions, read, write,
};

/// Turns the extent list of one program into that of another: stdin to stdout.
///
/// Formats: imageio-zero, imageio-dirty, nbdinfo-allocation, nbdinfo-dirty, nbdinfo-depth (each also with -json), qemu-img, qemu-img-dirty,
/// kubevirt-full, kubevirt-incremental, csi-delta, csi-allocated, extentlist, qcow2reader.
#[derive(Debug, Parser)]
#[command(name = "convert", version)]
struct Args {
    /// The format of stdin
    #[arg(long, value_name = "FORMAT")]
    from: Format,
    /// The format of stdout
    #[arg(long, value_name = "FORMAT")]
    to: Format,
    /// Leave out what the target cannot say, and name it on stderr
    #[arg(long)]
    lossy: bool,
    /// Take what the input does not say for dirty, or for data, where the target must say it; may be repeated
    #[arg(long, value_name = "WHAT", value_enum)]
    assume: Vec<Assumed>,
    /// The size of the disk: read from an extentlist, written to a csi list (bytes, or with K, M, G, T)
    #[arg(long, value_name = "N", value_parser = parse_size)]
    size: Option<u64>,
    /// The byte from which on a csi list was asked for
    #[arg(long, value_name = "N", value_parser = parse_size, default_value = "0")]
    starting_offset: u64,
    /// The CSI driver promises that blocks which are not allocated read as zero
    #[arg(long)]
    unallocated_is_zero: bool,
    /// Write a csi list of blocks of this size; without, of ranges of any size
    #[arg(long, value_name = "N", value_parser = parse_size)]
    block: Option<u64>,
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

/// An exit code and a line for stderr.
struct Failure(u8, String);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, line)) => {
            if !line.is_empty() {
                eprintln!("convert: {line}");
            }
            ExitCode::from(code)
        }
    }
}

fn run() -> Result<(), Failure> {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => {
            print!("{error}");
            return Ok(());
        }
        Err(error) => return Err(Failure(2, first_line(&error.to_string()))),
    };
    let usage = |error: WriteError| Failure(2, format!("{error}: see --size"));
    let decoder = args.from.decoder(&args.read_options()).map_err(usage)?;
    let mut encoder = args.to.encoder(&args.write_options()?).map_err(usage)?;
    let input = IoInput::new(BufReader::with_capacity(1 << 16, io::stdin().lock()));
    let mut out = IoText::new(BufWriter::with_capacity(1 << 16, io::stdout().lock()));
    let written = write(read(decoder, input), &mut *encoder, &mut out);
    let flushed = out.into_inner().and_then(|mut out| out.flush());
    match (written, flushed) {
        (Ok(()), Ok(())) => {
            report_losses(&*encoder);
            Ok(())
        }
        // the sink has failed, and it has the reason
        (Ok(()) | Err(OutputError::Format(WriteError::Sink(_))), Err(error)) => Err(cannot_write(&error)),
        (Err(error), _) => Err(failure(&error)),
    }
}

impl Args {
    const fn read_options(&self) -> ReadOptions {
        ReadOptions {
            size: self.size,
            starting_offset: self.starting_offset,
            unallocated: if self.unallocated_is_zero { Unallocated::Zero } else { Unallocated::Undefined },
        }
    }

    fn write_options(&self) -> Result<WriteOptions, Failure> {
        let blocks = match self.block.map(NonZeroU64::new) {
            None => Blocks::Variable,
            Some(Some(block)) => Blocks::Fixed(block),
            Some(None) => return Err(Failure(2, "a block of 0 bytes holds nothing".to_owned())),
        };
        let assume = Assume {
            dirty: self.assume.contains(&Assumed::Dirty),
            data: self.assume.contains(&Assumed::Data),
        };
        let loss = if self.lossy { Loss::Allow } else { Loss::Refuse };
        Ok(WriteOptions { size: self.size, blocks, page: self.page, loss, assume })
    }
}

fn report_losses(encoder: &dyn EncodeFacts) {
    if !encoder.lost().is_empty() {
        eprintln!("convert: left out: {}", encoder.lost());
    }
}

fn failure(error: &OutputError<InputError<io::Error>>) -> Failure {
    let (code, hint) = match error {
        OutputError::Stream(InputError::Input(_)) => (1, ""),
        OutputError::Stream(_) => (5, ""),
        OutputError::Format(WriteError::Lost { .. }) => (3, " (--lossy leaves it out)"),
        OutputError::Format(WriteError::Unknown { .. }) => (3, " (--assume may help)"),
        OutputError::Format(_) => (3, ""),
        _ => (1, ""),
    };
    Failure(code, format!("{error}{hint}"))
}

/// A reader that has gone away (`| head`) is nothing to talk about.
fn cannot_write(error: &io::Error) -> Failure {
    let gone = error.kind() == io::ErrorKind::BrokenPipe;
    Failure(1, if gone { String::new() } else { format!("cannot write: {error}") })
}

/// Bytes, with an optional binary unit: `4096`, `64K`, `10G`.
fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((digits, "K")) => (digits, 10),
        Some((digits, "M")) => (digits, 20),
        Some((digits, "G")) => (digits, 30),
        Some((digits, "T")) => (digits, 40),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a number of bytes, with or without K, M, G, T".to_owned());
    }
    let number: u64 = digits.parse().map_err(|_| "too large".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// clap's message without its heading and hints: errors are one line here.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
