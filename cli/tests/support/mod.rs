//! Support of the tests that run the program: [`run::map`] and the others run it, [`check`]
//! compares its answer with the model's, [`backup`] takes its streams apart.
#![allow(dead_code, reason = "each test binary uses its own part of the support")]

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod run;
