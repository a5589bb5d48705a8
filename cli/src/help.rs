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
  0  done
  1  anything else, as an output that cannot be written or a full disk
  2  wrong usage
  3  not there or does not fit: export, bitmap, another size, wrong order,
     parent or disk, a target too small or read-only
  4  connection lost, refused or out of time; TLS not agreed
  5  the server or the file broke the rules, as by a checksum or a cut"
        )
    };
}
