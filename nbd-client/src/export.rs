//! An export, as its server describes it in the handshake.

use core::fmt;

use crate::frame::Headers;
use crate::text::ServerText;
use crate::tls::TlsInfo;

/// An export that the server agreed to serve, and the terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Export {
    /// The name that was asked for.
    pub name: String,
    /// The server's own name of it, if it told one.
    pub canonical_name: Option<String>,
    /// The server's description, if it told one. Raw: make it a [`ServerText`] before printing it.
    pub description: Option<String>,
    /// Size in bytes, at most `i64::MAX`.
    pub(crate) size: u64,
    /// The commands and properties that the server announced.
    pub flags: TransmissionFlags,
    /// Block sizes, if the server advertised usable ones.
    pub block_size: Option<BlockSizes>,
    /// The headers of every message from now on.
    pub headers: Headers,
    /// The contexts granted of those asked for, in the order in which they were asked for.
    pub contexts: Vec<MetaContext>,
    /// The contexts asked for that the server does not have, in the order in which they were asked
    /// for.
    pub missing: Vec<String>,
    /// The contexts that the server offers, if it was asked: on request, or because a context was
    /// missing. `None` also when it would not say.
    pub offered: Option<Vec<String>>,
    /// The TLS of the connection; `None` for one in plaintext.
    pub tls: Option<TlsInfo>,
}

impl Export {
    /// Its size in bytes, at most `i64::MAX`.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// True if a status request may name the contexts that it wants (extended headers, and the
    /// server's flag).
    #[must_use]
    pub fn payload_status(&self) -> bool {
        self.headers == Headers::Extended && self.flags.block_status_payload()
    }

    /// The smallest block that can be read and written, in bytes: 1 where the server named none.
    #[must_use]
    pub fn minimum_block(&self) -> u64 {
        self.block_size.map_or(1, |sizes| u64::from(sizes.minimum()))
    }

    /// The granted context of this name.
    #[must_use]
    pub fn context(&self, name: &str) -> Option<&MetaContext> {
        self.contexts.iter().find(|context| context.name == name)
    }
}

/// An export that a server lists, see [`Client::list_exports`](crate::Client::list_exports).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedExport {
    /// Its name; empty is the default export. Raw: make it a [`ServerText`] before printing it.
    pub name: String,
    /// The server's description, if it has one.
    pub description: Option<ServerText>,
}

/// A meta context of a connection: the number that status chunks carry, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetaContext {
    /// The number, opaque, of this connection only; 0 is as good as any.
    pub id: u32,
    /// `namespace:leaf`.
    pub name: String,
}

/// A getter for each flag, by the number of its bit.
macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub const fn $name(self) -> bool {
                self.0 & (1 << $bit) != 0
            }
        )*
    };
}

/// Transmission flags; unknown bits are kept and mean nothing (NBD protocol, "Transmission flags").
///
/// ```
/// use nbd_client::export::TransmissionFlags;
///
/// let flags = TransmissionFlags(0x058f);
/// assert!(flags.is_read_only() && flags.can_multi_conn() && !flags.block_status_payload());
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TransmissionFlags(pub u16);

impl TransmissionFlags {
    flags! {
        /// The other bits mean something. MUST be set.
        has_flags = 0;
        /// The export cannot be written through this connection.
        is_read_only = 1;
        /// The server knows FLUSH.
        can_flush = 2;
        /// The server knows the FUA flag.
        can_fua = 3;
        /// The export is like a spinning disk.
        is_rotational = 4;
        /// The server knows TRIM.
        can_trim = 5;
        /// The server knows WRITE_ZEROES.
        can_write_zeroes = 6;
        /// The server knows the DF flag of READ.
        can_df = 7;
        /// Several connections to this export see one another's writes.
        can_multi_conn = 8;
        /// The server knows CACHE.
        can_cache = 10;
        /// The server knows the FAST_ZERO flag.
        can_fast_zero = 11;
        /// BLOCK_STATUS may carry a list of contexts. Means something with extended headers only:
        /// see [`Export::payload_status`].
        block_status_payload = 12;
    }

    /// The flags that state something of the export, which every connection to it must be told.
    ///
    /// SEND_DF and BLOCK_STATUS_PAYLOAD depend on what a connection negotiated: qemu sets the
    /// latter only where contexts were granted.
    pub(crate) const fn of_export(self) -> Self {
        Self(self.0 & !(1 << 7 | 1 << 12))
    }
}

impl fmt::Debug for TransmissionFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransmissionFlags({:#06x})", self.0)
    }
}

/// Block sizes in bytes, which do not contradict each other (NBD protocol, "Block size
/// constraints").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockSizes {
    minimum: u32,
    preferred: u32,
    maximum: u32,
}

impl BlockSizes {
    /// Checks three sizes of a server.
    ///
    /// `None` unless minimum and preferred are powers of two, `1 <= minimum <= 65536`,
    /// `minimum <= preferred`, and the maximum is `0xffffffff` (no limit) or a multiple of the
    /// minimum.
    ///
    /// ```
    /// use nbd_client::export::BlockSizes;
    ///
    /// assert!(BlockSizes::new(1, 4096, 32 << 20).is_some());
    /// assert!(BlockSizes::new(0, 4096, 32 << 20).is_none());
    /// ```
    #[must_use]
    pub fn new(minimum: u32, preferred: u32, maximum: u32) -> Option<Self> {
        let minimum_ok = minimum.is_power_of_two() && minimum <= 65536;
        let preferred_ok = preferred.is_power_of_two() && minimum <= preferred;
        // The first test comes first: nothing is ever divided by a minimum of zero.
        let maximum_ok =
            minimum_ok && maximum >= minimum && (maximum == u32::MAX || maximum.is_multiple_of(minimum));
        (preferred_ok && maximum_ok).then_some(Self { minimum, preferred, maximum })
    }

    /// Requests must be multiples of this, except at the end of the export. A power of two, 1 to
    /// 65536.
    #[must_use]
    pub const fn minimum(self) -> u32 {
        self.minimum
    }

    /// Requests of multiples of this are efficient. A power of two.
    #[must_use]
    pub const fn preferred(self) -> u32 {
        self.preferred
    }

    /// The longest payload; `u32::MAX` is no limit.
    #[must_use]
    pub const fn maximum(self) -> u32 {
        self.maximum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_62_block_sizes_that_cannot_be() {
        for (min, pref, max) in
            [(0, 4096, 1 << 25), (3, 4096, 1 << 25), (1 << 17, 1 << 17, 1 << 25), (4096, 512, 1 << 25)]
        {
            assert!(BlockSizes::new(min, pref, max).is_none(), "{min} {pref} {max}");
        }
        assert!(BlockSizes::new(512, 513, 1 << 25).is_none());
        assert!(BlockSizes::new(512, 4096, 513).is_none());
        assert!(BlockSizes::new(512, 4096, 0).is_none());
    }

    #[test]
    fn block_sizes_of_real_servers() {
        for (min, pref, max) in [(1, 4096, 1 << 25), (512, 4096, u32::MAX), (65536, 65536, 1 << 25)] {
            assert!(BlockSizes::new(min, pref, max).is_some(), "{min} {pref} {max}");
        }
    }
}
