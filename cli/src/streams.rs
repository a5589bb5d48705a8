//! Reading backups: one stream to a consumer of its events, or several as a chain.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nbd_extents_backup::sparse_stream::{self, Contents, Event, StreamChain, StreamEnds, Summary};

use crate::failure::Failure;

/// Whether this is the name of standard input.
pub(crate) fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Reads the stream in a file, or on standard input for `-`, to its end. Its faults name the file.
pub(crate) fn read(
    file: &Path,
    consumer: impl FnMut(Event<'_>) -> Result<(), Failure>,
) -> Result<Summary, Failure> {
    if is_stdin(file) {
        return sparse_stream::read(io::stdin().lock(), consumer);
    }
    sparse_stream::read(open(file)?, consumer).map_err(|failure| about(failure, file))
}

/// Reads the two ends of a stream: all that the next one needs of it.
pub(crate) fn ends(file: &Path) -> Result<StreamEnds, Failure> {
    StreamEnds::read(open(file)?).map_err(|error| about(error.into(), file))
}

fn open(file: &Path) -> Result<File, Failure> {
    File::open(file).map_err(|error| Failure::file(file, &error))
}

fn about(failure: Failure, file: &Path) -> Failure {
    failure.about(&file.display().to_string())
}

/// Streams that have been read to their ends, each of them sound.
pub(crate) struct Streams<'a> {
    files: &'a [PathBuf],
    contents: Vec<Contents>,
}

impl<'a> Streams<'a> {
    pub(crate) fn read(files: &'a [PathBuf]) -> Result<Self, Failure> {
        let contents = |file: &PathBuf| {
            let contents =
                if is_stdin(file) { Contents::read(io::stdin().lock()) } else { Contents::read(open(file)?) };
            contents.map_err(|error| about(error.into(), file))
        };
        Ok(Self { files, contents: files.iter().map(contents).collect::<Result<_, _>>()? })
    }

    pub(crate) fn contents(&self) -> &[Contents] {
        &self.contents
    }

    /// The streams as a chain, on top of the checkpoint `base` where there is one.
    pub(crate) fn chain(&self, base: Option<&'a str>) -> Result<StreamChain<'_>, Failure> {
        sparse_stream::chain(&self.contents, base).map_err(|error| {
            let file = error.position().and_then(|position| self.files.get(position));
            let failure = Failure::from(error);
            match file {
                Some(file) => about(failure, file),
                None => failure,
            }
        })
    }

    /// The facts of the stream at this position that could not be checked, alone and in the chain.
    pub(crate) fn unchecked(&self, chain: Option<&StreamChain<'_>>, position: usize) -> Vec<String> {
        let alone = self.contents.get(position).into_iter().flat_map(Contents::unchecked);
        let facts = chain.into_iter().flat_map(StreamChain::unchecked);
        let facts = facts.filter(|unchecked| unchecked.layer.position == position);
        alone.map(|fact| fact.to_string()).chain(facts.map(|unchecked| unchecked.fact.to_string())).collect()
    }
}
