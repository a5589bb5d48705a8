//! The replies with content, checked one by one, until they make an [`Export`](crate::Export).

use super::{Handshake, HandshakeError};
use crate::export::{BlockSizes, ListedExport, MetaContext, TransmissionFlags};
use crate::frame::{
    Fields, Headers, MAX_STRING, OptionName, info_type, is_string, option_reply_type, option_type,
};
use crate::stats::Tolerated;
use crate::text::ServerText;

const GO: OptionName = OptionName(option_type::GO);

impl Handshake {
    /// A context that SET granted. One that was not asked for has its name and number too, which no
    /// other may have.
    pub(super) fn grant(&mut self, payload: &[u8]) -> Result<(), HandshakeError> {
        let context = parse_context(OptionName(option_type::SET_META_CONTEXT), payload)?;
        let name = ServerText::from(context.name.as_str());
        if self.granted.iter().any(|other| other.id == context.id || other.name == context.name) {
            return Err(HandshakeError::DuplicateContext { name, id: context.id });
        }
        let asked = self.config.contexts.iter().position(|asked| asked.name == context.name);
        self.forgive(Tolerated::UnaskedContext, asked.ok_or(HandshakeError::UnaskedContext(name)))?;
        self.granted.push(context);
        Ok(())
    }

    /// A context that LIST shows. Its number means nothing.
    pub(super) fn list(&mut self, payload: &[u8]) -> Result<(), HandshakeError> {
        let context = parse_context(OptionName(option_type::LIST_META_CONTEXT), payload)?;
        if !self.listing.contains(&context.name) {
            self.listing.push(context.name);
        }
        Ok(())
    }

    /// An export that LIST shows: `length:4 name`, and whatever the server says of it.
    pub(super) fn server(&mut self, payload: &[u8]) -> Result<(), HandshakeError> {
        let option = OptionName(option_type::LIST);
        let mut fields = Fields(payload);
        let length = fields.u32().and_then(|length| usize::try_from(length).ok());
        let name = length.filter(|&length| length <= MAX_STRING).and_then(|length| fields.bytes(length));
        let name = name.ok_or_else(|| bad_length(option, option_reply_type::SERVER, payload))?;
        let description = Some(ServerText::new(fields.0)).filter(|text| !text.as_str().is_empty());
        self.exports.push(ListedExport { name: parse_text(option, name)?, description });
        Ok(())
    }

    /// The value, if it is good. A lenient client can do without it.
    fn forgive<V>(
        &mut self,
        kind: Tolerated,
        checked: Result<V, HandshakeError>,
    ) -> Result<Option<V>, HandshakeError> {
        if checked.is_err() && !self.config.strictness.is_strict() {
            self.forgiven.add(kind);
            return Ok(None);
        }
        checked.map(Some)
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
                self.export.block_size = self.forgive(Tolerated::BadBlockSize, sizes)?;
            }
            info_type::NAME => {
                self.export.canonical_name = self.forgive(Tolerated::BadText, parse_text(GO, rest))?;
            }
            info_type::DESCRIPTION => {
                self.export.description = self.forgive(Tolerated::BadText, parse_text(GO, rest))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Size and flags, of GO or of EXPORT_NAME; `None` if the length is wrong.
    pub(super) fn set_size(&mut self, bytes: &[u8]) -> Option<Result<(), HandshakeError>> {
        let mut fields = Fields(bytes);
        let (size, bits) = (fields.u64()?, fields.u16()?);
        fields.end().map(|()| self.check_size(size, TransmissionFlags(bits)))
    }

    fn check_size(&mut self, size: u64, flags: TransmissionFlags) -> Result<(), HandshakeError> {
        if i64::try_from(size).is_err() {
            return Err(HandshakeError::SizeTooLarge(size));
        }
        let checked = if flags.has_flags() { Ok(flags) } else { Err(HandshakeError::NoHasFlags(flags.0)) };
        // without HAS_FLAGS the other bits mean nothing: least of all that the export cannot change
        let flags = self.forgive(Tolerated::NoHasFlags, checked)?.unwrap_or_default();
        if core::mem::replace(&mut self.has_size, true) {
            return Err(HandshakeError::DuplicateExportInfo);
        }
        (self.export.size, self.export.flags) = (size, flags);
        Ok(())
    }

    /// The granted context of this name.
    fn granted(&self, name: &str) -> Option<&MetaContext> {
        self.granted.iter().find(|context| context.name == name)
    }

    /// True if not every context asked for was granted.
    pub(super) fn lacks_context(&self) -> bool {
        self.config.contexts.iter().any(|asked| self.granted(&asked.name).is_none())
    }

    /// Sorts the contexts into the export, once the server has agreed to serve it.
    pub(super) fn complete_export(&mut self) -> Result<(), HandshakeError> {
        if !self.has_size {
            return Err(HandshakeError::NoExportInfo);
        }
        let (mut contexts, mut missing) = (Vec::new(), Vec::new());
        for asked in &self.config.contexts {
            match self.granted(&asked.name) {
                Some(context) => contexts.push(context.clone()),
                None if asked.required => return Err(self.why_missing(&asked.name)),
                None => missing.push(asked.name.clone()),
            }
        }
        (self.export.contexts, self.export.missing) = (contexts, missing);
        self.export.name.clone_from(&self.config.export);
        Ok(())
    }

    fn why_missing(&self, name: &str) -> HandshakeError {
        let name = ServerText::from(name);
        let texts = |names: &Vec<String>| names.iter().map(|name| name.as_str().into()).collect();
        match &self.set_refused {
            Some(error) => error.clone(),
            None if self.export.headers == Headers::Simple => HandshakeError::NoStructuredReplies(name),
            None => HandshakeError::ContextMissing { name, offered: self.export.offered.as_ref().map(texts) },
        }
    }
}

/// `id:4 name`, the name not empty. The header has shown that it is not too long.
fn parse_context(option: OptionName, payload: &[u8]) -> Result<MetaContext, HandshakeError> {
    let mut fields = Fields(payload);
    match (fields.u32(), fields.0) {
        (None, _) | (_, []) => Err(bad_length(option, option_reply_type::META_CONTEXT, payload)),
        (Some(id), name) => Ok(MetaContext { id, name: parse_text(option, name)? }),
    }
}

fn parse_block_size(bytes: &[u8]) -> Option<Result<BlockSizes, HandshakeError>> {
    let mut fields = Fields(bytes);
    let (minimum, preferred, maximum) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let sizes = BlockSizes::new(minimum, preferred, maximum);
    fields.end().map(|()| sizes.ok_or(HandshakeError::BadBlockSize { minimum, preferred, maximum }))
}

fn parse_text(option: OptionName, bytes: &[u8]) -> Result<String, HandshakeError> {
    match core::str::from_utf8(bytes) {
        Ok(text) if is_string(text) => Ok(text.to_owned()),
        _ => Err(HandshakeError::BadName { option, name: ServerText::new(bytes) }),
    }
}

fn bad_length(option: OptionName, kind: u32, payload: &[u8]) -> HandshakeError {
    HandshakeError::BadLength { option, kind, length: u32::try_from(payload.len()).unwrap_or(u32::MAX) }
}
