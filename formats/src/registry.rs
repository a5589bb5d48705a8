//! All formats under their names, for programs whose users choose one.

use std::boxed::Box;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use thiserror::Error;

use super::convert::{AsFacts, EncodeFacts, FromFacts, Loss};
use super::csi::{self, Blocks, Unallocated};
use super::error::WriteError;
use super::facts::{Assume, Facts, Row};
use super::{Decode, Encode, extentlist, imageio, kubevirt, nbdinfo, qcow2reader, qemu_img};
use nbd_extents::{Allocation, Depth, Dirtiness};

/// A format by its name.
///
/// ```
/// use nbd_extents_formats::{Format, ReadOptions, WriteOptions};
///
/// let from: Format = "nbdinfo-dirty".parse()?;
/// let to: Format = "imageio-dirty".parse()?;
/// let map = b"         0       65536    1  dirty\n";
///
/// let extents = nbd_extents_formats::read(from.decoder(&ReadOptions::default())?, &map[..]);
/// let mut out = String::new();
/// nbd_extents_formats::write(extents, &mut *to.encoder(&WriteOptions::default())?, &mut out)?;
/// assert_eq!(out, r#"[{"start": 0, "length": 65536, "dirty": true}]"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// [`imageio::Zero`].
    ImageioZero,
    /// [`imageio::Dirty`].
    ImageioDirty,
    /// [`nbdinfo`]'s table of `base:allocation`.
    NbdinfoAllocation,
    /// [`nbdinfo`]'s table of a dirty bitmap.
    NbdinfoDirty,
    /// [`nbdinfo`]'s table of `qemu:allocation-depth`.
    NbdinfoDepth,
    /// [`nbdinfo`]'s JSON of `base:allocation`.
    NbdinfoAllocationJson,
    /// [`nbdinfo`]'s JSON of a dirty bitmap.
    NbdinfoDirtyJson,
    /// [`nbdinfo`]'s JSON of `qemu:allocation-depth`.
    NbdinfoDepthJson,
    /// [`qemu_img::Entry`].
    QemuImg,
    /// [`qemu_img::DirtyEntry`].
    QemuImgDirty,
    /// [`kubevirt::Full`].
    KubevirtFull,
    /// [`kubevirt::Incremental`].
    KubevirtIncremental,
    /// [`csi::Delta`].
    CsiDelta,
    /// [`csi::Allocated`].
    CsiAllocated,
    /// [`extentlist`].
    Extentlist,
    /// [`qcow2reader::Entry`].
    Qcow2reader,
}

/// What some readers have to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadOptions {
    /// The size of the disk in bytes, which an extent list does not name.
    pub size: Option<u64>,
    /// The byte from which on changed blocks were asked for.
    pub starting_offset: u64,
    /// What is known of bytes that a CSI driver does not list as allocated.
    pub unallocated: Unallocated,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { size: None, starting_offset: 0, unallocated: Unallocated::Undefined }
    }
}

/// What some writers have to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriteOptions {
    /// The size of the disk in bytes, which a list of changed blocks begins with.
    pub size: Option<u64>,
    /// The size of its blocks.
    pub blocks: Blocks,
    /// How many rows a page or record has.
    pub page: NonZeroU64,
    /// What becomes of facts that the format cannot say.
    pub loss: Loss,
    /// What may be taken for known.
    pub assume: Assume,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            size: None,
            blocks: Blocks::Variable,
            page: NonZeroU64::MIN.saturating_add(999),
            loss: Loss::Refuse,
            assume: Assume::default(),
        }
    }
}

