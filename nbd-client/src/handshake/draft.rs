//! The findings of a handshake: the replies with content, checked one by one, until they
//! make an [`Export`].

use super::{HandshakeConfig, HandshakeError};
use crate::export::{BlockSizes, Export, ListedExport, MetaContext, TransmissionFlags};
use crate::frame::{Fields, Headers, MAX_STRING, OptionName, info_type, option_reply_type, option_type};
use crate::stats::{Tolerated, ToleratedCounts};
use crate::text::ServerText;
use nbd_extents::Strictness;

const GO: OptionName = OptionName(option_type::GO);

/// The export as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Draft {
    strictness: Strictness,
    /// The facts known of it by now.
    pub(super) export: Export,
    /// Contexts granted and asked for, in the server's order.
    pub(super) granted: Vec<MetaContext>,
    /// Contexts granted and not asked for: their names and numbers are taken all the same.
    unasked: Vec<MetaContext>,
    /// Replies of the LIST under way.
    listing: Vec<String>,
    /// Why SET was refused.
    pub(super) set_refused: Option<HandshakeError>,
    has_size: bool,
    /// Exports listed.
    pub(super) exports: Vec<ListedExport>,
    pub(super) forgiven: ToleratedCounts,
}

impl Draft {
    pub(super) fn new(strictness: Strictness) -> Self {
        Self { strictness, ..Self::default() }
    }

    /// A context that SET granted.
    pub(super) fn grant(&mut self, config: &HandshakeConfig, payload: &[u8]) -> Result<(), HandshakeError> {
        let context = parse_context(OptionName(option_type::SET_META_CONTEXT), payload)?;
        let mut known = self.granted.iter().chain(&self.unasked);
        if known.any(|other| other.id == context.id || other.name == context.name) {
            let name = context.name.as_str().into();
            return Err(HandshakeError::DuplicateContext { name, id: context.id });
        }
        if config.contexts.iter().any(|asked| asked.name == context.name) {
            self.granted.push(context);
        } else {
            let error = HandshakeError::UnaskedContext(context.name.as_str().into());
            self.forgive(Tolerated::UnaskedContext, error)?;
            self.unasked.push(context);
        }
        Ok(())
    }

    /// SET failed: contexts listed before the error are not granted.
    pub(super) fn refuse_contexts(&mut self, error: HandshakeError) {
        self.granted.clear();
        self.unasked.clear();
        self.set_refused = Some(error);
    }

    /// A context that LIST shows. Its number means nothing.
    pub(super) fn list(&mut self, payload: &[u8]) -> Result<(), HandshakeError> {
        let context = parse_context(OptionName(option_type::LIST_META_CONTEXT), payload)?;
        self.listing.push(context.name);
        Ok(())
    }

    /// An export that LIST shows: `length:4 name`, and whatever the server says of it.
    pub(super) fn server(&mut self, payload: &[u8]) -> Result<(), HandshakeError> {
        let option = OptionName(option_type::LIST);
        let mut fields = Fields(payload);
        let length = fields.u32().and_then(|length| usize::try_from(length).ok());
        let name = length.filter(|&length| length <= MAX_STRING).and_then(|length| fields.bytes(length));
        let name = name.ok_or_else(|| bad_length(option, option_reply_type::SERVER, payload))?;
        let details = fields.0;
        let description = (!details.is_empty()).then(|| ServerText::new(details));
        self.exports.push(ListedExport { name: parse_text(option, name)?, description });
        Ok(())
    }

    fn forgive(&mut self, kind: Tolerated, error: HandshakeError) -> Result<(), HandshakeError> {
        if self.strictness.is_strict() {
            return Err(error);
        }
        self.forgiven.add(kind);
        Ok(())
    }

    /// A lenient client goes on without a malformed value that it can do without.
    fn unless_forgiven<V>(
        &mut self,
        kind: Tolerated,
        parsed: Result<V, HandshakeError>,
    ) -> Result<Option<V>, HandshakeError> {
        match parsed {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.forgive(kind, error).map(|()| None),
        }
    }

    /// A LIST ended well: what it showed is on offer.
    pub(super) fn listed(&mut self) {
        let offered = self.export.offered.get_or_insert_default();
        for name in self.listing.drain(..) {
            if !offered.contains(&name) {
                offered.push(name);
            }
        }
    }

    /// A LIST failed: what it had shown does not count.
    pub(super) fn refuse_list(&mut self) {
        self.listing.clear();
    }

    /// True if a server as old as qemu 3.0 may have left something out of a plain list.
    pub(super) fn shows_no_qemu(&self) -> bool {
        self.export.offered.as_ref().is_some_and(|names| !names.iter().any(|name| name.starts_with("qemu:")))
    }

