//! The calls of either client that surveys and pools need.

use crate::error::Error;
use crate::export::Export;
use crate::session::{Cookie, Session, SessionLimits, StatusRequest};

/// A connection after its handshake: the blocking `Client`, or the asynchronous `Driver`.
pub trait Connected {
    /// The export, as the server described it in the handshake.
    fn export(&self) -> &Export;

    /// The session of the connection.
    fn session(&self) -> Option<&Session>;

    /// How many requests are in flight, or have events that were not taken.
    fn in_flight(&self) -> usize;

    /// The limits on requests in flight.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Headers;
    use crate::session::SessionConfig;

    struct OfSession(Session);

    impl Connected for OfSession {
        fn export(&self) -> &Export {
            self.0.export()
        }

        fn in_flight(&self) -> usize {
            0
        }

        fn session(&self) -> Option<&Session> {
            Some(&self.0)
        }

        fn start_status(&mut self, request: &StatusRequest<'_>) -> Result<Cookie, Error> {
            Ok(self.0.start_block_status(request)?)
        }
    }

    /// Pools and copies keep within the limits that their caller has set for a session.
    #[test]
    fn limits_are_those_of_the_session() {
        let mut config = SessionConfig::new(Headers::Extended, []);
        config.limits.max_in_flight = 3;
        let limits = config.limits;
        assert_ne!(limits, SessionLimits::default());
        assert_eq!(OfSession(Session::new(config)).limits(), limits);
    }
}
