//! Transfers of a pool: checked here, handed to the connection with the fewest, and their events
//! under the pool's numbers.

use super::{Job, PoolOver, Worker, WorkerReport};
use crate::connection::Transfer;
use crate::error::Error;
use crate::session::{Cookie, Event, StartError};

impl<W: Worker> PoolOver<W> {
    /// The error of a lost connection the first time, and [`Error::GivenUp`] from then on. Events
    /// that came before it are reported first.
    pub(crate) fn check_alive(&mut self) -> Result<(), Error> {
        match &mut self.lost {
            Some(error) if self.events.is_empty() => Err(core::mem::replace(error, Error::GivenUp)),
            _ => Ok(()),
        }
    }

    /// An error if requests are in flight, or have events that were not taken.
    pub(crate) fn check_idle(&mut self) -> Result<(), Error> {
        self.check_alive()?;
        match self.in_flight() {
            0 => Ok(()),
            in_flight => Err(StartError::Busy(in_flight).into()),
        }
    }

    pub(crate) fn begin(&mut self, transfer: Transfer) -> Result<Cookie, Error> {
        self.check_alive()?;
        transfer.check(&self.checks)?;
        let moved = transfer.request.moves();
        self.checks.config.limits.check(self.in_flight.len(), self.bytes_in_flight, moved)?;
        let number = self.checks.next_number();
        let next = self.members.iter_mut().enumerate().min_by_key(|(_, member)| member.load);
        let Some((index, member)) = next else { return Err(Error::GivenUp) };
        member.load += 1;
        member.worker.queue(Job::Begin(number, transfer));
        self.in_flight.insert(number, (index, moved));
        self.bytes_in_flight += moved;
        Ok(number)
    }

    /// The next event of any transfer; `None` if none is in flight. A call that is dropped loses
    /// none.
    pub(crate) async fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            self.check_alive()?;
            if self.in_flight.is_empty() {
                return Ok(None);
            }
            self.announce();
            for report in self.reports.wait().await {
                self.take(report);
            }
        }
    }

    /// Wakes the connections to begin all queued transfers. Otherwise some stay queued, to be begun
    /// together with others, until the pool waits for an event.
    pub(crate) fn announce(&mut self) {
        self.members.iter_mut().for_each(|member| member.worker.wake());
    }

    fn take(&mut self, report: WorkerReport) {
        match report {
            WorkerReport::Event(event) => {
                // The connection numbers its transfers as the pool does. The data of a read come
                // with its last event, so that no request is in flight here that the connection has
                // forgotten.
                if event.is_last()
                    && let Some((member, moved)) = self.in_flight.remove(&event.cookie())
                {
                    self.bytes_in_flight -= moved;
                    if let Some(member) = self.members.get_mut(member) {
                        member.load -= 1;
                    }
                }
                self.events.push_back(event);
            }
            // the first error says why, once the events before it are taken
            WorkerReport::Ended(ended) => self.lost = self.lost.take().or(ended.err()),
        }
    }
}