impl Format {
    /// All formats.
    pub const ALL: &'static [Self] = &[
        Self::ImageioZero,
        Self::ImageioDirty,
        Self::NbdinfoAllocation,
        Self::NbdinfoDirty,
        Self::NbdinfoDepth,
        Self::NbdinfoAllocationJson,
        Self::NbdinfoDirtyJson,
        Self::NbdinfoDepthJson,
        Self::QemuImg,
        Self::QemuImgDirty,
        Self::KubevirtFull,
        Self::KubevirtIncremental,
        Self::CsiDelta,
        Self::CsiAllocated,
        Self::Extentlist,
        Self::Qcow2reader,
    ];

    /// Its name: `imageio-dirty`, say.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImageioZero => "imageio-zero",
            Self::ImageioDirty => "imageio-dirty",
            Self::NbdinfoAllocation => "nbdinfo-allocation",
            Self::NbdinfoDirty => "nbdinfo-dirty",
            Self::NbdinfoDepth => "nbdinfo-depth",
            Self::NbdinfoAllocationJson => "nbdinfo-allocation-json",
            Self::NbdinfoDirtyJson => "nbdinfo-dirty-json",
            Self::NbdinfoDepthJson => "nbdinfo-depth-json",
            Self::QemuImg => "qemu-img",
            Self::QemuImgDirty => "qemu-img-dirty",
            Self::KubevirtFull => "kubevirt-full",
            Self::KubevirtIncremental => "kubevirt-incremental",
            Self::CsiDelta => "csi-delta",
            Self::CsiAllocated => "csi-allocated",
            Self::Extentlist => "extentlist",
            Self::Qcow2reader => "qcow2reader",
        }
    }

    /// Its reader.
    ///
    /// # Errors
    ///
    /// [`WriteError::Option`] when the format needs an option that is not given.
    pub fn decoder(self, options: &ReadOptions) -> Result<Box<dyn Decode<Row = Facts>>, WriteError> {
        Ok(match self {
            Self::ImageioZero => facts(imageio::ZeroReader::new()),
            Self::ImageioDirty => facts(imageio::DirtyReader::new()),
            Self::NbdinfoAllocation => facts(nbdinfo::TextReader::<Allocation>::new()),
            Self::NbdinfoDirty => facts(nbdinfo::TextReader::<Dirtiness>::new()),
            Self::NbdinfoDepth => facts(nbdinfo::TextReader::<Depth>::new()),
            Self::NbdinfoAllocationJson => facts(nbdinfo::JsonReader::<Allocation>::new()),
            Self::NbdinfoDirtyJson => facts(nbdinfo::JsonReader::<Dirtiness>::new()),
            Self::NbdinfoDepthJson => facts(nbdinfo::JsonReader::<Depth>::new()),
            Self::QemuImg => facts(qemu_img::Reader::new()),
            Self::QemuImgDirty => facts(qemu_img::DirtyReader::new()),
            Self::KubevirtFull => facts(kubevirt::Reader::<kubevirt::Full>::new()),
            Self::KubevirtIncremental => facts(kubevirt::Reader::<kubevirt::Incremental>::new()),
            Self::CsiDelta => facts(csi::Reader::delta(options.starting_offset)),
            Self::CsiAllocated => facts(csi::Reader::allocated(options.starting_offset, options.unallocated)),
            Self::Extentlist => facts(extentlist::Reader::new(size(options.size)?)),
            Self::Qcow2reader => facts(qcow2reader::Reader::new()),
        })
    }

    /// Its writer.
    ///
    /// # Errors
    ///
    /// [`WriteError::Option`] when the format needs an option that is not given.
    pub fn encoder(self, options: &WriteOptions) -> Result<Box<dyn EncodeFacts>, WriteError> {
        let (page, blocks) = (options.page, options.blocks);
        Ok(match self {
            Self::ImageioZero => rows(imageio::ZeroWriter::new(), options),
            Self::ImageioDirty => rows(imageio::DirtyWriter::new(), options),
            Self::NbdinfoAllocation => rows(nbdinfo::TextWriter::<Allocation>::new(), options),
            Self::NbdinfoDirty => rows(nbdinfo::TextWriter::<Dirtiness>::new(), options),
            Self::NbdinfoDepth => rows(nbdinfo::TextWriter::<Depth>::new(), options),
            Self::NbdinfoAllocationJson => rows(nbdinfo::JsonWriter::<Allocation>::new(), options),
            Self::NbdinfoDirtyJson => rows(nbdinfo::JsonWriter::<Dirtiness>::new(), options),
            Self::NbdinfoDepthJson => rows(nbdinfo::JsonWriter::<Depth>::new(), options),
            Self::QemuImg => rows(qemu_img::Writer::new(), options),
            Self::QemuImgDirty => rows(qemu_img::DirtyWriter::new(), options),
            Self::KubevirtFull => rows(kubevirt::Writer::<kubevirt::Full>::new(page), options),
            Self::KubevirtIncremental => rows(kubevirt::Writer::<kubevirt::Incremental>::new(page), options),
            Self::CsiDelta => {
                rows(csi::Writer::<csi::Delta>::new(size(options.size)?, blocks, page), options)
            }
            Self::CsiAllocated => {
                rows(csi::Writer::<csi::Allocated>::new(size(options.size)?, blocks, page), options)
            }
            Self::Extentlist => rows(extentlist::Writer::new(), options),
            Self::Qcow2reader => rows(qcow2reader::Writer::new(), options),
        })
    }
}

fn facts<D: Decode<Row: Row> + 'static>(decoder: D) -> Box<dyn Decode<Row = Facts>> {
    Box::new(AsFacts(decoder))
}

fn rows<E: Encode<Row: Row> + 'static>(encoder: E, options: &WriteOptions) -> Box<dyn EncodeFacts> {
    Box::new(FromFacts::new(encoder, options.loss, options.assume))
}

fn size(size: Option<u64>) -> Result<u64, WriteError> {
    size.ok_or(WriteError::Option { option: "the size of the disk" })
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no format of this name")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.iter().copied().find(|format| format.name() == name).ok_or(UnknownFormat)
    }
}
