//! All formats under their names, for programs whose users choose one.

use std::fmt;
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::str::FromStr;

use thiserror::Error;

use crate::csi::{self, Blocks, Unallocated};
use crate::spec::Spec;
use crate::writer::{ListWriter, Loss, attributes_writer};
use crate::{Assume, ListReader};
use crate::{combined, extentlist, imageio, kubevirt, nbdinfo, qcow2reader, qemu_img};

/// Declares [`Format`] from one table, so that no format can be forgotten in one of its places.
macro_rules! formats {
    ($($(#[$doc:meta])* $format:ident: $spec:path, $about:literal;)+) => {
        /// A list format by its name.
        ///
        /// ```
        /// use nbd_extents_formats::{Format, ReadOptions, WriteOptions};
        ///
        /// let from: Format = "nbdinfo-dirty".parse()?;
        /// let to: Format = "imageio-dirty".parse()?;
        /// let map = b"         0       65536    1  dirty\n";
        ///
        /// let mut out = Vec::new();
        /// let rows = from.read(&map[..], ReadOptions::default());
        /// to.writer(&mut out, WriteOptions::default()).write_all(rows)?;
        /// assert_eq!(out, br#"[{"start": 0, "length": 65536, "dirty": true}]"#);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Format {
            $($(#[$doc])* $format,)+
        }

        impl Format {
            /// All formats.
            pub const ALL: &'static [Self] = &[$(Self::$format),+];

            const fn spec(self) -> &'static Spec {
                match self {
                    $(Self::$format => const { &$spec },)+
                }
            }

            /// The origin of lists in this format, in a few words.
            ///
            /// ```
            /// use nbd_extents_formats::Format;
            ///
            /// assert_eq!(Format::NbdinfoDepth.about(), "nbdinfo --map=qemu:allocation-depth");
            /// ```
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$format => $about,)+
                }
            }
        }
    };
}

formats! {
    /// `imageio-zero`: see [`imageio`].
    ImageioZero: imageio::ZERO, "ovirt-imageio's extents; map --json without --bitmap";
    /// `imageio-dirty`: see [`imageio`].
    ImageioDirty: imageio::DIRTY, "ovirt-imageio's extents with ?context=dirty; map --json --bitmap NAME";
    /// `nbdinfo-allocation`, a table of `base:allocation`: see [`nbdinfo`].
    NbdinfoAllocation: nbdinfo::ALLOCATION, "nbdinfo --map";
    /// `nbdinfo-dirty`, a table of a dirty bitmap: see [`nbdinfo`].
    NbdinfoDirty: nbdinfo::DIRTY, "nbdinfo --map=qemu:dirty-bitmap:NAME";
    /// `nbdinfo-depth`, a table of `qemu:allocation-depth`: see [`nbdinfo`].
    NbdinfoDepth: nbdinfo::DEPTH, "nbdinfo --map=qemu:allocation-depth";
    /// `nbdinfo-allocation-json`, the same as JSON.
    NbdinfoAllocationJson: nbdinfo::ALLOCATION_JSON, "nbdinfo --map --json; map --format nbdinfo";
    /// `nbdinfo-dirty-json`, the same as JSON.
    NbdinfoDirtyJson: nbdinfo::DIRTY_JSON, "nbdinfo --map=qemu:dirty-bitmap:NAME --json";
    /// `nbdinfo-depth-json`, the same as JSON.
    NbdinfoDepthJson: nbdinfo::DEPTH_JSON, "nbdinfo --map=qemu:allocation-depth --json";
    /// `qemu-img`: see [`qemu_img`].
    QemuImg: qemu_img::ALLOCATION, "qemu-img map --output json";
    /// `qemu-img-dirty`, the map of a dirty bitmap: see [`qemu_img`].
    QemuImgDirty: qemu_img::DIRTY, "qemu-img map --output json with x-dirty-bitmap=qemu:dirty-bitmap:NAME";
    /// `qemu-img-depth`, the map of `qemu:allocation-depth`: see [`qemu_img`].
    QemuImgDepth: qemu_img::DEPTH, "qemu-img map --output json with x-dirty-bitmap=qemu:allocation-depth";
    /// `kubevirt-full`: see [`kubevirt`].
    KubevirtFull: kubevirt::FULL, "KubeVirt's map of a full backup";
    /// `kubevirt-incremental`: see [`kubevirt`].
    KubevirtIncremental: kubevirt::INCREMENTAL, "KubeVirt's map of an incremental backup";
    /// `csi-delta`: see [`csi`].
    CsiDelta: csi::DELTA, "CSI SnapshotMetadata: GetMetadataDelta";
    /// `csi-allocated`: see [`csi`].
    CsiAllocated: csi::ALLOCATED, "CSI SnapshotMetadata: GetMetadataAllocated";
    /// `extentlist`: see [`extentlist`].
    Extentlist: extentlist::LIST, "the list of nbdkit's extentlist filter";
    /// `qcow2reader`: see [`qcow2reader`].
    Qcow2reader: qcow2reader::MAP, "the map of go-qcow2reader's example";
    /// `combined`: see [`combined`].
    Combined: combined::COMBINED, "our own: dirty, zero and hole of each range";
}

