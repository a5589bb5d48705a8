//! The options in their order: which one is sent next, after an ACK and after an error.

use super::{Handshake, HandshakeError, Refusal, Stage};
use crate::frame::{Headers, OptionName, contexts_data, go_data, info_type, option_type, put_option};
use crate::text::ServerText;

/// The option under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    StartTls = option_type::STARTTLS,
    ExtendedHeaders = option_type::EXTENDED_HEADERS,
    StructuredReply = option_type::STRUCTURED_REPLY,
    SetContexts = option_type::SET_META_CONTEXT,
    ListContexts = option_type::LIST_META_CONTEXT,
    ListExports = option_type::LIST,
    Go = option_type::GO,
}

impl Step {
    /// The option of this step.
    pub(super) const fn name(self) -> OptionName {
        OptionName(self as u32)
    }
}

impl Handshake {
    pub(super) fn acknowledged(&mut self, step: Step) -> Result<Stage, HandshakeError> {
        Ok(match step {
            Step::StartTls => Stage::StartTls,
            Step::ExtendedHeaders => self.headers_agreed(Headers::Extended),
            Step::StructuredReply => self.headers_agreed(Headers::Structured),
            Step::SetContexts => self.contexts_settled(),
            Step::ListContexts => {
                let is_first = self.export.offered.replace(self.listing.clone()).is_none();
                let shows_qemu = self.listing.iter().any(|name| name.starts_with("qemu:"));
                self.start(if is_first && !shows_qemu { Step::ListContexts } else { Step::Go })
            }
            Step::ListExports => {
                put_option(&mut self.output, option_type::ABORT, &[]);
                Stage::Finished
            }
            Step::Go => return self.finish(),
        })
    }

    /// Any error of an option: most only mean that there is less to be had.
    pub(super) fn refused(&mut self, step: Step, kind: u32, payload: &[u8]) -> Result<Stage, HandshakeError> {
        let (reason, text) = (Refusal(kind), ServerText::new(payload));
        let error = match reason {
            Refusal::UNKNOWN_EXPORT => {
                HandshakeError::ExportUnknown { export: self.config.export.as_str().into(), text }
            }
            _ => HandshakeError::Refused { option: step.name(), reason, text },
        };
        Ok(match step {
            _ if reason == Refusal::SHUTDOWN => return self.abort(error),
            Step::ExtendedHeaders => self.start(Step::StructuredReply),
            Step::StructuredReply => self.start(Step::Go),
            Step::SetContexts => {
                // contexts listed before the error are not granted
                self.granted.clear();
                // without the option there are no contexts, which is no fault
                self.set_refused = (reason != Refusal::UNSUPPORTED).then_some(error);
                self.contexts_settled()
            }
            // names listed before the error do not count
            Step::ListContexts => self.start(Step::Go),
            Step::Go if reason == Refusal::UNSUPPORTED && self.export.headers != Headers::Extended => {
                put_option(&mut self.output, option_type::EXPORT_NAME, self.config.export.as_bytes());
                Stage::ExportName(if self.no_zeroes { 10 } else { 134 })
            }
            Step::StartTls | Step::ListExports | Step::Go => return self.abort(error),
        })
    }

    /// Leaves the handshake in the way that servers like.
    fn abort(&mut self, error: HandshakeError) -> Result<Stage, HandshakeError> {
        put_option(&mut self.output, option_type::ABORT, &[]);
        Err(error)
    }

    pub(super) fn first_step(&mut self) -> Stage {
        self.start(match self.config.headers {
            _ if self.config.list_exports => Step::ListExports,
            Headers::Extended => Step::ExtendedHeaders,
            Headers::Structured => Step::StructuredReply,
            Headers::Simple => Step::Go,
        })
    }

    fn headers_agreed(&mut self, headers: Headers) -> Stage {
        self.export.headers = headers;
        if self.config.contexts.is_empty() { self.contexts_settled() } else { self.start(Step::SetContexts) }
    }

    fn contexts_settled(&mut self) -> Stage {
        let list = self.config.list_contexts || self.lacks_context();
        self.start(if list { Step::ListContexts } else { Step::Go })
    }

    /// Sends the option of `step` and waits for its replies.
    pub(super) fn start(&mut self, step: Step) -> Stage {
        let export = self.config.export.as_str();
        let data = match step {
            Step::SetContexts => {
                let names: Vec<&str> = self.config.contexts.iter().map(|asked| asked.name.as_str()).collect();
                contexts_data(export, &names)
            }
            // servers as old as qemu 3.0 leave their own contexts out of a plain list, the first
            Step::ListContexts if self.export.offered.is_some() => contexts_data(export, &["qemu:"]),
            Step::ListContexts => contexts_data(export, &[]),
            Step::Go => go_data(export, &[info_type::NAME, info_type::DESCRIPTION, info_type::BLOCK_SIZE]),
            Step::StartTls | Step::ExtendedHeaders | Step::StructuredReply | Step::ListExports => Vec::new(),
        };
        put_option(&mut self.output, step.name().0, &data);
        self.replies = 0;
        Stage::Header(step)
    }
}
