//! Events for the feature `tracing`: the only file that knows whether it is on.
//!
//! Levels: connections are `info`, faults forgiven `warn`, requests `debug`.

use crate::export::Export;

/// Lets a value that only `tracing` reads count as used.
macro_rules! event {
    ($level:ident, $text:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        #[cfg(feature = "tracing")]
        tracing::$level!($($field = %$value,)* $text);
        #[cfg(not(feature = "tracing"))]
        {
            $(let _ = &$value;)*
        }
    }};
}

pub(crate) fn connected(address: &dyn core::fmt::Display) {
    event!(info, "connected", address = address);
}

pub(crate) fn negotiated(export: &Export) {
    event!(info, "negotiated", size = export.size, contexts = export.contexts.len());
}

pub(crate) fn sent(command: &'static str, cookie: u64, offset: u64, length: u64) {
    event!(debug, "request sent", command = command, cookie = cookie, offset = offset, length = length);
}

pub(crate) fn done(cookie: u64) {
    event!(debug, "reply done", cookie = cookie);
}

pub(crate) fn failed(cookie: u64, error: &dyn core::fmt::Display) {
    event!(debug, "request failed", cookie = cookie, error = error);
}

pub(crate) fn forgiven(kind: &dyn core::fmt::Display) {
    event!(warn, "forgiven", kind = kind);
}
