//! The command line of `backup`.

use std::path::PathBuf;

use nbd_client::Uri;

use crate::connection::ConnectionArgs;
use crate::progress::ProgressArgs;
use crate::survey::SurveyArgs;
use crate::values::{parse_size, parse_uri};

/// Writes a backup of an export to a file: all of it, or the changes
///
/// Without --bitmap it is a full backup, with --bitmap an incremental: the dirty ranges of the
/// bitmap. The file is a sparse stream, ovirt-imageio's format.
///
/// The cycle: with the guest stopped, add a bitmap b0 to the disk, then take the full backup. Next
/// time add b1, then take `backup --bitmap b0 --after FULL`. The time after that add b2, then take
/// `--bitmap b1 --after` of that incremental; b0 is no longer needed.
///
/// Each bitmap must have begun at the state that the backup named by --after holds, or earlier. A
/// bitmap that began later, or the bitmap of another disk, loses changes, and no program can tell:
/// NBD says neither when a bitmap began nor which disk an export is. The file keeps the names of its
/// bitmaps, which `verify` shows.
///
/// A disk image is served by `qemu-nbd -r -f qcow2 -k SOCKET IMAGE`, with -B NAME for a bitmap, and
/// -e 16 for several connections.
///
/// The backup is written beside FILE, as .FILE.RANDOM.partial, and renamed to FILE when it is
/// complete and on disk. If FILE is a backup or empty, it is replaced then: the new file has its
/// permissions, and belongs to the user who runs this. Any other file, such as a disk image, is
/// replaced only with --force. A symbolic link stays, and the file that it names is replaced. A pipe
/// or a device is written directly. A run that fails, or is ended by SIGINT, SIGTERM or SIGHUP, leaves
/// FILE as it was and removes the unfinished file; SIGKILL leaves both.
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -r -U - memory 64M --run 'nbd-extents backup \"$uri\" disk.full'"))]
pub(crate) struct BackupArgs {
    /// The export: nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH
    #[arg(value_parser = parse_uri, long_help = uri_help!("The export"))]
    pub(super) uri: Uri,
    /// The file of the backup; - is standard output
    pub(super) file: PathBuf,
    /// Replace FILE even if it is no backup, and the report's file if it is no report
    #[arg(long)]
    pub(super) force: bool,
    /// Only the dirty ranges of this bitmap (its own name, such as b0); may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) bitmap: Vec<String>,
    /// The name of this backup's checkpoint, which is stored with it
    #[arg(long, value_name = "NAME")]
    pub(super) checkpoint: Option<String>,
    /// The previous backup, which this one stands on
    ///
    /// Its checkpoint, disk size and checksum are stored as those of the parent, and the identity of
    /// its disk as this one's, so that no restore takes another file for it. Whether the bitmap
    /// began there, and whether this is its disk, cannot be checked. Only its two ends are read:
    /// `verify` checks all of it.
    #[arg(long, value_name = "FILE", requires = "bitmap", conflicts_with_all = ["parent", "previous_size"])]
    pub(super) after: Option<PathBuf>,
    /// The name of the previous backup's checkpoint
    #[arg(long, value_name = "NAME", requires = "bitmap", requires = "previous_size")]
    pub(super) parent: Option<String>,
    /// The size of the disk at the previous backup
    ///
    /// If the disk has another size now, the run ends with exit code 3: after a disk has grown,
    /// qemu calls the new part clean. A disk that has shrunk and grown back in between looks as if
    /// it had kept its size, and its wiped tail would be missing: take a full backup after a shrink.
    #[arg(long, value_name = "N", value_parser = parse_size, requires = "bitmap")]
    pub(super) previous_size: Option<u64>,
    /// A disk that has grown is no error: all beyond its old end is backed up
    #[arg(long, requires = "bitmap")]
    pub(super) grown: bool,
    /// Ask the bitmaps first, and read nothing outside of dirty ranges
    ///
    /// This needs a second connection where the server has no extended headers.
    #[arg(long, requires = "bitmap")]
    pub(super) bitmap_first: bool,
    /// Look for zeroes in the data read: for servers that never report zeroes
    #[arg(long)]
    pub(super) detect_zeroes: bool,
    /// Read what the server says is zero, as if it held data
    #[arg(long)]
    pub(super) ignore_zero_status: bool,
    /// Back up an export that is not read-only, though it may change meanwhile
    #[arg(long)]
    pub(super) allow_writable: bool,
    /// The most memory for the map of the disk; 512M holds some 57 million extents
    ///
    /// If the disk has more extents, the shortest ranges that could be skipped are copied too: a
    /// server cannot make a backup take more memory.
    #[arg(long, value_name = "N", value_parser = parse_size, default_value = "512M")]
    pub(super) map_memory: u64,
    /// Write a report to this file as JSON: bytes, extents and seconds
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// How many connections to read over, where the server allows several
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) connections: u8,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
    #[command(flatten)]
    pub(super) survey: SurveyArgs,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}
