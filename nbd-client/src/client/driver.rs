//! The blocking driver of a connection: a transport, and the system's clock.
//!
//! Nothing here waits for room to write without reading at the same time. A server that stops
//! reading until its answers are read would otherwise wait for the client, and the client for it.

use std::io::{self, ErrorKind, IoSliceMut};
use std::time::Instant;

use super::{Drive, Driven};
use crate::block_on::block_on;
use crate::connection::Lent;
use crate::error::Error;
use crate::session::Event;
use crate::transport::{Ready, Socket, Transport};

/// A transport that moves bytes by calls that wait.
#[derive(Debug)]
pub struct Blocking<T>(pub(crate) T);

pub(crate) type BlockingDriver<T> = Driven<Blocking<T>>;

impl<T: Transport> BlockingDriver<T> {
    /// Waits for the next event; `None` if nothing is in flight.
    pub(crate) fn next_event(&mut self, lent: &mut Lent<'_>) -> Result<Option<Event>, Error> {
        loop {
            let event = self.connection.poll_in(lent, Instant::now())?;
            if event.is_some() || self.connection.is_idle() {
                return Ok(event);
            }
            self.exchange(lent)?;
        }
    }

    /// Sends what can be sent; where that has to wait, or where there is nothing to send, reads
    /// once.
    pub(crate) fn exchange(&mut self, lent: &mut Lent<'_>) -> Result<(), Error> {
        if !self.connection.has_output() {
            return self.receive(lent);
        }
        self.send(lent)?;
        if self.connection.has_output() {
            self.receive_or_wake(lent, None)?;
        }
        Ok(())
    }

    /// As [`Self::exchange`], for a thread that can be woken: sends, waits for either direction or
    /// its waker, and reads if it can. `false` when nothing has happened until `until`, which a
    /// transport without a [waker](Transport::waker) does not keep.
    pub(crate) fn exchange_or_wake(&mut self, until: Option<Instant>) -> Result<bool, Error> {
        let lent = &mut Lent::default();
        if self.connection.has_output() {
            self.send(lent)?;
        }
        if self.connection.has_said_goodbye() {
            return Ok(true);
        }
        self.receive_or_wake(lent, until)
    }

    /// Waits for the server, for room to send the rest, or for the waker, and reads if there is
    /// something. `false` when nothing has happened until `until`.
    fn receive_or_wake(&mut self, lent: &mut Lent<'_>, until: Option<Instant>) -> Result<bool, Error> {
        let wanted = Ready { read: self.connection.wants_input(), write: self.connection.has_output() };
        let end = self.connection.poll_timeout();
        let soon = until.filter(|&until| end.is_none_or(|end| until < end));
        self.mover.0.set_deadline(soon.or(end)).or_else(|error| self.failed(error))?;
        let ready = match self.mover.0.wait(wanted) {
            Err(error) if error.kind() == ErrorKind::TimedOut && soon.is_some() => return Ok(false),
            ready => ready.or_else(|error| self.failed(error))?,
        };
        // a server that has hung up counts as readable, also where nothing is awaited
        if ready.read && wanted.read {
            self.receive(lent)?;
        }
        Ok(true)
    }

    /// Sends until everything is sent or nothing more goes without waiting.
    pub(crate) fn send(&mut self, lent: &mut Lent<'_>) -> Result<(), Error> {
        let Self { mover: Blocking(transport), connection } = self;
        connection.send_by(lent.write, |slices, end| {
            transport.set_deadline(end)?;
            if slices.is_empty() { transport.flush().map(|()| 0) } else { transport.write_now(slices) }
        })
    }

    /// One read, straight to where the connection wants it.
    fn receive(&mut self, lent: &mut Lent<'_>) -> Result<(), Error> {
        self.receive_by(lent, T::read_vectored).map(drop)
    }

    /// One read by a function of the transport's. `true` when it filled all the space that there
    /// was, and more may be there; `false` also when it would wait.
    fn receive_by(
        &mut self,
        lent: &mut Lent<'_>,
        mut read: impl FnMut(&mut T, &mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> Result<bool, Error> {
        self.set_deadline()?;
        let [direct, buffer] = self.connection.space_in(lent.read);
        let mut slices = [IoSliceMut::new(direct), IoSliceMut::new(buffer)];
        // an empty first slice could make a transport report the end of the stream
        let first = usize::from(slices.first().is_some_and(|direct| direct.is_empty()));
        let space: usize = slices.iter().map(|slice| slice.len()).sum();
        match read(&mut self.mover.0, slices.get_mut(first..).unwrap_or_default()) {
            Ok(count) => {
                self.connection.received_in(count, lent, Instant::now())?;
                Ok(count == space)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => self.failed(error),
        }
    }

    /// Before each call that may wait: bytes that were sent meanwhile may have given more time.
    pub(crate) fn set_deadline(&mut self) -> Result<(), Error> {
        let end = self.connection.poll_timeout();
        self.mover.0.set_deadline(end).or_else(|error| self.failed(error))
    }

    /// Tells the connection of a transport's error, by its meaning. Nothing, where it goes on.
    pub(crate) fn failed<V: Default>(&mut self, error: io::Error) -> Result<V, Error> {
        self.connection.receive_failed(error, Instant::now()).map(|()| V::default())
    }

    /// Says goodbye, within the time for it.
    pub(crate) fn disconnect(&mut self) -> Result<(), Error> {
        block_on(self.say_goodbye())
    }
}

impl<T: Transport> Drive for BlockingDriver<T> {
    async fn send(&mut self) -> Result<(), Error> {
        self.send(&mut Lent::default())
    }

    async fn exchange(&mut self) -> Result<(), Error> {
        self.exchange(&mut Lent::default())
    }

    async fn close(&mut self) {}
}

impl BlockingDriver<Socket> {
    /// Waits for the end of a connection that has nothing to do, or for its waker.
    pub(crate) fn watch(&mut self) -> Result<(), Error> {
        self.set_deadline()?;
        match self.mover.0.wait(Ready::default()) {
            Ok(ready) if ready.read => self.receive_now().map(drop),
            Ok(_) => Ok(()),
            Err(error) => self.failed(error),
        }
    }

    /// Reads once, if there is something to read. `true` when more may be there, and can be asked
    /// for without waiting.
    pub(crate) fn receive_now(&mut self) -> Result<bool, Error> {
        Ok(self.receive_by(&mut Lent::default(), Socket::read_now)? && cfg!(unix))
    }
}
