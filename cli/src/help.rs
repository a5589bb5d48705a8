//! The end of every help text: an example, and the exit codes that scripts rely on.

/// An example, followed by the exit codes.
///
/// The lines are written as they are shown, in at most 80 columns.
macro_rules! example {
    ($example:literal) => {
        concat!(
            "Example:\n",
            $example,
            "\n\n\
Exit codes:
  0  success
  1  any other failure, such as a full output disk
  2  wrong usage
  3  not there or does not fit: the export, a bitmap, the size, the order of
     the chain, the parent or the disk; or the target is too small or read-only
  4  connection lost, refused or out of time, or TLS not agreed
  5  the server or the file broke the rules (also: checksum, truncation)"
        )
    };
}
