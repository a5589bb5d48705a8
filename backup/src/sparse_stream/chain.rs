//! Streams as a chain: the library's own rules, over the facts of meta frames and stop frames.

use core::fmt::{self, Display};

use nbd_extents::chain::{Chain, ChainError, ChainLayer, LayerName, SourceError};
use nbd_extents::map::MapExtents;
use nbd_extents::stream::{FromIter, from_iter};
use nbd_extents::{Action, StreamError};
use thiserror::Error;

use super::{Contents, Meta};

/// A chain of streams. Its layers are named by their checkpoints.
pub type StreamChain<'a> = Chain<&'a str, FromIter<MapExtents<'a, Action>>>;

/// Checks that these streams, oldest first, are a whole chain, and gives the chain.
///
/// `base` is the checkpoint that the target holds already: the first stream is then an incremental
/// that names it as its parent. Without a base the first stream is a full backup.
///
/// [`Chain::unchecked`] of the result and [`Contents::unchecked`] of each stream list the facts
/// that the streams do not state, so that they could not be checked.
///
/// # Errors
///
/// [`StreamChainError`] when the streams do not follow each other, or leave out bytes that no other
/// stream has.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Contents, Meta, StreamChainError, Writer, chain};
///
/// let stream = |meta: Meta| {
///     let (mut writer, mut stream) = Writer::new(&meta)?;
///     stream.extend(writer.zero(0..4096)?.parts().concat());
///     stream.extend(writer.stop()?.parts().concat());
///     Ok::<_, Box<dyn std::error::Error>>(Contents::read(&stream[..])?)
/// };
/// let full = stream(Meta::full(4096, 0, "monday"))?;
/// let grown = stream(Meta::incremental(8192, 0, "tuesday"))?;
/// let error = chain(&[full, grown], None).unwrap_err();
/// assert!(matches!(error, StreamChainError::Extents(_)), "4096..8192 is in no stream");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn chain<'a>(
    streams: &'a [Contents],
    base: Option<&'a str>,
) -> Result<StreamChain<'a>, StreamChainError> {
    let layers = streams.iter().map(|stream| {
        let layer = stream.meta().layer(stream.summary().checksum);
        (layer, stream.map().as_slice().stream())
    });
    let chain = match (base, streams.first()) {
        (Some(base), Some(first)) => Chain::onto(base_layer(base, first.meta())?, layers)?,
        _ => Chain::new(layers)?,
    };
    chain.check()?;
    Ok(chain)
}

/// Checks that a chain can begin with the stream that has this meta frame, by the rules of
/// [`chain()`].
///
/// This is for a stream that is applied while it is read, so that its frames cannot be checked
/// first.
///
/// # Errors
///
/// [`StreamChainError`] when the stream is an incremental and there is no base, or another base
/// than its parent.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Meta, check_first};
///
/// let mut tuesday = Meta::incremental(4096, 0, "tuesday");
/// tuesday.parent = Some("m".into());
/// assert!(check_first(&tuesday, Some("m")).is_ok());
/// assert!(check_first(&tuesday, Some("s")).is_err());
/// assert!(check_first(&tuesday, None).is_err());
/// ```
pub fn check_first(meta: &Meta, base: Option<&str>) -> Result<(), StreamChainError> {
    let layer = [(meta.layer(None), from_iter(Vec::new()))];
    match base {
        Some(base) => Chain::onto(base_layer(base, meta)?, layer)?,
        None => Chain::new(layer)?,
    };
    Ok(())
}

/// The state that the target holds. Its size is taken from the first stream, which knows its
/// parent's.
///
/// The name of the base is all that ties it to that stream, so that the stream must state it.
fn base_layer<'a>(base: &'a str, first: &Meta) -> Result<ChainLayer<&'a str>, StreamChainError> {
    if first.incremental && first.parent.is_none() {
        return Err(StreamChainError::NoParentName { base: base.to_owned() });
    }
    let size = first.parent_size.unwrap_or(first.virtual_size);
    Ok(ChainLayer { disk: None, id: Some(base), size, checksum: None, parent: None })
}

