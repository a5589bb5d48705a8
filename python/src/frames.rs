//! A stream being written: its frames, and the file beside the one that it replaces when it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use nbd_client::pipeline::PipelineOptions;
use nbd_client::{Error, Pool, ReadAhead};
use nbd_extents::StreamError;
use nbd_extents::plan::PlanStep;
use nbd_extents_backup::sparse_stream::{Frame, Meta, Writer};
use tempfile::NamedTempFile;

use crate::errors::Failure;
use crate::job::Progress;

/// Frames wait for each other in a buffer of this size. A payload is larger, and goes straight out.
const BUFFER: usize = 64 << 10;

/// A new file beside the one that it replaces in the end, or that is removed again.
pub(crate) struct Target {
    file: NamedTempFile,
    /// The file to replace, beyond all links.
    path: PathBuf,
}

impl Target {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
        builder.suffix(".partial");
        if let Ok(old) = path.metadata() {
            if !old.is_file() {
                return Err(io::Error::other("the backup can replace a regular file only"));
            }
            // a file that may not be written may not be replaced either, whatever its folder allows
            File::options().write(true).open(&path)?;
            let file = builder.tempfile_in(folder(&path))?;
            file.as_file().set_permissions(old.permissions())?;
            return Ok(Self { file, path });
        }
        Ok(Self { file: builder.tempfile_in(folder(&path))?, path })
    }

    pub(crate) fn commit(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path)?;
        // the name is on disk only with its folder
        File::open(folder(&self.path))?.sync_all()
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A stream being written. Without its last frame it is not whole.
pub(crate) struct Frames {
    out: BufWriter<Target>,
    writer: Writer,
}

impl Frames {
    pub(crate) fn new(target: Target, meta: &Meta) -> Result<Self, Failure> {
        let (writer, first) = Writer::new(meta).map_err(Failure::other)?;
        let mut out = BufWriter::with_capacity(BUFFER, target);
        out.write_all(&first).map_err(unwritten)?;
        Ok(Self { out, writer })
    }

    /// Carries out a plan, whose copies are read ahead.
    pub(crate) fn write(
        &mut self,
        client: &mut Pool,
        plan: impl Iterator<Item = Result<PlanStep, StreamError>> + Clone,
        progress: &Progress,
    ) -> Result<(), Failure> {
        // a fault of the plan ends the reads here, and is reported by the walk below
        let copies = plan.clone().map_while(Result::ok).filter_map(|step| match step {
            PlanStep::Copy { range } => Some(range),
            PlanStep::Zero { .. } => None,
        });
        let mut blocks = ReadAhead::new(client, copies, PipelineOptions::default())?;
        let mut done = 0;
        for step in plan {
            match step? {
                PlanStep::Zero { range, .. } => {
                    let frame = self.writer.zero(range).map_err(Failure::other)?;
                    put(&mut self.out, &frame)?;
                }
                PlanStep::Copy { range } => {
                    let mut at = range.start;
                    while at < range.end {
                        // no block where one is due would be a fault of the reader
                        let block = blocks.next_block()?.ok_or(Error::GivenUp)?;
                        let frame = self.writer.data(block.offset, block.data).map_err(Failure::other)?;
                        put(&mut self.out, &frame)?;
                        at = block.offset + block.data.len() as u64;
                        done += block.data.len() as u64;
                        progress.done(done);
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Target, Failure> {
        let stop = self.writer.stop().map_err(Failure::other)?;
        put(&mut self.out, &stop)?;
        self.out.into_inner().map_err(|error| unwritten(error.into_error()))
    }
}

fn put(out: &mut impl Write, frame: &Frame<'_>) -> Result<(), Failure> {
    frame.parts().iter().try_for_each(|part| out.write_all(part)).map_err(unwritten)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritten(error: io::Error) -> Failure {
    Failure::other(format!("the backup cannot be written: {error}"))
}
