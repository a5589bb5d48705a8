//! What can be wrong with a meta frame's JSON.

use thiserror::Error;

use crate::extent::MAX_END;

/// A meta frame that cannot be read, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("at byte {at} of the meta frame's JSON: {fault}")]
pub struct MetaError {
    /// The place in the JSON, in bytes.
    pub at: usize,
    /// What is wrong.
    pub fault: MetaFault,
}

/// What is wrong with a meta frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetaFault {
    /// It is not a JSON object, or one that is nested too deeply.
    #[error("not a JSON object")]
    Json,
    /// A key is missing.
    #[error("there is no {key:?}")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// The value of a key is of another type, or a number that is not one of bytes.
    #[error("the value of {key:?} is of the wrong kind")]
    Type {
        /// The key.
        key: &'static str,
    },
    /// A key is there more than once.
    #[error("{key:?} is there twice")]
    Twice {
        /// The key.
        key: &'static str,
    },
    /// No disk is that large.
    #[error("a disk of {virtual_size} bytes is larger than {max}", max = MAX_END)]
    TooLarge {
        /// Its size, in bytes.
        virtual_size: u64,
    },
}
