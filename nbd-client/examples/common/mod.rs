//! What the examples have in common: how they end, and parts of their command lines.
#![allow(dead_code, reason = "each example uses its own part")]

pub(crate) mod args;
pub(crate) mod failure;
