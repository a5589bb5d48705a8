//! From the bytes of the server to events: the handshake, TLS, and the session.

use std::io::Read as _;
use std::time::Instant;

use super::transfer::Transfers;
use super::{BUFFER, Connection, GATHER, Lent, Stage};
use crate::error::Error;
use crate::export::Export;
use crate::frame::UnexpectedEof;
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
            // before the last events are handed out: a caller that has them may never poll again
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
            self.check_alive()?;
            // who was refused waits for this error, also where the last answer was ESHUTDOWN
            if self.has_refused
                && self.is_idle()
                && let Some(error) = self.send_error.take()
            {
                return Err(self.give_up(error));
            }
            let processed = self.process_input(lent, |stage| !stage.awaits_nothing());
            if !processed.map_err(|error| self.give_up(error))? {
                return Ok(None);
            }
        }
    }

    /// The next event of a request of the caller's, or of a transfer.
    fn take_event(&mut self) -> Option<Event> {
        let Stage::Open(session) = &mut self.stage else { return None };
        while let Some((event, owner, length)) = session.poll_owned() {
            if owner == 0 {
                if event.is_last() {
                    self.transfers.fill(session);
                }
                return Some(event);
            }
            self.transfers.take(event, owner, length, session);
        }
        None
    }

    /// Adds an event after those that are to be polled.
    pub(crate) fn queue_event(&mut self, event: Event) {
        // the events of parts bring those of their transfers, which come first
        let mut events: Vec<Event> = core::iter::from_fn(|| self.take_event()).collect();
        events.push(event);
        if let Stage::Open(session) = &mut self.stage {
            events.into_iter().for_each(|event| session.event(event));
        }
    }

    /// Processes all bytes that have come before a request is begun: they do not answer it.
    pub(super) fn process_unasked(&mut self) -> Result<(), Error> {
        let lent = &mut Lent::default();
        while self.process_input(lent, |_| true).map_err(|error| self.give_up(error))? {}
        Ok(())
    }

    /// Processes some of the bytes that were received, as long as they are due. Returns `false` if
    /// there are too few of them, or if none is of interest any more.
    fn process_input(&mut self, lent: &mut Lent<'_>, is_due: fn(&Stage) -> bool) -> Result<bool, Error> {
        if self.is_over() || !is_due(&self.stage) {
            return Ok(false);
        }
        let Self { stage, transfers, buffer, filled, tls, .. } = self;
        let Some(tls) = tls else {
            let input = buffer.get(filled.clone()).unwrap_or_default();
            if input.is_empty() {
                return Ok(false);
            }
            filled.start += stage.process(input, transfers, lent)?;
            self.begin_next_stage()?;
            return Ok(true);
        };
        let mut result = Ok(());
        let progress = tls.advance(&mut |plaintext| {
            let mut rest = plaintext;
            while result.is_ok() && !rest.is_empty() && is_due(stage) {
                match stage.process(rest, transfers, lent) {
                    Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                    Err(error) => result = Err(error),
                }
            }
            plaintext.len() - rest.len()
        });
        result?;
        match progress? {
            Progress::Blocked => return Ok(false),
            Progress::Received => self.begin_next_stage()?,
            Progress::Established => {
                if let Stage::Handshake(handshake) = stage {
                    handshake.tls_started();
                }
            }
            Progress::Ended => return Err(self.ended()),
        }
        Ok(true)
    }

    /// Begins TLS where the server has agreed to it, and the session where the handshake is over
    /// and has an export. A list of exports stays.
    fn begin_next_stage(&mut self) -> Result<(), Error> {
        let Stage::Handshake(handshake) = &mut self.stage else { return Ok(()) };
        if handshake.status() == HandshakeStatus::NeedsTls
            && let Some(setup) = self.setup.take()
        {
            // bytes that are still to be sent are plaintext
            self.tls = Some(Box::new(TlsSession::new(setup, handshake.take_output())?));
        }
        let Some((export, forgiven)) = handshake.export() else { return Ok(()) };
        let export = Export { tls: self.tls.as_ref().map(|tls| tls.info()), ..export.clone() };
        crate::trace::event!(info, "negotiated", size = export.size, contexts = export.contexts.len());
        let (strictness, limits) = (self.options.handshake.strictness, self.options.session_limits);
        let config = SessionConfig { export, strictness, limits, forgiven };
        self.stage = Stage::Open(Box::new(Session::new(config)));
        Ok(())
    }
}

impl Stage {
    /// The error if the server closes the connection now.
    pub(super) fn eof(&self) -> UnexpectedEof {
        match self {
            Self::Handshake(handshake) => handshake.eof(),
            Self::Open(session) => session.place(),
        }
    }

    /// True if no bytes are due. Those that come with the last answer wait until it is told.
    pub(super) fn awaits_nothing(&self) -> bool {
        match self {
            Self::Handshake(handshake) => handshake.status() == HandshakeStatus::Finished,
            Self::Open(session) => session.in_flight() == 0,
        }
    }

    /// Gives bytes to the handshake or the session, and says how many they took.
    fn process(
        &mut self,
        mut input: &[u8],
        transfers: &mut Transfers,
        lent: &mut Lent<'_>,
    ) -> Result<usize, Error> {
        match self {
            Self::Handshake(handshake) => Ok(handshake.feed(input)?),
            Self::Open(session) => {
                // one piece at a time: each may belong to another buffer
                let room = transfers.room(session, lent.read);
                let count = input.read(session.space_in(room)).unwrap_or_default();
                session.advance_in(count, lent.admit.as_deref_mut().unwrap_or(&mut take_all), room)?;
                Ok(count)
            }
        }
    }
}
