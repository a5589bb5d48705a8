//! Requests of a pool: checked here, handed to the connection with the fewest, and their events under the pool's own numbers.

use super::{InFlight, Pool, Report};
use crate::error::Error;
use crate::export::Export;
use crate::pipeline::{Ask, Engine};
use crate::session::{Cookie, Event, SessionLimits, StartError};

impl Engine for Pool {
    fn export(&self) -> &Export {
        &self.export
    }

    fn longest_payload(&self) -> u32 {
        self.checks.longest_payload()
    }

    fn limits(&self) -> SessionLimits {
        self.checks.limits()
    }

    fn check_idle(&self) -> Result<(), Error> {
        self.check_alive()?;
        match self.in_flight.len() {
            0 => Ok(()),
            in_flight => Err(StartError::Busy { in_flight }.into()),
        }
    }

    fn start(&mut self, ask: Ask) -> Result<Cookie, Error> {
        self.check_alive()?;
        ask.check(&self.checks)?;
        let moved = ask.moves();
        self.check_limits(moved)?;
        self.last += 1;
        let number = Cookie::of_pool(self.last);
        let next = self.workers.iter_mut().enumerate().min_by_key(|(_, worker)| worker.load);
        let Some((index, worker)) = next else { return Err(Error::GivenUp) };
        // A thread that has ended has said why: the next event is its error.
        worker.ask(number, ask);
        self.in_flight.insert(number, InFlight { worker: index, moved, is_answered: false });
        Ok(number)
    }

    fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            self.check_alive()?;
            if self.in_flight.is_empty() {
                return Ok(None);
            }
            match self.reports.recv() {
                Ok(Report::Event(number, event)) => self.note(number, event),
                Ok(Report::Spare(buffer)) => self.recycle_buffer(buffer),
                Ok(Report::Lost(error)) => {
                    self.given_up = true;
                    return Err(error);
                }
                Err(_) => {
                    self.given_up = true;
                    return Err(Error::GivenUp);
                }
            }
        }
    }

    fn spare_buffer(&mut self) -> Vec<u8> {
        self.spares.take()
    }

    fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        self.spares.keep(buffer);
    }
}

impl Pool {
    fn check_limits(&self, length: u64) -> Result<(), StartError> {
        let limits = self.limits();
        let open = || self.in_flight.values().filter(|request| !request.is_answered);
        let requests = open().count();
        let in_flight: u64 = open().map(|request| request.moved).sum();
        let limit = limits.max_bytes_in_flight;
        if requests >= limits.max_in_flight {
            return Err(StartError::TooManyInFlight { requests });
        }
        if in_flight > 0 && in_flight.saturating_add(length) > limit {
            return Err(StartError::TooMuchInFlight { in_flight, length, limit });
        }
        Ok(())
    }

    /// An event of a connection, under the pool's number.
    fn note(&mut self, cookie: Cookie, event: Event) {
        let event = match event {
            Event::Read { data, .. } => Event::Read { cookie, data },
            Event::Done { .. } => Event::Done { cookie },
            Event::Failed { error, .. } => Event::Failed { cookie, error },
            // block status, which no pool asks for
            Event::Status { .. } | Event::Drained { .. } => return,
        };
        if matches!(event, Event::Read { .. }) {
            if let Some(request) = self.in_flight.get_mut(&cookie) {
                request.is_answered = true;
            }
        } else if let Some(request) = self.in_flight.remove(&cookie)
            && let Some(worker) = self.workers.get_mut(request.worker)
        {
            worker.load = worker.load.saturating_sub(1);
        }
        self.events.push_back(event);
    }
}
