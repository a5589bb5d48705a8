//! `backup`: the engine of nbd-extents-backup, with its arguments, progress and report.

mod args;
pub(crate) mod report;
pub(crate) mod unfinished;

use std::path::Path;

use nbd_extents_backup::{Backup, BackupError, OutputFile, Parent, Replace, SurveyedBackup};

use crate::connection;
use crate::failure::Failure;
use crate::output::remark;
use crate::progress::Watch;
use crate::streams;
pub(crate) use args::BackupArgs;
use report::Report;
use unfinished::Unfinished;

/// An incremental that nothing ties to the backup it belongs to.
const NAMES_NO_PARENT: &str = "the incremental does not say which backup it stands on, so that no \
    restore can check it: --after FILE says so, or --parent NAME --previous-size N";

/// Does what the command line asks.
pub(crate) fn run(args: &BackupArgs) -> Result<(), Failure> {
    let backup = backup(args)?;
    backup.check()?;
    let output = create_output(&backup, &args.file)?;
    let unfinished = output.unfinished().map(Unfinished::guard).transpose();
    let unfinished = unfinished.map_err(|error| Failure::file(&args.file, &error))?;
    let report = Report::create(args.report.as_deref(), args.force)?;
    let disk = survey(&backup, args)?;

    let monitor = disk.monitor();
    let watch = Watch::begin(&args.progress, "copying", monitor.clone())?;
    let copied = disk.write(output);
    drop(watch);
    let (output, done) = copied?;
    output.commit_while(|| unfinished.map(Unfinished::release))?;
    report.write(&done)?;
    if !args.bitmap.is_empty() && args.after.is_none() && args.parent.is_none() {
        remark(NAMES_NO_PARENT);
    }
    args.progress.summary(&monitor.progress());
    Ok(())
}

fn backup(args: &BackupArgs) -> Result<Backup, Failure> {
    let backup = match parent(args)? {
        Some(parent) => Backup::incremental(&args.bitmap, parent),
        None => Backup::full(),
    };
    Ok(backup
        .checkpoint(args.checkpoint.clone())
        .replace(if args.force { Replace::Any } else { Replace::Backup })
        .bitmap_first(args.bitmap_first)
        .detect_zeroes(args.detect_zeroes)
        .ignore_zero_status(args.ignore_zero_status)
        .allow_writable(args.allow_writable)
        .safe_on_failure(args.survey.safe_on_failure)
        .assumed_block(args.survey.assume_block_size)
        .map_memory(usize::try_from(args.map_memory).unwrap_or(usize::MAX))
        .connections(args.connections.into())
        .rate(args.progress.limit_rate))
}

/// The parent of an incremental, as far as the command line states it.
fn parent(args: &BackupArgs) -> Result<Option<Parent>, Failure> {
    if args.bitmap.is_empty() {
        return Ok(None);
    }
    let parent = match &args.after {
        Some(file) => Parent::read(file)?,
        None if args.grown && args.previous_size.is_none() => {
            let wrong = "'--grown' needs the old size: '--after <FILE>' or '--previous-size <N>'";
            return Err(crate::wrong_usage("backup", wrong));
        }
        None => Parent::by_hand(args.parent.clone(), args.previous_size),
    };
    Ok(Some(if args.grown { parent.may_have_grown() } else { parent }))
}

fn create_output(backup: &Backup, file: &Path) -> Result<OutputFile, Failure> {
    let output = if streams::is_standard(file) { OutputFile::stdout() } else { backup.create_output(file) };
    Ok(output?)
}

fn survey(backup: &Backup, args: &BackupArgs) -> Result<SurveyedBackup, Failure> {
    let options = args.connection.options();
    let disk = backup.survey(&args.uri, &options).map_err(|error| match error {
        BackupError::Connect(error) => connection::failure(&args.uri, &options, error),
        error => Failure::from(error).hint_survey(!args.bitmap.is_empty(), args.bitmap_first),
    })?;
    args.survey.remark_on_assumed(disk.assumes_data(), disk.survey_stats());
    Ok(disk)
}

/// Refuses an export that may change while it is read, unless the user allows it.
pub(crate) fn check_writable(read_only: bool, allowed: bool) -> Result<(), Failure> {
    if read_only || allowed { Ok(()) } else { Err(BackupError::Writable.into()) }
}
