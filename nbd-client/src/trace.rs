//! Events for the feature `tracing`: the only file that knows whether it is on.
//!
//! Levels: connections are `info`, faults forgiven `warn`, requests `debug`.

/// An event, with fields that are shown as text.
macro_rules! event {
    ($level:ident, $text:literal $(, $field:ident = $value:expr)*) => {{
        #[cfg(feature = "tracing")]
        tracing::$level!($($field = %$value,)* $text);
    }};
}

pub(crate) use event;
