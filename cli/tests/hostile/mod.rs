//! Support of the tests of SERVER-BEHAVIOUR.md: what a hostile server does ([`case::Case`]), what
//! the program makes of it ([`run`]), and what the table says should come of it
//! ([`testkit::behaviour`]).
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of the support")]

pub(crate) mod case;
pub(crate) mod observe;
pub(crate) mod run;

pub(crate) use case::{Case, change, content};
pub(crate) use testkit::behaviour::RowVerdict::{self, Accept, Clip, Fatal, RequestError, SafeStatus};

/// 1 MiB; the disks of these tests have four of them unless they say otherwise.
pub(crate) const M: u64 = 1 << 20;
