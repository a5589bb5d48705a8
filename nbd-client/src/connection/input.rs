//! The bytes of the server: straight to the places that wait for them, or through a buffer.

use std::io;
use std::time::Instant;

use super::{BUFFER, Connection, Lent, Stage};
use crate::error::Error;
use crate::session::take_all;

impl Connection {
    /// The buffer for the next bytes of the server; never empty. [`Self::received`] comes next.
    /// Bytes that came before are kept until they are [polled](Self::poll).
    pub fn space(&mut self) -> &mut [u8] {
        let [direct, buffer] = self.space_in(&mut []);
        if direct.is_empty() { buffer } else { direct }
    }

    /// False while no bytes of the server are due: any that come wait in the socket for a request.
    pub(crate) fn wants_input(&self) -> bool {
        !self.stage.awaits_nothing() || self.says_goodbye
    }

    /// As [`Self::space`], in two parts: the rest of a large payload, or nothing, and the buffer
    /// for the bytes after it.
    pub(crate) fn space_in<'a>(&'a mut self, lent: &'a mut [u8]) -> [&'a mut [u8]; 2] {
        let is_over = self.is_over();
        let Self { stage, transfers, buffer, filled, most, direct, tls, .. } = self;
        *direct = 0;
        if let Some(tls) = tls {
            return [&mut [], tls.space(is_over)];
        }
        // bytes that wait to be polled come first, unless nothing is of interest any more
        buffer.copy_within(filled.clone(), 0);
        *filled = 0..if is_over { 0 } else { filled.len() };
        let end = (filled.end + BUFFER).max(*most);
        buffer.resize(buffer.len().max(end), 0);
        let buffer = buffer.get_mut(filled.end..end).unwrap_or_default();
        let Stage::Open(session) = stage else { return [&mut [], buffer] };
        let lent = transfers.room(session, lent);
        let room = session.space_in(lent);
        if is_over || filled.end > 0 || room.len() < BUFFER {
            return [&mut [], buffer];
        }
        *direct = room.len();
        [room, buffer]
    }

    /// Says that the first `count` bytes of the space were filled; 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectionLost`] at the end of the stream, those of [`poll`](Self::poll) for bytes that
    /// came while nothing was in flight, and those of [`handle_timeout`](Self::handle_timeout) if bytes
    /// go on to come long after the end.
    pub fn received(&mut self, count: usize, now: Instant) -> Result<(), Error> {
        self.received_in(count, &mut Lent::default(), now)
    }

    /// As [`Self::received`], with buffers that are lent.
    pub(crate) fn received_in(
        &mut self,
        count: usize,
        lent: &mut Lent<'_>,
        now: Instant,
    ) -> Result<(), Error> {
        if count == 0 {
            let error = self.ended();
            return self.fail(error);
        }
        let is_unasked = self.stage.awaits_nothing();
        let direct = count.min(self.direct);
        match &mut self.tls {
            Some(tls) => tls.received(count),
            None => self.filled.end = (self.filled.end + count - direct).min(self.buffer.len()),
        }
        if direct > 0
            && let Stage::Open(session) = &mut self.stage
        {
            let room = self.transfers.room(session, lent.read);
            // bytes past the buffer are the rest of a payload, whose admission was decided
            // before
            let result = session.advance_in(direct, &mut take_all, room);
            self.note(now);
            result.map_err(|error| self.give_up(error.into()))?;
        }
        if is_unasked {
            self.process_unasked()?;
        }
        self.check_late(now)
    }

    /// Says that receiving failed. [`io::ErrorKind::Interrupted`] is nothing.
    ///
    /// # Errors
    ///
    /// Any other failure ends the connection.
    pub fn receive_failed(&mut self, source: io::Error, now: Instant) -> Result<(), Error> {
        let Some(error) = self.fault(self.during(), source, now)? else { return Ok(()) };
        let error = self.lost(error);
        self.fail(error)
    }

    pub(super) fn ended(&mut self) -> Error {
        self.lost(self.stage.eof().into())
    }

    /// The error that explains a loss of the connection best.
    pub(super) fn lost(&mut self, error: Error) -> Error {
        // in a handshake over TLS the place where it ended says more than that sending failed
        let send_error = self.send_error.take().filter(|_| self.is_open());
        let error = send_error.unwrap_or(error);
        let explained = error.hung_up_during().and_then(|during| self.tls.as_ref()?.explain(during));
        explained.map_or(error, Error::Tls)
    }
}
