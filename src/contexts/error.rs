//! The errors of a choice of contexts, and of their negotiation.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

use crate::status::MAX_BITMAPS;

/// Contexts that a survey cannot ask about, or that were not granted.
///
/// ```
/// use nbd_extents::{Context, ContextError, Contexts};
///
/// let twice = Contexts::new().require(Context::Depth)?.require(Context::Depth);
/// assert!(matches!(twice, Err(ContextError::Twice { .. })));
/// # Ok::<(), ContextError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ContextError {
    /// A context is named twice, by the caller or by the server.
    #[error("the context {} is named twice", name.escape_debug())]
    Twice {
        /// Its full name.
        name: String,
    },
    /// More bitmaps than one status can tell apart.
    #[error("more than {MAX_BITMAPS} dirty bitmaps in one survey")]
    TooManyBitmaps,
    /// A bitmap's name is empty, too long, or has a NUL.
    #[error("{} is not the name of a metadata context", name.escape_debug())]
    BadName {
        /// The full name that it would have.
        name: String,
    },
    /// The library does not know the meaning of a context, so a survey cannot ask about it.
    #[error(
        "the meaning of the context {} is not known; known are base:allocation, qemu:allocation-depth and \
         qemu:dirty-bitmap:NAME",
        name.escape_debug()
    )]
    Unknown {
        /// Its full name.
        name: String,
    },
    /// The server did not grant a context that the survey requires.
    #[error("the server did not grant the context {}{}", name.escape_debug(), Offered(offered))]
    Missing {
        /// Its full name.
        name: String,
        /// The contexts that the server offers, if the caller asked for the list: see
        /// [`ContextError::with_offered`].
        offered: Option<Vec<String>>,
    },
    /// The caller names a bitmap that the survey does not ask for.
    #[error("the survey does not ask for the context {}", name.escape_debug())]
    NotAsked {
        /// Its full name.
        name: String,
    },
    /// The server uses one id for two contexts.
    #[error("the server uses the context id {id} twice")]
    SharedId {
        /// The id.
        id: u32,
    },
}

impl ContextError {
    /// Adds the names that the server offers to [`Missing`](Self::Missing).
    ///
    /// They come from its answer to `NBD_OPT_LIST_META_CONTEXT`. Other errors stay as they are.
    ///
    /// ```
    /// use nbd_extents::{Context, Contexts};
    ///
    /// let wanted = Contexts::new().require(Context::bitmap("b9"))?;
    /// let error = wanted.negotiate::<&str>([]).unwrap_err().with_offered(["base:allocation"]);
    /// assert_eq!(
    ///     error.to_string(),
    ///     "the server did not grant the context qemu:dirty-bitmap:b9 (it offers base:allocation)"
    /// );
    /// # Ok::<(), nbd_extents::ContextError>(())
    /// ```
    #[must_use]
    pub fn with_offered<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        match self {
            Self::Missing { name, .. } => {
                Self::Missing { name, offered: Some(names.into_iter().map(Into::into).collect()) }
            }
            other => other,
        }
    }
}

/// Displays the names that the server offers, with its text escaped.
struct Offered<'a>(&'a Option<Vec<String>>);

impl fmt::Display for Offered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(names) = self.0 else { return Ok(()) };
        f.write_str(" (it offers ")?;
        for (nth, name) in names.iter().enumerate() {
            write!(f, "{}{}", if nth == 0 { "" } else { ", " }, name.escape_debug())?;
        }
        f.write_str(if names.is_empty() { "none)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_the_server_offers_is_listed_and_escaped() {
        let missing = |offered: &[&str]| {
            let missing = ContextError::Missing { name: "x".into(), offered: None };
            missing.with_offered(offered.iter().copied()).to_string()
        };
        assert_eq!(missing(&[]), "the server did not grant the context x (it offers none)");
        let shown = missing(&["a", "b\u{1b}[2J"]);
        assert_eq!(shown, "the server did not grant the context x (it offers a, b\\u{1b}[2J)");
    }
}
