//! Longer explanations, with examples that are tested: what the fields mean, how to do what backup tools do, and how to come here from another
//! program's code. There is no code to call in here.
//!
//! | page | for whom |
//! |---|---|
//! | [`fields`] | who wants to know what zero, hole, dirty and depth mean, and what each server makes of them |
//! | [`cookbook`] | who has a task: from libnbd, from libvirt, plan a backup, restore a chain |
//! | [`serialized`] | who stores or sends what this crate makes, with the feature `serde` |
//! | [`migrating`] | who has the merge of ovirt-imageio, virtnbdbackup or KubeVirt in their code |

#[doc = include_str!("fields.md")]
pub mod fields {}

#[doc = include_str!("cookbook.md")]
pub mod cookbook {}

#[doc = include_str!("serialized.md")]
pub mod serialized {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}