/// Streams that are not a whole chain.
///
/// The message names backups by their checkpoints, where the library's speaks of layers and their
/// positions: a program names the file before it, if it knows one. Names out of a stream are escaped.
///
/// ```
/// use nbd_extents::chain::ChainError;
/// use nbd_extents_backup::sparse_stream::{StreamChainError, chain};
///
/// let error = chain(&[], None).unwrap_err();
/// assert!(matches!(error, StreamChainError::Chain(ChainError::Empty)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamChainError {
    /// The streams do not follow each other.
    #[error(fmt = describe)]
    Chain(ChainError),
    /// The first stream does not name its parent, so that nothing ties it to the base.
    #[error(
        "the first backup does not say which one it stands on, so that it may not be {}",
        base.escape_debug()
    )]
    NoParentName {
        /// The checkpoint that the target holds.
        base: String,
    },
    /// Bytes are in none of the streams that should have them.
    #[error(fmt = describe_extents)]
    Extents(SourceError<StreamError>),
}

impl StreamChainError {
    /// The position of the stream that is at fault, counted from 0, where it is one stream.
    ///
    /// ```
    /// use nbd_extents_backup::sparse_stream::chain;
    ///
    /// assert_eq!(chain(&[], None).unwrap_err().position(), None);
    /// ```
    #[must_use]
    pub const fn position(&self) -> Option<usize> {
        match self {
            Self::Chain(error) => error.position(),
            Self::Extents(SourceError::Layer { layer, .. } | SourceError::Grown { layer, .. }) => {
                Some(*layer)
            }
            Self::NoParentName { .. } => Some(0),
            Self::Extents(_) => None,
        }
    }
}

impl From<ChainError> for StreamChainError {
    fn from(error: ChainError) -> Self {
        Self::Chain(error)
    }
}

impl From<SourceError<StreamError>> for StreamChainError {
    fn from(error: SourceError<StreamError>) -> Self {
        Self::Extents(error)
    }
}

/// Missing bytes in the words of backups.
fn describe_extents(error: &SourceError<StreamError>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        SourceError::Layer { error, .. } => error.fmt(f),
        SourceError::Grown { range, .. } => write!(
            f,
            "it leaves out bytes {}..{}, which lie beyond the end of the backup before it",
            range.start, range.end
        ),
        SourceError::Uncovered { range } => {
            write!(f, "bytes {}..{} are in no backup of the chain", range.start, range.end)
        }
        error => error.fmt(f),
    }
}

/// A fault of a chain in the words of backups and checkpoints.
fn describe(error: &ChainError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        ChainError::Empty => f.write_str("a chain needs at least one backup"),
        ChainError::Missing { layer, parent } => {
            let parent = parent.escape_debug();
            write!(f, "{} stands on checkpoint {parent}, which is missing", backup(layer))
        }
        ChainError::Reordered { layer, parent, .. } => write!(
            f,
            "{} stands on checkpoint {}, which must come right before it",
            backup(layer),
            parent.escape_debug()
        ),
        ChainError::NoFull { layer } => {
            write!(f, "{} is an incremental; a chain begins with a full backup", backup(layer))
        }
        ChainError::FullInside { layer } => {
            write!(f, "{} is a full backup; only the first of a chain can be one", backup(layer))
        }
        ChainError::FullOnBase { layer } => {
            write!(f, "{} is a full backup, which cannot be restored on top of another state", backup(layer))
        }
        ChainError::Twice { layer, .. } => write!(f, "{} is in the chain twice", backup(layer)),
        ChainError::OtherDisk { layer, disk, expected } => {
            let (disk, expected) = (disk.escape_debug(), expected.escape_debug());
            write!(f, "{} is of disk {disk}, the backup before it of disk {expected}", backup(layer))
        }
        ChainError::OtherSize { layer, stated, found } => write!(
            f,
            "{} stands on a disk of {stated} bytes, and the backup before it is of {found} bytes",
            backup(layer)
        ),
        ChainError::OtherParent { layer, stated, found } => write!(
            f,
            "{} stands on a backup with checksum {stated}, and the backup before it has {found}",
            backup(layer)
        ),
        error => error.fmt(f),
    }
}

/// A backup by its checkpoint.
fn backup(layer: &LayerName) -> String {
    layer
        .id
        .as_ref()
        .map_or_else(|| "the backup".to_owned(), |id| format!("checkpoint {}", id.escape_debug()))
}
