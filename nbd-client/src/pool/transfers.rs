//! Transfers of a pool: checked here, handed to the connection with the fewest, and their events
//! under the pool's numbers.

use super::{InFlight, Pool, Worker, WorkerReport};
use crate::connection::Transfer;
use crate::error::Error;
use crate::session::{Cookie, Event, SessionLimits, StartError};

impl Pool {
    pub(crate) fn longest_payload(&self) -> u32 {
        self.checks.longest_payload()
    }

    pub(crate) fn limits(&self) -> SessionLimits {
        self.checks.limits()
    }

    /// The minimum block of the export in bytes: reads and writes are for whole ones.
    pub(crate) fn minimum_block(&self) -> u64 {
        self.checks.minimum_block()
    }

    /// An error if a range cannot be written, whatever its blocks.
    pub(crate) fn check_inside(&self, offset: u64, length: u64) -> Result<(), Error> {
        Ok(self.checks.check_writable(offset, length)?)
    }

    pub(crate) fn check_alive(&self) -> Result<(), Error> {
        if self.given_up { Err(Error::GivenUp) } else { Ok(()) }
    }

    /// An error if requests are in flight.
    pub(crate) fn check_idle(&self) -> Result<(), Error> {
        self.check_alive()?;
        match self.in_flight.len() {
            0 => Ok(()),
            in_flight => Err(StartError::Busy(in_flight).into()),
        }
    }

    pub(crate) fn begin(&mut self, transfer: Transfer) -> Result<Cookie, Error> {
        self.look();
        if let Some(error) = self.lost.take_if(|_| self.events.is_empty()) {
            self.given_up = true;
            return Err(error);
        }
        self.check_alive()?;
        transfer.check(&self.checks)?;
        let moved = transfer.moves();
        self.checks.limits().check(self.open, self.open_bytes, moved)?;
        self.last += 1;
        let number = Cookie::numbered(self.last);
        let next = self.workers.iter_mut().enumerate().min_by_key(|(_, worker)| worker.load);
        let Some((index, worker)) = next else { return Err(Error::GivenUp) };
        worker.begin(number, transfer);
        self.in_flight.insert(number, InFlight { worker: index, moved, is_answered: false });
        self.open += 1;
        self.open_bytes += moved;
        Ok(number)
    }

    /// The next event of any transfer; `None` if none is in flight.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            self.check_alive()?;
            if self.in_flight.is_empty() && self.lost.is_none() {
                return Ok(None);
            }
            if let Some(error) = self.lost.take() {
                self.given_up = true;
                return Err(error);
            }
            self.announce();
            for report in self.reports.wait() {
                self.take(report);
            }
        }
    }

    /// Takes the news that are there already.
    pub(crate) fn look(&mut self) {
        for report in self.reports.take() {
            self.take(report);
        }
    }

    /// Has all transfers begun that were handed over. Without it some wait for others, to be handed
    /// over together, until the next event is waited for.
    pub(crate) fn announce(&mut self) {
        self.workers.iter_mut().for_each(Worker::wake);
    }

    fn take(&mut self, report: WorkerReport) {
        match report {
            WorkerReport::Event(event) => self.note(event),
            WorkerReport::Spare(buffer) => self.recycle_buffer(buffer),
            // the first one says why, once the events before it are taken
            WorkerReport::Lost(error) => {
                self.lost.get_or_insert(error);
            }
        }
    }

    /// Memory that was used before, or none.
    pub(crate) fn spare_buffer(&mut self) -> Vec<u8> {
        self.buffers.take()
    }

    pub(crate) fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        self.buffers.keep(buffer);
    }

    /// An event of a connection, which numbers its transfers as the pool does.
    fn note(&mut self, event: Event) {
        let cookie = event.cookie();
        if matches!(event, Event::Read { .. }) {
            if let Some(request) = self.in_flight.get_mut(&cookie) {
                request.is_answered = true;
                (self.open, self.open_bytes) = (self.open - 1, self.open_bytes - request.moved);
            }
        } else if let Some(request) = self.in_flight.remove(&cookie) {
            if !request.is_answered {
                (self.open, self.open_bytes) = (self.open - 1, self.open_bytes - request.moved);
            }
            if let Some(worker) = self.workers.get_mut(request.worker) {
                worker.load = worker.load.saturating_sub(1);
            }
        }
        self.events.push_back(event);
    }
}
