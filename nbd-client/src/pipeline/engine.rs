//! What pipelines need of a connection, or of several.

use crate::client::Client;
use crate::error::Error;
use crate::export::Export;
use crate::session::{
    Cookie, Event, ReadRequest, Session, SessionLimits, StartError, TakeAll, WriteRequest, ZeroRequest,
};
use crate::transport::Transport;

/// A request with all that belongs to it.
#[derive(Debug)]
pub(crate) enum Ask {
    Read(ReadRequest, Vec<u8>),
    Write(WriteRequest, Vec<u8>),
    Zero(ZeroRequest),
    Flush,
}

impl Ask {
    /// An error if a session would not take it.
    pub(crate) fn check(&self, session: &Session) -> Result<(), StartError> {
        match self {
            Self::Read(request, buffer) => session.check_read(request, buffer.len()),
            Self::Write(request, data) => session.check_write(request, data.len()),
            Self::Zero(request) => session.check_write_zeroes(request),
            Self::Flush => session.check_flush(),
        }
    }

    /// Bytes of payload that it moves.
    pub(crate) fn moves(&self) -> u64 {
        match self {
            Self::Read(_, bytes) | Self::Write(_, bytes) => bytes.len() as u64,
            Self::Zero(_) | Self::Flush => 0,
        }
    }

    /// Into a session, which checks it.
    pub(crate) fn start(self, session: &mut Session) -> Result<Cookie, StartError> {
        match self {
            Self::Read(request, buffer) => session.start_read(&request, buffer),
            Self::Write(request, data) => session.start_write(&request, data),
            Self::Zero(request) => session.start_write_zeroes(&request),
            Self::Flush => session.start_flush(),
        }
    }
}

pub(crate) trait Engine {
    fn export(&self) -> &Export;
    fn longest_payload(&self) -> u32;
    fn limits(&self) -> SessionLimits;
    /// An error if requests are in flight.
    fn check_idle(&self) -> Result<(), Error>;
    fn start(&mut self, ask: Ask) -> Result<Cookie, Error>;
    /// The next event of any request; `None` if none is in flight.
    fn next_event(&mut self) -> Result<Option<Event>, Error>;
    /// Memory that was used before, or none.
    fn spare_buffer(&mut self) -> Vec<u8>;
    fn recycle_buffer(&mut self, buffer: Vec<u8>);

    /// Waits until no request is in flight, and forgets what comes of them.
    fn abandon(&mut self) -> Result<(), Error> {
        while let Some(event) = self.next_event()? {
            if let Event::Read { data, .. } = event {
                self.recycle_buffer(data);
            }
        }
        Ok(())
    }
}

impl<T: Transport> Engine for Client<T> {
    fn export(&self) -> &Export {
        self.export()
    }

    fn longest_payload(&self) -> u32 {
        self.longest_payload()
    }

    fn limits(&self) -> SessionLimits {
        self.limits()
    }

    fn check_idle(&self) -> Result<(), Error> {
        self.check_idle()
    }

    fn start(&mut self, ask: Ask) -> Result<Cookie, Error> {
        self.launch(|session| ask.start(session))
    }

    fn next_event(&mut self) -> Result<Option<Event>, Error> {
        self.next_event(&mut TakeAll)
    }

    fn spare_buffer(&mut self) -> Vec<u8> {
        self.buffer(0)
    }

    fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        self.recycle_buffer(buffer);
    }
}