    /// One piece of information from GO.
    pub(super) fn info(&mut self, payload: &[u8]) -> Result<(), HandshakeError> {
        let bad = || bad_length(GO, option_reply_type::INFO, payload);
        let mut fields = Fields(payload);
        let kind = fields.u16().ok_or_else(bad)?;
        let rest = fields.0;
        match kind {
            info_type::EXPORT => return self.set_size(rest).ok_or_else(bad)?,
            info_type::BLOCK_SIZE => {
                let sizes = parse_block_size(rest).ok_or_else(bad)?;
                self.export.block_size = self.unless_forgiven(Tolerated::BadBlockSize, sizes)?;
            }
            info_type::NAME => {
                self.export.canonical_name =
                    self.unless_forgiven(Tolerated::BadText, parse_text(GO, rest))?;
            }
            info_type::DESCRIPTION => {
                self.export.description = self.unless_forgiven(Tolerated::BadText, parse_text(GO, rest))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Size and flags, of GO or of EXPORT_NAME; `None` if the length is wrong.
    pub(super) fn set_size(&mut self, bytes: &[u8]) -> Option<Result<(), HandshakeError>> {
        let mut fields = Fields(bytes);
        let (size, bits) = (fields.u64()?, fields.u16()?);
        fields.end().map(|()| self.check_size(size, TransmissionFlags::new(bits)))
    }

    fn check_size(&mut self, size: u64, mut flags: TransmissionFlags) -> Result<(), HandshakeError> {
        if i64::try_from(size).is_err() {
            return Err(HandshakeError::SizeTooLarge(size));
        }
        if !flags.has_flags() {
            self.forgive(Tolerated::NoHasFlags, HandshakeError::NoHasFlags(flags.bits()))?;
            // the other bits mean nothing then: least of all that the export cannot change
            flags = TransmissionFlags::new(0);
        }
        if core::mem::replace(&mut self.has_size, true) {
            return Err(HandshakeError::DuplicateExportInfo);
        }
        (self.export.size, self.export.flags) = (size, flags);
        Ok(())
    }

    /// True if not every context asked for was granted.
    pub(super) fn lacks_context(&self, config: &HandshakeConfig) -> bool {
        self.granted.len() < config.contexts.len()
    }

    /// The whole, once the server has agreed to serve.
    pub(super) fn finish(&mut self, config: &HandshakeConfig) -> Result<Export, HandshakeError> {
        if !self.has_size {
            return Err(HandshakeError::NoExportInfo);
        }
        self.export.name.clone_from(&config.export);
        for asked in &config.contexts {
            match self.granted.iter().find(|context| context.name == asked.name) {
                Some(context) => self.export.contexts.push(context.clone()),
                None if asked.required => return Err(self.why_missing(&asked.name)),
                None => self.export.missing.push(asked.name.clone()),
            }
        }
        Ok(self.export.clone())
    }

    fn why_missing(&mut self, name: &str) -> HandshakeError {
        let name = ServerText::from(name);
        match self.set_refused.take() {
            Some(HandshakeError::Refused { reason: super::Refusal::Unsupported, .. }) | None => {}
            Some(error) => return error,
        }
        if self.export.headers == Headers::Simple {
            return HandshakeError::NoStructuredReplies(name);
        }
        let texts = |names: &Vec<String>| names.iter().map(|name| name.as_str().into()).collect();
        HandshakeError::ContextMissing { name, offered: self.export.offered.as_ref().map(texts) }
    }
}

/// `id:4 name`, the name not empty.
fn parse_context(option: OptionName, payload: &[u8]) -> Result<MetaContext, HandshakeError> {
    let mut fields = Fields(payload);
    match (fields.u32(), fields.0) {
        (Some(id), name) if !name.is_empty() && name.len() <= MAX_STRING => {
            Ok(MetaContext { id, name: parse_text(option, name)? })
        }
        _ => Err(bad_length(option, option_reply_type::META_CONTEXT, payload)),
    }
}

fn parse_block_size(bytes: &[u8]) -> Option<Result<BlockSizes, HandshakeError>> {
    let mut fields = Fields(bytes);
    let sizes = BlockSizes::new(fields.u32()?, fields.u32()?, fields.u32()?);
    fields.end().map(|()| sizes.map_err(HandshakeError::BadBlockSize))
}

fn parse_text(option: OptionName, bytes: &[u8]) -> Result<String, HandshakeError> {
    match core::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') && bytes.len() <= MAX_STRING => Ok(text.to_owned()),
        _ => Err(HandshakeError::BadName { option, name: ServerText::new(bytes) }),
    }
}

fn bad_length(option: OptionName, kind: u32, payload: &[u8]) -> HandshakeError {
    HandshakeError::BadLength { option, kind, length: u32::try_from(payload.len()).unwrap_or(u32::MAX) }
}
