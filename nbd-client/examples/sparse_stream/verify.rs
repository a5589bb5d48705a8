//! Are streams whole, and do they follow each other? No server is asked.

use core::ops::Range;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nbd_extents_formats::sparse_stream::{Meta, Summary};

use crate::common::args::human;
use crate::common::failure::Failure;
use crate::input::{self, Sink};

/// Does what the command line asks: a line for each stream that is sound.
pub(crate) fn run(files: &[PathBuf]) -> Result<(), Failure> {
    if files.is_empty() {
        let (meta, summary) = check(io::stdin().lock())?;
        print(&meta, &summary);
        return Ok(());
    }
    let mut before: Option<Meta> = None;
    for file in files {
        let (meta, summary) = open(file).map_err(|failure| failure.about(&file.display().to_string()))?;
        if let Some(fault) = misfit(before.as_ref(), &meta, files.len()) {
            return Err(Failure::other(format!("{}: {fault}", file.display())));
        }
        print(&meta, &summary);
        before = Some(meta);
    }
    Ok(())
}

/// Why a stream cannot be restored onto the one before, as far as can be known.
fn misfit(before: Option<&Meta>, meta: &Meta, count: usize) -> Option<String> {
    let Some(before) = before else {
        return (count > 1 && meta.incremental)
            .then(|| "an incremental cannot be the first of a chain".to_owned());
    };
    if !meta.incremental {
        return Some("a full backup within a chain".to_owned());
    }
    if meta.virtual_size < before.virtual_size {
        let (now, then) = (meta.virtual_size, before.virtual_size);
        return Some(format!("a disk of {now} bytes after one of {then}"));
    }
    match (&meta.parent, &before.checkpoint) {
        (Some(parent), Some(checkpoint)) if parent != checkpoint => {
            Some(format!("based on checkpoint {parent:?}, but the backup before is of {checkpoint:?}"))
        }
        _ => None,
    }
}

fn open(file: &Path) -> Result<(Meta, Summary), Failure> {
    check(File::open(file).map_err(|error| Failure::other(error.to_string()))?)
}

fn check(input: impl io::Read) -> Result<(Meta, Summary), Failure> {
    let mut meta = None;
    let summary = input::read(input, &mut meta)?;
    // a whole stream has begun
    meta.map(|meta| (meta, summary)).ok_or_else(|| Failure::other("the stream had nothing to say"))
}

/// Keeps what the stream is about, and passes over the rest.
impl Sink for Option<Meta> {
    fn begin(&mut self, meta: &Meta) -> Result<(), Failure> {
        *self = Some(meta.clone());
        Ok(())
    }

    fn data(&mut self, _: u64, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn zero(&mut self, _: Range<u64>) -> Result<(), Failure> {
        Ok(())
    }
}

/// A reader that has gone away is nothing to talk about.
fn print(meta: &Meta, summary: &Summary) {
    let kind = if meta.incremental { "incremental" } else { "full" };
    let Summary { data, zero, frames, .. } = *summary;
    let (size, data, zero) = (human(meta.virtual_size), human(data), human(zero));
    let _ =
        writeln!(io::stdout(), "{kind} of {size}: {data} of data, {zero} of zeroes, {frames} frames; whole");
}
