//! The thread of one connection: requests come through a channel, events go out through another.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::client::Client;
use crate::error::{During, Error};
use crate::pipeline::{Ask, Engine};
use crate::session::{Cookie, Event};
use crate::transport::Transport;

/// What a thread has to say.
#[derive(Debug)]
pub(super) enum Report {
    /// An event of the request with this number of the pool.
    Event(Cookie, Event),
    /// Memory of a payload that was sent.
    Spare(Vec<u8>),
    /// The connection is of no more use.
    Lost(Error),
}

/// One connection, as the pool sees it.
#[derive(Debug)]
pub(super) struct Worker {
    /// How many requests it has.
    pub(super) load: usize,
    jobs: Sender<Job>,
    thread: JoinHandle<Result<(), Error>>,
}

#[derive(Debug)]
struct Job {
    number: Cookie,
    ask: Ask,
}

impl Worker {
    pub(super) fn start<T>(client: Client<T>, reports: Sender<Report>) -> Result<Self, Error>
    where
        T: Transport + Send + core::fmt::Debug + 'static,
    {
        let (jobs, theirs) = channel();
        let thread = std::thread::Builder::new()
            .name("nbd-pool".to_owned())
            .spawn(move || work(client, &theirs, &reports))
            .map_err(|source| Error::Io { during: During::Connect, source })?;
        Ok(Self { load: 0, jobs, thread })
    }

    /// Hands a request on; false if the thread has ended.
    pub(super) fn ask(&mut self, number: Cookie, ask: Ask) -> bool {
        self.load += 1;
        self.jobs.send(Job { number, ask }).is_ok()
    }

    /// Has the connection closed when its requests are answered.
    pub(super) fn end(self) -> Option<JoinHandle<Result<(), Error>>> {
        drop(self.jobs);
        Some(self.thread)
    }
}

fn work<T: Transport>(
    mut client: Client<T>,
    jobs: &Receiver<Job>,
    reports: &Sender<Report>,
) -> Result<(), Error> {
    let _obituary = Obituary(reports);
    let result = serve(&mut client, jobs, reports);
    match result {
        Ok(()) => client.disconnect(),
        Err(error) => {
            // Nobody listens where the pool is gone.
            reports.send(Report::Lost(error)).ok();
            Ok(())
        }
    }
}

/// A panic of a transport must not leave the pool waiting for answers.
struct Obituary<'a>(&'a Sender<Report>);

impl Drop for Obituary<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send(Report::Lost(Error::GivenUp)).ok();
        }
    }
}

/// Until the pool has no more requests, and all are answered.
fn serve<T: Transport>(
    client: &mut Client<T>,
    jobs: &Receiver<Job>,
    reports: &Sender<Report>,
) -> Result<(), Error> {
    let mut numbers: HashMap<Cookie, Cookie> = HashMap::new();
    loop {
        // not when the session has none in flight: their last events may not have been fetched
        if numbers.is_empty() {
            let Ok(job) = jobs.recv() else { return Ok(()) };
            begin(client, job, &mut numbers)?;
        }
        while let Ok(job) = jobs.try_recv() {
            begin(client, job, &mut numbers)?;
        }
        let Some(event) = Engine::next_event(client)? else { continue };
        let cookie = event.cookie();
        let Some(&number) = numbers.get(&cookie) else { continue };
        if matches!(event, Event::Done { .. } | Event::Failed { .. }) {
            numbers.remove(&cookie);
            let spare = client.spare_buffer();
            if spare.capacity() > 0 {
                reports.send(Report::Spare(spare)).ok();
            }
        }
        reports.send(Report::Event(number, event)).ok();
    }
}

fn begin<T: Transport>(
    client: &mut Client<T>,
    job: Job,
    numbers: &mut HashMap<Cookie, Cookie>,
) -> Result<(), Error> {
    let cookie = Engine::start(client, job.ask)?;
    numbers.insert(cookie, job.number);
    Ok(())
}
