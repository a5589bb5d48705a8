//! From the bytes of the server to events: the handshake, TLS, and the session.

use std::time::Instant;

use super::{BUFFER, Connection, GATHER, Lent, Stage};
use crate::error::Error;
use crate::export::Export;
use crate::handshake::HandshakeStatus;
use crate::session::{Admit, Event, Session, SessionConfig, take_all};
use crate::tls::{Progress, TlsSession};

impl Connection {
    /// The next event, if the bytes received bring one. `admit` decides on chunks of block
    /// status before anything is allocated for them.
    ///
    /// # Errors
    ///
    /// [`Error::Handshake`] and [`Error::Protocol`] end the connection; the output may then hold a
    /// last message.
    pub fn poll(&mut self, admit: &mut Admit<'_>, now: Instant) -> Result<Option<Event>, Error> {
        self.poll_in(&mut Lent { admit: Some(admit), ..Lent::default() }, now)
    }

    pub(crate) fn poll_in(&mut self, lent: &mut Lent<'_>, now: Instant) -> Result<Option<Event>, Error> {
        loop {
            self.note(now);
            // before the last events are handed out: who has them may never poll again
            self.obey_shutdown(now);
            if self.says_goodbye() {
                return Ok(None);
            }
            if let Some(event) = self.take_event() {
                if let Event::Read { data, .. } = &event {
                    self.most = if data.len() > GATHER { BUFFER } else { GATHER };
                }
                return Ok(Some(event));
            }
            if self.is_given_up {
                return Err(Error::GivenUp);
            }
            let moved = if self.would_be_unasked() { Ok(false) } else { self.process_input(lent) };
            if !moved.map_err(|error| self.give_up(error))? {
                return Ok(None);
            }
        }
    }

    /// The next event of a request of the caller's, or of a transfer.
    fn take_event(&mut self) -> Option<Event> {
        let Stage::Open(session) = &mut self.stage else { return None };
        while let Some((event, owner)) = session.poll_owned() {
            if owner == 0 {
                if event.is_last() {
                    self.transfers.fill(session);
                }
                return Some(event);
            }
            self.transfers.take(event, owner, session);
        }
        self.transfers.poll()
    }

    /// True if bytes would be unasked. They wait for a request, which they may answer.
    fn would_be_unasked(&self) -> bool {
        self.is_open() && self.awaits_nothing()
    }

    pub(super) fn awaits_nothing(&self) -> bool {
        self.session().is_none_or(|session| session.in_flight() == 0)
    }

    /// Processes some of the bytes that were received. Returns `false` if there are none, or too
    /// few of them.
    fn process_input(&mut self, lent: &mut Lent<'_>) -> Result<bool, Error> {
        let Some(mut tls) = self.tls.take() else {
            if self.start == self.end {
                return Ok(false);
            }
            // taken out for as long as the rest of the connection works on it
            let buffer = core::mem::take(&mut self.buffer);
            let processed = self.process(buffer.get(self.start..self.end).unwrap_or_default(), lent);
            self.buffer = buffer;
            self.start += processed?;
            return Ok(true);
        };
        // TLS is taken out as well: it hands its plaintext to the rest of the connection
        let mut result = Ok(());
        let progress = tls.advance(&mut |plaintext| {
            let processed = self.process_awaited(plaintext, lent);
            processed.unwrap_or_else(|error| {
                result = Err(error);
                // nothing is read after an error: all is taken, so that `advance` returns
                plaintext.len()
            })
        });
        let tls = self.tls.insert(tls);
        result?;
        match progress? {
            Progress::Blocked => return Ok(false),
            Progress::Received => {}
            Progress::Established => {
                self.tls_info = Some(tls.info());
                if let Stage::Handshake(handshake) = &mut self.stage {
                    handshake.tls_started();
                }
            }
            Progress::Ended => return Err(self.ended()),
        }
        Ok(true)
    }

    /// Processes bytes as long as something waits for them, and says how many.
    fn process_awaited(&mut self, input: &[u8], lent: &mut Lent<'_>) -> Result<usize, Error> {
        let mut rest = input;
        while !rest.is_empty() && !self.would_be_unasked() {
            let count = self.process(rest, lent)?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(input.len() - rest.len())
    }

    /// Gives bytes to the handshake or the session, and says how many they took.
    fn process(&mut self, input: &[u8], lent: &mut Lent<'_>) -> Result<usize, Error> {
        match &mut self.stage {
            Stage::Handshake(handshake) => {
                let fed = handshake.feed(input)?;
                match handshake.status() {
                    HandshakeStatus::NeedsInput => {}
                    HandshakeStatus::NeedsTls => self.start_tls()?,
                    HandshakeStatus::Finished => self.open(),
                }
                Ok(fed)
            }
            Stage::Open(session) => {
                // one piece at a time: each may belong to another buffer
                let room = self.transfers.room(session, lent.read);
                let space = session.space_in(room);
                let count = space.len().min(input.len());
                if let (Some(space), Some(input)) = (space.get_mut(..count), input.get(..count)) {
                    space.copy_from_slice(input);
                }
                session.advance_in(count, lent.admit.as_deref_mut().unwrap_or(&mut take_all), room)?;
                Ok(count)
            }
        }
    }

    /// The server has agreed to TLS. Bytes that are still to be sent are plaintext.
    fn start_tls(&mut self) -> Result<(), Error> {
        if let (Some(setup), Stage::Handshake(handshake)) = (self.setup.take(), &mut self.stage) {
            self.tls = Some(Box::new(TlsSession::new(setup, handshake.take_output())?));
        }
        Ok(())
    }

    /// The handshake is over. Where it has an export the session begins; a list of exports stays.
    fn open(&mut self) {
        let Stage::Handshake(handshake) = &mut self.stage else { return };
        let Some((export, forgiven)) = handshake.export() else { return };
        let export = Export { tls: self.tls_info.take(), ..export.clone() };
        crate::trace::event!(info, "negotiated", size = export.size, contexts = export.contexts.len());
        let mut config = SessionConfig::of_export(export);
        config.strictness = self.options.handshake.strictness;
        config.limits = self.options.session_limits;
        let mut session = Session::new(config);
        session.count_forgiven(forgiven);
        self.stage = Stage::Open(Box::new(session));
    }
}
