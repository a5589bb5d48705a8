//! Reading and writing, blocking: one call for any range, split into requests of which several are in flight at a time.

use super::Client;
use super::drive::Lent;
use crate::error::Error;
use crate::session::{
    Command, Cookie, Errno, Event, ReadRequest, Session, StartError, TakeAll, TrimRequest, WriteRequest,
    ZeroRequest,
};
use crate::transport::Transport;

/// The longest request of a long read or write, in bytes, and how many are in flight at a time. Longer ones would make the server hold
/// more memory and start later to answer.
const PIECE: u64 = 1 << 20;
const IN_FLIGHT: usize = 8;
/// The longest request that moves no data and may be slow, in bytes, so that each ends within its time.
pub(crate) const SLOW_EFFECT: u64 = 64 << 20;
/// The longest request that moves no data and is quick, in bytes.
pub(crate) const QUICK_EFFECT: u64 = 1 << 30;

/// A range, the longest request for it, and how each one is started: with its place in the range, and its length.
struct Job<S> {
    command: Command,
    offset: u64,
    length: u64,
    piece: u64,
    start: S,
}

impl<T: Transport> Client<T> {
    /// Reads from `offset` until `buffer` is full, straight into it.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] before anything is sent: beyond the end, not in whole blocks, or while other requests are in flight.
    /// [`Error::Request`] if a part of it failed: `buffer` then holds anything, and the connection is usable. The errors of a
    /// connection otherwise.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Options};
    ///
    /// let mut client = Client::connect(&"nbd://localhost/disk".parse()?, &Options::new())?;
    /// let mut first = vec![0; 4096];
    /// client.read(0, &mut first)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let job = Job {
            command: Command::Read,
            offset,
            length: buffer.len() as u64,
            piece: PIECE,
            start: |session: &mut Session, at: u64, length: u64| {
                let (place, length) = (fit(at), fit(length));
                session.start_lent_read(&ReadRequest::new(offset + at), place, length)
            },
        };
        self.run(job, buffer, &[])
    }

    /// Writes `data` to `offset`. It is durable only after a [flush](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Error::Start`] before anything is sent: the export is read-only, the range is beyond its end or not in whole blocks, or other
    /// requests are in flight. [`Error::Request`] if a part of it failed: other parts may have been written, and the connection is
    /// usable. The errors of a connection otherwise.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Options, ZeroRequest};
    ///
    /// let mut client = Client::connect(&"nbd://localhost/disk".parse()?, &Options::new())?;
    /// client.write(0, &[0xa5; 4096])?;
    /// client.write_zeroes(&ZeroRequest::new(4096, 1 << 20))?;
    /// client.flush()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write_as(WriteRequest::new(offset), data)
    }

    /// Writes `data` to `offset`, durable when this returns (FUA).
    ///
    /// # Errors
    ///
    /// As [`Self::write`], and [`StartError::NotOffered`] where the server does not offer FUA.
    pub fn write_fua(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write_as(WriteRequest::new(offset).fua(), data)
    }

    fn write_as(&mut self, request: WriteRequest, data: &[u8]) -> Result<(), Error> {
        let job = Job {
            command: Command::Write,
            offset: request.offset,
            length: data.len() as u64,
            piece: PIECE,
            start: |session: &mut Session, at: u64, length: u64| {
                let piece = WriteRequest { offset: request.offset + at, ..request };
                session.start_lent_write(&piece, fit(length))
            },
        };
        self.run(job, &mut [], data)
    }

    /// Makes a range read as zeroes (WRITE_ZEROES), in exactly this way. [`Self::zero`] looks for the best way.
    ///
    /// # Errors
    ///
    /// As [`Self::write`], and [`StartError::NotOffered`] where the server does not offer what the request asks for. A request that is to
    /// be fast fails with [`Errno::ENOTSUP`] where it would not be.
    pub fn write_zeroes(&mut self, request: &ZeroRequest) -> Result<(), Error> {
        let request = *request;
        self.run_effect(
            Command::WriteZeroes,
            request.offset,
            request.length,
            request.fast,
            |session, at, length| {
                session.start_write_zeroes(&ZeroRequest { offset: request.offset + at, length, ..request })
            },
        )
    }

    /// Makes `length` bytes from `offset` read as zeroes, in the best way that the server has: quickly (FAST_ZERO), else slowly, else by
    /// writing zeroes. The range may become a hole.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.check_idle()?;
        if length == 0 {
            return Ok(());
        }
        let flags = self.export.flags;
        let request = ZeroRequest::new(offset, length);
        if flags.send_write_zeroes() {
            if flags.send_fast_zero() && !self.zeroes_slowly {
                match self.write_zeroes(&request.fast()) {
                    Err(error) if error.is_errno(Errno::ENOTSUP) => self.zeroes_slowly = true,
                    other => return other,
                }
            }
            match self.write_zeroes(&request) {
                Err(error) if error.is_errno(Errno::ENOTSUP) => {}
                other => return other,
            }
        }
        self.session.check_whole(Command::Write, offset, length)?;
        let zeroes = vec![0; fit(length.min(PIECE))];
        let mut at = 0;
        while at < length {
            let piece = zeroes.get(..fit(length - at)).unwrap_or(&zeroes);
            self.write(offset + at, piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Gives a range up (TRIM): it may read as anything afterwards, and the server may have done nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::write`], and [`StartError::NotOffered`] where the server does not offer it.
    pub fn trim(&mut self, request: &TrimRequest) -> Result<(), Error> {
        let request = *request;
        self.run_effect(Command::Trim, request.offset, request.length, false, |session, at, length| {
            session.start_trim(&TrimRequest { offset: request.offset + at, length, ..request })
        })
    }

    /// Has the server make `length` bytes from `offset` ready for reading (CACHE).
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and [`StartError::NotOffered`] where the server does not offer it.
    pub fn cache(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.run_effect(Command::Cache, offset, length, false, |session, at, length| {
            session.start_cache(offset + at, length)
        })
    }

    /// Makes durable whatever was written before. A server that does not offer it has nothing to flush: then there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if it failed: what was written may be lost. [`Error::Start`] while other requests are in flight, and the errors of
    /// a connection.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.check_idle()?;
        if !self.export.flags.send_flush() {
            return Ok(());
        }
        let cookie = self.start_flush()?;
        loop {
            match self.next_event(&mut TakeAll)? {
                Some(Event::Done { cookie: done }) if done == cookie => return Ok(()),
                Some(Event::Failed { cookie: failed, error }) if failed == cookie => return Err(error.into()),
                Some(_) => {}
                None => return Err(Error::GivenUp),
            }
        }
    }

    fn run_effect(
        &mut self,
        command: Command,
        offset: u64,
        length: u64,
        is_quick: bool,
        start: impl Fn(&mut Session, u64, u64) -> Result<Cookie, StartError>,
    ) -> Result<(), Error> {
        let piece = if is_quick { QUICK_EFFECT } else { SLOW_EFFECT };
        self.run(Job { command, offset, length, piece, start }, &mut [], &[])
    }

    /// Starts one request after the other, a few ahead of the answers, and waits for all of them. After a failure no more are started.
    fn run<S>(&mut self, job: Job<S>, read: &mut [u8], data: &[u8]) -> Result<(), Error>
    where
        S: Fn(&mut Session, u64, u64) -> Result<Cookie, StartError>,
    {
        self.check_idle()?;
        if job.length == 0 {
            return Ok(());
        }
        self.session.check_whole(job.command, job.offset, job.length)?;
        let piece = if job.command.is_bounded() {
            job.piece.min(u64::from(self.session.longest_payload()))
        } else {
            job.piece
        };
        let moves = matches!(job.command, Command::Read | Command::Write);
        let mut lent = Lent { read, write: &[] };
        let mut failure: Option<Error> = None;
        let mut at = 0;
        loop {
            // The data of one write have to be out before the next header.
            while failure.is_none()
                && lent.write.is_empty()
                && at < job.length
                && self.in_flight() < IN_FLIGHT
                && (self.in_flight() == 0 || self.session.has_room(if moves { piece } else { 0 }))
            {
                let length = piece.min(job.length - at);
                match (job.start)(&mut self.session, at, length) {
                    Ok(cookie) => {
                        self.launched(cookie);
                        lent.write = data.get(fit(at)..fit(at + length)).unwrap_or_default();
                    }
                    Err(error) => failure = Some(error.into()),
                }
                at += length;
            }
            let event = match self.next_event_in(&mut TakeAll, &mut lent) {
                Ok(event) => event,
                // why the server failed it says more than that it went away then
                Err(error) => return Err(failure.unwrap_or(error)),
            };
            match event {
                Some(Event::Failed { error, .. }) => {
                    failure.get_or_insert(error.into());
                }
                Some(_) => {}
                None => return failure.map_or(Ok(()), Err),
            }
        }
    }
}

/// A length in memory. What comes here is bounded by a slice of the caller's, or small.
fn fit(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
