//! The messages of the client, decoded.

use nbd_client::frame::{command, command_flag};

use super::bytes::{take_u16, take_u32, take_u64};

/// An option request of the client.
///
/// ```
/// use nbd_client::frame::option_type;
/// use testkit::scripted::{Good, Reaction, ScriptedServer};
/// use nbd_client::{Client, Options};
/// use std::sync::{Arc, Mutex};
///
/// let asked = Arc::new(Mutex::new(Vec::new()));
/// let noted = Arc::clone(&asked);
/// let server = ScriptedServer::start(move |conn| {
///     conn.handshake_with(&Good::compact(), |_, option| {
///         if option.number == option_type::SET_META_CONTEXT {
///             noted.lock().unwrap().extend(option.queries());
///         }
///         Ok(Reaction::Honest)
///     })?;
///     conn.stall()
/// })?;
/// let options = Options::new().require_context("base:allocation");
/// Client::connect(&server.uri().parse()?, &options)?;
/// assert_eq!(*asked.lock().unwrap(), ["base:allocation"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenOption {
    /// The option's number, see [`option_type`](nbd_client::frame::option_type).
    pub number: u32,
    /// Its data.
    pub data: Vec<u8>,
}

impl SeenOption {
    pub(super) const fn new(number: u32, data: Vec<u8>) -> Self {
        Self { number, data }
    }

    /// The names in a LIST or SET of meta contexts; as many as can be read.
    #[must_use]
    pub fn queries(&self) -> Vec<String> {
        let mut names = Vec::new();
        let Some((_export, rest)) = take_string(&self.data) else { return names };
        let Some((_count, mut rest)) = take_u32(rest) else { return names };
        while let Some((name, later)) = take_string(rest) {
            names.push(name);
            rest = later;
        }
        names
    }
}

fn take_string(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = take_u32(bytes)?;
    let (text, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}

/// A request of the client in the transmission phase.
///
/// ```
/// use nbd_client::frame::command;
/// use testkit::scripted::{DONE, Good, ScriptedServer};
/// use nbd_client::{Client, Options};
///
/// // A disk whose bytes are all 0xa5; whatever else is asked fails with EINVAL.
/// let server = ScriptedServer::start(|conn| {
///     conn.handshake(&Good::compact())?;
///     conn.serve(|conn, request| match request.command {
///         command::READ => {
///             let data = vec![0xa5; request.length as usize];
///             conn.data(request, request.offset, &data, DONE)
///         }
///         _ => conn.error(request, 22, "only reads here", DONE),
///     })
/// })?;
/// let mut client = Client::connect(&server.uri().parse()?, &Options::new())?;
/// let mut block = [0; 512];
/// client.read(4096, &mut block)?;
/// assert_eq!(block, [0xa5; 512]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenRequest {
    /// Command flags, see [`command_flag`](nbd_client::frame::command_flag).
    pub flags: u16,
    /// The command, see [`command`](nbd_client::frame::command).
    pub command: u16,
    /// The number that an answer repeats.
    pub cookie: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// How much of the disk it is about, in bytes (of the payload form, its effect length).
    pub length: u64,
    /// The contexts that the payload form names.
    pub contexts: Option<Vec<u32>>,
    /// The payload of a WRITE.
    pub data: Vec<u8>,
}

impl SeenRequest {
    /// A header without its payload; `None` if there are too few bytes. The magic is not looked at.
    pub(super) fn decode(header: &[u8], extended: bool) -> Option<Self> {
        let (_magic, rest) = take_u32(header)?;
        let (flags, rest) = take_u16(rest)?;
        let (command, rest) = take_u16(rest)?;
        let (cookie, rest) = take_u64(rest)?;
        let (offset, rest) = take_u64(rest)?;
        let length = if extended { take_u64(rest)?.0 } else { u64::from(take_u32(rest)?.0) };
        Some(Self { flags, command, cookie, offset, length, contexts: None, data: Vec::new() })
    }

    /// True if `length` is that of a payload still to come.
    pub(super) const fn has_payload(&self, extended: bool) -> bool {
        self.command == command::WRITE || extended && self.flags & command_flag::PAYLOAD_LEN != 0
    }

    /// Takes in its payload: data, or the payload form of a block status request.
    pub(super) fn absorb(&mut self, payload: Vec<u8>) -> Option<()> {
        if self.command == command::WRITE {
            self.data = payload;
            Some(())
        } else {
            self.absorb_contexts(&payload)
        }
    }

    fn absorb_contexts(&mut self, payload: &[u8]) -> Option<()> {
        let (length, mut rest) = take_u64(payload)?;
        let mut contexts = Vec::new();
        while let Some((context, later)) = take_u32(rest) {
            contexts.push(context);
            rest = later;
        }
        self.length = length;
        self.contexts = Some(contexts);
        Some(())
    }
}
