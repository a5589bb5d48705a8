//! The backup that an incremental stands on.

use std::path::{Path, PathBuf};

use nbd_extents::Bitmaps;
use nbd_extents::action::{Baseline, BaselineError, Incremental};

use crate::files::{self, FilesError};
use crate::sparse_stream::{Meta, StreamEnds};

/// The backup that an incremental stands on: the one at which its bitmaps were started.
///
/// ```
/// use nbd_extents_backup::Parent;
///
/// let monday = Parent::by_hand(Some("monday".into()), Some(1 << 30)).may_have_grown();
/// assert_eq!((monday.checkpoint(), monday.size()), (Some("monday"), Some(1 << 30)));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Parent {
    facts: ParentFacts,
    /// The file that the facts were read from.
    file: Option<PathBuf>,
    may_have_grown: bool,
}

#[derive(Clone, Debug)]
enum ParentFacts {
    Stream(Box<StreamEnds>),
    ByHand { checkpoint: Option<String>, size: Option<u64> },
}

impl Parent {
    /// The backup in this file, of which the two ends are read.
    ///
    /// Its checkpoint, the size of its disk and its checksum become those of the incremental's
    /// parent, and its disk the incremental's. All that lies between the ends is not checked.
    ///
    /// # Errors
    ///
    /// [`FilesError`] for a file that cannot be read, or has not the two ends of a stream.
    pub fn read(file: &Path) -> Result<Self, FilesError> {
        let ends = StreamEnds::read(files::open(file)?)
            .map_err(|error| FilesError::Stream { file: file.to_owned(), error })?;
        Ok(Self { file: Some(file.to_owned()), ..Self::of_stream(ends) })
    }

    /// The backup with these two ends, wherever it is.
    pub fn of_stream(ends: StreamEnds) -> Self {
        Self { facts: ParentFacts::Stream(Box::new(ends)), file: None, may_have_grown: false }
    }

    /// A backup of this checkpoint, when the disk had `size` bytes, as far as either is known.
    ///
    /// A disk of unknown size is taken to have had its present one. State the size where it is
    /// known: after a disk has grown, qemu calls the new part clean.
    pub const fn by_hand(checkpoint: Option<String>, size: Option<u64>) -> Self {
        Self { facts: ParentFacts::ByHand { checkpoint, size }, file: None, may_have_grown: false }
    }

    /// A disk that has grown since is no error: all beyond its old end is backed up.
    pub fn may_have_grown(self) -> Self {
        Self { may_have_grown: true, ..self }
    }

    /// The name of its checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&str> {
        match &self.facts {
            ParentFacts::Stream(ends) => ends.meta.checkpoint.as_deref(),
            ParentFacts::ByHand { checkpoint, .. } => checkpoint.as_deref(),
        }
    }

    /// The size of its disk in bytes.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match &self.facts {
            ParentFacts::Stream(ends) => Some(ends.meta.virtual_size),
            ParentFacts::ByHand { size, .. } => *size,
        }
    }

    /// The file that it was read from, which its incremental must not replace.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Whether growth is allowed from a size that is not known, so that it would not be noticed.
    pub(super) fn hides_growth(&self) -> bool {
        self.may_have_grown && self.size().is_none()
    }

    /// The policy of an incremental of a disk that has `size` bytes now.
    pub(super) fn policy(&self, bitmaps: Bitmaps, size: u64) -> Result<Incremental, BaselineError> {
        let baseline = Baseline::new(self.size().unwrap_or(size), bitmaps);
        if self.may_have_grown {
            Incremental::new_or_grown(baseline, size)
        } else {
            Incremental::new(baseline, size)
        }
    }

    /// States the parent in the meta frame of its incremental.
    pub(super) fn describe_in(&self, meta: &mut Meta) {
        match &self.facts {
            ParentFacts::Stream(ends) => meta.follow(ends),
            ParentFacts::ByHand { checkpoint, size } => {
                meta.incremental = true;
                meta.parent.clone_from(checkpoint);
                meta.parent_size = *size;
            }
        }
    }
}
