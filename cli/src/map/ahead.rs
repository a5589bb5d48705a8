//! A survey in a thread of its own, which asks ahead, so that the server works while the map is
//! written.
//!
//! An output that stalls must not keep a server from sending: before the thread waits for it, all
//! answers that are due are received.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use nbd_client::Surveyor;
use nbd_client::survey::{SurveyStream, SurveyorError};
use nbd_extents::stream::ExtentSource;
use nbd_extents::{Extent, Status, SurveyOptions, SurveyStats};

/// The extents that are handed over at once.
const BATCH: usize = 1 << 10;
/// The batches that wait to be written: 4 MiB, which hold all extents that qemu gives in one reply.
const WAITING: usize = 128;

type Surveyed = Result<SurveyStats, SurveyorError>;

/// The extents of a survey that runs ahead of its reader.
///
/// Dropped before its end, it does not wait for the thread.
pub(super) struct SurveyAhead {
    batches: Receiver<Vec<Extent<Status>>>,
    batch: std::vec::IntoIter<Extent<Status>>,
    thread: Option<JoinHandle<Surveyed>>,
    stats: SurveyStats,
}

impl SurveyAhead {
    pub(super) fn start(surveyor: Surveyor, options: SurveyOptions) -> io::Result<Self> {
        let (sender, batches) = sync_channel(WAITING);
        let survey = move || survey(surveyor, options, &sender);
        let thread = Some(Builder::new().name("survey".to_owned()).spawn(survey)?);
        Ok(Self { batches, batch: Vec::new().into_iter(), thread, stats: SurveyStats::default() })
    }

    /// The counters of the survey, once it has ended.
    pub(super) const fn stats(&self) -> &SurveyStats {
        &self.stats
    }
}

impl ExtentSource for SurveyAhead {
    type Status = Status;
    type Error = SurveyorError;

    fn pull(&mut self) -> Result<Option<Extent<Status>>, SurveyorError> {
        loop {
            if let Some(extent) = self.batch.next() {
                return Ok(Some(extent));
            }
            if let Ok(batch) = self.batches.recv() {
                self.batch = batch.into_iter();
                continue;
            }
            // The thread alone knows whether this is the end of the disk.
            let Some(thread) = self.thread.take() else { return Ok(None) };
            self.stats = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
    }
}

/// Runs the whole survey, and says goodbye. Ends early if nobody reads its extents any more.
fn survey(
    mut surveyor: Surveyor,
    options: SurveyOptions,
    batches: &SyncSender<Vec<Extent<Status>>>,
) -> Surveyed {
    let mut extents = surveyor.survey(options)?.ask_ahead();
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        let read = fill(&mut batch, &mut extents);
        // the extents before an error are right, and are written
        let is_whole = batch.len() == BATCH;
        let is_read = hand_over(batch, batches, &mut extents);
        read?;
        if !is_whole || !is_read {
            break;
        }
    }
    let stats = extents.stats();
    // the map is whole, or nobody reads it any more
    surveyor.disconnect().ok();
    Ok(stats)
}

/// Hands a batch over; false if nobody reads any more.
fn hand_over(
    batch: Vec<Extent<Status>>,
    batches: &SyncSender<Vec<Extent<Status>>>,
    extents: &mut SurveyStream<'_>,
) -> bool {
    match batches.try_send(batch) {
        Ok(()) => true,
        Err(TrySendError::Disconnected(_)) => false,
        Err(TrySendError::Full(batch)) => {
            extents.receive_all();
            batches.send(batch).is_ok()
        }
    }
}

/// Reads extents until the batch is full or the survey has ended.
fn fill(
    batch: &mut Vec<Extent<Status>>,
    extents: &mut impl ExtentSource<Status = Status, Error = SurveyorError>,
) -> Result<(), SurveyorError> {
    while batch.len() < BATCH
        && let Some(extent) = extents.pull()?
    {
        batch.push(extent);
    }
    Ok(())
}
