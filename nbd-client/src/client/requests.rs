//! Several requests in flight: each is started now, and its answer is an event later.

use std::time::Instant;

use super::Client;
use crate::connection::Lent;
use crate::error::Error;
use crate::session::{
    Admit, Cookie, Event, ReadRequest, Session, StartError, StatusRequest, TakeAll, TrimRequest,
    WriteRequest, ZeroRequest,
};
use crate::transport::Transport;

impl<T: Transport> Client<T> {
    /// Starts a block status request and returns at once; its answer comes through
    /// [`Self::next_event`].
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, and the errors of a connection.
    pub fn start_block_status(&mut self, request: &StatusRequest<'_>) -> Result<Cookie, Error> {
        self.launch(|session| session.start_block_status(request))
    }

    /// Starts a read of as many bytes as `buffer` has and returns at once. The buffer comes back
    /// full with [`Event::Read`], through [`Self::next_event`]; [`Self::buffer`] makes one of
    /// memory that was used before.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, and the errors of a connection.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Options};
    /// use nbd_client::session::{Event, ReadRequest, TakeAll};
    ///
    /// let mut client = Client::connect(&"nbd://localhost/disk".parse()?, &Options::new())?;
    /// for block in 0..16 {
    ///     let buffer = client.buffer(1 << 20);
    ///     client.start_read(&ReadRequest::new(block << 20), buffer)?;
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
    pub fn start_read(&mut self, request: &ReadRequest, buffer: Vec<u8>) -> Result<Cookie, Error> {
        self.launch(|session| session.start_read(request, buffer))
    }

    /// Starts a write of `data` and returns at once. What does not fit the socket's buffer goes out
    /// during [`Self::next_event`].
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, for example because the export is read-only, and the
    /// errors of a connection.
    pub fn start_write(&mut self, request: &WriteRequest, data: Vec<u8>) -> Result<Cookie, Error> {
        self.launch(|session| session.start_write(request, data))
    }

    /// Starts to make a range read as zeroes and returns at once.
    ///
    /// # Errors
    ///
    /// As [`Self::start_write`].
    pub fn start_write_zeroes(&mut self, request: &ZeroRequest) -> Result<Cookie, Error> {
        self.launch(|session| session.start_write_zeroes(request))
    }

    /// Starts to give a range up and returns at once.
    ///
    /// # Errors
    ///
    /// As [`Self::start_write`].
    pub fn start_trim(&mut self, request: &TrimRequest) -> Result<Cookie, Error> {
        self.launch(|session| session.start_trim(request))
    }

    /// Starts to have the server make `length` bytes from `offset` ready for reading, and returns
    /// at once.
    ///
    /// # Errors
    ///
    /// As [`Self::start_read`].
    pub fn start_cache(&mut self, offset: u64, length: u64) -> Result<Cookie, Error> {
        self.launch(|session| session.start_cache(offset, length))
    }

    /// Starts to make the writes durable that were answered, and returns at once. Writes still in flight
    /// are not covered.
    ///
    /// # Errors
    ///
    /// As [`Self::start_read`].
    pub fn start_flush(&mut self) -> Result<Cookie, Error> {
        self.launch(|session| session.start_flush())
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
    pub fn next_event<A: Admit + ?Sized>(&mut self, admit: &mut A) -> Result<Option<Event>, Error> {
        self.driver.connection.come_back(Instant::now());
        let event = self.driver.next_event(admit, &mut Lent::default());
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

    /// A request into the session, and as much of it to the server as goes without waiting.
    fn launch(
        &mut self,
        start: impl FnOnce(&mut Session) -> Result<Cookie, StartError>,
    ) -> Result<Cookie, Error> {
        let now = Instant::now();
        self.driver.connection.come_back(now);
        let cookie = self.driver.connection.start(now, start)?;
        let sent = self.driver.send(&mut Lent::default());
        self.driver.connection.leave(Instant::now());
        sent.map(|()| cookie)
    }
}
