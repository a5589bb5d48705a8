//! Reading backups whose names the command line gives.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nbd_extents_backup::BackupFiles;

use crate::failure::Failure;

/// Whether this is the name of standard input or output.
pub(crate) fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Reads the streams in files, or on standard input for `-`, to their ends.
///
/// `command` is the one whose usage is wrong if two files are `-`: the first takes all of it.
pub(crate) fn read(command: &str, files: &[PathBuf]) -> Result<BackupFiles, Failure> {
    if files.iter().filter(|file| is_standard(file)).count() > 1 {
        return Err(crate::wrong_usage(command, "'-' is one stream, and cannot be named twice"));
    }
    Ok(BackupFiles::read_with(files.to_vec(), |file| -> io::Result<Box<dyn Read>> {
        Ok(if is_standard(file) { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) })
    })?)
}
