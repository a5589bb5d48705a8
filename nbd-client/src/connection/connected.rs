//! What surveys and pools ask of either client.

use crate::error::Error;
use crate::export::Export;
use crate::session::{Cookie, Session, SessionLimits, StatusRequest};

/// A connection after its handshake: the blocking `Client`, or the asynchronous `Driver`.
pub trait Connected {
    /// What the handshake found out.
    fn export(&self) -> &Export;

    /// The session of the connection.
    fn session(&self) -> Option<&Session>;

    /// What may be in flight.
    fn limits(&self) -> SessionLimits {
        self.session().map(|session| session.config().limits).unwrap_or_default()
    }

    /// Starts a block status request, whose answer comes as events.
    fn start_status(&mut self, request: &StatusRequest<'_>) -> Result<Cookie, Error>;
}

/// An error if connections to what should be one export found different things.
pub(crate) fn check_same<'a>(
    export: &Export,
    others: impl IntoIterator<Item = &'a Export>,
) -> Result<(), Error> {
    for other in others {
        let what = if other.size() != export.size() {
            "size"
        } else if other.flags.of_export() != export.flags.of_export() {
            "transmission flags"
        } else if other.block_size != export.block_size {
            "block sizes"
        } else if other.headers != export.headers {
            "headers"
        } else {
            continue;
        };
        return Err(Error::Disagreement(what));
    }
    Ok(())
}
