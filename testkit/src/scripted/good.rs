//! The part of a script that is not its point: the handshake of a server that behaves.

use std::io::{Error, ErrorKind, Result};

use super::{Conn, SeenOption, bytes};
use nbd_client::frame::{Headers, option_reply_type, option_type};

const UNSUPPORTED: u32 = option_reply_type::ERROR_BIT + 1;
const NO_ZEROES_REPLY: usize = 124;

/// The terms of a server that behaves: an export of one size, whatever name is asked for, with
/// these contexts.
///
/// ```
/// use testkit::scripted::Good;
///
/// let terms = Good::extended()
///     .size(1 << 40)
///     .context(7, "qemu:dirty-bitmap:b0")
///     .block_sizes([512, 4096, 1 << 25]);
/// assert_eq!(terms.contexts.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Good {
    /// The best headers that it agrees to.
    pub headers: Headers,
    /// The export's size, in bytes.
    pub size: u64,
    /// Transmission flags: HAS_FLAGS and READ_ONLY, unless changed.
    pub flags: u16,
    /// Contexts with their ids: `base:allocation` as 0, unless changed.
    pub contexts: Vec<(u32, String)>,
    /// Minimum, preferred and maximum block size, if it tells them.
    pub block_sizes: Option<[u32; 3]>,
}

impl Good {
    /// A read-only disk of 4 MiB with `base:allocation`, and structured replies at best.
    #[must_use]
    pub fn compact() -> Self {
        Self {
            headers: Headers::Structured,
            size: 4 << 20,
            flags: 3,
            contexts: vec![(0, "base:allocation".to_owned())],
            block_sizes: None,
        }
    }

    /// As [`Self::compact`], with extended headers for clients that ask for them.
    #[must_use]
    pub fn extended() -> Self {
        Self { headers: Headers::Extended, ..Self::compact() }
    }

    /// Another size, in bytes.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Other transmission flags.
    #[must_use]
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    /// One more context.
    #[must_use]
    pub fn context(mut self, id: u32, name: impl Into<String>) -> Self {
        self.contexts.push((id, name.into()));
        self
    }

    /// Announces block sizes: minimum, preferred, maximum.
    #[must_use]
    pub fn block_sizes(mut self, sizes: [u32; 3]) -> Self {
        self.block_sizes = Some(sizes);
        self
    }

    /// Answers one option; true if the transmission phase begins with that.
    pub(super) fn answer(&self, conn: &mut Conn, option: &SeenOption) -> Result<bool> {
        match option.number {
            option_type::EXTENDED_HEADERS if self.headers == Headers::Extended => {
                conn.agree(Headers::Extended);
                conn.ack(option.number)?;
            }
            option_type::STRUCTURED_REPLY if self.headers != Headers::Simple => {
                conn.agree(Headers::Structured);
                conn.ack(option.number)?;
            }
            option_type::LIST => {
                let default = 0_u32.to_be_bytes();
                conn.send(&bytes::option_reply(option.number, option_reply_type::SERVER, &default))?;
                conn.ack(option.number)?;
            }
            option_type::LIST_META_CONTEXT => self.list(conn)?,
            option_type::SET_META_CONTEXT => self.set(conn, &option.queries())?,
            option_type::GO => {
                self.describe(conn)?;
                conn.ack(option.number)?;
                return Ok(true);
            }
            option_type::EXPORT_NAME => {
                let answer = bytes::export_info(self.size, self.flags);
                // Without the type of the information, and with the zeroes that an old client
                // expects.
                conn.send(answer.get(2..).unwrap_or_default())?;
                if !conn.no_zeroes() {
                    conn.send(&[0; NO_ZEROES_REPLY])?;
                }
                return Ok(true);
            }
            option_type::ABORT => {
                conn.ack(option.number)?;
                return Err(Error::new(ErrorKind::ConnectionAborted, "the client left the handshake"));
            }
            other => conn.refuse(other, UNSUPPORTED, "")?,
        }
        Ok(false)
    }

    fn list(&self, conn: &mut Conn) -> Result<()> {
        for (_, name) in &self.contexts {
            conn.grant(option_type::LIST_META_CONTEXT, 0, name.as_bytes())?;
        }
        conn.ack(option_type::LIST_META_CONTEXT)
    }

    fn set(&self, conn: &mut Conn, queries: &[String]) -> Result<()> {
        let granted = self.contexts.iter().filter(|(_, name)| queries.contains(name));
        for (id, name) in granted.clone() {
            conn.grant(option_type::SET_META_CONTEXT, *id, name.as_bytes())?;
        }
        conn.agree_on_contexts(granted.map(|(id, _)| *id).collect());
        conn.ack(option_type::SET_META_CONTEXT)
    }

    /// The INFO replies of GO, without its ACK.
    fn describe(&self, conn: &mut Conn) -> Result<()> {
        let go = option_type::GO;
        if let Some(sizes) = self.block_sizes {
            conn.send(&bytes::option_reply(go, option_reply_type::INFO, &bytes::block_size_info(sizes)))?;
        }
        let export = bytes::export_info(self.size, self.flags);
        conn.send(&bytes::option_reply(go, option_reply_type::INFO, &export))
    }
}
