//! Blocking calls: one for a range of any length, of which the connection makes requests.

use std::time::Instant;

use super::Client;
use crate::connection::{Lent, Transfer, TransferBytes};
use crate::error::Error;
use crate::session::{Event, RequestInfo, TrimRequest, WriteRequest, ZeroRequest};
use crate::transport::Transport;

impl<T: Transport> Client<T> {
    /// Reads from `offset` until `buffer` is full, straight into it.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] before anything is sent: beyond the end, not in whole blocks, or while
    /// other requests are in flight. [`Error::Request`] if a part of it failed: `buffer` then holds
    /// anything, and the connection is usable. The errors of a connection otherwise.
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
        let bytes = TransferBytes::Lent(buffer.len());
        self.run(Transfer::Read { offset, bytes }, Lent { read: buffer, ..Lent::default() })
    }

    /// Writes `data` to `offset`. It is durable only after a [flush](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Error::Start`] before anything is sent: the export is read-only, the range is beyond its
    /// end or not in whole blocks, or other requests are in flight. [`Error::Request`] if a part of
    /// it failed: other parts may have been written, and the connection is usable. The errors of a
    /// connection otherwise.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Options};
    /// use nbd_client::session::ZeroRequest;
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
    /// As [`Self::write`], and [`StartError::NotOffered`](crate::session::StartError::NotOffered)
    /// where the server does not offer FUA.
    pub fn write_fua(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write_as(WriteRequest::new(offset).fua(), data)
    }

    fn write_as(&mut self, request: WriteRequest, data: &[u8]) -> Result<(), Error> {
        let bytes = TransferBytes::Lent(data.len());
        let lent = Lent { write: data, ..Lent::default() };
        self.run(Transfer::Write { request, bytes }, lent)
    }

    /// Makes a range read as zeroes (WRITE_ZEROES), in exactly this way. [`Self::zero`] looks for
    /// the best way.
    ///
    /// # Errors
    ///
    /// As [`Self::write`], and [`StartError::NotOffered`](crate::session::StartError::NotOffered)
    /// where the server does not offer what the request asks for. A request that is to be fast
    /// fails with [`Errno::ENOTSUP`](crate::session::Errno::ENOTSUP) where it would not be.
    pub fn write_zeroes(&mut self, request: &ZeroRequest) -> Result<(), Error> {
        self.run(Transfer::Plain(request.0), Lent::default())
    }

    /// Makes `length` bytes from `offset` read as zeroes, in the best way that the server has:
    /// quickly (FAST_ZERO), else slowly, else by writing zeroes. The range may become a hole.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.run(Transfer::Zero { offset, length }, Lent::default())
    }

    /// Gives a range up (TRIM): it may read as anything afterwards, and the server may have done
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::write`], and [`StartError::NotOffered`](crate::session::StartError::NotOffered)
    /// where the server does not offer it.
    pub fn trim(&mut self, request: &TrimRequest) -> Result<(), Error> {
        self.run(Transfer::Plain(request.0), Lent::default())
    }

    /// Has the server make `length` bytes from `offset` ready for reading (CACHE).
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and [`StartError::NotOffered`](crate::session::StartError::NotOffered)
    /// where the server does not offer it.
    pub fn cache(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.run(Transfer::Plain(RequestInfo::cache(offset, length)), Lent::default())
    }

    /// Makes durable whatever was written before. A server that does not offer it has nothing to
    /// flush: then there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if it failed: earlier writes may be lost. [`Error::Start`] while other
    /// requests are in flight, and the errors of a connection.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.run(Transfer::Plain(RequestInfo::FLUSH), Lent::default())
    }

    /// Starts a transfer and waits for its end.
    fn run(&mut self, transfer: Transfer, mut lent: Lent<'_>) -> Result<(), Error> {
        self.check_idle()?;
        if transfer.is_nothing(&self.export) {
            return Ok(());
        }
        let now = Instant::now();
        self.driver.connection.come_back(now);
        let cookie = self.driver.connection.begin(transfer, now)?;
        let result = loop {
            match self.driver.next_event(&mut lent) {
                Ok(Some(Event::Done { cookie: done })) if done == cookie => break Ok(()),
                Ok(Some(Event::Failed { cookie: failed, error })) if failed == cookie => {
                    break Err(error.into());
                }
                Ok(Some(_)) => {}
                Ok(None) => break Err(Error::GivenUp),
                // why the server failed a part says more than that it went away then
                Err(error) => break Err(self.driver.connection.failure(cookie).map_or(error, Error::from)),
            }
        };
        self.driver.connection.release(cookie, lent.write);
        result
    }
}
