//! The options of every command that connects, and the message when no connection comes about.

use core::time::Duration;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::time::Instant;

use nbd_client::export::ListedExport;
use nbd_client::frame::option_type::STARTTLS;
use nbd_client::frame::{Headers, OptionName};
use nbd_client::handshake::{HandshakeError, Refusal};
use nbd_client::survey::SurveyorError;
use nbd_client::text::ServerText;
use nbd_client::uri::Address;
use nbd_client::{Client, Error, Options, Uri};

use crate::failure::{self, Failure};
use crate::values::parse_seconds;

/// The most exports that a message names.
const NAMED: usize = 8;
/// The time limit of a step that helps and is not needed: one more connection, the list of the
/// exports.
const HURRY: Duration = Duration::from_secs(5);

/// The time after its deadline from which a run that has not ended is taken for blocked.
const BLOCKED: Duration = Duration::from_millis(500);

fn out_of_time() -> Failure {
    Failure::connection(
        "the time for the whole run is over (it was busy, or its input or output was blocked)",
    )
}

/// The options of a connection.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Do without extended headers
    #[arg(long)]
    pub(crate) compact: bool,
    /// Reject whatever violates a MUST of the protocol
    #[arg(long)]
    pub(crate) strict: bool,
    /// End the whole run after this time, however far it is
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<Duration>,
    /// End when the requests in flight make no progress for this time
    ///
    /// Without it that is 300 seconds, and a flush may take as long as it needs.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) request_timeout: Option<Duration>,
}

impl ConnectionArgs {
    /// The options for the client. The time for the whole run starts now, and ends it wherever it is
    /// blocked then.
    pub(crate) fn options(&self) -> Options {
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(end) = deadline {
            // The client tells its own part of the deadline, and more of it. This is for a run that
            // is blocked in its input or output. A system without threads goes on without it.
            let alarm = std::thread::Builder::new().name("alarm".to_owned());
            let ring = move || {
                std::thread::sleep((end + BLOCKED).saturating_duration_since(Instant::now()));
                failure::end(&out_of_time())
            };
            drop(alarm.spawn(ring));
        }
        let headers = if self.compact { Headers::Structured } else { Headers::Extended };
        let options = Options::new().headers(headers).strict(self.strict).deadline(deadline);
        match self.request_timeout {
            Some(timeout) => options.request_timeout(timeout).flush_timeout(Some(timeout)),
            None => options,
        }
    }
}

/// The failure of a connection, with what may help: the exports that there are, TLS, the bitmaps.
pub(crate) fn failure(uri: &Uri, options: &Options, error: impl Into<SurveyorError>) -> Failure {
    let error = error.into();
    if let SurveyorError::Client(Error::Connect { source, .. }) = &error
        && source.kind() == ErrorKind::NotFound
        && matches!(uri.address(), Address::Unix(_))
    {
        return Failure::from(error)
            .hint(" (no socket has this name: is the server running, and is this its path?)");
    }
    let (SurveyorError::Client(Error::Handshake(reason))
    | SurveyorError::SecondConnection(Error::Handshake(reason))) = &error
    else {
        return error.into();
    };
    match reason {
        // from a server that has it already it is a riddle, and shown as such
        HandshakeError::Refused { reason: Refusal::TLS_REQUIRED, .. } if uri.tls().is_none() => {
            Failure::connection(
                "the server demands TLS: write nbds:// or nbds+unix:// for nbd:// or nbd+unix://, and \
                ?tls-certificates=DIR, a folder with ca-cert.pem, or ?x-tls-fingerprint=HEX",
            )
        }
        HandshakeError::Refused { option: OptionName(STARTTLS), .. } => Failure::from(error).hint(
            ": it has no TLS, or does not want to use it. Start it with TLS; a URI without the s connects \
             without it, which anybody on the network can read and change",
        ),
        HandshakeError::ExportUnknown { .. } => {
            let exports = Client::list_exports(uri, &options.clone().connect_timeout(HURRY));
            Failure::from(error).hint(&exports.map_or_else(|_| String::new(), |exports| name(&exports)))
        }
        HandshakeError::ContextMissing { name, .. }
            if name.to_string().starts_with("qemu:dirty-bitmap:qemu:dirty-bitmap:") =>
        {
            Failure::from(error)
                .hint(" (--bitmap takes the bitmap's own name, such as b0, without qemu:dirty-bitmap:)")
        }
        HandshakeError::ContextMissing { name, offered: Some(offered) }
            if is_bitmap(name) && !offered.iter().any(is_bitmap) =>
        {
            Failure::from(error).hint(
                " (no dirty bitmap at all, as for a full backup: without --bitmap the whole disk \
                    is mapped or backed up; qemu-nbd shows a bitmap with -B NAME)",
            )
        }
        _ => error.into(),
    }
}

fn is_bitmap(context: &ServerText) -> bool {
    context.to_string().starts_with("qemu:dirty-bitmap:")
}

/// The exports that there are, at most a handful of them.
fn name(exports: &[ListedExport]) -> String {
    if exports.is_empty() {
        return "; it lists no exports".to_owned();
    }
    let mut text = "; it has".to_owned();
    for (nth, export) in exports.iter().take(NAMED).enumerate() {
        // a String takes whatever is written to it
        let _ = write!(
            text,
            "{} \"{}\"",
            if nth == 0 { "" } else { "," },
            ServerText::new(export.name.as_bytes())
        );
    }
    if let Some(more) = exports.len().checked_sub(NAMED).filter(|&more| more > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}
