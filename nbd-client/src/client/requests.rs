//! Several requests in flight: each is started now, and its answer is an event later.

use std::time::Instant;

use super::Client;
use crate::connection::Lent;
use crate::error::Error;
use crate::session::{Admit, Cookie, Event, Session, StartError, StatusRequest, TakeAll};
use crate::transport::Transport;

impl<T: Transport> Client<T> {
    /// Starts a request by one of the session's `start_` functions and returns at once; its answer
    /// comes through [`Self::next_event`]. What does not fit the socket's buffer goes out there.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, for example because the export is read-only, and the
    /// errors of a connection.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Options};
    /// use nbd_client::session::{Event, ReadRequest, TakeAll};
    ///
    /// let mut client = Client::connect(&"nbd://localhost/disk".parse()?, &Options::new())?;
    /// for block in 0..16 {
    ///     let buffer = client.buffer(1 << 20);
    ///     client.start(|session| session.start_read(&ReadRequest::new(block << 20), buffer))?;
    /// }
    /// while let Some(event) = client.next_event(&mut TakeAll)? {
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
        let now = Instant::now();
        self.driver.connection.come_back(now);
        let cookie = self.driver.connection.start(now, request)?;
        let sent = self.driver.send(&mut Lent::default());
        self.driver.connection.leave(Instant::now());
        sent.map(|()| cookie)
    }

    /// The longest read or write that can be answered in one chunk, in bytes: what the server says,
    /// at most 32 MiB, within the limits of
    /// [`Options::session_limits`](crate::Options::session_limits), in whole blocks.
    #[must_use]
    pub fn longest_payload(&self) -> u32 {
        self.session().map_or(0, Session::longest_payload)
    }

    /// A buffer of `length` bytes for a read, out of memory that was used before if there is some.
    /// What it holds is of no meaning.
    #[must_use]
    pub fn buffer(&mut self, length: usize) -> Vec<u8> {
        let mut buffer = self.driver.connection.spare_buffer();
        buffer.resize(length, 0);
        buffer
    }

    /// Gives back the memory of a read's data, to be used for the next.
    pub fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        self.driver.connection.recycle_buffer(buffer);
    }

    /// Gives back the memory of a status event's payload, to be used for the next.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.driver.connection.recycle(payload);
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
    pub fn next_event(&mut self, admit: &mut dyn Admit) -> Result<Option<Event>, Error> {
        self.driver.connection.come_back(Instant::now());
        let event = self.driver.next_event(&mut Lent { admit: Some(admit), ..Lent::default() });
        self.driver.connection.leave(Instant::now());
        event
    }

    /// Waits until no request is in flight, and forgets their results. The connection can then
    /// be used for something else.
    ///
    /// # Errors
    ///
    /// The errors of a connection. Requests that failed are forgotten as well.
    pub fn abandon(&mut self) -> Result<(), Error> {
        while let Some(event) = self.next_event(&mut TakeAll)? {
            match event {
                Event::Read { data, .. } => self.recycle_buffer(data),
                Event::Status { payload, .. } => self.recycle(payload),
                _ => {}
            }
        }
        Ok(())
    }

    /// Asks for the block status of a range and hands each chunk of the answer to `status`: the
    /// context's number, and the payload.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if the request failed (the connection is usable, and the chunks handed out
    /// are void; only after ESHUTDOWN it is ended, as it has to be); [`Error::Start`] if it cannot
    /// be asked, also while others are in flight; the errors of a connection otherwise.
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
        mut status: impl FnMut(u32, &[u8]),
    ) -> Result<(), Error> {
        self.check_idle()?;
        let cookie = self.start(|session| session.start_block_status(request))?;
        loop {
            match self.next_event(&mut TakeAll)? {
                // left over from a request whose events were not all fetched
                Some(event) if event.cookie() != cookie => {}
                Some(Event::Status { context, payload, .. }) => {
                    status(context, &payload);
                    self.recycle(payload);
                }
                Some(Event::Read { .. } | Event::Drained { .. }) => {}
                Some(Event::Done { .. }) => return Ok(()),
                Some(Event::Failed { error, .. }) => return Err(error.into()),
                None => return Err(Error::GivenUp),
            }
        }
    }
}
