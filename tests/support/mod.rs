//! What the integration tests share: the slow judge ([`dense`]), the simulated server ([`server`]) with its moods ([`style`]), a disk with
//! everything that a caller decides ([`setup`]), and the loop that a client would run ([`drive`]).

// each test crate uses its own part of this
#![allow(dead_code)]

pub(crate) mod dense;
pub(crate) mod drive;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod style;
