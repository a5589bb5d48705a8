//! The JSON forms: ovirt-imageio's two, and our own of actions. Written while the extents come, so
//! that no map is ever held in memory, and closed only when all of it is there.

use std::io::{self, Write};

use nbd_extents::Extent;
use nbd_extents_formats::{Encode, IoText, WriteError, actions, imageio};

use super::view::{Shown, View};

/// One JSON array in the making.
///
/// Dropped without [`finish`](Self::finish), it stays open, and no parser takes it for a whole map.
pub(super) struct Array<W> {
    out: IoText<W>,
    form: Form,
}

enum Form {
    Change(imageio::DirtyWriter),
    Content(imageio::ZeroWriter),
    Actions(actions::Writer),
}

impl<W: Write> Array<W> {
    pub(super) fn new(out: W, view: View) -> Self {
        let form = match view {
            View::Change => Form::Change(imageio::DirtyWriter::new()),
            View::Content => Form::Content(imageio::ZeroWriter::new()),
            View::Actions => Form::Actions(actions::Writer::new()),
        };
        Self { out: IoText::new(out), form }
    }

    pub(super) fn push(&mut self, extent: &Extent<Shown>) -> io::Result<()> {
        let out = &mut self.out;
        let written = match (&mut self.form, *extent.status()) {
            (Form::Change(form), Shown::Change { dirty, zero }) => {
                form.extent(&extent.map(|_| imageio::Dirty { dirty, zero: Some(zero) }), out)
            }
            (Form::Content(form), Shown::Content { zero, hole }) => {
                form.extent(&extent.map(|_| imageio::Zero { zero, hole: Some(hole) }), out)
            }
            (Form::Actions(form), Shown::Action(action)) => {
                form.extent(&extent.map(|_| actions::Word::from(action)), out)
            }
            _ => return Err(io::Error::other("a row of another view")),
        };
        self.check(written)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        let written = match &mut self.form {
            Form::Change(form) => form.finish(&mut self.out),
            Form::Content(form) => form.finish(&mut self.out),
            Form::Actions(form) => form.finish(&mut self.out),
        };
        self.check(written)?;
        self.out.into_inner()?.write_all(b"\n")
    }

    /// The reason for which text could not be written is the sink's.
    fn check(&mut self, written: Result<(), WriteError>) -> io::Result<()> {
        written.map_err(|error| self.out.take_error().unwrap_or_else(|| io::Error::other(error)))
    }
}
