//! Streams as a chain: the library's own rules, over the facts of meta frames and stop frames.

use nbd_extents::chain::{Chain, ChainError, ChainLayer, SourceError};
use nbd_extents::map::MapExtents;
use nbd_extents::stream::FromIter;
use nbd_extents::{Action, StreamError};
use thiserror::Error;

use super::Contents;

/// A chain of streams. Its layers are named by their checkpoints.
pub type StreamChain<'a> = Chain<&'a str, FromIter<MapExtents<'a, Action>>>;

/// Checks that these streams, oldest first, are a whole chain, and gives the chain.
///
/// `base` is the checkpoint that the target holds already: the first stream is then an incremental that names it
/// as its parent. Without a base the first stream is a full backup.
///
/// [`Chain::unchecked`] of the result, and [`Contents::unchecked`] of each stream, say what the streams do not
/// state, so that it could not be checked.
///
/// # Errors
///
/// [`StreamChainError`] when the streams do not follow each other, or leave out bytes that no other stream has.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{Contents, Meta, StreamChainError, Writer, chain};
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
    let chain = match base {
        None => Chain::new(layers)?,
        Some(base) => Chain::onto(base_layer(base, streams.first()), layers)?,
    };
    chain.check()?;
    Ok(chain)
}

/// The state that the target holds. Its size is taken from the first stream, which knows its parent's.
fn base_layer<'a>(base: &'a str, first: Option<&Contents>) -> ChainLayer<&'a str> {
    let size = first.map_or(0, |first| first.meta().parent_size.unwrap_or(first.meta().virtual_size));
    ChainLayer { disk: None, id: Some(base), size, checksum: None, parent: None }
}

/// Streams that are not a whole chain.
///
/// ```
/// use nbd_extents::chain::ChainError;
/// use nbd_extents_formats::sparse_stream::{StreamChainError, chain};
///
/// let error = chain(&[], None).unwrap_err();
/// assert!(matches!(error, StreamChainError::Chain(ChainError::Empty)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamChainError {
    /// The streams do not follow each other.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Bytes are in none of the streams that should have them.
    #[error(transparent)]
    Extents(#[from] SourceError<StreamError>),
}

impl StreamChainError {
    /// The position of the stream that is at fault, counted from 0, where it is one stream.
    ///
    /// ```
    /// use nbd_extents_formats::sparse_stream::chain;
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
            Self::Extents(_) => None,
        }
    }
}
