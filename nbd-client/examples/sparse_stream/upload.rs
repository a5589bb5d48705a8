//! A restore: frames from stdin onto the disk. It can be run again: what it does depends on the stream alone.

use core::ops::Range;
use std::io;

use nbd_client::{Client, Export};
use nbd_extents_formats::sparse_stream::Meta;

use crate::cli::Upload;
use crate::common::args::human;
use crate::common::failure::Failure;
use crate::input::{self, Sink};
use crate::progress::Progress;
use crate::target::Target;

/// Does what the command line asks.
pub(crate) fn run(job: &Upload) -> Result<(), Failure> {
    let mut restore = Restore { job, open: None };
    input::read(io::stdin().lock(), &mut restore)?;
    match restore.open {
        Some((target, progress)) => {
            drop(progress);
            target.finish()
        }
        None => Err(Failure::other("the stream had nothing to say")), // a whole stream has begun
    }
}

struct Restore<'a> {
    job: &'a Upload,
    /// The target, once the stream has said how large the disk is.
    open: Option<(Target, Progress)>,
}

impl Sink for Restore<'_> {
    fn begin(&mut self, meta: &Meta) -> Result<(), Failure> {
        if meta.incremental && self.job.target_is_zero {
            return Err(Failure::usage(
                "the stream is an incremental, which needs the backup before it on the target: not with --target-is-zero",
            ));
        }
        let client = Client::connect(&self.job.server.uri, &self.job.server.options)?;
        check(client.export(), meta)?;
        self.open = Some((Target::new(client), Progress::new("writing", meta.data_size)));
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let (target, progress) = self.open()?;
        target.write(offset, bytes)?;
        progress.add(bytes.len() as u64);
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), Failure> {
        if self.job.target_is_zero {
            return Ok(());
        }
        self.open()?.0.zero(range)
    }
}

impl Restore<'_> {
    fn open(&mut self) -> Result<&mut (Target, Progress), Failure> {
        self.open.as_mut().ok_or_else(|| Failure::other("the stream has not begun"))
    }
}

/// Whether the disk of the stream fits the target.
fn check(export: &Export, meta: &Meta) -> Result<(), Failure> {
    if export.flags.is_read_only() {
        return Err(Failure::other("the export is read-only: nothing can be restored onto it"));
    }
    let (size, wanted) = (export.size, meta.virtual_size);
    if size < wanted {
        return Err(Failure::not_there(format!(
            "the target has {size} bytes, and the disk in the stream {wanted}: it does not fit"
        )));
    }
    if size > wanted {
        let tail = human(size - wanted);
        eprintln!(
            "sparse_stream: the target is {tail} larger than the disk in the stream: from byte {wanted} on it stays as it is"
        );
    }
    Ok(())
}
