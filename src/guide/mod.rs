//! Longer explanations with tested examples: the meaning of the fields, recipes for backup tools,
//! and migration from other programs' code. This module has no functions.
//!
//! | page | content |
//! |---|---|
//! | [`fields`] | the meaning of zero, hole, dirty and depth, and the behaviour of servers |
//! | [`cookbook`] | recipes: from libnbd, from libvirt, plan a backup, restore a chain |
//! | [`serialized`] | the forms of stored values, with the feature `serde` |
//! | [`migrating`] | for code with the merge of ovirt-imageio, virtnbdbackup or KubeVirt |

#[doc = include_str!("fields.md")]
pub mod fields {}

#[doc = include_str!("cookbook.md")]
pub mod cookbook {}

#[doc = include_str!("serialized.md")]
pub mod serialized {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}
