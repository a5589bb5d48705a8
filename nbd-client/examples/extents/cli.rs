//! The command line: what may be asked, and which combinations make no sense.

use core::time::Duration;
use std::ffi::OsString;
use std::time::Instant;

use clap::Parser;
use nbd_client::Uri;

use crate::common::args::{Previous, first_line, parse_seconds, parse_size};
use crate::common::failure::Failure;

/// Shows which ranges of an NBD export are dirty or clean, zero or data.
///
/// Without any argument: the map of a disk whose replies ship with the crate.
#[derive(Debug, Parser)]
#[command(name = "extents", version, verbatim_doc_comment)]
struct Args {
    /// The export: nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH
    uri: Option<String>,
    /// Show what is dirty in this bitmap (its own name, `b0` say); may be repeated
    #[arg(long, value_name = "NAME")]
    bitmap: Vec<String>,
    /// Start here: bytes, or with K, M, G, T (binary)
    #[arg(long, value_name = "N", value_parser = parse_size)]
    offset: Option<u64>,
    /// Go so far: bytes, or with K, M, G, T (binary)
    #[arg(long, value_name = "N", value_parser = parse_size)]
    length: Option<u64>,
    /// Print one JSON array (with --totals one object)
    #[arg(long)]
    json: bool,
    /// Show what a backup does with each range: copy, zero or skip. With --bitmap that is an incremental, and without --previous-size the disk is
    /// taken to have had its present size at the backup before
    #[arg(long, conflicts_with = "totals")]
    actions: bool,
    /// Show only how many bytes a backup copies, zeroes and skips; as --actions
    #[arg(long)]
    totals: bool,
    /// The size of the disk at the backup before, for --actions and --totals with --bitmap: if it is another now, end with exit code 3 (after a
    /// disk has grown, qemu calls the new part clean)
    #[arg(long, value_name = "N", value_parser = parse_size)]
    previous_size: Option<u64>,
    /// A disk that has grown since --previous-size is no error: all beyond its old end counts as dirty
    #[arg(long, requires = "previous_size")]
    grown: bool,
    /// Show what the server says of the export instead
    #[arg(long)]
    info: bool,
    /// Ask the bitmaps first, and the rest only inside dirty ranges (needs a second connection where the server has no extended headers)
    #[arg(long)]
    bitmap_first: bool,
    /// Do without extended headers
    #[arg(long)]
    compact: bool,
    /// Reject whatever violates a MUST of the protocol
    #[arg(long)]
    strict: bool,
    /// End after so many seconds, whatever has been reached
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// The map of the disk whose replies ship with the crate
    #[arg(long)]
    demo: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    Demo(Content, Shape),
    Live(Box<Job>),
}

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Table,
    Json,
}

/// What to show of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Map,
    Actions,
    Totals,
}

/// A survey of a live export.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) uri: Uri,
    pub(crate) bitmaps: Vec<String>,
    pub(crate) offset: Option<u64>,
    pub(crate) length: Option<u64>,
    pub(crate) content: Content,
    pub(crate) previous: Previous,
    pub(crate) shape: Shape,
    pub(crate) info: bool,
    pub(crate) bitmap_first: bool,
    pub(crate) compact: bool,
    pub(crate) strict: bool,
    /// The end of the whole run.
    pub(crate) deadline: Option<Instant>,
}

/// Reads the command line. `None` when it asked for help, which has been printed.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Command>, Failure> {
    let args: Vec<OsString> = args.into_iter().collect();
    let bare = args.len() <= 1;
    let parsed = match Args::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(error) if !error.use_stderr() => {
            error.print()?;
            return Ok(None);
        }
        Err(error) => return Err(Failure::usage(first_line(&error.to_string()))),
    };
    let shape = if parsed.json { Shape::Json } else { Shape::Table };
    if bare {
        return Ok(Some(Command::Demo(Content::Map, shape)));
    }
    if parsed.demo {
        return parsed.check_demo().map(|()| Some(Command::Demo(parsed.content(), shape)));
    }
    parsed.into_job(shape).map(|job| Some(Command::Live(Box::new(job))))
}

impl Args {
    fn check_demo(&self) -> Result<(), Failure> {
        let other = self.uri.is_some()
            || !self.bitmap.is_empty()
            || self.offset.is_some()
            || self.length.is_some()
            || self.timeout.is_some()
            || self.previous_size.is_some()
            || self.info
            || self.bitmap_first
            || self.compact
            || self.strict;
        if other {
            return Err(Failure::usage("--demo goes with --json, --actions and --totals only"));
        }
        Ok(())
    }

    const fn content(&self) -> Content {
        match (self.actions, self.totals) {
            (true, _) => Content::Actions,
            (_, true) => Content::Totals,
            _ => Content::Map,
        }
    }

    const fn previous(&self) -> Previous {
        match (self.previous_size, self.grown) {
            (None, _) => Previous::Unsaid,
            (Some(size), false) => Previous::Same(size),
            (Some(size), true) => Previous::Grown(size),
        }
    }

    fn into_job(self, shape: Shape) -> Result<Job, Failure> {
        let Some(uri) = &self.uri else {
            return Err(Failure::usage("no URI given (the map that ships with the crate is --demo)"));
        };
        let uri = uri.parse().map_err(|error| Failure::usage(format!("{}: {error}", uri.escape_debug())))?;
        if self.length == Some(0) {
            return Err(Failure::usage("a length of 0 leaves nothing to show"));
        }
        if self.info && (self.offset.is_some() || self.length.is_some() || self.content() != Content::Map) {
            return Err(Failure::usage(
                "--info is about the export itself: no range, no --actions, no --totals",
            ));
        }
        if self.bitmap_first && self.bitmap.is_empty() {
            return Err(Failure::usage("--bitmap-first needs a --bitmap"));
        }
        if self.previous_size.is_some() && (self.bitmap.is_empty() || self.content() == Content::Map) {
            return Err(Failure::usage(
                "--previous-size is for incrementals: --actions or --totals, with --bitmap",
            ));
        }
        let deadline = match self.timeout {
            Some(timeout) => Instant::now().checked_add(timeout),
            None => None,
        };
        Ok(Job {
            content: self.content(),
            previous: self.previous(),
            uri,
            bitmaps: self.bitmap,
            offset: self.offset,
            length: self.length,
            shape,
            info: self.info,
            bitmap_first: self.bitmap_first,
            compact: self.compact,
            strict: self.strict,
            deadline,
        })
    }
}
