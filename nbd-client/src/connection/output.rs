//! The bytes for the server: as they are, or as records of TLS.

use std::io::{self, ErrorKind};
use std::time::Instant;

use super::transfer::Transfers;
use super::{Connection, Stage};
use crate::error::Error;
use crate::frame::During;

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

    /// Says that sending failed. Where the server has hung up it may have said why, and the error
    /// waits until what it said is read.
    ///
    /// # Errors
    ///
    /// Any other failure ends the connection.
    pub fn send_failed(&mut self, source: io::Error) -> Result<(), Error> {
        use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};

        let has_hung_up = matches!(source.kind(), BrokenPipe | ConnectionAborted | ConnectionReset);
        let error = Error::io(During::Send, source);
        if has_hung_up && !self.says_goodbye && (self.is_open() || self.tls.is_some()) {
            self.send_error = Some(error);
            return Ok(());
        }
        self.fail(error)
    }

    /// True if the server takes no more bytes, and may have said why.
    pub(crate) const fn send_failed_before(&self) -> bool {
        self.send_error.is_some() && !self.says_goodbye
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
