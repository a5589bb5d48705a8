//! The faults of the field: what a server does, and which programs fell over it.

use crate::disk::{BlockTruth, KnownDisk};

/// The ways in which a server departs from a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// At most this many descriptors of each context in a reply.
    Caps { allocation: usize, bitmap: usize },
    /// Sets a reserved bit of `base:allocation`.
    ReservedBit,
    /// Appends one more whole extent where its list ends with the request, and the disk goes on.
    ExtraExtent,
    /// From the middle of the disk on, begins each list with an extent of no bytes.
    NoBytes,
    /// Sends every chunk twice, the second time as clean and zero.
    Twice,
    /// From the middle of the disk on, leaves the bitmap out.
    NoBitmap,
    /// From the middle of the disk on, fails after its first chunk.
    LateError,
    /// Fails whatever is asked about allocation of a clean byte, as snapshot-access does.
    DirtyOnly,
    /// Never ends a reply.
    Endless,
    /// Has no such bitmap.
    BitmapGone,
    /// Leaves the second half of a read out and says that it is done.
    HalfRead,
}

/// The result that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The ranges that an incremental backup would copy, zero and skip.
    Incremental,
    /// The bytes of a full copy.
    Copy,
}

/// One fault.
#[derive(Debug)]
pub struct KnownFault {
    pub name: &'static str,
    /// The program or report in which it was seen.
    pub source: &'static str,
    pub subject: Judged,
    pub disk: KnownDisk,
    pub behaviours: &'static [Behaviour],
    /// A right answer exists; otherwise only a refusal is right.
    pub answerable: bool,
}

/// All faults, first a server that does nothing wrong.
pub fn all() -> Vec<KnownFault> {
    use Behaviour::{
        BitmapGone, Caps, DirtyOnly, Endless, ExtraExtent, HalfRead, LateError, NoBitmap, NoBytes,
        ReservedBit, Twice,
    };
    let plain = KnownDisk::without_dirty_zeroes;
    let fault = |name, source, disk, behaviours, answerable| KnownFault {
        name,
        source,
        subject: Judged::Incremental,
        disk,
        behaviours,
        answerable,
    };
    vec![
        fault("nothing wrong", "the control", plain(), &[], true),
        fault(
            "the allocation of a reply ends before its bitmap",
            "virtnbdbackup loses the tail; KubeVirt PR 17984",
            plain(),
            &[Caps { allocation: 20, bitmap: 1000 }],
            true,
        ),
        fault(
            "the bitmap of a reply ends before its allocation",
            "KubeVirt PR 17984, CloudStack's image server",
            plain(),
            &[Caps { allocation: 1000, bitmap: 10 }],
            true,
        ),
        fault(
            "one extent in each reply",
            "CDI PR 3534: the first page taken for all",
            plain(),
            &[Caps { allocation: 1, bitmap: 1 }],
            true,
        ),
        fault(
            "dirty ranges that read as zeroes",
            "virtnbdbackup #250, Qubes #858",
            KnownDisk::usual(),
            &[],
            true,
        ),
        fault(
            "dirty holes without ZERO",
            "virtnbdbackup, CloudStack, vmsync",
            plain().replacing(BlockTruth::DirtyData, BlockTruth::DirtyHole),
            &[],
            true,
        ),
        fault(
            "reserved bits of the allocation",
            "virtnbdbackup, imageio 10198cd",
            plain(),
            &[ReservedBit],
            true,
        ),
        fault(
            "runs of more than 4 GiB in pieces",
            "CDI #3054: 32-bit sums",
            KnownDisk { block: 1 << 30, blocks: plain().blocks[..48].to_vec() },
            &[],
            true,
        ),
        fault(
            "an extent beyond the request",
            "nbdkit up to 1.32.5",
            KnownDisk { block: 16 << 20, ..plain() },
            &[ExtraExtent],
            true,
        ),
        fault(
            "clean ranges that cannot be asked about",
            "qemu's snapshot-access exports",
            plain(),
            &[DirtyOnly],
            true,
        ),
        fault("an extent of no bytes", "nbdinfo 1.14 asks for ever", plain(), &[NoBytes], false),
        fault("two chunks about one context", "libnbd 1.14 hands out both", plain(), &[Twice], false),
        fault(
            "replies without the bitmap",
            "virtnbdbackup asks for ever",
            plain(),
            &[Caps { allocation: 100, bitmap: 100 }, NoBitmap],
            false,
        ),
        fault(
            "an error after the first chunk",
            "libnbd's callbacks have run by then",
            plain(),
            &[Caps { allocation: 100, bitmap: 100 }, LateError],
            false,
        ),
        fault("a reply without an end", "imageio, libnbd 1.14 and nbdinfo wait", plain(), &[Endless], false),
        fault(
            "a bitmap that is gone",
            "CloudStack: nothing dirty; libvirt after a crash",
            plain(),
            &[BitmapGone],
            false,
        ),
        KnownFault {
            subject: Judged::Copy,
            ..fault(
                "reads that lack half of their bytes",
                "libnbd 1.14 leaves zeroes (found by ci/differential)",
                plain(),
                &[HalfRead],
                false,
            )
        },
    ]
}
