//! The bytes for the server: as they are, or as records of TLS.

use std::io::{self, ErrorKind, IoSlice};
use std::time::Instant;

use super::transfer::Transfers;
use super::{Connection, Stage};
use crate::error::Error;
use crate::frame::During;
use crate::transport::{Cancelled, SLACK};

/// The most slices that are given to the system in one call.
const SLICES: usize = 64;

impl Connection {
    /// The bytes to send, in order. No slice is empty. With TLS they are the records of a part of
    /// the bytes; the rest comes when these are sent.
    pub fn output(&mut self) -> impl Iterator<Item = &[u8]> {
        self.output_in(&[])
    }

    pub(crate) fn output_in<'a>(&'a mut self, lent: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let is_over = self.is_over();
        let Self { stage, transfers, tls, .. } = self;
        let plaintext = plaintext(stage, transfers, lent);
        // with TLS the records, otherwise the bytes themselves
        let (records, plaintext) = match tls {
            Some(tls) => {
                tls.seal(plaintext, is_over);
                (Some(tls.output()), None)
            }
            None => (None, Some(plaintext)),
        };
        records.into_iter().chain(plaintext.into_iter().flatten()).filter(|slice| !slice.is_empty())
    }

    /// Says that the first `count` bytes of the output were sent.
    pub fn sent(&mut self, count: usize, now: Instant) {
        // bytes that are only a part of a record are not sent yet
        let count = self.tls.as_mut().map_or(count, |tls| tls.sent(count));
        match &mut self.stage {
            Stage::Handshake(handshake) => handshake.sent(count),
            Stage::Open(session) => session.sent(count),
        }
        self.note(now);
    }

    /// Sends by calls of `write` until everything is sent, or until that would wait. Each call
    /// gets slices and a deadline; the last one gets no slices, and flushes.
    pub(crate) fn send_by(
        &mut self,
        lent: &[u8],
        mut write: impl FnMut(&[IoSlice<'_>], Option<Instant>) -> io::Result<usize>,
    ) -> Result<(), Error> {
        loop {
            // each time: bytes that were sent may have given more time
            let (has_output, end) = (self.has_output(), self.poll_timeout());
            let output = has_output.then(|| self.output_in(lent).take(SLICES).map(IoSlice::new));
            let slices: Vec<IoSlice<'_>> = output.into_iter().flatten().collect();
            // an empty write would say that the server has hung up
            let is_stuck = has_output && slices.is_empty();
            let written = if is_stuck { Ok(0) } else { write(&slices, end) };
            let now = Instant::now();
            match written {
                _ if is_stuck => return self.cannot_send(now),
                Ok(_) if !has_output => return Ok(()),
                Ok(0) => return self.send_failed(ErrorKind::WriteZero.into(), now),
                Ok(count) => {
                    self.sent(count, now);
                    self.check_late(now)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && has_output => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.send_failed(error, now),
            }
        }
    }

    /// TLS has failed while records were to be made, and the rest of the output has no slices.
    fn cannot_send(&mut self, now: Instant) -> Result<(), Error> {
        let failure = self.tls.as_ref().and_then(|tls| tls.failure());
        debug_assert!(failure.is_some(), "bytes to send are gone");
        let gone = || Error::io(During::Send, io::Error::other("bytes to send are gone"));
        self.hung_up(failure.map_or_else(gone, Error::Tls), now)
    }

    /// Says that sending failed. Where the server has hung up it may have said why: the answers to
    /// the requests in flight are waited for 5 seconds at the most, and new requests fail with this
    /// error. [`ErrorKind::Interrupted`] is nothing.
    ///
    /// # Errors
    ///
    /// Any other failure ends the connection.
    pub fn send_failed(&mut self, source: io::Error, now: Instant) -> Result<(), Error> {
        use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};

        let has_hung_up = matches!(source.kind(), BrokenPipe | ConnectionAborted | ConnectionReset);
        match self.fault(During::Send, source, now)? {
            Some(error) if has_hung_up => self.hung_up(error, now),
            Some(error) => self.fail(error),
            None => Ok(()),
        }
    }

    fn hung_up(&mut self, error: Error, now: Instant) -> Result<(), Error> {
        if self.says_goodbye || !self.is_open() && self.tls.is_none() {
            return self.fail(error);
        }
        if self.send_error.is_none() {
            self.send_error = Some(error);
            if self.is_open() {
                self.clock.restart(now);
            }
        }
        Ok(())
    }

    /// The error of a transport's call; `None` if it is made again.
    pub(super) fn fault(
        &mut self,
        during: During,
        source: io::Error,
        now: Instant,
    ) -> Result<Option<Error>, Error> {
        if Cancelled::is(&source) {
            return self.fail(Error::Cancelled(self.during())).map(|()| None);
        }
        if source.kind() == ErrorKind::TimedOut {
            // the kernel's clock may be a little early, and a transport may have limits of its own
            self.handle_timeout(now + SLACK)?;
        }
        Ok((source.kind() != ErrorKind::Interrupted).then(|| Error::io(during, source)))
    }

    /// True if the server takes no more bytes, and may have said why.
    pub(crate) const fn send_failed_before(&self) -> bool {
        self.send_error.is_some() && !self.says_goodbye
    }

    /// An error if no request can be sent any more. It ends the connection, after the last event.
    pub(super) fn check_sending(&mut self) -> Result<(), Error> {
        let error = self.send_error.clone().filter(|_| self.send_failed_before());
        self.is_given_up |= error.is_some() && self.is_idle();
        self.has_refused |= error.is_some();
        error.map_or(Ok(()), Err)
    }
}

/// The bytes to send before TLS has made records of them.
fn plaintext<'a>(
    stage: &'a Stage,
    transfers: &'a Transfers,
    lent: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> {
    let (hello, session) = match stage {
        Stage::Handshake(handshake) => (Some(handshake.output()), None),
        Stage::Open(session) => (None, Some(session)),
    };
    let lender = move |owner| transfers.data(owner).unwrap_or(lent);
    hello.into_iter().chain(session.into_iter().flat_map(move |session| session.output_in(lender)))
}
