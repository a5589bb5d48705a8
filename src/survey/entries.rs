//! Replies as a client library delivers them: a context's name, and (length, flags) entries in host
//! order.
//!
//! libnbd has parsed the payload before it calls back, and reports neither the id of the context
//! nor the form on the wire. A survey keeps payloads in wire form (8 or 16 bytes a descriptor), so
//! this module restores that form and passes it to the code of [`Survey::chunk`].

use core::borrow::Borrow;

use super::error::{ReplyFault, SurveyError};
use super::request::{Admission, RequestId};
use super::{ExportParams, Survey, SurveyOptions};
use crate::contexts::Contexts;
use crate::error::DecodeError;
use crate::wire::{Descriptor, Form, Pair64, PayloadWriter, encoded_size, pairs};

impl Survey {
    /// Creates a survey of a whole read-only export, for clients that know contexts by name.
    ///
    /// The export has `size` bytes.
    ///
    /// `contexts` are full names (`base:allocation`, `qemu:dirty-bitmap:NAME`,
    /// `qemu:allocation-depth`). All are required, and the caller has made sure that the server
    /// granted them. Each request asks about at most 2 GiB, aligned to 512 bytes. Give replies to
    /// [`extents32`](Self::extents32) or [`extents64`](Self::extents64).
    ///
    /// For anything else, [`Survey::together`] takes [`SurveyOptions`] and
    /// [`Contexts::negotiate_names`].
    ///
    /// # Errors
    ///
    /// [`SurveyError::Context`] for a name that is unknown or comes twice;
    /// [`SurveyError::NoContext`] without any; [`SurveyError::TooLarge`] for a size above
    /// [`MAX_END`](crate::MAX_END).
    ///
    /// ```
    /// use nbd_extents::Survey;
    ///
    /// let mut survey = Survey::new(1 << 20, ["base:allocation", "qemu:dirty-bitmap:b0"])?;
    /// while let Some(request) = survey.next_request()? {
    ///     let (id, offset) = (request.id(), request.offset());
    ///     // nbd.block_status(request.length(), offset, |name, offset, entries| ...)
    ///     survey.extents32(id, "base:allocation", offset, &[65536, 0, 983_040, 3])?;
    ///     survey.extents32(id, "qemu:dirty-bitmap:b0", offset, &[1 << 20, 1])?;
    ///     survey.reply_done(id)?;
    /// }
    /// let mut rows = Vec::new();
    /// while let Some(extent) = survey.next_extent()? {
    ///     rows.push(extent.to_string());
    /// }
    /// survey.complete()?;
    /// assert_eq!(rows, ["0..65536 dirty,data", "65536..1048576 dirty,zero,hole"]);
    /// # Ok::<(), nbd_extents::SurveyError>(())
    /// ```
    pub fn new<N: AsRef<str>>(size: u64, contexts: impl IntoIterator<Item = N>) -> Result<Self, SurveyError> {
        let mut wanted = Contexts::new();
        for name in contexts {
            wanted = wanted.require(name.as_ref().parse()?)?;
        }
        let granted = wanted.negotiate_names(wanted.names())?;
        let export = ExportParams::new(size, Form::Compact)?.read_only(true);
        Self::together(SurveyOptions::new(export), granted)
    }

