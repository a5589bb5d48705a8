//! What the library makes of a server, put in one of the table's words by nothing but what it did.

use core::time::Duration;
use std::sync::atomic::{AtomicBool, Ordering};

use nbd_client::stats::{Tolerated, ToleratedCounts};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::{Client, Options, Surveyor};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Context, Contexts};

use testkit::behaviour::Word;

/// Where the fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Handshake,
    Replies,
}

pub(crate) struct Observer<'a> {
    pub(crate) uri: String,
    pub(crate) honest: &'a AtomicBool,
    pub(crate) phase: Phase,
    pub(crate) bitmaps: &'a [&'static str],
    pub(crate) length: Option<u64>,
    pub(crate) timeout: Duration,
    pub(crate) strict: bool,
}

impl Observer<'_> {
    /// The word. Whatever was forgiven must have been counted under `row`.
    #[track_caller]
    pub(crate) fn word(&self, row: Option<u8>) -> Word {
        self.honest.store(false, Ordering::SeqCst);
        let options =
            Options::new().strict(self.strict).connect_timeout(self.timeout).request_timeout(self.timeout);
        match self.phase {
            Phase::Handshake => self.handshake(&options, row),
            Phase::Replies => self.replies(&options, row),
        }
    }

    /// A handshake without which no context can be had is a failed request; without which nothing
    /// can, is fatal.
    #[track_caller]
    fn handshake(&self, options: &Options, row: Option<u8>) -> Word {
        let options = options.clone().want_context("base:allocation");
        let Ok(client) = Client::connect(&self.uri.parse().unwrap(), &options) else { return Word::Fatal };
        if !client.export().missing.is_empty() {
            return Word::RequestError;
        }
        judge(row, by_row(&client.stats().forgiven))
    }

    /// After a failed request the same connection must serve the next one; after a fatal fault it
    /// must not.
    #[track_caller]
    fn replies(&self, options: &Options, row: Option<u8>) -> Word {
        let mut contexts = Contexts::new().require(Context::Allocation).unwrap();
        for &name in self.bitmaps {
            contexts = contexts.require(Context::bitmap(name)).unwrap();
        }
        let uri = self.uri.parse().unwrap();
        let mut surveyor = Surveyor::connect(&uri, options, &contexts, Order::Together).unwrap();
        if let Ok(mut counts) = self.survey(&mut surveyor) {
            counts.extend(surveyor.connection_stats().flat_map(|stats| by_row(&stats.forgiven)));
            return judge(row, counts);
        }
        self.honest.store(true, Ordering::SeqCst);
        if self.survey(&mut surveyor).is_ok() { Word::RequestError } else { Word::Fatal }
    }

    /// Surveys the whole range, and returns the counts of forgiven faults.
    fn survey(&self, surveyor: &mut Surveyor) -> Result<Vec<(u8, u64)>, SurveyorError> {
        let range = 0..self.length.unwrap_or(surveyor.export().size());
        let options = surveyor.survey_options()?.range(range)?.allow_writable();
        let mut extents = surveyor.survey(options)?;
        while extents.next_extent()?.is_some() {}
        Ok(extents.stats().forgiven.by_row().collect())
    }
}

fn by_row(counts: &ToleratedCounts) -> Vec<(u8, u64)> {
    Tolerated::ALL.iter().map(|&kind| (kind.row(), counts.of(kind))).collect()
}

#[track_caller]
fn judge(row: Option<u8>, counts: Vec<(u8, u64)>) -> Word {
    let counted: Vec<u8> = counts.into_iter().filter(|(_, count)| *count > 0).map(|(row, _)| row).collect();
    assert!(counted.iter().all(|counted| row.is_none_or(|row| *counted == row)), "{row:?}: {counted:?}");
    match counted[..] {
        [] => Word::Accept,
        [21 | 23] => Word::SafeStatus,
        _ => Word::Clip,
    }
}