impl Format {
    /// The name of the format.
    ///
    /// ```
    /// use nbd_extents_formats::Format;
    ///
    /// assert_eq!(Format::ImageioDirty.name(), "imageio-dirty");
    /// assert_eq!("imageio-dirty".parse(), Ok(Format::ImageioDirty));
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// Reads a list, row by row.
    ///
    /// ```
    /// use nbd_extents::stream::ExtentStream;
    /// use nbd_extents_formats::{Format, ReadOptions};
    ///
    /// let options = ReadOptions { size: Some(8192), ..ReadOptions::default() };
    /// let rows = Format::Extentlist.read(&b"4k 4k zero\n"[..], options).collect_vec()?;
    /// assert!(rows[0].status().hole, "bytes that the list leaves out are a hole");
    /// assert_eq!(rows[1].range(), 4096..8192);
    /// # Ok::<(), nbd_extents_formats::ListReadError>(())
    /// ```
    pub fn read<R: Read>(self, input: R, options: ReadOptions) -> ListReader<R> {
        ListReader::new(self.name(), (self.spec().decoder)(options), input, options)
    }

    /// Writes a list, row by row. Attributes that the format cannot say are refused or left out:
    /// [`WriteOptions::loss`].
    ///
    /// ```
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::Extent;
    /// use nbd_extents_formats::{Attribute, Attributes, Format, Loss, WriteOptions};
    ///
    /// let (zero, dirty) = (Some(true), Some(true));
    /// let known = Attributes { zero, dirty, ..Attributes::default() };
    /// let disk = [Extent::new(0, 512, known)?];
    ///
    /// let strict = Format::ImageioZero.writer(Vec::new(), WriteOptions::default());
    /// let error = strict.write_all(from_iter(disk)).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "imageio-zero cannot say \"dirty\", which is known of the bytes from 0 on"
    /// );
    ///
    /// let mut json = Vec::new();
    /// let options = WriteOptions { loss: Loss::Allow, ..WriteOptions::default() };
    /// let lost = Format::ImageioZero.writer(&mut json, options).write_all(from_iter(disk))?;
    /// assert_eq!(json, br#"[{"start": 0, "length": 512, "zero": true}]"#);
    /// assert!(lost.contains(&Attribute::Dirty));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn writer<W: Write>(self, out: W, options: WriteOptions) -> ListWriter<W> {
        attributes_writer(self.spec(), out, options)
    }
}

/// Facts that the reader of a list needs and the list does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadOptions {
    /// The size of the disk in bytes, which the list then must cover.
    ///
    /// An extent list is not read without it, and a list without rows is right only if it is 0.
    pub size: Option<u64>,
    /// The offset from which the list was requested.
    pub starting_offset: u64,
    /// Whether bytes that a CSI driver does not list as allocated read as zero.
    pub unallocated: Unallocated,
}

/// Facts and choices that the writer of a list needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriteOptions {
    /// The size of the disk in bytes, which the extents then must cover. CSI's lists are not
    /// written without it.
    pub size: Option<u64>,
    /// The size of the blocks that a CSI driver lists.
    pub blocks: Blocks,
    /// The rows on a page of KubeVirt, and in a record of CSI.
    pub page: NonZeroU64,
    /// Whether attributes that the format cannot say are refused or left out.
    pub loss: Loss,
    /// The safe answers to assume where the format must give one.
    pub assume: Assume,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            size: None,
            blocks: Blocks::default(),
            // 1000, without a panic in a constant
            page: NonZeroU64::MIN.saturating_add(999),
            loss: Loss::default(),
            assume: Assume::default(),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no format has. It lists those that there are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no format is called {name:?}; the formats are {}", names())]
pub struct UnknownFormat {
    /// The name.
    pub name: String,
}

fn names() -> String {
    let names: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
    names.join(", ")
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.iter().copied().find(|format| format.name() == name);
        found.ok_or_else(|| UnknownFormat { name: name.to_owned() })
    }
}
