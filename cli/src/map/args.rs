//! The command line of `map`, and the combinations of options that make no sense.

use core::num::NonZeroU64;

use clap::{ArgGroup, ValueEnum};
use nbd_client::Uri;
use nbd_extents::Bitmaps;
use nbd_extents::action::{Baseline, BaselineError, Incremental};

use crate::connection::ConnectionArgs;
use crate::failure::Failure;
use crate::survey::SurveyArgs;
use crate::values::{parse_length, parse_size, parse_uri};

/// Shows which ranges of an export are dirty or clean, zero or data
///
/// Sizes are bytes, or with K, M, G, T (binary).
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("decision").args(["actions", "totals"]))]
#[command(after_help = example!("  nbd-extents map --demo"))]
pub(crate) struct MapArgs {
    /// The export: nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH
    #[arg(value_parser = parse_uri, long_help = uri_help!("The export"), required_unless_present = "demo")]
    pub(super) uri: Option<Uri>,
    /// The map of a disk whose replies ship with the program; no server is asked
    #[arg(long, conflicts_with_all = [
        "uri", "bitmap", "offset", "length", "previous_size", "bitmap_first", "compact", "strict", "timeout",
        "request_timeout", "safe_on_failure", "assume_block_size",
    ])]
    pub(super) demo: bool,
    /// Show the dirty ranges of this bitmap (its own name, such as b0); may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) bitmap: Vec<String>,
    /// Start at this byte
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub(super) offset: Option<u64>,
    /// Show this length; to the end of the export unless set
    #[arg(long, value_name = "N", value_parser = parse_length)]
    pub(super) length: Option<NonZeroU64>,
    /// The form of the output
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = MapFormat::Table)]
    format: MapFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Show what a backup does with each range: copy, zero or skip
    ///
    /// With --bitmap that is an incremental. Without --previous-size the disk is taken to have had
    /// its present size at the previous backup.
    #[arg(long)]
    actions: bool,
    /// Show only how many bytes a backup copies, zeroes and skips
    #[arg(long)]
    totals: bool,
    /// The size of the disk at the previous backup, for --actions and --totals
    ///
    /// If the disk has another size now, the run ends with exit code 3: after a disk has grown,
    /// qemu calls the new part clean.
    #[arg(long, value_name = "N", value_parser = parse_size, requires = "bitmap", requires = "decision")]
    previous_size: Option<u64>,
    /// A disk that has grown is no error: all beyond its old end is dirty
    #[arg(long, requires = "previous_size")]
    grown: bool,
    /// Ask the bitmaps first, and the rest only inside dirty ranges
    ///
    /// This needs a second connection where the server has no extended headers.
    #[arg(long, requires = "bitmap")]
    pub(super) bitmap_first: bool,
    #[command(flatten)]
    pub(super) survey: SurveyArgs,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}

/// The form of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MapFormat {
    /// Lines and a picture, for people
    Table,
    /// One JSON array as of ovirt-imageio; with --totals one object
    Json,
    /// The output of nbdinfo --map --json, of one context; also with --totals
    Nbdinfo,
}

/// The parts of a map that the command can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapContent {
    Map,
    Actions,
    Totals,
}

/// The size of the disk at the previous backup, which an incremental stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Previous {
    /// Nothing was said: the disk is taken to have had its present size.
    Unsaid,
    /// The disk had this size, and must have it now.
    Same(u64),
    /// The disk had this size, and may have grown.
    Grown(u64),
}

impl Previous {
    pub(crate) const fn new(size: Option<u64>, grown: bool) -> Self {
        match (size, grown) {
            (None, _) => Self::Unsaid,
            (Some(size), false) => Self::Same(size),
            (Some(size), true) => Self::Grown(size),
        }
    }

    /// The policy of an incremental of a disk that has `size` bytes now.
    pub(crate) const fn incremental(self, bitmaps: Bitmaps, size: u64) -> Result<Incremental, BaselineError> {
        match self {
            Self::Unsaid => Incremental::new(Baseline::new(size, bitmaps), size),
            Self::Same(then) => Incremental::new(Baseline::new(then, bitmaps), size),
            Self::Grown(then) => Incremental::new_or_grown(Baseline::new(then, bitmaps), size),
        }
    }
}

impl MapArgs {
    pub(super) const fn format(&self) -> MapFormat {
        if self.json { MapFormat::Json } else { self.format }
    }

    pub(super) const fn content(&self) -> MapContent {
        match (self.actions, self.totals) {
            (true, _) => MapContent::Actions,
            (_, true) => MapContent::Totals,
            _ => MapContent::Map,
        }
    }

    pub(super) const fn previous(&self) -> Previous {
        Previous::new(self.previous_size, self.grown)
    }

    /// Refuses combinations that clap's rules cannot.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.format() != MapFormat::Nbdinfo {
            return Ok(());
        }
        let wrong = if self.bitmap.len() > 1 {
            "'--format nbdinfo' shows one context, so it takes one '--bitmap' at most"
        } else if self.actions || self.previous_size.is_some() {
            "'--format nbdinfo' shows what the server says, not what a backup does: no \
                '--actions', no '--previous-size'"
        } else if self.bitmap_first {
            "'--format nbdinfo' shows one context: '--bitmap-first' has nothing to order"
        } else {
            return Ok(());
        };
        Err(crate::wrong_usage("map", wrong))
    }
}
