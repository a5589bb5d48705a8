//! Policies: which kind of backup, and on what it stands.

use core::ffi::{c_char, c_int};

use nbd_extents::action::{
    Base, Baseline, Decision, Full, Incremental, Policy, PolicyError, SingleLayer, Zeroes,
};
use nbd_extents::wire::Form;
use nbd_extents::{ExportParams, Extent, Status};

use super::border::{self, CallFailure, Journal, Object};
use super::layout::{
    NBDX_ZEROES_ALLOCATE, NBDX_ZEROES_AS_DATA, NBDX_ZEROES_KEEP_HOLES, NBDX_ZEROES_MAY_UNMAP,
};
use super::status;

/// Which kind of backup.
#[derive(Debug)]
pub struct nbdx_policy {
    journal: Journal,
    pub(crate) kind: PolicyKind,
}

impl Object for nbdx_policy {
    const NAME: &'static str = "policy";

    fn journal(&self) -> &Journal {
        &self.journal
    }
}

/// One of the policies of the library.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PolicyKind {
    Full(Full),
    Incremental(Incremental),
    SingleLayer(SingleLayer),
}

impl PolicyKind {
    const fn with_zeroes(self, zeroes: Zeroes) -> Self {
        match self {
            Self::Full(policy) => Self::Full(policy.with_zeroes(zeroes)),
            Self::Incremental(policy) => Self::Incremental(policy.with_zeroes(zeroes)),
            Self::SingleLayer(policy) => Self::SingleLayer(policy.with_zeroes(zeroes)),
        }
    }

    fn chosen(&self) -> &dyn Policy {
        match self {
            Self::Full(policy) => policy,
            Self::Incremental(policy) => policy,
            Self::SingleLayer(policy) => policy,
        }
    }
}

impl Policy for PolicyKind {
    fn base(&self) -> Base {
        self.chosen().base()
    }

    fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError> {
        self.chosen().decide(extent)
    }

    fn next_cut(&self, offset: u64) -> Option<u64> {
        self.chosen().next_cut(offset)
    }
}

fn make(kind: impl FnOnce() -> Result<PolicyKind, CallFailure>) -> *mut nbdx_policy {
    border::make(|| Ok(nbdx_policy { journal: Journal::default(), kind: kind()? }))
}

/// A full backup.
#[unsafe(no_mangle)]
pub extern "C" fn nbdx_policy_full(onto_zeroes: c_int) -> *mut nbdx_policy {
    make(|| {
        let full = Full::new();
        Ok(PolicyKind::Full(if onto_zeroes == 0 { full } else { full.onto_zeroes() }))
    })
}

/// The changes since the previous backup.
#[unsafe(no_mangle)]
pub extern "C" fn nbdx_policy_incremental(
    previous_size: u64,
    size: u64,
    bitmaps: u32,
    allow_grown: c_int,
) -> *mut nbdx_policy {
    make(|| {
        // a disk that no survey takes is not a disk to back up
        ExportParams::new(size, Form::Compact)?;
        let baseline = Baseline::new(previous_size, status::bitmaps(bitmaps));
        let policy = match allow_grown {
            0 => Incremental::new(baseline, size)?,
            _ => Incremental::new_or_grown(baseline, size)?,
        };
        Ok(PolicyKind::Incremental(policy))
    })
}

/// A policy for the bytes that one layer of an image holds.
#[unsafe(no_mangle)]
pub extern "C" fn nbdx_policy_single_layer() -> *mut nbdx_policy {
    make(|| Ok(PolicyKind::SingleLayer(SingleLayer::new())))
}

/// Chooses how zeroes are treated.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_policy_zeroes(policy: *mut nbdx_policy, zeroes: c_int) -> c_int {
    let work = |policy: &mut nbdx_policy| {
        let zeroes = match zeroes {
            NBDX_ZEROES_MAY_UNMAP => Zeroes::MayUnmap,
            NBDX_ZEROES_KEEP_HOLES => Zeroes::KeepHoles,
            NBDX_ZEROES_ALLOCATE => Zeroes::Allocate,
            NBDX_ZEROES_AS_DATA => Zeroes::AsData,
            other => return Err(CallFailure::new(format_args!("{other} is no way of treating zeroes"))),
        };
        policy.kind = policy.kind.with_zeroes(zeroes);
        Ok(0)
    };
    // SAFETY: as the header says
    unsafe { border::change(policy, work) }
}

/// The message of the last call on the policy.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_policy_error(policy: *const nbdx_policy) -> *const c_char {
    // SAFETY: as the header says
    unsafe { border::message(policy) }
}

/// Frees a policy.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_policy_free(policy: *mut nbdx_policy) {
    // SAFETY: as the header says
    unsafe { border::destroy(policy) }
}
