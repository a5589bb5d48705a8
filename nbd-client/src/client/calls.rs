//! Calls of a client: for a range of any length, of which the connection makes requests, and for
//! requests that are started now and answered later.

use std::time::Instant;

use super::Client;
use crate::block_on::block_on;
use crate::connection::{Lent, Transfer};
use crate::error::Error;
use crate::session::{
    Admit, ChunkOffer, Command, Cookie, Event, ReadRequest, RequestInfo, Session, StartError, StatusRequest,
    TrimRequest, WriteRequest, ZeroRequest,
};
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
        let transfer = Transfer::new(ReadRequest::new(offset).of(buffer.len() as u64));
        self.run(transfer, Lent { read: buffer, ..Lent::default() })
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
    /// As [`Self::write`], and [`StartError::NotOffered`]
    /// where the server does not offer FUA.
    pub fn write_fua(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write_as(WriteRequest::new(offset).fua(), data)
    }

    fn write_as(&mut self, request: WriteRequest, data: &[u8]) -> Result<(), Error> {
        let transfer = Transfer::new(request.of(data.len() as u64));
        self.run(transfer, Lent { write: data, ..Lent::default() })
    }

    /// Makes a range read as zeroes (WRITE_ZEROES), in exactly this way. [`Self::zero`] looks for
    /// the best way.
    ///
    /// # Errors
    ///
    /// As [`Self::write`], and [`StartError::NotOffered`]
    /// where the server does not offer what the request asks for. A request that is to be fast
    /// fails with [`Errno::ENOTSUP`](crate::session::Errno::ENOTSUP) where it would not be.
    pub fn write_zeroes(&mut self, request: &ZeroRequest) -> Result<(), Error> {
        self.run(Transfer::new(request.0), Lent::default())
    }

    /// Makes `length` bytes from `offset` read as zeroes, in the best way that the server has:
    /// quickly (FAST_ZERO), else slowly, else by writing zeroes. The range may become a hole.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.run(Transfer::zero(offset, length), Lent::default())
    }

    /// Gives a range up (TRIM): it may read as anything afterwards, and the server may have done
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::write`], and [`StartError::NotOffered`]
    /// where the server does not offer it.
    pub fn trim(&mut self, request: &TrimRequest) -> Result<(), Error> {
        self.run(Transfer::new(request.0), Lent::default())
    }

    /// Asks the server to prepare `length` bytes from `offset` for fast reads (CACHE).
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and [`StartError::NotOffered`]
    /// where the server does not offer it.
    pub fn cache(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.run(Transfer::new(RequestInfo::new(Command::Cache, offset, length)), Lent::default())
    }

    /// Makes durable whatever was written before. A server that does not offer it has nothing to
    /// flush: then there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if it failed: earlier writes may be lost. [`Error::Start`] while other
    /// requests are in flight, and the errors of a connection.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.run(Transfer::new(RequestInfo::FLUSH), Lent::default())
    }

    /// Starts a transfer and waits for its end.
    fn run(&mut self, transfer: Transfer, mut lent: Lent<'_>) -> Result<(), Error> {
        self.check_idle()?;
        if transfer.is_nothing(&self.export) {
            return Ok(());
        }
        let now = Instant::now();
        self.io.connection.clock.exclude_idle_time(now);
        let cookie = self.io.connection.begin(None, transfer, now)?;
        let result = self.wait_for(cookie, &mut lent, |_, _| {});
        self.io.connection.release(cookie, lent.write);
        result
    }

    // ---- several requests in flight

    /// Starts a request by one of the session's `start_` functions and returns at once; its answer
    /// comes through [`Self::next_event`], which also sends the bytes that do not fit the socket's
    /// buffer.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, for example because the export is read-only, and the
    /// errors of a connection.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Options};
    /// use nbd_client::session::{Event, ReadRequest, take_all};
    ///
    /// let mut client = Client::connect(&"nbd://localhost/disk".parse()?, &Options::new())?;
    /// for block in 0..16 {
    ///     let buffer = client.buffer(1 << 20);
    ///     client.start(|session| session.start_read(&ReadRequest::new(block << 20), buffer))?;
    /// }
    /// while let Some(event) = client.next_event(&mut take_all)? {
    ///     match event {
    ///         Event::Read { cookie, data } => println!("request {cookie}: {} bytes", data.len()),
    ///         Event::Failed { error, .. } => return Err(error.into()),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(
        &mut self,
        request: impl FnOnce(&mut Session) -> Result<Cookie, StartError>,
    ) -> Result<Cookie, Error> {
        let cookie = self.queue(request)?;
        self.io.send(&mut Lent::default())?;
        Ok(cookie)
    }

    /// Waits for the next event of any request; `None` if none is in flight.
    ///
    /// `admit` decides on chunks of block status before anything is allocated for them. The time
    /// between two calls is the caller's own, and does not count against the limit of the requests
    /// in flight; nothing is received then.
    ///
    /// # Errors
    ///
    /// The errors of a connection. A request that failed is an event.
    pub fn next_event(&mut self, admit: &mut Admit<'_>) -> Result<Option<Event>, Error> {
        block_on(self.io.event(&mut |offer: &ChunkOffer| admit(offer)))
    }

    /// Asks for the block status of a range and hands each chunk of the answer to `status`: the
    /// context's number, and the chunk's payload, which begins with that number.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if the request failed (the connection is usable, and the chunks handed
    /// out are void; only after ESHUTDOWN it is ended, as it has to be); [`Error::Start`] if it
    /// cannot be asked, also while others are in flight; the errors of a connection otherwise.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// # use testkit::scripted::{Good, ScriptedServer};
    /// # use nbd_client::{Client, Options};
    /// # use nbd_client::session::StatusRequest;
    /// # let server = ScriptedServer::start(|conn| {
    /// #     conn.handshake(&Good::compact())?;
    /// #     conn.serve(|conn, request| conn.honest(request, 0))
    /// # })?;
    /// # let options = Options::new().require_context("base:allocation");
    /// # let mut client = Client::connect(&server.uri().parse()?, &options)?;
    /// let mut chunks = Vec::new();
    /// client.block_status(&StatusRequest::new(0, 4096), |context, payload| {
    ///     chunks.push((context, payload.to_vec()));
    /// })?;
    /// // Context 0: 4096 bytes of status 0, which is data.
    /// assert_eq!(chunks, [(0, vec![0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0])]);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn block_status(
        &mut self,
        request: &StatusRequest<'_>,
        status: impl FnMut(u32, &[u8]),
    ) -> Result<(), Error> {
        self.check_idle()?;
        let cookie = self.start(|session| session.start_block_status(request))?;
        self.wait_for(cookie, &mut Lent::default(), status)
    }

    /// Waits for the end of a request or transfer, and hands status payloads to `status`.
    fn wait_for(
        &mut self,
        cookie: Cookie,
        lent: &mut Lent<'_>,
        mut status: impl FnMut(u32, &[u8]),
    ) -> Result<(), Error> {
        loop {
            match self.io.next_event(lent) {
                // of a request that was given up earlier
                Ok(Some(event)) if event.cookie() != cookie => {}
                Ok(Some(Event::Status { context, payload, .. })) => {
                    status(context, &payload);
                    self.recycle(payload);
                }
                Ok(Some(Event::Read { .. } | Event::Drained { .. })) => {}
                Ok(Some(Event::Done { .. })) => return Ok(()),
                Ok(Some(Event::Failed { error, .. })) => return Err(error.into()),
                Ok(None) => return Err(Error::GivenUp),
                Err(error) => return Err(self.io.connection.transfers.reason(error)),
            }
        }
    }
}
