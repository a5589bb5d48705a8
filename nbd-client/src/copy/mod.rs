//! From one export to another: all of a disk, or its changes.
//!
//! ```text
//! survey -> actions -> plan -> pieces -> lane: read -> write -> (read back)
//!                                     -> lane: zero -> (read back)          -> flush
//! ```
//!
//! The survey runs in the caller's thread and on a connection of its own, while lanes move what it
//! has found. A lane is a connection to either side, driven by one thread. Dirty zeroes are written
//! as zeroes, never by TRIM, and not where the target's block status says that they are there.
//!
//! The result depends on the source alone, so a copy that ended early is run again.
//!
//! ```no_run
//! use nbd_client::copy::{Copy, CopyOptions};
//! use nbd_client::survey::Order;
//! use nbd_client::{Options, Surveyor};
//! use nbd_extents::action::{Baseline, Incremental};
//! use nbd_extents::{Context, Contexts};
//!
//! let (source, target) = ("nbd://vm/disk".parse()?, "nbd://replica/disk".parse()?);
//! let (options, four) = (Options::new(), 4);
//! let wanted = Contexts::new().require(Context::Allocation)?.require(Context::bitmap("b0"))?;
//! let surveyor = Surveyor::connect(&source, &options, &wanted, Order::Together)?;
//! // the size of the disk at the previous copy
//! let baseline = Baseline::new(10 << 30, wanted.all_bitmaps());
//! let policy = Incremental::new(baseline, surveyor.export().size())?;
//!
//! let copy = Copy::connect(surveyor, (&source, &options), (&target, &options), four)?;
//! let survey = copy.surveyor().survey_options()?;
//! let (done, _) = copy.run(policy, survey, &CopyOptions::new().verify(true))?;
//! println!("{} bytes copied, {} made zero", done.copied, done.zeroed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod job;
mod lane;
mod options;
mod outlook;
mod progress;
mod queue;
mod target_status;

pub use error::CopyError;
pub use options::CopyOptions;
pub use progress::{CopyMonitor, CopyProgress};

use nbd_extents::action::{Policy, StatusStream};
use nbd_extents::map::{Cap, CapError, ExtentMap};
use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions};
use nbd_extents::stream::from_iter;
use nbd_extents::{MAX_END, SurveyOptions, SurveyStats};

use job::{Job, watch};
use queue::Queue;

use crate::client::Client;
use crate::export::Export;
use crate::options::Options;
use crate::pool::{check_same, more_connections};
use crate::survey::Surveyor;
use crate::uri::Uri;

/// Memory for the map of a disk whose server takes one connection: it is surveyed before its data
/// move.
const MAP_BYTES: usize = 24 << 20;

/// A copy between two exports, connected and not begun.
#[derive(Debug)]
pub struct Copy {
    surveyor: Surveyor,
    source: Export,
    target: Export,
    /// None where the source takes no connection beside the surveyor's.
    sources: Vec<Client>,
    targets: Vec<Client>,
    monitor: CopyMonitor,
}

impl Copy {
    /// Connects to the target, and to the source beside its surveyor: `connections` times where
    /// both say that several are safe.
    ///
    /// # Errors
    ///
    /// [`CopyError::ReadOnly`] and [`CopyError::TooSmall`] for a target that cannot take the disk,
    /// [`CopyError::Tail`] for a source whose end cannot be read, the errors of a connection.
    pub fn connect(
        surveyor: Surveyor,
        source: (&Uri, &Options),
        target: (&Uri, &Options),
        connections: usize,
    ) -> Result<Self, CopyError> {
        let export = surveyor.export().clone();
        let asking = target.1.clone().without_contexts().want_context("base:allocation");
        let first = Client::connect(target.0, &asking).map_err(CopyError::Target)?;
        check_fit(&export, first.export())?;
        let target_export = first.export().clone();
        let lanes = if target_export.flags.can_multi_conn() { connections.max(1) } else { 1 };
        // these read beside the connection of the survey
        let reading = source.1.clone().without_contexts();
        let sources = more_connections(&export, lanes, source.0, &reading).map_err(CopyError::Source)?;
        check_same(&export, sources.iter().map(Client::export)).map_err(CopyError::Source)?;
        let others = sources.len().saturating_sub(1);
        let mut targets = vec![first];
        targets
            .extend(more_connections(&target_export, others, target.0, &asking).map_err(CopyError::Target)?);
        check_same(&target_export, targets.iter().map(Client::export)).map_err(CopyError::Target)?;
        Ok(Self {
            monitor: CopyMonitor::new(export.size()),
            surveyor,
            source: export,
            target: target_export,
            sources,
            targets,
        })
    }

