//! The end of every help text: an example, and the exit codes that scripts rely on. And what every
//! command says of a URI.

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
  1  any other failure, such as a full output disk, or a writable export that
     was not allowed
  2  wrong usage
  3  not there or does not fit: the export, a file to read, a bitmap, the size,
     the order of the chain, the parent or the disk; or the target is too small
     or read-only
  4  connection lost, refused or out of time, or TLS not agreed
  5  the server or the file broke the rules (also: checksum, truncation)"
        )
    };
}

/// The long help of a URI: its forms, and TLS.
macro_rules! uri_help {
    ($what:literal) => {
        concat!(
            $what,
            ": nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH\n\n\
With TLS it begins with nbds:// or nbds+unix://, and takes parameters after a ?, joined by &, in quotes \
for the shell: tls-certificates=DIR, a folder with ca-cert.pem, and with client-cert.pem and \
client-key.pem if the server asks for them; x-tls-fingerprint=HEX, the SHA-256 of the server's \
certificate in place of an authority; tls-hostname=NAME, the name in its certificate if that is not HOST."
        )
    };
}
