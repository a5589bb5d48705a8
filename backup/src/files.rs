//! Backups in files: read to their ends, and checked as a chain.

use core::error::Error;
use core::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nbd_extents::chain::ChainFact;

use crate::sparse_stream::{self, Contents, ContentsError, StreamChain, StreamChainError, StreamFact};

/// Backups that were read to their ends, oldest first, each of them sound.
///
/// ```
/// use nbd_extents_backup::BackupFiles;
/// use nbd_extents_backup::sparse_stream::{Meta, Writer};
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("disk.full");
/// let (mut writer, mut stream) = Writer::new(&Meta::full(8192, 0, "now"))?;
/// stream.extend(writer.zero(0..8192)?.parts().concat());
/// stream.extend(writer.stop()?.parts().concat());
/// std::fs::write(&file, stream)?;
///
/// let files = BackupFiles::read(vec![file])?;
/// assert_eq!(files.contents()[0].summary().zero, 8192);
/// assert_eq!(files.verify()?, [vec![]], "nothing is left unchecked");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BackupFiles {
    files: Vec<PathBuf>,
    contents: Vec<Contents>,
}

/// A fact of a backup that could not be checked, because no file states it.
///
/// ```
/// use nbd_extents_backup::UncheckedFact;
/// use nbd_extents_backup::sparse_stream::StreamFact;
///
/// let fact = UncheckedFact::Stream(StreamFact::Bytes);
/// assert_eq!(fact.to_string(), "its bytes (it has no checksum)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UncheckedFact {
    /// A fact of the stream alone.
    Stream(StreamFact),
    /// A fact of the stream and its parent.
    Chain(ChainFact),
    /// The parent is not there.
    Parent,
}

impl Display for UncheckedFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(fact) => fact.fmt(f),
            Self::Chain(fact) => fact.fmt(f),
            Self::Parent => f.write_str("its parent, which is not among the files"),
        }
    }
}

impl BackupFiles {
    /// Reads files to their ends, and checks each of them.
    ///
    /// # Errors
    ///
    /// [`FilesError::Open`] and [`FilesError::Stream`] for the first that cannot be read, or is not
    /// one sound and whole stream.
    pub fn read(files: Vec<PathBuf>) -> Result<Self, FilesError> {
        Self::read_with(files, |file| File::open(file))
    }

    /// Like [`read`](Self::read); `open` opens each name, which need not be that of a file.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with<R: Read>(
        files: Vec<PathBuf>,
        open: impl Fn(&Path) -> io::Result<R>,
    ) -> Result<Self, FilesError> {
        let contents = |file: &PathBuf| {
            let input = open(file).map_err(|error| FilesError::Open { file: file.clone(), error })?;
            Contents::read(input).map_err(|error| FilesError::Stream { file: file.clone(), error })
        };
        Ok(Self { contents: files.iter().map(contents).collect::<Result<_, _>>()?, files })
    }

    /// The names.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The contents, one of each file.
    #[must_use]
    pub fn contents(&self) -> &[Contents] {
        &self.contents
    }

    /// The files as a chain, on top of the checkpoint `base` where there is one: see
    /// [`sparse_stream::chain`].
    ///
    /// # Errors
    ///
    /// [`FilesError::Chain`] for files that do not follow each other.
    pub fn chain<'a>(&'a self, base: Option<&'a str>) -> Result<StreamChain<'a>, FilesError> {
        sparse_stream::chain(&self.contents, base).map_err(|error| {
            let file = error.position().and_then(|position| self.files.get(position)).cloned();
            FilesError::Chain { file, error }
        })
    }

    /// Checks that the files follow each other, and lists for each file the facts that could not be
    /// checked. One incremental alone is sound or not, whatever its parent is.
    ///
    /// # Errors
    ///
    /// As [`chain`](Self::chain).
    pub fn verify(&self) -> Result<Vec<Vec<UncheckedFact>>, FilesError> {
        if let [only] = self.contents()
            && only.meta().incremental
        {
            let mut facts = self.unchecked(None, 0);
            facts.push(UncheckedFact::Parent);
            return Ok(vec![facts]);
        }
        let chain = self.chain(None)?;
        Ok((0..self.files.len()).map(|position| self.unchecked(Some(&chain), position)).collect())
    }

    /// The facts of the file at this position that could not be checked, alone and in the chain.
    #[must_use]
    pub fn unchecked(&self, chain: Option<&StreamChain<'_>>, position: usize) -> Vec<UncheckedFact> {
        let alone = self.contents.get(position).into_iter().flat_map(Contents::unchecked);
        let facts = chain.into_iter().flat_map(StreamChain::unchecked);
        let facts = facts.filter(|unchecked| unchecked.layer.position == position);
        alone
            .map(UncheckedFact::Stream)
            .chain(facts.map(|unchecked| UncheckedFact::Chain(unchecked.fact)))
            .collect()
    }
}

/// Opens a file of a backup.
pub(crate) fn open(file: &Path) -> Result<File, FilesError> {
    File::open(file).map_err(|error| FilesError::Open { file: file.to_owned(), error })
}

/// Files that are no backups, or not those of one chain.
///
/// ```
/// use nbd_extents_backup::{BackupFiles, FilesError};
///
/// let error = BackupFiles::read(vec!["/nowhere/disk.full".into()]).unwrap_err();
/// assert!(matches!(error, FilesError::Open { .. }));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FilesError {
    /// A file cannot be opened.
    Open {
        /// Its name.
        file: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file is not one sound and whole stream, or cannot be read.
    Stream {
        /// Its name.
        file: PathBuf,
        /// Why not.
        error: ContentsError,
    },
    /// The files are not a chain.
    Chain {
        /// The file at fault, where it is one.
        file: Option<PathBuf>,
        /// Why not.
        error: StreamChainError,
    },
    /// A file has changed since it was checked.
    Changed {
        /// Its name.
        file: PathBuf,
    },
}

impl Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { file, error } => write!(f, "{}: {error}", file.display()),
            Self::Stream { file, error } => write!(f, "{}: {error}", file.display()),
            Self::Chain { file: Some(file), error } => {
                write!(f, "{}: {error}", file.display())
            }
            Self::Chain { file: None, error } => error.fmt(f),
            Self::Changed { file } => {
                write!(f, "{}: the stream has changed since it was checked", file.display())
            }
        }
    }
}

impl Error for FilesError {
    /// The cause of the fault, which is itself part of the message.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Stream { error, .. } => error.source(),
            Self::Chain { error, .. } => error.source(),
            Self::Open { .. } | Self::Changed { .. } => None,
        }
    }
}