    /// Shows how far the copy is, from any thread.
    #[must_use]
    pub fn monitor(&self) -> CopyMonitor {
        self.monitor.clone()
    }

    /// The surveyor of the source, for the options of its survey.
    #[must_use]
    pub const fn surveyor(&self) -> &Surveyor {
        &self.surveyor
    }

    /// The export of the target, as its server described it in the handshake.
    #[must_use]
    pub const fn target(&self) -> &Export {
        &self.target
    }

    /// How many lanes move data, each a connection to either side.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.sources.len().clamp(1, self.targets.len().max(1))
    }

    /// Surveys the source, moves what `policy` decides to copy and to zero, and makes it durable.
    ///
    /// # Errors
    ///
    /// The first failure of either side. The target may then hold a part of the copy
    /// ([`CopyProgress::has_written`]), and the copy can be run again.
    ///
    /// # Panics
    ///
    /// Where `policy` panics, once the lanes have ended.
    pub fn run<P: Policy>(
        self,
        policy: P,
        survey: SurveyOptions,
        options: &CopyOptions,
    ) -> Result<(CopyProgress, SurveyStats), CopyError> {
        let plan_options = self.plan_options(options)?;
        let queue = Queue::default();
        let Self { mut surveyor, sources, mut targets, target, monitor, .. } = self;
        // the first failure ends the survey as well, which may wait for long
        surveyor.both().for_each(|connection| connection.io.mover.0.attach(&queue.over));
        if sources.is_empty() {
            let map = || whole_map(&mut surveyor, policy, survey, options);
            let (map, stats) = watch(&mut targets, &queue, map)?;
            let queue = Queue::default();
            let sources = vec![surveyor.into_client()];
            let job = Job { target: &target, monitor: &monitor, queue: &queue, options };
            let plan = Plan::new(from_iter(map.extents()), plan_options);
            return Ok((job.run(plan, sources, targets)?, stats));
        }
        let mut extents = surveyor.survey(survey)?;
        let plan = Plan::new((&mut extents).decide(policy), plan_options);
        let job = Job { target: &target, monitor: &monitor, queue: &queue, options };
        let done = job.run(plan, sources, targets)?;
        let stats = extents.stats();
        surveyor.disconnect().ok(); // all that was asked has been answered
        Ok((done, stats))
    }

    /// Whole blocks of the source and, where clean bytes may be read, of the target as well.
    fn plan_options(&self, options: &CopyOptions) -> Result<PlanOptions, CopyError> {
        let minimum = BlockSize::new(self.source.minimum_block())?;
        let block = match options.access {
            Access::All => BlockSize::new(self.source.minimum_block().max(self.target.minimum_block()))?,
            Access::DirtyOnly => minimum,
        };
        Ok(PlanOptions::new(self.source.size(), block)?
            .min_block(minimum)?
            .max_copy(MAX_END)?
            .max_zero(MAX_END)?
            .access(options.access))
    }
}

fn check_fit(source: &Export, target: &Export) -> Result<(), CopyError> {
    if target.flags.is_read_only() {
        return Err(CopyError::ReadOnly);
    }
    let (size, target) = (source.size(), target.size());
    if target < size {
        return Err(CopyError::TooSmall { source_size: size, target_size: target });
    }
    let minimum = source.minimum_block();
    if !size.is_multiple_of(minimum) {
        return Err(CopyError::Tail { size, minimum });
    }
    Ok(())
}

/// The map of all actions, of a source that takes one connection.
fn whole_map<P: Policy>(
    surveyor: &mut Surveyor,
    policy: P,
    survey: SurveyOptions,
    options: &CopyOptions,
) -> Result<(ExtentMap<nbd_extents::Action>, SurveyStats), CopyError> {
    let size = surveyor.export().size();
    let mut extents = surveyor.survey(survey)?.ask_ahead();
    let cap = Cap::bytes(MAP_BYTES);
    let cap = if options.access == Access::DirtyOnly { cap.keeping_skipped() } else { cap };
    let capped =
        ExtentMap::capped((&mut extents).decide(policy), 0..size, cap).map_err(|error| match error {
            CapError::Stream(error) => error.into(),
            CapError::Full { offset, needed, most, cap } => {
                CopyError::Map(CapError::Full { offset, needed, most, cap })
            }
            _ => CopyError::Map(CapError::Stream(core::fmt::Error)),
        })?;
    Ok((capped.map, extents.stats()))
}
