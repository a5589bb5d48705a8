//! Several requests in flight: starting them, and moving bytes both ways until one of them has something to say.
//!
//! Nothing here waits for room to write without reading at the same time. A server that stops reading until its answers are read
//! would otherwise wait for the client, and the client for it.

use core::time::Duration;
use std::io::IoSlice;
use std::time::Instant;

use super::{Client, earlier, out_of_time};
use crate::error::{During, Error};
use crate::session::{
    Admit, Cookie, Event, ReadRequest, Session, StartError, StatusRequest, TakeAll, TrimRequest,
    WriteRequest, ZeroRequest,
};
use crate::transport::Transport;

/// The most time for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// The most pieces that are given to the system in one call.
const PIECES: usize = 16;

/// What a blocking call brings along for its own requests: see [`Session::space_in`](crate::Session::space_in).
#[derive(Debug)]
pub(super) struct Lent<'a> {
    /// Where its reads go.
    pub(super) read: &'a mut [u8],
    /// What is still to be sent behind the output.
    pub(super) write: &'a [u8],
}

impl Lent<'_> {
    pub(super) const fn nothing() -> Self {
        Self { read: &mut [], write: &[] }
    }
}

impl<T: Transport> Client<T> {
    /// Starts a block status request and returns at once; its answer comes through [`Self::next_event`].
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, and the errors of a connection.
    pub fn start_block_status(&mut self, request: &StatusRequest<'_>) -> Result<Cookie, Error> {
        self.launch(|session| session.start_block_status(request))
    }

    /// Starts a read of as many bytes as `buffer` has and returns at once. The buffer comes back full with
    /// [`Event::Read`], through [`Self::next_event`]; [`Self::buffer`] makes one of memory that was used before.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, and the errors of a connection.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Event, Options, ReadRequest, TakeAll};
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

    /// Starts a write of `data` and returns at once. What does not fit the socket's buffer goes out during [`Self::next_event`].
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, for example because the export is read-only, and the errors of a connection.
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

    /// Starts to have the server make `length` bytes from `offset` ready for reading, and returns at once.
    ///
    /// # Errors
    ///
    /// As [`Self::start_read`].
    pub fn start_cache(&mut self, offset: u64, length: u64) -> Result<Cookie, Error> {
        self.launch(|session| session.start_cache(offset, length))
    }

    /// Starts to make durable what was answered so far, and returns at once. Writes still in flight are not covered.
    ///
    /// # Errors
    ///
    /// As [`Self::start_read`].
    pub fn start_flush(&mut self) -> Result<Cookie, Error> {
        self.launch(|session| session.start_flush())
    }

    /// The longest read or write that can be answered in one chunk, in bytes: what the server says, at most 32 MiB, within the limits of
    /// [`Options::session_limits`](crate::Options::session_limits), in whole blocks.
    #[must_use]
    pub fn longest_payload(&self) -> u32 {
        self.session.longest_payload()
    }

    /// A buffer of `length` bytes for a read, out of memory that was used before if there is some. What it holds is of no meaning.
    #[must_use]
    pub fn buffer(&mut self, length: usize) -> Vec<u8> {
        let mut buffer = self.session.spare_buffer();
        buffer.resize(length, 0);
        buffer
    }

