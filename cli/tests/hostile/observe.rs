//! Puts a survey of a server into one of the table's words, by its results alone.

use core::time::Duration;
use std::sync::atomic::{AtomicBool, Ordering};

use nbd_client::Options;
use nbd_client::stats::{Tolerated, ToleratedCounts};
use nbd_client::survey::{Order, SurveyorError};
use nbd_extents::{Context, Contexts};

use testkit::behaviour::RowVerdict;
use testkit::clients::{AnySurveyor, Kind, SurveyKind};

/// The phase of the fault.
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
    /// The word, which is the same for each kind of client. Whatever was forgiven must have been
    /// counted under `row`.
    #[track_caller]
    pub(crate) fn word(&self, row: Option<u8>) -> RowVerdict {
        let options =
            Options::new().strict(self.strict).connect_timeout(self.timeout).request_timeout(self.timeout);
        let words = SurveyKind::ALL.map(|kind| {
            self.honest.store(false, Ordering::SeqCst);
            match self.phase {
                Phase::Handshake => self.handshake(kind, &options, row),
                Phase::Replies => self.replies(kind, &options, row),
            }
        });
        assert!(words.iter().all(|&word| word == words[0]), "not the same of all kinds: {words:?}");
        words[0]
    }

    /// A handshake without which no context can be had is a failed request; without which nothing
    /// can, is fatal.
    #[track_caller]
    fn handshake(&self, kind: SurveyKind, options: &Options, row: Option<u8>) -> RowVerdict {
        let options = options.clone().want_context("base:allocation");
        let kind = if kind.is_async() { Kind::AsyncDriver } else { Kind::Blocking };
        let Ok(client) = kind.connect(&self.uri.parse().unwrap(), &options) else { return RowVerdict::Fatal };
        if !client.export().missing.is_empty() {
            return RowVerdict::RequestError;
        }
        judge(row, by_row(&client.stats().forgiven))
    }

    /// After a failed request the same connection must serve the next one; after a fatal fault it
    /// must not.
    #[track_caller]
    fn replies(&self, kind: SurveyKind, options: &Options, row: Option<u8>) -> RowVerdict {
        let mut contexts = Contexts::new().require(Context::Allocation).unwrap();
        for &name in self.bitmaps {
            contexts = contexts.require(Context::bitmap(name)).unwrap();
        }
        let uri = self.uri.parse().unwrap();
        let mut surveyor = kind.connect(&uri, options, &contexts, Order::Together).unwrap();
        if let Ok(mut counts) = self.survey(&mut surveyor) {
            counts.extend(surveyor.connection_stats().iter().flat_map(|stats| by_row(&stats.forgiven)));
            return judge(row, counts);
        }
        self.honest.store(true, Ordering::SeqCst);
        if self.survey(&mut surveyor).is_ok() { RowVerdict::RequestError } else { RowVerdict::Fatal }
    }

    /// Surveys the whole range, and returns the counts of forgiven faults.
    fn survey(&self, surveyor: &mut AnySurveyor) -> Result<Vec<(u8, u64)>, SurveyorError> {
        let range = 0..self.length.unwrap_or(surveyor.export().size());
        let options = surveyor.survey_options()?.range(range)?.allow_writable();
        let run = surveyor.run(options, usize::MAX)?;
        run.error.map_or(Ok(run.stats.forgiven.by_row().collect()), Err)
    }
}

fn by_row(counts: &ToleratedCounts) -> Vec<(u8, u64)> {
    Tolerated::ALL.iter().map(|&kind| (kind.row(), counts.of(kind))).collect()
}

#[track_caller]
fn judge(row: Option<u8>, counts: Vec<(u8, u64)>) -> RowVerdict {
    let counted: Vec<u8> = counts.into_iter().filter(|(_, count)| *count > 0).map(|(row, _)| row).collect();
    assert!(counted.iter().all(|counted| row.is_none_or(|row| *counted == row)), "{row:?}: {counted:?}");
    match counted[..] {
        [] => RowVerdict::Accept,
        [21 | 23] => RowVerdict::SafeStatus,
        _ => RowVerdict::Clip,
    }
}
