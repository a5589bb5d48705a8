//! The JSON forms: ovirt-imageio's two, and our own of actions. Written while the extents come, so
//! that no map is ever held in memory, and closed only when all of it is there.

use std::io::{self, Write};

use nbd_extents::Extent;
use nbd_extents_formats::actions::{self, ActionKind};
use nbd_extents_formats::{Attributes, Format, ImageLayer, ListWriteError, ListWriter, WriteOptions};

use super::view::{Shown, View};

/// One JSON array in the making.
///
/// Dropped without [`finish`](Self::finish), it stays open, and no parser takes it for a whole map.
pub(super) enum Array<W> {
    Map(ListWriter<W>),
    Actions(ListWriter<W, ActionKind>),
}

impl<W: Write> Array<W> {
    pub(super) fn new(out: W, view: View) -> Self {
        let options = WriteOptions::default();
        match view {
            View::Change => Self::Map(Format::ImageioDirty.writer(out, options)),
            View::Content => Self::Map(Format::ImageioZero.writer(out, options)),
            View::Actions => Self::Actions(actions::writer(out, options)),
        }
    }

    pub(super) fn push(&mut self, extent: &Extent<Shown>) -> io::Result<()> {
        let known = |known: Attributes| extent.map(|_| known);
        let written = match (self, *extent.status()) {
            (Self::Map(list), Shown::Change { dirty, zero }) => list.push(&known(Attributes {
                dirty: Some(dirty),
                zero: Some(zero),
                ..Attributes::default()
            })),
            (Self::Map(list), Shown::Content { zero, hole }) => {
                let layer = Some(if hole { ImageLayer::Absent } else { ImageLayer::Present });
                list.push(&known(Attributes { zero: Some(zero), layer, ..Attributes::default() }))
            }
            (Self::Actions(list), Shown::Action(action)) => list.push(&extent.map(|_| action.into())),
            _ => return Err(io::Error::other("a row of another view")),
        };
        written.map_err(failure)
    }

    /// Writes the extents that wait, for an array that no other will follow and that stays open.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Map(list) => list.flush(),
            Self::Actions(list) => list.flush(),
        }
        .map_err(failure)
    }

    /// Writes the end of the array.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Map(list) => list.finish().map(drop),
            Self::Actions(list) => list.finish().map(drop),
        }
        .map_err(failure)
    }
}

fn failure(error: ListWriteError) -> io::Error {
    match error {
        ListWriteError::Output(error) => error,
        error => io::Error::other(error),
    }
}