    /// Gives back the memory of a read's data, to be used for the next.
    pub fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        self.session.recycle_buffer(buffer);
    }

    /// Gives back the memory of a status event's payload, to be used for the next.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.session.recycle(payload);
    }

    /// Waits for the next event of any request; `None` if none is in flight.
    ///
    /// `admit` decides on chunks of block status before anything is allocated for them. The time between two calls is the caller's own, and does not
    /// count against the requests' deadlines.
    ///
    /// # Errors
    ///
    /// The errors of a connection. A request that failed is an event.
    pub fn next_event<A: Admit + ?Sized>(&mut self, admit: &mut A) -> Result<Option<Event>, Error> {
        self.next_event_in(admit, &mut Lent::nothing())
    }

    pub(super) fn next_event_in<A: Admit + ?Sized>(
        &mut self,
        admit: &mut A,
        lent: &mut Lent<'_>,
    ) -> Result<Option<Event>, Error> {
        self.come_back();
        let event = self.wait_for_event(admit, lent);
        self.left = Some(Instant::now());
        event
    }

    /// Moves the start of each request by the time in which the caller was busy elsewhere, and could not have seen its reply.
    fn come_back(&mut self) {
        let now = Instant::now();
        let Some(left) = self.left.replace(now) else { return };
        for started in self.started.values_mut() {
            *started += now.saturating_duration_since(left.max(*started));
        }
    }

    fn wait_for_event<A: Admit + ?Sized>(
        &mut self,
        admit: &mut A,
        lent: &mut Lent<'_>,
    ) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.session.poll() {
                if matches!(event, Event::Done { .. } | Event::Failed { .. }) {
                    self.started.remove(&event.cookie());
                    self.obey_shutdown(lent);
                }
                return Ok(Some(event));
            }
            self.check_alive()?;
            // a write may be answered before all of it was sent, and has to be sent all the same
            if self.started.is_empty() && lent.write.is_empty() {
                self.obey_shutdown(lent);
                return Ok(None);
            }
            self.set_deadline(self.oldest(), self.request_timeout)?;
            let moved = self.exchange(admit, lent);
            self.note(moved)?;
        }
    }

    /// Waits until no request is in flight, and forgets what comes of them. The connection can then be used for something else.
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
    pub(crate) fn launch(
        &mut self,
        start: impl FnOnce(&mut Session) -> Result<Cookie, StartError>,
    ) -> Result<Cookie, Error> {
        self.check_alive()?;
        self.come_back();
        let cookie = start(&mut self.session)?;
        self.launched(cookie);
        self.set_deadline(self.oldest(), self.request_timeout)?;
        let sent = self.push_or_listen(&mut Lent::nothing());
        self.note(sent)?;
        Ok(cookie)
    }

    pub(super) fn launched(&mut self, cookie: Cookie) {
        self.latest = Instant::now();
        self.started.insert(cookie, self.latest);
    }

    /// When the oldest request in flight was started, or else the last one that was.
    fn oldest(&self) -> Instant {
        self.started.first_key_value().map_or(self.latest, |(_, &started)| started)
    }

    pub(super) fn say_goodbye(&mut self) -> Result<(), Error> {
        self.session.disconnect();
        self.set_deadline(Instant::now(), self.request_timeout.min(GOODBYE))?;
        while self.session.has_output() {
            let moved = self.exchange(&mut TakeAll, &mut Lent::nothing());
            self.note(moved)?;
        }
        Ok(())
    }

    /// After ESHUTDOWN a client MUST disconnect (NBD protocol, "Error values"), but not in the middle of a write's data.
    fn obey_shutdown(&mut self, lent: &Lent<'_>) {
        if self.must_disconnect() && self.in_flight() == 0 && lent.write.is_empty() {
            // The request's own error is what counts.
            self.say_goodbye().ok();
        }
    }

    fn set_deadline(&mut self, started: Instant, timeout: Duration) -> Result<(), Error> {
        let deadline = earlier(started.checked_add(timeout), self.deadline);
        let set = self.stream.set_deadline(started, deadline);
        self.note(set)
    }

    /// Sends what is left to send; where that would have to wait, or where nothing is left, one read.
    fn exchange<A: Admit + ?Sized>(&mut self, admit: &mut A, lent: &mut Lent<'_>) -> Result<(), Error> {
        if self.deaf.is_none() && (self.session.has_output() || !lent.write.is_empty()) {
            self.push_or_listen(lent)?;
            let all_sent = !self.session.has_output() && lent.write.is_empty();
            if self.deaf.is_none() && (all_sent || !self.stream.wait()?.read) {
                return Ok(());
            }
        }
        match self.receive(admit, lent) {
            Err(error @ (Error::Io { .. } | Error::ConnectionLost(_) | Error::GivenUp)) => {
                Err(self.deaf.take().unwrap_or(error))
            }
            received => received,
        }
    }

    /// [Sends](Self::push). A server that takes no more bytes may have said why before: then its last words are read, and the error waits.
    fn push_or_listen(&mut self, lent: &mut Lent<'_>) -> Result<(), Error> {
        if self.deaf.is_some() {
            return Ok(());
        }
        match self.push(lent) {
            Err(error) if error.is_hung_up() => self.deaf = Some(error),
            pushed => pushed?,
        }
        Ok(())
    }

    /// Sends until everything is sent or nothing more goes without waiting.
    fn push(&mut self, lent: &mut Lent<'_>) -> Result<(), Error> {
        loop {
            let mut pieces: Vec<IoSlice<'_>> = self.session.output().take(PIECES).map(IoSlice::new).collect();
            let ours: usize = pieces.iter().map(|piece| piece.len()).sum();
            if pieces.len() < PIECES && !lent.write.is_empty() {
                pieces.push(IoSlice::new(lent.write));
            }
            if pieces.is_empty() {
                return self.stream.flush();
            }
            let count = self.stream.send_now(&pieces)?;
            if count == 0 {
                return Ok(());
            }
            self.session.sent(count.min(ours));
            lent.write = lent.write.get(count.saturating_sub(ours)..).unwrap_or_default();
        }
    }

    /// One read, straight to where the session wants it.
    fn receive<A: Admit + ?Sized>(&mut self, admit: &mut A, lent: &mut Lent<'_>) -> Result<(), Error> {
        let during = self.session.eof().map_or(During::ReplyHeader, |eof| eof.during);
        let count = self.stream.read(self.session.space_in(lent.read), during)?;
        if count == 0 {
            return match self.session.eof() {
                Some(eof) => Err(eof.into()),
                None => Err(Error::GivenUp),
            };
        }
        self.session.advance_in(count, admit, lent.read).map_err(Error::from)
    }

    pub(super) const fn check_alive(&self) -> Result<(), Error> {
        if self.given_up { Err(Error::GivenUp) } else { Ok(()) }
    }

    /// A blocking call is alone on the connection: the events of others would be lost.
    pub(crate) fn check_idle(&self) -> Result<(), Error> {
        self.check_alive()?;
        match self.in_flight() {
            0 => Ok(()),
            in_flight => Err(StartError::Busy { in_flight }.into()),
        }
    }

    /// No error of a stream is forgotten: what comes after it would not be in step.
    fn note<V>(&mut self, result: Result<V, Error>) -> Result<V, Error> {
        self.given_up |= result.is_err();
        result.map_err(|error| out_of_time(error, self.deadline))
    }
}
