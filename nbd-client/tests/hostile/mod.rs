//! Support of the tests of table B: what a hostile server does ([`case::Case`]), what the example makes of it ([`run`]), and what
//! TABLE-B.md says should come of it ([`table`]).
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of the support")]

pub(crate) mod case;
pub(crate) mod observe;
pub(crate) mod run;
pub(crate) mod table;

pub(crate) use case::{Case, change, content};
pub(crate) use table::Word::{self, Accept, Clip, Fatal, RequestError, SafeStatus};

/// 1 MiB; the disks of these tests have four of them unless they say otherwise.
pub(crate) const M: u64 = 1 << 20;