    /// Takes one context's part of a reply, as libnbd's `block_status` callback delivers it.
    ///
    /// `entries` hold a length in bytes and flags for each extent, one after the other. The first
    /// extent starts at `offset`, the start of the request. The entries may describe fewer bytes
    /// than the request; the rest is requested again. A context that the survey does not ask about
    /// is ignored.
    ///
    /// # Errors
    ///
    /// [`SurveyError::UnknownRequest`] when no such request is outstanding;
    /// [`SurveyError::WrongOffset`] when the entries start elsewhere (the request stays
    /// outstanding); [`SurveyError::Reply`] when the number of entries is odd, when there are none,
    /// and as for [`chunk`](Self::chunk): the request is over then.
    ///
    /// ```
    /// use nbd_extents::{Survey, SurveyError};
    ///
    /// let mut survey = Survey::new(8192, ["base:allocation"])?;
    /// let request = survey.next_request()?.unwrap();
    /// let odd = survey.extents32(request.id(), "base:allocation", 0, &[8192]);
    /// assert_eq!(
    ///     odd.unwrap_err().to_string(),
    ///     "the reply about byte 0: a list of 1 numbers is not made of (length, flags) pairs"
    /// );
    /// # Ok::<(), SurveyError>(())
    /// ```
    pub fn extents32(
        &mut self,
        id: RequestId,
        context: &str,
        offset: u64,
        entries: &[u32],
    ) -> Result<(), SurveyError> {
        self.entries(id, context, offset, Form::Compact, pairs(entries))
    }

    /// Takes one context's part of a reply, as libnbd's `block_status_64` callback delivers it.
    ///
    /// Like [`extents32`](Self::extents32), with entries of (length, flags) in 64 bits each.
    ///
    /// # Errors
    ///
    /// As [`extents32`](Self::extents32); the number of entries cannot be odd.
    ///
    /// ```
    /// use nbd_extents::Survey;
    ///
    /// let mut survey = Survey::new(8192, ["base:allocation"])?;
    /// let request = survey.next_request()?.unwrap();
    /// survey.extents64(request.id(), "base:allocation", 0, &[(4096, 0), (4096, 3)])?;
    /// survey.reply_done(request.id())?;
    /// assert_eq!(survey.next_extent()?.map(|extent| extent.end()), Some(4096));
    /// # Ok::<(), nbd_extents::SurveyError>(())
    /// ```
    pub fn extents64<I>(
        &mut self,
        id: RequestId,
        context: &str,
        offset: u64,
        entries: I,
    ) -> Result<(), SurveyError>
    where
        I: IntoIterator<Item: Borrow<Pair64>, IntoIter: ExactSizeIterator>,
    {
        let descriptors = entries.into_iter().map(|entry| {
            let &(length, flags) = entry.borrow();
            Descriptor { length, flags }
        });
        self.entries(id, context, offset, Form::Extended, Ok(descriptors))
    }

    /// Takes one context's list as if it came in a chunk: encodes it, since the reply keeps payloads.
    ///
    /// Does nothing for a context that the survey did not ask for. An error in `list` is a fault of
    /// the server.
    fn entries(
        &mut self,
        id: RequestId,
        context: &str,
        offset: u64,
        form: Form,
        list: Result<impl ExactSizeIterator<Item = Descriptor>, DecodeError>,
    ) -> Result<(), SurveyError> {
        let (pass, cx) = self.awaiting(id)?;
        let expected = pass.offset_of(id).ok_or(SurveyError::UnknownRequest(id))?;
        if offset != expected {
            return Err(SurveyError::WrongOffset { expected, got: offset });
        }
        let Some(context_id) = pass.context_id(context) else {
            return Ok(());
        };
        let list = match list {
            Ok(list) if list.len() > 0 => list,
            Ok(_) => {
                return Err(pass.refuse(id, ReplyFault::Missing { context: context.into() }, cx));
            }
            Err(odd) => return Err(pass.refuse(id, odd.into(), cx)),
        };
        let count = list.len();
        // the budget decides before anything is allocated
        let size = encoded_size(form, count).unwrap_or(usize::MAX);
        if pass.admit(id, size as u64, form, cx) == Admission::Drain {
            return Ok(());
        }
        let mut payload = PayloadWriter::new(form, context_id, count);
        // an iterator of the caller may yield more than its `len` says: the budget admitted `count`
        list.take(count).for_each(|descriptor| payload.push(descriptor));
        pass.chunk(id, payload.into_vec(), form, cx)
    }
}
